//! When an agent is left alone: it has ended badly many times in a row, in whatever runs.
//!
//! **Invariant:** no clock: whoever asks says what time it is. Waiting costs a step no attempt.

use std::time::Duration;

use kapelle_core::Timestamp;
use kapelle_core::port::agent::{Failure, FailureKind};
use kapelle_core::run::NOT_YET;

/// So many bad ends in a row are trouble.
const ENDS_MAX: u32 = 10;
/// How long the agent is left alone at first, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The bad ends of one agent in a row, and when the next attempt may begin.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    ends: u32,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    pause: Duration,
    until: Timestamp,
    /// An attempt was let through since the last pause began.
    tried: bool,
}

impl Breaker {
    /// Lets an attempt through, or says when to ask again. At rest, one goes through each pause: so
    /// one that never reports holds nobody up for longer.
    pub(crate) fn pass(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        if now < rest.until {
            return Err(rest.until);
        }
        rest.until = now.after(rest.pause);
        rest.tried = true;
        Ok(())
    }

    /// An attempt that was let through has not begun: the next one may.
    pub(crate) fn pass_unused(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.until = Timestamp::default();
        }
    }

    /// Takes note of a bad end; for how long the agent is left alone if that begins now.
    pub(crate) fn bad_end(&mut self, now: Timestamp) -> Option<Duration> {
        self.ends = self.ends.saturating_add(1);
        match &mut self.rest {
            // Others that were under way when it began tell nothing new.
            Some(rest) if !rest.tried => None,
            Some(rest) => {
                let pause = (rest.pause * 2).min(PAUSE_MAX);
                *rest = Rest { pause, until: now.after(pause), tried: false };
                None
            }
            None if self.ends < ENDS_MAX => None,
            None => {
                let until = now.after(PAUSE_MIN);
                self.rest = Some(Rest { pause: PAUSE_MIN, until, tried: false });
                Some(PAUSE_MIN)
            }
        }
    }

    /// Whether the agent was left alone.
    pub(crate) const fn is_at_rest(&self) -> bool {
        self.rest.is_some()
    }
}

/// Whether an attempt's end says that its agent is in trouble.
pub(crate) fn is_trouble(failure: &Failure) -> bool {
    use FailureKind::{RateLimited, Timeout, Unavailable};
    matches!(failure.kind, Unavailable | Timeout | RateLimited) && &*failure.code != NOT_YET
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn at_rest() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..ENDS_MAX {
            assert_eq!(breaker.bad_end(NOW), None);
            assert_eq!(breaker.pass(NOW), Ok(()));
        }
        assert_eq!(breaker.bad_end(NOW), Some(PAUSE_MIN));
        breaker
    }

    #[test]
    fn one_attempt_goes_through_when_the_pause_is_over() {
        let mut breaker = at_rest();
        assert_eq!(breaker.pass(NOW), Err(at(1)));
        assert_eq!(breaker.bad_end(NOW), None, "it was under way before");
        assert_eq!(breaker.pass(at(1)), Ok(()));
        assert_eq!(breaker.pass(at(1)), Err(at(2)), "one, not two");
        breaker.pass_unused();
        assert_eq!(breaker.pass(at(1)), Ok(()), "the one before did not begin");
    }

    #[test]
    fn the_pause_grows_to_a_minute_and_no_further() {
        let (mut breaker, mut now) = (at_rest(), NOW);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let until = breaker.pass(now).expect_err("it is left alone");
            assert_eq!(until.since(now), Duration::from_secs(expected));
            now = until;
            assert_eq!(breaker.pass(now), Ok(()));
            assert_eq!(breaker.bad_end(now), None, "it is told once");
        }
    }
}
