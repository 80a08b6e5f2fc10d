//! What `run` is given, checked.

use std::collections::BTreeMap;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::json;

use crate::input::{invalid, read, scalar};

/// How stdout becomes the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Parse {
    /// One JSON value.
    Json,
    /// A list of its lines.
    Lines,
    /// As it is.
    #[default]
    Text,
}

/// The input of `run`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Input {
    #[serde(default)]
    argv: Vec<String>,
    shell: Option<String>,
    stdin: Option<Json>,
    #[serde(default)]
    env: BTreeMap<String, Json>,
    pub(super) cwd: Option<String>,
    #[serde(default)]
    pub(super) parse: Parse,
    #[serde(default = "zero")]
    pub(super) ok_codes: Vec<i32>,
    #[serde(default)]
    pub(super) retry_codes: Vec<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// The JSON Schema of [`Input`].
pub(super) fn schema() -> Json {
    let codes =
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [{"required": ["argv"]}, {"required": ["shell"]}],
        "properties": {
            "argv": {
                "description": "the program and its arguments",
                "type": "array", "minItems": 1, "items": {"type": "string"}
            },
            "shell": {"description": "a script for `/bin/sh`", "type": "string", "minLength": 1},
            "stdin": {"description": "a text, or JSON that is written in one line"},
            "env": {
                "description": "variables besides PATH, HOME, LANG, TZ and TMPDIR",
                "type": "object",
                "propertyNames": {"pattern": "^[^=\\u0000]+$", "not": {"pattern": "^KAPELLE_"}},
                "additionalProperties": {"type": ["string", "number", "boolean"]}
            },
            "cwd": {"description": "relative to the submitter's folder", "type": "string"},
            "parse": {"enum": ["json", "lines", "text"], "default": "text"},
            "okCodes": codes,
            "retryCodes": codes
        }
    })
}

impl Input {
    /// Reads and checks the input.
    pub(super) fn read(input: &Json) -> Result<Self, Failure> {
        let input: Self = read(input)?;
        if input.argv.is_empty() == input.shell.is_none() {
            return Err(invalid("bad_input", "give either `argv` or `shell`"));
        }
        let texts = input.argv.iter().chain(&input.shell).chain(&input.cwd);
        if texts.chain(input.env.keys()).any(|text| text.contains('\0')) {
            return Err(invalid("bad_input", "a NUL byte cannot be handed to a program"));
        }
        if input.argv.first().is_some_and(String::is_empty) {
            return Err(invalid("bad_input", "the program's name in `argv` is empty"));
        }
        input.env()?;
        Ok(input)
    }

    /// The program and its arguments.
    pub(super) fn argv(&self) -> Vec<String> {
        match &self.shell {
            Some(script) => vec!["/bin/sh".into(), "-c".into(), script.clone()],
            None => self.argv.clone(),
        }
    }

    /// What the command is called in messages.
    pub(super) fn name(&self) -> &str {
        self.argv.first().map_or("/bin/sh", String::as_str)
    }

    /// What the command reads; `null` is nothing.
    pub(super) fn stdin(&self) -> Option<String> {
        self.stdin.as_ref().map(|stdin| match stdin {
            Json::String(text) => text.clone(),
            json => json.to_string(),
        })
    }

    /// The step's own variables.
    pub(super) fn env(&self) -> Result<BTreeMap<String, String>, Failure> {
        let one = |(name, value): (&String, &Json)| {
            let bad = |why: &str| invalid("bad_input", format!("the variable `{name}` {why}"));
            if name.is_empty() || name.contains('=') {
                return Err(bad("has no proper name"));
            }
            if name.starts_with("KAPELLE_") {
                return Err(bad("is set by kapelle"));
            }
            let text = scalar(value).ok_or_else(|| bad("is no text, number or boolean"))?;
            if text.contains('\0') {
                return Err(bad("holds a NUL byte"));
            }
            Ok((name.clone(), text))
        };
        self.env.iter().map(one).collect()
    }
}
