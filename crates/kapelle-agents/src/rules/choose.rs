//! Which sentences say most: by how many others say the like, and by the question.
//!
//! **Invariants:** no two of the chosen say the same; they are in the order of the documents; the
//! same input gives the same choice. A sentence is central if central sentences are like it
//! (`LexRank`); that is compared among the best few hundred only, as it goes with their square.

use std::collections::HashMap;
use std::ops::Range;

use super::document::Page;
use super::rank::question_terms;
use super::sheet::{Line, TEXT_MAX};
use super::similar::{Vector, vectors};
use crate::text::{Kind, Term, Terms, sentences};

/// How many sentences are compared with each other.
const COMPARED: usize = 400;
/// The most of them, and twice the longest summary.
const COMPARED_MAX: usize = 2000;
/// The fewest stems of a sentence that says something by itself.
pub(super) const STEMS_MIN: usize = 4;
/// From here on two sentences are taken as connected, and from there on as saying the same.
const ALIKE: f32 = 0.1;
const THE_SAME: f32 = 0.55;
/// How likely the walk through like sentences goes on.
const DAMPING: f32 = 0.85;
const ROUNDS: usize = 20;
/// What the question counts beside the centrality.
const QUESTION: f32 = 1.5;
/// What the likeness to something chosen already costs.
const REPEAT: f32 = 0.5;
/// So much of the texts somebody reads to choose, in bytes; their numbers and names are not counted.
const READ_MAX: usize = TEXT_MAX * 3 / 4;

/// Words at the start of a sentence that stand for something said before, or go on from it.
const LEANING: [&str; 57] = [
    "perhaps",
    "maybe",
    "because",
    "instead",
    "therefore",
    "thus",
    "nevertheless",
    "meanwhile",
    "neither",
    "both",
    "such",
    "and",
    "or",
    "vielleicht",
    "weil",
    "deshalb",
    "stattdessen",
    "peut-être",
    "quizás",
    "it",
    "he",
    "she",
    "they",
    "this",
    "these",
    "those",
    "that",
    "its",
    "his",
    "her",
    "their",
    "however",
    "but",
    "also",
    "then",
    "otherwise",
    "so",
    "er",
    "sie",
    "es",
    "dies",
    "diese",
    "dieser",
    "aber",
    "auch",
    "dann",
    "il",
    "elle",
    "ils",
    "elles",
    "mais",
    "cela",
    "esto",
    "estos",
    "pero",
    "ello",
    "questo",
];

/// Several words that do the same.
const LEANING_WORDS: [&str; 9] = [
    "at the same time",
    "in that case",
    "in this case",
    "after that",
    "for that",
    "for this",
    "even then",
    "the same ",
    "as a result",
];

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) count: usize,
    pub(super) question: Option<&'a str>,
}

/// A sentence that may be chosen.
pub(super) struct Candidate {
    pub(super) page: usize,
    pub(super) range: Range<usize>,
    pub(super) terms: Vec<Term>,
    /// How well it can be read by itself, about 1.
    standing: f32,
    /// Whether it goes on from what was said before.
    pub(super) leans: bool,
}

/// A sentence that was chosen.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) page: usize,
    pub(super) range: Range<usize>,
    pub(super) score: f32,
}

/// The sentences of the pages' prose that have so many stems: [`STEMS_MIN`] where nothing is asked, as a
/// short one says something by what was asked alone.
pub(super) fn candidates(
    pages: &[Page<'_>],
    stems_min: usize,
    terms: &mut Terms,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let prose =
            page.blocks.iter().filter(|b| matches!(b.kind, Kind::Paragraph | Kind::Item { .. }));
        let mut first = true;
        for range in prose.flat_map(|block| sentences(page.text, block.range.clone())) {
            let text = &page.text[range.clone()];
            // What leads to something else, or asks, says nothing by itself.
            if text.ends_with([':', '?', ',']) {
                continue;
            }
            let terms = terms.of(text, page.language);
            if terms.len() >= stems_min {
                let leans = leans(text);
                let standing = standing(leans, terms.len(), first);
                found.push(Candidate { page: index, range, terms, standing, leans });
                first = false;
            }
        }
    }
    found
}

/// The rows of the pages' tables, each with what its columns are called.
pub(super) fn rows(pages: &[Page<'_>], terms: &mut Terms) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        for block in page.blocks.iter().filter(|block| block.kind == Kind::Row) {
            let range = block.range.clone();
            let Some(header) = page.header(&range) else { continue };
            let mut said = terms.of(&page.text[header], page.language);
            said.extend(terms.of(&page.text[range.clone()], page.language));
            found.push(Candidate { page: index, range, terms: said, standing: 1.0, leans: false });
        }
    }
    found
}

/// The lines of the pages' code.
pub(super) fn code(pages: &[Page<'_>], terms: &mut Terms) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        for block in page.blocks.iter().filter(|block| block.kind == Kind::Code) {
            let mut start = block.range.start;
            for line in page.text[block.range.clone()].split_inclusive('\n') {
                let range = start..start + line.trim_end().len();
                start += line.len();
                let terms = terms.of(line, page.language);
                found.push(Candidate { page: index, range, terms, standing: 1.0, leans: false });
            }
        }
    }
    found
}

/// The sentences that a summary could be made of, in their order: all of them, or so many that somebody
/// can read them, those that say most.
pub(super) fn worth_reading(
    pages: &[Page<'_>],
    question: Option<&str>,
    terms: &mut Terms,
) -> Vec<Line> {
    let found = candidates(pages, STEMS_MIN, terms);
    let bytes: usize = found.iter().map(|one| one.range.len()).sum();
    let line = |page, range| Line { page, range, heading: None, is_code: false };
    if bytes <= READ_MAX || found.is_empty() {
        return found.into_iter().map(|one| line(one.page, one.range)).collect();
    }
    let count = (READ_MAX * found.len() / bytes).max(1);
    let chosen = choose(found, pages, &Wanted { count, question }, terms);
    chosen.into_iter().map(|one| line(one.page, one.range)).collect()
}

/// How well a sentence can be read by itself. A short one leans on its neighbours, and so does one
/// that begins with a word for what was named before; the first of a text says what it is about.
#[expect(clippy::cast_precision_loss, reason = "a sentence has few words")]
fn standing(leans: bool, stems: usize, first: bool) -> f32 {
    let length = (stems as f32 / 8.0).min(1.0);
    length * if leans { 0.5 } else { 1.0 } * if first { 1.15 } else { 1.0 }
}

fn leans(text: &str) -> bool {
    let lower = text.to_lowercase();
    let word = lower.split_whitespace().next().unwrap_or_default();
    LEANING.contains(&word.trim_end_matches(','))
        || LEANING_WORDS.iter().any(|words| lower.starts_with(words))
}

/// The best sentences of `found`.
pub(super) fn choose(
    found: Vec<Candidate>,
    pages: &[Page<'_>],
    wanted: &Wanted<'_>,
    terms: &mut Terms,
) -> Vec<Chosen> {
    let stems: Vec<Vec<Term>> = found.iter().map(|one| one.terms.clone()).collect();
    let (vectors, weights) = vectors(&stems);
    let asked = asked(&found, &weights, pages, wanted.question, terms);
    let first = first_choice(&vectors, &asked, wanted.count);
    let compared: Vec<&Vector> = first.iter().map(|index| &vectors[*index]).collect();
    let likeness = Likeness::of(&compared);
    let central = likeness.centrality();
    let scores: Vec<f32> = first
        .iter()
        .zip(central)
        .map(|(at, central)| central * found[*at].standing + QUESTION * asked[*at])
        .collect();
    let mut chosen: Vec<Chosen> = likeness
        .pick(&scores, wanted.count)
        .into_iter()
        .map(|at| {
            let Candidate { page, range, .. } = &found[first[at]];
            Chosen { page: *page, range: range.clone(), score: scores[at] }
        })
        .collect();
    chosen.sort_by_key(|chosen| (chosen.page, chosen.range.start));
    chosen
}

/// How much of the question is in each sentence, from 0 to 1.
fn asked(
    found: &[Candidate],
    weights: &HashMap<Term, f32>,
    pages: &[Page<'_>],
    question: Option<&str>,
    terms: &mut Terms,
) -> Vec<f32> {
    let Some(question) = question else { return vec![0.0; found.len()] };
    let by_page: Vec<_> =
        pages.iter().map(|page| question_terms(question, page.language, terms)).collect();
    let weight = |term: &Term| weights.get(term).copied().unwrap_or(0.0);
    let share = |one: &Candidate| {
        let asked = &by_page[one.page];
        let all: f32 = asked.iter().map(weight).sum();
        let said: f32 = asked.iter().filter(|term| one.terms.contains(term)).map(weight).sum();
        if all > 0.0 { said / all } else { 0.0 }
    };
    found.iter().map(share).collect()
}

/// The sentences worth comparing: those near the middle of all, and near the question.
fn first_choice(vectors: &[Vector], asked: &[f32], count: usize) -> Vec<usize> {
    let mut first: Vec<usize> = (0..vectors.len()).collect();
    let most = count.saturating_mul(2).clamp(COMPARED, COMPARED_MAX);
    if first.len() > most {
        let middle = middle(vectors);
        let near = |vector: &Vector| -> f32 {
            vector.terms().iter().map(|(term, weight)| weight * middle[term.0 as usize]).sum()
        };
        let scores: Vec<f32> = vectors
            .iter()
            .zip(asked)
            .map(|(vector, asked)| near(vector) + QUESTION * asked)
            .collect();
        first.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]).then(one.cmp(other)));
        first.truncate(most);
        first.sort_unstable();
    }
    first
}

/// The sum of all vectors, of length 1, by the number of the term.
fn middle(vectors: &[Vector]) -> Vec<f32> {
    let entries = || vectors.iter().flat_map(Vector::terms);
    let most = entries().map(|(term, _)| term.0 as usize + 1).max().unwrap_or(0);
    let mut sum = vec![0.0_f32; most];
    for (term, weight) in entries() {
        sum[term.0 as usize] += weight;
    }
    let length =
        sum.iter().map(|weight| weight * weight).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|weight| *weight /= length);
    sum
}

/// How alike each sentence is to each other one.
struct Likeness {
    count: usize,
    rows: Vec<f32>,
}

impl Likeness {
    fn of(vectors: &[&Vector]) -> Self {
        let count = vectors.len();
        let mut rows = vec![0.0; count * count];
        // By term, who has it: pairs that share nothing cost nothing.
        let mut by_term: HashMap<Term, Vec<(usize, f32)>> = HashMap::new();
        for (at, vector) in vectors.iter().enumerate() {
            for (term, weight) in vector.terms() {
                let before = by_term.entry(*term).or_default();
                for (other, with) in before.iter() {
                    rows[at * count + other] += weight * with;
                }
                before.push((at, *weight));
            }
        }
        for at in 0..count {
            for other in 0..at {
                rows[other * count + at] = rows[at * count + other];
            }
        }
        Self { count, rows }
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.rows[at * self.count..(at + 1) * self.count]
    }

    /// How central each sentence is, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
    fn centrality(&self) -> Vec<f32> {
        let links = |at: usize| self.row(at).iter().enumerate().filter(|(_, like)| **like >= ALIKE);
        let out: Vec<f32> =
            (0..self.count).map(|at| links(at).map(|(_, like)| like).sum()).collect();
        let mut rank = vec![1.0 / self.count.max(1) as f32; self.count];
        for _ in 0..ROUNDS {
            let mut next = vec![(1.0 - DAMPING) / self.count.max(1) as f32; self.count];
            for at in (0..self.count).filter(|at| out[*at] > 0.0) {
                let share = DAMPING * rank[at] / out[at];
                for (to, like) in links(at) {
                    next[to] += share * like;
                }
            }
            rank = next;
        }
        let most = rank.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        rank.iter().map(|rank| rank / most).collect()
    }

    /// The best one after the other, each held to account for what it repeats.
    fn pick(&self, scores: &[f32], count: usize) -> Vec<usize> {
        let mut repeats = vec![0.0_f32; self.count];
        let mut left: Vec<usize> = (0..self.count).collect();
        let mut picked = Vec::new();
        while picked.len() < count.min(COMPARED_MAX / 2) {
            left.retain(|at| repeats[*at] < THE_SAME);
            let worth = |at: usize| scores[at] - REPEAT * repeats[at];
            let best = left
                .iter()
                .copied()
                .max_by(|one, other| worth(*one).total_cmp(&worth(*other)).then(other.cmp(one)));
            let Some(best) = best else { break };
            left.retain(|at| *at != best);
            picked.push(best);
            for (repeat, like) in repeats.iter_mut().zip(self.row(best)) {
                *repeat = repeat.max(*like);
            }
        }
        picked
    }
}
