//! One request after the other: who asks, what, and what becomes of it.
//!
//! **Invariants:** a request is judged in this order: key, shape, limits, faults, answer; whatever
//! comes of it is in the journal before it leaves. Nothing here waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::answer::{Answer, Making};
use crate::anthropic::{self, read::Reader, write::Writing};
use crate::asked::Asked;
use crate::cache::{Billed, Cache};
use crate::clock::{Clock, rfc3339};
use crate::dice::Dice;
use crate::fault::{self, End, Harm, Hit, Spoiling};
use crate::frames;
use crate::journal::{Entry, Journal, Ticket};
use crate::limit::Limiter;
use crate::models::Models;
use crate::openai::{self, write::Chat};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::script::rule::{Chosen, Rules};
use crate::script::template::Names;
use crate::script::{Delivery, Limits, Model, Provider, Script};
use crate::sign::Signer;

/// Everything a fake has.
pub(crate) struct Shared {
    pub(crate) script: Script,
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
    models: Models,
    rules: Rules,
    signer: Signer,
    cache: Mutex<Cache>,
    limiter: Mutex<Limiter>,
    /// Requests for an answer that were in order.
    asked: AtomicU64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Answer,
    Count,
    Models,
    Model(String),
    Nothing,
}

/// A request as it came.
pub(crate) struct Call {
    pub(crate) provider: Provider,
    pub(crate) endpoint: Endpoint,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    /// None if it was too long.
    pub(crate) body: Option<Bytes>,
}

/// One request on its way through.
struct Work<'a> {
    shared: &'a Shared,
    call: &'a Call,
    entry: Entry,
    request_id: String,
    digest: [u8; 32],
}

/// Who asks.
struct Asker {
    name: String,
    limits: Limits,
    denied: bool,
}

impl Shared {
    pub(crate) fn new(script: Script, journal: Journal, clock: Clock) -> Self {
        Self {
            journal: Arc::new(journal),
            clock,
            models: Models::new(&script),
            rules: Rules::new(&script),
            signer: Signer::new(script.seed),
            cache: Mutex::default(),
            limiter: Mutex::default(),
            asked: AtomicU64::new(0),
            script,
        }
    }

    /// Judges a request and notes it; without a ticket the journal does not know it.
    pub(crate) fn take(&self, call: &Call) -> (Reply, Option<Ticket>) {
        let n = self.journal.number();
        let now_ms = self.clock.now_ms();
        let request_id = self.signer.id("req_", n);
        let idempotency_key = call.headers.get("idempotency-key");
        let entry = Entry {
            n,
            time: rfc3339(now_ms),
            time_ms: now_ms,
            path: call.path.clone(),
            request: request_id.clone(),
            idempotency_key: idempotency_key.and_then(|key| key.to_str().ok().map(str::to_owned)),
            ..Entry::default()
        };
        let digest = *blake3::hash(call.body.as_deref().unwrap_or_default()).as_bytes();
        let mut work = Work { shared: self, call, entry, request_id, digest };
        let mut reply = work.reply().unwrap_or_else(|refusal| work.refused(&refusal));
        let id_header = if call.provider.is_anthropic() { "request-id" } else { "x-request-id" };
        reply.headers.push((id_header.to_owned(), work.request_id.clone()));
        if call.provider.is_anthropic() {
            reply.headers.push(("anthropic-organization-id".to_owned(), "fake".to_owned()));
        }
        reply.headers.extend(work.rate_headers());
        work.entry.status = reply.status;
        if let End::Cut(at) | End::Stall(at) = reply.end {
            work.entry.cut_at = Some(at);
        }
        match self.journal.note(work.entry) {
            Ok(ticket) => (reply, Some(ticket)),
            // Nothing leaves that is not written down.
            Err(error) => {
                let refusal = Refusal::new(500, "api_error", format!("the journal: {error}"));
                (Reply::json(500, &refusal.body(call.provider, "")), None)
            }
        }
    }

    /// Forgets limits, caches and counts as well as the journal.
    pub(crate) fn reset(&self) {
        self.journal.clear();
        self.rules.reset();
        lock(&self.cache).clear();
        lock(&self.limiter).clear();
        self.asked.store(0, Ordering::SeqCst);
    }

    /// Who asks; one who may not is known by name too.
    fn asker(&self, headers: &HeaderMap, provider: Provider) -> Result<Asker, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let own = text("x-api-key").filter(|_| provider.is_anthropic());
        let Some(secret) = own.or(bearer).filter(|secret| !secret.is_empty()) else {
            return Err(unknown_key(provider, false));
        };
        let limits = self.script.limits.clone();
        if self.script.keys.is_empty() {
            return Ok(Asker { name: "any".to_owned(), limits, denied: false });
        }
        match self.script.keys.iter().find(|key| key.key == secret) {
            None => Err(unknown_key(provider, true)),
            Some(key) => {
                let limits = key.limits.clone().unwrap_or(limits);
                Ok(Asker { name: key.name.clone(), limits, denied: key.denied })
            }
        }
    }
}

impl Work<'_> {
    fn reply(&mut self) -> Result<Reply, Refusal> {
        let Call { provider, endpoint, headers, .. } = self.call;
        let shared = self.shared;
        if *endpoint == Endpoint::Nothing {
            return Err(self.no_such_path());
        }
        let asker = self.asker()?;
        match endpoint {
            Endpoint::Answer => {
                let body = self.body()?;
                let early =
                    lock(&shared.limiter).early(&asker.name, self.digest, self.entry.time_ms);
                self.entry.early = early;
                let asked = match provider {
                    Provider::Anthropic => self.reader().message(headers, &body)?,
                    Provider::Openai => openai::read::chat(&shared.models, &body)?,
                };
                self.answer(&asked, &asker)
            }
            Endpoint::Count => {
                let body = self.body()?;
                let asked = self.reader().count(headers, &body)?;
                let count = serde_json::json!({ "input_tokens": asked.prompt_tokens() });
                Ok(Reply::json(200, &count))
            }
            Endpoint::Models => Ok(Reply::json(200, &self.models()?)),
            Endpoint::Model(id) => Ok(Reply::json(200, &self.model(id)?)),
            Endpoint::Nothing => Err(self.no_such_path()),
        }
    }

    fn asker(&mut self) -> Result<Asker, Refusal> {
        let asker = self.shared.asker(&self.call.headers, self.call.provider)?;
        self.entry.key = Some(asker.name.clone());
        if asker.denied {
            return Err(Refusal::of_status(self.call.provider, 403));
        }
        Ok(asker)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { models: &self.shared.models, signer: &self.shared.signer }
    }

    fn body(&mut self) -> Result<Value, Refusal> {
        let provider = self.call.provider;
        let Some(bytes) = &self.call.body else {
            return Err(Refusal::of_status(provider, 413));
        };
        let body: Value = serde_json::from_slice(bytes).map_err(|error| match provider {
            Provider::Anthropic => {
                Refusal::invalid(format!("The request body is not valid JSON: {error}"))
            }
            Provider::Openai => {
                Refusal::invalid("We could not parse the JSON body of your request.")
            }
        })?;
        self.entry.model = body["model"].as_str().map(str::to_owned);
        self.entry.body = body.clone();
        Ok(body)
    }

    fn answer(&mut self, asked: &Asked, asker: &Asker) -> Result<Reply, Refusal> {
        let shared = self.shared;
        let provider = asked.provider;
        let model = shared.models.find(provider, &asked.model);
        let model = model.expect("a request for a model that is not there was refused");
        let now_ms = self.entry.time_ms;
        let looked = lock(&shared.cache).look(asked, &asker.name, model, now_ms);
        let charged = looked.billed.prompt() - looked.billed.read;
        lock(&shared.limiter)
            .take(&asker.name, &asker.limits, charged, now_ms)
            .map_err(|wait_ms| Refusal::of_status(provider, 429).after_ms(wait_ms))?;
        let count = shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let chosen = shared.rules.choose(asked, &asker.name, &self.call.headers);
        self.entry.rule = Some(chosen.as_ref().map_or("default", |chosen| chosen.name).to_owned());
        let hit = self.hit(chosen.as_ref(), count);
        if let Some(Hit { harm: Harm::Refuse(refusal), .. }) = hit {
            return Err(refusal);
        }
        let answer = self.made(asked, model, chosen.as_ref())?;
        let delivery = frames::delivery(&shared.script, chosen.as_ref());
        let begins_ms =
            now_ms + delivery.latency_ms.unwrap_or(0) + delivery.first_byte_ms.unwrap_or(0);
        lock(&shared.cache).keep(&looked, begins_ms);
        lock(&shared.limiter).answered(&asker.name, answer.output_tokens() * asked.choices);
        let harm = hit.map(|hit| hit.harm);
        self.written(asked, &answer, looked.billed, delivery, harm)
    }

    fn hit(&mut self, chosen: Option<&Chosen<'_>>, count: u64) -> Option<Hit> {
        let provider = self.call.provider;
        let dice = self.dice();
        let of_rule = chosen
            .and_then(|chosen| fault::first(&chosen.rule.faults, chosen.nth, 1, dice, provider));
        let of_script = || fault::first(&self.shared.script.faults, count, 501, dice, provider);
        let hit = of_rule.or_else(of_script)?;
        self.entry.faults.push(hit.name.clone());
        Some(hit)
    }

    fn made(
        &self,
        asked: &Asked,
        model: &Model,
        chosen: Option<&Chosen<'_>>,
    ) -> Result<Answer, Refusal> {
        let names = Names {
            asked,
            n: self.entry.n,
            nth: chosen.map_or(1, |chosen| chosen.nth),
            groups: chosen.map(|chosen| chosen.groups.clone()).unwrap_or_default(),
        };
        let making = Making {
            parts: chosen.map_or(&self.shared.script.default, |chosen| &chosen.rule.answer),
            stop: chosen.and_then(|chosen| chosen.rule.stop.as_deref()),
            violate: chosen.is_some_and(|chosen| chosen.rule.violate),
            names,
            model,
            signer: &self.shared.signer,
            dice: self.dice(),
        };
        making.answer().map_err(|unfit| {
            let kind = if asked.provider.is_anthropic() { "api_error" } else { "server_error" };
            Refusal::new(500, kind, unfit.to_string())
        })
    }

    fn written(
        &mut self,
        asked: &Asked,
        answer: &Answer,
        billed: Billed,
        delivery: Delivery,
        harm: Option<Harm>,
    ) -> Result<Reply, Refusal> {
        let provider = asked.provider;
        let prefix = if provider.is_anthropic() { "msg_" } else { "chatcmpl-" };
        let id = self.shared.signer.id(prefix, self.entry.n);
        let writing = Writing { asked, answer, billed, id, delivery: &delivery };
        let (usage, mut frames) = match provider {
            Provider::Anthropic => (writing.usage(), frames::anthropic(&writing)),
            Provider::Openai => {
                let chat = Chat { writing, created: self.entry.time_ms / 1_000 };
                (chat.usage(), frames::openai(&chat))
            }
        };
        let end = match harm {
            Some(Harm::StreamError(_)) if !asked.stream => {
                return Err(Refusal::of_status(provider, 500));
            }
            Some(harm) => self.spoiling().spoil(&harm, &mut frames),
            None => End::Whole,
        };
        self.entry.usage = Some(usage);
        let is_stream = asked.stream;
        Ok(Reply { status: 200, headers: Vec::new(), is_stream, frames, end, delivery })
    }

    fn spoiling(&self) -> Spoiling<'_> {
        Spoiling { provider: self.call.provider, request_id: &self.request_id, dice: self.dice() }
    }

    fn dice(&self) -> Dice {
        Dice::new(self.shared.script.seed, self.entry.n)
    }

    fn refused(&mut self, refusal: &Refusal) -> Reply {
        let provider = self.call.provider;
        self.entry.error = Some(format!("{}: {}", refusal.kind, refusal.message));
        let mut reply = Reply::json(refusal.status, &refusal.body(provider, &self.request_id));
        let Some(wait_ms) = refusal.retry_after_ms else { return reply };
        let seconds = wait_ms.div_ceil(1_000);
        reply.headers.push(("retry-after".to_owned(), seconds.to_string()));
        let mut told_ms = seconds * 1_000;
        if !provider.is_anthropic() {
            reply.headers.push(("retry-after-ms".to_owned(), wait_ms.to_string()));
            told_ms = wait_ms;
        }
        if let Some(key) = &self.entry.key {
            lock(&self.shared.limiter).told(key, self.digest, self.entry.time_ms, told_ms);
        }
        reply
    }

    fn rate_headers(&self) -> Vec<(String, String)> {
        let Some(key) = self.entry.key.as_deref() else { return Vec::new() };
        let levels = lock(&self.shared.limiter).levels(key);
        match self.call.provider {
            Provider::Anthropic => anthropic::write::rate_headers(&levels, self.entry.time_ms),
            Provider::Openai => openai::write::rate_headers(&levels),
        }
    }

    fn models(&self) -> Result<Value, Refusal> {
        match self.call.provider {
            Provider::Anthropic => {
                anthropic::read::version(&self.call.headers)?;
                Ok(anthropic::write::models(&self.shared.models, &self.call.query))
            }
            Provider::Openai => Ok(openai::write::models(&self.shared.models)),
        }
    }

    fn model(&self, id: &str) -> Result<Value, Refusal> {
        let provider = self.call.provider;
        let model = self.shared.models.find(provider, id);
        match (provider, model) {
            (Provider::Anthropic, Some(model)) => Ok(anthropic::write::model(model)),
            (Provider::Openai, Some(model)) => Ok(openai::write::model(model)),
            (Provider::Anthropic, None) => {
                Err(Refusal::new(404, "not_found_error", format!("model: {id}")))
            }
            (Provider::Openai, None) => {
                let message = format!("The model '{id}' does not exist");
                let refusal = Refusal::new(404, "invalid_request_error", message);
                Err(refusal.param("model").code("model_not_found"))
            }
        }
    }

    fn no_such_path(&self) -> Refusal {
        let path = &self.call.path;
        match self.call.provider {
            Provider::Anthropic => Refusal::new(404, "not_found_error", "Not Found"),
            Provider::Openai => {
                Refusal::new(404, "invalid_request_error", format!("Invalid URL ({path})"))
            }
        }
    }
}

fn unknown_key(provider: Provider, is_there: bool) -> Refusal {
    match (provider, is_there) {
        (Provider::Anthropic, true) => {
            Refusal::new(401, "authentication_error", "invalid x-api-key")
        }
        (Provider::Anthropic, false) => {
            Refusal::new(401, "authentication_error", "x-api-key header is required")
        }
        (Provider::Openai, true) => {
            let refusal = Refusal::new(401, "invalid_request_error", "Incorrect API key provided.");
            refusal.code("invalid_api_key")
        }
        (Provider::Openai, false) => {
            Refusal::new(401, "invalid_request_error", "You didn't provide an API key.")
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
