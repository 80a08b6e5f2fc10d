//! The first clause of a sentence as words that can be compared with those of another.
//!
//! **Invariant:** articles, and words that add nothing, are left out; `is` and `are` are one word. What
//! has a condition, a pronoun for a subject or a clause of its own, and what tells of its writer, is none.

use std::ops::Range;

use super::about::CONDITION;
use super::sentence::is_claim;
use super::value::{Value, values};
use crate::rules::document::Page;
use crate::text::{Language, Term, Terms, words};

/// The longest clause, in words, and the fewest words of it that tell something.
const WORDS_MAX: usize = 16;
const TELLING_MIN: usize = 2;
/// Words that a condition, another clause or a personal story has.
const PASSED_OVER: [&str; 23] = [
    "that",
    "which",
    "who",
    "whose",
    "where",
    "whether",
    "until",
    "while",
    "once",
    "neither",
    "nor",
    "sometimes",
    "did",
    "i",
    "we",
    "our",
    "us",
    "my",
    "me",
    "ours",
    "he",
    "or",
    "than",
];
/// Words that stand for what was named before.
const PRONOUNS: [&str; 8] = ["it", "this", "these", "those", "they", "she", "its", "their"];
/// Words that add nothing to whether it is so.
const LIGHT: [&str; 14] = [
    "the",
    "a",
    "an",
    "any",
    "do",
    "does",
    "yet",
    "still",
    "also",
    "currently",
    "now",
    "already",
    "ever",
    "even",
];
/// What is denied of these is still so of some, or in part.
const IN_PART: [&str; 18] = [
    "all",
    "always",
    "every",
    "everything",
    "just",
    "necessarily",
    "usually",
    "normally",
    "merely",
    "simply",
    "more",
    "less",
    "fewer",
    "much",
    "many",
    "too",
    "very",
    "only",
];
/// What stands between a verb and its number.
const BEFORE_NUMBER: [&str; 13] = [
    "after", "within", "in", "for", "every", "at", "least", "most", "up", "to", "about", "with",
    "exactly",
];
/// What a denial stands behind.
const HELPING: [&str; 12] =
    ["is", "are", "do", "does", "has", "have", "can", "will", "may", "must", "should", "be"];

/// A word as it is compared, and where it stands in the page.
pub(super) struct Said {
    pub(super) term: Term,
    pub(super) range: Range<usize>,
}

/// What a sentence says first.
pub(super) struct Clause {
    /// The page and the place of the sentence.
    pub(super) page: usize,
    pub(super) sentence: Range<usize>,
    /// Where the clause ends.
    pub(super) end: usize,
    pub(super) said: Vec<Said>,
    /// How many of its words stand before what is denied, and where in the text that begins.
    pub(super) denied: Option<(usize, usize)>,
}

impl Clause {
    /// The clause of a sentence of a page that ends before one of `ends`.
    pub(super) fn of(
        index: usize,
        page: &Page<'_>,
        sentence: &Range<usize>,
        ends: &[&str],
        terms: &mut Terms,
    ) -> Option<Self> {
        let text = &page.text[sentence.clone()];
        let language = page.language;
        if !matches!(language.code(), "en" | "und") || !is_claim(text) || is_passed_over(text) {
            return None;
        }
        let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        let text = text[..end].trim_end_matches(['.', '!']);
        let mut clause = Self {
            page: index,
            sentence: sentence.clone(),
            end: sentence.start + text.len(),
            said: Vec::new(),
            denied: None,
        };
        clause.read(text, language, terms)?;
        Some(clause)
    }

    /// Takes the words of `text`; `None` where it cannot be said what is denied.
    fn read(&mut self, text: &str, language: Language, terms: &mut Terms) -> Option<()> {
        let all: Vec<Word> =
            words(text).map(|(range, word)| (range, word.to_lowercase())).collect();
        let at = |index: usize| all.get(index).map_or("", |word| &*word.1);
        let number = number(text, &all)?;
        if all.len() > WORDS_MAX || PRONOUNS.contains(&at(0)) {
            return None;
        }
        let mut telling = 0;
        for (index, (range, word)) in all.iter().enumerate() {
            if number.contains(&index) || text[..range.start].ends_with('’') && word == "t" {
                continue;
            }
            let denies = denies(word, text, range.end);
            if denies {
                let starts = index > 0 && HELPING.contains(&at(index - 1)) && word != "no";
                let start = if starts { all[index - 1].0.start } else { range.start };
                let from = self.sentence.start + start;
                let before = self.said.iter().filter(|said| said.range.start < from).count();
                // `Do not restart it` denies nothing.
                let tells = before == 0 && word != "no";
                if self.denied.is_some() || tells || IN_PART.contains(&at(index + 1)) {
                    return None;
                }
                self.denied = Some((before, from));
            }
            let kept = if denies { denied_of(word) } else { same(word) };
            let is_no_longer = index > 0 && at(index - 1) == "no" && word == "longer";
            if kept.is_empty() || LIGHT.contains(&kept) || is_no_longer {
                continue;
            }
            let told = terms.term(kept, language);
            telling += usize::from(told.is_some());
            let term = told.unwrap_or_else(|| terms.stemmed(kept));
            let range = range.start + self.sentence.start..range.end + self.sentence.start;
            self.said.push(Said { term, range });
        }
        let is_clear = telling >= TELLING_MIN && (number.is_empty() || self.denied.is_none());
        is_clear.then_some(())
    }
}

type Word = (Range<usize>, String);

/// Whether a word tells no thing from another.
pub(super) fn is_small(word: &str) -> bool {
    let word = &*word.to_lowercase();
    LIGHT.contains(&word) || HELPING.contains(&word)
}

fn is_passed_over(text: &str) -> bool {
    words(text).any(|(_, word)| {
        let word = &*word.to_lowercase();
        CONDITION.contains(&word) || PASSED_OVER.contains(&word)
    })
}

/// Which of the words are a number at the end, with what leads to it; `None` where there are more.
fn number(text: &str, all: &[Word]) -> Option<Range<usize>> {
    let found = values(text);
    let [one] = &found[..] else { return found.is_empty().then_some(0..0) };
    if !matches!(one.value, Value::Quantity(..)) {
        return Some(0..0);
    }
    let first = all.iter().position(|word| word.0.start >= one.range.start)?;
    let behind = all.iter().filter(|word| word.0.start < one.range.end).count();
    let leads = all[..first].iter().rev();
    let leads = leads.take_while(|word| BEFORE_NUMBER.contains(&&*word.1)).count();
    let goes_on = all.get(behind).is_some_and(|word| matches!(&*word.1, "of" | "times"));
    (first > leads).then_some(first - leads..behind + usize::from(goes_on))
}

/// Whether a word that ends at `end` denies.
fn denies(word: &str, text: &str, end: usize) -> bool {
    matches!(word, "not" | "never" | "no" | "cannot")
        || word.ends_with("n't")
        || word.ends_with('n') && text[end..].starts_with("’t")
}

/// What is left of a word that denies: of `isn't`, `be`.
fn denied_of(word: &str) -> &str {
    match word.strip_suffix("n't").or_else(|| word.strip_suffix('n')).unwrap_or(word) {
        "not" | "never" | "no" => "",
        "ca" | "cannot" => "can",
        "wo" => "will",
        rest => same(rest),
    }
}

/// One word for all forms of the small verbs.
fn same(word: &str) -> &str {
    match word {
        "is" | "are" | "am" | "been" | "being" => "be",
        "has" | "had" => "have",
        _ => word,
    }
}
