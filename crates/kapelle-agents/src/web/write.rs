//! Content as text and as Markdown, with what is listed apart: headings, links, lists and tables.
//!
//! **Invariants:** one pass over the nodes, without recursion; what comes out is at most a small
//! multiple of the text that goes in, however things are nested.

use std::collections::HashSet;

use url::Url;

use super::content::Content;
use super::parts::{Heading, Link, List, Parts, Table};
use super::sheet::Sheet;
use super::tag::Tag;
use super::tree::{Id, Kind, Tree};
use crate::text::squeeze;

/// The most links, and the longest one in bytes.
const LINKS_MAX: usize = 5_000;
const LINK_MAX: usize = 2_048;
/// How many bytes of links go into the Markdown; those after that stand there as their text alone.
const LINKED_MAX: usize = 2 << 20;

/// Writes the content of `tree`; links are relative to `base`.
pub(super) fn write(tree: &Tree, content: &Content, base: &Url) -> Parts {
    let mut writer = Writer::new(tree, base);
    for root in &content.roots {
        writer.below(*root, content);
        writer.sheet.end_block(2);
    }
    writer.finish()
}

enum Turn {
    Enter(Id),
    Leave(Id),
}

/// What is being read apart from the flow of the text.
#[derive(Default)]
struct Open {
    heading: Option<(Id, String)>,
    link: Option<OpenLink>,
    /// The lists around this place, with their index in the parts.
    lists: Vec<usize>,
    /// The text of the items around this place that is their own.
    items: Vec<String>,
    table: Option<OpenTable>,
    preformatted: Option<(Id, String)>,
    code: Option<(Id, String)>,
}

struct OpenLink {
    id: Id,
    url: Option<String>,
    text: String,
    begun: usize,
}

struct OpenTable {
    id: Id,
    table: Table,
    cell: Option<(Id, String)>,
    caption: Option<Id>,
    /// How many cells more of the first row are names than values.
    heads: i32,
}

struct Writer<'a> {
    tree: &'a Tree,
    base: &'a Url,
    sheet: Sheet,
    parts: Parts,
    open: Open,
    known: HashSet<(String, String)>,
    linked: usize,
}

impl<'a> Writer<'a> {
    fn new(tree: &'a Tree, base: &'a Url) -> Self {
        let (sheet, parts, open, known) = Default::default();
        Self { tree, base, sheet, parts, open, known, linked: 0 }
    }

    fn finish(self) -> Parts {
        let (text, markdown) = self.sheet.finish();
        let mut parts = Parts { text, markdown, ..self.parts };
        parts.lists.retain(|list| !list.items.is_empty());
        parts
    }

    fn below(&mut self, root: Id, content: &Content) {
        let mut turns = vec![Turn::Enter(root)];
        while let Some(turn) = turns.pop() {
            match turn {
                Turn::Leave(id) => self.leave(id),
                Turn::Enter(id) if content.leaves_out(id) => {}
                Turn::Enter(id) => match self.tree.kind(id) {
                    Kind::Text(text) => self.text(text),
                    Kind::Element { .. } | Kind::Other => {
                        self.enter(id);
                        turns.push(Turn::Leave(id));
                        let last = self.tree.last_child(id);
                        let back = std::iter::successors(last, |id| self.tree.prev(*id));
                        turns.extend(back.map(Turn::Enter));
                    }
                },
            }
        }
    }

    fn text(&mut self, text: &str) {
        if let Some((_, code)) = &mut self.open.preformatted {
            return code.push_str(text);
        }
        let open = &mut self.open;
        let own = [
            open.heading.as_mut().map(|(_, text)| text),
            open.link.as_mut().map(|link| &mut link.text),
            open.items.last_mut(),
        ];
        for kept in own.into_iter().flatten() {
            kept.push_str(text);
        }
        if let Some(table) = &mut open.table {
            match (&mut table.cell, table.caption) {
                (Some((_, cell)), _) => cell.push_str(text),
                (None, Some(_)) => table.table.caption.push_str(text),
                (None, None) => {}
            }
        } else if let Some((_, code)) = &mut open.code {
            code.push_str(text);
        } else {
            self.sheet.prose(text);
        }
    }

    /// A gap between words in what is kept apart.
    fn gap(&mut self) {
        let open = &mut self.open;
        let cell = open.table.as_mut().and_then(|table| table.cell.as_mut());
        let kept = [
            open.heading.as_mut().map(|(_, text)| text),
            open.link.as_mut().map(|link| &mut link.text),
            open.items.last_mut(),
            cell.map(|(_, text)| text),
        ];
        for text in kept.into_iter().flatten() {
            text.push(' ');
        }
    }

    fn enter(&mut self, id: Id) {
        let Some(tag) = self.tree.tag(id) else { return };
        if self.open.preformatted.is_some() {
            if tag == Tag::Break {
                self.text("\n");
            }
            return;
        }
        if tag.is_block() || tag == Tag::Break {
            self.gap();
        }
        if self.open.table.is_some() {
            return self.enter_in_table(id, tag);
        }
        match tag {
            Tag::Heading(level) => {
                self.sheet.begin_heading(level);
                self.open.heading.get_or_insert((id, String::new()));
            }
            Tag::Bullets | Tag::Numbers => self.enter_list(id, tag),
            Tag::Item => {
                self.sheet.begin_item();
                self.open.items.push(String::new());
            }
            Tag::Quote => self.sheet.begin_quote(),
            Tag::Preformatted => self.open.preformatted = Some((id, String::new())),
            Tag::Code => {
                self.open.code.get_or_insert((id, String::new()));
            }
            Tag::Link => self.enter_link(id),
            Tag::Strong => self.sheet.begin_mark("**"),
            Tag::Emphasis => self.sheet.begin_mark("*"),
            Tag::Break => self.sheet.end_block(1),
            Tag::Rule => self.sheet.rule(),
            Tag::Table if self.is_of_data(id) => {
                self.sheet.end_block(2);
                self.open.table = Some(OpenTable::new(id));
            }
            tag if tag.is_block() => self.sheet.end_block(2),
            _ => {}
        }
    }

    fn leave(&mut self, id: Id) {
        let Some(tag) = self.tree.tag(id) else { return };
        if let Some((_, code)) = self.open.preformatted.take_if(|(open, _)| *open == id) {
            return self.leave_preformatted(id, &code);
        }
        if self.open.preformatted.is_some() {
            return;
        }
        if tag.is_block() {
            self.gap();
        }
        if self.open.link.as_ref().is_some_and(|link| link.id == id) {
            self.leave_link();
        }
        if let Some(table) = self.open.table.take_if(|table| table.id == id) {
            return self.leave_table(table);
        }
        if let Some(table) = &mut self.open.table {
            return table.leave(id);
        }
        match tag {
            Tag::Heading(level) => self.leave_heading(id, level),
            Tag::Bullets | Tag::Numbers => {
                self.open.lists.pop();
                self.sheet.end_list();
            }
            Tag::Item => self.leave_item(),
            Tag::Quote => self.sheet.end_quote(),
            Tag::Code => {
                if let Some((_, code)) = self.open.code.take_if(|(open, _)| *open == id) {
                    self.sheet.code(&code);
                }
            }
            Tag::Strong => self.sheet.end_mark("**"),
            Tag::Emphasis => self.sheet.end_mark("*"),
            tag if tag.is_block() => self.sheet.end_block(2),
            _ => {}
        }
    }

    fn enter_list(&mut self, id: Id, tag: Tag) {
        let ordered = tag == Tag::Numbers;
        let start = self.tree.attr(id, "start").and_then(|start| start.parse().ok());
        self.sheet.begin_list(ordered.then_some(start.unwrap_or(1)));
        self.open.lists.push(self.parts.lists.len());
        self.parts.lists.push(List { ordered, items: Vec::new() });
    }

    fn leave_item(&mut self) {
        let text = self.open.items.pop().map(|text| squeeze(&text)).unwrap_or_default();
        if let Some(list) = self.open.lists.last().filter(|_| !text.is_empty()) {
            self.parts.lists[*list].items.push(text);
        }
        self.sheet.end_item();
    }

    fn leave_heading(&mut self, id: Id, level: u8) {
        if let Some((_, text)) = self.open.heading.take_if(|(open, _)| *open == id) {
            let text = squeeze(text.trim_end_matches(['¶', '#', '§', ' ', '\u{a0}', '\n']));
            let anchor = self.tree.attr(id, "id").filter(|id| id.len() <= LINK_MAX);
            if !text.is_empty() {
                let id = anchor.map(str::to_owned);
                self.parts.headings.push(Heading { level, text, id });
            }
        }
        self.sheet.end_heading();
    }

    fn enter_link(&mut self, id: Id) {
        let url = self.tree.attr(id, "href").and_then(|href| absolute(self.base, href));
        let begun = self.sheet.begin_link();
        self.open.link = Some(OpenLink { id, url, text: String::new(), begun });
    }

    fn leave_link(&mut self) {
        let Some(OpenLink { url, text, begun, .. }) = self.open.link.take() else { return };
        let text = squeeze(&text);
        let shown = url.as_deref().filter(|_| self.open.table.is_none());
        let shown = shown.filter(|url| self.linked + url.len() <= LINKED_MAX);
        self.linked += shown.map_or(0, str::len);
        self.sheet.end_link(begun, shown);
        let Some(url) = url else { return };
        let known = (url, text);
        if self.parts.links.len() < LINKS_MAX && !self.known.contains(&known) {
            let (url, text) = known.clone();
            self.parts.links.push(Link { url, text });
            self.known.insert(known);
        }
    }

    fn leave_preformatted(&mut self, id: Id, code: &str) {
        let both = std::iter::once(id).chain(self.tree.children(id));
        let language = both.filter_map(|id| self.tree.attr(id, "class")).find_map(language_of);
        if let Some(kept) = self.open.items.last_mut() {
            kept.push_str(code);
        }
        self.sheet.block_of_code(code, language);
    }

    /// Whether a table holds data, not the layout of a page.
    fn is_of_data(&self, id: Id) -> bool {
        let (mut rows, mut cells, mut names, mut code) = (0, 0, 0, 0);
        for tag in self.tree.below(id).filter_map(|below| self.tree.tag(below)) {
            match tag {
                Tag::Heading(_) | Tag::Quote | Tag::Table => return false,
                Tag::Row => rows += 1,
                Tag::Cell => cells += 1,
                Tag::HeadCell => (cells, names) = (cells + 1, names + 1),
                Tag::Caption => names += 1,
                Tag::Preformatted => code += 1,
                _ => {}
            }
        }
        // Line numbers beside a listing are a layout; a column of commands is not.
        let is_grid = rows >= 2 && cells >= 2 * rows;
        cells >= 2 && (code == 0 || names > 0 || is_grid)
    }

    fn enter_in_table(&mut self, id: Id, tag: Tag) {
        if tag == Tag::Link {
            return self.enter_link(id);
        }
        let Some(table) = &mut self.open.table else { return };
        match tag {
            Tag::Row => table.table.rows.push(Vec::new()),
            Tag::Cell | Tag::HeadCell => {
                if table.table.rows.len() <= 1 {
                    table.heads += if tag == Tag::HeadCell { 1 } else { -1 };
                }
                table.cell.get_or_insert((id, String::new()));
            }
            Tag::Caption => table.caption = Some(id),
            _ => {}
        }
    }

    fn leave_table(&mut self, OpenTable { mut table, heads, .. }: OpenTable) {
        table.header = heads > 0;
        table.rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
        table.caption = squeeze(&table.caption);
        self.sheet.table(&table);
        if !table.rows.is_empty() {
            self.parts.tables.push(table);
        }
    }
}

impl OpenTable {
    fn new(id: Id) -> Self {
        Self { id, table: Table::default(), cell: None, caption: None, heads: 0 }
    }

    fn leave(&mut self, id: Id) {
        if let Some((_, text)) = self.cell.take_if(|(open, _)| *open == id) {
            if self.table.rows.is_empty() {
                self.table.rows.push(Vec::new());
            }
            if let Some(row) = self.table.rows.last_mut() {
                row.push(squeeze(&text));
            }
        }
        self.caption.take_if(|open| *open == id);
    }
}

/// Where a link leads, if that is a place to go to.
pub(super) fn absolute(base: &Url, href: &str) -> Option<String> {
    let href = href.trim();
    if href.is_empty() || href.len() > LINK_MAX {
        return None;
    }
    let url = base.join(href).ok()?;
    let goes = match url.scheme() {
        "http" | "https" | "mailto" => true,
        // A page of the web has no business to point into this machine.
        "file" => base.scheme() == "file",
        _ => false,
    };
    let url = String::from(url);
    (goes && url.len() <= LINK_MAX).then_some(url)
}

fn language_of(class: &str) -> Option<&str> {
    let named = |name: &&str| name.starts_with("language-") || name.starts_with("lang-");
    let name = class.split_whitespace().find(named)?.split_once('-')?.1;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "+-#_.".contains(letter);
    (name.len() <= 32 && name.chars().all(plain)).then_some(name)
}
