//! What is asked for by `What happens if a worker is silent?`: whom something happens to, and how a page
//! says that.
//!
//! Who is silent, idle or gone has seldom that word in a page; it says what is not done: `a worker that
//! has not …`, `a worker without …`.

use crate::rules::asked::Way;
use crate::text::{Term, Terms, words};

/// Words for who does nothing or is not there, as stems.
const ABSENT: [&str; 10] =
    ["silent", "quiet", "idl", "dead", "miss", "absent", "gone", "offlin", "unreach", "stuck"];
/// How soon behind its subject a text denies something of it, in words.
const DENIED_WITHIN: usize = 4;
/// Words that begin whom or when something happens to.
const CLAUSES: [&str; 10] =
    ["that", "which", "who", "if", "when", "whenever", "once", "wenn", "falls", "sobald"];

/// What is asked to happen.
pub(super) struct Event {
    /// For each page, whom it happens to, and its stem.
    subjects: Vec<Option<(Term, Box<str>)>>,
    /// The words of [`ABSENT`] that are asked.
    absent: Vec<Term>,
}

impl Event {
    /// What a question asks that has the words `asked` of each page, if it asks that way; `light` are words
    /// that are no subject.
    pub(super) fn of(
        question: &str,
        asked: &[Vec<Term>],
        light: &[Term],
        terms: &Terms,
    ) -> Option<Self> {
        let subject = |asked: &Vec<Term>| {
            let subject = asked.iter().find(|term| !light.contains(term))?;
            Some((*subject, terms.stem(*subject).into()))
        };
        let mut absent: Vec<Term> = asked.iter().flatten().copied().collect();
        absent.retain(|term| ABSENT.contains(&terms.stem(*term)));
        let subjects = asked.iter().map(subject).collect();
        (Way::of(question) == Way::Event).then_some(Self { subjects, absent })
    }

    /// Whether what is `said` in a page names whom it happens to: no other's fate is an answer.
    pub(super) fn is_of(&self, page: usize, said: &[Term]) -> bool {
        self.subjects[page].as_ref().is_none_or(|(subject, _)| said.contains(subject))
    }

    /// Whether a text says that somebody is absent by what it denies of it.
    pub(super) fn denies(&self, page: usize, text: &str) -> bool {
        let Some((_, stem)) = &self.subjects[page] else { return false };
        let all: Vec<String> = words(text).map(|(_, word)| word.to_lowercase()).collect();
        let mut subjects = all.iter().enumerate().filter(|(_, word)| word.starts_with(&**stem));
        !self.absent.is_empty()
            && subjects.any(|(at, _)| all[at + 1..].iter().take(DENIED_WITHIN).any(denies))
    }

    /// Whether a term of the question may be said by denying something.
    pub(super) fn is_absence(&self, term: Term) -> bool {
        self.absent.contains(&term)
    }
}

/// Whether a text says whom or when something happens to.
pub(super) fn has_clause(text: &str) -> bool {
    words(text).any(|(_, word)| CLAUSES.contains(&&*word.to_lowercase()))
}

fn denies(word: &String) -> bool {
    matches!(&**word, "not" | "no" | "never" | "without" | "nicht" | "kein" | "keine")
        || word.ends_with("n't")
}
