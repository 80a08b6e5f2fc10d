//! What a claim is about: the telling words of its clause, and the conditions it holds under.
//!
//! **Invariant:** words that say the same are one word (`maximum`, `at most`, `limit`); words that
//! every claim has (`set`, `use`, `value`) are none.

use std::ops::Range;

use crate::text::{Language, Term, Terms, words};

/// Ways to say one thing; the first stands for all. Stems, as English is stemmed.
const SAME: [&[&str]; 16] = [
    &["max", "maximum", "maxim", "limit", "upper", "most", "exceed", "cap", "allow", "largest"],
    &["min", "minimum", "minim", "least"],
    &["default", "standard", "preset"],
    &["lifetim", "expir", "valid", "ttl", "last", "live", "expiri"],
    &["keep", "kept", "retain", "retent", "preserv", "store", "delet", "remov", "purg", "discard"],
    &["requir", "need"],
    &["releas", "publish", "launch", "ship"],
    &["memori", "ram"],
    &["retri", "attempt", "tri", "time-tri"],
    &["interv", "everi", "frequenc", "often", "period"],
    &["cost", "price"],
    &["folder", "directori"],
    &["begin", "start"],
    &["size", "larg", "big", "bigger", "larger"],
    &["height", "tall", "high"],
    &["length", "long"],
];

/// Words that tell nothing about which thing is meant; stems.
const EMPTY: &[&str] = &[
    "taken", "made", "done", "written", "box", "bind", "expos", "otherwis", "use", "run", "listen",
    "set", "take", "make", "get", "come", "valu", "number", "amount", "configur", "option",
    "paramet", "newer", "later", "abov", "higher", "onc", "onli", "alway", "usual", "normal",
    "current", "now", "must", "each", "per", "up", "equal", "total", "open", "accept", "wait",
    "give", "given", "contain", "hold", "provid", "exact", "work", "after", "within", "over",
    "under", "whole", "by", "yet", "longer", "sinc", "still", "alreadi", "fulli", "full", "offici",
];

/// Things that a text says and means itself by: they tell only what another says of another thing.
const ITSELF: [&str; 12] = [
    "broker", "server", "servic", "system", "applic", "app", "tool", "program", "softwar",
    "product", "daemon", "user",
];

/// Conditions that exclude each other: two claims must have the same of each row; stems.
const EXCLUSIVE: [&[&str]; 12] = [
    &["max", "min", "recommend", "averag", "typic"],
    &["linux", "window", "maco", "mac", "android", "io"],
    &["develop", "stage", "test"],
    &["http", "https", "grpc", "ftp", "ssh", "tls"],
    &["read", "write"],
    &["client", "server"],
    &["request", "respons"],
    &["input", "output"],
    &["upload", "download"],
    &["free", "pro", "enterpris", "premium", "basic"],
    &["connect", "idl", "soft", "hard"],
    &["first", "second", "third", "initi", "final"],
];

/// Words that begin a condition, which goes to the next comma.
pub(super) const CONDITION: [&str; 9] =
    ["if", "when", "unless", "during", "without", "except", "instead", "behind", "whenever"];

/// Words that a sentence's subject stands before.
const VERBS: [&str; 44] = [
    "is", "are", "was", "were", "has", "have", "had", "can", "cannot", "may", "must", "will",
    "should", "does", "do", "listens", "uses", "takes", "runs", "waits", "keeps", "holds",
    "stores", "expires", "expire", "lasts", "requires", "require", "needs", "need", "supports",
    "support", "allows", "accepts", "defaults", "stops", "starts", "retries", "costs", "weighs",
    "stands", "contains", "limits", "sends",
];

/// A telling word and where it is.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) term: Term,
    /// As it is written, in small letters.
    pub(super) word: Box<str>,
    pub(super) range: Range<usize>,
    pub(super) is_subject: bool,
    pub(super) is_itself: bool,
}

/// What a claim is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(super) said: Vec<Said>,
    /// The words of the conditions, sorted.
    pub(super) conditions: Vec<Term>,
    /// Which of the words exclude others, sorted.
    pub(super) exclusive: Vec<(usize, Term)>,
}

impl About {
    /// What the words of `text` outside `value` are about.
    pub(super) fn of(
        text: &str,
        value: &Range<usize>,
        language: Language,
        terms: &mut Terms,
    ) -> Self {
        let mut about = Self::default();
        let mut subject = true;
        let mut conditional: Option<usize> = None;
        for (range, word) in words(text) {
            if range.start < value.end && value.start < range.end {
                subject = false;
                continue;
            }
            let lower = word.to_lowercase();
            conditional = conditional.filter(|from| !text[*from..range.start].contains(','));
            if CONDITION.contains(&&*lower) {
                conditional = Some(range.end);
                continue;
            }
            if VERBS.contains(&&*lower) && conditional.is_none() {
                subject = false;
            }
            // `every 6 hours` is an interval, `every server` are all of them.
            if &*lower == "every" && range.end + 1 != value.start {
                continue;
            }
            // `Isn't` is a verb and a word that denies, with either apostrophe.
            if lower.ends_with("n't") || text[range.end..].starts_with("’t") {
                continue;
            }
            let Some((stem, term)) = telling(&lower, language, terms) else { continue };
            if conditional.is_some() {
                about.conditions.push(term);
                continue;
            }
            let is_itself = ITSELF.contains(&&*stem);
            if let Some(row) = EXCLUSIVE.iter().position(|row| row.contains(&&*stem)) {
                // A server that speaks of the server excludes nothing.
                about.exclusive.extend((!is_itself).then_some((row, term)));
            }
            about.said.push(Said {
                term,
                word: lower.into(),
                range,
                is_subject: subject,
                is_itself,
            });
        }
        about.conditions.sort_unstable();
        about.conditions.dedup();
        about.exclusive.sort_unstable();
        about.exclusive.dedup();
        about
    }

    /// Adds the words of `other`, where this has too few of its own.
    pub(super) fn borrow(&mut self, other: &Self) {
        for said in &other.said {
            if !self.said.iter().any(|own| own.term == said.term) {
                // Where it stood is in another clause: it stands beside nothing of this one.
                self.said.push(Said { range: 0..0, ..said.clone() });
            }
        }
        self.exclusive.extend(&other.exclusive);
        self.exclusive.sort_unstable();
        self.exclusive.dedup();
    }

    /// Adds a condition.
    pub(super) fn hold_only(&mut self, term: Term) {
        self.conditions.push(term);
        self.conditions.sort_unstable();
    }

    /// Whether the word `term` is in it.
    pub(super) fn says(&self, term: Term) -> bool {
        self.said.iter().any(|said| said.term == term)
    }
}

/// The stem that stands for a word and its number; `None` where it tells nothing.
fn telling(lower: &str, language: Language, terms: &mut Terms) -> Option<(Box<str>, Term)> {
    if lower.bytes().all(|byte| byte.is_ascii_digit()) || lower.chars().nth(1).is_none() {
        return None;
    }
    let term = terms.term(lower, language)?;
    let stem: Box<str> = terms.stem(term).into();
    let first = SAME.iter().find(|same| same.contains(&&*stem)).map(|same| same[0]);
    if EMPTY.contains(&&*stem) {
        return None;
    }
    match first {
        Some(first) if *first != *stem => {
            let term = terms.stemmed(first);
            Some((first.into(), term))
        }
        _ => Some((stem, term)),
    }
}
