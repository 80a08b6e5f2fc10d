//! What kind of answer a question wants, by how it begins.
//!
//! **Invariant:** the words of the question are read and nothing else; a question that none of the
//! ways here knows wants any answer.

use super::claims::Dimension;
use crate::text::{Language, Term, Terms, words};

/// What would answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A way to do it.
    How,
    /// A number, a size or a time.
    Number,
    /// What comes of something: `What happens if …?`
    Event,
    /// Anything.
    Any,
}

/// Words that ask for a way, and words behind them that ask for a number instead.
const HOWS: [&str; 9] =
    ["how", "howto", "wie", "comment", "cómo", "como", "come", "hoe", "combien"];
const NUMBERS: [&str; 26] = [
    "long", "many", "much", "often", "large", "big", "small", "old", "fast", "slow", "far", "high",
    "low", "lange", "viel", "viele", "oft", "groß", "hoch", "schnell", "alt", "weit", "cuánto",
    "combien", "quando", "quanto",
];

/// Words that ask for one of several, and what has numbers, if it is not far behind.
const WHICH: [&str; 9] =
    ["which", "what", "was", "welche", "welcher", "welches", "quel", "quelle", "qué"];
const NUMBERED: [&str; 20] = [
    "port",
    "ports",
    "version",
    "versions",
    "release",
    "number",
    "limit",
    "size",
    "timeout",
    "date",
    "year",
    "price",
    "percentage",
    "rate",
    "puerto",
    "versión",
    "nummer",
    "grenze",
    "größe",
    "datum",
];
const WHICH_NEAR: usize = 4;

/// Words that ask for something else each.
const ASKING: [&str; 27] = [
    "what", "why", "where", "when", "who", "which", "was", "warum", "wieso", "wo", "wann", "wer",
    "welche", "welcher", "welches", "que", "quoi", "pourquoi", "où", "quand", "qui", "qué",
    "dónde", "cuándo", "quién", "perché", "dove",
];

/// The word that a question begins with, if it says what is asked for.
pub(super) fn asking(question: &str) -> Option<&'static str> {
    let first = words(question).next()?.1.to_lowercase();
    ASKING.into_iter().find(|word| *word == first)
}

/// What a number that is asked for measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Time,
    Size,
}

/// What the number measures that `question` asks for, where its words say so.
pub(super) fn measure(question: &str) -> Option<Measure> {
    let said: Vec<String> = words(question).map(|(_, word)| word.to_lowercase()).collect();
    let behind = said.windows(2).find(|pair| HOWS.contains(&&*pair[0])).map(|pair| &*pair[1])?;
    match behind {
        "long" | "often" | "old" | "lange" | "oft" | "alt" => Some(Measure::Time),
        "large" | "big" | "groß" => Some(Measure::Size),
        _ => None,
    }
}

impl Measure {
    /// What a page calls it that does not ask, in words that only such a page has.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Time => "",
            Self::Size => "maximum size",
        }
    }

    pub(super) fn dimension(self) -> Dimension {
        match self {
            Self::Time => Dimension::Seconds,
            Self::Size => Dimension::Bytes,
        }
    }

    /// Whether `text` has a word for it.
    pub(super) fn is_named(self, text: &str) -> bool {
        const TIMES: [&str; 4] = ["duration", "interval", "period", "retention"];
        const SIZES: [&str; 7] =
            ["size", "largest", "maximum", "most", "limit", "larger", "exceed"];
        let names: &[&str] = match self {
            Self::Time => &TIMES,
            Self::Size => &SIZES,
        };
        words(text).any(|(_, word)| names.contains(&&*word.to_lowercase()))
    }
}

impl Way {
    /// The way that `question` asks in.
    pub(super) fn of(question: &str) -> Self {
        let said: Vec<String> = words(question).map(|(_, word)| word.to_lowercase()).collect();
        let is =
            |list: &[&str], at: usize| said.get(at).is_some_and(|word| list.contains(&&**word));
        let asks = (0..said.len()).find(|at| is(&HOWS, *at));
        let happens = ["happens", "happen", "happened", "passiert", "geschieht"];
        match asks {
            _ if is(&WHICH, 0) && (1..=2).any(|at| is(&happens, at)) => Self::Event,
            Some(at) if is(&NUMBERS, at) || is(&NUMBERS, at + 1) => Self::Number,
            Some(_) => Self::How,
            None if is(&["when", "wann", "quand", "cuándo", "quando"], 0) => Self::Number,
            None if is(&WHICH, 0) && (1..=WHICH_NEAR).any(|at| is(&NUMBERED, at)) => Self::Number,
            None => Self::Any,
        }
    }
}

/// The words of `question` in its order, stemmed, without the one that says which number is wanted.
pub(super) fn asked(question: &str, language: Language, terms: &mut Terms) -> Vec<Term> {
    let mut found = Vec::new();
    let mut before = String::new();
    for (_, word) in words(question) {
        let lower = word.to_lowercase();
        let measure = HOWS.contains(&&*before) && NUMBERS.contains(&&*lower);
        if let Some(term) = terms.term(word, language)
            && !measure
            && !HOWS.contains(&&*lower)
            && !found.contains(&term)
        {
            found.push(term);
        }
        before = lower;
    }
    found
}
