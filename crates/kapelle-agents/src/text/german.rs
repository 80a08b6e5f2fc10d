//! German verbs: one stem for what the stemmer of the language leaves apart, as `wechsle`, `wechselt` and
//! `gewechselt`.
//!
//! **Absent on purpose:** verbs that change their vowel (`halten`, `hält`): that takes a dictionary.

use std::borrow::Cow;

/// Prefixes that a verb parts with; the longer of two that begin alike is first.
const PREFIXES: [&str; 22] = [
    "zusammen", "zurück", "heraus", "herunter", "hinzu", "weiter", "wieder", "durch", "über",
    "unter", "nach", "fest", "frei", "aus", "auf", "ein", "mit", "vor", "weg", "ab", "an", "um",
];
/// The fewest letters that may be left.
const LEFT_MIN: usize = 4;

/// A participle or an infinitive with `zu`, in small letters, without what stands before its verb.
fn bare(word: &str) -> Cow<'_, str> {
    let split = PREFIXES.iter().find_map(|prefix| Some((*prefix, word.strip_prefix(prefix)?)));
    let (prefix, verb) = split.unwrap_or(("", word));
    let participle = |verb: &&str| verb.ends_with('t') && is_left(verb);
    let infinitive = |verb: &&str| verb.ends_with('n') && !prefix.is_empty();
    let bare = verb.strip_prefix("ge").filter(participle);
    match bare.or_else(|| verb.strip_prefix("zu").filter(infinitive)) {
        Some(verb) => format!("{prefix}{verb}").into(),
        None => word.into(),
    }
}

/// The stem that all forms of a verb have; `stem` is the stemmer of the language.
pub(super) fn stemmed(word: &str, stem: impl Fn(&str) -> String) -> String {
    let bare = bare(word);
    let first = stem(&bare);
    let mut root = first.as_str();
    while let Some(rest) =
        root.strip_suffix("et").or_else(|| root.strip_suffix('t')).filter(|rest| is_left(rest))
    {
        root = rest;
    }
    let last = if root == first { root.to_owned() } else { stem(root) };
    let root = last.strip_suffix('n').filter(|rest| rest.ends_with("el")).unwrap_or(&last);
    match root.strip_suffix("el").filter(|rest| is_left(rest)) {
        Some(rest) => format!("{rest}l"),
        None => root.to_owned(),
    }
}

fn is_left(root: &str) -> bool {
    root.chars().count() >= LEFT_MIN
}
