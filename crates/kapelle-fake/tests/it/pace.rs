//! When answers come, and what is known of clients that do not wait for them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kapelle_fake::Fake;
use serde_json::{Value, json};

use crate::support::{anthropic, fake};

fn claude(stream: bool) -> Value {
    json!({
        "model": "claude-sonnet-4-6", "max_tokens": 100, "stream": stream,
        "messages": [{ "role": "user", "content": "hello" }],
    })
}

/// How long an answer took at least, in milliseconds.
fn took(delivery: &str, stream: bool) -> u128 {
    // The shapes of requests are read once, by the first: that is not what is measured.
    anthropic(&fake(""), &claude(stream));
    let fake = fake(&format!("delivery: {{{delivery}}}"));
    let begin = Instant::now();
    assert!(!anthropic(&fake, &claude(stream)).broke);
    begin.elapsed().as_millis()
}

#[test]
fn an_answer_takes_its_time_before_its_head_its_first_byte_and_its_events() {
    assert!(took("latency_ms: 250, first_byte_ms: 250", false) >= 500);
    assert!(took("latency_ms: 250, first_byte_ms: 250", true) >= 500);
    // Six events come after the first.
    assert!(took("event_ms: 50", true) >= 300);
}

/// Asks for a stream and reads its head alone.
fn begin(fake: &Fake, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let body = claude(true).to_string().replace("hello", words);
    let length = body.len();
    let head =
        "POST /v1/messages HTTP/1.1\r\nhost: fake\r\nx-api-key: k\r\nanthropic-version: 2026-10-21";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    stream
}

fn wait_until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not come to that");
        std::thread::yield_now();
    }
}

#[test]
fn answers_on_their_way_are_counted_and_those_nobody_waits_for_are_told() {
    let fake = fake("faults: [{stall_at: 0}]");
    let held: Vec<TcpStream> = (0..10).map(|_| begin(&fake, "hello")).collect();
    assert_eq!((fake.counts().open, fake.counts().open_max), (10, 10));
    drop(held);
    wait_until(|| fake.counts().open == 0);
    assert_eq!((fake.counts().open_max, fake.journal().len()), (10, 10));
    assert!(fake.journal().iter().all(|entry| !entry.delivered && entry.cut_at == Some(0)));
}

#[test]
fn an_answer_from_before_a_reset_is_not_taken_for_one_after_it() {
    let script = "
rules:
  - {when: {user_contains: slow}, delivery: {event_ms: 50}}
  - {when: {user_contains: never}, faults: [{stall_at: 0}]}
";
    let fake = fake(script);
    let mut before = begin(&fake, "slow");
    fake.reset();
    let after = begin(&fake, "never");
    // HTTP/1.1 leaves the connection open: the end is seen in the stream.
    let mut seen = Vec::new();
    while !seen.ends_with(b"0\r\n\r\n") {
        let mut byte = [0];
        before.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    wait_until(|| fake.counts().open == 1);
    let entries = fake.journal();
    assert_eq!((entries.len(), entries[0].n, entries[0].delivered), (1, 1, false));
    drop(after);
}

#[test]
fn what_was_sent_to_its_end_is_known() {
    let fake = fake("");
    for stream in [false, true] {
        anthropic(&fake, &claude(stream));
    }
    wait_until(|| fake.counts().open == 0);
    assert!(fake.journal().iter().all(|entry| entry.delivered));
}

#[test]
fn a_fake_that_is_dropped_ends_its_connections() {
    let fake = fake("faults: [{stall_at: 0}]");
    let mut held = begin(&fake, "hello");
    let address = fake.address();
    drop(fake);
    let mut rest = Vec::new();
    // The end of the stream or a reset: it does not hang.
    held.read_to_end(&mut rest).ok();
    assert!(rest.is_empty(), "{rest:?}");
    wait_until(|| TcpStream::connect(address).is_err());
}
