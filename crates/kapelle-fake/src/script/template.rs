//! Names in double braces inside a script's texts, and what stands for them.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::asked::Asked;

/// Names in braces; any other use of braces is text.
static BRACES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{\s*([a-z_]+|[0-9]+)\s*\}\}").expect("it is a pattern"));

const NAMES: [&str; 7] = ["user", "system", "model", "turn", "nth", "n", "tool_result"];

/// What the names stand for in one answer.
pub(crate) struct Names<'a> {
    pub(crate) asked: &'a Asked,
    /// The request, counted over all.
    pub(crate) n: u64,
    /// How often the rule has matched.
    pub(crate) nth: u64,
    /// What the groups of `user_matches` took.
    pub(crate) groups: Vec<String>,
}

impl Names<'_> {
    /// `text` with every name replaced.
    pub(crate) fn fill(&self, text: &str) -> String {
        BRACES.replace_all(text, |found: &Captures<'_>| self.value(&found[1])).into_owned()
    }

    /// `json` with the names in its texts replaced.
    pub(crate) fn fill_json(&self, json: &Value) -> Value {
        match json {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect(),
            Value::Object(map) => {
                let filled = map.iter().map(|(key, value)| (key.clone(), self.fill_json(value)));
                Value::Object(filled.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => json.clone(),
        }
    }

    fn value(&self, name: &str) -> String {
        match name {
            "user" => self.asked.user.clone(),
            "system" => self.asked.system.clone(),
            "model" => self.asked.model.clone(),
            "turn" => self.asked.turn.to_string(),
            "nth" => self.nth.to_string(),
            "n" => self.n.to_string(),
            "tool_result" => self.asked.results.join("\n"),
            group => {
                let index = group.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                index.and_then(|index| self.groups.get(index)).cloned().unwrap_or_default()
            }
        }
    }
}

/// The names in `text` that stand for nothing, where a rule has so many groups.
pub(super) fn unknown(text: &str, groups: usize) -> Vec<String> {
    let known = |name: &str| match name.parse::<usize>() {
        Ok(number) => (1..=groups).contains(&number),
        Err(_) => NAMES.contains(&name),
    };
    let names = BRACES.captures_iter(text).map(|found| found[1].to_owned());
    names.filter(|name| !known(name)).collect()
}
