//! What the keys of a front matter mean, whatever they were written as.

use std::collections::BTreeMap;
use std::path::Path;

use kapelle_core::{Digest, Json, canonical};

use super::front::Split;
use super::lines::meant;
use super::tree::{Field, Value};
use super::{AgentFile, Oddities, Useless, tools};
use crate::model::{Definition, TURNS_MAX};

/// The longest name, in bytes.
const NAME_MAX: usize = 100;
/// How much of the body stands in for a description, in characters.
const OPENING_MAX: usize = 200;
/// How hard a model can be told to think.
const EFFORTS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];
/// The parts that an agent can have among others.
const ROLES: [&str; 4] = ["worker", "coordinator", "monitor", "gateway"];
/// Names of models that are the same in any case.
const MODELS: [&str; 8] =
    ["sonnet", "opus", "haiku", "fable", "inherit", "fast", "balanced", "strong"];

/// The front matter by key, with its lines.
struct Keys {
    by_key: BTreeMap<&'static str, (u32, Value)>,
    all: serde_json::Map<String, Json>,
}

/// Makes an agent of the parts of a file.
pub(super) fn agent(
    file: &Path,
    fields: Vec<Field>,
    split: &Split<'_>,
    mut odd: Oddities,
) -> Result<AgentFile, Useless> {
    let mut keys = Keys::new(fields, &mut odd);
    let body = split.body.trim();
    if let Some((line, value)) = keys.by_key.get("kind")
        && value.text().as_deref().is_some_and(|kind| kind != "model")
    {
        let message = format!("`kind` is `{}`: only `model` can be told by a file", value.shown());
        return Err(Useless::new(*line, message));
    }
    let name = name(&keys, file, split.line, &mut odd)?;
    let description = description(&keys, body, split, &mut odd)?;
    if body.is_empty() {
        odd.note(split.body_line, "the body is empty: the agent has no prompt");
    }
    let asked = keys.list("tools");
    let denied = keys.list("disallowedTools").unwrap_or_default();
    let line = keys.by_key.get("tools").map_or(split.line, |(line, _)| *line);
    let definition = Definition {
        name,
        description,
        prompt: body.into(),
        model: keys.text("model", &mut odd).map(model),
        tools: tools::granted(asked.as_deref(), &denied, line, &mut odd),
        turns_max: keys.count("maxTurns", &mut odd).unwrap_or(TURNS_MAX),
        tokens_max: keys.count("maxTokens", &mut odd).map(u64::from),
        effort: keys.word("effort", &EFFORTS, &mut odd),
        tasks_max: keys.count("maxTasks", &mut odd),
    };
    keys.switch("background", &mut odd);
    Ok(AgentFile {
        file: file.to_path_buf(),
        definition,
        tools: asked,
        category: keys.text("category", &mut odd),
        capabilities: keys.list("capabilities").unwrap_or_default(),
        role: keys.word("role", &ROLES, &mut odd),
        keys: keys.all,
        body_sha256: Digest::of(body.as_bytes()),
        warnings: odd.by_line(),
    })
}

fn name(keys: &Keys, file: &Path, line: u32, odd: &mut Oddities) -> Result<Box<str>, Useless> {
    let line = keys.by_key.get("name").map_or(line, |(line, _)| *line);
    let name = keys.text("name", odd).unwrap_or_else(|| {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().trim().to_lowercase());
        let stem = stem.unwrap_or_default();
        odd.note(line, format!("there is no `name`: it is taken from the file, `{stem}`"));
        stem.into()
    });
    if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
        return Err(Useless::new(line, "its name is none: one line of 1 to 100 bytes is needed"));
    }
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.split('-').any(|part| part.is_empty() || !part.chars().all(word)) {
        odd.note(line, format!("the name `{name}` is not of lower-case words and hyphens"));
    }
    Ok(name)
}

fn description(
    keys: &Keys,
    body: &str,
    split: &Split<'_>,
    odd: &mut Oddities,
) -> Result<Box<str>, Useless> {
    if let Some(description) = keys.text("description", odd) {
        if description.contains("\\n") {
            let line = keys.by_key.get("description").map_or(split.line, |(line, _)| *line);
            odd.note(line, "`description` has `\\n` in it, which is left as it is");
        }
        return Ok(description);
    }
    let mut lines = body.lines().map(|line| line.trim_start_matches('#').trim());
    let Some(opening) = lines.find(|line| !line.is_empty()) else {
        return Err(Useless::new(split.line, "it has neither a description nor a body"));
    };
    odd.note(split.line, "there is no `description`: the body's first line stands in for it");
    Ok(opening.chars().take(OPENING_MAX).collect::<String>().into())
}

fn model(name: Box<str>) -> Box<str> {
    let lower = name.to_ascii_lowercase();
    if MODELS.contains(&lower.as_str()) { lower.into() } else { name }
}

impl Keys {
    fn new(fields: Vec<Field>, odd: &mut Oddities) -> Self {
        let mut keys = Self { by_key: BTreeMap::new(), all: serde_json::Map::new() };
        for Field { key, line, value } in fields {
            let known = meant(&key);
            if let Some(known) = known
                && known != key
            {
                odd.note(line, format!("`{key}` is read as `{known}`"));
            }
            let json = value.to_json();
            let key = known.map_or(key, str::to_owned);
            if keys.all.insert(key.clone(), json).is_some() {
                odd.note(line, format!("`{key}` is there twice: this one counts"));
            }
            if let Some(known) = known {
                keys.by_key.insert(known, (line, value));
            }
        }
        keys
    }

    /// A value as a text; what is none is made one, with a warning.
    fn text(&self, key: &str, odd: &mut Oddities) -> Option<Box<str>> {
        let (line, value) = self.by_key.get(key)?;
        let text = value.text()?;
        if !matches!(value, Value::Text { .. }) || !value.to_json().is_string() {
            odd.note(*line, format!("`{key}` is no text, and is read as `{}`", value.shown()));
        }
        let text = text.trim();
        (!text.is_empty()).then(|| text.into())
    }

    fn list(&self, key: &str) -> Option<Vec<Box<str>>> {
        tools::listed(&self.by_key.get(key)?.1)
    }

    /// A number from 1 on.
    fn count(&self, key: &str, odd: &mut Oddities) -> Option<u32> {
        let (line, value) = self.by_key.get(key)?;
        let count = value.text()?.trim().parse().ok().filter(|count| *count > 0);
        if count.is_none() {
            let shown = value.shown();
            odd.note(*line, format!("`{key}` is no number from 1 on, and does not count: {shown}"));
        }
        count
    }

    /// One of `words`.
    fn word(&self, key: &str, words: &[&str], odd: &mut Oddities) -> Option<Box<str>> {
        let (line, value) = self.by_key.get(key)?;
        let text = value.text()?.trim().to_lowercase();
        let found = words.contains(&text.as_str()).then(|| text.into());
        if found.is_none() {
            let (shown, words) = (value.shown(), words.join(", "));
            odd.note(*line, format!("`{key}` is none of {words}, and does not count: {shown}"));
        }
        found
    }

    /// Makes yes and no of what is kept.
    fn switch(&mut self, key: &str, odd: &mut Oddities) {
        let Some((line, value)) = self.by_key.get(key) else { return };
        match flag(value) {
            Some(flag) => drop(self.all.insert(key.to_owned(), flag.into())),
            None => odd.note(*line, format!("`{key}` is neither yes nor no: {}", value.shown())),
        }
    }
}

impl Value {
    /// The text that it is, or that it can be written as; `None` for nothing.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Text { text, .. } => Some(text.clone()),
            Self::List(_) | Self::Map(_) => Some(canonical(&self.to_json())),
        }
    }

    /// The same, for a message.
    fn shown(&self) -> String {
        self.text().unwrap_or_default().chars().take(60).collect()
    }
}

/// Yes or no, in any of the ways that people write it.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value.text()?.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" => Some(false),
        _ => None,
    }
}
