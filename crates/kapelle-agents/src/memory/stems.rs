//! The words of a text as they are searched for: stems, without small words.

use std::collections::HashSet;

use crate::text::{Language, Terms};

/// How many words of a query are looked for.
const WORDS_MAX: usize = 64;

/// A text read for its words.
pub(super) struct Stems {
    pub(super) language: Language,
    /// In the text's order, as often as they are there.
    pub(super) all: Vec<String>,
}

impl Stems {
    /// Those of `text`, in the language it is said to be in, or else seems to be.
    pub(super) fn of(text: &str, language: Option<&str>, terms: &mut Terms) -> Self {
        let language = Language::of(language, text);
        let found = terms.of(text, language);
        Self { language, all: found.into_iter().map(|term| terms.stem(term).to_owned()).collect() }
    }

    /// Those of a query, each once: in its own language, which few words do not tell for certain,
    /// and in those of the texts that are searched.
    pub(super) fn of_query(query: &str, languages: &[Language]) -> Vec<String> {
        let mut terms = Terms::default();
        let mut seen = HashSet::new();
        let own = Language::detect(query);
        let all = std::iter::once(&own).chain(languages.iter().filter(|other| **other != own));
        let stems = all.flat_map(|language| {
            let found = terms.of(query, *language);
            found.into_iter().map(|term| terms.stem(term).to_owned()).collect::<Vec<_>>()
        });
        stems.filter(|stem| seen.insert(stem.clone())).take(WORDS_MAX).collect()
    }
}
