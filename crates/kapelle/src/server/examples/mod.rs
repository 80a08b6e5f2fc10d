//! What requests and answers look like, for those who read the description.
//!
//! **Invariant:** none is made up: requests were taken and answers given by the routes themselves, in the session of
//! the test, which says so when one has changed. Ids, times and keys in them stand for any.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::routes::Route;

/// By name: `{operation}_request`, `{operation}_{status}`, `{operation}_{status}_stream`, or a code.
static ALL: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("examples.json")).expect("it is JSON, as its test says")
});
/// The page on which codes are explained.
const ERRORS: &str = include_str!("../../../../../docs/errors.md");

/// All of them, as the description has them.
pub(super) fn components() -> Value {
    let one = |(name, value): (&String, &Value)| {
        let mut example = json!({ "value": value });
        if let Some(said) = explained(name) {
            example["summary"] = said.into();
        }
        (name.clone(), example)
    };
    ALL.iter().map(one).collect()
}

/// `content` with the example of that name, if there is one.
pub(super) fn with(mut content: Value, name: &str) -> Value {
    if ALL.contains_key(name) {
        content["examples"] = json!({ "example": reference(name) });
    }
    content
}

/// The examples of problems with these codes.
pub(super) fn of_codes(codes: &[&str]) -> Value {
    codes.iter().map(|code| ((*code).to_owned(), reference(code))).collect()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/examples/{name}") })
}

/// What the page of errors says of a code, in its own words.
pub(super) fn explained(code: &str) -> Option<String> {
    let (_, rest) = ERRORS.split_once(&format!("\n### {code}\n\n"))?;
    let text = rest.split("\n\n").next()?.replace('\n', " ");
    (!text.starts_with(['|', '#'])).then_some(text)
}

/// What the description calls a route.
pub(super) fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    let words: Vec<_> = words.collect();
    format!("{}_{}", route.method.as_str().to_lowercase(), words.join("_"))
}

#[cfg(test)]
mod tests;
