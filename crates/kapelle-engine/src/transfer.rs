//! Runs that have ended, as one file: written from one store, taken in by another.
//!
//! ```text
//! {"export":{"version":1}}
//! {"run":{"id":…,"tenant":…}}                   for each run that has ended
//! {"entry":{"first_seq":…,…,"bytes":N}}         N bytes as they are, and a line end
//! {"payload":{"digest":…,"bytes":N}}            likewise
//! {"end":{"digest":…}}                          of all bytes before this line
//! ```
//!
//! **Invariants:** entries and payloads go byte for byte, so the chain holds as it is; nothing of a
//! file is taken in before all of it was checked, and a run is taken in whole or not at all. What was
//! broken off is done again: runs that are there are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kapelle_core::port::journal::{Content, Entry, History, Imported, LEVEL, Row, RunRow};
use kapelle_core::run::{Compiled, Run};
use kapelle_core::{Digest, Digester, Epoch, Payload, ROW_MAX, RunId, Tenant, Timestamp, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::shards::{Fold, LoadError};
use crate::{Engine, Error, Submitted};

/// The newest version of the file that is read and written.
const VERSION: u32 = 1;
/// The longest file: it is checked as a whole, in memory.
pub const EXPORT_MAX: u64 = 512 << 20;
/// How many bytes of a payload are read at once.
const PIECE: usize = 256 << 10;
/// The longest line.
const LINE_MAX: usize = 4 << 10;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Export { version: u32 },
    Run { id: RunId, tenant: Box<str> },
    Entry(EntryHead),
    Payload { digest: Digest, bytes: u64 },
    End { digest: Digest },
}

/// An entry without its body.
#[derive(Debug, Serialize, Deserialize)]
struct EntryHead {
    first_seq: u64,
    count: u32,
    at: i64,
    epoch: u64,
    level: u16,
    hash: Digest,
    bytes: u64,
}

/// The file as it comes into being.
pub type Export = BoxStream<'static, Result<Bytes, Error>>;

impl Engine {
    /// Writes runs that have ended as one file. [`Error::Open`] for one that has not,
    /// [`Error::LongExport`] where nobody could import it.
    pub async fn export(&self, tenant: &Tenant, runs: Vec<RunId>) -> Result<Export, Error> {
        let mut bytes = 0;
        for run in &runs {
            let row = self.journal().run(tenant, *run).await?.ok_or(Error::NotFound)?;
            if row.open {
                return Err(Error::Open { run: *run });
            }
            bytes += self.journal().bytes(tenant, *run).await?;
        }
        if bytes > EXPORT_MAX {
            return Err(Error::LongExport);
        }
        let (to, pieces) = mpsc::channel(4);
        let (engine, tenant) = (self.clone(), tenant.clone());
        tokio::spawn(async move {
            let mut writer = Writer { to: to.clone(), digester: Digester::default(), len: 0 };
            if let Err(error) = engine.write(&tenant, &runs, &mut writer).await {
                // Without its last line the file is none.
                to.send(Err(error)).await.ok();
            }
        });
        let next = |mut pieces: mpsc::Receiver<_>| async { Some((pieces.recv().await?, pieces)) };
        Ok(futures_util::stream::unfold(pieces, next).boxed())
    }

    async fn write(
        &self,
        tenant: &Tenant,
        runs: &[RunId],
        writer: &mut Writer,
    ) -> Result<(), Error> {
        writer.head(&Head::Export { version: VERSION }).await?;
        for run in runs {
            writer.head(&Head::Run { id: *run, tenant: tenant.as_str().into() }).await?;
            let mut from = 1;
            loop {
                let entries = self.journal().read(tenant, *run, from).await?;
                let Some(last) = entries.last() else { break };
                from = last.first_seq + u64::from(last.count);
                for entry in entries {
                    writer.entry(&entry).await?;
                }
            }
            for (digest, _) in self.journal().references(tenant, *run).await? {
                let content = self.journal().payload(tenant, digest).await?;
                let gone = || Error::Damaged(format!("payload {digest}: is missing").into());
                writer.payload(digest, content.ok_or_else(gone)?).await?;
            }
        }
        let digest = std::mem::take(&mut writer.digester).finish();
        writer.head(&Head::End { digest }).await
    }

    /// Takes in the runs of a file, and answers them; `existing` are those that were there before.
    ///
    /// [`Error::BadExport`] for a file that is not whole: nothing of it was taken in.
    /// [`Error::OtherRun`] where another run has the id of one.
    pub async fn import(&self, tenant: &Tenant, file: Bytes) -> Result<Vec<Submitted>, Error> {
        let mut found = Vec::new();
        for run in read(&file)? {
            found.push((run.id, run.history(tenant)?));
        }
        let mut taken = Vec::new();
        for (run, mut history) in found {
            self.stage_large(&mut history.rows).await?;
            let existing = match self.journal().import(history).await? {
                Imported::New => false,
                Imported::Known => true,
                Imported::Other => return Err(Error::OtherRun { run }),
            };
            taken.push(Submitted { run, existing });
        }
        Ok(taken)
    }

    /// Makes files of payloads that are too large for rows.
    async fn stage_large(&self, rows: &mut [Row]) -> Result<(), Error> {
        for row in rows {
            if let Row::Payload(payload) = row
                && payload.bytes.len() > ROW_MAX
            {
                let mut staged = self.journal().stage().await?;
                staged.write(payload.bytes.clone()).await?;
                let (digest, len) = staged.finish().await?;
                *row = Row::Reference { digest, len };
            }
        }
        Ok(())
    }
}

/// Writes a file, piece by piece.
struct Writer {
    to: mpsc::Sender<Result<Bytes, Error>>,
    digester: Digester,
    len: u64,
}

impl Writer {
    async fn piece(&mut self, piece: Bytes) -> Result<(), Error> {
        self.digester.update(&piece);
        self.len += piece.len() as u64;
        // Its lines come on top of what the store counts.
        if self.len > EXPORT_MAX {
            return Err(Error::LongExport);
        }
        // Nobody reads any more: there is nobody to tell either.
        self.to.send(Ok(piece)).await.map_err(|_| Error::Draining)
    }

    async fn head(&mut self, head: &Head) -> Result<(), Error> {
        let mut line = serde_json::to_vec(head).expect("a line is JSON");
        line.push(b'\n');
        self.piece(line.into()).await
    }

    async fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let head = EntryHead {
            first_seq: entry.first_seq,
            count: entry.count,
            at: entry.at.0,
            epoch: entry.epoch.0,
            level: entry.level,
            hash: Digest::from_bytes(entry.hash),
            bytes: entry.body.len() as u64,
        };
        self.head(&Head::Entry(head)).await?;
        self.piece(entry.body.clone()).await?;
        self.piece(Bytes::from_static(b"\n")).await
    }

    async fn payload(&mut self, digest: Digest, content: Content) -> Result<(), Error> {
        self.head(&Head::Payload { digest, bytes: content.len }).await?;
        let mut reader = content.reader;
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE);
                let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
                read.map(|_| (piece, reader))
            });
            let damaged = |error: &dyn std::fmt::Display| {
                Error::Damaged(format!("payload {digest}: {error}").into())
            };
            let read = read.await.map_err(|error| damaged(&error))?;
            let (piece, rest) = read.map_err(|error| damaged(&error))?;
            reader = rest;
            if piece.is_empty() {
                return self.piece(Bytes::from_static(b"\n")).await;
            }
            self.piece(piece.into()).await?;
        }
    }
}

/// A run as a file has it.
struct Found {
    id: RunId,
    tenant: Tenant,
    entries: Vec<Entry>,
    payloads: Vec<Payload>,
}

fn bad(why: impl Into<String>) -> Error {
    Error::BadExport(why.into().into())
}

/// The runs of a file that is whole.
fn read(file: &Bytes) -> Result<Vec<Found>, Error> {
    let mut lines = Lines { file, at: 0 };
    match lines.head()? {
        Head::Export { version: VERSION } => {}
        Head::Export { version } => {
            let ours = format!("its version is {version}, this kapelle reads {VERSION}");
            return Err(bad(format!("{ours}; use the newer one that wrote it")));
        }
        _ => return Err(bad("it does not begin as one")),
    }
    let mut runs: Vec<Found> = Vec::new();
    loop {
        let before = lines.at;
        match (lines.head()?, runs.last_mut()) {
            (Head::Run { id, tenant }, _) => {
                let (tenant, entries, payloads) = (Tenant::new(&tenant), Vec::new(), Vec::new());
                runs.push(Found { id, tenant, entries, payloads });
            }
            (Head::Entry(head), Some(run)) => {
                let body = lines.content(head.bytes)?;
                run.entries.push(run.entry(&head, body));
            }
            (Head::Payload { digest, bytes }, Some(run)) => {
                let payload = Payload::new(lines.content(bytes)?);
                if payload.digest != digest {
                    return Err(bad(format!("the payload `{digest}` is not what was written")));
                }
                run.payloads.push(payload);
            }
            (Head::End { digest }, _) => {
                let whole = Digest::of(&file[..before]) == digest && lines.at == file.len();
                return if whole { Ok(runs) } else { Err(bad("it is not what was written")) };
            }
            _ => return Err(bad("its lines are not in order")),
        }
    }
}

struct Lines<'a> {
    file: &'a Bytes,
    at: usize,
}

impl Lines<'_> {
    fn head(&mut self) -> Result<Head, Error> {
        let rest = &self.file[self.at..];
        let end = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| bad("it is cut off"))?;
        self.at += end + 1;
        serde_json::from_slice(&rest[..end]).map_err(|error| bad(format!("a line of it: {error}")))
    }

    fn content(&mut self, bytes: u64) -> Result<Bytes, Error> {
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        let end = self.at.saturating_add(len);
        if self.file.get(end) != Some(&b'\n') {
            return Err(bad("it is cut off"));
        }
        let content = self.file.slice(self.at..end);
        self.at = end + 1;
        Ok(content)
    }
}

impl Found {
    fn entry(&self, head: &EntryHead, body: Bytes) -> Entry {
        Entry {
            tenant: self.tenant.clone(),
            run: self.id,
            first_seq: head.first_seq,
            count: head.count,
            at: Timestamp(head.at),
            epoch: Epoch(head.epoch),
            level: head.level,
            body,
            hash: *head.hash.as_bytes(),
        }
    }

    /// What is to be taken in, if the run is one, and has ended.
    fn history(self, tenant: &Tenant) -> Result<History, Error> {
        if self.tenant != *tenant {
            return Err(bad(format!("run `{}` belongs to `{}`", self.id, self.tenant)));
        }
        if let Some(newer) = self.entries.iter().find(|entry| entry.level > LEVEL) {
            let level = newer.level;
            return Err(bad(format!(
                "it has entries of level {level}, this kapelle reads {LEVEL}"
            )));
        }
        let run = self.replay().map_err(|error| bad(error.to_string()))?;
        let Some(ended) = run.ended() else {
            return Err(bad(format!("run `{}` has not ended", self.id)));
        };
        if let Some(missing) = self.missing(&run) {
            return Err(bad(format!("run `{}` refers to `{missing}`, which is missing", self.id)));
        }
        let row = RunRow {
            tenant: self.tenant,
            run: self.id,
            workflow: run.workflow().into(),
            task_id: run.task_id().map(Into::into),
            status: run.status().as_str().into(),
            open: false,
            created_at: run.created_at(),
            updated_at: run.last_at(),
            ended_at: Some(ended.at),
        };
        let rows = self.payloads.into_iter().map(Row::Payload).collect();
        Ok(History { entries: self.entries, row, rows })
    }

    /// A payload without which not all of the run could be shown.
    fn missing(&self, run: &Run) -> Option<Digest> {
        let there: BTreeSet<_> = self.payloads.iter().map(|payload| payload.digest).collect();
        let values = run.steps().iter().map(|step| &step.value).chain([run.inputs()]);
        let values = values.chain(run.agents().values());
        let values = values.chain(run.ended().map(|ended| &ended.output));
        let artifacts = run.steps().iter().flat_map(|step| &step.artifacts);
        let artifacts = artifacts.map(|artifact| artifact.digest);
        let mut digests = values.filter_map(Value::digest).chain(artifacts);
        digests.find(|digest| !there.contains(digest))
    }

    fn replay(&self) -> Result<Run, LoadError> {
        let mut fold = Fold::default();
        let mut plan = None;
        for entry in &self.entries {
            if plan.is_none() {
                plan = Some(self.plan(entry)?);
            }
            fold.add(entry, plan.as_ref())?;
        }
        fold.finish().map(|loaded| loaded.run).ok_or(LoadError::NotFound)
    }

    fn plan(&self, first: &Entry) -> Result<Arc<Compiled>, LoadError> {
        let unusable = |why: String| {
            LoadError::Damaged(
                format!("the plan of run `{}` cannot be used: {why}", self.id).into(),
            )
        };
        let created = Fold::created(first)?;
        let payloads: BTreeMap<_, _> =
            self.payloads.iter().map(|payload| (payload.digest, &payload.bytes)).collect();
        let plan = match &created.plan {
            Value::Inline(json) => serde_json::from_value((**json).clone()),
            Value::Digest { digest, .. } => {
                let bytes = payloads.get(digest);
                serde_json::from_slice(bytes.ok_or_else(|| unusable("it is missing".to_owned()))?)
            }
            Value::List { .. } | Value::Picked(_) | Value::Sinks => {
                return Err(unusable("it is none".to_owned()));
            }
        };
        let plan = plan.map_err(|error| unusable(error.to_string()))?;
        Compiled::new(plan).map(Arc::new).map_err(|error| unusable(error.to_string()))
    }
}
