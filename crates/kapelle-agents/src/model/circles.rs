//! Conversations that lead nowhere: circles, ever new questions with one answer, and talk about nothing.
//!
//! **Invariant:** what is compared is what is on record, so each attempt comes to the same end. How long
//! something took is no part of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kapelle_core::{Digest, Json, canonical};
use regex::Regex;
use serde_json::json;

/// So many turns a circle has at the most.
const LENGTH_MAX: usize = 4;
/// Who has gone round so often will go on so.
const ROUNDS: usize = 3;
/// So many turns that change nothing may be told the same, whatever they ask.
const SAME_MAX: usize = 10;
/// So often somebody may hear messages and do nothing but send some.
const CHAT_MAX: usize = 10;

/// How long something took, as programs write it.
static TOOK: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?)\b";
    Regex::new(pattern).expect("the pattern is right")
});

/// A call of a tool, and what came of it.
pub(super) struct Made<'a> {
    pub(super) name: &'a str,
    pub(super) input: &'a Json,
    pub(super) told: &'a str,
    pub(super) kind: Kind,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It looked at something, or did not work.
    Looked,
    /// It changed something.
    Changed,
    /// It said something to another step.
    Said,
}

/// Why there is no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    /// The same calls with the same answers, in a circle of so many turns.
    Circle(usize),
    /// One answer, whatever is asked.
    Same,
    /// Messages to and fro, and nothing else.
    Chat,
}

/// What was called and told so far.
#[derive(Debug, Default)]
pub(super) struct Circles {
    turns: Vec<Digest>,
    /// What was told last, and in how many turns on end.
    told: Option<(Digest, usize)>,
    chat: usize,
}

impl Circles {
    /// Takes note of a turn: its calls, and how many messages were heard before it.
    pub(super) fn note(&mut self, calls: &[Made<'_>], heard: usize) -> Option<Stuck> {
        let circle = self.circle(calls).map(Stuck::Circle);
        let same = self.is_same(calls).then_some(Stuck::Same);
        let chat = self.is_chat(calls, heard).then_some(Stuck::Chat);
        circle.or(same).or(chat)
    }

    /// How many turns the circle has that these close; a call that told something new closes none.
    fn circle(&mut self, calls: &[Made<'_>]) -> Option<usize> {
        let calls = calls.iter().map(|made| json!([made.name, made.input, timeless(made.told)]));
        self.turns.push(digest(&calls.collect()));
        (1..=LENGTH_MAX).find(|length| {
            let of_circle = self.turns.len().checked_sub(length * ROUNDS);
            let of_circle = of_circle.map(|from| &self.turns[from..]);
            of_circle.is_some_and(|turns| turns[*length..] == turns[..turns.len() - length])
        })
    }

    fn is_same(&mut self, calls: &[Made<'_>]) -> bool {
        if calls.iter().any(|made| made.kind != Kind::Looked) {
            self.told = None;
            return false;
        }
        let told: BTreeSet<_> = calls.iter().map(|made| (made.name, timeless(made.told))).collect();
        let now = digest(&json!(told));
        let turns =
            self.told.filter(|(before, _)| *before == now).map_or(1, |(_, turns)| turns + 1);
        self.told = Some((now, turns));
        turns >= SAME_MAX
    }

    fn is_chat(&mut self, calls: &[Made<'_>], heard: usize) -> bool {
        if calls.iter().any(|made| made.kind != Kind::Said) {
            self.chat = 0;
        } else if heard > 0 {
            self.chat += 1;
        }
        self.chat >= CHAT_MAX
    }
}

fn digest(json: &Json) -> Digest {
    Digest::of(canonical(json).as_bytes())
}

fn timeless(told: &str) -> String {
    TOOK.replace_all(told, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made<'a>(input: &'a Json, told: &'a str, kind: Kind) -> [Made<'a>; 1] {
        [Made { name: "tool", input, told, kind }]
    }

    /// After how many turns a circle is closed, and how many it has.
    fn closed(turns: &str) -> Option<(usize, Stuck)> {
        let mut circles = Circles::default();
        let note = |(n, turn): (usize, char)| {
            let told = turn.to_string();
            Some((n + 1, circles.note(&made(&json!(told), &told, Kind::Looked), 0)?))
        };
        turns.chars().enumerate().find_map(note)
    }

    #[test]
    fn a_circle_is_closed_after_three_rounds_whatever_came_before() {
        assert_eq!(closed("aaa"), Some((3, Stuck::Circle(1))));
        assert_eq!(closed("xyababab"), Some((8, Stuck::Circle(2))));
        assert_eq!(closed("abcabcabc"), Some((9, Stuck::Circle(3))));
        assert_eq!(closed("abcdabcdabcd"), Some((12, Stuck::Circle(4))));
    }

    #[test]
    fn who_hears_something_new_goes_in_no_circle() {
        assert_eq!(closed("aabaabb"), None);
        assert_eq!(closed("ababacabab"), None);
        assert_eq!(closed("abcdeabcdeabcdeabcde"), None);
    }

    /// After how many turns it is stuck, with these inputs, answers, kinds and messages heard.
    fn stuck(turns: impl Iterator<Item = (usize, String, Kind, usize)>) -> Option<(usize, Stuck)> {
        let mut circles = Circles::default();
        turns.enumerate().find_map(|(n, (input, told, kind, heard))| {
            Some((n + 1, circles.note(&made(&json!(input), &told, kind), heard)?))
        })
    }

    #[test]
    fn how_long_it_took_is_no_news() {
        let turn =
            |n: usize| (0, format!("`ls` ended with 0 (0.0{n} s), in {n}ms"), Kind::Changed, 0);
        assert_eq!(stuck((1..9).map(turn)), Some((3, Stuck::Circle(1))));
        let turn = |n: usize| (0, format!("{n} of 9 tests"), Kind::Changed, 0);
        assert_eq!(stuck((1..9).map(turn)), None);
    }

    #[test]
    fn ever_new_questions_with_one_answer_end_but_not_work() {
        let nothing = |n: usize| (n, "nothing matches".to_owned(), Kind::Looked, 0);
        assert_eq!(stuck((0..50).map(nothing)), Some((10, Stuck::Same)));
        let kept = |n: usize| (n, "kept".to_owned(), Kind::Changed, 0);
        assert_eq!(stuck((0..50).map(kept)), None);
        let found = |n: usize| {
            (n, if n.is_multiple_of(9) { "found" } else { "nothing" }.to_owned(), Kind::Looked, 0)
        };
        assert_eq!(stuck((0..50).map(found)), None);
    }

    #[test]
    fn who_only_answers_messages_ends_but_not_who_works_or_tells_many() {
        let sent = "it is on its way".to_owned();
        let chat = |n: usize| (n, sent.clone(), Kind::Said, n % 2);
        assert_eq!(stuck((0..50).map(chat)), Some((20, Stuck::Chat)));
        let tells = |n: usize| (n, sent.clone(), Kind::Said, 0);
        assert_eq!(stuck((0..50).map(tells)), None);
        let works = |n: usize| {
            let kind = if n.is_multiple_of(9) { Kind::Changed } else { Kind::Said };
            (n, sent.clone(), kind, 1)
        };
        assert_eq!(stuck((0..50).map(works)), None);
    }
}
