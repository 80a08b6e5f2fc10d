//! A client that sees every byte, and a fake to ask.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use kapelle_fake::{Fake, Script};
use serde_json::Value;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// The connection broke before the body was over.
    pub(crate) broke: bool,
}

pub(crate) fn fake(script: &str) -> Fake {
    Fake::start(Script::parse(script).unwrap()).unwrap()
}

pub(crate) fn anthropic(fake: &Fake, body: &Value) -> Got {
    let headers = [("x-api-key", "k"), ("anthropic-version", "2026-10-21")];
    ask(fake, "POST", "/v1/messages", &headers, &body.to_string())
}

pub(crate) fn openai(fake: &Fake, body: &Value) -> Got {
    let headers = [("authorization", "Bearer k")];
    ask(fake, "POST", "/v1/chat/completions", &headers, &body.to_string())
}

pub(crate) fn ask(
    fake: &Fake,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Got {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let headers: String = headers.iter().map(|(k, v)| format!("{k}: {v}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let broke = stream.read_to_end(&mut bytes).is_err();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_chunked = head.contains("transfer-encoding: chunked");
    let (body, whole) = if is_chunked { unchunked(rest) } else { (rest.to_owned(), true) };
    Got { status, head: head.to_lowercase(), body, broke: broke || !whole }
}

/// What chunks hold, and whether the last one came.
fn unchunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            return (body, true);
        }
        body.push_str(&after[..size.min(after.len())]);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }

    /// The data of each event of a stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The error's type and message on Anthropic's wire.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let error = &self.json()["error"];
        let text = |field: &str| error[field].as_str().unwrap().to_owned();
        (self.status, text("type"), text("message"))
    }
}
