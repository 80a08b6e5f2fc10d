//! What a command is given: workflow files and inputs.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kapelle_core::plan::Plan;
use kapelle_core::port::Agents;
use kapelle_core::problem::Problem;
use kapelle_core::workflow::{Checked, FILE_MAX, Workflow};
use kapelle_core::{Json, plan};
use serde_json::json;

use super::exit::Stop;
use super::out;

/// What a workflow is called in a folder.
const NAMES: [&str; 3] = ["workflow.yaml", "workflow.yml", "workflow.json"];

/// Reads and checks a workflow: a file, `-` for stdin, or a folder that holds one.
pub(crate) fn read(path: &Path, agents: &Agents) -> Result<Checked, Stop> {
    let (name, bytes) = bytes(path)?;
    Ok(Workflow::read(&name, &bytes, Some(agents)))
}

/// The same, or an end with all problems told.
pub(crate) fn workflow(path: &Path, agents: &Agents) -> Result<Workflow, Stop> {
    let Checked { workflow, problems } = read(path, agents)?;
    tell(&problems);
    workflow.ok_or_else(|| invalid(&problems, &path.display().to_string()))
}

/// A workflow as it is written, with the name of its file and what is to be seen of its plan from here.
pub(crate) fn written(path: &Path) -> Result<(String, String, Option<Plan>), Stop> {
    let (name, bytes) = bytes(path)?;
    let plan = Workflow::read(&name, &bytes, None).workflow.map(|workflow| workflow.plan);
    let text = String::from_utf8(bytes);
    Ok((name.clone(), text.map_err(|_| Stop::usage(format!("`{name}` is no UTF-8")))?, plan))
}

fn bytes(path: &Path) -> Result<(String, Vec<u8>), Stop> {
    let path = if path.is_dir() { in_folder(path)? } else { path.to_path_buf() };
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Stop::usage(format!("`{name}`: {error}"));
    let mut bytes = Vec::new();
    // One byte over the limit is enough to see that it is over.
    let limit = FILE_MAX as u64 + 1;
    if name == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = File::open(&path).map_err(unreadable)?;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    Ok((name, bytes))
}

fn in_folder(folder: &Path) -> Result<PathBuf, Stop> {
    let found = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Stop::usage(format!("there is no `{}` in `{}`", NAMES.join("`, `"), folder.display()))
    })
}

/// The inputs for a plan: those of a file, then single ones, with defaults filled in.
pub(crate) fn inputs(
    plan: &Plan,
    file: Option<&Path>,
    single: &[(String, String)],
) -> Result<Json, Stop> {
    let mut given = match file {
        Some(file) => from_file(file)?,
        None => serde_json::Map::new(),
    };
    for (name, text) in single {
        given.insert(name.clone(), typed(plan.inputs.get(name.as_str()), text));
    }
    let lists = not_lists(plan, &given, single);
    let complete = plan::inputs(plan, Json::Object(given));
    complete.map_err(|problems| {
        tell(&problems);
        lists.iter().for_each(|hint| out::say(hint));
        invalid(&problems, "the inputs")
    })
}

/// How inputs are written that are lists, and were given as a text.
fn not_lists(
    plan: &Plan,
    given: &serde_json::Map<String, Json>,
    single: &[(String, String)],
) -> Vec<String> {
    let is_list =
        |name: &str| plan.inputs.get(name).is_some_and(|schema| schema["type"] == "array");
    let wrong = single.iter().filter(|(name, _)| is_list(name) && given[name.as_str()].is_string());
    let hint = |(name, text): &(String, String)| {
        let example = json!([text]);
        format!("`{name}` is a list, so each of it is named: `{name}={example}`")
    };
    wrong.map(hint).collect()
}

fn from_file(path: &Path) -> Result<serde_json::Map<String, Json>, Stop> {
    if path.is_dir() {
        let message = "is a folder; inputs are a file with a JSON object";
        return Err(Stop::usage(format!("`{}` {message}", path.display())));
    }
    let (name, bytes) = bytes(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Stop::usage(format!("`{name}` is no JSON object: {error}")))
}

/// A value as its schema wants it: text stays text, everything else is JSON.
pub(crate) fn typed(schema: Option<&Json>, text: &str) -> Json {
    let wants = schema.and_then(|schema| schema.get("type"));
    let is_text = schema.is_some_and(|schema| {
        let members = schema.get("enum").and_then(Json::as_array);
        wants.is_some_and(|wants| wants == "string")
            || members.is_some_and(|members| members.iter().any(|member| member == text))
    });
    let text_value = || Json::String(text.to_owned());
    if is_text { text_value() } else { serde_json::from_str(text).unwrap_or_else(|_| text_value()) }
}

/// `name=value`, as an argument.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn tell(problems: &[Problem]) {
    for problem in problems {
        out::say(&problem.to_string());
    }
}

fn invalid(problems: &[Problem], what: &str) -> Stop {
    let count = problems.iter().filter(|problem| problem.is_error()).count();
    let word = if count == 1 { "problem" } else { "problems" };
    Stop::usage(format!("{what}: {count} {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_becomes_what_its_schema_wants() {
        let cases = [
            (json!({"type": "string"}), "12", json!("12")),
            (json!({"type": "integer"}), "12", json!(12)),
            (json!({"type": "array"}), "[\"a\"]", json!(["a"])),
            (json!({"type": "array"}), "a", json!("a")),
            (json!({"enum": ["1", "2"]}), "1", json!("1")),
            (json!({}), "true", json!(true)),
        ];
        for (schema, text, value) in cases {
            assert_eq!(typed(Some(&schema), text), value, "{schema} {text}");
        }
        assert_eq!(typed(None, "x y"), json!("x y"));
    }
}
