//! The time of a node: the wall clock when it opened, and what has passed since.
//!
//! **Invariant:** it never goes back and never jumps, whatever is done to the wall clock; it goes on
//! while the machine is suspended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kapelle_core::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The time of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall_at_start: Timestamp,
    start: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_at_start = Timestamp::default().after(wall);
        Self { wall_at_start, start: since_boot() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall_at_start.after(since_boot().saturating_sub(self.start))
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
