//! A desk without an engine: for tests of agents, and to try one out.
//!
//! It keeps its promises within one process: effects are recorded and replayed, artifacts are files
//! in a folder that goes with the desk. Absent: durability.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kapelle_core::port::agent::{
    ArtifactSink, BoxFuture, Desk, Effect, EffectWork, Failure, FailureKind, Heard, PaidWork,
    Progress, Question, Turn, Usage,
};
use kapelle_core::{Artifact, Digest, Digester, Json, StepId, canonical};
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

/// A desk for the attempts of one step.
#[derive(Debug)]
pub struct ScratchDesk {
    folder: TempDir,
    cancelled: watch::Sender<bool>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    progress: Vec<Progress>,
    next_ordinal: u32,
    effects: BTreeMap<u32, Recorded>,
    sent: Vec<(Box<str>, Arc<str>)>,
    mail: Vec<Heard>,
    answers: VecDeque<Json>,
}

#[derive(Clone, Debug)]
struct Recorded {
    input: Digest,
    end: Result<Json, Failure>,
}

impl ScratchDesk {
    /// An empty desk.
    pub fn new() -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kapelle-desk-").tempdir()?;
        Ok(Self { folder, cancelled: watch::Sender::new(false), kept: Mutex::default() })
    }

    /// Tells the agent that it should end.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Clears the way for another attempt: recorded effects stay and are counted from 1 again.
    pub fn next_attempt(&self) {
        self.cancelled.send_replace(false);
        self.kept().next_ordinal = 0;
    }

    /// All progress so far.
    #[must_use]
    pub fn progress_so_far(&self) -> Vec<Progress> {
        self.kept().progress.clone()
    }

    /// All messages that were sent so far, and to whom. One to `nobody` does not arrive.
    #[must_use]
    pub fn sent_so_far(&self) -> Vec<(Box<str>, Arc<str>)> {
        self.kept().sent.clone()
    }

    /// Another step says something.
    pub fn say(&self, from: StepId, agent: &str, text: &str) {
        let mut kept = self.kept();
        let number = u32::try_from(kept.mail.len() + 1).expect("they are few");
        kept.mail.push(Heard { number, from, agent: agent.into(), text: text.into() });
    }

    /// The answer to the next question that is asked and has none.
    pub fn answer(&self, answer: &str, by: &str) {
        self.kept().answers.push_back(json!({"answer": answer, "by": by}));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding it")
    }

    fn file_of(&self, digest: Digest) -> PathBuf {
        self.folder.path().join(digest.hex())
    }
}

#[async_trait]
impl Desk for ScratchDesk {
    fn progress(&self, progress: Progress) {
        self.kept().progress.push(progress);
    }

    async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        cancelled.wait_for(|cancelled| *cancelled).await.expect("the sender is ours");
    }

    fn effect<'a>(
        &'a self,
        effect: Effect,
        work: EffectWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let input = Digest::of(canonical(&effect.input).as_bytes());
        let (ordinal, known) = {
            let mut kept = self.kept();
            kept.next_ordinal += 1;
            (kept.next_ordinal, kept.effects.get(&kept.next_ordinal).cloned())
        };
        Box::pin(async move {
            match known {
                Some(known) if known.input == input => known.end,
                Some(_) => {
                    let message = format!("effect {ordinal} was about something else before");
                    Err(Failure::new(FailureKind::Diverged, "diverged", message))
                }
                None => {
                    let end = work(format!("scratch/{}/{ordinal}/1", effect.name).into()).await;
                    self.kept().effects.insert(ordinal, Recorded { input, end: end.clone() });
                    end
                }
            }
        })
    }

    /// There is no budget here: it is counted as nothing.
    fn paid<'a>(
        &'a self,
        effect: Effect,
        _reserve: Usage,
        turn: &'a dyn Turn,
        work: PaidWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let work = move |key: Box<str>| -> BoxFuture<'a, _> {
            Box::pin(async move {
                turn.take().await?;
                work(key).await.0
            })
        };
        self.effect(effect, Box::new(work))
    }

    fn send<'a>(
        &'a self,
        effect: Effect,
        to: Box<str>,
        text: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let work = move |_: Box<str>| -> BoxFuture<'a, _> {
            Box::pin(async move {
                if &*to == "nobody" {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        "undelivered",
                        "there is nobody",
                    ));
                }
                self.kept().sent.push((to, text));
                Ok(Json::Null)
            })
        };
        let sent = self.effect(effect, Box::new(work));
        Box::pin(async move { sent.await.map(drop) })
    }

    /// Not asked again is what was asked and has no answer: the place of the call is kept.
    fn ask<'a>(&'a self, effect: Effect, _: Question) -> BoxFuture<'a, Result<Json, Failure>> {
        let mut kept = self.kept();
        let ordinal = kept.next_ordinal + 1;
        let is_known = kept.effects.contains_key(&ordinal);
        let answer = if is_known { None } else { kept.answers.pop_front() };
        if !is_known && answer.is_none() {
            kept.next_ordinal = ordinal;
            let failure = Failure::new(FailureKind::Refused, "unanswered", "nobody has answered");
            return Box::pin(async move { Err(failure) });
        }
        drop(kept);
        let work = move |_: Box<str>| -> BoxFuture<'a, _> {
            Box::pin(async move { Ok(answer.unwrap_or_default()) })
        };
        self.effect(effect, Box::new(work))
    }

    async fn mail(&self, after: u32) -> Result<Vec<Heard>, Failure> {
        let kept = self.kept();
        Ok(kept.mail.iter().filter(|heard| heard.number > after).cloned().collect())
    }

    async fn artifact(
        &self,
        name: &str,
        media_type: &str,
    ) -> Result<Box<dyn ArtifactSink>, Failure> {
        let scratch = NamedTempFile::new_in(&self.folder).map_err(|error| broken(&error))?;
        let (file, path) = scratch.into_parts();
        Ok(Box::new(Sink {
            name: name.into(),
            media_type: media_type.into(),
            folder: self.folder.path().to_owned(),
            file: tokio::fs::File::from_std(file),
            path,
            digester: Digester::default(),
            len: 0,
        }))
    }

    async fn get(&self, digest: Digest, max: u64) -> Result<Bytes, Failure> {
        let path = self.file_of(digest);
        let invalid = |message: String| Failure::new(FailureKind::Invalid, "artifact", message);
        let len = match tokio::fs::metadata(&path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(invalid(format!("there is no artifact {digest}")));
            }
            found => found.map_err(|error| broken(&error))?.len(),
        };
        if len > max {
            return Err(invalid(format!("artifact {digest} has {len} bytes, {max} are allowed")));
        }
        Ok(tokio::fs::read(path).await.map_err(|error| broken(&error))?.into())
    }

    /// What is reported at this desk is taken.
    fn receipt(&self) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Sink {
    name: Box<str>,
    media_type: Box<str>,
    folder: PathBuf,
    file: tokio::fs::File,
    path: tempfile::TempPath,
    digester: Digester,
    len: u64,
}

#[async_trait]
impl ArtifactSink for Sink {
    async fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.digester.update(&piece);
        self.len += piece.len() as u64;
        self.file.write_all(&piece).await.map_err(|error| broken(&error))
    }

    async fn finish(mut self: Box<Self>) -> Result<Artifact, Failure> {
        self.file.flush().await.map_err(|error| broken(&error))?;
        let digest = self.digester.finish();
        let to = self.folder.join(digest.hex());
        self.path.persist(to).map_err(|error| broken(&error.error))?;
        Ok(Artifact { name: self.name, digest, media_type: self.media_type, len: self.len })
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Unavailable, "desk", format!("the desk's folder: {error}"))
}
