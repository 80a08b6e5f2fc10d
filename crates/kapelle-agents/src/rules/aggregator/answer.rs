//! The first lines of a report: the sentence that answers, and what says more.
//!
//! A sentence answers by how much of the question it has, with its heading; by having words of the
//! question side by side as the question has them; by a number where one is asked for; and by
//! being read without the sentences before it. Where a way to do something is asked for, the
//! commands or the list that the answer leads to are part of it.

use std::collections::HashMap;
use std::ops::Range;

use super::report::Quote;
use super::titled::titled;
use crate::rules::asked::{Way, asked};
use crate::rules::choose::{Candidate, Chosen, Wanted, candidates, choose};
use crate::rules::document::Page;
use crate::rules::guide::is_told;
use crate::rules::rank::Ranked;
use crate::rules::similar::vectors;
use crate::text::{Block, Kind, Term, Terms, plain};

/// How many sentences answer the question.
const ANSWER: usize = 3;
/// What share of the best one's score a sentence must have to answer as well.
const ANSWERS_TOO: f32 = 0.6;
/// What score it must have beside a section that asks the question itself.
const ANSWERS_AS_WELL: f32 = 1.1;
/// From here on two sentences say the same.
const THE_SAME: f32 = 0.8;
/// What a word of the question counts that only the heading has.
const IN_HEADING: f32 = 0.5;
/// What words side by side count, beside having them at all.
const TOGETHER: f32 = 0.5;
/// What a number counts where one is asked for, and an instruction where a way is.
const EXPECTED: f32 = 0.3;
/// What is left of a sentence that goes on from the one before.
const LEANS: f32 = 0.5;
/// The most that a list or commands may add, in bytes, and how far away they may begin.
const LIST_MAX: usize = 1500;
const FAR: usize = 240;

/// The sentences that say most of all pages.
pub(super) fn of_all(pages: &[Page<'_>], terms: &mut Terms) -> Vec<Quote> {
    let found = candidates(pages, terms);
    let wanted = Wanted { count: ANSWER, question: None };
    let mut chosen = choose(found, pages, &wanted, terms);
    chosen.sort_by(|one, other| other.score.total_cmp(&one.score));
    let quote = |Chosen { page, range, .. }| Quote { page, range, heading: None };
    chosen.into_iter().map(quote).collect()
}

/// What answers a question, best first: the sections that ask it themselves, and the sentences of the
/// passages `near` it.
pub(super) fn answer(
    question: &str,
    near: &[Ranked],
    pages: &[Page<'_>],
    terms: &mut Terms,
) -> Vec<Quote> {
    let mut kept: Kept = Kept::default();
    for quote in titled(question, pages, terms) {
        let said =
            terms.of(&pages[quote.page].text[quote.range.clone()], pages[quote.page].language);
        kept.add(quote, said);
    }
    let way = Way::of(question);
    let scored = scored(question, near, pages, terms);
    let best = scored.first().map_or(0.0, |one| one.0);
    let least = if kept.quotes.is_empty() { 0.0 } else { ANSWERS_AS_WELL };
    let least = least.max(best * ANSWERS_TOO);
    for (_, one) in scored.into_iter().take_while(|(score, _)| *score >= least) {
        let range = match way {
            Way::How => with_list(&one.range, &pages[one.page]),
            Way::Number | Way::Any => one.range,
        };
        kept.add(Quote { page: one.page, range, heading: None }, one.terms);
    }
    kept.quotes
}

/// The sentences of the passages `near` a question that have some of it, and how well they answer it,
/// best first.
fn scored(
    question: &str,
    near: &[Ranked],
    pages: &[Page<'_>],
    terms: &mut Terms,
) -> Vec<(f32, Candidate)> {
    let scale = Scale::of(question, near, pages, terms);
    let mut scored = Vec::new();
    for one in candidates(pages, terms) {
        let holds = |near: &&Ranked| {
            let range = &near.passage.range;
            near.page == one.page && range.start <= one.range.start && one.range.end <= range.end
        };
        if let Some(passage) = near.iter().find(holds) {
            let score = scale.score(&one, passage, pages, terms);
            scored.extend((score > 0.0).then_some((score, one)));
        }
    }
    scored.sort_by(|one, other| other.0.total_cmp(&one.0));
    scored
}

/// What answers, no two of which say the same.
#[derive(Default)]
struct Kept {
    quotes: Vec<Quote>,
    said: Vec<Vec<Term>>,
}

impl Kept {
    /// Adds a quote that has the terms `said`, if it is new and there is room.
    fn add(&mut self, quote: Quote, said: Vec<Term>) {
        let overlaps = |other: &Quote| {
            other.page == quote.page
                && quote.range.start < other.range.end
                && other.range.start < quote.range.end
        };
        if self.quotes.len() == ANSWER || self.quotes.iter().any(overlaps) {
            return;
        }
        self.said.push(said);
        let (vectors, _) = vectors(&self.said);
        let (new, others) = vectors.split_last().expect("it was pushed");
        if others.iter().any(|other| new.likeness(other) > THE_SAME) {
            self.said.pop();
        } else {
            self.quotes.push(quote);
        }
    }
}

/// What a sentence is measured by.
struct Scale {
    way: Way,
    /// The words of the question, in its order, as each page's language stems them.
    asked: Vec<Vec<Term>>,
    /// How rare each is among the passages.
    weights: HashMap<Term, f32>,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "there are few passages")]
    fn of(question: &str, near: &[Ranked], pages: &[Page<'_>], terms: &mut Terms) -> Self {
        let asked: Vec<Vec<Term>> =
            pages.iter().map(|page| asked(question, page.language, terms)).collect();
        let mut weights = HashMap::new();
        for term in asked.iter().flatten() {
            let among = near.iter().filter(|one| one.terms.contains(term)).count() as f32;
            weights.insert(*term, (1.0 + near.len() as f32 / (among + 1.0)).ln());
        }
        Self { way: Way::of(question), asked, weights }
    }

    fn score(&self, one: &Candidate, near: &Ranked, pages: &[Page<'_>], terms: &mut Terms) -> f32 {
        let page = &pages[one.page];
        let asked = &self.asked[one.page];
        let heading = near.passage.heading.clone().map_or("", |range| &page.text[range]);
        let heading = terms.of(heading, page.language);
        let weight = |term: &Term| self.weights.get(term).copied().unwrap_or(0.0);
        let all: f32 = asked.iter().map(weight).sum();
        let said: f32 = asked.iter().filter(|term| one.terms.contains(term)).map(weight).sum();
        let above = |term: &&Term| heading.contains(term) && !one.terms.contains(term);
        let above: f32 = asked.iter().filter(above).map(weight).sum();
        if all <= 0.0 || said + above <= 0.0 {
            return 0.0;
        }
        let covered = (said + IN_HEADING * above) / all;
        let words = &page.text[one.range.clone()];
        let expected = match self.way {
            Way::Number => words.bytes().any(|byte| byte.is_ascii_digit()),
            Way::How => is_told(&plain(words), page.language.code()) || names_means(words),
            Way::Any => false,
        };
        let expected = if expected { EXPECTED } else { 0.0 };
        let stands = if one.leans { LEANS } else { 1.0 };
        stands * covered * (1.0 + TOGETHER * together(asked, &one.terms) + expected)
    }
}

/// Whether a sentence says with what something is done.
fn names_means(words: &str) -> bool {
    [" with ", " using ", " mit ", " avec ", " con "].iter().any(|means| words.contains(means))
}

/// Which share of the neighbours in the question are neighbours in the sentence.
#[expect(clippy::cast_precision_loss, reason = "a question has few words")]
fn together(asked: &[Term], said: &[Term]) -> f32 {
    let pairs = asked.windows(2);
    let count = pairs.len().max(1) as f32;
    let both =
        |pair: &&[Term]| said.windows(2).any(|two| two == *pair || two == [pair[1], pair[0]]);
    pairs.filter(both).count() as f32 / count
}

/// `range` with the list or the commands that the text leads to soon after it.
pub(super) fn with_list(range: &Range<usize>, page: &Page<'_>) -> Range<usize> {
    let Some(at) = page.blocks.iter().position(|block| range.end <= block.range.end) else {
        return range.clone();
    };
    if is_list(&page.blocks[at]) {
        return range.clone();
    }
    let after = &page.blocks[at + 1..];
    let before = after.iter().take_while(|block| block.kind == Kind::Paragraph).count();
    let leads = page.text[page.blocks[at + before].range.clone()].trim_end().ends_with(':');
    match list(&after[before..], page.text, range.end) {
        Some(list) if leads && list.start <= range.end + FAR => range.start..list.end,
        _ => range.clone(),
    }
}

/// The list or the commands that `blocks` begin with, so far as they are near to `from`.
pub(super) fn list(blocks: &[Block], text: &str, from: usize) -> Option<Range<usize>> {
    let list = blocks.iter().take_while(|block| is_list(block));
    let list: Vec<&Block> = list.take_while(|block| block.range.end <= from + LIST_MAX).collect();
    let (first, last) = (list.first()?, list.last()?);
    Some(first.range.start..last.range.start + text[last.range.clone()].trim_end().len())
}

fn is_list(block: &Block) -> bool {
    matches!(block.kind, Kind::Item { .. } | Kind::Code)
}
