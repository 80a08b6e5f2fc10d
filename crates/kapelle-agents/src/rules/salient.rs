//! Keywords: what is said often in a document.

use std::collections::HashMap;

use super::document::Page;
use crate::text::{Term, Terms, words};

/// The shortest keyword, in characters, in scripts that write short words for small things.
const LETTERS_MIN: usize = 3;

/// A word that is said often, as it is written first.
pub(super) struct Keyword {
    pub(super) word: Box<str>,
    term: Term,
    weight: f64,
}

/// The words of a page, most telling first. Those in its title and headings count more.
pub(super) fn keywords(page: &Page<'_>, terms: &mut Terms) -> Vec<Keyword> {
    let mut counts: HashMap<Term, (f64, &str)> = HashMap::new();
    let mut count = |text, weight: f64, terms: &mut Terms| {
        for (_, word) in words(text).filter(|(_, word)| is_telling(word)) {
            if let Some(term) = terms.term(word, page.language) {
                counts.entry(term).or_insert((0.0, word)).0 += weight;
            }
        }
    };
    for block in &page.blocks {
        let heading = matches!(block.kind, crate::text::Kind::Heading(_));
        count(&page.text[block.range.clone()], if heading { 3.0 } else { 1.0 }, terms);
    }
    let mut found: Vec<_> = counts
        .into_iter()
        .map(|(term, (weight, word))| Keyword { word: word.to_lowercase().into(), term, weight })
        .collect();
    found.sort_by(|one, other| other.weight.total_cmp(&one.weight).then(one.term.cmp(&other.term)));
    found
}

/// The keywords of all pages together: those of many pages come first.
pub(super) fn overall(all: Vec<Vec<Keyword>>, most: usize) -> Vec<Box<str>> {
    let mut sums: HashMap<Term, (f64, Box<str>)> = HashMap::new();
    for keyword in all.into_iter().flat_map(|page| page.into_iter().take(5 * most)) {
        sums.entry(keyword.term).or_insert((0.0, keyword.word)).0 += (1.0 + keyword.weight).ln();
    }
    let mut found: Vec<_> = sums.into_iter().collect();
    found.sort_by(|one, other| other.1.0.total_cmp(&one.1.0).then(one.0.cmp(&other.0)));
    found.into_iter().take(most).map(|(_, (_, word))| word).collect()
}

fn is_telling(word: &str) -> bool {
    let ascii = word.is_ascii();
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    !digits && (!ascii || word.len() >= LETTERS_MIN)
}
