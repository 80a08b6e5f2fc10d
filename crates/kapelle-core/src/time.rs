//! Moments and spans of time, as numbers: nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: microseconds since 1970 in UTC. RFC 3339 when shown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `span` later; the last one there is where that would be beyond it.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// What a duration looks like that [`parse_duration`] reads, for JSON Schemas; one may still be too long.
pub const DURATION_PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$";

/// Reads a duration as people write it: `10ms`, `30s`, `5m`, `24h`, `7d`, or several in a row
/// as in `1h30m`. `None` if it is none, negative, or over 100 years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86400.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(seconds).ok().filter(|part| *part <= MAX)?;
        rest = &rest[unit..];
    }
    (total <= MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases =
            [("10ms", 10), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("0.5s", 500)];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        let longest = Duration::from_secs(100 * 366 * 24 * 3600);
        assert_eq!(parse_duration("36600d"), Some(longest));
        assert_eq!(parse_duration("36599d24h"), Some(longest));
        let bad = ["", "5", "5 s", "s", "-1s", "1y", "99999d", "1e9s", "36600d1ms", "36601d"];
        for bad in bad {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_end_where_they_cannot_be_held() {
        let (now, second) = (Timestamp(7_000_000), Duration::from_secs(1));
        assert_eq!(now.after(second), Timestamp(8_000_000));
        assert_eq!(now.after(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(now.after(second).since(now), second);
        assert_eq!(now.since(now.after(second)), Duration::ZERO);
    }

    #[test]
    fn a_moment_is_shown_in_rfc_3339() {
        assert_eq!(Timestamp(1_700_000_000_123_456).to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9223372036854775807us");
    }
}
