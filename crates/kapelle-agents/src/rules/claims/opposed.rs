//! A claim and its denial: `Bar is available in Norway`, and `Bar is not available in Norway`.
//!
//! **Invariant:** what denies has the same words in the same order as what it denies, beside the one
//! that denies and a number: `expires after 90 days`, `never expires`. A page that says both means two
//! things, and is passed over.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::about::About;
use super::agree::Group;
use super::clause::Clause;
use super::sentence::Claim;
use super::value::{Question, Value};
use crate::rules::document::Page;
use crate::text::{Kind, Term, Terms, sentences, words};

/// What ends the first clause of a sentence: what it says is so without the rest.
const ENDS: [&str; 9] = [", ", "; ", ": ", " (", " and ", " but ", " because ", " so ", " – "];

/// What some of the `pages` say and others deny: as claims, which are added to `all`, and their groups.
/// A sentence that is `known` by its page and beginning is in a contradiction already.
pub(super) fn opposed(
    pages: &[Page<'_>],
    known: &HashSet<(usize, usize)>,
    terms: &mut Terms,
    all: &mut Vec<Claim>,
) -> Vec<Group> {
    let mut by_words: HashMap<Vec<Term>, Vec<Clause>> = HashMap::new();
    for (index, page) in pages.iter().enumerate() {
        for sentence in prose(page) {
            if known.contains(&(index, sentence.start)) {
                continue;
            }
            if let Some(clause) = Clause::of(index, page, &sentence, &ENDS, terms) {
                let key = clause.said.iter().map(|said| said.term).collect();
                by_words.entry(key).or_default().push(clause);
            }
        }
    }
    let mut found: Vec<Vec<Clause>> = by_words.into_values().filter_map(of_several).collect();
    found.sort_by_key(|said| (said[0].page, said[0].sentence.start));
    found.iter().map(|said| group(said, pages, all)).collect()
}

/// What is left of clauses with the same words without pages that say both, if one denies another.
fn of_several(all: Vec<Clause>) -> Option<Vec<Clause>> {
    let says = |page: usize, denied: bool| {
        all.iter().any(|said| said.page == page && said.denied.is_some() == denied)
    };
    let is_torn: Vec<bool> =
        all.iter().map(|said| says(said.page, true) && says(said.page, false)).collect();
    let left: Vec<Clause> =
        all.into_iter().zip(is_torn).filter(|(_, torn)| !torn).map(|(said, _)| said).collect();
    let denied = left.iter().filter(|said| said.denied.is_some()).count();
    (denied > 0 && denied < left.len()).then_some(left)
}

/// The sentences of a page's paragraphs and lists.
pub(super) fn prose<'p>(page: &'p Page<'_>) -> impl Iterator<Item = Range<usize>> + 'p {
    let is_prose = |kind| matches!(kind, Kind::Paragraph | Kind::Item { .. });
    let prose = page.blocks.iter().filter(move |block| is_prose(block.kind));
    prose.flat_map(|block| sentences(page.text, block.range.clone()))
}

/// What a sentence says as a yes or no, in the words of `written`.
pub(super) fn claim(page: usize, sentence: &Range<usize>, written: &str, is_so: bool) -> Claim {
    Claim {
        page,
        range: sentence.clone(),
        written: written.into(),
        value: Value::Flag(is_so, Question::So),
        about: About::default(),
        counted: None,
        is_rough: false,
    }
}

fn group(clauses: &[Clause], pages: &[Page<'_>], all: &mut Vec<Claim>) -> Group {
    let (before, _) = clauses.iter().find_map(|said| said.denied).unwrap_or_default();
    let mut values: Vec<Vec<usize>> = vec![Vec::new(), Vec::new()];
    for clause in clauses {
        let start = match clause.denied {
            Some((_, start)) => start,
            None => clause.said.get(before).map_or(clause.sentence.start, |said| said.range.start),
        };
        let first_denies = clauses[0].denied.is_some();
        values[usize::from(clause.denied.is_some() != first_denies)].push(all.len());
        let written = &pages[clause.page].text[start..clause.end];
        all.push(claim(clause.page, &clause.sentence, written, clause.denied.is_none()));
    }
    let so = clauses.iter().find(|said| said.denied.is_none()).unwrap_or(&clauses[0]);
    Group { values, subject: subject(so, pages[so.page].text) }
}

/// `whether Bar is available in Norway`.
fn subject(so: &Clause, text: &str) -> Box<str> {
    let end = so.said.last().map_or(so.end, |said| said.range.end);
    let clause = &text[so.sentence.start..end];
    let (first, rest) = clause.split_at(words(clause).next().map_or(0, |(range, _)| range.end));
    let small = first.to_lowercase();
    // What is never small is a name.
    let is_name = !words(text).any(|(_, word)| *word == small);
    format!("whether {}{rest}", if is_name { first } else { &small }).into()
}
