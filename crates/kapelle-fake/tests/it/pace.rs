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
    let fake = fake(&format!("delivery: {{{delivery}}}"));
    let begin = Instant::now();
    assert!(!anthropic(&fake, &claude(stream)).broke);
    begin.elapsed().as_millis()
}

#[test]
fn an_answer_takes_its_time_before_its_head_its_first_byte_and_its_events() {
    assert!(took("latency_ms: 60, first_byte_ms: 60", false) >= 120);
    assert!(took("latency_ms: 60, first_byte_ms: 60", true) >= 120);
    // Seven events come after the first.
    assert!(took("event_ms: 20", true) >= 140);
}

/// Asks for a stream and reads its head alone.
fn begin(fake: &Fake) -> TcpStream {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let body = claude(true).to_string();
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
    let held: Vec<TcpStream> = (0..10).map(|_| begin(&fake)).collect();
    assert_eq!((fake.counts().open, fake.counts().open_max), (10, 10));
    drop(held);
    wait_until(|| fake.counts().open == 0);
    assert_eq!((fake.counts().open_max, fake.journal().len()), (10, 10));
    assert!(fake.journal().iter().all(|entry| !entry.delivered && entry.cut_at == Some(0)));
}

#[test]
fn an_answer_from_before_a_reset_is_not_taken_for_one_after_it() {
    let fake = fake("rules: [{faults: [{stall_at: 0, at: [1]}]}]");
    let held = begin(&fake);
    fake.reset();
    // The counts of the rule begin anew as well: this one stalls too.
    let other = begin(&fake);
    drop(held);
    wait_until(|| fake.counts().open == 1);
    assert_eq!(fake.journal().iter().map(|entry| entry.n).collect::<Vec<_>>(), [1]);
    drop(other);
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
    let mut held = begin(&fake);
    let address = fake.address();
    drop(fake);
    let mut rest = Vec::new();
    // The end of the stream or a reset: it does not hang.
    held.read_to_end(&mut rest).ok();
    assert!(rest.is_empty(), "{rest:?}");
    wait_until(|| TcpStream::connect(address).is_err());
}
