//! How long a page is waited for whose host has too much to do.
//!
//! **Invariant:** all waits for one page together are no longer than the patience it began with, and it
//! is asked for a bounded number of times; longer waits are the engine's business.

use std::time::Duration;

use kapelle_core::port::agent::{Failure, FailureKind};

/// How often a page is asked for.
const TRIES_MAX: u32 = 4;

/// What is left of the patience for one page.
#[derive(Debug)]
pub(super) struct Patience {
    all: Duration,
    left: Duration,
    tries: u32,
}

impl Patience {
    pub(super) fn new(all: Duration) -> Self {
        Self { all, left: all, tries: 0 }
    }

    /// Waits for `wait`; not where that is longer than what is left.
    pub(super) async fn wait(&mut self, wait: Duration) -> Result<(), Impatient> {
        self.left = self.left.checked_sub(wait).ok_or(Impatient)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Waits until the page may be asked for again after `failure`, or gives it up. The host's own wish
    /// is waited for where every page of that host does it.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        self.tries += 1;
        if !matches!(&*failure.code, "http_429" | "http_503") {
            return Err(failure);
        }
        if self.tries == TRIES_MAX {
            return Err(self.tired(failure));
        }
        if let Some(wish) = failure.retry_after_ms.filter(|wish| *wish > 0) {
            let bears = Duration::from_millis(wish) <= self.left;
            return if bears { Ok(()) } else { Err(self.tired(failure)) };
        }
        // A tenth of it, two tenths, four tenths.
        let wait = self.all / 10 * (1 << (self.tries - 1));
        self.wait(wait).await.map_err(|Impatient| self.tired(failure))
    }

    /// `failure`, with what was done against it.
    fn tired(&self, mut failure: Failure) -> Failure {
        if self.tries > 1 {
            let (tries, waited) = (self.tries, (self.all - self.left).as_secs_f32());
            let said = format!("{}; asked {tries} times in {waited:.1} s", failure.message);
            failure.message = said.into();
        }
        failure
    }
}

/// There is not enough patience left.
#[derive(Debug)]
pub(super) struct Impatient;

impl Impatient {
    /// What that means for a page of the host `name`, which wants to be left alone for `wait`.
    pub(super) fn at(&self, name: &str, wait: Duration) -> Failure {
        let message = format!("`{name}` wants to be left alone for a while");
        Failure::new(FailureKind::RateLimited, "host_asked_to_wait", message).retry_after(wait)
    }
}
