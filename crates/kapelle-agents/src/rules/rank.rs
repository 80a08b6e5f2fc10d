//! BM25 over stemmed words: which passages answer a question.
//!
//! Only the words of the question are counted, so one pass over the passages is all it takes, and
//! there is no index to build that would be used once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::text::{Language, Passage, Term, Terms, words};

use super::document::Page;

/// How soon more of the same word stops to matter.
const K1: f64 = 1.2;
/// How much a long passage is held to account for its length.
const B: f64 = 0.6;
/// What a word of the question counts in the heading above a passage, and in the document's title.
const IN_HEADING: f64 = 1.0;
const IN_TITLE: f64 = 0.4;

/// Fewer pages are not shared out.
const PAGES_MIN: usize = 8;

/// A passage with its rank.
pub(super) struct Ranked {
    /// Which page it is of.
    pub(super) page: usize,
    pub(super) passage: Passage,
    /// Zero where no word of the question is in it.
    pub(super) score: f64,
    /// The words of the question that are in it, stemmed.
    pub(super) terms: Vec<Term>,
}

/// The passages of all pages that have a word of `question`, best first.
///
/// The pages are shared out to the cores. Each has terms of its own, and what it counts is in the order
/// of the question's stems, so the same input gives the same answer on any number of cores.
pub(super) fn rank(question: &str, pages: &[Page<'_>], terms: &mut Terms) -> Vec<Ranked> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = pages.len().div_ceil(cores).max(PAGES_MIN);
    let shares: Vec<Vec<Counted>> = std::thread::scope(|scope| {
        let count = |(index, pages)| move || counted(question, pages, index * share);
        let others = pages.chunks(share).enumerate().skip(1);
        let others: Vec<_> = others.map(|share| scope.spawn(count(share))).collect();
        let first = counted(question, pages.get(..share).unwrap_or(pages), 0);
        let others = others.into_iter().map(|other| other.join().expect("it does not panic"));
        std::iter::once(first).chain(others).collect()
    });
    scored(shares.into_iter().flatten().collect(), terms)
}

/// How often the words of the question are in each passage of `pages`, of which the first is number
/// `first`.
fn counted(question: &str, pages: &[Page<'_>], first: usize) -> Vec<Counted> {
    let (mut terms, mut counted) = (Terms::default(), Vec::new());
    for (index, page) in pages.iter().enumerate() {
        let asked = question_terms(question, page.language, &mut terms);
        let stems = asked.iter().map(|term| terms.stem(*term).into()).collect::<Arc<[Box<str>]>>();
        let title =
            counts(page.document.title.as_deref().unwrap_or(""), page.language, &asked, &mut terms);
        let mut heading = (None, vec![0.0; asked.len()]);
        for passage in page.passages() {
            if heading.0 != passage.heading {
                let text = passage.heading.clone().map_or("", |range| &page.text[range]);
                heading =
                    (passage.heading.clone(), counts(text, page.language, &asked, &mut terms));
            }
            let text = &page.text[passage.range.clone()];
            let mut found = counts(text, page.language, &asked, &mut terms);
            for (index, count) in found.iter_mut().enumerate() {
                *count += IN_HEADING * heading.1[index] + IN_TITLE * title[index].min(1.0);
            }
            let stems = Arc::clone(&stems);
            counted.push(Counted { page: first + index, passage, stems, found });
        }
    }
    counted
}

struct Counted {
    page: usize,
    passage: Passage,
    /// The words of the question, and how often each was found.
    stems: Arc<[Box<str>]>,
    found: Vec<f64>,
}

impl Counted {
    /// The words of the question that are in it.
    fn hits(&self) -> impl Iterator<Item = (&str, f64)> {
        let all = self.stems.iter().zip(&self.found);
        all.filter(|(_, count)| **count > 0.0).map(|(stem, count)| (&**stem, *count))
    }
}

/// The words of the question, once each, as they are stemmed in the language of a page, in the order
/// of their stems.
pub(super) fn question_terms(question: &str, language: Language, terms: &mut Terms) -> Vec<Term> {
    let mut asked = terms.of(question, language);
    asked.sort_unstable_by(|one, other| terms.stem(*one).cmp(terms.stem(*other)));
    asked.dedup();
    asked
}

fn counts(text: &str, language: Language, asked: &[Term], terms: &mut Terms) -> Vec<f64> {
    let mut found = vec![0.0; asked.len()];
    for (_, word) in words(text) {
        let term = terms.term(word, language);
        if let Some(index) = term.and_then(|term| asked.iter().position(|one| *one == term)) {
            found[index] += 1.0;
        }
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
fn scored(counted: Vec<Counted>, terms: &mut Terms) -> Vec<Ranked> {
    let all = counted.len() as f64;
    let words: usize = counted.iter().map(|one| one.passage.words).sum();
    let average = (words as f64 / all).max(1.0);
    let mut in_passages = HashMap::new();
    for one in &counted {
        for (stem, _) in one.hits() {
            match in_passages.get_mut(stem) {
                Some(among) => *among += 1.0,
                None => drop(in_passages.insert(stem.to_owned(), 1.0)),
            }
        }
    }
    let mut ranked: Vec<Ranked> = counted
        .into_iter()
        .filter_map(|one| {
            let length = 1.0 - B + B * one.passage.words as f64 / average;
            let (mut score, mut found) = (0.0, Vec::new());
            for (stem, count) in one.hits() {
                let among = in_passages.get(stem).copied().unwrap_or(0.0);
                let rare = (1.0 + (all - among + 0.5) / (among + 0.5)).ln();
                score += rare * count * (K1 + 1.0) / (count + K1 * length);
                found.push(terms.stemmed(stem));
            }
            // One rare word often repeated must not beat a passage that has all of the question.
            score *= 0.5 + 0.5 * found.len() as f64 / one.stems.len() as f64;
            let Counted { page, passage, .. } = one;
            (score > 0.0).then_some(Ranked { page, passage, score, terms: found })
        })
        .collect();
    // Equal scores stay in the order of the documents: the same input, the same answer.
    ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
    ranked
}
