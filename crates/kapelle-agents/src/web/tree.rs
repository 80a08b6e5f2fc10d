//! A page as a tree: what the parser makes of its bytes, in one arena.
//!
//! **Invariants:** every page ends within the limits of nodes, depth and time, whatever it holds;
//! nothing here or above walks the tree by recursion. Kept are elements, the few attributes that are
//! read, and text; comments, templates and what scripts would make of the page are not.

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::time::Duration;

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::tree_builder::{TreeBuilderOpts, TreeSink};
use html5ever::{Attribute, ParseOpts, QualName, ns, parse_document};

use rustix::time::{ClockId, clock_gettime};

use super::doctype::undeclared;
use super::tag::{Tag, is_read};

/// The most nodes of a page.
const NODES_MAX: usize = 400_000;
/// How deep they may be nested; browsers stop at 512.
const DEPTH_MAX: u16 = 512;
/// How much is parsed between two looks at the limits, in bytes. The parser may need a look at every
/// open element for a tag, so what a piece costs is bounded by its length times [`DEPTH_MAX`].
const PIECE: usize = 4 << 10;
/// How long a page may keep a processor. One of the size limit needs a twentieth of it.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long one tag may: the parser compares each of its attributes with all before.
const TAG_TIME_MAX: Duration = Duration::from_millis(500);

/// A node's place in the arena.
pub(super) type Id = u32;
const NONE: Id = Id::MAX;

/// Why a page cannot be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the page nests its elements more than {DEPTH_MAX} deep")]
    Depth,
    #[error("the page has more than {NODES_MAX} elements and texts")]
    Count,
    #[error("the page takes more than {} s to parse", TIME_MAX.as_secs())]
    Time,
    #[error(
        "a tag of the page has so many attributes that it takes more than {TAG_TIME_MAX:?} to parse"
    )]
    Attributes,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Element {
        tag: Tag,
        attrs: Vec<Attribute>,
    },
    Text(StrTendril),
    /// The document, and what is not kept.
    Other,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    name: Option<QualName>,
    parent: Id,
    prev: Id,
    next: Id,
    first: Id,
    last: Id,
    depth: u16,
}

/// A parsed page.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Parses `html`.
    pub(super) fn parse(html: &str) -> Result<Self, Error> {
        let since = spent();
        let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..Default::default() };
        let opts = ParseOpts { tree_builder, ..Default::default() };
        let mut parser = parse_document(Sink::new(), opts);
        let (doctype, mut rest) = undeclared(html);
        parser.process(StrTendril::from_slice(doctype));
        let mut last_tag = since;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
            parser.process(StrTendril::from_slice(piece));
            let (sink, now) = (&parser.tokenizer.sink.sink, spent());
            if sink.went_on.take() {
                last_tag = now;
            }
            if now.saturating_sub(last_tag) > TAG_TIME_MAX {
                sink.beyond.set(Some(Error::Attributes));
            }
            if now.saturating_sub(since) > TIME_MAX {
                sink.beyond.set(Some(Error::Time));
            }
            if let Some(error) = sink.beyond.get() {
                return Err(error);
            }
            rest = more;
        }
        let sink = parser.finish();
        sink.beyond.get().map_or(Ok(sink.tree.into_inner()), Err)
    }

    /// The document.
    pub(super) const ROOT: Id = 0;

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn kind(&self, id: Id) -> &Kind {
        &self.nodes[id as usize].kind
    }

    /// The tag, if it is an element.
    pub(super) fn tag(&self, id: Id) -> Option<Tag> {
        match self.kind(id) {
            Kind::Element { tag, .. } => Some(*tag),
            Kind::Text(_) | Kind::Other => None,
        }
    }

    /// An attribute; only those that [`is_read`] names are known.
    pub(super) fn attr(&self, id: Id, name: &str) -> Option<&str> {
        match self.kind(id) {
            Kind::Element { attrs, .. } => {
                attrs.iter().find(|attr| *attr.name.local == *name).map(|attr| &*attr.value)
            }
            Kind::Text(_) | Kind::Other => None,
        }
    }

    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        some(self.nodes[id as usize].parent)
    }

    pub(super) fn last_child(&self, id: Id) -> Option<Id> {
        some(self.nodes[id as usize].last)
    }

    pub(super) fn prev(&self, id: Id) -> Option<Id> {
        some(self.nodes[id as usize].prev)
    }

    pub(super) fn next(&self, id: Id) -> Option<Id> {
        some(self.nodes[id as usize].next)
    }

    /// The children, first to last.
    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(some(self.nodes[id as usize].first), |id| self.next(*id))
    }

    /// `from` and what is below it, parents first; not what `skip` names, nor what is below that.
    pub(super) fn walk(&self, from: Id, skip: impl Fn(Id) -> bool) -> Vec<Id> {
        let (mut order, mut stack) = (Vec::new(), vec![from]);
        while let Some(id) = stack.pop() {
            if skip(id) {
                continue;
            }
            order.push(id);
            let last = self.last_child(id);
            stack.extend(std::iter::successors(last, |id| self.prev(*id)));
        }
        order
    }

    /// What is below `from`, parents first, found while it is asked for.
    pub(super) fn below(&self, from: Id) -> impl Iterator<Item = Id> + '_ {
        let mut here = from;
        std::iter::from_fn(move || {
            let mut next = some(self.nodes[here as usize].first);
            while next.is_none() && here != from {
                next = some(self.nodes[here as usize].next);
                if next.is_none() {
                    here = self.parent(here)?;
                }
            }
            here = next?;
            Some(here)
        })
    }

    fn push(&mut self, kind: Kind, name: Option<QualName>) -> Id {
        let id = Id::try_from(self.nodes.len()).unwrap_or(NONE - 1);
        let (parent, prev, next, first, last) = (NONE, NONE, NONE, NONE, NONE);
        self.nodes.push(Node { kind, name, parent, prev, next, first, last, depth: 0 });
        id
    }

    fn node(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Puts `child`, which is nowhere, under `parent` before `next`, or at the end.
    fn link(&mut self, parent: Id, child: Id, next: Id) {
        let prev = if next == NONE { self.node(parent).last } else { self.node(next).prev };
        let depth = self.node(parent).depth.saturating_add(1);
        let node = self.node(child);
        (node.parent, node.prev, node.next, node.depth) = (parent, prev, next, depth);
        match prev {
            NONE => self.node(parent).first = child,
            prev => self.node(prev).next = child,
        }
        match next {
            NONE => self.node(parent).last = child,
            next => self.node(next).prev = child,
        }
    }

    fn unlink(&mut self, id: Id) {
        let Node { parent, prev, next, .. } = *self.node(id);
        if parent == NONE {
            return;
        }
        match prev {
            NONE => self.node(parent).first = next,
            prev => self.node(prev).next = next,
        }
        match next {
            NONE => self.node(parent).last = prev,
            next => self.node(next).prev = prev,
        }
        let node = self.node(id);
        (node.parent, node.prev, node.next) = (NONE, NONE, NONE);
    }

    /// Adds `text` before `next` or at the end.
    fn add_text(&mut self, parent: Id, next: Id, text: StrTendril) {
        let before = if next == NONE { self.node(parent).last } else { self.node(next).prev };
        if before != NONE
            && let Kind::Text(known) = &mut self.node(before).kind
        {
            known.push_tendril(&text);
            return;
        }
        let id = self.push(Kind::Text(text), None);
        self.link(parent, id, next);
    }
}

/// What this thread has had of the processors: a page is not slow because the machine is busy.
fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

fn some(id: Id) -> Option<Id> {
    (id != NONE).then_some(id)
}

/// Where the parser puts what it finds.
struct Sink {
    tree: RefCell<Tree>,
    beyond: Cell<Option<Error>>,
    /// Whether the parser got to another tag or text since it was last asked.
    went_on: Cell<bool>,
    /// What stands for everything that is not kept.
    nowhere: Id,
}

impl Sink {
    fn new() -> Self {
        let mut tree = Tree::default();
        tree.push(Kind::Other, None);
        let nowhere = tree.push(Kind::Other, None);
        Self {
            tree: RefCell::new(tree),
            beyond: Cell::new(None),
            went_on: Cell::new(false),
            nowhere,
        }
    }

    fn put(&self, parent: Id, next: Id, child: NodeOrText<Id>) {
        self.went_on.set(true);
        let mut tree = self.tree.borrow_mut();
        match child {
            NodeOrText::AppendNode(child) if child == self.nowhere => {}
            NodeOrText::AppendNode(child) => {
                tree.unlink(child);
                tree.link(parent, child, next);
                if tree.node(child).depth > DEPTH_MAX {
                    self.beyond.set(Some(Error::Depth));
                }
            }
            NodeOrText::AppendText(text) => tree.add_text(parent, next, text),
        }
        if tree.len() > NODES_MAX {
            self.beyond.set(Some(Error::Count));
        }
    }
}

impl TreeSink for Sink {
    type Handle = Id;
    type Output = Self;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _message: Cow<'static, str>) {}

    fn get_document(&self) -> Id {
        Tree::ROOT
    }

    fn elem_name<'a>(&'a self, target: &'a Id) -> Self::ElemName<'a> {
        self.went_on.set(true);
        Ref::map(self.tree.borrow(), |tree| {
            tree.nodes[*target as usize].name.as_ref().expect("the parser asks elements only")
        })
    }

    fn create_element(&self, name: QualName, mut attrs: Vec<Attribute>, _: ElementFlags) -> Id {
        let tag = if name.ns == ns!(svg) { Tag::Unseen } else { Tag::of(&name.local) };
        attrs.retain(|attr| is_read(&attr.name.local));
        self.tree.borrow_mut().push(Kind::Element { tag, attrs }, Some(name))
    }

    fn create_comment(&self, _text: StrTendril) -> Id {
        self.nowhere
    }

    fn create_pi(&self, _target: StrTendril, _data: StrTendril) -> Id {
        self.nowhere
    }

    fn append(&self, parent: &Id, child: NodeOrText<Id>) {
        self.put(*parent, NONE, child);
    }

    fn append_based_on_parent_node(&self, element: &Id, prev: &Id, child: NodeOrText<Id>) {
        let has_parent = self.tree.borrow().parent(*element).is_some();
        if has_parent {
            self.append_before_sibling(element, child);
        } else {
            self.append(prev, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Id) -> Id {
        // A template is not seen, so nothing below it is; and what it holds counts in its depth.
        *target
    }

    fn same_node(&self, one: &Id, other: &Id) -> bool {
        one == other
    }

    fn set_quirks_mode(&self, _mode: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Id, child: NodeOrText<Id>) {
        let parent = self.tree.borrow().parent(*sibling);
        if let Some(parent) = parent {
            self.put(parent, *sibling, child);
        }
    }

    fn add_attrs_if_missing(&self, target: &Id, more: Vec<Attribute>) {
        let mut tree = self.tree.borrow_mut();
        let Kind::Element { attrs, .. } = &mut tree.node(*target).kind else { return };
        for attr in more.into_iter().filter(|attr| is_read(&attr.name.local)) {
            if attrs.iter().all(|known| known.name != attr.name) {
                attrs.push(attr);
            }
        }
    }

    fn remove_from_parent(&self, target: &Id) {
        self.tree.borrow_mut().unlink(*target);
    }

    fn reparent_children(&self, node: &Id, new_parent: &Id) {
        let mut tree = self.tree.borrow_mut();
        while let Some(child) = some(tree.node(*node).first) {
            tree.unlink(child);
            tree.link(*new_parent, child, NONE);
        }
    }
}
