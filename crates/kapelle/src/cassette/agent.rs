//! An agent whose calls to the outside are recorded, or answered from a cassette.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kapelle_core::port::Agent;
use kapelle_core::port::agent::{
    Answer, ArtifactSink, AtOnce, BoxFuture, Call, Card, Desk, Effect, EffectWork, Failure,
    FailureKind, Heard, OnUnknown, PaidWork, Progress, Question, Turn, Usage,
};
use kapelle_core::{Artifact, Digest, Json};
use serde_json::json;

use super::{Asked, End, Made, Mail, Tape, Told, lock};

/// The longest artifact that is recorded, in bytes.
const ARTIFACT_MAX: usize = 64 << 20;

/// A message that could not be sent.
const SENT: &str = "send_message";

/// What a call uses that is refused, and one that nobody is asked.
const FREE: Usage = Usage { input_tokens: 0, output_tokens: 0, cost_nanos: Some(0), ms: 0 };

/// An agent with a cassette.
pub(crate) struct Taped {
    agent: Arc<dyn Agent>,
    tape: Arc<Tape>,
}

impl Taped {
    /// The agent; one that does nothing outside as it is.
    pub(crate) fn of(agent: Arc<dyn Agent>, tape: &Arc<Tape>) -> Arc<dyn Agent> {
        if agent.is_immediate() {
            return agent;
        }
        Arc::new(Self { agent, tape: tape.clone() })
    }

    /// The whole call, which is itself what happens outside.
    async fn outside(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let name = format!("{}.{}", self.card().name, call.action);
        let asked = Asked::new(name, &json!({"input": call.input, "prompt": call.prompt}));
        let step = call.step.to_string();
        match self.tape.take(&step, Some(&call.key), &asked) {
            Some(End::Answer(told)) => return played(told, desk).await,
            Some(End::Failure(failure)) => return Err(failure),
            None => {}
        }
        let desk = TapedDesk::new(desk, &self.tape, &step);
        let key = call.key.clone();
        let answer = self.agent.perform(call, &desk).await;
        let end = match &answer {
            Err(failure) => End::Failure(failure.clone()),
            Ok(answer) => {
                let (value, used) = (answer.value.clone(), answer.usage);
                let artifacts = std::mem::take(&mut *lock(&desk.made));
                End::Answer(Told { value, used, artifacts })
            }
        };
        if end.is_known() {
            self.tape.put(&step, Some(&key), asked, None, end);
        }
        answer
    }
}

/// A recorded answer, with its artifacts made anew.
async fn played(told: Told, desk: &dyn Desk) -> Result<Answer, Failure> {
    let mut artifacts = Vec::new();
    for made in told.artifacts {
        let content = STANDARD.decode(&made.content).map_err(|error| {
            let message = format!("artifact `{}` of the cassette: {error}", made.name);
            Failure::new(FailureKind::Diverged, "odd_cassette", message)
        })?;
        let mut sink = desk.artifact(&made.name, &made.media_type).await?;
        sink.write(content.into()).await?;
        artifacts.push(sink.finish().await?);
    }
    Ok(Answer { value: told.value, usage: told.used, artifacts, ..Answer::default() })
}

#[async_trait]
impl Agent for Taped {
    fn card(&self) -> &Card {
        self.agent.card()
    }

    fn on_unknown(&self, action: &str, input: &Json) -> OnUnknown {
        self.agent.on_unknown(action, input)
    }

    fn is_one_service(&self) -> bool {
        self.agent.is_one_service()
    }

    fn is_outside(&self) -> bool {
        self.agent.is_outside()
    }

    fn definition(&self) -> Option<Json> {
        self.agent.definition()
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        if !self.tape.is_of(call.run).await {
            return self.agent.perform(call, desk).await;
        }
        if self.is_outside() {
            return self.outside(call, desk).await;
        }
        let step = call.step.to_string();
        self.agent.perform(call, &TapedDesk::new(desk, &self.tape, &step)).await
    }
}

/// A desk whose outside calls are recorded, or answered from the cassette.
struct TapedDesk<'d> {
    desk: &'d dyn Desk,
    tape: &'d Arc<Tape>,
    step: &'d str,
    /// The artifacts that were made at it.
    made: Arc<Mutex<Vec<Made>>>,
    /// So many calls were made at it.
    calls: AtomicU32,
    /// What was heard last, until the call that is made with it.
    mail: Mutex<Option<Mail>>,
}

impl<'d> TapedDesk<'d> {
    fn new(desk: &'d dyn Desk, tape: &'d Arc<Tape>, step: &'d str) -> Self {
        let (made, calls, mail) = <_>::default();
        Self { desk, tape, step, made, calls, mail }
    }

    /// What a call is known by, which counts as one from here on.
    fn asked(&self, effect: &Effect) -> Asked {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Asked::new(effect.name.clone(), &effect.input)
    }

    /// How `work` ends, or ended when it was recorded. What is of unknown end is kept if it `costs`, as it is
    /// in the bill: such a call is made again by itself. Any other one is asked about, and has the answer in the end.
    async fn call(
        &self,
        asked: Asked,
        key: Box<str>,
        costs: bool,
        work: PaidWork<'_>,
    ) -> (Result<Json, Failure>, Option<Usage>) {
        match self.tape.take(self.step, Some(&key), &asked) {
            Some(End::Answer(told)) => (Ok(told.value), told.used),
            Some(End::Failure(failure)) => {
                let used = failure.certain.then_some(FREE);
                (Err(failure), used)
            }
            None => {
                let (result, used) = work(key.clone()).await;
                let end = match &result {
                    Ok(value) => {
                        let (value, artifacts) = (value.clone(), Vec::new());
                        End::Answer(Told { value, used, artifacts })
                    }
                    Err(failure) => End::Failure(failure.clone()),
                };
                if costs || end.is_known() {
                    let mail = lock(&self.mail).take();
                    self.tape.put(self.step, Some(&key), asked, mail, end);
                }
                (result, used)
            }
        }
    }
}

#[async_trait]
impl Desk for TapedDesk<'_> {
    fn progress(&self, progress: Progress) {
        self.desk.progress(progress);
    }

    async fn cancelled(&self) {
        self.desk.cancelled().await;
    }

    fn effect<'a>(
        &'a self,
        effect: Effect,
        work: EffectWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let asked = self.asked(&effect);
        let free: PaidWork<'a> = Box::new(|key| Box::pin(async move { (work(key).await, None) }));
        let taped = move |key: Box<str>| -> BoxFuture<'a, Result<Json, Failure>> {
            Box::pin(async move { self.call(asked, key, false, free).await.0 })
        };
        self.desk.effect(effect, Box::new(taped))
    }

    fn paid<'a>(
        &'a self,
        effect: Effect,
        reserve: Usage,
        turn: &'a dyn Turn,
        work: PaidWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let asked = self.asked(&effect);
        let taped = move |key: Box<str>| -> BoxFuture<'a, (Result<Json, Failure>, Option<Usage>)> {
            Box::pin(self.call(asked, key, true, work))
        };
        // Nobody is asked, so nobody waits.
        let turn = if self.tape.plays() { &AtOnce } else { turn };
        self.desk.paid(effect, reserve, turn, Box::new(taped))
    }

    /// What steps say to each other is said anew; whether it could be is what it was.
    fn send<'a>(
        &'a self,
        effect: Effect,
        to: Box<str>,
        text: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let at = self.calls.load(Ordering::Relaxed);
        let Asked { call, input } = self.asked(&effect);
        let asked =
            Asked::new(SENT, &json!({"step": self.step, "at": at, "call": call, "input": input}));
        if let Some(failure) = self.tape.unsent(&asked) {
            let unsent = self.desk.effect(effect, Box::new(|_| Box::pin(async { Err(failure) })));
            return Box::pin(async move { unsent.await.map(|_| ()) });
        }
        let sent = self.desk.send(effect, to, text);
        Box::pin(async move {
            let sent = sent.await;
            if self.tape.plays() {
                return Ok(());
            }
            if let Err(failure) = &sent
                && failure.certain
            {
                self.tape.put(self.step, None, asked, None, End::Failure(failure.clone()));
            }
            sent
        })
    }

    fn ask<'a>(
        &'a self,
        effect: Effect,
        question: Question,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let asked = self.asked(&effect);
        if self.tape.plays() {
            let unasked: PaidWork<'a> = Box::new(|_| Box::pin(std::future::pending()));
            let work = move |key| -> BoxFuture<'a, Result<Json, Failure>> {
                Box::pin(async move { self.call(asked, key, false, unasked).await.0 })
            };
            return self.desk.effect(effect, Box::new(work));
        }
        let answer = self.desk.ask(effect, question);
        Box::pin(async move {
            let answer = answer.await?;
            let told = Told { value: answer.clone(), used: None, artifacts: Vec::new() };
            self.tape.put(self.step, None, asked, None, End::Answer(told));
            Ok(answer)
        })
    }

    async fn mail(&self, after: u32) -> Result<Vec<Heard>, Failure> {
        let calls = self.calls.load(Ordering::Relaxed);
        if self.tape.plays() {
            return Ok(self.tape.heard(&(self.step.into(), calls)));
        }
        let heard = self.desk.mail(after).await?;
        let mail = Mail { after: calls, heard: heard.clone() };
        *lock(&self.mail) = Some(mail).filter(|mail| !mail.heard.is_empty());
        Ok(heard)
    }

    async fn artifact(
        &self,
        name: &str,
        media_type: &str,
    ) -> Result<Box<dyn ArtifactSink>, Failure> {
        let sink = self.desk.artifact(name, media_type).await?;
        let (tape, made, media_type) = (self.tape.clone(), self.made.clone(), media_type.into());
        Ok(Box::new(Copied { sink, tape, made, media_type, content: Vec::new() }))
    }

    async fn get(&self, digest: Digest, max: u64) -> Result<Bytes, Failure> {
        self.desk.get(digest, max).await
    }

    fn receipt(&self) -> BoxFuture<'static, Result<(), Failure>> {
        self.desk.receipt()
    }
}

/// An artifact whose content is kept for the cassette too.
struct Copied {
    sink: Box<dyn ArtifactSink>,
    tape: Arc<Tape>,
    made: Arc<Mutex<Vec<Made>>>,
    media_type: Box<str>,
    content: Vec<u8>,
}

#[async_trait]
impl ArtifactSink for Copied {
    async fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        if self.content.len() <= ARTIFACT_MAX {
            self.content.extend_from_slice(&piece);
        }
        self.sink.write(piece).await
    }

    async fn finish(self: Box<Self>) -> Result<Artifact, Failure> {
        let Self { sink, tape, made, media_type, content } = *self;
        let artifact = sink.finish().await?;
        let name = artifact.name.clone();
        if content.len() > ARTIFACT_MAX {
            tape.spoil(format!("artifact `{name}` has {} bytes", artifact.len));
        }
        let content = STANDARD.encode(content);
        lock(&made).push(Made { name, media_type, content });
        Ok(artifact)
    }
}
