//! Sections that ask the question themselves: what such a section begins with is its answer.
//!
//! A section is what stands below a heading, or behind a question that stands by itself, as in lists of
//! questions and answers. **Invariant:** an answer is not cut down to a word: `Not yet.` comes with the
//! sentence behind it, and what leads to a list or to commands comes with them.

use std::collections::HashSet;
use std::ops::Range;

use super::answer::{list, with_list};
use super::report::Quote;
use crate::rules::asked::{Way, asking};
use crate::rules::claims::{has_value, topic};
use crate::rules::document::Page;
use crate::text::{Block, Kind, Language, Term, Terms, plain, sentences, words};

/// How alike the words of a title and a question are that ask nearly the same, and how many they
/// share at least.
const NEARLY: f32 = 0.75;
const SHARED_MIN: usize = 2;
/// Words that tell no question from another, as stems, and words that turn one round.
const LIGHT: [&str; 7] = ["run", "use", "work", "support", "possibl", "get", "make"];
const DENIES: [&str; 10] =
    ["not", "no", "never", "cannot", "nicht", "kein", "keine", "nie", "pas", "non"];
/// An answer is at least so long, in bytes, where the section has so much.
const SHORT: usize = 60;
/// How far from the beginning a number that was asked for still belongs to the answer.
const NUMBER_WITHIN: usize = 280;

/// What a section is called, and where its words are.
struct Section<'a> {
    title: Range<usize>,
    /// What stands behind the title in its own paragraph.
    first: Range<usize>,
    blocks: &'a [Block],
}

/// How the sections answer that ask `question`: those that ask it in its words first.
pub(super) fn titled(question: &str, pages: &[Page<'_>], terms: &mut Terms) -> Vec<Quote> {
    let topic = topic(pages, terms);
    let way = Way::of(question);
    let (mut equal, mut near) = (Vec::new(), Vec::new());
    for (index, page) in pages.iter().enumerate() {
        let wanted = Asked::of(question, page.language, &topic, terms);
        for (at, section) in sections(page).into_iter().enumerate() {
            let title = plain(&page.text[section.title.clone()]);
            let found = match Asked::of(&title, page.language, &topic, terms) {
                title if title.words == wanted.words => &mut equal,
                // What a page is about as a whole, it begins with a word on itself.
                title if at > 0 && wanted.is_nearly(&title) => &mut near,
                _ => continue,
            };
            let begins = section.beginning(page, way);
            found.extend(begins.map(|range| Quote { page: index, range, heading: None }));
        }
    }
    equal.extend(near);
    equal
}

/// What a question or a title asks.
struct Asked {
    words: Vec<String>,
    terms: HashSet<Term>,
    /// The word that asks.
    asking: Option<&'static str>,
    way: Way,
    /// Whether it asks at all, and whether for what is not so.
    asks: bool,
    denies: bool,
}

impl Asked {
    fn of(text: &str, language: Language, topic: &HashSet<Term>, terms: &mut Terms) -> Self {
        let mut all = terms.of(text, language);
        all.retain(|term| !topic.contains(term) && !LIGHT.contains(&terms.stem(*term)));
        let words: Vec<String> = words(text).map(|(_, word)| word.to_lowercase()).collect();
        let denies = |word: &String| DENIES.contains(&&**word) || word.ends_with("n't");
        Self {
            terms: all.into_iter().collect(),
            asks: text.ends_with('?'),
            denies: words.iter().any(denies),
            words,
            asking: asking(text),
            way: Way::of(text),
        }
    }

    /// Whether a title has nearly the same words and asks nothing else of them.
    #[expect(clippy::cast_precision_loss, reason = "a title has few words")]
    fn is_nearly(&self, title: &Self) -> bool {
        let shared = self.terms.intersection(&title.terms).count();
        let all = self.terms.union(&title.terms).count();
        let one_is_enough = self.asking == Some("what") || title.asks;
        let enough = if one_is_enough { 1 } else { SHARED_MIN };
        let same = self.asking == title.asking && self.way == title.way
            || title.asking.is_none() && self.way != Way::Number;
        same && self.denies == title.denies
            && shared >= enough
            && shared as f32 >= NEARLY * all as f32
    }
}

/// The sections of a page in their order.
fn sections<'a>(page: &'a Page<'_>) -> Vec<Section<'a>> {
    let titles = page.blocks.iter().map(|block| title(block, page.text));
    let titles = titles.enumerate().filter_map(|(at, found)| Some((at, found?)));
    let titles: Vec<_> = titles.collect();
    let ends = titles.iter().skip(1).map(|(at, _)| *at).chain([page.blocks.len()]);
    let section = |((at, (title, first)), end): (&(usize, Parts), usize)| Section {
        title: title.clone(),
        first: first.clone(),
        blocks: &page.blocks[at + 1..end],
    };
    titles.iter().zip(ends).map(section).collect()
}

/// A title, and what stands behind it in its block.
type Parts = (Range<usize>, Range<usize>);

/// A heading, or a question at the beginning of a paragraph.
fn title(block: &Block, text: &str) -> Option<Parts> {
    let range = block.range.clone();
    match block.kind {
        Kind::Heading(_) => Some((range.clone(), range.end..range.end)),
        Kind::Paragraph | Kind::Item { .. } if text[range.clone()].contains('?') => {
            let first = sentences(text, range.clone()).into_iter().next()?;
            let asks = plain(&text[first.clone()]).ends_with('?');
            asks.then_some((first.clone(), first.end..range.end))
        }
        Kind::Paragraph | Kind::Item { .. } | Kind::Code | Kind::Row => None,
    }
}

impl Section<'_> {
    /// Its first sentences; what they lead to, or what it begins with, where that is a list or code.
    fn beginning(&self, page: &Page<'_>, way: Way) -> Option<Range<usize>> {
        if page.text[self.first.clone()].chars().any(char::is_alphanumeric) {
            return Some(self.sentences(&self.first, page, way));
        }
        let block = self.blocks.first()?;
        match block.kind {
            Kind::Paragraph => Some(self.sentences(&block.range, page, way)),
            Kind::Item { .. } | Kind::Code => list(self.blocks, page.text, block.range.start),
            Kind::Heading(_) | Kind::Row => None,
        }
    }

    /// The first sentences of the paragraph at `range`.
    fn sentences(&self, range: &Range<usize>, page: &Page<'_>, way: Way) -> Range<usize> {
        let all = sentences(page.text, range.clone());
        let start = all.first().map_or(range.start, |first| first.start);
        let is_short = |end: usize| plain(&page.text[start..end]).len() < SHORT;
        let long = all.iter().find(|one| !is_short(one.end)).or(all.last());
        let mut end = long.map_or(range.end, |one| one.end);
        if way == Way::Number && !has_value(&page.text[start..end]) {
            let near = all.iter().take_while(|one| one.end <= start + NUMBER_WITHIN);
            let told = near.clone().find(|one| has_value(&page.text[one.start..one.end]));
            end = told.map_or(end, |one| one.end.max(end));
        }
        let leads = page.text[start..end].ends_with(':') || way == Way::How;
        if leads { with_list(&(start..end), page) } else { start..end }
    }
}
