//! The part of a page that is about a task.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::imperative::{is_told, may_be_told};
use super::shell;
use crate::rules::asked::asked;
use crate::text::{Block, Kind, Language, Term, Terms, Written, sentences, words};

/// What a word of the task counts in the heading of a section, beside one in its text.
const IN_HEADING: usize = 6;
/// What share of the task a section has that is about it, rare words counting more.
const ENOUGH: f64 = 0.5;
/// Words in the heading of a section that is beside every task but its own, in small letters.
const ASIDE: [&str; 18] = [
    "troubleshooting",
    "uninstall",
    "uninstalling",
    "rollback",
    "faq",
    "questions",
    "related",
    "contributing",
    "contribute",
    "developing",
    "licence",
    "license",
    "changelog",
    "acknowledgements",
    "further",
    "alternatives",
    "fehlerbehebung",
    "fehlersuche",
];

/// A heading with all that is below it.
struct Section {
    blocks: Range<usize>,
    /// The headings above it and its own.
    path: Vec<usize>,
}

/// Every section, those below others too; the whole page where it has no heading.
fn sections(blocks: &[Block]) -> Vec<Section> {
    let mut found: Vec<(u8, Section)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let Kind::Heading(level) = block.kind else { continue };
        while let Some(last) = open.pop_if(|last| found[*last].0 >= level) {
            found[last].1.blocks.end = at;
        }
        open.push(found.len());
        let above = open.iter().filter_map(|above| found.get(*above));
        let path = above.map(|above| above.1.blocks.start).chain([at]).collect();
        found.push((level, Section { blocks: at..blocks.len(), path }));
    }
    if found.is_empty() {
        return vec![Section { blocks: 0..blocks.len(), path: Vec::new() }];
    }
    found.into_iter().map(|(_, section)| section).collect()
}

/// What the blocks of a page have of a task.
struct Task {
    /// Which words of the task each block has.
    said: Vec<Vec<Term>>,
    /// Which blocks may be a step.
    tells: Vec<bool>,
    weights: HashMap<Term, f64>,
}

impl Task {
    #[expect(clippy::cast_precision_loss, reason = "a page has fewer blocks than that")]
    fn of(
        text: &Written<'_>,
        blocks: &[Block],
        wanted: &[Term],
        language: Language,
        terms: &mut Terms,
    ) -> Self {
        let said = |block: &Block| {
            let mut said = terms.of(&text[block.range.clone()], language);
            said.retain(|term| wanted.contains(term));
            said.sort_unstable();
            said.dedup();
            said
        };
        let said: Vec<Vec<Term>> = blocks.iter().map(said).collect();
        let rare = |term: &Term| {
            let among = said.iter().filter(|said| said.contains(term)).count();
            (1.0 + blocks.len() as f64 / (among as f64 + 1.0)).ln()
        };
        let weights = wanted.iter().map(|term| (*term, rare(term))).collect();
        let tells = blocks.iter().map(|block| tells(text, block, language)).collect();
        Self { said, tells, weights }
    }

    /// How many words of the task a block has; in a heading they count more.
    fn hits(&self, at: usize, block: &Block) -> usize {
        let hits = self.said[at].len();
        if matches!(block.kind, Kind::Heading(_)) { hits * IN_HEADING } else { hits.min(1) }
    }

    /// Whether a section has enough of the task: its headings with those above, and what it tells to do
    /// before the next heading. `title` is what the title of the page has.
    fn is_of(&self, section: &Section, blocks: &[Block], title: &[Term]) -> bool {
        let start = section.blocks.start + usize::from(!section.path.is_empty());
        let own = (start..section.blocks.end)
            .take_while(|at| !matches!(blocks[*at].kind, Kind::Heading(_)))
            .filter(|at| self.tells[*at]);
        let has: HashSet<Term> = section
            .path
            .iter()
            .copied()
            .chain(own)
            .flat_map(|at| self.said[at].iter().copied())
            .chain(title.iter().copied())
            .collect();
        let of = |term: &Term| self.weights.get(term).copied().unwrap_or(0.0);
        has.iter().map(of).sum::<f64>() >= ENOUGH * self.weights.values().sum::<f64>()
    }
}

/// The blocks of the section that has most of the task; `None` where none is about it.
pub(super) fn choose(
    text: &Written<'_>,
    blocks: &[Block],
    title: &str,
    task: &str,
    language: Language,
) -> Option<Range<usize>> {
    let mut terms = Terms::default();
    let wanted = asked(task, language, &mut terms);
    if wanted.is_empty() {
        return Some(0..blocks.len());
    }
    let title = terms.of(title, language);
    let task = Task::of(text, blocks, &wanted, language, &mut terms);
    let hits_before = summed(blocks.iter().enumerate().map(|(at, block)| task.hits(at, block)));
    let tells_before = summed(task.tells.iter().map(|tells| usize::from(*tells)));
    let within = |sums: &[usize], range: &Range<usize>| sums[range.end] - sums[range.start];
    let score = |section: &Section| {
        let range = &section.blocks;
        let own = blocks.get(range.start).map_or(0, |block| task.hits(range.start, block));
        // The narrowest section that has it: of a long one most is about other things.
        (own, 100 * within(&hits_before, range) / range.len().max(1))
    };
    let sections = sections(blocks);
    let about = sections.into_iter().filter(|section| {
        within(&tells_before, &section.blocks) > 0 && task.is_of(section, blocks, &title)
    });
    about.rev().max_by_key(score).map(|section| section.blocks)
}

/// The sums of the first so many numbers, from none on: of sections inside sections nothing is added twice.
fn summed(numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sums = vec![0];
    sums.extend(numbers.scan(0, |sum, number| {
        *sum += number;
        Some(*sum)
    }));
    sums
}

/// `blocks` without the sections in it that are beside the task, and what is below them.
pub(super) fn without_asides(text: &Written<'_>, blocks: &[Block], task: &str) -> Vec<Block> {
    let task = task.to_lowercase();
    let is_aside = |block: &Block| {
        let heading = text.plain(&block.range).to_lowercase();
        words(&heading).any(|(_, word)| ASIDE.contains(&word) && !task.contains(word))
    };
    let mut aside: Option<u8> = None;
    let mut left = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if let Kind::Heading(level) = block.kind {
            let goes_on = aside.is_some_and(|above| level > above);
            // What was chosen is not beside itself.
            aside = if goes_on { aside } else { (at > 0 && is_aside(block)).then_some(level) };
        }
        if aside.is_none() {
            left.push(block.clone());
        }
    }
    left
}

/// Whether there may be a step in it.
fn tells(text: &Written<'_>, block: &Block, language: Language) -> bool {
    match block.kind {
        Kind::Code => shell::commands(text, block).is_some(),
        Kind::Item { number: Some(_), .. } => {
            may_be_told(&text[block.range.clone()], language.code())
        }
        Kind::Item { .. } | Kind::Paragraph => {
            let told = |range| is_told(&text.plain(&range), language.code());
            sentences(text, block.range.clone()).into_iter().any(told)
        }
        Kind::Heading(_) | Kind::Row => false,
    }
}

/// The heading that a part of a page begins with.
pub(super) fn title(text: &Written<'_>, blocks: &[Block]) -> Option<String> {
    let first = blocks.first().filter(|block| matches!(block.kind, Kind::Heading(_)))?;
    Some(text.plain(&first.range))
}
