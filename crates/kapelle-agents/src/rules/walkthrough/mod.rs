//! `walkthrough-generator`: from the steps of a guide to what a person does, where they point, and
//! how they see that it is done.
//!
//! **Invariant:** every step of the guide is a step of the walkthrough, in the same order; selectors
//! are given only where a page is known, and only for what that page has.

mod page;
#[cfg(test)]
mod tests;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::json;

use super::engine::Thinker;
use super::guide::{is_told, step_schema, strip_lead};
use super::{File, Made, Rules, Verb, Work};
use crate::input::read;
use page::Page;

/// The agent.
pub(crate) fn agent(thinker: Thinker) -> Rules {
    let verb = Verb {
        name: "generate",
        description: "Makes a walkthrough of a guide: what to do, what to point at, how one sees \
                      that it is done",
        input: input_schema(),
        output: output_schema(),
        work: Work::Anywhere(generate),
        thought: None,
    };
    Rules::new("walkthrough-generator", "Makes walkthroughs of guides", vec![verb], thinker)
}

fn input_schema() -> Json {
    // What the extractor answers is taken whole; a guide by hand needs its instructions only.
    let mut step = step_schema();
    step["required"] = json!(["instruction"]);
    step["additionalProperties"] = true.into();
    let steps = json!({"type": "array", "maxItems": 10_000, "items": step});
    json!({
        "type": "object",
        "required": ["guide"],
        "additionalProperties": false,
        "properties": {
            "guide": {"anyOf": [
                steps,
                {
                    "type": "object", "required": ["steps"],
                    "properties": {"title": {"type": ["string", "null"]}, "steps": steps}
                }
            ]},
            "page": page::schema()
        }
    })
}

fn output_schema() -> Json {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "required": ["title", "steps"],
        "additionalProperties": false,
        "properties": {
            "title": text,
            "url": {"description": "the page that the selectors are for", "type": "string"},
            "steps": {"type": "array", "items": {
                "type": "object",
                "required": ["n", "do", "done"],
                "additionalProperties": false,
                "properties": {
                    "n": {"type": "integer", "minimum": 1},
                    "do": text,
                    "done": {"description": "how one sees that it is done", "type": "string"},
                    "point_at": {
                        "type": "object",
                        "required": ["role", "name", "selectors"],
                        "additionalProperties": false,
                        "properties": {
                            "role": {"description": "an ARIA role", "type": "string"},
                            "name": text,
                            "selectors": {
                                "description": "CSS, likeliest first; empty without a page",
                                "type": "array", "items": text
                            }
                        }
                    },
                    "command": text, "note": text, "warning": text
                }
            }}
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    guide: Guide,
    page: Option<Page>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Guide {
    Steps(Vec<Step>),
    Titled { title: Option<String>, steps: Vec<Step> },
}

#[derive(Deserialize)]
struct Step {
    instruction: String,
    element: Option<String>,
    command: Option<String>,
    note: Option<String>,
    warning: Option<String>,
    expect: Option<String>,
}

fn generate(input: &Json) -> Result<Made, Failure> {
    let input: Input = read(input)?;
    let (title, steps) = match input.guide {
        Guide::Steps(steps) => (None, steps),
        Guide::Titled { title, steps } => (title, steps),
    };
    let page = input.page.unwrap_or_default();
    let shown = steps.iter().enumerate().map(|(at, step)| show(at + 1, step, &page));
    let mut value = json!({
        "title": title.unwrap_or_default(),
        "steps": shown.collect::<Json>(),
    });
    if let Some(url) = &page.url {
        value["url"] = url.as_str().into();
    }
    let text = format!("{value:#}\n");
    let file = File { name: "walkthrough.json", media_type: "application/json", text };
    Ok(Made { value, files: vec![file] })
}

fn show(n: usize, step: &Step, page: &Page) -> Json {
    let words = Words::of(&step.instruction);
    let name = step.element.clone().or_else(|| words.target());
    // Who types a command points at nothing.
    let on_screen = words.is_on_screen() && step.command.is_none();
    let target = name.filter(|_| on_screen || step.element.is_some());
    let role = words.role();
    let mut shown = json!({
        "n": n,
        "do": step.instruction,
        "done": step.expect.clone().unwrap_or_else(|| words.done(target.as_deref(), step.command.as_deref())),
    });
    if let Some(name) = target {
        let found = page.find(&name, role);
        shown["point_at"] = json!({
            "role": found.role.as_deref().unwrap_or(role),
            "name": found.name.as_deref().unwrap_or(&name),
            "selectors": found.selectors,
        });
    }
    for (key, said) in
        [("command", &step.command), ("note", &step.note), ("warning", &step.warning)]
    {
        if let Some(said) = said {
            shown[key] = said.as_str().into();
        }
    }
    shown
}

/// An instruction, by its words.
struct Words<'a> {
    body: &'a str,
    lower: String,
    verb: String,
}

impl<'a> Words<'a> {
    fn of(instruction: &'a str) -> Self {
        let body = strip_lead(instruction).trim_end_matches(['.', '!', ':']);
        let lower = body.to_lowercase();
        let verb = lower.split_whitespace().next().unwrap_or_default().to_owned();
        Self { body, lower, verb }
    }

    fn begins(&self, verbs: &[&str]) -> bool {
        verbs.contains(&&*self.verb)
    }

    fn has(&self, words: &[&str]) -> bool {
        self.lower.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&word))
    }

    /// Whether it is about something that one sees and points at.
    fn is_on_screen(&self) -> bool {
        const VERBS: [&str; 22] = [
            "click",
            "press",
            "tap",
            "select",
            "choose",
            "pick",
            "tick",
            "check",
            "uncheck",
            "toggle",
            "hover",
            "drag",
            "enter",
            "type",
            "fill",
            "klicken",
            "wählen",
            "drücken",
            "cliquez",
            "appuyez",
            "pulse",
            "seleccione",
        ];
        self.begins(&VERBS)
            || self.has(&[
                "button",
                "menu",
                "tab",
                "link",
                "field",
                "checkbox",
                "dialog",
                "dashboard",
            ])
    }

    /// The role of what it acts on: by the thing's own name first, by the verb else.
    fn role(&self) -> &'static str {
        const BY_WORD: [(&str, &[&str]); 9] = [
            ("checkbox", &["checkbox", "tickbox"]),
            ("combobox", &["dropdown", "list", "combobox"]),
            ("textbox", &["field", "box", "input", "feld", "champ"]),
            ("tab", &["tab"]),
            ("menuitem", &["menu", "entry"]),
            ("link", &["link", "page", "seite"]),
            ("button", &["button", "knopf", "bouton", "icon", "schaltfläche"]),
            ("switch", &["switch", "toggle"]),
            ("dialog", &["dialog", "window"]),
        ];
        let named = BY_WORD.iter().find(|(_, words)| self.has(words)).map(|found| found.0);
        named.unwrap_or_else(|| {
            if self.begins(&["enter", "type", "fill"]) {
                "textbox"
            } else if self.begins(&["tick", "uncheck", "check"]) {
                "checkbox"
            } else if self.begins(&["open", "go", "visit", "navigate"]) {
                "link"
            } else {
                "button"
            }
        })
    }

    /// What is acted on, where it is not set apart: the words behind the verb that begin with a
    /// capital, else the words up to the next preposition.
    fn target(&self) -> Option<String> {
        if !is_told(self.body, "en") {
            return None;
        }
        let rest = self.body.split_whitespace().skip(1);
        let capital: Vec<&str> = rest
            .clone()
            .skip_while(|word| !word.starts_with(char::is_uppercase))
            .take_while(|word| word.starts_with(char::is_uppercase))
            .collect();
        if !capital.is_empty() {
            return Some(capital.join(" ").trim_matches([',', '.', ';']).to_owned());
        }
        const SMALL: [&str; 8] = ["the", "a", "an", "on", "your", "to", "in", "into"];
        const ENDS: [&str; 14] = [
            "in", "on", "from", "to", "with", "and", "at", "for", "of", "button", "menu", "field",
            "tab", "link",
        ];
        let words: Vec<&str> = rest
            .skip_while(|word| SMALL.contains(word))
            .take_while(|word| !ENDS.contains(word))
            .take(4)
            .collect();
        (!words.is_empty()).then(|| words.join(" ").trim_matches([',', '.', ';']).to_owned())
    }

    /// How one sees that it is done.
    fn done(&self, target: Option<&str>, command: Option<&str>) -> String {
        if command.is_some() {
            return "The command ends without an error.".into();
        }
        let thing = target.map_or_else(|| "it".to_owned(), |name| format!("“{name}”"));
        if self.begins(&[
            "open", "go", "visit", "navigate", "access", "launch", "öffnen", "ouvrez", "abra",
        ]) {
            return target
                .map_or("What was opened is shown.".into(), |_| format!("{thing} is shown."));
        }
        if self.begins(&["enter", "type", "fill"]) {
            return format!("{} shows what was entered.", capital(&thing));
        }
        if self.begins(&["tick", "check", "enable", "activate", "select", "choose", "pick"]) {
            return format!("{} is marked as chosen.", capital(&thing));
        }
        if self.begins(&["uncheck", "disable", "clear"]) {
            return format!("{} is not marked any more.", capital(&thing));
        }
        if self.begins(&["click", "press", "tap", "submit", "save", "klicken", "cliquez", "pulse"])
        {
            return format!("The page reacts to {thing}: what it does is shown, and no error is.");
        }
        if self.begins(&["download", "install", "unpack", "extract", "copy", "create", "save"]) {
            return "The new file or program is there.".into();
        }
        if self.begins(&["delete", "remove"]) {
            return "It is not listed any more.".into();
        }
        if self.begins(&["wait"]) {
            return "What was waited for has happened.".into();
        }
        "It is as the step says, and nothing reports an error.".into()
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
