//! Who says `only X` and who says `X and Y` of the same thing.
//!
//! **Invariant:** beside the two lists, the sentences have the same words in the same order, and the lists
//! have something in common: that only PostgreSQL is supported says nothing of Windows.

use std::collections::BTreeMap;
use std::ops::Range;

use super::agree::Group;
use super::clause::{Clause, is_small};
use super::opposed::{claim, prose};
use super::sentence::Claim;
use crate::rules::document::Page;
use crate::text::{Term, Terms};

/// What ends the first clause of a sentence; a list may have commas.
const ENDS: [&str; 6] = ["; ", ": ", " (", " but ", " because ", " so "];
/// How far behind `only` a list begins: `only X is supported`, `it only supports X`.
const BEHIND: [usize; 2] = [1, 2];

/// A list in a sentence.
struct List {
    page: usize,
    sentence: Range<usize>,
    /// Where it is written, with `only`.
    range: Range<usize>,
    items: Vec<Term>,
    is_only: bool,
    /// What stands around it, without small words.
    around: Box<str>,
}

/// The small words that lists are made with.
struct Marks {
    /// `only`, stemmed.
    only: Term,
    and: Term,
    here: Term,
}

/// The lists that `pages` do not agree on: as claims, which are added to `all`, and their groups.
pub(super) fn only(pages: &[Page<'_>], terms: &mut Terms, all: &mut Vec<Claim>) -> Vec<Group> {
    let marks =
        Marks {
            only: terms.stemmed("onli"), and: terms.stemmed("and"), here: terms.stemmed("…")
        };
    let mut by_words: BTreeMap<Vec<Term>, Vec<List>> = BTreeMap::new();
    for (index, page) in pages.iter().enumerate() {
        for sentence in prose(page) {
            let Some(clause) = Clause::of(index, page, &sentence, &ENDS, terms) else { continue };
            for (key, list) in marks.lists(&clause, page.text) {
                by_words.entry(key).or_default().push(list);
            }
        }
    }
    by_words.values().filter_map(|lists| group(lists, pages, all)).collect()
}

fn group(lists: &[List], pages: &[Page<'_>], all: &mut Vec<Claim>) -> Option<Group> {
    let more = |only: &List, other: &List| {
        let shares = other.items.iter().any(|item| only.items.contains(item));
        let has_more = !other.items.iter().all(|item| only.items.contains(item));
        only.is_only && shares && has_more && only.page != other.page
    };
    let only = lists.iter().find(|only| lists.iter().any(|other| more(only, other)))?;
    let other = lists.iter().find(|other| more(only, other))?;
    let mut both = [only, other];
    both.sort_by_key(|list| list.page);
    let values = both.map(|list| {
        let written = &pages[list.page].text[list.range.clone()];
        all.push(claim(list.page, &list.sentence, written, list.is_only));
        vec![all.len() - 1]
    });
    Some(Group { values: values.into(), subject: other.around.clone() })
}

impl Marks {
    /// The lists of a clause, each with the words around it.
    fn lists(&self, clause: &Clause, text: &str) -> Vec<(Vec<Term>, List)> {
        let said = &clause.said;
        if clause.denied.is_some() {
            return Vec::new();
        }
        let only = said.iter().position(|said| said.term == self.only);
        let starts: Vec<usize> = match only {
            Some(at) => BEHIND.iter().map(|behind| at + behind).collect(),
            None => (0..said.len()).filter(|at| self.next(clause, text, *at).is_some()).collect(),
        };
        let mut found: Vec<(Vec<Term>, List)> = Vec::new();
        let mut end = 0;
        for start in starts.into_iter().filter(|at| *at < said.len()) {
            // What is in the middle of a list begins none.
            if only.is_none() && start < end {
                continue;
            }
            let mut items = vec![start];
            while let Some(next) = self.next(clause, text, items[items.len() - 1]) {
                items.push(next);
            }
            end = items[items.len() - 1] + 1;
            found.push(self.list(clause, text, &items, only));
        }
        found
    }

    fn list(
        &self,
        clause: &Clause,
        text: &str,
        items: &[usize],
        only: Option<usize>,
    ) -> (Vec<Term>, List) {
        let said = &clause.said;
        let (start, end) = (items[0], items[items.len() - 1] + 1);
        let outside = |at: &usize| (*at < start || *at >= end) && Some(*at) != only;
        let (mut key, mut around) = (Vec::new(), Vec::new());
        for at in 0..said.len() {
            if at == start {
                key.push(self.here);
            }
            if outside(&at) {
                key.push(said[at].term);
                let word = &text[said[at].range.clone()];
                around.extend((!is_small(word)).then_some(word));
            }
        }
        let list = List {
            page: clause.page,
            sentence: clause.sentence.clone(),
            range: said[only.unwrap_or(start)].range.start..said[end - 1].range.end,
            items: items.iter().map(|at| said[*at].term).collect(),
            is_only: only.is_some(),
            around: around.join(" ").into(),
        };
        (key, list)
    }

    /// The next item of a list that the word at `at` is an item of.
    fn next(&self, clause: &Clause, text: &str, at: usize) -> Option<usize> {
        let next = clause.said.get(at + 1)?;
        if next.term == self.and {
            return (at + 2 < clause.said.len()).then_some(at + 2);
        }
        let gap = text.get(clause.said[at].range.end..next.range.start)?;
        gap.starts_with(',').then_some(at + 1)
    }
}
