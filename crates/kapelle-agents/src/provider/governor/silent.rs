//! Providers that tell their limits by refusing alone: a simulation on a clock that stands still until all wait.

use kapelle_core::port::agent::Failure;
use kapelle_core::{Shard, Timestamp};

use super::*;

/// A bucket of so many requests, so many a second, that tells nothing but when there is room again.
struct Silent {
    size: f64,
    rate: f64,
    left: f64,
    at: Instant,
    asked: u32,
}

impl Silent {
    fn ask(&mut self) -> Result<(), u64> {
        let now = Instant::now();
        self.asked += 1;
        self.left = (self.left + (now - self.at).as_secs_f64() * self.rate).min(self.size);
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(((1.0 - self.left) / self.rate).ceil()).as_secs())
    }
}

/// How often a silent provider is asked until so many calls at a time are answered.
async fn asked(calls: usize, size: f64, rate: f64, lasts: Duration) -> u32 {
    let governor = Governor::default();
    let run = RunId::new(Timestamp(1_700_000_000_000_000), [1; 10], Shard(1));
    let silent = Silent { size, rate, left: size, at: Instant::now(), asked: 0 };
    let silent = Arc::new(Mutex::new(silent));
    let one = async |_| {
        loop {
            let leave = governor.leave(run, 10, None).await;
            let answer = silent.lock().unwrap().ask();
            match answer {
                Ok(()) => {
                    governor.begun(&HeaderMap::new());
                    // Of a clock that stands still until all wait.
                    tokio::time::sleep_until(Instant::now() + lasts).await;
                    governor.answered(&Tokens::default());
                    return leave.is_well();
                }
                Err(seconds) => {
                    let failure = Failure::new(FailureKind::RateLimited, "slow", "slow");
                    let wait = Duration::from_secs(seconds);
                    governor.failed(&failure.retry_after(wait).into());
                    drop(leave);
                }
            }
        }
    };
    futures_util::future::join_all((0..calls).map(one)).await;
    let silent = silent.lock().unwrap();
    silent.asked
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_tell_is_not_asked_over_its_limit_for_ever() {
    for (calls, size, rate) in [(30, 5.0, 2.0), (30, 1.0, 0.3), (200, 10.0, 20.0), (300, 40.0, 3.0)]
    {
        for ms in [0, 1, 700] {
            let before = Instant::now();
            let asked = asked(calls, size, rate, Duration::from_millis(ms)).await;
            let ideal = (calls as f64 - size) / rate;
            let part = before.elapsed().as_secs_f64() / ideal;
            let of = format!("{asked} for {calls} at {size}, {rate}/s of {ms} ms: {part}");
            assert!(f64::from(asked) <= 1.3 * calls as f64 && part < 2.8, "{of}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_tell_and_lets_all_in_is_soon_asked_all() {
    let before = Instant::now();
    assert_eq!(asked(200, 1e9, 1.0, Duration::from_millis(500)).await, 200);
    assert!(before.elapsed() <= Duration::from_millis(3_500), "{:?}", before.elapsed());
}
