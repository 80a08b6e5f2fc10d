//! Where on a page its content is, and what around it is not.
//!
//! The way of Mozilla's Readability, in two passes over the nodes: prose counts for what holds it,
//! links count against it, and words such as `sidebar` in classes help. Where nothing stands out,
//! the whole body without its chrome is the content; where that is nothing, the whole body.
//! The library that does the same (dom_smoothie) takes 3.5 ms for 80 KiB besides the parsing, and its
//! time is not bounded; this takes a tenth.

use std::borrow::Cow;

use super::tag::Tag;
use super::tree::{Id, Kind, Tree};

/// The least that is a content of its own, in characters.
const TEXT_MIN: u32 = 140;
/// The least text of a paragraph that counts.
const PARAGRAPH_MIN: u32 = 25;

/// What of a page is to be read.
#[derive(Debug)]
pub(super) struct Content {
    /// Where it begins, in order.
    pub(super) roots: Vec<Id>,
    left_out: Vec<bool>,
}

impl Content {
    /// All that is seen.
    pub(super) fn whole(tree: &Tree) -> Self {
        let unseen = |id| is_unseen(tree, id);
        let mut left_out = vec![true; tree.len()];
        for id in tree.walk(Tree::ROOT, unseen) {
            left_out[id as usize] = false;
        }
        Self { roots: vec![Tree::ROOT], left_out }
    }

    /// The part that is the page's own text.
    pub(super) fn main(tree: &Tree) -> Self {
        let seen = tree.walk(Tree::ROOT, |id| is_unseen(tree, id));
        let Some(body) = seen.iter().copied().find(|id| tree.tag(*id) == Some(Tag::Body)) else {
            return Self::whole(tree);
        };
        let all = Facts::of(tree, &seen);
        let inside = inside_of_article(tree, &seen);
        let is_chrome = |id: Id| {
            let facts = all.at(id);
            id != body && is_chrome(tree, id, facts, all.at(body), inside[id as usize])
        };
        let order = tree.walk(body, |id| is_unseen(tree, id) || is_chrome(id));
        let facts = Facts::of(tree, &order);
        if facts.at(body).text == 0 {
            return Self::whole(tree);
        }
        let mut left_out = vec![true; tree.len()];
        for id in &order {
            left_out[*id as usize] = false;
        }
        let page = Page { tree, body, order, facts };
        Self { roots: page.marked().or_else(|| page.scored()).unwrap_or(vec![body]), left_out }
    }

    /// Whether neither the node nor what is below it is to be read.
    pub(super) fn leaves_out(&self, id: Id) -> bool {
        self.left_out[id as usize]
    }
}

/// What is counted of a node and all below it.
#[derive(Clone, Copy, Debug, Default)]
struct Fact {
    /// Characters that are no white space.
    text: u32,
    /// Those in links.
    linked: u32,
    commas: u32,
    links: u32,
}

impl Fact {
    fn link_density(self) -> f32 {
        if self.text == 0 { 0.0 } else { self.linked as f32 / self.text as f32 }
    }
}

struct Facts(Vec<Fact>);

impl Facts {
    /// Counts; `order` has parents before their children.
    fn of(tree: &Tree, order: &[Id]) -> Self {
        let mut facts = vec![Fact::default(); tree.len()];
        for id in order.iter().rev() {
            let mut fact = facts[*id as usize];
            match tree.kind(*id) {
                Kind::Text(text) => fact = count(text),
                Kind::Element { tag: Tag::Link, .. } => {
                    (fact.linked, fact.links) = (fact.text, 1);
                }
                Kind::Element { .. } | Kind::Other => {}
            }
            facts[*id as usize] = fact;
            if let Some(parent) = tree.parent(*id) {
                let sum = &mut facts[parent as usize];
                sum.text += fact.text;
                sum.linked += fact.linked;
                sum.commas += fact.commas;
                sum.links += fact.links;
            }
        }
        Self(facts)
    }

    fn at(&self, id: Id) -> Fact {
        self.0[id as usize]
    }
}

fn count(text: &str) -> Fact {
    let mut fact = Fact::default();
    for letter in text.chars() {
        fact.text += u32::from(!letter.is_whitespace());
        fact.commas += u32::from(matches!(letter, ',' | '،' | '、' | '，' | '।' | '。'));
    }
    fact
}

/// Which nodes are part of a `main` or an `article`.
fn inside_of_article(tree: &Tree, order: &[Id]) -> Vec<bool> {
    let mut inside = vec![false; tree.len()];
    for id in order {
        let above = tree.parent(*id).is_some_and(|parent| inside[parent as usize]);
        inside[*id as usize] = above || is_marked(tree, *id);
    }
    inside
}

fn is_marked(tree: &Tree, id: Id) -> bool {
    matches!(tree.tag(id), Some(Tag::Main | Tag::Article)) || tree.attr(id, "role") == Some("main")
}

/// Whether a reader does not see it on the page.
fn is_unseen(tree: &Tree, id: Id) -> bool {
    match tree.tag(id) {
        Some(Tag::Unseen | Tag::Script | Tag::Head) => true,
        Some(_) => {
            tree.attr(id, "hidden").is_some_and(|how| how != "until-found")
                || tree.attr(id, "aria-hidden") == Some("true")
                || tree.attr(id, "style").is_some_and(hides)
        }
        None => false,
    }
}

fn hides(style: &str) -> bool {
    style.split(';').any(|rule| {
        let Some((name, value)) = rule.split_once(':') else { return false };
        let is = |known: &str, wanted: &str| {
            name.trim().eq_ignore_ascii_case(known)
                && value.trim().trim_end_matches("!important").trim().eq_ignore_ascii_case(wanted)
        };
        is("display", "none") || is("visibility", "hidden")
    })
}

/// Whether it leads around the site instead of saying something.
fn is_chrome(tree: &Tree, id: Id, facts: Fact, page: Fact, inside: bool) -> bool {
    let Some(tag) = tree.tag(id) else { return false };
    if matches!(tag, Tag::Body | Tag::Main | Tag::Article) {
        return false;
    }
    // What holds most of the page is the page, whatever it is called.
    let is_most = facts.text * 2 > page.text && facts.link_density() < 0.5;
    match tag {
        Tag::Chrome => !is_most && !is_remark(tree, id),
        Tag::Header if !inside => !is_most && facts.text < 4 * TEXT_MIN,
        Tag::Bullets | Tag::Numbers | Tag::Table if !inside => {
            facts.links >= 4 && facts.link_density() > 0.9
        }
        _ => !is_most && is_called_chrome(tree, id),
    }
}

fn is_called_chrome(tree: &Tree, id: Id) -> bool {
    let role = tree.attr(id, "role").unwrap_or_default();
    let roles = [
        "navigation",
        "banner",
        "contentinfo",
        "complementary",
        "menu",
        "menubar",
        "search",
        "dialog",
        "alertdialog",
        "toolbar",
    ];
    roles.contains(&role)
        || tree.attr(id, "class").is_some_and(names_chrome)
        || tree.attr(id, "id").is_some_and(|name| names_chrome(name) && !is_title(tree, id, name))
}

/// Whether an id says what is below it, not where it is on the site: that of a heading, or one that is
/// made of the section's own heading, as generators make them.
fn is_title(tree: &Tree, id: Id, name: &str) -> bool {
    let is_heading = |id: Id| matches!(tree.tag(id), Some(Tag::Heading(_)));
    if is_heading(id) {
        return true;
    }
    let Some(heading) = tree.children(id).find(|child| is_heading(*child)) else { return false };
    let texts = tree.below(heading).filter_map(|id| match tree.kind(id) {
        Kind::Text(text) => Some(&**text),
        _ => None,
    });
    let letters = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    letters(&texts.collect::<String>()) == letters(name)
}

/// Whether it is a remark of the text itself, as documentation sets notes and warnings.
fn is_remark(tree: &Tree, id: Id) -> bool {
    const REMARKS: [&str; 10] = [
        "note",
        "warning",
        "tip",
        "important",
        "caution",
        "danger",
        "hint",
        "admonition",
        "callout",
        "attention",
    ];
    let names = tree.attr(id, "class").unwrap_or_default().to_ascii_lowercase();
    names.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| REMARKS.contains(&word))
}

/// Whether one of the words of a class or an id is that of something beside the content.
fn names_chrome(names: &str) -> bool {
    names.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| {
        let has_capital = word.bytes().any(|letter| letter.is_ascii_uppercase());
        let lower =
            if has_capital { Cow::Owned(word.to_ascii_lowercase()) } else { Cow::Borrowed(word) };
        matches!(
            &*lower,
            "nav"
                | "navbar"
                | "navigation"
                | "navlinks"
                | "topnav"
                | "sidenav"
                | "menu"
                | "submenu"
                | "menubar"
                | "sidebar"
                | "sidebox"
                | "footer"
                | "colophon"
                | "breadcrumb"
                | "breadcrumbs"
                | "cookie"
                | "cookies"
                | "consent"
                | "gdpr"
                | "banner"
                | "masthead"
                | "share"
                | "sharing"
                | "social"
                | "promo"
                | "promotion"
                | "ad"
                | "ads"
                | "advert"
                | "advertisement"
                | "sponsor"
                | "sponsored"
                | "related"
                | "popup"
                | "modal"
                | "newsletter"
                | "subscribe"
                | "skip"
                | "skiplink"
                | "skiplinks"
                | "pagination"
                | "pager"
                | "comments"
                | "disqus"
                | "toolbar"
                | "widget"
                | "rss"
                | "login"
                | "signup"
                | "noprint"
                | "editsection"
        )
    })
}

/// A page without its chrome.
struct Page<'a> {
    tree: &'a Tree,
    body: Id,
    order: Vec<Id>,
    facts: Facts,
}

impl Page<'_> {
    /// The one place that says it is the content, if there is one and it holds enough.
    fn marked(&self) -> Option<Vec<Id>> {
        let enough = |id: &Id| {
            let text = self.facts.at(*id).text;
            text >= TEXT_MIN && text * 5 >= self.facts.at(self.body).text * 2
        };
        let one = |is: &dyn Fn(Id) -> bool| {
            let mut found = self.order.iter().copied().filter(|id| is(*id));
            found.next().filter(|_| found.next().is_none()).filter(enough)
        };
        let has_role = |id| self.tree.attr(id, "role") == Some("main");
        let tagged = |tag| move |id| self.tree.tag(id) == Some(tag);
        one(&tagged(Tag::Article))
            .or_else(|| one(&tagged(Tag::Main)))
            .or_else(|| one(&has_role))
            .map(|id| vec![id])
    }

    /// What holds most of the prose, with those beside it that belong to it.
    fn scored(&self) -> Option<Vec<Id>> {
        let scores = self.scores();
        let value = |id: Id| scores[id as usize] * (1.0 - self.facts.at(id).link_density());
        let better = |a: &Id, b: &Id| value(*a).total_cmp(&value(*b));
        let best = self.order.iter().copied().max_by(better).filter(|id| value(*id) > 0.0)?;
        let mut top = best;
        while let Some(parent) = self.tree.parent(top).filter(|_| top != self.body) {
            let alone = self.facts.at(parent).text == self.facts.at(top).text;
            if !alone && value(parent) < value(best) * 0.75 {
                break;
            }
            top = parent;
        }
        let roots = self.with_neighbours(top);
        let text: u32 = roots.iter().map(|id| self.facts.at(*id).text).sum();
        // To leave out what matters is worse than to read a little more.
        (text >= TEXT_MIN && text * 4 >= self.facts.at(self.body).text).then_some(roots)
    }

    /// What each node's paragraphs count for it, halved and more with every level between.
    fn scores(&self) -> Vec<f32> {
        let mut scores = vec![0.0; self.tree.len()];
        for id in &self.order {
            let is_prose = matches!(
                self.tree.tag(*id),
                Some(Tag::Paragraph | Tag::Preformatted | Tag::Cell | Tag::Quote | Tag::Item)
            );
            let fact = self.facts.at(*id);
            if !is_prose || fact.text < PARAGRAPH_MIN {
                continue;
            }
            let more = (fact.commas.min(30) + (fact.text / 100).min(3)) as f32;
            let worth = (1.0 + more) * (1.0 - fact.link_density());
            let above = std::iter::successors(self.tree.parent(*id), |id| self.tree.parent(*id));
            for (level, ancestor) in above.take(5).enumerate() {
                let share = [1.0, 2.0, 6.0, 9.0, 12.0][level];
                scores[ancestor as usize] += worth / share;
            }
        }
        scores
    }

    /// `top`, and what is content too beside it and beside what holds it: broken markup nests the
    /// end of a page in what was never closed.
    fn with_neighbours(&self, top: Id) -> Vec<Id> {
        let belongs = |id: &Id| {
            let fact = self.facts.at(*id);
            match self.tree.tag(*id) {
                Some(Tag::Heading(_)) => true,
                Some(Tag::Paragraph) => fact.text > 0 && fact.link_density() < 0.75,
                Some(Tag::Preformatted | Tag::Table | Tag::Quote | Tag::Bullets | Tag::Numbers) => {
                    fact.text > 0 && fact.link_density() < 0.5
                }
                Some(_) | None => fact.text >= PARAGRAPH_MIN && fact.link_density() < 0.5,
            }
        };
        let (mut before, mut after, mut node) = (Vec::new(), Vec::new(), top);
        while let Some(parent) = self.tree.parent(node).filter(|_| node != self.body) {
            let left = std::iter::successors(self.tree.prev(node), |id| self.tree.prev(*id));
            before.extend(left.filter(belongs));
            let right = std::iter::successors(self.tree.next(node), |id| self.tree.next(*id));
            after.extend(right.filter(belongs));
            node = parent;
        }
        before.reverse();
        before.push(top);
        before.extend(after);
        before
    }
}
