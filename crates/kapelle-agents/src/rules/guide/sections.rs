//! The part of a page that is about a task.

use std::ops::Range;

use super::imperative::{is_told, may_be_told};
use super::shell;
use crate::text::{Block, Kind, Language, Terms, Written};

/// What a word of the task counts in the heading of a section, beside one in its text.
const IN_HEADING: usize = 6;

/// A heading with all that is below it, as a range of blocks.
struct Section {
    blocks: Range<usize>,
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
        found.push((level, Section { blocks: at..blocks.len() }));
    }
    if found.is_empty() {
        return vec![Section { blocks: 0..blocks.len() }];
    }
    found.into_iter().map(|(_, section)| section).collect()
}

/// The blocks of the section that has most of the task; all where none has any.
pub(super) fn choose(
    text: &Written<'_>,
    blocks: &[Block],
    task: &str,
    language: Language,
) -> Range<usize> {
    let all = 0..blocks.len();
    let sections = sections(blocks);
    let mut terms = Terms::default();
    let mut wanted = terms.of(task, language);
    wanted.sort_unstable();
    wanted.dedup();
    // By block, so that sections inside sections do not read their text again.
    let hits: Vec<usize> = blocks
        .iter()
        .map(|block| {
            let mut said = terms.of(&text[block.range.clone()], language);
            said.sort_unstable();
            said.dedup();
            let hits = said.iter().filter(|term| wanted.binary_search(term).is_ok()).count();
            if matches!(block.kind, Kind::Heading(_)) { hits * IN_HEADING } else { hits.min(1) }
        })
        .collect();
    let tells: Vec<bool> = blocks.iter().map(|block| tells(text, block, language)).collect();
    let summed = |values: &mut dyn Iterator<Item = usize>| {
        let mut sums = vec![0];
        sums.extend(values.scan(0, |sum, value| {
            *sum += value;
            Some(*sum)
        }));
        sums
    };
    let hits_before = summed(&mut hits.iter().copied());
    let tells_before = summed(&mut tells.iter().map(|tells| usize::from(*tells)));
    let within = |sums: &[usize], range: &Range<usize>| sums[range.end] - sums[range.start];
    let score = |section: &Section| {
        let range = &section.blocks;
        let own = hits[range.start];
        // The narrowest section that has it: of a long one most is about other things.
        (own, 100 * within(&hits_before, range) / range.len().max(1))
    };
    let best = sections
        .iter()
        .filter(|section| within(&tells_before, &section.blocks) > 0 && score(section) > (0, 0))
        .rev()
        .max_by_key(|section| score(section));
    best.map_or(all, |section| section.blocks.clone())
}

/// Whether there may be a step in it.
fn tells(text: &Written<'_>, block: &Block, language: Language) -> bool {
    match block.kind {
        Kind::Code => shell::commands(text, block).is_some(),
        Kind::Item { number: Some(_), .. } => {
            may_be_told(&text[block.range.clone()], language.code())
        }
        Kind::Item { .. } | Kind::Paragraph => is_told(&text.plain(&block.range), language.code()),
        Kind::Heading(_) | Kind::Row => false,
    }
}

/// The heading that a part of a page begins with.
pub(super) fn title(text: &Written<'_>, blocks: &[Block]) -> Option<String> {
    let first = blocks.first().filter(|block| matches!(block.kind, Kind::Heading(_)))?;
    Some(text.plain(&first.range))
}
