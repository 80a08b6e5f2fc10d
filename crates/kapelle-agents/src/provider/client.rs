//! One provider: where it is, how it is spoken to, and one call of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use kapelle_core::port::agent::Failure;
use kapelle_core::{Digest, Json};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use tokio::sync::Mutex;
use url::Url;

use super::openai::MaxTokensAs;
use super::sse::{Events, MARK};
use super::veil::{Shown, Veil};
use super::{Delta, Key, KeySource, Prompt, Reply, anthropic, error, openai};
use crate::egress::{self, Egress};
use crate::http::failure;

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The Messages format.
    Anthropic,
    /// The Chat Completions format.
    OpenAi,
}

/// Why there is no answer, and what the provider said of its limits all the same.
#[derive(Debug)]
pub struct Trouble {
    /// Why.
    pub failure: Failure,
    /// Those that tell of limits; empty where nothing came.
    pub headers: HeaderMap,
    /// Nothing but a limit was in the way, and the provider has said until when.
    pub is_early: bool,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self { failure, headers: HeaderMap::new(), is_early: false }
    }
}

/// The version of the Messages format that is asked for unless the configuration says another.
const ANTHROPIC_VERSION: &str = "2026-10-21";

/// One provider.
#[derive(Debug)]
pub struct Provider {
    /// What the configuration calls it.
    pub name: Box<str>,
    /// How it is spoken to.
    pub wire: Wire,
    url: Url,
    /// The same without credentials, as it is told.
    at: Box<str>,
    version: Box<str>,
    tokens_max: Option<u64>,
    max_tokens_as: Option<MaxTokensAs>,
    source: Option<KeySource>,
    key: Mutex<Option<Key>>,
    egress: Arc<Egress>,
}

impl Provider {
    /// A provider at `base`, such as `https://api.anthropic.com` or `http://localhost:11434/v1`;
    /// without a source no key is sent.
    pub fn new(
        name: &str,
        wire: Wire,
        base: &Url,
        source: Option<KeySource>,
        egress: Arc<Egress>,
    ) -> Self {
        let url = endpoint(wire, base);
        Self {
            name: name.into(),
            wire,
            at: format!("{}{}", url.origin().ascii_serialization(), url.path()).into(),
            url,
            version: ANTHROPIC_VERSION.into(),
            tokens_max: None,
            max_tokens_as: None,
            source,
            key: Mutex::default(),
            egress,
        }
    }

    /// The same, asked in another version of the Messages format.
    #[must_use]
    pub fn in_version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// The same, whose models answer with so many tokens at the most, whatever is asked.
    #[must_use]
    pub const fn at_most(mut self, tokens: Option<u64>) -> Self {
        self.tokens_max = tokens;
        self
    }

    /// The same, told in this word how long an answer may be; else the one that it most likely reads.
    #[must_use]
    pub const fn told_as(mut self, word: Option<MaxTokensAs>) -> Self {
        self.max_tokens_as = word;
        self
    }

    /// Where its key is found.
    #[must_use]
    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    /// The request for `prompt`: what a record of the call is looked up by.
    #[must_use]
    pub fn body(&self, prompt: &Prompt) -> Json {
        let least = self.answer_max(prompt);
        match self.wire {
            Wire::Anthropic => anthropic::body(prompt, least),
            Wire::OpenAi => {
                let likely = || MaxTokensAs::of(&self.url, &prompt.model);
                openai::body(prompt, least, self.max_tokens_as.unwrap_or_else(likely))
            }
        }
    }

    /// How many tokens an answer to `prompt` has at the most.
    #[must_use]
    pub fn answer_max(&self, prompt: &Prompt) -> u64 {
        self.tokens_max.map_or(prompt.tokens_max, |max| max.min(prompt.tokens_max))
    }

    /// Makes one call: one request, whatever comes of it. `on` hears the answer as it comes; `key` is
    /// the idempotency key.
    pub async fn ask(
        &self,
        body: &Json,
        key: &str,
        on: &mut (dyn FnMut(Delta<'_>) + Send),
    ) -> Result<Reply, Trouble> {
        let secret = self.key().await?;
        let veil = secret.as_ref().map(Key::veil).unwrap_or_default();
        let asked = AssertUnwindSafe(self.ask_with(secret, &veil, body, key, on)).catch_unwind();
        // What a panic says may quote what it stumbled over, and that the key.
        let asked = match asked.await {
            Ok(asked) => asked,
            Err(panic) => Err(error::panicked(panic.as_ref()).into()),
        };
        asked.map_err(|trouble| Trouble { failure: veil.failure(trouble.failure), ..trouble })
    }

    async fn ask_with(
        &self,
        secret: Option<Key>,
        veil: &Veil,
        body: &Json,
        key: &str,
        on: &mut (dyn FnMut(Delta<'_>) + Send),
    ) -> Result<Reply, Trouble> {
        let body = Bytes::from(body.to_string());
        // Another model, or news in the prompt, make another request of it.
        let key = format!("{key}/{}", &Digest::of(&body).hex()[..8]);
        let request = egress::Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: self.headers(secret, &key),
            body: Some(body),
            keep: Vec::new(),
        };
        let mut answer = self.egress.open(request).await.map_err(failure)?;
        if !answer.status.is_success() {
            return Err(self.refused(veil, &mut answer).await);
        }
        on(Delta::Begun(&limits(&answer.headers)));
        let (mut coming, mut shown) = (Coming::new(self.wire), Shown::default());
        let (mut events, mut other) = (Events::default(), Other::default());
        while let Some(piece) = answer.next().await.map_err(failure)? {
            if other.takes(&piece) {
                continue;
            }
            let mut fault = None;
            let taken = events.take(&piece, |data| {
                other.none();
                if fault.is_none() {
                    let hear = &mut |delta: Delta<'_>| shown.hear(veil, &delta, on);
                    fault = read(veil, data).and_then(|event| coming.take(event, hear)).err();
                }
            });
            taken.map_err(|_| error::too_long())?;
            fault.map_or(Ok(()), Err)?;
        }
        shown.rest(on);
        let mut reply = match other.came(&answer.headers) {
            Some(came) => self.whole(veil, came, &answer.headers, on)?,
            None => coming.finish()?,
        };
        reply.request = request_id(veil, &answer.headers);
        // Each event was without the key: in pieces it may have come all the same.
        veil.reply(&mut reply);
        Ok(reply)
    }

    /// The answer of a server that does not stream, or why it is none.
    fn whole(
        &self,
        veil: &Veil,
        came: &[u8],
        headers: &HeaderMap,
        on: &mut (dyn FnMut(Delta<'_>) + Send),
    ) -> Result<Reply, Failure> {
        let json = match serde_json::from_slice::<Json>(came) {
            Err(cause) if cause.is_eof() => return Err(error::cut()),
            json => json.ok().filter(Json::is_object),
        };
        let mut body = json.unwrap_or_else(|| String::from_utf8_lossy(came).into());
        veil.json(&mut body);
        if let Some(fault) = error::of(&body) {
            return Err(error::in_place(fault));
        }
        let start = Json::String(body.as_str().map_or_else(|| body.to_string(), str::to_owned));
        let reply = match self.wire {
            Wire::Anthropic => anthropic::Answer::whole(body, on),
            Wire::OpenAi => openai::Answer::whole(body, on),
        };
        reply.unwrap_or_else(|| {
            let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let kind = veil.text(kind.unwrap_or("something"));
            Err(error::no_answer(&self.said(&start, None, None), &kind))
        })
    }

    fn said<'a>(
        &'a self,
        body: &'a Json,
        to: Option<&'a str>,
        request: Option<&'a str>,
    ) -> error::Said<'a> {
        error::Said { of: &self.name, at: &self.at, to, body, request }
    }

    /// What an error status means.
    async fn refused(&self, veil: &Veil, answer: &mut egress::Stream) -> Trouble {
        if answer.status == 401 {
            // It may have been exchanged: look again the next time.
            *self.key.lock().await = None;
        }
        let rest = answer.rest().await;
        let text = || String::from_utf8_lossy(&rest).into();
        let mut body: Json = serde_json::from_slice(&rest).unwrap_or_else(|_| text());
        // Before anything is shortened: half a key is not found any more.
        veil.json(&mut body);
        let request = request_id(veil, &answer.headers);
        let to = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection());
        let to = to.and_then(|to| to.to_str().ok());
        // What is asked there is nobody's business.
        let to = to.map(|to| veil.text(to.split(['?', '#']).next().unwrap_or(to)));
        let said = self.said(&body, to.as_deref(), request.as_deref());
        let failure = error::refused(answer.status, &answer.headers, &said, Timestamp::now());
        let is_early = error::is_early(&failure, &answer.headers);
        Trouble { failure, headers: limits(&answer.headers), is_early }
    }

    fn headers(&self, secret: Option<Key>, key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert("idempotency-key", key);
        }
        match self.wire {
            Wire::Anthropic => {
                let version = HeaderValue::from_str(&self.version);
                headers.insert("anthropic-version", version.expect("it was checked"));
                secret.map(|key| headers.insert("x-api-key", key.header()));
            }
            Wire::OpenAi => {
                secret.map(|key| headers.insert("authorization", key.bearer()));
            }
        }
        headers
    }

    /// What tells its key from others there, and does not tell it.
    pub(super) async fn fingerprint(&self) -> Result<Digest, Failure> {
        let key = self.key().await?;
        let key = key.as_ref().map(Key::header);
        let key = key.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        Ok(Digest::of(&[self.url.as_str().as_bytes(), &[0], key].concat()))
    }

    async fn key(&self) -> Result<Option<Key>, Failure> {
        let Some(source) = &self.source else { return Ok(None) };
        let mut known = self.key.lock().await;
        if known.is_none() {
            *known = Some(source.read().await?);
        }
        Ok(known.clone())
    }
}

/// Where calls go. A base may end with the version or not.
fn endpoint(wire: Wire, base: &Url) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    let path = match wire {
        Wire::Anthropic => format!("{}/v1/messages", path.trim_end_matches("/v1")),
        Wire::OpenAi if path.is_empty() => "/v1/chat/completions".to_owned(),
        Wire::OpenAi => format!("{path}/chat/completions"),
    };
    url.set_path(&path);
    url
}

/// The provider's name for a call.
fn request_id(veil: &Veil, headers: &HeaderMap) -> Option<Box<str>> {
    let id = headers.get("request-id").or(headers.get("x-request-id"))?;
    let id = veil.text(id.to_str().ok()?).chars().take(100).collect::<String>();
    Some(id.into())
}

/// The headers that tell of limits; what others say stays here.
fn limits(headers: &HeaderMap) -> HeaderMap {
    let told = headers.iter().filter(|(name, _)| name.as_str().contains("ratelimit"));
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An event of an answer; what ends some of them says nothing.
fn read(veil: &Veil, data: &[u8]) -> Result<Json, Failure> {
    if data.trim_ascii() == b"[DONE]" {
        return Ok(Json::Null);
    }
    let mut event = serde_json::from_slice(data).map_err(|cause| error::garbled(&cause))?;
    veil.json(&mut event);
    Ok(event)
}

/// What may come in the place of a stream of events: JSON, or a page. No line of events begins like those.
#[derive(Default)]
struct Other {
    bytes: Vec<u8>,
    /// Whether it is that, as far as has been seen.
    is_it: Option<bool>,
}

impl Other {
    /// So much is kept of what may still be a stream.
    const START: usize = 1 << 10;

    /// Takes a piece, if it is none of a stream.
    fn takes(&mut self, piece: &[u8]) -> bool {
        if self.is_it == Some(false) {
            return false;
        }
        // The start of a page tells enough of it.
        if self.bytes.len() < Self::START || self.text().first() != Some(&b'<') {
            self.bytes.extend_from_slice(piece);
        }
        if self.is_it.is_none() {
            let text = self.text();
            let fields: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];
            let is_long = self.bytes.len() > Self::START;
            match text.first() {
                Some(b'{' | b'[' | b'<') => self.is_it = Some(true),
                _ if is_long || fields.iter().any(|field| text.starts_with(field)) => self.none(),
                _ => {}
            }
        }
        self.is_it == Some(true)
    }

    fn text(&self) -> &[u8] {
        self.bytes.strip_prefix(MARK).unwrap_or(&self.bytes).trim_ascii()
    }

    /// An event has come: it is a stream.
    fn none(&mut self) {
        *self = Self { bytes: Vec::new(), is_it: Some(false) };
    }

    /// What came, if it was no stream, nor the start of one.
    fn came(&self, headers: &HeaderMap) -> Option<&[u8]> {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_it = self.is_it.unwrap_or_else(|| !kind.starts_with(b"text/event-stream"));
        Some(self.text()).filter(|text| is_it && !text.is_empty())
    }
}

/// An answer on its way.
enum Coming {
    Anthropic(anthropic::Answer),
    OpenAi(openai::Answer),
}

impl Coming {
    fn new(wire: Wire) -> Self {
        match wire {
            Wire::Anthropic => Self::Anthropic(anthropic::Answer::default()),
            Wire::OpenAi => Self::OpenAi(openai::Answer::default()),
        }
    }

    fn take(&mut self, event: Json, on: &mut dyn FnMut(Delta<'_>)) -> Result<(), Failure> {
        match self {
            Self::Anthropic(answer) => answer.take(event, on),
            Self::OpenAi(answer) => answer.take(event, on),
        }
    }

    fn finish(self) -> Result<Reply, Failure> {
        match self {
            Self::Anthropic(answer) => answer.finish(),
            Self::OpenAi(answer) => answer.finish(),
        }
    }
}

/// The limits of calls: a model may be silent while it thinks.
pub const LIMITS: egress::Limits = egress::Limits {
    connect: Duration::from_secs(5),
    idle: Duration::from_secs(600),
    body_max: 64 << 20,
    redirects_max: 0,
    // Shorter than servers keep theirs.
    keep: Duration::from_secs(20),
};
