//! The files in `tests/broken` and what is said of them, checked in beside them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::port::agent::{Action, Card};
use crate::port::{Agent, Answer, Call, Desk, Failure};

/// An agent that gives back what it is given.
struct Mirror(Card);

#[async_trait]
impl Agent for Mirror {
    fn card(&self) -> &Card {
        &self.0
    }

    async fn perform(&self, call: Call, _: &dyn Desk) -> Result<Answer, Failure> {
        Ok(Answer { value: call.input, ..Answer::default() })
    }
}

fn agents() -> Agents {
    let object = |properties: Json, required: Json| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let cards = [
        (
            "echo",
            vec![(
                "echo",
                object(
                    json!({"value": true, "more": true, "delay": {"type": "string"}}),
                    json!(["value"]),
                ),
            )],
        ),
        (
            "process",
            vec![(
                "run",
                object(
                    json!({"argv": {"type": "array", "items": {"type": "string"}}, "shell": {"type": "string"},
                "okCodes": {"type": "array", "items": {"type": "integer"}, "contains": {"const": 0}}, "env": {"type": "object"}}),
                    json!([]),
                ),
            )],
        ),
        (
            "http",
            vec![(
                "request",
                object(
                    json!({"method": {"enum": ["GET", "POST"]}, "url": {"type": "string"}, "expect": {"type": "integer"},
                "auth": {"type": "object", "required": ["token"]}}),
                    json!(["method", "url"]),
                ),
            )],
        ),
        ("web", vec![("read", json!(true)), ("links", json!(true))]),
    ];
    let mut agents = Agents::default();
    for (name, actions) in cards {
        let action = |(name, input): (&str, Json)| Action {
            name: name.into(),
            description: "".into(),
            input,
            output: json!(true),
        };
        let card = Card {
            name: name.into(),
            description: "".into(),
            actions: actions.into_iter().map(action).collect(),
            concurrency_max: None,
        };
        agents.register(Arc::new(Mirror(card))).unwrap();
    }
    agents
}

#[test]
fn broken_files_are_told_everything_that_is_wrong_with_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let agents = agents();
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    let mut codes = std::collections::BTreeSet::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let checked = Workflow::read(name, &std::fs::read(&file).unwrap(), Some(&agents));
        assert!(checked.workflow.is_none(), "{name} is not broken");
        codes.extend(checked.problems.iter().map(|problem| problem.code));
        let shown: Vec<_> = checked
            .problems
            .iter()
            .map(|problem| format!("{problem}\n({} at {})\n", problem.code, problem.field))
            .collect();
        let shown = shown.join("\n");
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected, &shown).unwrap();
        }
        assert_eq!(
            shown,
            std::fs::read_to_string(&expected).unwrap_or_default(),
            "{name}: UPDATE=1 rewrites"
        );
    }
    // What cannot be in a small file has tests of its own.
    use Code::*;
    let elsewhere = [
        UnreadableFile,
        FileTooLarge,
        BadEncoding,
        TooDeep,
        TooManyNodes,
        SeveralDocuments,
        EmptyFile,
        TooManySteps,
        MissingInput,
        WrongInput,
    ];
    let missing: Vec<_> = Code::ALL
        .iter()
        .filter(|code| !codes.contains(code) && !elsewhere.contains(code))
        .collect();
    assert_eq!(missing, [] as [&Code; 0], "no broken file has these");
}

#[test]
fn templates_may_stand_for_any_value_of_an_input() {
    let text = r#"
id: a
inputs: { code: { type: integer }, method: { type: string } }
tasks:
  - id: b
    agentName: http
    input: { method: "{{ inputs.method }}", url: "http://x/{{ inputs.code }}", expect: "{{ inputs.code }}" }
  - id: c
    agentName: http
    input: { method: GET, url: "http://x", expect: "code {{ inputs.code }}" }
"#;
    let checked = Workflow::read("flow.yaml", text.as_bytes(), Some(&agents()));
    // A text around a template is a text, and no integer.
    assert_eq!(told(&checked), [("bad_input", 10, 52, "tasks[1].input.expect")]);
}

#[test]
fn a_template_excuses_what_its_value_could_mend() {
    let told = |agent: &str, input: &str| {
        let inputs = "inputs: { code: { type: integer }, method: { type: string } }";
        let step = format!("{{ id: b, agentName: {agent}, input: {input} }}");
        let text = format!("id: a\n{inputs}\ntasks:\n  - {step}\n");
        Workflow::read("flow.yaml", text.as_bytes(), Some(&agents())).problems.len()
    };
    assert_eq!(told("http", r#"{ url: x, method: "P{{ inputs.method }}" }"#), 0);
    assert_eq!(told("http", "{ url: x, method: PUT }"), 1);
    assert_eq!(told("process", r#"{ shell: ls, okCodes: ["{{ inputs.code }}"] }"#), 0);
    assert_eq!(told("process", "{ shell: ls, okCodes: [1] }"), 1, "0 is not among them");
}

#[test]
fn what_an_input_lacks_is_told_with_where_it_is() {
    let told = |input: &str| {
        let step = format!("{{ id: b, agentName: http, input: {input} }}");
        let text = format!("id: a\ntasks:\n  - {step}\n");
        let checked = Workflow::read("flow.yaml", text.as_bytes(), Some(&agents()));
        let told = |problem: &Problem| format!("{}: {}", problem.field, problem.message);
        checked.problems.iter().map(told).collect::<Vec<_>>()
    };
    let lacks = "tasks[0].input: the agent `http` needs `url` in its input";
    assert_eq!(told("{ method: GET }"), [lacks]);
    let within = "tasks[0].input.auth: the agent `http` does not take this input: \
                  `auth.token` is missing";
    assert_eq!(told("{ method: GET, url: x, auth: {} }"), [within]);
}

#[test]
fn a_plan_has_a_limit_of_steps() {
    let steps: String = (0..=crate::plan::check::STEPS_MAX)
        .map(|i| {
            format!(
                "  - {{ id: s{i}, agentName: echo, input: {{ value: 1 }}, dependencies: [x{i}] }}\n"
            )
        })
        .collect();
    let checked = read(&format!("id: a\ntasks:\n{steps}"));
    assert!(checked.problems.len() <= PROBLEMS_MAX);
    assert_eq!(checked.problems[0].code, Code::TooManySteps);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_file_gives_problems_or_a_plan(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, "[-:{}\\[\\]\"'|>&*!#?,a-z0-9 \n\t]{0,6}"), 1..5)) {
        let agents = agents();
        let mut bytes = GOOD.as_bytes().to_vec();
        for (index, what, text) in edits {
            let at = index.index(bytes.len().max(1)).min(bytes.len());
            match what {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + 20).min(bytes.len()))),
                2 => { let copy = bytes[at..].to_vec(); bytes.extend(copy); }
                3 => bytes.insert(at, 0xe9),
                _ => drop(bytes.splice(at..at, text.bytes())),
            }
        }
        let checked = Workflow::read("x.yaml", &bytes, Some(&agents));
        prop_assert_eq!(checked.workflow.is_some(), !checked.problems.iter().any(Problem::is_error));
        let lines = String::from_utf8_lossy(&bytes).lines().count();
        for problem in &checked.problems {
            prop_assert!(problem.to_string().contains("x.yaml"));
            prop_assert!(!problem.hint.is_empty());
            let line = problem.line.unwrap_or(1) as usize;
            prop_assert!(line >= 1 && line <= lines + 1, "{}", problem);
        }
    }

    #[test]
    fn any_text_is_read_without_a_crash(text in "[-:{}\\[\\]\"'|>&*!#?,a-z0-9 \n<]{0,200}") {
        let checked = read(&text);
        prop_assert_eq!(checked.workflow.is_some(), !checked.problems.iter().any(Problem::is_error));
    }
}
