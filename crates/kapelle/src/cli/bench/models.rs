//! What Kapelle adds to calls of a model: beside raw HTTP, in streams, and over many runs at once.
//!
//! The provider is the fake one, in a process of its own. Raw HTTP is one connection on which nothing
//! is read but where an answer ends; it takes turns with ours, so that both see the same weather.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use kapelle_agents::egress::{Egress, Policy};
use kapelle_agents::model::{Definition, Model};
use kapelle_agents::provider::{
    KeySource, LIMITS, Models, Part, Prices, Prompt, Provider, Role, Turn, Wire,
};
use kapelle_core::Json;
use kapelle_core::port::Agents;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::workload::CALL_MS;
use super::{Measured, forget_peak};
use crate::cli::exit::{Exit, Stop};

/// How many events a long answer comes in.
const EVENTS: usize = 1_000;
/// How many answers come at once, and how long each takes.
const STREAMS: usize = 1_000;
const STREAM_MS: usize = 2_000;
/// What a provider is called here.
const NAME: &str = "fake";

/// The fake provider in a process of its own, as long as this lives.
pub(super) struct Fake {
    process: Child,
    url: String,
}

impl Fake {
    pub(super) fn start() -> Result<Self, Stop> {
        let script = tempfile::NamedTempFile::new()?;
        std::fs::write(script.path(), rules().to_string())?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["dev", "fake-model", "--json", "--script"])
            .arg(script.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = said["url"].as_str().unwrap_or_default().to_owned();
        Ok(Self { process, url })
    }

    /// An agent that asks it.
    pub(super) fn agents(&self) -> Result<Agents, Stop> {
        let models = Models::new(vec![self.provider()?], Prices::shipped());
        let definition =
            Definition { model: Some(format!("{NAME}/{MODEL}").into()), ..Definition::plain() };
        let mut agents = Agents::default();
        let model = Model::new(definition, Arc::new(models), Arc::default());
        agents.register(Arc::new(model)).map_err(Stop::usage)?;
        Ok(agents)
    }

    fn provider(&self) -> Result<Provider, Stop> {
        let base = self.url.parse().map_err(|_| failed("the fake provider did not start"))?;
        let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
        let key = KeySource::Command(vec!["echo".into(), "k".into()]);
        Ok(Provider::new(NAME, Wire::Anthropic, &base, Some(key), egress))
    }

    /// One call and one event, ours and raw, and many streams at once.
    pub(super) async fn parts(&self, at_least: Duration) -> Result<Vec<Measured>, Stop> {
        let provider = self.provider()?;
        let mut parts = Vec::new();
        for (what, name, raw_name, each) in
            [("short", "call", "raw_call", 1), ("long", "event", "raw_event", EVENTS)]
        {
            let body = provider.body(&prompt(what));
            let mut raw = Raw::connect(&self.url, &body).await?;
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            let began = Instant::now();
            // The first calls of both open connections.
            while ours.len() < 3 || began.elapsed() < at_least / 4 {
                let since = Instant::now();
                provider.ask(&body, "bench", &mut |_| {}).await.map_err(|t| failed(&t.failure))?;
                ours.push(since.elapsed());
                let since = Instant::now();
                raw.call().await?;
                bare.push(since.elapsed());
            }
            parts.push(part(name, each, ours, Some(&bare)));
            parts.push(part(raw_name, each, bare, None));
        }
        parts.push(self.streams(&provider).await?);
        Ok(parts)
    }

    async fn streams(&self, provider: &Provider) -> Result<Measured, Stop> {
        forget_peak();
        let body = provider.body(&prompt("slow"));
        let began = Instant::now();
        let one = async |n: usize| {
            let key = format!("bench-{n}");
            let mut events = 0_u64;
            let asked = provider.ask(&body, &key, &mut |_| events += 1).await;
            asked.map(|_| events).map_err(|trouble| failed(&trouble.failure))
        };
        let events: u64 = try_join_all((0..STREAMS).map(one)).await?.into_iter().sum();
        let seconds = began.elapsed().as_secs_f64();
        let measured = Measured::new("streams", STREAMS, seconds, Vec::new());
        let ideal = super::number(STREAM_MS) / 1e3;
        Ok(Measured { runs: 1, events, of_limit: Some(ideal / seconds), ..measured })
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

const MODEL: &str = "claude-sonnet-5-5";

/// What is answered to what.
fn rules() -> Json {
    // An event brings twenty bytes of the text.
    let text = |events: usize| json!([{"text": "twenty bytes a time ".repeat(events)}]);
    let (slow, many) = (STREAM_MS / 50, 40);
    json!({
        // Vendors tell of their limits: who does not is asked by a few at a time first.
        "limits": {"requests": {"per_minute": 60_000_000}},
        "rules": [
            {"when": {"user_contains": "short"}, "answer": text(1)},
            {"when": {"user_contains": "long"}, "answer": text(EVENTS),
             "delivery": {"delta_bytes": 20}},
            {"when": {"user_contains": "slow"}, "answer": text(many),
             "delivery": {"delta_bytes": 20, "event_ms": slow}},
            {"when": {"user_contains": "nap"}, "answer": text(1),
             "delivery": {"latency_ms": CALL_MS}},
        ]
    })
}

fn prompt(what: &str) -> Prompt {
    let parts = vec![Part::Text { text: what.into() }];
    Prompt {
        model: MODEL.into(),
        system: None,
        shared: 0,
        turns: vec![Turn { role: Role::User, by: None, parts }],
        tools: Vec::new(),
        schema: None,
        tokens_max: 16_000,
        effort: None,
    }
}

/// Figures of calls that brought `each` things; beside `bare`, what that took of our time.
fn part(name: &str, each: usize, times: Vec<Duration>, bare: Option<&[Duration]>) -> Measured {
    let whole = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64();
    let seconds = whole(&times);
    let (runs, steps) = (times.len(), times.len() * each);
    let divisor = u32::try_from(each).expect("they are few");
    let times = times.into_iter().map(|time| time / divisor).collect();
    let of_limit = bare.map(|bare| whole(bare) / seconds);
    Measured { runs, of_limit, ..Measured::new(name, steps, seconds, times) }
}

fn failed(why: impl std::fmt::Display) -> Stop {
    Stop::new(Exit::Failed, why.to_string())
}

/// One request, again and again on one connection.
struct Raw {
    stream: TcpStream,
    request: String,
}

impl Raw {
    async fn connect(url: &str, body: &Json) -> Result<Self, Stop> {
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let body = body.to_string();
        let request = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             anthropic-version: 2023-06-01\r\nx-api-key: k\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request })
    }

    /// Reads up to the end of the last chunk.
    async fn call(&mut self) -> Result<(), Stop> {
        self.stream.write_all(self.request.as_bytes()).await?;
        let (mut piece, mut end) = (vec![0; 64 << 10], Vec::new());
        while !end.ends_with(b"0\r\n\r\n") {
            let read = self.stream.read(&mut piece).await?;
            if read == 0 {
                return Err(failed("the fake provider hung up"));
            }
            end.extend_from_slice(&piece[..read]);
            end.drain(..end.len().saturating_sub(5));
        }
        Ok(())
    }
}
