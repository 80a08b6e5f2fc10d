//! What all who watch a run read together: an event is read from the journal once, however many wait for it.
//!
//! **Invariants:** events are told in order and without a gap; who needs one that is not kept any more reads by himself.
//! A reader that is dropped in the middle takes nothing from the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kapelle_core::Tenant;

use crate::shards::Fold;
use crate::version::Version;
use crate::watch::SeenEvent;

/// How many events are kept for those who are a little late.
const KEPT: usize = 256;

/// The end of a run's journal, as far as it was read.
#[derive(Default)]
pub(crate) struct Common {
    recent: Mutex<Recent>,
    /// Whoever holds it reads for all.
    pub(crate) reading: tokio::sync::Mutex<Fold>,
}

#[derive(Default)]
struct Recent {
    events: VecDeque<Arc<SeenEvent>>,
    /// The number of the next event.
    next: u64,
    /// What the run was known by when there was nothing more.
    whole: Option<Version>,
    ended: bool,
    /// Whose run it is: of whoever read it first. Nobody else finds anything here.
    tenant: Option<Tenant>,
}

/// What there is after an event.
pub(crate) enum After {
    Events(Vec<Arc<SeenEvent>>),
    /// Nothing that was read so far, and what the run was known by when there was nothing more.
    Nothing {
        whole: Option<Version>,
        ended: bool,
    },
    /// Not here.
    Elsewhere,
}

impl Common {
    pub(crate) fn after(&self, tenant: &Tenant, seq: u64) -> After {
        let recent = self.lock();
        let first = recent.next - recent.events.len() as u64;
        let wanted = seq.saturating_add(1);
        if recent.tenant.as_ref() != Some(tenant) || wanted < first {
            return After::Elsewhere;
        }
        let skipped = usize::try_from(wanted - first).unwrap_or(usize::MAX);
        match recent.events.len() > skipped {
            true => After::Events(recent.events.iter().skip(skipped).cloned().collect()),
            false => After::Nothing { whole: recent.whole, ended: recent.ended },
        }
    }

    /// Takes note of what was read after the last event that is here; those that were here are passed over.
    pub(crate) fn add(&self, events: Vec<Arc<SeenEvent>>, ended: bool) {
        let mut recent = self.lock();
        let next = recent.next;
        for event in events.into_iter().filter(|event| event.seq >= next) {
            recent.next = event.seq + 1;
            recent.events.push_back(event);
        }
        let over = recent.events.len().saturating_sub(KEPT);
        recent.events.drain(..over);
        recent.ended = ended;
    }

    /// There was nothing more while the run was known by that.
    pub(crate) fn is_whole(&self, as_of: Option<Version>) {
        self.lock().whole = as_of;
    }

    /// Goes on from where somebody has read to by himself, if nobody was as far.
    pub(crate) async fn go_on(&self, tenant: &Tenant, fold: &mut Fold) {
        let mut reading = self.reading.lock().await;
        let mut recent = self.lock();
        if recent.next < fold.next_seq() {
            recent.events.clear();
            recent.tenant = Some(tenant.clone());
            recent.next = fold.next_seq();
            recent.ended = fold.run().is_some_and(|run| run.ended().is_some());
            *reading = std::mem::take(fold);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kapelle_core::run::Event;
    use kapelle_core::{RunId, Timestamp};

    use super::*;

    fn event(seq: u64) -> Arc<SeenEvent> {
        let (run, at, event) = (RunId::from_bytes([7; 16]), Timestamp(0), Event::RunStarted);
        let (names, shown) = Default::default();
        Arc::new(SeenEvent { run, seq, at, event, names, shown })
    }

    fn seqs(after: After) -> Option<Vec<u64>> {
        match after {
            After::Events(events) => Some(events.iter().map(|event| event.seq).collect()),
            After::Nothing { .. } => Some(Vec::new()),
            After::Elsewhere => None,
        }
    }

    #[test]
    fn what_is_kept_is_told_to_its_tenant_and_what_is_older_is_elsewhere() {
        let (common, ours, other) = (Common::default(), Tenant::default(), Tenant::new("other"));
        assert_eq!(seqs(common.after(&ours, 0)), None, "nobody has read");
        common.lock().tenant = Some(ours.clone());
        common.lock().next = 5;
        common.add((3..=8).map(event).collect(), false);
        assert_eq!(seqs(common.after(&ours, 4)), Some(vec![5, 6, 7, 8]));
        assert_eq!(seqs(common.after(&ours, 7)), Some(vec![8]));
        assert_eq!(seqs(common.after(&ours, 8)), Some(vec![]));
        assert_eq!(seqs(common.after(&ours, u64::MAX)), Some(vec![]));
        assert_eq!(seqs(common.after(&ours, 3)), None);
        assert_eq!(seqs(common.after(&other, 4)), None);
        common.add((9..=8 + KEPT as u64).map(event).collect(), true);
        assert_eq!(seqs(common.after(&ours, 7)), None, "it has made way");
        assert_eq!(seqs(common.after(&ours, 8)).map(|seqs| seqs.len()), Some(KEPT));
        let last = common.after(&ours, 8 + KEPT as u64);
        assert!(matches!(last, After::Nothing { ended: true, .. }));
    }
}
