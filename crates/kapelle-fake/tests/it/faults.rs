//! What goes wrong when a script says so, and limits.

use std::time::Duration;

use kapelle_fake::{Clock, Fake, Options, Script};
use serde_json::{Value, json};

use crate::support::{anthropic, ask, fake, openai};

fn claude(stream: bool) -> Value {
    json!({
        "model": "claude-sonnet-4-6", "max_tokens": 100, "stream": stream,
        "messages": [{ "role": "user", "content": "hello" }],
    })
}

fn gpt() -> Value {
    json!({ "model": "gpt-6-sol", "messages": [{ "role": "user", "content": "hello" }] })
}

#[test]
fn a_bucket_that_is_empty_says_when_to_come_again() {
    let clock = Clock::manual();
    let script = Script::parse("limits: {requests: {per_minute: 60, burst: 2}}").unwrap();
    let options = Options { clock: clock.clone(), ..Options::default() };
    let fake = Fake::start_with(script, options).unwrap();
    let first = anthropic(&fake, &claude(false));
    assert_eq!(first.header("anthropic-ratelimit-requests-limit"), Some("60"));
    assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), Some("1"));
    assert!(first.header("anthropic-ratelimit-requests-reset").unwrap().ends_with('z'));
    assert_eq!(anthropic(&fake, &claude(false)).status, 200);
    let refused = anthropic(&fake, &claude(false));
    assert_eq!(refused.refusal().1, "rate_limit_error");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Half a second later it is early, by half a second; a second later it is not.
    clock.advance(Duration::from_millis(500));
    let limited = openai(&fake, &gpt());
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(limited.header("retry-after-ms"), Some("500"));
    assert_eq!(limited.header("x-ratelimit-reset-requests"), Some("1.500s"));
    clock.advance(Duration::from_millis(500));
    assert_eq!(anthropic(&fake, &claude(false)).status, 200);
    let early: Vec<_> = fake.journal().into_iter().map(|entry| entry.early).collect();
    assert_eq!(early.iter().flatten().count(), 1, "{early:?}");
    let told = early[3].unwrap();
    assert_eq!((told.left_ms, told.since_ms, told.same), (500, 500, false));
    assert_eq!((fake.counts().early, fake.counts().early_same), (1, 0));
}

#[test]
fn the_same_request_too_early_is_told_apart() {
    let fake = fake("rules: [{faults: [{rate_limit: 60, at: [1]}]}]");
    assert_eq!(anthropic(&fake, &claude(false)).header("retry-after"), Some("60"));
    assert_eq!(anthropic(&fake, &claude(false)).status, 200);
    assert_eq!(fake.counts().early_same, 1);
}

#[test]
fn tokens_are_limited_as_well() {
    let fake = fake("limits: {tokens: {per_minute: 60, burst: 10}}");
    // 6 of the prompt at once, 2 of the answer afterwards.
    assert_eq!(
        anthropic(&fake, &claude(false)).header("anthropic-ratelimit-tokens-remaining"),
        Some("2")
    );
    let refused = anthropic(&fake, &claude(false));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("4")));
}

#[test]
fn a_stream_is_cut_at_the_byte_that_the_script_says() {
    for at in [0, 1, 100, 333] {
        let fake = fake(&format!("faults: [{{cut_at: {at}}}]"));
        let got = anthropic(&fake, &claude(true));
        assert_eq!((got.status, got.body.len(), got.broke), (200, at, true));
        assert_eq!(fake.journal()[0].cut_at, Some(at as u64));
        assert!(fake.journal()[0].usage.is_some(), "what was cut is billed");
        let whole = anthropic(&fake, &claude(false));
        assert!(whole.broke, "{whole:?}");
    }
}

#[test]
fn errors_come_as_events_of_a_stream_too() {
    let fake = fake("rules: [{faults: [{stream_error: overloaded_error}]}]");
    let got = anthropic(&fake, &claude(true));
    assert_eq!((got.status, got.broke), (200, false));
    let last = got.events().pop().unwrap();
    assert_eq!(last["error"]["type"], "overloaded_error");
    assert!(got.body.contains("event: error\n"));
}

#[test]
fn malformed_json_is_none() {
    let fake = fake("faults: [{malformed: true}]");
    let whole = anthropic(&fake, &claude(false));
    assert_eq!((whole.status, whole.broke), (200, false));
    assert!(serde_json::from_str::<Value>(&whole.body).is_err());
    let stream = anthropic(&fake, &claude(true));
    let data: Vec<_> = stream.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let bad = data.iter().filter(|data| serde_json::from_str::<Value>(data).is_err());
    assert_eq!(bad.count(), 1, "{}", stream.body);
}

#[test]
fn dice_hit_as_often_as_told_and_the_same_for_the_same_seed() {
    let statuses = |seed: u64| {
        let script = format!(
            "{{seed: {seed}, faults: [{{status: 529, probability: 0.2}}, {{status: 500, probability: 0.2}}]}}"
        );
        let fake = fake(&script);
        (0..200).map(|_| anthropic(&fake, &claude(false)).status).collect::<Vec<_>>()
    };
    let first = statuses(1);
    let count = |status| first.iter().filter(|s| **s == status).count();
    assert!((25..55).contains(&count(529)), "{}", count(529));
    assert!((18..48).contains(&count(500)), "{}", count(500));
    assert_eq!(first, statuses(1));
    assert_ne!(first, statuses(2));
}

#[test]
fn a_cap_on_what_may_be_spent_says_no_time() {
    let fake = fake("rules: [{faults: [{spend_cap: true}]}]");
    let claude = anthropic(&fake, &claude(false));
    assert_eq!((claude.status, claude.header("retry-after")), (429, None));
    assert_eq!(openai(&fake, &gpt()).json()["error"]["code"], "insufficient_quota");
}

#[test]
fn the_journal_is_told_counted_reset_and_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.jsonl");
    let options = Options { journal: Some(file.clone()), ..Options::default() };
    let fake = Fake::start_with(Script::parse("faults: [{cut_at: 5}]").unwrap(), options).unwrap();
    anthropic(&fake, &claude(true));
    let counts = ask(&fake, "GET", "/__counts", &[], "").json();
    assert_eq!((&counts["requests"], &counts["cut"]), (&json!(1), &json!(1)));
    assert_eq!(counts["faults"]["cut"], 1);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["cut_at"]), (1, &json!(5)));
    assert_eq!(ask(&fake, "DELETE", "/__journal", &[], "").status, 200);
    assert_eq!(ask(&fake, "GET", "/__journal", &[], "").json(), json!([]));
}
