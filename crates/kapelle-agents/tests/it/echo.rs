//! `echo`: waiting, failing, effects.

use std::time::{Duration, Instant};

use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::{Echo, contract};
use kapelle_core::Attempt;
use kapelle_core::port::agent::{Agent as _, FailureKind};
use serde_json::json;

#[tokio::test]
async fn the_first_attempts_fail_as_told() {
    let desk = ScratchDesk::new().unwrap();
    let mut call = contract::call(
        "echo",
        json!({"value": {"a": 1}, "fail": {"times": 2, "kind": "rate_limited"}}),
        "/",
    );
    for attempt in [1, 2] {
        call.attempt = Attempt(attempt);
        let failure = Echo::new().perform(call.clone(), &desk).await.unwrap_err();
        assert_eq!((failure.kind, failure.certain), (FailureKind::RateLimited, true));
    }
    call.attempt = Attempt(3);
    let answer = Echo::new().perform(call, &desk).await.unwrap();
    assert_eq!(answer.value, json!({"a": 1}));
}

#[tokio::test]
async fn it_waits_as_long_as_it_is_told() {
    for delay in [json!("120ms"), json!(120)] {
        let desk = ScratchDesk::new().unwrap();
        let call = contract::call("echo", json!({"value": 1, "delay": delay}), "/");
        let since = Instant::now();
        Echo::new().perform(call, &desk).await.unwrap();
        assert!(since.elapsed() >= Duration::from_millis(120));
    }
}

#[tokio::test]
async fn recorded_effects_are_not_done_again_in_the_next_attempt() {
    let desk = ScratchDesk::new().unwrap();
    let input =
        json!({"value": "v", "effects": 3, "fail": {"times": 1, "kind": "lost", "certain": false}});
    let mut call = contract::call("echo", input, "/");
    let failure = Echo::new().perform(call.clone(), &desk).await.unwrap_err();
    assert!(!failure.certain);
    assert_eq!(desk.progress_so_far().len(), 3);
    desk.next_attempt();
    call.attempt = Attempt(2);
    let answer = Echo::new().perform(call, &desk).await.unwrap();
    let attempts: Vec<_> = (0..3).map(|i| answer.value["effects"][i]["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 1, 1], "each was done in the first attempt");
}
