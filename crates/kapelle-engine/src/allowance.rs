//! How many of an agent's attempts may be retries, whatever runs they are for: trouble is not
//! answered with more load. Retries beyond that wait; they cost a step no attempt.
//!
//! **Invariant:** no clock: whoever asks says what time it is.

use std::time::Duration;

use kapelle_core::Timestamp;

/// One retry for so many first attempts.
const FIRSTS_PER_RETRY: i64 = 5;
/// So many retries can be saved up: as many as a run has in any case.
const SAVED_MAX: i64 = 100;
/// One more retry comes by each time, so that the last steps of a run are tried again, too.
const REFILL: Duration = Duration::from_secs(1);

/// What one agent has left for retries.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// The time at which it would have been empty; the longer ago, the more there is.
    empty_at: Timestamp,
}

impl Allowance {
    /// All that can be saved.
    pub(crate) fn full(now: Timestamp) -> Self {
        Self { empty_at: Timestamp(now.0 - SAVED_MAX * micros(REFILL)) }
    }

    /// An attempt begins that is no retry.
    pub(crate) fn first(&mut self, now: Timestamp) {
        let earned = micros(REFILL) / FIRSTS_PER_RETRY;
        self.empty_at = Timestamp(self.empty_at.0 - earned).max(Self::full(now).empty_at);
    }

    /// Takes one retry, or says when there will be one.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        // A clock that was set back leaves nobody waiting for longer than one retry takes.
        self.empty_at = self.empty_at.clamp(Self::full(now).empty_at, now);
        let next = self.empty_at.after(REFILL);
        if next > now {
            return Err(next);
        }
        self.empty_at = next;
        Ok(())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).expect("it is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn taken(allowance: &mut Allowance, now: Timestamp) -> usize {
        std::iter::from_fn(|| allowance.take(now).ok()).count()
    }

    #[test]
    fn one_in_five_is_a_retry_once_what_was_saved_is_spent() {
        let mut allowance = Allowance::full(NOW);
        assert_eq!(taken(&mut allowance, NOW), 100);
        assert_eq!(allowance.take(NOW), Err(NOW.after(REFILL)));
        (0..499).for_each(|_| allowance.first(NOW));
        assert_eq!(taken(&mut allowance, NOW), 99);
        allowance.first(NOW);
        assert_eq!(taken(&mut allowance, NOW), 1);
        (0..10_000).for_each(|_| allowance.first(NOW));
        assert_eq!(taken(&mut allowance, NOW), 100, "no more is saved");
    }

    #[test]
    fn one_comes_by_each_second_wherever_the_clock_goes() {
        let mut allowance = Allowance::full(NOW);
        taken(&mut allowance, NOW);
        assert_eq!(taken(&mut allowance, NOW.after(REFILL * 3)), 3);
        assert_eq!(taken(&mut allowance, NOW.after(Duration::from_hours(9))), 100);
        assert_eq!(allowance.take(NOW), Err(NOW.after(REFILL)), "hours back");
        assert_eq!(taken(&mut allowance, NOW.after(REFILL)), 1);
    }
}
