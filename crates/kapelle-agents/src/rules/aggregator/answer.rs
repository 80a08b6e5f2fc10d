//! The first lines of a report: the sentence that answers, and what says more.
//!
//! A sentence answers by how much of the question it has, with its heading; by having words of the
//! question side by side as the question has them; by a number where one is asked for; and by
//! being read without the sentences before it. Where a way to do something is asked for, the
//! commands or the list that the answer leads to are part of it.

use std::ops::Range;

use super::report::Quote;
use super::scale::Scale;
use super::titled::titled;
use crate::rules::asked::Way;
use crate::rules::choose::{Candidate, Chosen, STEMS_MIN, Wanted, candidates, choose, code, rows};
use crate::rules::claims::has_value;
use crate::rules::document::Page;
use crate::rules::rank::Ranked;
use crate::rules::similar::vectors;
use crate::text::{Block, Kind, Term, Terms, sentences, words};

/// How many sentences answer the question.
const ANSWER: usize = 3;
/// What share of the best one's score a sentence must have to answer as well.
const ANSWERS_TOO: f32 = 0.6;
/// What score it must have beside a section that asks the question itself.
const ANSWERS_AS_WELL: f32 = 1.1;
/// From here on two sentences say the same.
const THE_SAME: f32 = 0.8;
/// The most that a list or commands may add, in bytes, and how far away they may begin.
const LIST_MAX: usize = 1500;
const FAR: usize = 240;

/// The sentences that say most of all pages.
pub(super) fn of_all(pages: &[Page<'_>], terms: &mut Terms) -> Vec<Quote> {
    let found = candidates(pages, STEMS_MIN, terms);
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
    let way = Way::of(question);
    let scored = scored(question, near, pages, terms);
    let best = scored.first().map_or(0.0, |one| one.0);
    // What should be is advice, and that is given in words.
    let is_fact = way == Way::Number && !words(question).any(|(_, word)| word == "should");
    let says_number = |quote: &Quote| has_value(&pages[quote.page].text[quote.range.clone()]);
    let (titled, late): (Vec<Quote>, _) = titled(question, pages, terms)
        .into_iter()
        // Who is asked for a number and tells none comes after who does.
        .partition(|quote| !is_fact || best < ANSWERS_AS_WELL || says_number(quote));
    let mut kept = Kept::default();
    kept.add_all(titled, pages, terms);
    let least = if kept.quotes.is_empty() { 0.0 } else { ANSWERS_AS_WELL };
    let least = least.max(best * ANSWERS_TOO);
    for (_, one) in scored.into_iter().take_while(|(score, _)| *score >= least) {
        let page = &pages[one.page];
        // `Such a thing` is what was told before.
        let points = one.leans || page.text[one.range.clone()].contains(" such a ");
        let range = if points { with_before(&one.range, page) } else { one.range };
        let range = if way == Way::How { with_list(&range, page) } else { range };
        kept.add(Quote { page: one.page, range, heading: None }, one.terms);
    }
    kept.add_all(late, pages, terms);
    kept.quotes
}

/// `range` with the sentence before it in its block.
fn with_before(range: &Range<usize>, page: &Page<'_>) -> Range<usize> {
    let holds = |block: &&Block| block.range.start <= range.start && range.end <= block.range.end;
    let before = page.blocks.iter().find(holds).and_then(|block| {
        let before = sentences(page.text, block.range.start..range.start);
        Some(before.last()?.start)
    });
    before.unwrap_or(range.start)..range.end
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
    let (said, rows) = (candidates(pages, 1, terms), rows(pages, terms));
    let mut commands = if Way::of(question) == Way::How { code(pages, terms) } else { Vec::new() };
    // Beside its words there is nothing in code that tells what it is about.
    commands.retain(|line| scale.has_all(line));
    for one in said.into_iter().chain(rows).chain(commands) {
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
    fn add_all(&mut self, quotes: Vec<Quote>, pages: &[Page<'_>], terms: &mut Terms) {
        for quote in quotes {
            let page = &pages[quote.page];
            let said = terms.of(&page.text[quote.range.clone()], page.language);
            self.add(quote, said);
        }
    }

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
