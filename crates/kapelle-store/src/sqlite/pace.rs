//! Whether the disk is slow, said once when it begins and once when it is over.

use std::time::Duration;

/// A commit that takes this long, on average, is a slow one: 25 a second.
const SLOW: Duration = Duration::from_millis(40);
/// One that takes less than this is none.
const FAST: Duration = Duration::from_millis(20);
/// A wait counts this much at the most: one alone is no slow disk.
const ONE_MAX: Duration = Duration::from_millis(200);

/// How long commits take.
#[derive(Default)]
pub(super) struct Pace {
    /// Of the last ones, the latest counting most.
    mean: Duration,
    slow: bool,
}

impl Pace {
    /// Takes note of a commit to `file`.
    pub(super) fn took(&mut self, time: Duration, file: &str) {
        self.mean = (self.mean * 7 + time.min(ONE_MAX)) / 8;
        let mean = self.mean;
        if !self.slow && mean >= SLOW {
            self.slow = true;
            tracing::warn!(
                "the disk is slow: a commit to `{file}` takes {mean:.0?}; work waits for it"
            );
        } else if self.slow && mean < FAST {
            self.slow = false;
            tracing::warn!("the disk is fast again: a commit to `{file}` takes {mean:.0?}");
        }
    }

    /// Whether it is slow now.
    #[cfg(test)]
    pub(super) const fn is_slow(&self) -> bool {
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_noticed_and_one_long_wait_is_none() {
        let mut pace = Pace::default();
        let mut took = |millis, times| {
            (0..times).for_each(|_| pace.took(Duration::from_millis(millis), "kapelle.db"));
            pace.is_slow()
        };
        assert!(!took(1, 50));
        assert!(!took(5_000, 1));
        assert!(!took(1, 50));
        assert!(took(55, 20));
        assert!(took(30, 20), "neither slow nor fast leaves it");
        assert!(!took(2, 20));
    }
}
