//! Which rule answers a request, and how often it has.
//!
//! **Invariant:** a rule's count goes up each time its conditions hold, `nth` and `times` aside, if
//! no rule before it answered; so counts say how often a rule was reached, not how often it spoke.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use regex::Regex;

use super::{Rule, Script, When};
use crate::asked::Asked;

/// The rules of a script, with their patterns and counts.
pub(crate) struct Rules {
    rules: Vec<Ready>,
    counts: Mutex<Vec<u64>>,
}

struct Ready {
    rule: Rule,
    name: String,
    system: Option<Regex>,
    user: Option<Regex>,
}

/// The rule that answers.
pub(crate) struct Chosen<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) name: &'a str,
    /// How often it was reached, this time included.
    pub(crate) nth: u64,
    /// What the groups of `user_matches` took.
    pub(crate) groups: Vec<String>,
}

impl Rules {
    pub(crate) fn new(script: &Script) -> Self {
        let ready = |(index, rule): (usize, &Rule)| Ready {
            name: rule.name.clone().unwrap_or_else(|| format!("rule {}", index + 1)),
            system: regex(rule.when.system_matches.as_deref()),
            user: regex(rule.when.user_matches.as_deref()),
            rule: rule.clone(),
        };
        let rules: Vec<Ready> = script.rules.iter().enumerate().map(ready).collect();
        let counts = Mutex::new(vec![0; rules.len()]);
        Self { rules, counts }
    }

    /// The first rule whose conditions hold; `None` means the script's default.
    pub(crate) fn choose(
        &self,
        asked: &Asked,
        key: &str,
        headers: &HeaderMap,
    ) -> Option<Chosen<'_>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (ready, count) in self.rules.iter().zip(counts.iter_mut()) {
            if !ready.holds(asked, key, headers) {
                continue;
            }
            *count += 1;
            let nth = *count;
            let when = &ready.rule.when;
            let is_due = when.nth.is_empty() || when.nth.contains(&nth);
            if is_due && ready.rule.times.is_none_or(|times| nth <= times) {
                let groups = ready.groups(asked);
                return Some(Chosen { rule: &ready.rule, name: &ready.name, nth, groups });
            }
        }
        None
    }

    pub(crate) fn reset(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).fill(0);
    }
}

impl Ready {
    fn holds(&self, asked: &Asked, key: &str, headers: &HeaderMap) -> bool {
        let when = &self.rule.when;
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
        let has = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|w| text.contains(w.as_str()))
        };
        when.provider.is_none_or(|wanted| wanted == asked.provider)
            && is(&when.key, key)
            && is(&when.model, &asked.model)
            && has(&when.system_contains, &asked.system)
            && self.system.as_ref().is_none_or(|regex| regex.is_match(&asked.system))
            && has(&when.user_contains, &asked.user)
            && self.user.as_ref().is_none_or(|regex| regex.is_match(&asked.user))
            && when.turn.is_none_or(|turn| turn == asked.turn)
            && when.turn_min.is_none_or(|turn| turn <= asked.turn)
            && when.tool_results.is_none_or(|wanted| wanted != asked.results.is_empty())
            && has(&when.tool_result_contains, &asked.results.join("\n"))
            && when.offers_tool.as_ref().is_none_or(|tool| asked.tools.contains(tool))
            && when.schema.is_none_or(|wanted| wanted == asked.schema.is_some())
            && when.stream.is_none_or(|wanted| wanted == asked.stream)
            && has_headers(when, headers)
    }

    fn groups(&self, asked: &Asked) -> Vec<String> {
        let found = self.user.as_ref().and_then(|regex| regex.captures(&asked.user));
        let group = |group: Option<regex::Match<'_>>| group.map_or("", |m| m.as_str()).to_owned();
        found.iter().flat_map(|found| found.iter().skip(1)).map(group).collect()
    }
}

fn has_headers(when: &When, headers: &HeaderMap) -> bool {
    when.headers.iter().all(|(name, text)| {
        let mut values = headers.get_all(name.as_str()).iter();
        values.any(|value| value.to_str().is_ok_and(|value| value.contains(text.as_str())))
    })
}

fn regex(pattern: Option<&str>) -> Option<Regex> {
    pattern.and_then(|pattern| Regex::new(pattern).ok())
}

/// The patterns of a rule and the fields they are in.
pub(super) fn patterns(when: &When) -> Vec<(&'static str, &str)> {
    let all = [("system_matches", &when.system_matches), ("user_matches", &when.user_matches)];
    all.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?))).collect()
}
