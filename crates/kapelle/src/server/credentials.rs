//! Values as they are told: without the credentials that addresses in them may have.
//!
//! The journal keeps what a run was given, since its steps work with that; nobody needs it to look at
//! a run.

use kapelle_api::Json;

/// `value` with `https://host/` in the place of `https://user:password@host/`.
pub(super) fn without(mut value: Json) -> Json {
    let mut todo = vec![&mut value];
    while let Some(value) = todo.pop() {
        match value {
            Json::String(text) => {
                if let Some(open) = opened(text) {
                    *text = open;
                }
            }
            Json::Array(values) => todo.extend(values),
            Json::Object(members) => todo.extend(members.values_mut()),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
    value
}

/// `text` without credentials, if it has any.
fn opened(text: &str) -> Option<String> {
    let (mut open, mut rest, mut found) = (String::new(), text, false);
    while let Some((before, after)) = rest.split_once("://") {
        let ends = |letter: char| letter.is_whitespace() || "/?#\"'<>`\\".contains(letter);
        let host = &after[..after.find(ends).unwrap_or(after.len())];
        let secret = host.rfind('@').map_or(0, |at| at + 1);
        found |= secret > 0;
        open.push_str(before);
        open.push_str("://");
        rest = &after[secret..];
    }
    open.push_str(rest);
    found.then_some(open)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_told_nowhere() {
        let given = json!({
            "db": "postgres://me:p@ss@db/x?a=b@c",
            "list": ["see https://me@h/ and http://a:b@c", 7, null, "a@b.org, http://h/@x"],
        });
        let told = json!({
            "db": "postgres://db/x?a=b@c",
            "list": ["see https://h/ and http://c", 7, null, "a@b.org, http://h/@x"],
        });
        assert_eq!(without(given), told);
        assert_eq!(without(json!("://@://@")), "://://");
    }
}
