//! The wait that a provider has asked for, where all processes of a store see it.
//!
//! **Invariants:** the file holds no key, and is replaced as a whole; what cannot be read is no wait, and what
//! cannot be written holds in this process all the same. Of two that write at once the last one stays.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is told of a longer wait is not believed.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A file that says until when nothing is to be sent.
#[derive(Debug)]
pub(super) struct Pause {
    file: PathBuf,
    /// What has been heard of it, in milliseconds since 1970.
    known_ms: u128,
}

impl Pause {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self { file, known_ms: 0 }
    }

    /// Tells the others of a wait.
    pub(super) fn tell(&mut self, wait: Duration) {
        let now_ms = now_ms();
        let until_ms = now_ms + wait.as_millis();
        let later = self.read(now_ms).is_none_or(|known_ms| known_ms < until_ms);
        if later {
            self.known_ms = until_ms;
            // Whoever cannot write it down keeps it all the same.
            self.write(now_ms, until_ms).ok();
        }
    }

    /// How much is left of a wait that others were told and that is news here.
    pub(super) fn news(&mut self) -> Option<Duration> {
        let now_ms = now_ms();
        let until_ms = self.read(now_ms).filter(|until_ms| *until_ms > self.known_ms)?;
        self.known_ms = until_ms;
        u64::try_from(until_ms - now_ms).ok().map(Duration::from_millis)
    }

    /// Until when it says, if that is still to come. A clock that was set back makes it void.
    fn read(&self, now_ms: u128) -> Option<u128> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let (told_ms, until_ms) = text.trim().split_once(' ')?;
        let (told_ms, until_ms): (u128, u128) = (told_ms.parse().ok()?, until_ms.parse().ok()?);
        let is_sound = told_ms <= now_ms && until_ms - told_ms <= WAIT_MAX.as_millis();
        (now_ms < until_ms && is_sound).then_some(until_ms)
    }

    fn write(&self, now_ms: u128, until_ms: u128) -> std::io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = self.file.with_extension(std::process::id().to_string());
        std::fs::write(&new, format!("{now_ms} {until_ms}\n"))?;
        std::fs::rename(new, &self.file)
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_or_over_is_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pace");
        let now_ms = now_ms();
        let news = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Pause::new(file.clone()).news()
        };
        assert!(news(&format!("{now_ms} {}\n", now_ms + 60_000)).is_some());
        assert_eq!(news(&format!("{now_ms} {}\n", u64::MAX)), None);
        for odd in ["", "x y", "1", "1 2", &format!("{} {}", now_ms + 50_000, now_ms + 60_000)] {
            assert_eq!(news(odd), None, "{odd}");
        }
        // News are told once.
        let mut pause = Pause::new(file);
        pause.tell(Duration::from_secs(9));
        assert_eq!(pause.news(), None);
        pause.tell(Duration::from_secs(1));
        let text = std::fs::read_to_string(&pause.file).unwrap();
        assert!(text.ends_with(&format!("{}\n", pause.known_ms)), "{text}");
    }
}
