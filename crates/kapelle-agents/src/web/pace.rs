//! How fast a host is asked: a few at once, with a gap between, and not before it wants to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kapelle_core::port::agent::Failure;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::Url;

use super::patience::Patience;
use super::robots::Rules;

/// How long what a `robots.txt` says is kept.
const RULES_KEPT: Duration = Duration::from_secs(3600);
/// How many hosts are remembered.
const HOSTS_MAX: usize = 4_096;
/// The longest gap that a `robots.txt` can ask for.
const GAP_MAX: Duration = Duration::from_secs(10);

/// The hosts that were asked lately.
#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<HashMap<String, Arc<Host>>>);

/// A host, by its scheme, name and port.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    turns: Semaphore,
    times: Mutex<Times>,
    rules: tokio::sync::Mutex<Known>,
}

#[derive(Debug)]
struct Times {
    /// When the next request may begin.
    next: Instant,
    /// Until when the host wants to be left alone.
    alone: Instant,
}

/// What is known of a host's wishes.
#[derive(Debug, Default)]
pub(super) struct Known {
    since: Option<Instant>,
    rules: Rules,
}

impl Hosts {
    /// The host of `url`.
    pub(super) fn get(&self, url: &Url, at_once: usize) -> Arc<Host> {
        let name = url.origin().ascii_serialization();
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX {
            // Those in use stay; the others are asked anew.
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let host = hosts.entry(name.clone()).or_insert_with(|| {
            let now = Instant::now();
            let times = Mutex::new(Times { next: now, alone: now });
            let (turns, rules) = (Semaphore::new(at_once.max(1)), Default::default());
            Arc::new(Host { name, turns, times, rules })
        });
        Arc::clone(host)
    }
}

impl Host {
    /// Waits until it is one of the few that may ask.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("it is never closed")
    }

    /// What the host wishes; held while it is being asked for it, so that one asks for all.
    pub(super) async fn rules(&self) -> tokio::sync::MutexGuard<'_, Known> {
        self.rules.lock().await
    }

    /// The gap between two requests: ours, or the host's if that is longer.
    pub(super) async fn gap(&self, ours: Duration) -> Duration {
        let theirs = self.rules().await.rules.delay.unwrap_or_default();
        ours.max(theirs.min(GAP_MAX))
    }

    /// Waits until `gap` after the request before, and where the host wants to be left alone as long
    /// as there is `patience` for it.
    pub(super) async fn wait(&self, gap: Duration, patience: &mut Patience) -> Result<(), Failure> {
        let at = {
            let mut times = self.times();
            let at = times.next.max(Instant::now());
            times.next = at + gap;
            at
        };
        tokio::time::sleep_until(at).await;
        loop {
            let alone = self.times().alone;
            let wait = alone.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            patience.wait(wait).await.map_err(|tired| tired.at(&self.name, wait))?;
        }
    }

    /// Keeps everybody away for as long as the host asked for.
    pub(super) fn leave_alone(&self, wait: Duration) {
        let until = Instant::now() + wait.min(RULES_KEPT);
        let mut times = self.times();
        times.alone = times.alone.max(until);
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    pub(super) fn is_fresh(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < RULES_KEPT)
    }

    pub(super) fn set(&mut self, rules: Rules) {
        *self = Self { since: Some(Instant::now()), rules };
    }

    pub(super) fn allow(&self, url: &Url) -> bool {
        self.rules.allow(url)
    }
}
