//! A conversation as one model may read it: nothing in it is for another model alone.
//!
//! **Invariant:** what a model has said goes back to it as it said it, and what has been sent once is sent
//! the same way again: only turns before a call decide what it is called.

use std::collections::BTreeSet;

use crate::provider::{Part, Prompt, Role, Turn};

/// `prompt` for a model that is `name`, `provider/model`: without the thoughts of others, and with names for
/// calls that hold everywhere.
pub(super) fn for_model(prompt: &Prompt, name: &str) -> Prompt {
    let mut prompt = prompt.clone();
    for turn in &mut prompt.turns {
        if is_of_another(turn, name) {
            turn.parts.retain(|part| !matches!(part, Part::Raw { .. }));
        }
    }
    name_calls(&mut prompt.turns, name);
    prompt
}

fn is_of_another(turn: &Turn, name: &str) -> bool {
    turn.by.as_deref().is_some_and(|by| by != name)
}

/// Gives calls other names where theirs are another provider's, none, or there already.
fn name_calls(turns: &mut [Turn], name: &str) {
    let mut known: BTreeSet<Box<str>> = BTreeSet::new();
    // What the calls before the turn were called, and are.
    let mut renamed: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (at, turn) in turns.iter_mut().enumerate() {
        let foreign = is_of_another(turn, name);
        if turn.role == Role::Assistant {
            renamed.clear();
        }
        for part in &mut turn.parts {
            match part {
                Part::ToolCall { id, .. } => {
                    let own = !foreign && !id.is_empty() && !known.contains(id);
                    let new = if own { id.clone() } else { own_name(at, renamed.len()) };
                    known.insert(new.clone());
                    renamed.push((std::mem::replace(id, new.clone()), new));
                }
                // Where two were called the same, results come in the order of the calls.
                Part::ToolResult { id, .. } => {
                    if let Some(place) = renamed.iter().position(|(old, _)| old == id) {
                        *id = renamed.remove(place).1;
                    }
                }
                Part::Text { .. } | Part::Raw { .. } => {}
            }
        }
    }
}

/// Nine letters and digits: what the strictest of providers takes.
fn own_name(turn: usize, place: usize) -> Box<str> {
    format!("c{:04}n{:03}", turn % 10_000, place % 1_000).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(by: &str, ids: &[&str]) -> [Turn; 2] {
        let call =
            |id: &&str| Part::ToolCall { id: (*id).into(), name: "look".into(), input: json!({}) };
        let result = |(place, id): (usize, &&str)| Part::ToolResult {
            id: (*id).into(),
            text: place.to_string().into(),
            failed: false,
        };
        let thought = Part::Raw { block: json!({"type": "thinking"}) };
        let calls = std::iter::once(thought).chain(ids.iter().map(call)).collect();
        let results = ids.iter().enumerate().map(result).collect();
        let turn = |role, by, parts| Turn { role, by, parts };
        [turn(Role::Assistant, Some(by.into()), calls), turn(Role::User, None, results)]
    }

    fn prompt(turns: Vec<Turn>) -> Prompt {
        Prompt {
            model: "m".into(),
            system: None,
            shared: 0,
            turns,
            tools: Vec::new(),
            schema: None,
            tokens_max: 1,
            effort: None,
        }
    }

    /// The ids of calls and of results, turn by turn.
    fn ids(prompt: &Prompt) -> Vec<Vec<&str>> {
        fn id(part: &Part) -> Option<&str> {
            match part {
                Part::ToolCall { id, .. } | Part::ToolResult { id, .. } => Some(id),
                Part::Text { .. } | Part::Raw { .. } => None,
            }
        }
        prompt.turns.iter().map(|turn| turn.parts.iter().filter_map(id).collect()).collect()
    }

    #[test]
    fn calls_of_others_get_names_that_hold_everywhere() {
        let odd = ["functions.read:0", ""];
        let turns =
            [said("kimi/k2", &odd), said("a/m", &["toolu_1"]), said("local/q", &["call_0"])]
                .into_iter()
                .chain([said("local/q", &["call_0", "call_0"])]);
        let whole = prompt(turns.flatten().collect());
        let fit = for_model(&whole, "a/m");
        let all = ids(&fit);
        let calls: Vec<&str> = all.iter().step_by(2).flatten().copied().collect();
        let unique: BTreeSet<&str> = calls.iter().copied().collect();
        assert_eq!(unique.len(), calls.len(), "{calls:?}");
        let sound = |id: &&str| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(calls.iter().filter(|id| **id != "toolu_1").all(sound), "{calls:?}");
        assert!(calls.contains(&"toolu_1"), "its own goes back to it: {calls:?}");
        // Every call has its result, in its order.
        for pair in all.chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
        // To those who gave no names at all each call is another one, too, and what is first stays.
        let fit = for_model(&whole, "local/q");
        assert_eq!(ids(&fit)[4], ["call_0"]);
        assert_ne!(ids(&fit)[6][0], "call_0");
        assert_ne!(ids(&fit)[6][0], ids(&fit)[6][1]);
        // What was sent is sent the same way again.
        let before = prompt(whole.turns[..4].to_vec());
        assert_eq!(for_model(&before, "a/m").turns[..], for_model(&whole, "a/m").turns[..4]);
        let thoughts = |turn: &Turn| turn.parts.iter().any(|p| matches!(p, Part::Raw { .. }));
        let kept: Vec<bool> = for_model(&whole, "a/m").turns.iter().map(thoughts).collect();
        assert_eq!(kept, [false, false, true, false, false, false, false, false]);
    }
}
