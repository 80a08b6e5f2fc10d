//! Workflow files: what they become, and all that can be wrong with them.

#![expect(
    clippy::disallowed_methods,
    reason = "a test reads files, and the environment for `UPDATE`"
)]

mod broken;
mod edges;

use serde_json::json;

use super::*;

fn read(text: &str) -> Checked {
    Workflow::read("flow.yaml", text.as_bytes(), None)
}

fn told(checked: &Checked) -> Vec<(&str, u32, u32, &str)> {
    let place = |problem: &Problem| (problem.line.unwrap_or(0), problem.column.unwrap_or(0));
    checked
        .problems
        .iter()
        .map(|problem| (problem.code.as_str(), place(problem).0, place(problem).1, &*problem.field))
        .collect()
}

const GOOD: &str = r#"
id: code-review
name: Code review
version: 2
category: quality
tags: [review]
complexity: moderate
estimatedDuration: 150
inputs:
  files: { type: array, items: { type: string }, minItems: 1 }
  depth: { type: string, enum: [quick, thorough], default: thorough }
config: { maxParallelAgents: 5, globalTimeout: 30m, deadline: 72h, mode: manual, budget: { tokens: 1000, usd: 0.25, time: 10m, onExceeded: fail } }
tasks:
  - id: quality
    agentName: echo
    input: { value: "{{ inputs.files | join(', ') }}" }
    priority: 10
    timeout: 60s
    retry: { maxAttempts: 5, initial: 2s, on: [timeout, rateLimited] }
    output: { type: object }
    budget: { usd: 1.5 }
  - id: per-file
    agentName: echo
    forEach: inputs.files
    as: file
    maxParallel: 8
    input: { value: "{{ file }} {{ steps.quality.status }}" }
    when: inputs.depth == "thorough"
    onFailure: continue
    onUnknown: ask
    estimatedDuration: 2.5
  - id: sign-off
    approval: { by: [role:maintainer], timeout: 24h, onTimeout: approve }
    dependencies: [per-file]
output: "{{ steps.per-file.output }}"
"#;

#[test]
fn a_workflow_becomes_a_plan() {
    let checked = read(GOOD);
    assert_eq!(told(&checked), []);
    let workflow = checked.workflow.unwrap();
    assert_eq!((&*workflow.id, workflow.version.as_deref()), ("code-review", Some("2")));
    assert_eq!(workflow.estimate_ms, Some(150_000));
    let plan = workflow.plan();
    assert_eq!((plan.max_parallel, plan.timeout_ms, plan.manual), (5, Some(1_800_000), true));
    let [quality, per_file, sign_off] = plan.steps.as_slice() else { panic!("{plan:?}") };
    let (nanos, on_exceeded) = (Some(250_000_000), plan::OnExceeded::Fail);
    let budget = plan::Budget { tokens: Some(1_000), nanos, time_ms: Some(600_000), on_exceeded };
    assert_eq!(plan.budget, Some(budget));
    let own = plan::Budget { nanos: Some(1_500_000_000), ..plan::Budget::default() };
    assert_eq!((quality.budget, per_file.budget), (Some(own), None));
    assert_eq!((quality.retry.attempts_max, quality.retry.initial_ms), (5, 2_000));
    assert_eq!(quality.retry.factor.to_bits(), 2.0_f64.to_bits());
    // The reference to a step is a need.
    assert_eq!(per_file.needs, ["quality".parse().unwrap()]);
    assert_eq!(per_file.estimate_ms, Some(2_500));
    assert_eq!(per_file.for_each.as_ref().map(|each| &*each.name), Some("file"));
    assert!(
        matches!(&sign_off.work, plan::Work::Approval { by, .. } if *by[0] == *"role:maintainer")
    );
    let inputs = workflow.inputs(json!({"files": ["a"]})).unwrap();
    assert_eq!(inputs, json!({"depth": "thorough", "files": ["a"]}));
}

#[test]
fn json_is_a_workflow_file_too() {
    let text = "{\n\t\"id\": \"j\",\n\t\"tasks\": [\n\t\t{\"id\": \"a\", \"agentName\": \"echo\", \"input\": {\"value\": \"\\u00e9\\n\"}}\n\t]\n}\n";
    let checked = read(text);
    assert_eq!(told(&checked), []);
    let plan = checked.workflow.unwrap().plan;
    let plan::Work::Agent { input, .. } = &plan.steps[0].work else { panic!() };
    assert_eq!(*input, json!({"value": "é\n"}));
}

#[test]
fn ten_mistakes_are_ten_problems() {
    let text = r#"id: ten mistakes
catgory: quality
config: { maxParallelAgents: 0 }
tasks:
  - id: backend
    agentName: echo
    priority: 11
    timeout: 5 minutes
  - id: frontend
    agentName: echo
    dependencies: [backnd]
    retry: { maxAttempts: many }
    when: steps.backend.outptu == 1
  - id: backend
    loop: { until: true, max: 3 }
    onFailure: replan
    dependencies: frontend
"#;
    let checked = read(text);
    assert!(checked.workflow.is_none());
    let expected = [
        ("bad_id", 1, 5, "id"),
        ("unknown_field", 2, 1, "catgory"),
        ("out_of_range", 3, 30, "config.maxParallelAgents"),
        ("out_of_range", 7, 15, "tasks[0].priority"),
        ("bad_duration", 8, 14, "tasks[0].timeout"),
        ("unknown_step", 11, 20, "tasks[1].dependencies[0]"),
        ("wrong_type", 12, 27, "tasks[1].retry.maxAttempts"),
        ("expression_unknown", 13, 25, "tasks[1].when"),
        ("missing_field", 14, 5, "tasks[2].agentName"),
        ("duplicate_id", 14, 9, "tasks[2].id"),
        ("construct_unavailable", 15, 5, "tasks[2].loop"),
        ("construct_unavailable", 16, 16, "tasks[2].onFailure"),
        ("wrong_type", 17, 19, "tasks[2].dependencies"),
    ];
    assert_eq!(told(&checked), expected);
    assert!(checked.problems.iter().all(|problem| !problem.hint.is_empty()));
}

#[test]
fn hostile_files_are_refused_with_a_word() {
    let laughs = (0..12).fold(
        "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned(),
        |text, i| {
            text + &format!("a{}: &a{} [{}]\n", i + 1, i + 1, vec![format!("*a{i}"); 9].join(", "))
        },
    );
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("file_too_large", vec![b' '; 50 << 20]),
        ("too_deep", "[".repeat(10_000).into()),
        ("too_deep", "{a: ".repeat(10_000).into()),
        (
            "too_deep",
            (0..10_000).map(|i| " ".repeat(i.min(300)) + "a:\n").collect::<String>().into(),
        ),
        ("too_deep", "- ".repeat(10_000).into()),
        ("too_many_nodes", laughs.into()),
        ("too_many_nodes", long.into()),
        ("too_many_nodes", format!("a: [{}]", "1,".repeat(NODES)).into()),
        ("bad_encoding", b"id: a\nname: \0\n".to_vec()),
        ("bad_encoding", [&[0xff, 0xfe][..], b"i\0d\0"].concat()),
        ("bad_encoding", b"id: caf\xe9\n".to_vec()),
        ("empty_file", Vec::new()),
        ("empty_file", b"# nothing\n".to_vec()),
        ("several_documents", b"id: a\n---\nid: b\n".to_vec()),
        ("yaml_syntax", b"id: a\ntasks:\n\t- id: b\n".to_vec()),
        ("yaml_syntax", b"id: *nobody\n".to_vec()),
        ("yaml_syntax", b"id: &a [*a]\n".to_vec()),
        ("yaml_syntax", b"? [a, b]\n: c\n".to_vec()),
        ("yaml_syntax", b"id: \"abc\n".to_vec()),
    ];
    for (code, bytes) in cases {
        let checked = Workflow::read("x.yaml", &bytes, None);
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(checked.problems.len(), 1, "{start}: {:?}", told(&checked));
        assert_eq!(checked.problems[0].code.as_str(), code, "{start}: {}", checked.problems[0]);
    }
}

/// More values than a file may have.
const NODES: usize = tree::NODES_MAX + 1;

#[test]
fn duplicate_keys_are_each_told() {
    let checked = read("id: a\nid: b\ntasks:\n  - id: c\n    agentName: echo\n    id: d\n");
    let expected = [("duplicate_key", 2, 1, "id"), ("duplicate_key", 6, 5, "tasks[0].id")];
    assert_eq!(told(&checked), expected);
}

#[test]
fn anchors_and_merges_are_followed() {
    let text = "id: a\ntasks:\n  - &base { id: one, agentName: echo, timeout: 5s }\n  - <<: *base\n    id: two\n";
    let plan = read(text).workflow.unwrap().plan;
    assert_eq!(plan.steps[1].id.as_str(), "two");
    assert_eq!(plan.steps[1].timeout_ms, 5_000);
}

#[test]
fn plain_scalars_mean_what_the_core_schema_says() {
    let text = "a: yes\nb: 1_000\nc: 012\nd: 0x1f\ne: 1e3\nf: .5\ng: -7\nh: 18446744073709551615\ni: ~\nj: '1'\nk: !!str 1\nl: 2026-01-01\nm: 1.2.3\nn: .inf\no: on\np: True\nq: 5m\nr: 0x+1f\ns: 0o17\nt: 0o+7\nu: FALSE\nv: +5\nw: -.5\nx: .\ny: 1e999\nz: -a\n";
    let mut faults = Vec::new();
    let json = tree::parse(text, &mut faults).unwrap().to_json();
    let expected = json!({"a": "yes", "b": "1_000", "c": 12, "d": 31, "e": 1000.0, "f": 0.5, "g": -7,
        "h": u64::MAX, "i": null, "j": "1", "k": "1", "l": "2026-01-01", "m": "1.2.3", "n": ".inf",
        "o": "on", "p": true, "q": "5m", "r": "0x+1f", "s": 15, "t": "0o+7", "u": false, "v": 5,
        "w": -0.5, "x": ".", "y": "1e999", "z": "-a"});
    assert_eq!((json, faults.len()), (expected, 0));
}

#[test]
fn a_block_text_points_at_the_line_of_the_culprit() {
    let text = "id: a\ntasks:\n  - id: b\n    agentName: echo\n    prompt: |\n      first\n      then {{ steps.c.output }}\n";
    assert_eq!(told(&read(text)), [("unknown_step", 7, 15, "tasks[0].prompt")]);
}

#[test]
fn the_schema_names_what_must_be_there() {
    let schema = schema();
    assert_eq!(schema["required"], json!(["id", "tasks"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(
        schema["properties"]["config"]["properties"]["mode"]["enum"],
        json!(["auto", "manual", null])
    );
}

#[test]
fn the_manual_shows_a_workflow_that_is_right() {
    let page = include_str!("../../../../../docs/workflows.md");
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(told(&read(example)), []);
    for filter in crate::expr::FILTERS {
        assert!(page.contains(&format!("`{filter}")), "the filter `{filter}` is not explained");
    }
}

#[test]
fn a_line_of_megabytes_is_shown_in_part() {
    let text =
        format!("{{id: a, name: \"{}\", tasks: [{{id: b, agentName: 7}}]}}", "é".repeat(1 << 20));
    let checked = read(&text);
    assert_eq!(told(&checked), [("wrong_type", 1, 1_048_622, "tasks[0].agentName")]);
    let shown = checked.problems[0].to_string();
    assert!(shown.len() < 800, "{}", shown.len());
    let lines: Vec<_> = shown.lines().collect();
    let column = |line: &str, c: char| line.chars().position(|other| other == c);
    assert_eq!(column(lines[2], '7'), column(lines[3], '^'), "{shown}");
}

#[test]
fn a_file_full_of_mistakes_gives_a_bounded_list() {
    let steps: String = (0..5_000)
        .map(|i| format!("{{id: s{i}, agentNam: x, dependencies: [s{i}x], priority: 0}}, "))
        .collect();
    let checked = read(&format!("{{id: a, tasks: [{steps}]}}"));
    assert_eq!(checked.problems.len(), PROBLEMS_MAX);
}
