//! Lists of tools as people write them, and what they are called here.
//!
//! **Invariant:** nothing is granted that was not asked for: a name with a rule, `Bash(git:*)`, stays
//! with its rule (`run_command(git:*)`) and is no grant of the whole tool.

use super::Oddities;
use super::tree::Value;
use crate::model::tool::FOR_ALL;
use crate::model::tools::{RUN_COMMAND, first_words};

/// Tools of other assistants, in lower case, and ours that do the same; nothing where there is none.
const ELSEWHERE: [(&str, &str); 35] = [
    ("read", "read_file"),
    ("notebookread", "read_file"),
    ("view", "read_file"),
    ("ls", "list_files"),
    ("list", "list_files"),
    ("glob", "list_files"),
    ("grep", "search_files"),
    ("write", "write_file"),
    ("edit", "write_file"),
    ("multiedit", "write_file"),
    ("notebookedit", "write_file"),
    ("bash", "run_command"),
    ("shell", "run_command"),
    ("powershell", "run_command"),
    ("webfetch", "fetch_url"),
    ("sendmessage", "send_message"),
    ("askuserquestion", "ask_person"),
    ("websearch", ""),
    ("task", ""),
    ("agent", ""),
    ("taskcreate", ""),
    ("taskget", ""),
    ("tasklist", ""),
    ("taskupdate", ""),
    ("taskoutput", ""),
    ("taskstop", ""),
    ("todoread", ""),
    ("todowrite", ""),
    ("skill", ""),
    ("slashcommand", ""),
    ("bashoutput", ""),
    ("killbash", ""),
    ("killshell", ""),
    ("exitplanmode", ""),
    ("lsp", ""),
];
/// Our own that have to be asked for.
const ASKED: [&str; 6] =
    ["write_file", "run_command", "fetch_url", "remember", "send_message", "ask_person"];

/// A tool and, in brackets behind it, what it may be used for.
#[must_use]
pub fn rule(grant: &str) -> (&str, Option<&str>) {
    match grant.split_once('(') {
        Some((tool, rule)) => (tool.trim_end(), Some(rule.strip_suffix(')').unwrap_or(rule))),
        None => (grant, None),
    }
}

/// The names that a value lists: a text with commas, or a list. `None` for nothing at all.
pub(super) fn listed(value: &Value) -> Option<Vec<Box<str>>> {
    match value {
        Value::Nothing => None,
        Value::Text { text, .. } => Some(of_text(text)),
        Value::List(items) => {
            Some(items.iter().filter_map(listed).flatten().collect::<Vec<Box<str>>>())
        }
        // As others write it: a switch for each.
        Value::Map(fields) => {
            // Or a name with what belongs to it.
            let name = fields.iter().find(|field| field.key == "name" || field.key == "tool");
            if let Some(name) = name.and_then(|field| field.value.text()) {
                return Some(of_text(&name));
            }
            let on = fields.iter().filter(|field| super::keys::flag(&field.value) == Some(true));
            Some(on.map(|field| field.key.as_str().into()).collect())
        }
    }
}

fn of_text(text: &str) -> Vec<Box<str>> {
    let text = text.trim();
    let inner = text.strip_prefix('[').map(|text| text.strip_suffix(']').unwrap_or(text));
    let text = inner.unwrap_or(text);
    let parts = outside_brackets(text, &[',', '\n']);
    let parts = match parts[..] {
        [only] => outside_brackets(only, &[' ', '\t']),
        _ => parts,
    };
    let plain = |part: &&str| {
        let part = part.trim().trim_start_matches("- ").trim();
        Box::<str>::from(part.trim_matches(['"', '\'', '`']))
    };
    parts.iter().map(plain).filter(|part| !part.is_empty()).collect()
}

fn outside_brackets<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let mut depth = 0_u32;
    let separates = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && separators.contains(&c)
    };
    text.split(separates).collect()
}

/// What of ours an agent is granted that asks for `tools`, less what it is denied.
pub(super) fn granted(
    tools: Option<&[Box<str>]>,
    denied: &[Box<str>],
    line: u32,
    odd: &mut Oddities,
) -> Vec<Box<str>> {
    let mut granted: Vec<Box<str>> = Vec::new();
    let mut grant = |tool: Box<str>| {
        if !granted.contains(&tool) {
            granted.push(tool);
        }
    };
    match tools {
        None => FOR_ALL.iter().for_each(|tool| grant((*tool).into())),
        Some(tools) => {
            for tool in tools {
                if matches!(&**tool, "*" | "all") {
                    FOR_ALL.iter().for_each(|tool| grant((*tool).into()));
                } else {
                    ours(tool, line, odd).into_iter().for_each(&mut grant);
                }
            }
        }
    }
    if denied.iter().any(|tool| matches!(&**tool, "*" | "all")) {
        return Vec::new();
    }
    // A rule that denies a part of a tool cannot be kept, so the whole tool goes.
    let denied: Vec<Box<str>> = denied.iter().flat_map(|tool| ours(tool, line, odd)).collect();
    let denied: Vec<&str> = denied.iter().map(|tool| rule(tool).0).collect();
    granted.retain(|tool| !denied.contains(&rule(tool).0));
    granted
}

/// What a tool is called here, for each of its rules; nothing if there is none.
fn ours(tool: &str, line: u32, odd: &mut Oddities) -> Vec<Box<str>> {
    let (name, rule) = rule(tool);
    let ours = if name.starts_with("mcp__") || FOR_ALL.contains(&name) || ASKED.contains(&name) {
        name
    } else {
        let lower = name.to_ascii_lowercase();
        match ELSEWHERE.iter().find(|(theirs, _)| *theirs == lower) {
            Some((_, "")) => {
                odd.note(line, format!("there is no tool `{name}` here: it is left out"));
                ""
            }
            Some((_, ours)) => ours,
            None => {
                odd.note(line, format!("there is no tool `{name}`"));
                ""
            }
        }
    };
    match (ours, rule) {
        ("", _) => Vec::new(),
        (ours, None) => vec![ours.into()],
        (RUN_COMMAND, Some(rule)) => {
            let rules: Vec<&str> = commands(rule).collect();
            for rule in rules.iter().filter(|rule| first_words(rule).is_none()) {
                let message = format!(
                    "`{name}({rule})` covers no command; write it with its first words, as in `{name}(git log:*)`"
                );
                odd.note(line, message);
            }
            rules.iter().map(|rule| format!("{RUN_COMMAND}({rule})").into()).collect()
        }
        (ours, Some(rule)) => vec![format!("{ours}({rule})").into()],
    }
}

/// The rules of a list of commands in brackets, `git log:*, git diff:*`.
fn commands(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = rest?;
        // What follows on a rule that is open, or on a gap, is the next one; a word may have a comma.
        let next = text.match_indices(',').find(|(at, _)| {
            text[..*at].ends_with('*') || text[at + 1..].starts_with(char::is_whitespace)
        });
        rest = next.map(|(at, _)| &text[at + 1..]);
        Some(next.map_or(text, |(at, _)| &text[..at]).trim())
    })
}
