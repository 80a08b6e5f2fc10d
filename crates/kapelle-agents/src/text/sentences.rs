//! Sentences: where one ends and the next begins.
//!
//! **Invariant:** sentences of a block cover all its words, in order, and none is longer than
//! [`LENGTH_MAX`]: what has no full stop is cut at a space, or where it must be.

use std::ops::Range;

/// The longest sentence, in bytes.
pub(super) const LENGTH_MAX: usize = 1000;

/// Words before a full stop that do not end a sentence, in small letters; sorted.
const ABBREVIATIONS: [&str; 60] = [
    "al", "approx", "art", "aug", "ave", "bspw", "bzw", "ca", "cf", "ch", "co", "corp", "dec",
    "dept", "dr", "e.g", "ed", "eg", "est", "etc", "evtl", "feb", "fig", "figs", "ggf", "gov",
    "i.e", "ie", "inc", "jan", "jr", "jul", "jun", "ltd", "max", "mio", "min", "mr", "mrs", "ms",
    "no", "nov", "nr", "oct", "op", "p", "p.ej", "pp", "prof", "resp", "sec", "sep", "sept", "sr",
    "st", "u.a", "usw", "vol", "vs", "z.b",
];

/// The sentences in `range` of `text`, each without the space around it.
pub(crate) fn sentences(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = range.start;
    let mut rest = text[range.clone()].char_indices().peekable();
    while let Some((offset, letter)) = rest.next() {
        let at = range.start + offset;
        if at >= start + LENGTH_MAX {
            let cut = cut(text, start, at);
            push(&mut found, text, start..cut);
            start = cut;
        }
        if !is_end(letter) {
            continue;
        }
        let mut end = at + letter.len_utf8();
        while let Some((_, next)) = rest.next_if(|(_, next)| is_end(*next) || is_closer(*next)) {
            end += next.len_utf8();
        }
        if ends_here(&text[start..at], letter, &text[end..range.end]) {
            push(&mut found, text, start..end);
            start = end;
        }
    }
    push(&mut found, text, start..range.end);
    found
}

fn push(found: &mut Vec<Range<usize>>, text: &str, range: Range<usize>) {
    // A sentence that ends in many closing marks may still be too long by them.
    let words = text[range.clone()].trim_start();
    let start = range.end - words.len();
    let words = words.trim_end();
    if !words.is_empty() {
        found.push(start..start + words.len());
    }
}

/// Where to cut what is too long: after its last space, if there is one in its second half.
fn cut(text: &str, start: usize, end: usize) -> usize {
    let space = text[start..end].rfind(char::is_whitespace).map(|space| start + space);
    space.filter(|space| *space > start + LENGTH_MAX / 2).unwrap_or(end)
}

fn is_end(letter: char) -> bool {
    matches!(letter, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '।' | '؟' | '۔')
}

fn is_closer(letter: char) -> bool {
    matches!(letter, '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』' | '*' | '`' | '_')
}

/// Whether `mark` after `before` and in front of `after` ends a sentence.
fn ends_here(before: &str, mark: char, after: &str) -> bool {
    if matches!(mark, '。' | '！' | '？' | '।' | '۔' | '؟') {
        return true;
    }
    let Some(space) = after.chars().next() else { return true };
    if !space.is_whitespace() {
        return false;
    }
    let next =
        after.trim_start().chars().find(|letter| !matches!(letter, '"' | '(' | '*' | '`' | '_'));
    if next.is_some_and(|next| next.is_lowercase()) {
        return false;
    }
    mark != '.' || !is_abbreviation(before)
}

fn is_abbreviation(before: &str) -> bool {
    let near = &before[before.floor_char_boundary(before.len().saturating_sub(24))..];
    let word =
        near.rsplit(|letter: char| letter.is_whitespace() || "(\"'[".contains(letter)).next();
    let word = word.unwrap_or_default();
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    let number = !word.is_empty() && word.len() <= 3 && word.bytes().all(|b| b.is_ascii_digit());
    // `1.` begins an item where nothing is before it; elsewhere a number ends its sentence.
    if number {
        return near.trim() == word;
    }
    initial || ABBREVIATIONS.contains(&&*word.to_lowercase())
}
