//! Which shards this node works on, and which runs it was asked to work on.
//!
//! **Invariant:** a shard is claimed only from nobody or from a node that is dead; where children of
//! a dead node may still be alive, its runs wait for them, and after that are in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use kapelle_core::port::journal::Holding;
use kapelle_core::port::nodes::Node;
use kapelle_core::port::{Nodes, journal};
use kapelle_core::run::{Status, Takeover};
use kapelle_core::{Epoch, NodeId, RunId, Shard, Tenant};
use tokio::sync::mpsc;

use crate::shards::{Offer, Reply};
use crate::shell::{Msg, Shared};
use crate::{Adopt, Error};

/// How often a node looks for shards that became free.
const PACE: Duration = Duration::from_millis(100);
/// How long the children of a dead node are waited for.
const CHILDREN_WAIT: Duration = Duration::from_secs(30);
/// So many runs are read at once when shards are taken over.
const LOADS_MAX: usize = 64;
/// So many new runs go to one shard before the next one is claimed.
const RUNS_PER_SHARD: u64 = 4_096;

/// The shards of a node.
pub(crate) struct Claims {
    shared: Arc<Shared>,
    nodes: Arc<dyn Nodes>,
    /// A person watches what this node does.
    watched: bool,
    held: Mutex<Held>,
    /// One claim at a time: the answer of one is what the next one sees.
    claiming: tokio::sync::Mutex<()>,
    /// One search for a new shard at a time: many submits at once need one, not one each.
    searching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    shards: BTreeMap<Shard, Place>,
}

struct Place {
    epoch: Epoch,
    /// How many runs were created here.
    created: u64,
    /// Whoever had it before died.
    died: bool,
}

impl Claims {
    pub(crate) fn new(shared: Arc<Shared>, nodes: Arc<dyn Nodes>, watched: bool) -> Self {
        let (held, claiming, searching) = Default::default();
        Self { shared, nodes, watched, held, claiming, searching }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holds(&self, shard: Shard) -> bool {
        self.held().shards.contains_key(&shard)
    }

    pub(crate) fn nodes(&self) -> &Arc<dyn Nodes> {
        &self.nodes
    }

    /// The living node that owns a shard, if it is another one.
    pub(crate) async fn other_owner(&self, shard: Shard) -> Result<Option<Node>, journal::Error> {
        if self.holds(shard) {
            return Ok(None);
        }
        let holdings = self.shared.reader.journal.shards().await?;
        let owner = holdings.into_iter().find(|holding| holding.shard == shard);
        match owner.and_then(|holding| holding.owner) {
            Some(owner) if self.is_other(&owner).await? => self.node(&owner).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn is_other(&self, owner: &NodeId) -> Result<bool, journal::Error> {
        Ok(*owner != self.nodes.me().id && self.nodes.alive(owner).await?)
    }

    async fn node(&self, id: &NodeId) -> Result<Node, journal::Error> {
        let known = self.nodes.list().await?.into_iter().find(|node| node.id == *id);
        Ok(known.unwrap_or(Node { id: id.clone(), pid: 0, version: "".into(), socket: None }))
    }

    /// Makes this node the owner of a shard, or says who is.
    pub(crate) async fn claim(&self, shard: Shard) -> Result<(), Error> {
        if self.holds(shard) {
            return Ok(());
        }
        let holdings = self.shared.reader.journal.shards().await?;
        let wanted: Vec<Holding> = holdings.into_iter().filter(|h| h.shard == shard).collect();
        if self.claim_free(wanted).await?.contains(&shard) || self.holds(shard) {
            return Ok(());
        }
        match self.other_owner(shard).await? {
            Some(node) => Err(Error::Elsewhere(node)),
            None => Err(journal::Error::Unknown {
                message: format!("shard {} changed hands meanwhile; repeat", shard.0).into(),
            }
            .into()),
        }
    }

    /// Claims those of `seen` that no living node owns.
    async fn claim_free(&self, seen: Vec<Holding>) -> Result<Vec<Shard>, journal::Error> {
        let _one = self.claiming.lock().await;
        let (mut wanted, mut orphaned) = (Vec::new(), BTreeSet::new());
        let mut dead: BTreeMap<NodeId, bool> = BTreeMap::new();
        for Holding { shard, epoch, owner } in seen {
            if self.holds(shard) {
                continue;
            }
            if let Some(owner) = owner {
                let other = match dead.get(&owner) {
                    Some(other) => *other,
                    None => self.is_other(&owner).await?,
                };
                if owner != self.nodes.me().id {
                    orphaned.insert(shard);
                }
                dead.insert(owner, other);
                if other {
                    continue;
                }
            }
            wanted.push((shard, epoch));
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let won = self.shared.reader.journal.claim(&wanted, &self.nodes.me().id).await?;
        for (shard, epoch) in &won {
            let died = orphaned.contains(shard);
            self.held().shards.insert(*shard, Place { epoch: *epoch, created: 0, died });
            self.shared.versions.hold(*shard);
            // What is left of an earlier epoch is not taken over.
            self.shared.send(*shard, Msg::Disown(*shard));
            self.shared.send(*shard, Msg::Own(*shard, *epoch));
        }
        Ok(won.into_iter().map(|(shard, _)| shard).collect())
    }

    /// A shard of this node for a new run: one that is not full, else a free one is claimed.
    pub(crate) async fn for_new_run(&self) -> Result<Shard, Error> {
        if let Some(shard) = self.not_full() {
            return Ok(shard);
        }
        let _one = self.searching.lock().await;
        if let Some(shard) = self.not_full() {
            return Ok(shard);
        }
        let open = self.shared.reader.journal.open_counts().await?;
        let open: BTreeMap<Shard, u64> = open.into_iter().collect();
        let mut seen = self.shared.reader.journal.shards().await?;
        seen.sort_by_key(|holding| {
            let owned = holding.owner.is_some();
            (open.get(&holding.shard).copied().unwrap_or(0), owned, holding.shard)
        });
        let loops = self.shared.loops.len();
        for holding in seen {
            // One shard per loop: the next one goes to a loop that has none yet.
            let of_loop = usize::from(holding.shard.0) % loops;
            if self.loops_served().contains(&of_loop) && self.loops_served().len() < loops {
                continue;
            }
            if let Some(shard) = self.claim_free(vec![holding]).await?.first() {
                self.count_run(*shard);
                return Ok(*shard);
            }
        }
        let own = self.held().shards.keys().next().copied();
        match own {
            Some(shard) => Ok(shard),
            None => match self.other_owner(Shard(0)).await? {
                Some(node) => Err(Error::Elsewhere(node)),
                None => Err(Error::Draining),
            },
        }
    }

    fn loops_served(&self) -> BTreeSet<usize> {
        let loops = self.shared.loops.len();
        self.held().shards.keys().map(|shard| usize::from(shard.0) % loops).collect()
    }

    fn not_full(&self) -> Option<Shard> {
        if self.loops_served().len() < self.shared.loops.len() {
            return None;
        }
        let mut held = self.held();
        let (shard, place) = held.shards.iter_mut().min_by_key(|(_, place)| place.created)?;
        (place.created < RUNS_PER_SHARD).then(|| {
            place.created += 1;
            *shard
        })
    }

    fn count_run(&self, shard: Shard) {
        if let Some(place) = self.held().shards.get_mut(&shard) {
            place.created += 1;
        }
    }

    /// Whether calls of those who owned the shard are in doubt: children of dead nodes were alive to
    /// the end of the wait.
    async fn wait_for_orphans(&self) -> Result<bool, journal::Error> {
        let deadline = Instant::now() + CHILDREN_WAIT;
        while self.nodes.has_orphans().await? {
            if Instant::now() >= deadline {
                return Ok(true);
            }
            tokio::time::sleep(PACE).await;
        }
        Ok(false)
    }

    /// This node works on the run from here on; its shard has been claimed.
    pub(crate) async fn work(&self, tenant: &Tenant, run: RunId) -> Result<Reply, Error> {
        let doubt = self.wait_for_orphans().await?;
        let reply = self.work_in(tenant, run, doubt).await;
        self.shared.settle_grants(tenant).await;
        Ok(reply)
    }

    /// The same once children of dead nodes have been waited for.
    async fn work_in(&self, tenant: &Tenant, run: RunId, doubt: bool) -> Reply {
        self.shared.asked().insert(run, tenant.clone());
        let tenant = tenant.clone();
        let died = self.held().shards.get(&run.shard()).is_some_and(|place| place.died);
        let takeover = Takeover { doubt, died, watched: self.watched };
        let offer = |ticket| Offer::Work { tenant, run, takeover, ticket: Some(ticket) };
        self.shared.ask(run.shard(), offer).await
    }

    /// Takes over all that is free, and all open runs in it.
    pub(crate) async fn adopt_all(&self) -> Result<(), Error> {
        let seen = self.shared.reader.journal.shards().await?;
        let won = self.claim_free(seen).await?;
        if won.is_empty() {
            return Ok(());
        }
        let busy: BTreeSet<Shard> =
            self.shared.reader.journal.open_counts().await?.into_iter().map(|(s, _)| s).collect();
        // All shards were claimed before: whoever owned them is dead, and looked for once.
        let doubt = self.wait_for_orphans().await?;
        let mut rows = Vec::new();
        for shard in won.into_iter().filter(|shard| busy.contains(shard)) {
            rows.extend(self.shared.reader.journal.open_runs(shard).await?);
        }
        // Those that only wait for a person can wait a little longer.
        rows.sort_by_key(|row| *row.status == *Status::Waiting.as_str());
        let tenants: BTreeSet<Tenant> = rows.iter().map(|row| row.tenant.clone()).collect();
        let work = stream::iter(rows).for_each_concurrent(LOADS_MAX, async |row| {
            self.work_in(&row.tenant, row.run, doubt).await;
        });
        work.await;
        for tenant in tenants {
            let shared = self.shared.clone();
            self.shared.runtime.spawn(async move { shared.settle_grants(&tenant).await });
        }
        Ok(())
    }

    /// A loop has lost a shard: to another node, or because an append's end is unknown.
    async fn regain(&self, shard: Shard) -> Result<(), Error> {
        self.held().shards.remove(&shard);
        self.shared.versions.leave(shard);
        // Who waits for news of it may wait for another node's.
        self.shared.feed.tell_all();
        match self.claim(shard).await {
            Ok(()) => {}
            Err(Error::Elsewhere(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let asked: Vec<(RunId, Tenant)> =
            self.shared.asked().iter().map(|(run, tenant)| (*run, tenant.clone())).collect();
        for (run, tenant) in asked.into_iter().filter(|(run, _)| run.shard() == shard) {
            self.work(&tenant, run).await?;
        }
        Ok(())
    }

    /// Keeps claiming what becomes free, and what was lost by accident, for as long as the node lives.
    pub(crate) async fn keep(
        self: Arc<Self>,
        adopt: Adopt,
        mut lost: mpsc::UnboundedReceiver<Shard>,
        fatal: tokio::sync::watch::Sender<Option<journal::Error>>,
    ) {
        while !self.shared.is_draining() {
            let done = match tokio::time::timeout(PACE, lost.recv()).await {
                Ok(Some(shard)) => {
                    let done = self.regain(shard).await;
                    if done.as_ref().is_err_and(|error| !is_final(error)) {
                        // In a moment again: what was worked on here is not left lying.
                        tokio::time::sleep(PACE).await;
                        self.shared.lost.send(shard).ok();
                    }
                    done
                }
                Ok(None) => return,
                Err(_) if adopt == Adopt::All => self.adopt_all().await,
                Err(_) => Ok(()),
            };
            let Err(error) = done else { continue };
            let is_final = is_final(&error);
            if let Error::Store(error) = error {
                tracing::error!(%error, "the store does not answer as it should");
                if is_final {
                    fatal.send_replace(Some(error));
                    self.shared.feed.tell_all();
                    return;
                }
            }
        }
    }

    /// Gives up all shards.
    pub(crate) async fn release_all(&self) -> Result<(), journal::Error> {
        let shards = std::mem::take(&mut self.held().shards);
        let held: Vec<_> = shards.iter().map(|(shard, place)| (*shard, place.epoch)).collect();
        for (shard, _) in &held {
            self.shared.versions.leave(*shard);
            self.shared.send(*shard, Msg::Disown(*shard));
        }
        self.shared.reader.journal.release(&held).await
    }
}

/// Whether this process must not touch the store any more.
fn is_final(error: &Error) -> bool {
    use journal::Error::{Newer, Poisoned};
    matches!(error, Error::Store(Poisoned { .. } | Newer { .. }))
}
