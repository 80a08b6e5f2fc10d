//! The desk of an attempt: what its agent has at hand.
//!
//! **Invariants:** a recorded effect is replayed, never done again; its end is on disk before the
//! agent sees it; an unsafe one is on disk before it is begun.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kapelle_core::port::account::Call;
use kapelle_core::port::agent::{
    ArtifactSink, AtOnce, BoxFuture, Desk, Effect, EffectWork, Failure, FailureKind, Heard,
    PaidWork, Progress, Question, Safety, Turn, Usage,
};
use kapelle_core::port::journal::Staged;
use kapelle_core::run::{
    Command, EffectId, EffectState, Effects, Exceeded, OVER_OWN_BUDGET, Outcome, Over, Refusal,
    Sum, UNANSWERED,
};
use kapelle_core::{
    Artifact, Digest, INLINE_MAX, Json, Payload, ROW_MAX, StepId, Value, canonical,
};
use tokio_util::sync::CancellationToken;

use crate::feed::Progressed;
use crate::shards::{Of, Offer, Reply, Tell, Ticket};
use crate::shell::Shared;

/// The code of a failure by which others have reserved what a call needs.
const RESERVED: &str = "budget_reserved";
/// The code of a failure by which a message reaches nobody.
const UNDELIVERED: &str = "undelivered";

/// The desk of one attempt.
pub(crate) struct AttemptDesk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) of: Of,
    cancelled: CancellationToken,
    step: StepId,
    memo: Effects,
    /// Who works.
    agent: Box<str>,
    ordinal: AtomicU32,
    kept: Arc<Mutex<Kept>>,
    /// It has said how far it is.
    spoke: AtomicBool,
    /// Under which number it is told what becomes of its report.
    ticket: Mutex<Option<Ticket>>,
}

impl Drop for AttemptDesk {
    fn drop(&mut self) {
        if *self.spoke.get_mut() {
            self.shared.feed.forget_progress(self.of.run, &self.step, self.of.attempt);
        }
    }
}

/// What an attempt leaves for the commit of its answer.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) payloads: Vec<Payload>,
    pub(crate) references: Vec<(Digest, u64)>,
    /// Failures of effects, by ordinal: if the agent fails of one, the retry does it again.
    failures: Vec<(u32, Failure)>,
}

impl Kept {
    /// The ordinal of the effect whose own failure this is.
    pub(crate) fn failed_effect(&self, failure: &Failure) -> Option<u32> {
        self.failures.iter().find(|(_, known)| known == failure).map(|(ordinal, _)| *ordinal)
    }
}

impl AttemptDesk {
    pub(crate) fn new(
        shared: Arc<Shared>,
        of: Of,
        step: StepId,
        memo: Effects,
        cancelled: CancellationToken,
        agent: Box<str>,
    ) -> Self {
        let (ordinal, kept, spoke, ticket) = Default::default();
        Self { shared, of, cancelled, step, memo, agent, ordinal, kept, spoke, ticket }
    }

    /// Under which number it is told what becomes of the report, if somebody wants to know.
    pub(crate) fn take_ticket(&self) -> Option<Ticket> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the answer's commit has to contain besides it.
    pub(crate) fn take_kept(&self) -> Kept {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports to the run, and waits until it is on disk.
    async fn report(&self, command: Command, kept: Kept) -> Result<(), Failure> {
        let of = &self.of;
        let reply = self
            .shared
            .ask(of.run.shard(), |ticket| {
                Offer::Tell(Box::new(Tell {
                    tenant: of.tenant.clone(),
                    run: of.run,
                    command,
                    payloads: kept.payloads,
                    references: kept.references,
                    ticket: Some(ticket),
                }))
            })
            .await;
        match reply {
            Reply::Refused(Refusal::OverBudget(exceeded)) => Err(over_budget(&exceeded)),
            Reply::Refused(Refusal::Undelivered(why)) => {
                Err(Failure::new(FailureKind::Refused, UNDELIVERED, why))
            }
            Reply::Refused(refusal) => Err(gone(&refusal.to_string())),
            reply => taken(reply),
        }
    }

    async fn perform(
        &self,
        ordinal: u32,
        effect: Effect,
        reserve: Option<Usage>,
        turn: &dyn Turn,
        work: PaidWork<'_>,
    ) -> Result<Json, Failure> {
        match self.recall(ordinal, effect).await {
            Ok(id) => self.make(id, reserve, turn, work).await,
            Err(end) => end,
        }
    }

    /// What a call that is to be made is called; in `Err`'s place the end that is recorded of it.
    async fn recall(
        &self,
        ordinal: u32,
        effect: Effect,
    ) -> Result<EffectId, Result<Json, Failure>> {
        let input = Digest::of(canonical(&effect.input).as_bytes());
        let known = self.memo.get(&ordinal);
        let binding = known.filter(|known| is_binding(known));
        if binding.is_some_and(|known| known.id.input != input || known.id.name != effect.name) {
            let message = format!(
                "outside call {ordinal} (`{}`) is not the one that was recorded there",
                effect.name
            );
            return Err(Err(Failure::new(FailureKind::Diverged, "diverged", message)));
        }
        match known.map(|known| &known.state) {
            Some(EffectState::Recorded(Outcome::Done(value))) => {
                return Err(self.value(value).await);
            }
            Some(EffectState::Recorded(Outcome::Failed(failure))) => {
                self.note_failure(ordinal, failure);
                return Err(Err(failure.clone()));
            }
            // Whoever lets a step go on has said what became of it.
            Some(EffectState::Started) if effect.safety == Safety::Unsafe => {
                return Err(Err(gone("an outside call is in doubt")));
            }
            Some(EffectState::Started | EffectState::Forgotten | EffectState::Asked(_)) | None => {}
        }
        let generation = known.map_or(0, |known| known.id.generation);
        Ok(EffectId { ordinal, name: effect.name, input, generation, safety: effect.safety })
    }

    /// Has something said, or on record why not.
    async fn say(
        &self,
        ordinal: u32,
        effect: Effect,
        to: Box<str>,
        text: Arc<str>,
    ) -> Result<(), Failure> {
        let &Of { step, attempt, .. } = &self.of;
        let effect = match self.recall(ordinal, effect).await {
            Ok(id) => id,
            Err(end) => return end.map(drop),
        };
        let command = Command::Send { step, attempt, effect: effect.clone(), to, text };
        let failure = match self.report(command, Kept::default()).await {
            Err(failure) if &*failure.code == UNDELIVERED => failure,
            end => return end,
        };
        let outcome = Outcome::Failed(failure.clone());
        let command = Command::RecordEffect { step, attempt, effect, outcome, used: None };
        self.report(command, Kept::default()).await?;
        self.note_failure(ordinal, &failure);
        Err(failure)
    }

    /// Has something asked, unless it is answered.
    async fn inquire(
        &self,
        ordinal: u32,
        effect: Effect,
        question: Question,
    ) -> Result<Json, Failure> {
        let &Of { step, attempt, .. } = &self.of;
        let effect = match self.recall(ordinal, effect).await {
            Ok(id) => id,
            Err(end) => return end,
        };
        let command = Command::Ask { step, attempt, effect, question };
        self.report(command, Kept::default()).await?;
        Err(Failure::new(FailureKind::Refused, UNANSWERED, "a person is to answer first"))
    }

    /// Makes a call that has not been recorded.
    async fn make(
        &self,
        id: EffectId,
        reserve: Option<Usage>,
        turn: &dyn Turn,
        work: PaidWork<'_>,
    ) -> Result<Json, Failure> {
        let &Of { run, step, attempt, .. } = &self.of;
        if id.safety == Safety::Unsafe || reserve.is_some() {
            self.announce(&id, reserve, turn).await?;
        }
        let key = format!("{run}/{}/{}/{}", self.step, id.ordinal, id.generation);
        let begun = Instant::now();
        let (result, used) = work(key.into()).await;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let call = self.call(id.ordinal);
        let used = used.filter(|_| reserve.is_some()).map(|used| Usage { ms, ..used });
        let mut kept = Kept::default();
        let ordinal = id.ordinal;
        let outcome = match &result {
            Ok(json) => self.keep(json.clone(), &mut kept).await.map(Outcome::Done),
            Err(failure) if failure.certain => Ok(Outcome::Failed(failure.clone())),
            // What is not known is not recorded.
            Err(failure) => Err(failure.clone()),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                // It may have been made, and paid.
                if let Some(reserve) = &reserve {
                    self.settle(call, Sum { ms, ..Sum::of(reserve) }).await;
                }
                return Err(failure);
            }
        };
        let command = Command::RecordEffect { step, attempt, effect: id, outcome, used };
        self.report(command, kept).await?;
        if let Some(used) = used.or(reserve) {
            self.settle(call, Sum::of(&used)).await;
        }
        if let Err(failure) = &result {
            self.note_failure(ordinal, failure);
        }
        result
    }

    /// Has the call in the journal before it is made, and granted by the accounts before that. Where
    /// others have reserved what it needs, it waits for what they leave, and lets others have its turn.
    async fn announce(
        &self,
        id: &EffectId,
        reserve: Option<Usage>,
        turn: &dyn Turn,
    ) -> Result<(), Failure> {
        let mut wait = Duration::from_millis(20);
        loop {
            turn.take().await?;
            match self.try_announce(id, reserve).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    turn.give_back();
                    if &*failure.code != RESERVED {
                        return Err(failure);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(1)),
                () = self.cancelled.cancelled() => return Err(gone("it is not wanted any more")),
            }
        }
    }

    async fn try_announce(&self, id: &EffectId, reserve: Option<Usage>) -> Result<(), Failure> {
        let &Of { step, attempt, .. } = &self.of;
        let paid = reserve.map(|reserve| (self.call(id.ordinal), reserve));
        if let Some((call, reserve)) = &paid {
            let Shared { accounts, reader, clock, .. } = &*self.shared;
            let whose = (&self.of.tenant, &*self.agent);
            if !accounts.grant(reader, whose, *call, reserve, clock.now()).await? {
                let why = "what is left of a limit is reserved by calls that are under way";
                return Err(Failure::new(FailureKind::Budget, RESERVED, why));
            }
        }
        let command = Command::StartEffect { step, attempt, effect: id.clone(), reserve };
        let announced = self.report(command, Kept::default()).await;
        // The run itself has no room: the call is not made.
        if let (Err(FailureKind::Budget), Some((call, _))) =
            (announced.as_ref().map_err(|failure| failure.kind), paid)
        {
            self.settle(call, Sum::default()).await;
        }
        announced
    }

    const fn call(&self, ordinal: u32) -> Call {
        let &Of { run, step, attempt, .. } = &self.of;
        Call { run, step, attempt, ordinal }
    }

    /// Puts what a call used in the place of what it was granted. If that fails, whoever finds the grant
    /// later does it by what the journal says.
    async fn settle(&self, call: Call, used: Sum) {
        let Of { tenant, .. } = &self.of;
        if self.shared.accounts.limits().apply_to(&self.agent)
            && let Err(error) = self.shared.reader.journal.settle(tenant, call, used).await
        {
            tracing::warn!(%error, run = %call.run, "a grant is not settled yet");
        }
    }

    fn note_failure(&self, ordinal: u32, failure: &Failure) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failures.push((ordinal, failure.clone()));
    }

    /// The journal's form of `json`; what must be committed with it goes to `kept`.
    pub(crate) async fn keep(&self, json: Json, kept: &mut Kept) -> Result<Value, Failure> {
        let (value, payload) = Value::of(json, INLINE_MAX);
        match payload {
            Some(payload) if payload.bytes.len() > ROW_MAX => {
                let mut staged = self.stage().await?;
                staged.write(payload.bytes).await.map_err(|error| unwritten(&error))?;
                let reference = staged.finish().await.map_err(|error| unwritten(&error))?;
                kept.references.push(reference);
            }
            Some(payload) => kept.payloads.push(payload),
            None => {}
        }
        Ok(value)
    }

    async fn stage(&self) -> Result<Box<dyn Staged>, Failure> {
        self.shared.reader.journal.stage().await.map_err(|error| unwritten(&error))
    }

    async fn value(&self, value: &Value) -> Result<Json, Failure> {
        match value {
            Value::Digest { digest, .. } => {
                let read = self.shared.reader.value(&self.of.tenant, *digest).await;
                let (json, _) = read.map_err(|error| {
                    Failure::new(FailureKind::Bug, "payload_lost", error.to_string())
                })?;
                Ok((*json).clone())
            }
            Value::Inline(json) => Ok((**json).clone()),
            Value::List { .. } | Value::Picked(_) | Value::Sinks => Ok(Json::Null),
        }
    }
}

/// Whether what an attempt reports is on disk.
fn taken(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Done { .. } => Ok(()),
        Reply::Refused(refusal) => {
            Err(Failure::new(FailureKind::Lost, refusal.code(), refusal.to_string()))
        }
        Reply::NotOwner => Err(gone("another node owns the run")),
        Reply::Store(error) => Err(gone(&error.0.to_string())),
        Reply::NotFound | Reply::Twin(_) | Reply::Mail(_) => Err(gone("there is no such run")),
        Reply::Damaged(why) => Err(gone(&why)),
    }
}

/// Whether a call has to be the one that was known in its place.
fn is_binding(known: &kapelle_core::run::Effect) -> bool {
    match known.state {
        EffectState::Recorded(_) => true,
        EffectState::Started => known.id.safety == Safety::Unsafe,
        EffectState::Forgotten | EffectState::Asked(_) => false,
    }
}

fn over_budget(exceeded: &Exceeded) -> Failure {
    let code = match (exceeded.over, &exceeded.step) {
        (Over::Reserved, _) => RESERVED,
        (_, Some(_)) => OVER_OWN_BUDGET,
        (_, None) => "over_budget",
    };
    Failure::new(FailureKind::Budget, code, exceeded.to_string())
}

fn gone(why: &str) -> Failure {
    Failure::new(FailureKind::Lost, "given_up", why).uncertain()
}

pub(crate) fn unwritten(error: &kapelle_core::port::journal::Error) -> Failure {
    Failure::new(FailureKind::Unavailable, "store", error.to_string())
}

#[async_trait]
impl Desk for AttemptDesk {
    fn progress(&self, progress: Progress) {
        let &Of { run, attempt, .. } = &self.of;
        self.spoke.store(true, Ordering::Relaxed);
        self.shared.feed.progress(Progressed { run, step: self.step.clone(), attempt, progress });
    }

    async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    fn effect<'a>(
        &'a self,
        effect: Effect,
        work: EffectWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        let free = |key: Box<str>| -> BoxFuture<'a, _> {
            Box::pin(async move { (work(key).await, None) })
        };
        Box::pin(self.perform(ordinal, effect, None, &AtOnce, Box::new(free)))
    }

    fn paid<'a>(
        &'a self,
        effect: Effect,
        reserve: Usage,
        turn: &'a dyn Turn,
        work: PaidWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(self.perform(ordinal, effect, Some(reserve), turn, work))
    }

    fn send<'a>(
        &'a self,
        effect: Effect,
        to: Box<str>,
        text: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(self.say(ordinal, effect, to, text))
    }

    fn ask<'a>(
        &'a self,
        effect: Effect,
        question: Question,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(self.inquire(ordinal, effect, question))
    }

    async fn mail(&self, after: u32) -> Result<Vec<Heard>, Failure> {
        let Of { tenant, run, step, .. } = &self.of;
        let mut wait = Duration::from_millis(20);
        loop {
            let (tenant, run, step) = (tenant.clone(), *run, *step);
            let offer = |ticket| Offer::Mail { tenant, run, step, after, ticket };
            match self.shared.ask(run.shard(), offer).await {
                Reply::Mail(mail) => return Ok(mail),
                // The entry before it was not taken; what is on disk will be told.
                Reply::Store(_) => {}
                _ => return Err(gone("nobody owns the run here")),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(1)),
                () = self.cancelled.cancelled() => return Err(gone("it is not wanted any more")),
            }
        }
    }

    async fn artifact(
        &self,
        name: &str,
        media_type: &str,
    ) -> Result<Box<dyn ArtifactSink>, Failure> {
        let parts_ok = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if name.len() > 255 || !parts_ok || name.contains(['\0', '\\']) {
            let message =
                format!("`{name}` is no name for an artifact: a relative path without `..`");
            return Err(Failure::new(FailureKind::Invalid, "artifact_name", message));
        }
        Ok(Box::new(Sink {
            name: name.into(),
            media_type: media_type.into(),
            journal: self.shared.reader.journal.clone(),
            kept: self.kept.clone(),
            small: BytesMut::new(),
            large: None,
        }))
    }

    async fn get(&self, digest: Digest, max: u64) -> Result<Bytes, Failure> {
        let invalid = |message: String| Failure::new(FailureKind::Invalid, "artifact", message);
        let content = self.shared.reader.journal.payload(&self.of.tenant, digest).await;
        let content = content.map_err(|error| unwritten(&error))?;
        let content = content.ok_or_else(|| invalid(format!("there is no artifact {digest}")))?;
        if content.len > max {
            let message = format!("artifact {digest} has {} bytes, {max} are allowed", content.len);
            return Err(invalid(message));
        }
        crate::reader::read_all(content).await.map_err(|error| invalid(error.to_string()))
    }

    fn receipt(&self) -> BoxFuture<'static, Result<(), Failure>> {
        let (ticket, answer) = self.shared.ticket();
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        Box::pin(async move { taken(answer.await.unwrap_or(Reply::NotOwner)) })
    }
}

/// An artifact that is being written: in memory as long as it is small, then to a file.
struct Sink {
    name: Box<str>,
    media_type: Box<str>,
    journal: Arc<dyn kapelle_core::port::Journal>,
    kept: Arc<Mutex<Kept>>,
    small: BytesMut,
    large: Option<Box<dyn Staged>>,
}

#[async_trait]
impl ArtifactSink for Sink {
    async fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        if self.large.is_none() && self.small.len() + piece.len() <= ROW_MAX {
            self.small.extend_from_slice(&piece);
            return Ok(());
        }
        if self.large.is_none() {
            let mut staged = self.journal.stage().await.map_err(|error| unwritten(&error))?;
            let so_far = std::mem::take(&mut self.small).freeze();
            staged.write(so_far).await.map_err(|error| unwritten(&error))?;
            self.large = Some(staged);
        }
        match &mut self.large {
            Some(staged) => staged.write(piece).await.map_err(|error| unwritten(&error)),
            None => Ok(()),
        }
    }

    async fn finish(self: Box<Self>) -> Result<Artifact, Failure> {
        let (digest, len) = match self.large {
            Some(staged) => {
                let reference = staged.finish().await.map_err(|error| unwritten(&error))?;
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.references.push(reference);
                reference
            }
            None => {
                let payload = Payload::new(self.small.freeze());
                let known = (payload.digest, payload.bytes.len() as u64);
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.payloads.push(payload);
                known
            }
        };
        Ok(Artifact { name: self.name, digest, media_type: self.media_type, len })
    }
}
