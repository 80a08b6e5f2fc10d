//! How well a sentence answers a question.
//!
//! It has much of the question, by itself or with its heading, and has it side by side; it has what is
//! asked for, a number of the right kind or an instruction; it needs no sentence before it. What the
//! question has numbers of, such as a version, is no word of it but a condition: a sentence has it, or
//! what stands around it has, or it speaks of another.

use std::collections::HashMap;

use super::event::{Event, has_clause};
use crate::rules::asked::{Measure, Way, asked, measure};
use crate::rules::choose::Candidate;
use crate::rules::claims::measured;
use crate::rules::document::Page;
use crate::rules::guide::is_told;
use crate::rules::rank::Ranked;
use crate::text::{Term, Terms, plain, words};

/// What a word of the question counts that only the heading has.
const IN_HEADING: f32 = 0.5;
/// What words side by side count, beside having them at all.
const TOGETHER: f32 = 0.5;
/// What a number counts where one is asked for, and an instruction where a way is.
const EXPECTED: f32 = 0.3;
/// What a number of another kind counts, and what it costs to have none.
const ANY_NUMBER: f32 = 0.1;
const NO_NUMBER: f32 = -0.8;
/// What it costs to have several, of which a reader has to find the one that was asked for.
const SEVERAL: f32 = -0.1;
/// What a word counts that says of a number what it measures, or that nobody has chosen it.
const MEASURED: f32 = 0.15;
/// What share of the question an answer has, with its heading.
const ENOUGH: f32 = 0.45;
/// What share of the question a text must have to be more on it.
const MUCH: f32 = 0.6;
/// What is left of the weight of a word that every question may have, as a stem.
const LIGHT: f32 = 0.25;
const LIGHT_WORDS: [&str; 3] = ["use", "happen", "passiert"];
/// What is left of a sentence that goes on from the one before.
const LEANS: f32 = 0.5;
/// What is left where a number of the question stands around a sentence, nowhere near, or where there is
/// another one in its place.
const AROUND: f32 = 0.9;
const NOWHERE: f32 = 0.6;
const ANOTHER: f32 = 0.4;

/// What a sentence is measured by.
pub(super) struct Scale {
    way: Way,
    measure: Option<Measure>,
    /// The words of the question, in its order, as each page's language stems them.
    asked: Vec<Vec<Term>>,
    /// Those that are names, as they are written.
    names: Vec<Vec<(Term, Box<str>)>>,
    /// Those that tell one thing from its like, letters and digits in one word: all of them have to be said.
    marks: Vec<Vec<Term>>,
    /// How rare each is among the passages.
    weights: HashMap<Term, f32>,
    conditions: Vec<Condition>,
    event: Option<Event>,
}

/// A number of the question, and the word that it stands behind.
struct Condition {
    of: String,
    number: String,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "there are few passages")]
    pub(super) fn of(
        question: &str,
        near: &[Ranked],
        pages: &[Page<'_>],
        terms: &mut Terms,
    ) -> Self {
        let (bare, conditions) = taken_apart(question);
        let mut asked_of = |page: &Page<'_>| {
            let bare = asked(&bare, page.language, terms);
            if bare.is_empty() { asked(question, page.language, terms) } else { bare }
        };
        let asked: Vec<Vec<Term>> = pages.iter().map(&mut asked_of).collect();
        let mut light: Vec<Term> = asked.iter().flatten().copied().collect();
        light.retain(|term| LIGHT_WORDS.contains(&terms.stem(*term)));
        let event = Event::of(question, &asked, &light, terms);
        let mut weights = HashMap::new();
        for term in asked.iter().flatten() {
            let among = near.iter().filter(|one| one.terms.contains(term)).count() as f32;
            let left = if light.contains(term) { LIGHT } else { 1.0 };
            weights.insert(*term, left * (1.0 + near.len() as f32 / (among + 1.0)).ln());
        }
        let names = pages.iter().map(|page| names(question, page, terms)).collect();
        let marked = |word: &&str| {
            let has = |of: fn(&char) -> bool| word.chars().any(|letter| of(&letter));
            has(char::is_ascii_digit) && has(|letter| letter.is_alphabetic())
        };
        let marked: Vec<&str> = words(&bare).map(|(_, word)| word).filter(marked).collect();
        let marks = |page: &Page<'_>| {
            marked.iter().filter_map(|word| terms.term(word, page.language)).collect()
        };
        let marks = pages.iter().map(marks).collect();
        let (way, measure) = (Way::of(question), measure(question));
        Self { way, measure, asked, names, marks, weights, conditions, event }
    }

    /// Whether a line has all words of the question, which are several.
    pub(super) fn has_all(&self, line: &Candidate) -> bool {
        let asked = &self.asked[line.page];
        asked.len() > 1 && asked.iter().all(|term| line.terms.contains(term))
    }

    /// How well `one`, which is in the passage `near`, answers: about 1 if it has all of the question, 0 if it
    /// is about something else.
    pub(super) fn score(
        &self,
        one: &Candidate,
        near: &Ranked,
        pages: &[Page<'_>],
        terms: &mut Terms,
    ) -> f32 {
        let page = &pages[one.page];
        let text = &page.text[one.range.clone()];
        let heading = near.passage.heading.clone().map_or("", |range| &page.text[range]);
        let mut above = terms.of(heading, page.language);
        let said = [&above[..], &one.terms].concat();
        if !self.is_about(one.page, &said, &format!("{heading} {text}")) {
            return 0.0;
        }
        above.retain(|term| !one.terms.contains(term));
        let covered = self.covered(one.page, &one.terms, text)
            + IN_HEADING * self.covered(one.page, &above, heading);
        let stands = if one.leans { LEANS } else { 1.0 };
        let meets = self.meets(text, &[&page.text[near.passage.range.clone()], heading]);
        let beside = TOGETHER * together(&self.asked[one.page], &one.terms);
        stands * meets * covered * (1.0 + beside + self.expected(text, page))
    }

    /// Which share of the question is among `said`, the terms of a `text` of a page.
    fn covered(&self, page: usize, said: &[Term], text: &str) -> f32 {
        let weight = |term: &Term| self.weights.get(term).copied().unwrap_or(0.0);
        let all: f32 = self.asked[page].iter().map(weight).sum();
        let named = |term: &Term| {
            let name = self.names[page].iter().find(|(name, _)| name == term);
            name.is_none_or(|(_, written)| text.contains(&**written))
        };
        let denied = self.event.as_ref().filter(|event| event.denies(page, text));
        let is_said = |term: &&Term| {
            said.contains(term) && named(term)
                || denied.is_some_and(|event| event.is_absence(**term))
        };
        let said: f32 = self.asked[page].iter().filter(is_said).map(weight).sum();
        if all > 0.0 { said / all } else { 0.0 }
    }

    /// Whether what is `said` in a `text`, a sentence with its heading, has enough of the question to be about
    /// it: one word in common with it is no answer.
    fn is_about(&self, page: usize, said: &[Term], text: &str) -> bool {
        self.marks[page].iter().all(|mark| said.contains(mark))
            && self.event.as_ref().is_none_or(|event| event.is_of(page, said))
            && self.covered(page, said, text) >= ENOUGH
    }

    /// Whether a text of a page has most of the question, and a number where one is asked for.
    pub(super) fn is_much(&self, text: &str, index: usize, page: &Page<'_>, said: &[Term]) -> bool {
        let is_asked = self.way != Way::Number || self.expected(text, page) > 0.0;
        is_asked && self.covered(index, said, text) >= MUCH
    }

    /// What a sentence gains by what is expected of an answer, or loses without it.
    fn expected(&self, text: &str, page: &Page<'_>) -> f32 {
        let told = || is_told(&plain(text), page.language.code()) || names_means(text);
        let asked = |word: &str| self.conditions.iter().any(|one| one.is(word));
        match self.way {
            Way::Any => 0.0,
            Way::How if told() => EXPECTED,
            Way::Event if has_clause(text) => EXPECTED,
            Way::How | Way::Event => 0.0,
            Way::Number => {
                let dimension = self.measure.map(Measure::dimension);
                let number = match measured(text, dimension, asked) {
                    0 if measured(text, None, asked) == 0 => NO_NUMBER,
                    0 => ANY_NUMBER,
                    1 => EXPECTED,
                    _ => EXPECTED + SEVERAL,
                };
                let measures = self.measure.is_some_and(|measure| measure.is_named(text));
                number + if measures || text.contains("default") { MEASURED } else { 0.0 }
            }
        }
    }

    /// What is left of a sentence by the numbers of the question, with what is `around` it.
    fn meets(&self, text: &str, around: &[&str]) -> f32 {
        let left = |one: &Condition| match () {
            () if one.is_met(text) => 1.0,
            () if one.is_another(text) => ANOTHER,
            () if around.iter().any(|text| one.is_met(text)) => AROUND,
            () => NOWHERE,
        };
        self.conditions.iter().map(left).product()
    }
}

impl Condition {
    fn is_met(&self, text: &str) -> bool {
        words(text).any(|(_, word)| self.is(word))
    }

    /// Whether `3.8` is said where `3` is asked for, or the other way round.
    fn is(&self, word: &str) -> bool {
        let word = word.trim_start_matches('v');
        let within = |whole: &str, part: &str| {
            whole.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        within(word, &self.number) || word.contains('.') && within(&self.number, word)
    }

    /// Whether another number stands behind the same word.
    fn is_another(&self, text: &str) -> bool {
        let all: Vec<&str> = words(text).map(|(_, word)| word).collect();
        let other = |pair: &[&str]| {
            pair[0].eq_ignore_ascii_case(&self.of)
                && pair[1].starts_with(|c: char| c.is_ascii_digit())
        };
        all.windows(2).any(other)
    }
}

/// The words of a question without its numbers and what only leads to them, and those numbers.
fn taken_apart(question: &str) -> (String, Vec<Condition>) {
    let all: Vec<&str> = words(question).map(|(_, word)| word).collect();
    let digits = |word: &str| {
        let bare = word.strip_prefix('v').unwrap_or(word);
        bare.starts_with(|c: char| c.is_ascii_digit()) && !bare.contains(char::is_alphabetic)
    };
    let (mut bare, mut conditions) = (Vec::new(), Vec::new());
    for (at, word) in all.iter().enumerate() {
        let of = at.checked_sub(1).map_or("", |before| all[before]).to_lowercase();
        if digits(word) {
            let number = word.trim_start_matches('v').to_owned();
            conditions.push(Condition { of, number });
            continue;
        }
        let leads = all.get(at + 1).is_some_and(|next| digits(next));
        if !(leads && matches!(&*word.to_lowercase(), "version" | "release" | "versions")) {
            bare.push(*word);
        }
    }
    (bare.join(" "), conditions)
}

/// The words of a question that are written as names, unless its language or its writer writes all so.
fn names(question: &str, page: &Page<'_>, terms: &mut Terms) -> Vec<(Term, Box<str>)> {
    let is_name = |word: &str| {
        let mut letters = word.chars();
        letters.next().is_some_and(char::is_uppercase)
            && letters.clone().next().is_some()
            && letters.all(char::is_lowercase)
    };
    let all: Vec<&str> = words(question).skip(1).map(|(_, word)| word).collect();
    let term = |word: &&str| Some((terms.term(word, page.language)?, Box::<str>::from(*word)));
    let telling: Vec<(Term, Box<str>)> = all.iter().filter_map(term).collect();
    let names: Vec<_> = telling.iter().filter(|(_, word)| is_name(word)).cloned().collect();
    let are_all = names.len() == telling.len() && names.len() > 1;
    if are_all || page.language.code() == "de" { Vec::new() } else { names }
}

/// Whether a sentence says with what something is done.
fn names_means(words: &str) -> bool {
    [" with ", " using ", " mit ", " avec ", " con "].iter().any(|means| words.contains(means))
}

/// Which share of the neighbours in the question are neighbours in the sentence.
#[expect(clippy::cast_precision_loss, reason = "a question has few words")]
fn together(asked: &[Term], said: &[Term]) -> f32 {
    let pairs = asked.windows(2);
    let count = pairs.len().max(1) as f32;
    let both =
        |pair: &&[Term]| said.windows(2).any(|two| two == *pair || two == [pair[1], pair[0]]);
    pairs.filter(both).count() as f32 / count
}
