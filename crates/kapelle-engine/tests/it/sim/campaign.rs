//! Many seeds at once: split over the cores, told the same whatever the cores did.
//!
//! **Invariants:** seeds are lived through in blocks, handed out in order, so that the first seed
//! that breaks a promise is the same in every campaign; what the blocks came to is added up, which
//! knows no order. One seed in a thousand is lived through twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::hits::Hits;
use super::plans::{BLOCK, Stock};
use super::world::{Outcome, World};

/// So often at the most is told how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// One seed in so many is lived through twice.
pub(super) const TWICE: u64 = 1_000;

/// What seeds came to.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) seeds: u64,
    pub(super) transitions: u64,
    pub(super) runs: u64,
    pub(super) recoveries: u64,
    pub(super) twice: u64,
    pub(super) hits: Hits,
    /// The first seed that broke a promise, and which.
    pub(super) wrong: Option<(u64, String)>,
}

/// Lives through the seeds from 0 to `seeds`.
pub(super) fn run(seeds: u64) -> Summary {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, wrong_from) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let (send, receive) = mpsc::channel();
    let clock = Clock::start();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            let (send, next, wrong_from) = (send.clone(), &next, &wrong_from);
            scope.spawn(move || {
                loop {
                    let first = next.fetch_add(1, Ordering::Relaxed) * BLOCK;
                    if first >= seeds || first > wrong_from.load(Ordering::Relaxed) {
                        return;
                    }
                    let summary = block(first, seeds.min(first + BLOCK));
                    if let Some((seed, _)) = summary.wrong {
                        wrong_from.fetch_min(seed, Ordering::Relaxed);
                    }
                    send.send(summary).expect("somebody adds up");
                }
            });
        }
        drop(send);
        let mut all = Summary::default();
        let mut told = Instant::now();
        for summary in receive {
            all.add(summary);
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                say(&format!("{} of {seeds} seeds, {}", all.seeds, clock.speed(all.seeds)));
            }
        }
        say(&format!("{} seeds, {}", all.seeds, clock.speed(all.seeds)));
        all
    })
}

/// Lives through the seeds from `first` to `end`, which are of one block.
fn block(first: u64, end: u64) -> Summary {
    let stock = Stock::of_block(first / BLOCK);
    let mut summary = Summary::default();
    for seed in first..end {
        match lived(seed, &stock) {
            Ok(outcome) => summary.take(&outcome),
            Err(wrong) => {
                summary.wrong = Some((seed, wrong));
                return summary;
            }
        }
        if seed % TWICE == 0 {
            summary.twice += 1;
        }
    }
    summary
}

/// Lives through a seed; what is wrong with it otherwise.
fn lived(seed: u64, stock: &Stock) -> Result<Outcome, String> {
    let live = || {
        catch_unwind(AssertUnwindSafe(|| World::new(seed, None, stock, false).live()))
            .map_err(|_| "it panics".to_owned())
    };
    let outcome = live()?;
    if let Some(wrong) = outcome.wrong {
        return Err(wrong);
    }
    if outcome.runs < 3 || outcome.transitions < 200 || outcome.crashes < 1 {
        return Err(format!("{outcome:?} is too little"));
    }
    if seed.is_multiple_of(TWICE) && live()?.trace != outcome.trace {
        return Err("it is not the same twice".into());
    }
    Ok(outcome)
}

impl Summary {
    fn take(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.transitions += outcome.transitions;
        self.runs += outcome.runs as u64;
        self.recoveries += u64::from(outcome.recoveries > 0);
        self.hits.merge(&outcome.hits);
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.transitions += other.transitions;
        self.runs += other.runs;
        self.recoveries += other.recoveries;
        self.twice += other.twice;
        self.hits.merge(&other.hits);
        self.wrong = match (self.wrong.take(), other.wrong) {
            (Some(one), Some(two)) => Some(if one.0 < two.0 { one } else { two }),
            (one, two) => one.or(two),
        };
    }
}

/// How long it takes: by the wall, and of the cores.
struct Clock(Instant, Duration);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), spent())
    }

    fn speed(&self, seeds: u64) -> String {
        let (wall, cores) = (self.0.elapsed().as_secs_f64(), (spent() - self.1).as_secs_f64());
        let seeds = seeds as f64;
        format!("{wall:.0} s: {:.0} seeds/s, {:.0} seeds/s/core", seeds / wall, seeds / cores)
    }
}

/// How long the cores have worked for this process.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[expect(clippy::print_stderr, reason = "how far it is is to be read")]
fn say(line: &str) {
    eprintln!("{line}");
}
