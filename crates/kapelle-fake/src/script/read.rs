//! From the text of a script to a script, or to all that is wrong with it.
//!
//! First the shape, by the schema that is derived from the types, then what a schema cannot say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde::Deserialize as _;
use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser};

use super::{Fault, Part, Script, rule, schema, template};

/// One thing wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The field, such as `rules[0].when.turn`; empty for the whole file.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything wrong with a script, in the order of its lines.
#[derive(Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let colon = if problem.field.is_empty() { "" } else { ": " };
            write!(f, "{end}line {}: {}{colon}{}", problem.line, problem.field, problem.message)?;
        }
        Ok(())
    }
}

static SHAPE: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    jsonschema::validator_for(&schema()).expect("the schema of our types is a schema")
});

pub(super) fn script(text: &str) -> Result<Script, Problems> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| syntax(&error))?;
    let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
    let mut faults = misshapen(&value);
    let script = match Script::deserialize(&without(value, &faults)) {
        Ok(script) => {
            faults.extend(meaningless(&script));
            script
        }
        Err(error) => {
            if faults.is_empty() {
                faults.push((String::new(), error.to_string()));
            }
            Script::default()
        }
    };
    if faults.is_empty() {
        return Ok(script);
    }
    let lines = lines(text);
    let mut problems: Vec<Problem> = faults.into_iter().map(|fault| place(&lines, fault)).collect();
    problems.sort_by_key(|problem| problem.line);
    Err(Problems(problems))
}

/// A JSON pointer and what is wrong there.
type Found = (String, String);

fn syntax(error: &serde_saphyr::Error) -> Problems {
    let line = error.location().map_or(1, |at| at.line());
    let line = usize::try_from(line).unwrap_or(1);
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default().to_owned();
    Problems(vec![Problem { line, field: String::new(), message }])
}

/// What the schema says is wrong.
fn misshapen(value: &Value) -> Vec<Found> {
    SHAPE.iter_errors(value).flat_map(|error| told(&error)).collect()
}

/// The value without the fields that are wrong, so that the others can be judged as well.
fn without(mut value: Value, faults: &[Found]) -> Value {
    for (pointer, _) in faults {
        let parent = pointer
            .rsplit_once('/')
            .and_then(|(parent, key)| Some((value.pointer_mut(parent)?.as_object_mut()?, key)));
        if let Some((parent, key)) = parent {
            parent.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
    }
    value
}

fn told(error: &ValidationError<'_>) -> Vec<Found> {
    let at = error.instance_path().as_str().to_owned();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let unknown = |name: &String| (format!("{at}/{}", escaped(name)), "is no field".into());
            unexpected.iter().map(unknown).collect()
        }
        Kind::Required { property } => {
            vec![(at, format!("needs {}", property.to_string().replace('"', "`")))]
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => of_choices(&at, context),
        _ => vec![(at, error.to_string())],
    }
}

/// What is wrong with a value that may be one of several: the names it may have, or else what the
/// choice says that is no mere `null`.
fn of_choices(at: &str, choices: &[Vec<ValidationError<'_>>]) -> Vec<Found> {
    let names: Vec<String> = choices.iter().flatten().filter_map(name).collect();
    if !names.is_empty() {
        return vec![(at.to_owned(), format!("is none of {}", names.join(", ")))];
    }
    choices.first().into_iter().flatten().flat_map(told).collect()
}

fn name(error: &ValidationError<'_>) -> Option<String> {
    match error.kind() {
        Kind::Constant { expected_value } => {
            expected_value.as_str().map(|name| format!("`{name}`"))
        }
        _ => None,
    }
}

/// What a schema cannot say.
fn meaningless(script: &Script) -> Vec<Found> {
    let mut found = Vec::new();
    parts("/default", &script.default, 0, &mut found);
    faults("/faults", &script.faults, &mut found);
    for (index, rule) in script.rules.iter().enumerate() {
        let at = format!("/rules/{index}");
        let groups = rule::patterns(&rule.when).into_iter().fold(0, |groups, (field, pattern)| {
            match regex::Regex::new(pattern) {
                Ok(regex) if field == "user_matches" => regex.captures_len() - 1,
                Ok(_) => groups,
                Err(error) => {
                    let last = error.to_string().lines().last().unwrap_or_default().to_owned();
                    found.push((format!("{at}/when/{field}"), last));
                    groups
                }
            }
        });
        parts(&format!("{at}/answer"), &rule.answer, groups, &mut found);
        faults(&format!("{at}/faults"), &rule.faults, &mut found);
    }
    found
}

fn parts(at: &str, parts: &[Part], groups: usize, found: &mut Vec<Found>) {
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}/{index}");
        let kinds = [
            part.text.is_some(),
            part.thinking.is_some(),
            part.tool.is_some(),
            part.json.is_some(),
            part.block.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            let message = "takes exactly one of `text`, `thinking`, `tool`, `json` and `block`";
            found.push((at.clone(), message.to_owned()));
        }
        let mut name = |field: &str, text: &str| {
            for unknown in template::unknown(text, groups) {
                found.push((format!("{at}/{field}"), format!("`{{{{{unknown}}}}}` is no name")));
            }
        };
        part.text.iter().for_each(|text| name("text", text));
        part.thinking.iter().for_each(|text| name("thinking", text));
        if let Some(tool) = &part.tool {
            name("tool/input", &Value::Object(tool.input.clone()).to_string());
        }
        part.json.iter().for_each(|json| name("json", &json.to_string()));
    }
}

fn faults(at: &str, faults: &[Fault], found: &mut Vec<Found>) {
    for (index, fault) in faults.iter().enumerate() {
        let kinds = [
            fault.status.is_some(),
            fault.rate_limit.is_some(),
            fault.spend_cap,
            fault.cut,
            fault.cut_at.is_some(),
            fault.stall_at.is_some(),
            fault.malformed,
            fault.stream_error.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            let message = "takes exactly one of `status`, `rate_limit`, `spend_cap`, `cut`, `cut_at`, `stall_at`, `malformed` and `stream_error`";
            found.push((format!("{at}/{index}"), message.to_owned()));
        }
    }
}

fn place(lines: &BTreeMap<String, usize>, (pointer, message): Found) -> Problem {
    let mut nearest = pointer.as_str();
    while !lines.contains_key(nearest) && !nearest.is_empty() {
        nearest = nearest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    Problem { line: lines.get(nearest).copied().unwrap_or(1), field: field(&pointer), message }
}

/// A pointer as people write it: `rules[0].when.turn`.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for segment in pointer.split('/').skip(1) {
        if segment.parse::<usize>().is_ok() {
            field.push_str(&format!("[{segment}]"));
        } else {
            let dot = if field.is_empty() { "" } else { "." };
            field.push_str(&format!("{dot}{}", segment.replace("~1", "/").replace("~0", "~")));
        }
    }
    field
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A list or an object that is being walked through.
struct Open {
    pointer: String,
    /// How many items came; for an object, keys and values.
    count: usize,
    is_map: bool,
    key: String,
}

/// The line on which each value begins, by its pointer.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let (is_list, is_map) =
            (matches!(event, Event::SequenceStart(..)), matches!(event, Event::MappingStart(..)));
        let scalar = match &event {
            Event::Scalar(text, ..) => Some(text.to_string()),
            Event::Alias(_) => Some(String::new()),
            _ => None,
        };
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            open.pop();
        }
        if scalar.is_none() && !is_list && !is_map {
            continue;
        }
        let Some(pointer) = next_pointer(open.last_mut(), scalar.as_deref()) else { continue };
        // A value on the lines below its key is found where the key is.
        lines.entry(pointer.clone()).or_insert(span.start.line());
        if is_list || is_map {
            open.push(Open { pointer, count: 0, is_map, key: String::new() });
        }
    }
    lines
}

/// Where the next value is; `None` if it is a key.
fn next_pointer(parent: Option<&mut Open>, scalar: Option<&str>) -> Option<String> {
    let Some(parent) = parent else { return Some(String::new()) };
    let count = parent.count;
    parent.count += 1;
    if !parent.is_map {
        return Some(format!("{}/{count}", parent.pointer));
    }
    if count % 2 == 0 {
        parent.key = escaped(scalar.unwrap_or_default());
        return None;
    }
    Some(format!("{}/{}", parent.pointer, parent.key))
}

#[cfg(test)]
mod tests {
    use crate::script::Script;

    fn told(text: &str) -> String {
        Script::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_lines_and_fields() {
        let text = "\
seed: 1
rules:
  - when:
      turn: one
      user_matches: \"a(b\"
      provider: bedrock
    answer:
      - text: \"{{usr}}\"
      - {text: a, thinking: b}
    colour: red
  - faults:
      - {probability: 2, cut: true}
      - {probability: 0.5}
";
        assert_eq!(
            told(text),
            "\
line 4: rules[0].when.turn: \"one\" is not of types \"null\", \"integer\"
line 5: rules[0].when.user_matches: error: unclosed group
line 6: rules[0].when.provider: is none of `anthropic`, `openai`
line 8: rules[0].answer[0].text: `{{usr}}` is no name
line 9: rules[0].answer[1]: takes exactly one of `text`, `thinking`, `tool`, `json` and `block`
line 10: rules[0].colour: is no field
line 12: rules[1].faults[0].probability: 2 is greater than the maximum of 1.0
line 13: rules[1].faults[1]: takes exactly one of `status`, `rate_limit`, `spend_cap`, `cut`, `cut_at`, `stall_at`, `malformed` and `stream_error`"
        );
    }

    #[test]
    fn a_file_that_is_no_yaml_is_told_with_its_line() {
        let told = told("seed: 1\nrules: }\n");
        assert!(told.starts_with("line 2: "), "{told}");
        assert!(Script::parse("").is_ok());
    }
}
