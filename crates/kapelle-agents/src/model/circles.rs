//! Conversations that go in circles: the same calls with the same answers, turn after turn or in turns.

use kapelle_core::{Digest, Json, canonical};

/// So many turns a circle has at the most.
const LENGTH_MAX: usize = 4;
/// Who has gone round so often will go on so.
const ROUNDS: usize = 3;

/// What was called and told so far, turn by turn.
#[derive(Debug, Default)]
pub(super) struct Circles(Vec<Digest>);

impl Circles {
    /// Takes note of a turn: calls with what they told. How many turns the circle has that it closes;
    /// a call that told something new closes none.
    pub(super) fn note(&mut self, turn: &Json) -> Option<usize> {
        self.0.push(Digest::of(canonical(turn).as_bytes()));
        (1..=LENGTH_MAX).find(|length| {
            let of_circle = self.0.len().checked_sub(length * ROUNDS).map(|from| &self.0[from..]);
            of_circle.is_some_and(|turns| turns[*length..] == turns[..turns.len() - length])
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// After how many turns a circle is closed, and how many it has.
    fn closed(turns: &str) -> Option<(usize, usize)> {
        let mut circles = Circles::default();
        let note =
            |(n, turn): (usize, char)| Some((n + 1, circles.note(&json!(turn.to_string()))?));
        turns.chars().enumerate().find_map(note)
    }

    #[test]
    fn a_circle_is_closed_after_three_rounds_whatever_came_before() {
        assert_eq!(closed("aaa"), Some((3, 1)));
        assert_eq!(closed("xyababab"), Some((8, 2)));
        assert_eq!(closed("abcabcabc"), Some((9, 3)));
        assert_eq!(closed("abcdabcdabcd"), Some((12, 4)));
    }

    #[test]
    fn who_hears_something_new_goes_in_no_circle() {
        assert_eq!(closed("aabaabb"), None);
        assert_eq!(closed("ababacabab"), None);
        assert_eq!(closed("abcdeabcdeabcdeabcde"), None);
    }
}
