//! `[budgets.tenant]` and `[budgets.agents.NAME]`: what may be spent in all runs together.

use std::collections::BTreeMap;

use kapelle_core::port::account;
use kapelle_engine::{Limit, Limits};
use serde::{Deserialize, Serialize};

/// The limits of all runs together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Budgets {
    /// Of everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<Budget>,
    /// Of agents by their names; `*`: of each that is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) agents: BTreeMap<String, Budget>,
}

/// What may be spent in a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Budget {
    /// At most so many tokens, read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    /// At most so many US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usd: Option<f64>,
    /// At most so much time of calls that cost, such as `8h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<String>,
    /// In what time, in UTC: `day`, `month` or `ever`.
    pub(crate) per: Per,
}

/// How long what is spent counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Per {
    /// Until midnight.
    #[default]
    Day,
    /// Until the month ends.
    Month,
    /// For ever.
    Ever,
}

impl Budgets {
    pub(super) fn check(&self) -> Result<(), String> {
        let agents = self.agents.iter().map(|(name, of)| (format!("agents.{name}"), of));
        let tenant = self.tenant.iter().map(|of| ("tenant".to_owned(), of));
        tenant.chain(agents).try_for_each(|(name, of)| {
            if of.tokens.is_none() && of.usd.is_none() && of.time.is_none() {
                let all = "`tokens`, `usd` or `time`";
                return Err(format!("`budgets.{name}`: it limits nothing; name {all}"));
            }
            if of.time.is_some() && of.ms().is_none() {
                return Err(format!("`budgets.{name}.time` is a duration, such as `8h`"));
            }
            if of.usd.is_some_and(|usd| !(0.0..=1e9).contains(&usd)) {
                return Err(format!("`budgets.{name}.usd` is 0 to 1000000000"));
            }
            Ok(())
        })
    }

    /// The same for an engine.
    pub(crate) fn limits(&self) -> Limits {
        let agents = self.agents.iter().map(|(name, of)| (name.as_str().into(), of.limit()));
        Limits { tenant: self.tenant.as_ref().map(Budget::limit), agents: agents.collect() }
    }
}

impl Budget {
    fn ms(&self) -> Option<u64> {
        let time = kapelle_core::parse_duration(self.time.as_deref()?)?;
        u64::try_from(time.as_millis()).ok()
    }

    fn limit(&self) -> Limit {
        #[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
        let nanos = self.usd.map(|usd| (usd * 1e9).round() as i64);
        let per = match self.per {
            Per::Day => account::Per::Day,
            Per::Month => account::Per::Month,
            Per::Ever => account::Per::Ever,
        };
        Limit { tokens: self.tokens, nanos, ms: self.ms(), per }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_one_that_limits_nothing_is_a_mistake() {
        let text =
            "[tenant]\nusd = 1.5\ntime = \"8h\"\n[agents.\"*\"]\ntokens = 7\nper = \"month\"\n";
        let budgets: Budgets = toml::from_str(text).unwrap();
        assert_eq!(budgets.check(), Ok(()));
        let limits = budgets.limits();
        assert_eq!(limits.tenant.unwrap().nanos, Some(1_500_000_000));
        assert_eq!(limits.tenant.unwrap().ms, Some(28_800_000));
        assert_eq!(limits.agents["*"].per, account::Per::Month);
        let nothing: Budgets = toml::from_str("[agents.a]").unwrap();
        assert!(nothing.check().unwrap_err().starts_with("`budgets.agents.a`: it limits nothing"));
        assert!(toml::from_str::<Budgets>("[tenant]\nper = \"week\"").is_err());
        let odd: Budgets = toml::from_str("[tenant]\ntime = \"soon\"").unwrap();
        assert!(odd.check().unwrap_err().starts_with("`budgets.tenant.time` is a duration"));
    }
}
