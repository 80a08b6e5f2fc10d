//! The first lines of a report: the sentence that answers, and what says more.
//!
//! A sentence answers by how much of the question it has, with its heading; by having words of the
//! question side by side as the question has them; by a number where one is asked for; and by
//! being read without the sentences before it. Where a way to do something is asked for, the
//! commands or the list that the answer leads to are part of it.

use std::collections::HashMap;
use std::ops::Range;

use super::report::Quote;
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

/// The sentences of the passages `near` a question that answer it, best first.
pub(super) fn answer(
    question: &str,
    near: &[Ranked],
    pages: &[Page<'_>],
    terms: &mut Terms,
) -> Vec<Quote> {
    let way = Way::of(question);
    let mut found: Vec<(Candidate, &Ranked)> = Vec::new();
    for one in candidates(pages, terms) {
        let holds = |near: &&Ranked| {
            let range = &near.passage.range;
            near.page == one.page && range.start <= one.range.start && one.range.end <= range.end
        };
        if let Some(passage) = near.iter().find(holds) {
            found.push((one, passage));
        }
    }
    let scale = Scale::of(question, way, near, pages, terms);
    let scores: Vec<f32> =
        found.iter().map(|(one, near)| scale.score(one, near, pages, terms)).collect();
    let mut order: Vec<usize> = (0..found.len()).filter(|at| scores[*at] > 0.0).collect();
    order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]).then(one.cmp(other)));
    let taken = distinct(&order, &found, &scores);
    let mut quotes: Vec<Quote> = taken
        .iter()
        .map(|at| {
            let (one, near) = &found[*at];
            let range = match way {
                Way::How => with_list(&one.range, &pages[one.page]),
                Way::Number | Way::Any => one.range.clone(),
            };
            Quote { page: near.page, range, heading: None }
        })
        .collect();
    let mut kept: Vec<Quote> = Vec::new();
    quotes.retain(|quote| {
        let inside = |other: &Quote| {
            other.page == quote.page
                && quote.range.start < other.range.end
                && other.range.start < quote.range.end
        };
        let new = !kept.iter().any(inside);
        kept.extend(new.then(|| quote.clone()));
        new
    });
    quotes
}

/// The first of `order` that say different things, if they answer about as well as the best.
fn distinct(order: &[usize], found: &[(Candidate, &Ranked)], scores: &[f32]) -> Vec<usize> {
    let best = order.first().map_or(0.0, |at| scores[*at]);
    let good: Vec<usize> =
        order.iter().copied().take_while(|at| scores[*at] >= best * ANSWERS_TOO).collect();
    let stems: Vec<_> = good.iter().map(|at| found[*at].0.terms.clone()).collect();
    let (vectors, _) = vectors(&stems);
    let mut taken: Vec<usize> = Vec::new();
    for at in 0..good.len() {
        let repeats = taken.iter().any(|other| vectors[at].likeness(&vectors[*other]) > THE_SAME);
        if !repeats && taken.len() < ANSWER {
            taken.push(at);
        }
    }
    taken.into_iter().map(|at| good[at]).collect()
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
    fn of(
        question: &str,
        way: Way,
        near: &[Ranked],
        pages: &[Page<'_>],
        terms: &mut Terms,
    ) -> Self {
        let asked: Vec<Vec<Term>> =
            pages.iter().map(|page| asked(question, page.language, terms)).collect();
        let mut weights = HashMap::new();
        for term in asked.iter().flatten() {
            let among = near.iter().filter(|one| one.terms.contains(term)).count() as f32;
            weights.insert(*term, (1.0 + near.len() as f32 / (among + 1.0)).ln());
        }
        Self { way, asked, weights }
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
fn with_list(range: &Range<usize>, page: &Page<'_>) -> Range<usize> {
    let Some(at) = page.blocks.iter().position(|block| range.end <= block.range.end) else {
        return range.clone();
    };
    let is_list = |block: &Block| matches!(block.kind, Kind::Item { .. } | Kind::Code);
    if is_list(&page.blocks[at]) {
        return range.clone();
    }
    let after = &page.blocks[at + 1..];
    let before = after.iter().take_while(|block| block.kind == Kind::Paragraph).count();
    let leads = page.text[..after.get(before).map_or(0, |block| block.range.start)]
        .trim_end_matches(|letter: char| letter.is_whitespace() || "`~".contains(letter))
        .ends_with(':');
    let list = after[before..].iter().take_while(|block| is_list(block));
    let list: Vec<&Block> =
        list.take_while(|block| block.range.end <= range.end + LIST_MAX).collect();
    match (list.first(), list.last()) {
        (Some(first), Some(last)) if leads && first.range.start <= range.end + FAR => {
            range.start..last.range.start + page.text[last.range.clone()].trim_end().len()
        }
        _ => range.clone(),
    }
}
