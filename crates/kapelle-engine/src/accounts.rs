//! What may be spent in all runs together: a call is granted what it may use by the accounts that
//! have a limit, before it is announced.
//!
//! **Invariants:** where there is no limit nothing is asked; a grant is settled by what the journal of
//! its run says; what may have been paid counts as paid.
//!
//! An attempt settles its own grants. What a crash leaves is settled by [`Accounts::settle_left`], by who
//! takes the runs over and by who waits for room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_core::port::Nodes;
use kapelle_core::port::account::{Call, Day, Grant, Granted, Per, Standing, Within};
use kapelle_core::port::agent::{Failure, FailureKind, Usage};
use kapelle_core::port::journal::Error;
use kapelle_core::run::{Event, OVER_ACCOUNT, StepStatus, Sum};
use kapelle_core::{RunId, Shard, Tenant, Timestamp};
use tokio::sync::Mutex;

use crate::desk::unwritten;
use crate::reader::Reader;
use crate::shards::{Fold, LoadError};

/// What all agents have a limit under that have none of their own.
const ANY: &str = "*";
/// The account of a tenant.
const TENANT: &str = "tenant";
/// How often those who wait look for what a crash has left.
const PACE: Duration = Duration::from_secs(2);

/// What may be spent in all runs together.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// By a tenant.
    pub tenant: Option<Limit>,
    /// By agents, by their names; `*`: by each one that is not named.
    pub agents: BTreeMap<Box<str>, Limit>,
}

/// What may be spent in a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// At most so many tokens.
    pub tokens: Option<u64>,
    /// At most so many nano-dollars.
    pub nanos: Option<i64>,
    /// At most so many milliseconds of calls.
    pub ms: Option<u64>,
    /// In what time.
    pub per: Per,
}

/// How an account stands that has a limit.
#[derive(Clone, Debug)]
pub struct Account {
    /// What may be spent.
    pub limit: Limit,
    /// What is.
    pub standing: Standing,
    /// When that counts no more.
    pub until: Option<Timestamp>,
}

impl Limits {
    /// The accounts that have to grant what an agent spends.
    fn of(&self, agent: &str) -> impl Iterator<Item = (Box<str>, Limit)> {
        let own = self.agents.get(agent).or_else(|| self.agents.get(ANY));
        let own = own.map(|limit| (format!("agent {agent}").into(), *limit));
        self.tenant.map(|limit| (TENANT.into(), limit)).into_iter().chain(own)
    }

    /// Whether nobody's spending is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.tenant.is_none() && self.agents.is_empty()
    }

    /// Whether what an agent spends is limited.
    pub(crate) fn apply_to(&self, agent: &str) -> bool {
        self.of(agent).next().is_some()
    }

    /// The limit of an account.
    fn limit(&self, account: &str) -> Option<Limit> {
        let agent = account.strip_prefix("agent ").unwrap_or_default();
        self.of(agent).find(|(name, _)| **name == *account).map(|(_, limit)| limit)
    }

    /// The accounts that are named.
    fn names(&self) -> impl Iterator<Item = Box<str>> {
        let agents = self.agents.keys().filter(|name| &***name != ANY);
        let agents = agents.map(|name| format!("agent {name}").into());
        self.tenant.iter().map(|_| TENANT.into()).chain(agents)
    }
}

impl Limit {
    fn within(&self, account: Box<str>, now: Timestamp) -> Within {
        let Self { tokens, nanos, ms, per } = *self;
        Within { account, since: per.since(now), tokens, nanos, ms }
    }
}

/// The accounts of a store, as an engine uses them.
pub(crate) struct Accounts {
    limits: Limits,
    nodes: Arc<dyn Nodes>,
    looked: Mutex<Option<Instant>>,
}

impl Accounts {
    pub(crate) fn new(limits: Limits, nodes: Arc<dyn Nodes>) -> Self {
        Self { limits, nodes, looked: Mutex::default() }
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Has a call granted what it may use. `false`: others have what is left, and may leave some of it.
    pub(crate) async fn grant(
        &self,
        reader: &Reader,
        (tenant, agent): (&Tenant, &str),
        call: Call,
        reserve: &Usage,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let limits: Vec<_> = self.limits.of(agent).collect();
        if limits.is_empty() {
            return Ok(true);
        }
        let in_money = limits.iter().find(|(_, limit)| limit.nanos.is_some());
        if let (Some((account, _)), None) = (in_money, reserve.cost_nanos) {
            return Err(unpriced(account));
        }
        // How long a call takes is not known before: one may begin while any time is left.
        let (day, wanted) = (Day::of(now), Sum { ms: 1, ..Sum::of(reserve) });
        let grant = Grant { tenant: tenant.clone(), call, day, wanted };
        let within: Vec<_> =
            limits.iter().map(|(name, limit)| limit.within(name.clone(), now)).collect();
        let granted = reader.journal.grant(grant, within.clone()).await;
        let Granted::No(standing) = granted.map_err(|error| unwritten(&error))? else {
            return Ok(true);
        };
        let refused = within.iter().zip(&limits).find(|(of, _)| of.account == standing.account);
        let Some((of, (_, limit))) = refused else { return Ok(false) };
        if !of.fits(&standing.spent.and(wanted)) {
            return Err(over(limit, &standing, &wanted, now));
        }
        self.look(reader, tenant).await.map_err(|error| unwritten(&error))?;
        Ok(false)
    }

    /// Settles what crashes have left, unless somebody has just done so.
    async fn look(&self, reader: &Reader, tenant: &Tenant) -> Result<(), Error> {
        let Ok(mut looked) = self.looked.try_lock() else { return Ok(()) };
        if looked.is_some_and(|at| at.elapsed() < PACE) {
            return Ok(());
        }
        let settled = self.settle_left(reader, tenant).await;
        *looked = Some(Instant::now());
        settled
    }

    /// Settles the grants of calls of which the journals of their runs say how they ended, or that
    /// nobody will say so any more.
    pub(crate) async fn settle_left(&self, reader: &Reader, tenant: &Tenant) -> Result<(), Error> {
        let mut runs: BTreeMap<RunId, Vec<_>> = BTreeMap::new();
        for open in reader.journal.open_grants(tenant).await? {
            runs.entry(open.call.run).or_default().push(open);
        }
        if runs.is_empty() {
            return Ok(());
        }
        let living = self.living(reader).await?;
        for (run, open) in runs {
            let is_alive = living.contains(&run.shard());
            let calls = match Calls::read(reader, tenant, run).await {
                Ok(calls) => Some(calls),
                Err(LoadError::Store(error)) if !matches!(error, Error::Corrupt { .. }) => {
                    return Err(error);
                }
                // It is pruned or damaged: nobody will say how its calls ended.
                Err(_) => None,
            };
            for open in open {
                let end = |calls: &Calls| calls.end(&open.call, open.granted, is_alive);
                if let Some(used) = calls.as_ref().map_or(Some(open.granted), end) {
                    reader.journal.settle(tenant, open.call, used).await?;
                }
            }
        }
        Ok(())
    }

    /// The shards that somebody who lives works on.
    async fn living(&self, reader: &Reader) -> Result<BTreeSet<Shard>, Error> {
        let (mut living, mut known) = (BTreeSet::new(), BTreeMap::new());
        for holding in reader.journal.shards().await? {
            let Some(owner) = holding.owner else { continue };
            let alive = match known.get(&owner) {
                Some(alive) => *alive,
                None => owner == self.nodes.me().id || self.nodes.alive(&owner).await?,
            };
            known.insert(owner, alive);
            if alive {
                living.insert(holding.shard);
            }
        }
        Ok(living)
    }

    /// How the accounts stand that have a limit.
    pub(crate) async fn all(
        &self,
        reader: &Reader,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<Vec<Account>, Error> {
        let mut standings: BTreeMap<Box<str>, Standing> =
            self.limits.names().map(|name| (name.clone(), Standing::none(&name))).collect();
        for per in [Per::Day, Per::Month, Per::Ever] {
            let all = reader.journal.accounts(tenant, per.since(now)).await?;
            let of = |name: &str| self.limits.limit(name).is_some_and(|limit| limit.per == per);
            let all = all.into_iter().filter(|standing| of(&standing.account));
            standings.extend(all.map(|standing| (standing.account.clone(), standing)));
        }
        let account = |standing: Standing| {
            let limit = self.limits.limit(&standing.account)?;
            Some(Account { limit, standing, until: limit.per.until(now) })
        };
        Ok(standings.into_values().filter_map(account).collect())
    }
}

/// What the journal of a run says of its calls.
#[derive(Default)]
struct Calls {
    /// Those that were announced, and what they used as far as that is recorded.
    announced: BTreeMap<Call, Option<Sum>>,
    /// The attempts under way.
    going: Vec<(kapelle_core::StepNo, kapelle_core::Attempt)>,
}

impl Calls {
    async fn read(reader: &Reader, tenant: &Tenant, run: RunId) -> Result<Self, LoadError> {
        let (mut calls, mut fold) = (Self::default(), Fold::default());
        loop {
            let page = reader.advance(tenant, run, &mut fold).await?;
            if page.is_empty() {
                break;
            }
            page.iter().flat_map(|(_, events)| events).for_each(|event| calls.note(run, event));
        }
        let run = fold.finish().ok_or(LoadError::NotFound)?.run;
        let is_open = run.ended().is_none();
        let running = run.view().filter(|view| is_open && view.step.status == StepStatus::Running);
        calls.going = running.filter_map(|view| Some((view.no, view.step.attempt?))).collect();
        Ok(calls)
    }

    fn note(&mut self, run: RunId, event: &Event) {
        match event {
            Event::EffectStarted { step, attempt, effect, .. } => {
                let ordinal = effect.ordinal;
                let call = Call { run, step: *step, attempt: *attempt, ordinal };
                self.announced.insert(call, None);
            }
            Event::EffectRecorded { step, attempt, effect, used, .. } => {
                let ordinal = effect.ordinal;
                let call = Call { run, step: *step, attempt: *attempt, ordinal };
                self.announced.insert(call, used.as_ref().map(Sum::of));
            }
            _ => {}
        }
    }

    /// What a call counts for that was granted so much; `None`: it goes on.
    fn end(&self, call: &Call, granted: Sum, is_alive: bool) -> Option<Sum> {
        let goes_on = is_alive && self.going.contains(&(call.step, call.attempt));
        match self.announced.get(call) {
            Some(Some(used)) => Some(*used),
            _ if goes_on => None,
            Some(None) => Some(granted),
            None => Some(Sum::default()),
        }
    }
}

fn whose(account: &str) -> String {
    match account.strip_prefix("agent ") {
        Some(agent) => format!("agent `{agent}`"),
        None => "all runs together".to_owned(),
    }
}

fn unpriced(account: &str) -> Failure {
    let whose = whose(account);
    let message = format!(
        "the limit of {whose} is in money, and nobody knows what this call costs; name its price in \
         `models.prices`"
    );
    Failure::new(FailureKind::Budget, OVER_ACCOUNT, message)
}

/// Whose limit, what is left of it, and when it begins anew.
fn over(limit: &Limit, standing: &Standing, wanted: &Sum, now: Timestamp) -> Failure {
    let gone = standing.gone();
    let tokens = limit.tokens.map(|max| (max.saturating_sub(gone.tokens), wanted.tokens));
    let tokens =
        tokens.map(|(left, wanted)| format!("{left} tokens are left, it may use {wanted}"));
    let money = |nanos: i64| {
        format!("${:.6}", Duration::from_nanos(nanos.max(0).unsigned_abs()).as_secs_f64())
    };
    let nanos = limit.nanos.map(|max| (money(max.saturating_sub(gone.nanos)), money(wanted.nanos)));
    let nanos = nanos.map(|(left, wanted)| format!("{left} are left, it may cost {wanted}"));
    let ms = limit.ms.filter(|max| gone.ms >= *max).map(|_| "no time is left".to_owned());
    let left: Vec<String> = tokens.into_iter().chain(nanos).chain(ms).collect();
    let until = limit.per.until(now);
    let anew = until.map_or("it never begins anew".to_owned(), |at| format!("it begins anew {at}"));
    let message = format!(
        "the limit of {} has no room for this call: {}; {anew}",
        whose(&standing.account),
        left.join(", ")
    );
    let failure = Failure::new(FailureKind::Budget, OVER_ACCOUNT, message);
    match until {
        Some(at) => failure.retry_after(at.since(now) + Duration::from_millis(1)),
        None => failure,
    }
}
