//! Prompt caches by marker, as Anthropic bills them.

use std::time::Duration;

use kapelle_fake::{Clock, Fake, Options, Script};
use serde_json::{Value, json};

use crate::support::anthropic;

/// What a prompt cost: fresh, read, written for five minutes, written for an hour.
fn cost(fake: &Fake, system: &Value, tail: &str) -> [u64; 4] {
    let body = json!({
        "model": "claude-sonnet-4-6", "max_tokens": 10, "system": system,
        "messages": [{ "role": "user", "content": tail }],
    });
    let usage = anthropic(fake, &body).json()["usage"].clone();
    let number = |value: &Value| value.as_u64().unwrap();
    let written = &usage["cache_creation"];
    [
        number(&usage["input_tokens"]),
        number(&usage["cache_read_input_tokens"]),
        number(&written["ephemeral_5m_input_tokens"]),
        number(&written["ephemeral_1h_input_tokens"]),
    ]
}

fn block(letter: &str, tokens: usize, ttl: Option<&str>) -> Value {
    let mut block = json!({ "type": "text", "text": letter.repeat((tokens - 4) * 4) });
    if let Some(ttl) = ttl {
        block["cache_control"] = json!({ "type": "ephemeral", "ttl": ttl });
    }
    block
}

fn start(script: &str) -> (Fake, Clock) {
    let clock = Clock::manual();
    let options = Options { clock: clock.clone(), ..Options::default() };
    (Fake::start_with(Script::parse(script).unwrap(), options).unwrap(), clock)
}

#[test]
fn a_marked_prefix_is_written_read_and_forgotten() {
    let (fake, clock) = start("");
    let system = json!([block("a", 2_000, Some("1h")), block("b", 1_000, Some("5m"))]);
    assert_eq!(cost(&fake, &system, "x"), [5, 0, 1_000, 2_000]);
    clock.advance(Duration::from_mins(4));
    assert_eq!(cost(&fake, &system, "y"), [5, 3_000, 0, 0]);
    // Read four minutes ago, it lives; six minutes later it does not, but the hour's part does.
    clock.advance(Duration::from_mins(4));
    assert_eq!(cost(&fake, &system, "y"), [5, 3_000, 0, 0]);
    clock.advance(Duration::from_mins(6));
    assert_eq!(cost(&fake, &system, "y"), [5, 2_000, 1_000, 0]);
    clock.advance(Duration::from_mins(61));
    assert_eq!(cost(&fake, &system, "y"), [5, 0, 1_000, 2_000]);
}

#[test]
fn what_is_short_differs_or_is_not_marked_is_not_read() {
    let (fake, _) = start("");
    let short = json!([block("a", 1_000, Some("5m"))]);
    assert_eq!(cost(&fake, &short, "x"), [1_005, 0, 0, 0]);
    assert_eq!(cost(&fake, &short, "x"), [1_005, 0, 0, 0]);
    let marked = json!([block("a", 2_000, Some("5m"))]);
    assert_eq!(cost(&fake, &marked, "x"), [5, 0, 2_000, 0]);
    assert_eq!(cost(&fake, &json!([block("a", 2_000, None)]), "x"), [2_005, 0, 0, 0]);
    assert_eq!(cost(&fake, &json!([block("b", 2_000, Some("5m"))]), "x"), [5, 0, 2_000, 0]);
}

#[test]
fn a_prefix_can_be_read_from_when_its_first_answer_begins() {
    let (fake, clock) = start("delivery: {latency_ms: 20, first_byte_ms: 10}");
    let system = json!([block("a", 2_000, Some("5m"))]);
    assert_eq!(cost(&fake, &system, "x"), [5, 0, 2_000, 0]);
    clock.advance(Duration::from_millis(29));
    assert_eq!(cost(&fake, &system, "y"), [5, 0, 2_000, 0]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(cost(&fake, &system, "z"), [5, 2_000, 0, 0]);
}
