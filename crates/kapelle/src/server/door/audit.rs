//! What the audit log says of requests: who asked for what, from where, and how that ended.
//!
//! **Invariants:** what changes something, and what was refused, is an entry of its own, on disk before its
//! answer leaves; that of a new run is in the run's own commit. What only reads, and what agents do as their work (their runs' journals have it), is
//! counted and noted once a minute, so that it costs no write. Of what is refused only so many a minute
//! are entries of their own, the others are counted too: whoever is refused cannot fill a disk.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use kapelle_core::port::audit::{Audit, Noted};
use kapelle_core::port::journal::Error;
use kapelle_core::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use super::Caller;
use super::permission::Permission;
use crate::server::problem::Code;

/// How long is counted before that is noted.
const MINUTE: Duration = Duration::from_secs(60);
/// How many callers and addresses are counted apart from each other; more are counted as one.
const APART_MAX: usize = 1_000;
/// How many refusals a minute are entries of their own: of each who is known, and of all others together.
const ALONE_MAX: u32 = 100;
/// The longest name from a path that is kept, in characters.
const NAME_MAX: usize = 200;

tokio::task_local! {
    /// The entry of the request at hand, as far as it is known, and whether it is on disk already.
    static TELLING: Mutex<(Entry, bool)>;
}

/// What a route is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Weight {
    /// Open to all: nothing is decided.
    Open,
    /// It only reads, or does an agent's work.
    Reads,
    Works,
    Changes,
}

/// A request that is decided about.
pub(in crate::server) struct Asked {
    pub(in crate::server) method: Method,
    /// `None`: it was refused before a route was looked for.
    pub(in crate::server) route: Option<&'static str>,
    pub(in crate::server) needs: Option<Permission>,
    pub(in crate::server) peer: Option<IpAddr>,
    pub(in crate::server) path: Uri,
}

/// How it was answered: with that status and, where that is a problem, its code.
pub(in crate::server) struct Outcome(StatusCode, Option<Box<str>>);

impl Outcome {
    pub(in crate::server) fn of(answer: &Response) -> Self {
        let code = answer.extensions().get::<Code>();
        Self(answer.status(), code.map(|code| code.0.clone()))
    }

    /// Whether it was answered that somebody may not.
    pub(in crate::server) fn is_refusal(&self) -> bool {
        let is_strange = self.1.as_deref() == Some("strange_host");
        is_strange || [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&self.0)
    }
}

/// An entry, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct Entry {
    pub(in crate::server) at: Timestamp,
    pub(in crate::server) who: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) method: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) route: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) permission: Option<Box<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::server) about: BTreeMap<Box<str>, Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) code: Option<Box<str>>,
    #[serde(flatten)]
    pub(in crate::server) counts: Counts,
}

/// What was counted, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(in crate::server) reads: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(in crate::server) work: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(in crate::server) refused: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Writes the log of a node.
pub(crate) struct Recorder {
    log: Arc<dyn Audit>,
    minute: Mutex<Minute>,
}

/// What was counted since the last time it was noted.
#[derive(Default)]
struct Minute {
    since: Option<Timestamp>,
    /// Refusals of those who are not known, that were noted.
    alone: u32,
    /// By tenant and name: of whom nobody knows, by address.
    sums: BTreeMap<Tenant, BTreeMap<Box<str>, Sum>>,
    apart: usize,
}

#[derive(Default)]
struct Sum {
    who: Box<str>,
    peer: Option<IpAddr>,
    alone: u32,
    counts: Counts,
}

/// What is told of the request at hand; in no request nobody asks.
fn telling<T>(with: impl FnOnce(&mut (Entry, bool)) -> T) -> Option<T> {
    TELLING.try_with(|told| with(&mut told.lock().unwrap_or_else(PoisonError::into_inner))).ok()
}

/// Says what the request at hand has made, such as a run.
pub(in crate::server) fn made(what: &'static str, name: &str) {
    telling(|(entry, _)| entry.about.insert(what.into(), name.into()));
}

/// The entry of the request at hand if it makes that and is answered so, for whoever commits both together.
pub(in crate::server) fn note_of(
    what: &'static str,
    name: &str,
    status: StatusCode,
) -> Option<Box<str>> {
    let mut entry = telling(|(entry, _)| entry.clone())?;
    entry.about.insert(what.into(), name.into());
    Some(entry.answered(&Outcome(status, None)).body())
}

/// Says that this entry is on disk.
pub(in crate::server) fn noted() {
    telling(|(_, is_noted)| *is_noted = true);
}

impl Recorder {
    pub(crate) fn new(log: Arc<dyn Audit>) -> Arc<Self> {
        Arc::new(Self { log, minute: Mutex::default() })
    }

    /// The entries of a tenant before `before`, newest first.
    pub(in crate::server) async fn entries(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(Noted, Entry)>, Error> {
        let noted = self.log.notes(tenant, before, limit).await?;
        let read = |noted: Noted| match serde_json::from_str(&noted.body) {
            Ok(entry) => Ok((noted, entry)),
            Err(error) => Err(Error::Unavailable {
                file: format!("entry {} of the audit log", noted.seq).into(),
                message: format!("{error}: `kapelle audit verify` says whether it was changed")
                    .into(),
            }),
        };
        noted.into_iter().map(read).collect()
    }

    /// Has `asked` answered by `answer`, and takes note of both.
    pub(in crate::server) async fn heard(
        self: &Arc<Self>,
        (caller, weight): (&Caller, Weight),
        asked: Asked,
        answer: impl Future<Output = Response>,
    ) -> Response {
        let (answer, told) = match weight {
            Weight::Changes => {
                let done = async { (answer.await, telling(std::mem::take)) };
                TELLING.scope(Mutex::new((Entry::of(caller, &asked), false)), done).await
            }
            _ => (answer.await, None),
        };
        let (entry, is_noted) = told.unwrap_or_default();
        let outcome = Outcome::of(&answer);
        let refused = outcome.is_refusal();
        match weight {
            // Nobody's are told at the door, where those are that find no route.
            _ if refused && caller.is_nobody() => {}
            _ if refused => self.refused(caller, asked, outcome).await,
            // The store did nothing: what it has left on a full disk is for those who stop something.
            Weight::Changes if answer.status().is_server_error() => {}
            Weight::Changes if is_noted => {}
            Weight::Changes => self.write(&tenant_of(caller), &entry.answered(&outcome)).await,
            // What the owner of the store looks at is nobody's business.
            _ if caller.is_owner => {}
            Weight::Reads => self.count(caller, None, |counts| counts.reads += 1),
            Weight::Works => self.count(caller, None, |counts| counts.work += 1),
            Weight::Open => {}
        }
        answer
    }

    /// Takes note that it was refused.
    pub(in crate::server) async fn refused(
        self: &Arc<Self>,
        caller: &Caller,
        asked: Asked,
        outcome: Outcome,
    ) {
        let alone = {
            let mut minute = self.lock();
            let noted = minute.alone;
            let sum = self.sum(&mut minute, caller, asked.peer);
            let alone = if caller.is_nobody() { noted } else { sum.alone } < ALONE_MAX;
            if alone {
                sum.alone += 1;
                minute.alone += u32::from(caller.is_nobody());
            } else {
                sum.counts.refused += 1;
            }
            alone
        };
        if alone {
            let entry = Entry::of(caller, &asked).answered(&outcome);
            self.write(&tenant_of(caller), &entry).await;
        }
    }

    /// What is done is done, and its answer stands: whoever reads the log of the node hears of a gap.
    async fn write(&self, tenant: &Tenant, entry: &Entry) {
        if let Err(error) = self.log.note(tenant, entry.body()).await {
            tracing::error!(%error, who = %entry.who, "not noted in the audit log");
        }
    }

    fn count(
        self: &Arc<Self>,
        caller: &Caller,
        peer: Option<IpAddr>,
        add: impl FnOnce(&mut Counts),
    ) {
        add(&mut self.sum(&mut self.lock(), caller, peer).counts);
    }

    /// What is counted of `caller`.
    fn sum<'a>(
        self: &Arc<Self>,
        minute: &'a mut Minute,
        caller: &Caller,
        peer: Option<IpAddr>,
    ) -> &'a mut Sum {
        if minute.since.is_none() {
            minute.since = Some(crate::now());
            let recorder = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep(MINUTE).await;
                if let Some(recorder) = recorder.upgrade() {
                    recorder.flush().await;
                }
            });
        }
        let unknown = caller.is_nobody().then(|| peer.map_or("-".into(), |peer| peer.to_string()));
        let name = unknown.as_deref().unwrap_or(&caller.name);
        let known = minute.sums.get(&caller.tenant).is_some_and(|sums| sums.contains_key(name));
        let (tenant, name) = match minute.apart < APART_MAX || known {
            true => (caller.tenant.clone(), name),
            false => (Tenant::new(""), "others"),
        };
        let sums = minute.sums.entry(tenant).or_default();
        if !sums.contains_key(name) {
            let who = if name == "others" { name.into() } else { caller.name.clone() };
            let peer = peer.filter(|_| caller.is_nobody() && name != "others");
            sums.insert(name.into(), Sum { who, peer, ..Sum::default() });
            minute.apart += 1;
        }
        sums.get_mut(name).expect("just put there")
    }

    /// Notes what was counted so far.
    pub(crate) async fn flush(&self) {
        let Minute { since, sums, .. } = std::mem::take(&mut *self.lock());
        let sums = sums
            .into_iter()
            .flat_map(|(tenant, sums)| sums.into_values().map(move |sum| (tenant.clone(), sum)));
        for (tenant, Sum { who, peer, counts, .. }) in sums {
            if counts == Counts::default() {
                continue;
            }
            let counts = Counts { since, ..counts };
            let entry = Entry { at: crate::now(), who, peer, counts, ..Entry::default() };
            let tenant = if tenant.as_str().is_empty() { Tenant::default() } else { tenant };
            self.write(&tenant, &entry).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Minute> {
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Of what `caller` asks for.
    fn of(caller: &Caller, asked: &Asked) -> Self {
        Self {
            at: crate::now(),
            who: caller.name.clone(),
            peer: asked.peer,
            about: asked.named().map(|(what, name)| (what.into(), name.into())).collect(),
            method: Some(asked.method.as_str().into()),
            route: asked.route.map(Into::into),
            permission: asked.needs.map(|needs| needs.name().into()),
            ..Self::default()
        }
    }

    fn answered(self, outcome: &Outcome) -> Self {
        Self { status: Some(outcome.0.as_u16()), code: outcome.1.clone(), ..self }
    }

    fn body(&self) -> Box<str> {
        serde_json::to_string(self).expect("it is JSON").into()
    }
}

impl Asked {
    /// The names in its path, as they stand there.
    fn named(&self) -> impl Iterator<Item = (&'static str, String)> {
        let short = |name: &str| name.chars().take(NAME_MAX).collect::<String>();
        let unmatched = self.route.is_none().then(|| ("path", short(self.path.path())));
        let parts = self.route.unwrap_or_default().split('/').zip(self.path.path().split('/'));
        let named = parts.filter_map(move |(part, name)| {
            Some((part.strip_prefix('{')?.strip_suffix('}')?, short(name)))
        });
        unmatched.into_iter().chain(named)
    }
}

/// What nobody knows who did is the business of the owner's tenant.
fn tenant_of(caller: &Caller) -> Tenant {
    if caller.is_nobody() { Tenant::default() } else { caller.tenant.clone() }
}
