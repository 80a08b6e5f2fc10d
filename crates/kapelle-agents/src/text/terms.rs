//! Terms: the stems of the words of several texts, as numbers.
//!
//! **Invariant:** two words have one number if and only if their stems are the same. A word is
//! stemmed once and looked up from then on, which is what makes reading a megabyte cheap.

use foldhash::{HashMap, HashMapExt as _};
use rust_stemmers::Stemmer;

use super::german;
use super::language::Language;
use super::stop;
use super::words::words;

/// The longest word, in bytes, that is stemmed; longer ones are no words.
const STEMMED_MAX: usize = 40;

/// The number of a stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Term(pub(crate) u32);

/// All stems seen so far.
#[derive(Default)]
pub(crate) struct Terms {
    numbers: HashMap<Box<str>, Term>,
    stems: Vec<Box<str>>,
    seen: Vec<(Language, Seen)>,
    lower: String,
}

/// The words of one language, as they were written, and their terms; `None` for small words.
struct Seen {
    stemmer: Option<Stemmer>,
    words: HashMap<Box<str>, Option<Term>>,
}

impl Terms {
    /// The terms of `text`, in order, without its small words.
    pub(crate) fn of(&mut self, text: &str, language: Language) -> Vec<Term> {
        let seen = self.seen(language);
        words(text).filter_map(|(_, word)| self.term_in(seen, word)).collect()
    }

    /// The term of one word; `None` for a small one.
    pub(crate) fn term(&mut self, word: &str, language: Language) -> Option<Term> {
        let seen = self.seen(language);
        self.term_in(seen, word)
    }

    /// The stem of a term.
    pub(crate) fn stem(&self, term: Term) -> &str {
        self.stems.get(term.0 as usize).map_or("", AsRef::as_ref)
    }

    /// The term of what is a stem already.
    pub(crate) fn stemmed(&mut self, stem: &str) -> Term {
        if let Some(number) = self.numbers.get(stem) {
            return *number;
        }
        let number = Term(u32::try_from(self.stems.len()).unwrap_or(u32::MAX));
        self.stems.push(stem.into());
        self.numbers.insert(stem.into(), number);
        number
    }

    fn seen(&mut self, language: Language) -> usize {
        if let Some(index) = self.seen.iter().position(|seen| seen.0 == language) {
            return index;
        }
        let stemmer = language.algorithm().map(Stemmer::create);
        self.seen.push((language, Seen { stemmer, words: HashMap::new() }));
        self.seen.len() - 1
    }

    fn term_in(&mut self, seen: usize, word: &str) -> Option<Term> {
        if let Some(known) = self.seen[seen].1.words.get(word) {
            return *known;
        }
        let term = self.learn(seen, word);
        self.seen[seen].1.words.insert(word.into(), term);
        term
    }

    fn learn(&mut self, seen: usize, word: &str) -> Option<Term> {
        let (language, kept) = &self.seen[seen];
        self.lower.clear();
        self.lower.extend(word.chars().flat_map(char::to_lowercase));
        let lower = self.lower.strip_suffix("'s").unwrap_or(&self.lower);
        if stop::is_stop(language.code(), lower) {
            return None;
        }
        let stem = match &kept.stemmer {
            Some(stemmer) if lower.len() <= STEMMED_MAX && language.code() == "de" => {
                german::stemmed(lower, |word| stemmer.stem(word).into_owned())
            }
            Some(stemmer) if lower.len() <= STEMMED_MAX => stemmer.stem(lower).into_owned(),
            _ => lower.to_owned(),
        };
        Some(self.stemmed(&stem))
    }
}
