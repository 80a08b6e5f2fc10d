//! Yes and no: whether a sentence says that something is supported, required, allowed or turned on.
//!
//! **Invariant:** who denies it says no, however many words stand between, and is quoted with the word
//! that denies: `not yet supported`. A version or a number behind a name says what is meant: that
//! `Python 3.8` is supported is no number.

use std::ops::Range;

use super::value::{Dimension, Found, Question, Value};
use crate::text::words;

/// How many words before a yes one that denies it may stand.
const DENIED_WITHIN: usize = 5;
/// Words and marks that end the reach of a word that denies.
const ENDS: [&str; 6] = ["but", "and", "although", "because", "while", "so"];
const MARKS: [char; 3] = [',', ';', ':'];
/// What may stand between a word that denies and the one denied where both are quoted as they stand.
const BETWEEN: [&str; 14] = [
    "t", "yet", "longer", "any", "be", "been", "being", "still", "always", "turned", "switched",
    "even", "at", "all",
];
/// Words before a number that are no name of a thing.
const NO_NAMES: [&str; 16] = [
    "only", "about", "some", "over", "under", "exactly", "nearly", "almost", "just", "all", "each",
    "every", "these", "those", "around", "the",
];

type Word = (Range<usize>, String);

/// The yes or no of a sentence.
pub(super) fn flag(text: &str) -> Option<Found> {
    let words: Vec<Word> = words(text).map(|(range, word)| (range, word.to_lowercase())).collect();
    let at = |index: usize| words.get(index).map_or("", |word| &*word.1);
    for (index, (range, word)) in words.iter().enumerate() {
        let before = if index == 0 { "" } else { at(index - 1) };
        let is = matches!(before, "is" | "are" | "turned" | "switched" | "be" | "always");
        let stands =
            is || matches!(before, "not" | "longer" | "yet" | "t") || before.ends_with("n't");
        let (yes, question) = match &**word {
            "enabled" | "active" => (true, Question::Enabled),
            "disabled" | "inactive" => (false, Question::Enabled),
            "on" if stands && !followed(&words, index) => (true, Question::Enabled),
            "off" if stands => (false, Question::Enabled),
            "supported" | "supports" | "support" => (true, Question::Supported),
            "unsupported" => (false, Question::Supported),
            "required" | "mandatory" if stands => (true, Question::Required),
            "optional" if stands => (false, Question::Required),
            "allowed" | "permitted" => (true, Question::Allowed),
            "forbidden" | "prohibited" => (false, Question::Allowed),
            _ => continue,
        };
        let denied = denial(text, &words[..index]).is_some();
        return Some(Found { value: Value::Flag(yes != denied, question), range: range.clone() });
    }
    None
}

/// A value as its sentence has it; a yes with the words that deny it.
pub(super) fn written(text: &str, found: &Found) -> Box<str> {
    let value = &text[found.range.clone()];
    let before: Vec<Word> = words(&text[..found.range.start])
        .map(|(range, word)| (range, word.to_lowercase()))
        .collect();
    let denial = matches!(found.value, Value::Flag(..)).then(|| denial(text, &before)).flatten();
    let Some(at) = denial else { return value.into() };
    let is_small = |(_, word): &Word| BETWEEN.contains(&&**word) || word.ends_with("ly");
    if !before[at + 1..].iter().all(is_small) {
        return format!("{} … {value}", &text[before[at].0.clone()]).into();
    }
    let helps = at > 0 && matches!(&*before[at - 1].1, "do" | "does" | "did");
    text[before[at - usize::from(helps)].0.start..found.range.end].into()
}

/// Whether what is denied or not is said of what `all` numbers name, so that none of them is a claim.
pub(super) fn is_of_names(text: &str, flag: &Found, all: &[Found]) -> bool {
    let asks = match flag.value {
        Value::Flag(yes, Question::Required) => !yes,
        Value::Flag(_, Question::First | Question::So) => false,
        Value::Flag(..) => true,
        Value::Quantity(..) | Value::Version(_) | Value::Date { .. } => false,
    };
    asks && !all.is_empty() && all.iter().all(|found| is_name(text, found))
}

/// Whether a version or a date says since when: what it is today does not hang on it.
pub(super) fn begins(text: &str, found: &Found) -> bool {
    let last = words(&text[..found.range.start]).map(|(_, word)| word.to_lowercase());
    let last = last.filter(|word| word != "version").last();
    last.is_some_and(|word| matches!(&*word, "since" | "from"))
}

/// Whether a value is a part of a name, as in `Windows 11`, or says since when.
fn is_name(text: &str, found: &Found) -> bool {
    match found.value {
        Value::Version(_) | Value::Date { .. } => true,
        Value::Quantity(_, Dimension::Count) => {
            let last = words(&text[..found.range.start]).last();
            last.is_some_and(|(range, word)| {
                range.end + 1 == found.range.start
                    && word.starts_with(char::is_uppercase)
                    && !NO_NAMES.contains(&&*word.to_lowercase())
            })
        }
        Value::Quantity(..) | Value::Flag(..) => false,
    }
}

/// The place among the words `before` a yes of the one that denies it.
fn denial(text: &str, before: &[Word]) -> Option<usize> {
    let next = |at: usize| before.get(at + 1).map_or("", |word| &*word.1);
    for (at, (range, word)) in before.iter().enumerate().rev().take(DENIED_WITHIN) {
        let behind = before.get(at + 1).map_or(range.end, |next| next.0.start);
        let gap = text.get(range.end..behind).unwrap_or_default();
        if ENDS.contains(&&**word) || gap.contains(MARKS) {
            return None;
        }
        let denies = match &**word {
            "not" => next(at) != "only",
            "without" => at + 2 >= before.len(),
            "no" | "never" | "cannot" | "neither" | "nor" => true,
            _ => {
                word.ends_with("n't") || word.ends_with('n') && text[range.end..].starts_with("’t")
            }
        };
        if denies {
            return Some(at);
        }
    }
    None
}

/// Whether a thing follows: `is on the disk` says where, `is on by default` says that it is.
fn followed(words: &[Word], index: usize) -> bool {
    words
        .get(index + 1)
        .is_some_and(|next| !matches!(&*next.1, "by" | "unless" | "when" | "if" | "and"))
}
