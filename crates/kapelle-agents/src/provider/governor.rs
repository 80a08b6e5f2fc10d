//! The pace of calls to one provider under one key, shared by all runs of a node.
//!
//! **Invariants:** nothing is sent before a wait that the provider asked for is over; what it says is
//! left is not overdrawn; runs that wait get their turns one after the other, however much each wants.
//! Calls that begin alike wait until the first of them has been read, so that they find it in the
//! provider's cache.
//!
//! A provider that tells no limits but by a 429 is felt out: from a few calls on more go at a time, as long as all are let
//! in, and after a refusal they go at a pace that falls with each refusal and rises slowly with each call let in.
//!
//! What a provider has asked for is told to other processes by way of a file, and outlives this one: see
//! [`super::pause`]. The provider's bucket fills all the time: what is left is reckoned from what it last told, its own
//! pace of filling, and what was sent since.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kapelle_core::RunId;
use kapelle_core::port::agent::FailureKind;
use reqwest::header::HeaderMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::pause::Pause;
use super::{Tokens, Trouble};

/// How long a provider keeps a prefix, with a margin.
const CACHED: Duration = Duration::from_secs(240);
/// So long at the most a call waits for one that begins alike.
const STAGGER: Duration = Duration::from_secs(20);
/// So many calls go at once while nobody knows yet how long answers are and what the provider lets in; one
/// more for each that it does let in while others wait.
const START: usize = 4;
/// After so long without a call a provider that tells no limits is felt out anew.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// By how much the pace falls when a call is refused, and rises when one is let in.
const SLOWER: f64 = 0.7;
const FASTER: f64 = 1.1;
/// The same where it comes near to what was refused last.
const CAREFULLY: f64 = 1.02;

/// The second refusal in a row is waited out so long at the least, each further one twice as long.
const OWN_WAIT: Duration = Duration::from_secs(1);
const OWN_WAIT_MAX: Duration = Duration::from_secs(60);

/// What a refusal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Nothing is sent for so long.
    pub wait: Duration,
    /// So many refusals came one after the other.
    pub in_a_row: u32,
}

/// The pace of calls under one key.
#[derive(Clone, Debug, Default)]
pub struct Governor(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Nothing is sent before.
    not_before: Option<Instant>,
    requests: Bucket,
    read: Bucket,
    written: Bucket,
    /// Where a limit is of both.
    tokens: Bucket,
    /// A call has come to its end.
    known: bool,
    /// The provider has told of its limits.
    told: bool,
    /// So many calls more than at the start have been let in at once.
    begun: usize,
    /// How many were let in lately, and since when.
    lately: Option<(Instant, u32)>,
    /// The pace at which a call was refused last, of one that was felt out.
    refused_at: Option<f64>,
    /// So many refusals came one after the other, and nothing was let in between.
    in_a_row: u32,
    /// The last one was sent.
    sent: Option<Instant>,
    /// How much an answer has been of late, in tokens.
    answer: f64,
    /// Where other processes see what the provider asked for, and it is seen what they heard.
    pause: Option<Pause>,
    /// One of those who wait is told that there is something to see.
    wake: Arc<Notify>,
    in_flight: usize,
    /// So many at once, since the provider has said that it is too much.
    window: Option<f64>,
    /// Who waits, by run; the first run is the next.
    waiting: VecDeque<(RunId, VecDeque<Waiter>)>,
    prefixes: HashMap<u64, Prefix>,
}

#[derive(Debug)]
struct Waiter {
    tokens: u64,
    prefix: Option<u64>,
    go: oneshot::Sender<Leave>,
}

/// A beginning that calls have in common.
#[derive(Debug)]
enum Prefix {
    /// A call is on its way with it, since then.
    Sent(Instant),
    /// The provider has it until then.
    Warm(Instant),
}

/// What a provider says is left.
#[derive(Debug, Default)]
struct Bucket(Option<Level>);

#[derive(Clone, Copy, Debug)]
struct Level {
    left: f64,
    limit: f64,
    /// A second.
    refill: f64,
    at: Instant,
}

impl Bucket {
    fn left(&self, now: Instant) -> f64 {
        self.0.map_or(f64::INFINITY, |level| {
            let since = now.saturating_duration_since(level.at).as_secs_f64();
            (level.left + level.refill * since).min(level.limit)
        })
    }

    /// When there is enough, if there is not now. What is more than all of it asks for all of it.
    fn wait(&self, wanted: f64, now: Instant) -> Option<Instant> {
        let level = self.0?;
        let missing = wanted.min(level.limit) - self.left(now);
        if missing <= 0.0 {
            return None;
        }
        let seconds = if level.refill > 0.0 { missing / level.refill } else { 60.0 };
        Some(now + Duration::from_secs_f64(seconds.clamp(0.001, 3600.0)))
    }

    fn take(&mut self, wanted: f64, now: Instant) {
        let left = self.left(now);
        if let Some(level) = &mut self.0 {
            (level.left, level.at) = (left - wanted, now);
        }
    }

    /// What the provider says: its words are about the past, so what is on its way is taken off.
    fn told(&mut self, told: &Told, on_its_way: f64, now: Instant) {
        let missing = (told.limit - told.left).max(0.0);
        let seconds = told.reset.as_secs_f64();
        // Limits are of a minute or longer. What is told besides makes it only slower: an answer that
        // comes late, or a burst that is smaller than the limit, would have it seem far too fast.
        let minute = told.limit / 60.0;
        let refill = if seconds > 0.0 && missing > 0.0 {
            minute.min(missing / seconds)
        } else {
            self.0.map_or(minute, |level| level.refill)
        };
        let left = told.left - on_its_way;
        self.0 = Some(Level { left, limit: told.limit, refill, at: now });
    }

    /// The same where the provider's words are older than what is known: the less of both counts.
    fn told_late(&mut self, told: &Told, now: Instant) {
        let known = self.left(now);
        self.told(told, 0.0, now);
        if let Some(level) = &mut self.0 {
            level.left = level.left.min(known);
        }
    }
}

/// One of a provider's limits, as its headers tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    limit: f64,
    left: f64,
    reset: Duration,
}

/// Leave to make a call, until it is dropped.
#[derive(Debug)]
pub struct Leave {
    /// `None`: it was never given, for nobody waits for it any more.
    of: Option<Governor>,
    prefix: Option<u64>,
    /// What was taken for it of the tokens read, and of all.
    took: (f64, f64),
}

impl Governor {
    /// One that keeps the wait that a provider asks for in `file` as well.
    #[must_use]
    pub fn kept_in(file: PathBuf) -> Self {
        let pause = Some(Pause::new(file));
        Self(Arc::new(Mutex::new(State { pause, ..State::default() })))
    }

    /// Waits for leave to make a call of about `tokens` for `run`. Calls of the same `prefix` wait for
    /// the first of them.
    pub async fn leave(&self, run: RunId, tokens: u64, prefix: Option<u64>) -> Leave {
        let (go, mut told) = oneshot::channel();
        let (mut next, wake) = {
            let mut state = self.lock();
            state.queue(run, Waiter { tokens, prefix, go });
            (state.pump(self, Instant::now()), state.wake.clone())
        };
        loop {
            // Whoever waits sees to it that somebody looks when the time has come.
            let at = next.unwrap_or_else(|| Instant::now() + STAGGER);
            tokio::select! {
                leave = &mut told => return leave.expect("who waits is not dropped"),
                () = tokio::time::sleep_until(at) => {}
                () = wake.notified() => {}
            }
            next = self.lock().pump(self, Instant::now());
        }
    }

    /// Takes note of what an answer's headers say of the limits, before it comes.
    pub fn begun(&self, headers: &HeaderMap) {
        let mut state = self.lock();
        state.heard(headers);
        state.let_in(Instant::now());
        self.look(&mut state);
    }

    /// Takes note of what an answer used that has come.
    pub fn answered(&self, tokens: &Tokens) {
        let (mut state, now) = (self.lock(), Instant::now());
        let written = tokens.written as f64;
        if !tokens.unknown {
            let known = state.answer;
            state.answer = if known > 0.0 { known.mul_add(0.8, written * 0.2) } else { written };
        }
        state.known = true;
        state.written.take(written, now);
        self.look(&mut state);
    }

    /// Takes note of why there is no answer. Whatever a provider cannot do before some time, it can do for
    /// nobody under this key.
    pub fn failed(&self, trouble: &Trouble) -> Held {
        let failure = &trouble.failure;
        let wait = match failure.kind {
            FailureKind::RateLimited => Some(failure.retry_after_ms.unwrap_or(1_000)),
            _ => failure.retry_after_ms,
        };
        let mut state = self.lock();
        state.known = true;
        state.heard(&trouble.headers);
        let mut held = Duration::ZERO;
        if let Some(wait) = wait.map(Duration::from_millis) {
            held = wait.max(state.own_wait(Instant::now()));
            if failure.kind == FailureKind::RateLimited && !state.told {
                state.pace(wait, Instant::now());
            }
            state.slow_down(Instant::now() + held);
            if let Some(pause) = state.pause.as_mut().filter(|_| failure.retry_after_ms.is_some()) {
                pause.tell(held);
            }
        }
        self.look(&mut state);
        Held { wait: held, in_a_row: state.in_a_row }
    }

    /// How long nothing is sent, if the provider has said so, here or to another process.
    #[must_use]
    pub fn held(&self) -> Option<Duration> {
        let (mut state, now) = (self.lock(), Instant::now());
        state.hear_others(now);
        state.not_before?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Gives leave to whoever may have it now. One of those who still wait is told to look when it is time:
    /// what they waited for has changed.
    fn look(&self, state: &mut State) {
        if state.pump(self, Instant::now()).is_some() {
            state.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// The provider has begun to answer: what the call begins with is in its cache.
    pub fn is_read(&self) {
        let (Some(of), now) = (&self.of, Instant::now()) else { return };
        let mut state = of.lock();
        if let Some(prefix) = self.prefix {
            state.prefixes.insert(prefix, Prefix::Warm(now + CACHED));
        }
        of.look(&mut state);
    }

    /// The call is not made: what was taken for it is there for others.
    pub fn is_not_used(self) {
        let (Some(of), now) = (&self.of, Instant::now()) else { return };
        let mut state = of.lock();
        state.requests.take(-1.0, now);
        state.read.take(-self.took.0, now);
        state.tokens.take(-self.took.1, now);
    }

    /// The call went well.
    pub fn is_well(&self) {
        let Some(of) = &self.of else { return };
        if let Some(window) = &mut of.lock().window {
            *window += 1.0 / *window;
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let Some(of) = self.of.take() else { return };
        let mut state = of.lock();
        state.in_flight -= 1;
        if let Some(prefix) = self.prefix
            && matches!(state.prefixes.get(&prefix), Some(Prefix::Sent(_)))
        {
            state.prefixes.remove(&prefix);
        }
        of.look(&mut state);
    }
}

impl State {
    fn heard(&mut self, headers: &HeaderMap) {
        let now = Instant::now();
        let all = ["requests", "output-tokens", "input-tokens", "tokens"];
        if !self.told && all.iter().any(|what| told(headers, what).is_some()) {
            // A pace that was guessed holds no longer.
            (self.told, self.requests) = (true, Bucket::default());
        }
        // This answer's own call is not on its way any more.
        let others = self.in_flight.saturating_sub(1) as f64;
        let answers = self.in_flight as f64 * self.answer;
        if let Some(told) = told(headers, "requests") {
            self.requests.told(&told, others, now);
        }
        if let Some(told) = told(headers, "output-tokens") {
            self.written.told_late(&told, now);
        }
        // Where both are told, what is told of their sum says nothing more.
        if let Some(told) = told(headers, "input-tokens") {
            self.read.told(&told, 0.0, now);
        } else if let Some(told) = told(headers, "tokens") {
            self.tokens.told(&told, answers, now);
        }
    }

    /// A call was let in.
    fn let_in(&mut self, now: Instant) {
        self.in_a_row = 0;
        if !self.waiting.is_empty() {
            self.begun += 1;
        }
        if self.told {
            return;
        }
        let (since, count) =
            self.lately.filter(|(at, _)| now - *at < FORGOTTEN).unwrap_or((now, 0));
        self.lately = Some((since, count + 1));
        if let Some(level) = self.requests.0.as_mut().filter(|_| !self.waiting.is_empty()) {
            let is_near = self.refused_at.is_some_and(|pace| level.refill * FASTER >= pace);
            level.refill *= if is_near { CAREFULLY } else { FASTER };
        }
    }

    /// How fast calls go after a refusal, of a provider that does not tell: as fast as it let them in of late, or
    /// as the wait says, and from then on slower. What was under way with a refused call says nothing new.
    fn pace(&mut self, wait: Duration, now: Instant) {
        if self.not_before.is_some_and(|until| until > now) {
            return;
        }
        let lately = self.lately.filter(|(at, _)| now - *at < FORGOTTEN).map_or(0, |(_, n)| n);
        let first =
            (f64::from(lately) / FORGOTTEN.as_secs_f64()).max(1.0 / wait.as_secs_f64().max(1.0));
        self.refused_at = self.requests.0.map(|known| known.refill).or(self.refused_at);
        let refill = self.requests.0.map_or(first, |known| known.refill * SLOWER);
        self.requests.0 = Some(Level { left: 0.0, limit: 1.0, refill, at: now });
    }

    /// It was too much: nothing is sent before `until`, and fewer at once from then on.
    fn slow_down(&mut self, until: Instant) {
        self.not_before = Some(self.not_before.map_or(until, |known| known.max(until)));
        // What has gathered at the provider till then is not known: it is gone on slowly.
        if let Some(level) = &mut self.requests.0 {
            // Who tells nothing else has said by the wait when there is room for one.
            (level.left, level.at) = (if self.told { 0.0 } else { 1.0 }, until);
        }
        let window = self.window.unwrap_or(f64::INFINITY).min(self.in_flight as f64);
        self.window = Some((window / 2.0).max(1.0));
    }

    fn queue(&mut self, run: RunId, waiter: Waiter) {
        match self.waiting.iter_mut().find(|(known, _)| *known == run) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => self.waiting.push_back((run, VecDeque::from([waiter]))),
        }
    }

    /// Keeps the waits that others were told.
    fn hear_others(&mut self, now: Instant) {
        if let Some(left) = self.pause.as_mut().and_then(Pause::news) {
            self.slow_down(now + left);
        }
    }

    /// How long is waited at the least after a refusal: where one follows another and nothing is let in between,
    /// twice as long as before, whatever the provider says. What was under way with a refused call is no new one.
    fn own_wait(&mut self, now: Instant) -> Duration {
        if self.not_before.is_none_or(|until| until <= now) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        match self.in_a_row {
            0 | 1 => Duration::ZERO,
            row => OWN_WAIT.saturating_mul(1 << (row - 2).min(16)).min(OWN_WAIT_MAX),
        }
    }

    /// Gives leave to all who may have it now, run by run. When to look again, if somebody waits.
    fn pump(&mut self, of: &Governor, now: Instant) -> Option<Instant> {
        if !self.waiting.is_empty() {
            self.hear_others(now);
        }
        self.prefixes.retain(|_, prefix| match prefix {
            Prefix::Sent(_) => true,
            Prefix::Warm(until) => *until > now,
        });
        let mut next: Option<Instant> = None;
        let mut refused = 0;
        while refused < self.waiting.len() {
            let Some((run, mut waiters)) = self.waiting.pop_front() else { break };
            waiters.retain(|waiter| !waiter.go.is_closed());
            // Who waits for another's prefix holds up nobody that begins otherwise.
            let free = waiters.iter().position(|waiter| self.staggered(waiter, now).is_none());
            let place = free.unwrap_or(0);
            let Some(waiter) = waiters.remove(place) else { continue };
            match self.wait(&waiter, now) {
                Some(at) => {
                    next = Some(next.map_or(at, |next| next.min(at)));
                    waiters.insert(place, waiter);
                    refused += 1;
                }
                None => {
                    self.admit(of, waiter, now);
                    refused = 0;
                }
            }
            if !waiters.is_empty() {
                self.waiting.push_back((run, waiters));
            }
        }
        next
    }

    /// Until when a call waits at the most for one that begins alike.
    fn staggered(&self, waiter: &Waiter, now: Instant) -> Option<Instant> {
        let Prefix::Sent(at) = self.prefixes.get(&waiter.prefix?)? else { return None };
        Some(*at + STAGGER).filter(|until| *until > now)
    }

    /// Until when a call has to wait; `None`: it may go.
    fn wait(&self, waiter: &Waiter, now: Instant) -> Option<Instant> {
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return Some(until);
        }
        if self.window.is_some_and(|window| self.in_flight as f64 >= window.floor()) {
            // Whoever comes back looks.
            return Some(now + STAGGER);
        }
        if !(self.known && self.told) && self.in_flight >= START + self.begun {
            return Some(now + STAGGER);
        }
        if let Some(until) = self.staggered(waiter, now) {
            return Some(until);
        }
        let (read, written) = (waiter.tokens as f64, self.answer.max(1.0));
        // What is on its way has not been taken yet: how much it is will be seen.
        let answers = (self.in_flight as f64).mul_add(self.answer, written);
        let wanted = [
            (&self.requests, 1.0),
            (&self.read, read),
            (&self.written, answers),
            (&self.tokens, read + written),
        ];
        wanted.into_iter().filter_map(|(bucket, wanted)| bucket.wait(wanted, now)).max()
    }

    fn admit(&mut self, of: &Governor, waiter: Waiter, now: Instant) {
        let (read, written) = (waiter.tokens as f64, self.answer);
        let took = (read, read + written);
        let leave = Leave { of: Some(of.clone()), prefix: waiter.prefix, took };
        if let Err(mut vain) = waiter.go.send(leave) {
            // Given back, it would want the lock that is held here.
            vain.of = None;
            return;
        }
        if self.in_flight == 0 && self.sent.is_some_and(|at| at + FORGOTTEN < now) {
            self.begun = 0;
        }
        self.in_flight += 1;
        self.sent = Some(now);
        self.requests.take(1.0, now);
        self.read.take(took.0, now);
        self.tokens.take(took.1, now);
        if let Some(prefix) = waiter.prefix
            && !matches!(self.prefixes.get(&prefix), Some(Prefix::Warm(_)))
        {
            self.prefixes.insert(prefix, Prefix::Sent(now));
        }
    }
}

/// What headers say of a limit, in the words of either provider.
fn told(headers: &HeaderMap, what: &str) -> Option<Told> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let read = |limit: &str, left: &str, reset: &str| {
        let number = |name| text(name)?.parse::<f64>().ok().filter(|number| *number >= 0.0);
        let reset = text(reset).and_then(until).unwrap_or_default();
        // Some say that there is no limit by a limit of 0; nothing could ever be sent under it.
        let limit = number(limit).filter(|limit| *limit >= 1.0)?;
        Some(Told { limit, left: number(left)?, reset })
    };
    let of = |shape: &str| format!("anthropic-ratelimit-{what}-{shape}");
    read(&of("limit"), &of("remaining"), &of("reset")).or_else(|| {
        let of = |shape: &str| format!("x-ratelimit-{shape}-{what}");
        read(&of("limit"), &of("remaining"), &of("reset"))
    })
}

/// How long until then: a time of day, or a span such as `6m0s` or `20ms`.
fn until(text: &str) -> Option<Duration> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let left = at.duration_since(jiff::Timestamp::now());
        return Some(Duration::try_from(left).unwrap_or_default());
    }
    let span: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(span).ok()
}

#[cfg(test)]
mod silent;

#[cfg(test)]
mod tests;
