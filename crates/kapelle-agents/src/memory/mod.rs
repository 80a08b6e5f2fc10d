//! `memory`: what steps leave for later ones, in this run and in others.
//!
//! **Invariants:** what a step stores is there once, whatever becomes of the step: an entry's key is
//! that of the call. What one tenant stored no other one finds; what is over is not found, and its
//! rows go with the next write. Nobody learns more of an entry's origin than who wrote it said.
//!
//! Absent: meaning. Words are found by their stems (FTS5, BM25), near spellings and texts that are
//! alike by vectors made of letters (`features`). From call to answer: `input`, then `write` or
//! `find`, on the `file`.

mod fault;
mod features;
mod file;
mod find;
mod input;
mod look;
mod schema;
mod stems;
mod tables;
mod vectors;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use kapelle_core::port::agent::{Agent, Answer, Call, Card, Desk, Failure, FailureKind};
use kapelle_core::{Json, Timestamp};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::input::{cancelled, invalid};
use file::File;
use input::Wish;
pub use look::{Depth, look};

/// How many calls work on the file at once; each has a connection of its own.
const AT_ONCE: usize = 4;

/// Where memory is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, made at the first use; without one, memory ends with the process.
    pub file: Option<PathBuf>,
    /// How many entries a namespace may have.
    pub entries_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: None, entries_max: 100_000 }
    }
}

/// Tells the time by which entries come to their end.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Stores and retrieves texts.
pub struct Memory {
    card: Card,
    kept: Arc<Kept>,
    workers: Arc<Semaphore>,
}

struct Kept {
    file: File,
    vectors: vectors::Kept,
    entries_max: u32,
    clock: Clock,
}

/// A verb of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Store,
    Retrieve,
    Forget,
}

impl Action {
    const ALL: [Self; 3] = [Self::Store, Self::Retrieve, Self::Forget];

    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Retrieve => "retrieve",
            Self::Forget => "forget",
        }
    }
}

impl Memory {
    /// The agent, by the wall clock.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Arc::new(wall_clock))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(settings: Settings, clock: Clock) -> Self {
        let card = Card {
            name: "memory".into(),
            description: "Keeps texts across runs and finds them by words and near spellings"
                .into(),
            actions: Action::ALL.map(schema::action).into(),
            concurrency_max: None,
        };
        let Settings { file, entries_max } = settings;
        let kept = Arc::new(Kept {
            file: File::new(file),
            vectors: vectors::Kept::default(),
            entries_max,
            clock,
        });
        Self { card, kept, workers: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn fulfil(&self, wish: Wish) -> Result<Json, Failure> {
        let permit = Arc::clone(&self.workers).acquire_owned().await;
        let permit = permit.expect("it is never closed");
        let kept = Arc::clone(&self.kept);
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work has ended, also when nobody waits for it any more.
            let _permit = permit;
            kept.fulfil(&wish)
        });
        let died = |error: tokio::task::JoinError| {
            Failure::new(FailureKind::Bug, "panic", error.to_string()).uncertain()
        };
        work.await.map_err(died)?
    }
}

impl Kept {
    fn fulfil(&self, wish: &Wish) -> Result<Json, Failure> {
        let now = (self.clock)();
        match wish {
            Wish::Store(store) => {
                let prepared = write::prepare(store, now);
                let ids = self.file.write(|conn| {
                    write::free(conn, now)?;
                    write::store(conn, &prepared, self.entries_max)
                })?;
                Ok(json!({"namespace": store.of.namespace, "ids": ids}))
            }
            Wish::Retrieve(retrieve) => {
                self.file.read(|conn| find::find(conn, &self.vectors, retrieve, now))
            }
            Wish::Forget(forget) => {
                let forgotten = self.file.write(|conn| {
                    write::free(conn, now)?;
                    write::forget(conn, forget)
                })?;
                Ok(json!({"namespace": forget.of.namespace, "forgotten": forgotten}))
            }
        }
    }
}

#[async_trait]
impl Agent for Memory {
    fn card(&self) -> &Card {
        &self.card
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let Some(action) = Action::ALL.into_iter().find(|action| action.name() == &*call.action)
        else {
            let message = format!("`memory` has no action `{}`", call.action);
            return Err(invalid("no_such_action", message));
        };
        let wish = Wish::read(action, &call)?;
        let value = tokio::select! {
            biased;
            () = desk.cancelled() => return Err(cancelled()),
            value = self.fulfil(wish) => value?,
        };
        Ok(Answer { value, engine: Some("rules".into()), ..Answer::default() })
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(since)
}
