//! BM25 over stemmed words: which passages answer a question.
//!
//! Only the words of the question are counted, so one pass over the passages is all it takes, and
//! there is no index to build that would be used once.

use std::collections::HashMap;
use std::rc::Rc;

use crate::text::{Language, Passage, Term, Terms, words};

use super::document::Page;

/// How soon more of the same word stops to matter.
const K1: f64 = 1.2;
/// How much a long passage is held to account for its length.
const B: f64 = 0.6;
/// What a word of the question counts in the heading above a passage, and in the document's title.
const IN_HEADING: f64 = 1.0;
const IN_TITLE: f64 = 0.4;

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
pub(super) fn rank(question: &str, pages: &[Page<'_>], terms: &mut Terms) -> Vec<Ranked> {
    let mut counted = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let asked = question_terms(question, page.language, terms);
        let title =
            counts(page.document.title.as_deref().unwrap_or(""), page.language, &asked, terms);
        let mut heading = (None, vec![0.0; asked.len()]);
        for passage in page.passages() {
            if heading.0 != passage.heading {
                let text = passage.heading.clone().map_or("", |range| &page.text[range]);
                heading = (passage.heading.clone(), counts(text, page.language, &asked, terms));
            }
            let mut found = counts(&page.text[passage.range.clone()], page.language, &asked, terms);
            for (index, count) in found.iter_mut().enumerate() {
                *count += IN_HEADING * heading.1[index] + IN_TITLE * title[index].min(1.0);
            }
            counted.push(Counted { page: index, passage, asked: asked.clone(), found });
        }
    }
    scored(counted)
}

struct Counted {
    page: usize,
    passage: Passage,
    asked: Rc<[Term]>,
    found: Vec<f64>,
}

/// The words of the question, once each, as they are stemmed in the language of a page.
pub(super) fn question_terms(question: &str, language: Language, terms: &mut Terms) -> Rc<[Term]> {
    let mut asked = terms.of(question, language);
    asked.sort_unstable();
    asked.dedup();
    asked.into()
}

fn counts(text: &str, language: Language, asked: &[Term], terms: &mut Terms) -> Vec<f64> {
    let mut found = vec![0.0; asked.len()];
    for (_, word) in words(text) {
        if let Some(index) =
            terms.term(word, language).and_then(|term| asked.binary_search(&term).ok())
        {
            found[index] += 1.0;
        }
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below what a float holds exactly")]
fn scored(counted: Vec<Counted>) -> Vec<Ranked> {
    let all = counted.len() as f64;
    let words: usize = counted.iter().map(|one| one.passage.words).sum();
    let average = (words as f64 / all).max(1.0);
    let mut in_passages = HashMap::new();
    for one in &counted {
        for (term, _) in one.asked.iter().zip(&one.found).filter(|(_, count)| **count > 0.0) {
            *in_passages.entry(*term).or_insert(0.0) += 1.0;
        }
    }
    let mut ranked: Vec<Ranked> = counted
        .into_iter()
        .filter_map(|one| {
            let length = 1.0 - B + B * one.passage.words as f64 / average;
            let hits = one.asked.iter().zip(&one.found).filter(|(_, count)| **count > 0.0);
            let (mut score, mut terms) = (0.0, Vec::new());
            for (term, count) in hits {
                let among = in_passages.get(term).copied().unwrap_or(0.0);
                let rare = (1.0 + (all - among + 0.5) / (among + 0.5)).ln();
                score += rare * count * (K1 + 1.0) / (count + K1 * length);
                terms.push(*term);
            }
            // One rare word often repeated must not beat a passage that has all of the question.
            score *= 0.5 + 0.5 * terms.len() as f64 / one.asked.len() as f64;
            let Counted { page, passage, .. } = one;
            (score > 0.0).then_some(Ranked { page, passage, score, terms })
        })
        .collect();
    // Equal scores stay in the order of the documents: the same input, the same answer.
    ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
    ranked
}
