//! Which lines of a plain text are items and code, as the same text with marks says.
//!
//! **Invariant:** only lines that both have in the same order are changed, and the blocks still hold
//! all words they had, in order.

use std::collections::HashMap;
use std::ops::Range;

use super::blocks::{Block, Kind};
use super::plain::{plain, squeeze};

/// How many lines that begin alike are looked at for a block of code.
const TRIES: usize = 50;

/// `blocks` of `text`, with what is an item or code in the blocks of `markdown` as such.
pub(crate) fn as_marked(
    text: &str,
    blocks: Vec<Block>,
    markdown: &str,
    marked: &[Block],
) -> Vec<Block> {
    let lines = lines(text);
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, (_, words)) in lines.iter().enumerate() {
        places.entry(words).or_default().push(at);
    }
    let (mut known, mut from): (Vec<Block>, usize) = (Vec::new(), 0);
    for block in marked.iter().filter(|block| is_shaped(block.kind)) {
        let wanted = words_of(block, markdown);
        let Some(first) = wanted.first().and_then(|first| places.get(&**first)) else { continue };
        let all_there = |at: &usize| {
            let there = lines[*at..].iter().map(|line| &line.1);
            there.take(wanted.len()).eq(wanted.iter())
        };
        let after = first.partition_point(|at| *at < from);
        if let Some(at) = first[after..].iter().copied().take(TRIES).find(all_there) {
            from = at + wanted.len();
            let range = lines[at].0.start..lines[from - 1].0.end;
            known.push(Block { kind: block.kind, range });
        }
    }
    put_in(text, blocks, known)
}

fn is_shaped(kind: Kind) -> bool {
    matches!(kind, Kind::Item { .. } | Kind::Code)
}

/// The lines that a block has in the text without marks.
fn words_of(block: &Block, markdown: &str) -> Vec<String> {
    let written = &markdown[block.range.clone()];
    let lines: Vec<String> = match block.kind {
        Kind::Code => written.lines().map(squeeze).collect(),
        _ => vec![plain(written)],
    };
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// The lines that have words, without the space around them, and their words.
fn lines(text: &str) -> Vec<(Range<usize>, String)> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let body = line.trim_start();
        let start = at + line.len() - body.len();
        let range = start..start + body.trim_end().len();
        at += line.len();
        if !range.is_empty() {
            found.push((range, squeeze(body)));
        }
    }
    found
}

/// `blocks` with `known`, which have their places, cut out of them and put in between.
fn put_in(text: &str, blocks: Vec<Block>, known: Vec<Block>) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::with_capacity(blocks.len() + known.len());
    let mut next = 0;
    for block in blocks {
        while next < known.len() && known[next].range.end <= block.range.start {
            next += 1;
        }
        let (mut start, mut at) = (block.range.start, next);
        while at < known.len() && known[at].range.start < block.range.end {
            push(&mut found, text, block.kind, start..known[at].range.start.max(start));
            start = known[at].range.end.max(start);
            at += 1;
        }
        push(&mut found, text, block.kind, start..block.range.end.max(start));
    }
    found.extend(known);
    found.sort_by_key(|block| block.range.start);
    found
}

fn push(found: &mut Vec<Block>, text: &str, kind: Kind, range: Range<usize>) {
    let words = text[range.clone()].trim_start();
    let start = range.end - words.len();
    let words = words.trim_end();
    if !words.is_empty() {
        found.push(Block { kind, range: start..start + words.len() });
    }
}
