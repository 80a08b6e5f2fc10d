//! Requests in: whatever the bytes are, a server answers what it documents, or closes the connection;
//! it never panics and never fails.
//!
//! An input is some requests with a line `---` between them, each as it stands in HTTP, but for who asks, which
//! comes first: `admin GET /runs?limit=1`, headers, an empty line, the body. `Host`, the key and the length of the
//! body are put in where the input does not name them. `$RUN` and `$ATTEMPT` are what the answers before told.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;

use kapelle::probe::Probe;
use kapelle_api::NewKey;
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

/// How many inputs a node has before there is a new one: what it keeps is not given back.
const INPUTS_MAX: u32 = 500;
/// How many requests of an input are asked.
const REQUESTS_MAX: usize = 8;
/// What they may name: nothing that leaves this process.
const AGENTS: [&str; 2] = ["echo", "shout"];
const ROLES: [&str; 5] = ["viewer", "submitter", "worker", "operator", "admin"];

/// What is asked, with all that it keeps.
struct Server {
    runtime: Runtime,
    probe: Option<Probe>,
    inputs: u32,
}

/// One input: it has a tenant of its own, so that what it comes to depends on nothing before it.
struct Session<'a> {
    probe: &'a Probe,
    tenant: String,
    keys: BTreeMap<&'static str, String>,
    /// What the answers told.
    told: [(&'static str, String); 2],
}

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new());
}

fuzz_target!(|bytes: &[u8]| SERVER.with_borrow_mut(|server| server.take(bytes)));

impl Server {
    fn new() -> Self {
        // Whoever waits for nothing but the clock has waited.
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        Self { runtime: runtime.expect("a runtime"), probe: None, inputs: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.inputs % INPUTS_MAX == 0 {
            let old = self.probe.take();
            self.probe = Some(self.runtime.block_on(async {
                if let Some(old) = old {
                    old.close().await.expect("it closes");
                }
                Probe::open().await.expect("a node")
            }));
        }
        self.inputs += 1;
        let Some(probe) = &self.probe else { return };
        let told = [("$RUN", "none".to_owned()), ("$ATTEMPT", "none".to_owned())];
        let tenant = format!("t{}", self.inputs);
        let mut session = Session { probe, tenant, keys: BTreeMap::new(), told };
        self.runtime.block_on(async {
            for request in split(bytes, b"\n---\n").into_iter().take(REQUESTS_MAX) {
                session.ask(request).await;
            }
        });
    }
}

impl Session<'_> {
    async fn ask(&mut self, request: &[u8]) {
        let (head, body) = cut(request, b"\n\n");
        let (head, body) = (self.filled(head), self.filled(body));
        let (who, rest) = cut(&head, b" ");
        let (first, headers) = cut(rest, b"\n");
        let mut sent = [first, b" HTTP/1.1\r\n"].concat();
        for line in split(headers, b"\n").into_iter().filter(|line| !line.is_empty()) {
            sent.extend([line, b"\r\n"].concat());
        }
        let names = |name: &str| {
            let of = |line: &&[u8]| cut(line, b":").0.eq_ignore_ascii_case(name.as_bytes());
            split(headers, b"\n").iter().any(of)
        };
        if !names("host") {
            sent.extend(b"Host: localhost\r\n");
        }
        let is_framed = names("content-length") || names("transfer-encoding");
        if !is_framed {
            sent.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        if let Some(role) = ROLES.into_iter().find(|role| role.as_bytes() == who) {
            let key = self.key(role).await;
            sent.extend(format!("Authorization: Bearer {key}\r\n").bytes());
        }
        sent.extend(b"Connection: close\r\n\r\n");
        sent.extend(&body);
        let answer = self.answer(&sent).await;
        let is_head = first.starts_with(b"HEAD ");
        if let Err(fault) = self.look(&answer, is_head) {
            panic!(
                "{fault}\n{}\n----\n{}",
                String::from_utf8_lossy(&sent),
                String::from_utf8_lossy(&answer)
            );
        }
    }

    /// A key of the input's tenant that has this role.
    async fn key(&mut self, role: &'static str) -> String {
        if let Some(key) = self.keys.get(role) {
            return key.clone();
        }
        let agents = Some(AGENTS.map(str::to_owned).to_vec());
        let (roles, tenant) = (vec![role.to_owned()], Some(self.tenant.clone()));
        let new = NewKey { name: role.to_owned(), roles, tenant, agents, ..NewKey::default() };
        let key = self.probe.owner().create_key(&new).await.expect("a key").key;
        self.keys.insert(role, key.clone());
        key
    }

    /// All that the server says, or the head of what does not end.
    async fn answer(&self, sent: &[u8]) -> Vec<u8> {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let client = async {
            // It may answer, and close, before it has read all.
            ours.write_all(sent).await.ok();
            let mut answer = Vec::new();
            while ours.read_buf(&mut answer).await.is_ok_and(|len| len > 0) {
                if cut(&answer, b"\r\n\r\n").0.windows(17).any(|part| part == b"text/event-stream") {
                    break;
                }
            }
            drop(ours);
            answer
        };
        tokio::join!(client, self.probe.answer(theirs)).0
    }

    /// Whether it is an answer as there should be one.
    fn look(&mut self, answer: &[u8], is_head: bool) -> Result<(), String> {
        if answer.is_empty() {
            return Ok(());
        }
        let (head, body) = cut(answer, b"\r\n\r\n");
        let head = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or("no status")?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        if status == 500 || (status > 500 && header("retry-after").is_none()) {
            return Err("it failed".to_owned());
        }
        let kind = header("content-type");
        // Of what is no request nobody knows more.
        let is_none = [400, 414, 431].contains(&status) && header("content-length") == Some("0");
        if status >= 400 && !is_none && kind != Some("application/problem+json") {
            return Err("an error that is no problem".to_owned());
        }
        if is_head || is_none || !kind.is_some_and(|kind| kind.contains("json")) {
            return Ok(());
        }
        let body: Json = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        if status >= 400 && (body["status"] != status || !body["code"].is_string()) {
            return Err("a problem that is none".to_owned());
        }
        for (at, name) in ["id", "attempt"].into_iter().enumerate() {
            if let Some(told) = body[name].as_str().filter(|_| status < 300) {
                told.clone_into(&mut self.told[at].1);
            }
        }
        Ok(())
    }

    /// With what the answers before told in its places.
    fn filled(&self, text: &[u8]) -> Vec<u8> {
        let mut filled = text.to_vec();
        for (name, value) in &self.told {
            filled = split(&filled, name.as_bytes()).join(value.as_bytes());
        }
        filled
    }
}

/// What is before and after the first of those.
fn cut<'a>(bytes: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = bytes.windows(at.len()).position(|part| part == at);
    found.map_or((bytes, &[]), |found| (&bytes[..found], &bytes[found + at.len()..]))
}

fn split<'a>(mut bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(found) = bytes.windows(at.len()).position(|part| part == at) {
        parts.push(&bytes[..found]);
        bytes = &bytes[found + at.len()..];
    }
    parts.push(bytes);
    parts
}
