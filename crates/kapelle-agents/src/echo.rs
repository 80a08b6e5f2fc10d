//! `echo`: answers what it is given. For tests, demos and benchmarks.
//!
//! It can wait, fail the first few attempts, and perform effects, so that every rule about retries
//! and recorded effects can be seen with the shipped binary.

use std::time::Duration;

use async_trait::async_trait;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Effect, Failure, FailureKind, Progress, Safety,
};
use kapelle_core::{DURATION_PATTERN, Json};
use serde::Deserialize;
use serde_json::json;

use crate::input::{Span, cancelled, expect_action, read};

/// Answers what it is given.
#[derive(Debug)]
pub struct Echo {
    card: Card,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    value: Json,
    delay: Option<Span>,
    fail: Option<Fail>,
    effects: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    times: u32,
    kind: FailureKind,
    #[serde(default = "yes")]
    certain: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Echo {
    fn default() -> Self {
        Self::new()
    }
}

impl Echo {
    /// The agent.
    #[must_use]
    pub fn new() -> Self {
        let action = Action {
            name: "echo".into(),
            description: "Answers `value`; with `effects`, `{value, effects}`".into(),
            input: input_schema(),
            output: json!(true),
        };
        let card = Card {
            name: "echo".into(),
            description: "Answers what it is given; for tests, demos and benchmarks".into(),
            actions: vec![action],
            concurrency_max: None,
        };
        Self { card }
    }
}

fn input_schema() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "value": {"description": "the answer"},
            "delay": {
                "description": "how long to wait before the answer, or before each effect",
                "type": ["string", "integer"], "pattern": DURATION_PATTERN, "minimum": 0
            },
            "fail": {
                "description": "fails the first `times` attempts",
                "type": "object",
                "required": ["times", "kind"],
                "additionalProperties": false,
                "properties": {
                    "times": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
                    "kind": {"enum": [
                        "invalid", "refused", "denied", "timeout", "rate_limited", "unavailable",
                        "crashed", "lost", "cancelled", "budget", "diverged", "bug"
                    ]},
                    "certain": {"type": "boolean", "default": true}
                }
            },
            "effects": {
                "description": "how many recorded effects to perform, one after the other",
                "type": "integer", "minimum": 0, "maximum": 10_000
            }
        }
    })
}

#[async_trait]
impl Agent for Echo {
    fn card(&self) -> &Card {
        &self.card
    }

    fn is_immediate(&self) -> bool {
        true
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        expect_action("echo", "echo", &call.action)?;
        let input: Input = read(&call.input)?;
        tokio::select! {
            value = answer(&call, input, desk) => Ok(Answer { value: value?, ..Answer::default() }),
            () = desk.cancelled() => Err(cancelled()),
        }
    }
}

async fn answer(call: &Call, input: Input, desk: &dyn Desk) -> Result<Json, Failure> {
    let delay = input.delay.unwrap_or_default().0;
    let mut effects = Vec::new();
    for n in 1..=input.effects.unwrap_or(0) {
        effects.push(effect(call, n, delay, desk).await?);
        let fraction = input.effects.map(|all| f64::from(n) / f64::from(all));
        desk.progress(Progress { message: Some(format!("effect {n}").into()), fraction });
    }
    if input.effects.is_none() && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some(fail) = input.fail.filter(|fail| call.attempt.0 <= fail.times) {
        let message = format!("attempt {} of the {} that fail", call.attempt, fail.times);
        let failure = Failure::new(fail.kind, "told_to_fail", message);
        return Err(if fail.certain { failure } else { failure.uncertain() });
    }
    Ok(match input.effects {
        Some(_) => json!({"value": input.value, "effects": effects}),
        None => input.value,
    })
}

/// Does the `n`th effect. What is recorded names the attempt and the key that did it, so that a
/// replayed effect shows in the answer of a later attempt.
async fn effect(call: &Call, n: u32, delay: Duration, desk: &dyn Desk) -> Result<Json, Failure> {
    let attempt = call.attempt.0;
    let effect =
        Effect { name: "echo".into(), safety: Safety::Repeatable, input: json!({"effect": n}) };
    let work = move |key: Box<str>| -> kapelle_core::port::agent::BoxFuture<'_, _> {
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            Ok(json!({"effect": n, "attempt": attempt, "key": key}))
        })
    };
    desk.effect(effect, Box::new(work)).await
}
