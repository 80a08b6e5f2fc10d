//! Accounts: what a tenant, or an agent in all its runs, may spend in a time, whoever spends it.
//!
//! **Invariants:** what was spent and what is granted and not settled stay together within the limit
//! that a grant was asked under, however many processes ask at once; a grant is there for its call
//! once; what is granted stays so until somebody settles it.
//!
//! Kept beside the journal, by the same store. Which call has a grant too many is not known here:
//! `kapelle_engine` compares grants with what the journals of their runs say.

use async_trait::async_trait;

use super::journal::Error;
use crate::run::Sum;
use crate::{Attempt, RunId, StepNo, Tenant, Timestamp};

/// A day in UTC, counted from the first of January 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

/// How long what is spent counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// Until the next midnight, UTC.
    #[default]
    Day,
    /// Until the next month begins, UTC.
    Month,
    /// For ever.
    Ever,
}

impl Per {
    /// The first day that counts at `now`.
    #[must_use]
    pub fn since(self, now: Timestamp) -> Day {
        let today = Day::of(now);
        match self {
            Self::Day => today,
            Self::Month => Day(today.0.saturating_sub(today.in_month().0 - 1)),
            Self::Ever => Day(0),
        }
    }

    /// When what is spent at `now` does not count any more.
    #[must_use]
    pub fn until(self, now: Timestamp) -> Option<Timestamp> {
        let days = match self {
            Self::Day => 1,
            Self::Month => Day::of(now).in_month().1,
            Self::Ever => return None,
        };
        Some(Timestamp(i64::from(self.since(now).0 + days) * DAY_MICROS))
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

impl Day {
    /// The day of a time.
    #[must_use]
    pub fn of(now: Timestamp) -> Self {
        Self(u32::try_from(now.0 / DAY_MICROS).unwrap_or(0))
    }

    /// Which day of its month it is, from 1, and how many that has.
    fn in_month(self) -> (u32, u32) {
        let time = jiff::Timestamp::from_second(i64::from(self.0) * 86_400);
        let date = time.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
        (date.day().unsigned_abs().into(), date.days_in_month().unsigned_abs().into())
    }
}

/// One call of one attempt: the key of its grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// In which run.
    pub run: RunId,
    /// In which step.
    pub step: StepNo,
    /// In which attempt: a call that is made again may be paid again.
    pub attempt: Attempt,
    /// Which outside call of the attempt.
    pub ordinal: u32,
}

/// What a call is to be granted by all of some accounts, or by none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose accounts.
    pub tenant: Tenant,
    /// For which call.
    pub call: Call,
    /// On which day it is spent.
    pub day: Day,
    /// What the call may use at the most.
    pub wanted: Sum,
}

/// The limit of an account from some day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// Its name.
    pub account: Box<str>,
    /// What was spent before does not count.
    pub since: Day,
    /// At most so many tokens.
    pub tokens: Option<u64>,
    /// At most so many nano-dollars.
    pub nanos: Option<i64>,
    /// At most so many milliseconds.
    pub ms: Option<u64>,
}

impl Within {
    /// An account that is asked for no more than how it stands.
    #[must_use]
    pub fn any(account: &str, since: Day) -> Self {
        Self { account: account.into(), since, tokens: None, nanos: None, ms: None }
    }

    /// Whether `sum` stays within it.
    #[must_use]
    pub fn fits(&self, sum: &Sum) -> bool {
        self.tokens.is_none_or(|max| sum.tokens <= max)
            && self.nanos.is_none_or(|max| sum.nanos <= max)
            && self.ms.is_none_or(|max| sum.ms <= max)
    }
}

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub account: Box<str>,
    /// What settled calls have used.
    pub spent: Sum,
    /// What is granted and not settled.
    pub reserved: Sum,
}

impl Standing {
    /// Of an account that nobody has used.
    #[must_use]
    pub fn none(account: &str) -> Self {
        Self { account: account.into(), spent: Sum::default(), reserved: Sum::default() }
    }

    /// All that is gone or may be.
    #[must_use]
    pub fn gone(&self) -> Sum {
        self.spent.and(self.reserved)
    }
}

/// What came of asking for a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It is there, by each account: now, or since the call asked before.
    Yes,
    /// Nothing is granted: this account has no room for it.
    No(Standing),
}

/// A grant that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// For which call.
    pub call: Call,
    /// What it may use.
    pub granted: Sum,
}

/// The accounts of a store.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Grants what a call may use, if all of `within` have room for it, durably. An account that has
    /// granted it before does not count it twice.
    async fn grant(&self, grant: Grant, within: Vec<Within>) -> Result<Granted, Error>;

    /// Puts what a call really used in the place of what it was granted, durably; nothing where it has no
    /// grant any more. [`Sum::default`] gives it back.
    async fn settle(&self, tenant: &Tenant, call: Call, used: Sum) -> Result<(), Error>;

    /// How accounts stand that have spent or granted something from `since` on, by name.
    async fn accounts(&self, tenant: &Tenant, since: Day) -> Result<Vec<Standing>, Error>;

    /// The grants that are not settled, at most 1,000, by call.
    async fn open_grants(&self, tenant: &Tenant) -> Result<Vec<Open>, Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn days_and_months_begin_at_midnight_in_utc() {
        let now = at("2028-02-29T23:59:59Z");
        assert_eq!(Per::Day.until(now), Some(at("2028-03-01T00:00:00Z")));
        assert_eq!(Per::Day.since(now), Day::of(at("2028-02-29T00:00:00Z")));
        assert_eq!(Per::Month.since(now), Day::of(at("2028-02-01T00:00:00Z")));
        assert_eq!(Per::Month.until(now), Some(at("2028-03-01T00:00:00Z")));
        assert_eq!(Per::Month.until(at("2026-12-01T00:00:00Z")), Some(at("2027-01-01T00:00:00Z")));
        assert_eq!((Per::Ever.since(now), Per::Ever.until(now)), (Day(0), None));
    }

    #[test]
    fn what_is_gone_stays_within_each_limit_to_the_last() {
        let any = Within::any("acme", Day(0));
        let spent = Sum { tokens: 3, nanos: 30, ms: 300, unpriced: 0 };
        let reserved = Sum { tokens: 4, nanos: 40, ms: 400, unpriced: 1 };
        let gone = Standing { spent, reserved, ..Standing::none("acme") }.gone();
        assert_eq!(gone, Sum { tokens: 7, nanos: 70, ms: 700, unpriced: 1 });
        assert_eq!(Standing::none("acme").gone(), Sum::default());
        let all = |tokens, nanos, ms| Within {
            tokens: Some(tokens),
            nanos: Some(nanos),
            ms: Some(ms),
            ..any.clone()
        };
        assert!(any.fits(&gone) && all(7, 70, 700).fits(&gone));
        for less in [all(6, 70, 700), all(7, 69, 700), all(7, 70, 699)] {
            assert!(!less.fits(&gone), "{less:?}");
        }
    }
}
