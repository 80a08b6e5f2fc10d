//! Filters of documents: each says why it drops one.

use std::collections::BTreeSet;

use jiff::civil::Date;
use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::input::{invalid, read};
use crate::rules::document::{self, Document};
use crate::text::words;

/// The most memory, in bytes, that a pattern may need once it is compiled.
const PATTERN_MAX: usize = 1 << 20;

/// Which documents are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Filters {
    languages: Option<BTreeSet<String>>,
    published_after: Option<String>,
    published_before: Option<String>,
    words_min: Option<usize>,
    words_max: Option<usize>,
    domains: Option<Vec<String>>,
    domains_not: Vec<String>,
    pattern: Option<String>,
    pattern_not: Option<String>,
}

/// The JSON Schema of [`Filters`].
pub(super) fn schema() -> Json {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let date = json!({
        "description": "an ISO date; a document without one is dropped",
        "type": "string", "format": "date", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"
    });
    let count = json!({"type": "integer", "minimum": 0});
    let pattern = json!({"description": "a regular expression, case ignored", "type": "string"});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "languages": {
                "description": "ISO 639-1 codes", "type": "array", "items": {"type": "string"}
            },
            "publishedAfter": date, "publishedBefore": date,
            "wordsMin": count, "wordsMax": count,
            "domains": texts, "domainsNot": texts,
            "pattern": pattern, "patternNot": pattern
        }
    })
}

/// The JSON Schema of what `filter` answers.
pub(super) fn output_schema() -> Json {
    json!({
        "type": "object",
        "required": ["documents", "dropped"],
        "additionalProperties": false,
        "properties": {
            "documents": {"description": "those kept, as they were given", "type": "array"},
            "dropped": {"type": "array", "items": {
                "type": "object",
                "required": ["source", "reason"],
                "additionalProperties": false,
                "properties": {"source": {"type": "string"}, "reason": {"type": "string"}}
            }}
        }
    })
}

/// Documents, parted by filters.
pub(super) struct Sorted {
    /// As given, and as read.
    pub(super) kept: Vec<(Json, Document)>,
    /// Where each dropped one came from, and why it is not wanted.
    dropped: Vec<(String, String)>,
}

impl Sorted {
    pub(super) fn value(self) -> Json {
        let dropped =
            self.dropped.iter().map(|(source, reason)| json!({"source": source, "reason": reason}));
        let dropped: Json = dropped.collect();
        let kept: Json = self.kept.into_iter().map(|kept| kept.0).collect();
        json!({"documents": kept, "dropped": dropped})
    }
}

/// Filters, read and compiled.
struct Ready {
    languages: Option<BTreeSet<String>>,
    after: Option<Date>,
    before: Option<Date>,
    words: std::ops::RangeInclusive<usize>,
    domains: Option<Vec<String>>,
    domains_not: Vec<String>,
    pattern: Option<Regex>,
    pattern_not: Option<Regex>,
}

impl Filters {
    /// Parts `documents` into those kept and those dropped.
    pub(super) fn sort(self, documents: Vec<Json>) -> Result<Sorted, Failure> {
        let ready = self.ready()?;
        let mut sorted = Sorted { kept: Vec::new(), dropped: Vec::new() };
        let mut all = Vec::with_capacity(documents.len());
        for given in &documents {
            all.push(read::<Document>(given)?);
        }
        document::check(&all)?;
        for (given, document) in documents.into_iter().zip(all) {
            match ready.reason_against(&document) {
                Some(reason) => sorted.dropped.push((document.name().to_owned(), reason)),
                None => sorted.kept.push((given, document)),
            }
        }
        Ok(sorted)
    }

    fn ready(self) -> Result<Ready, Failure> {
        Ok(Ready {
            languages: self.languages,
            after: self.published_after.as_deref().map(wanted_date).transpose()?,
            before: self.published_before.as_deref().map(wanted_date).transpose()?,
            words: self.words_min.unwrap_or(0)..=self.words_max.unwrap_or(usize::MAX),
            domains: self.domains,
            domains_not: self.domains_not,
            pattern: self.pattern.as_deref().map(pattern).transpose()?,
            pattern_not: self.pattern_not.as_deref().map(pattern).transpose()?,
        })
    }
}

impl Ready {
    fn reason_against(&self, document: &Document) -> Option<String> {
        self.language(document)
            .or_else(|| self.date(document))
            .or_else(|| self.length(document))
            .or_else(|| self.domain(document))
            .or_else(|| self.words(document))
    }

    fn language(&self, document: &Document) -> Option<String> {
        let wanted = self.languages.as_ref()?;
        let language = document.language().code();
        (!wanted.contains(language)).then(|| format!("its language is `{language}`"))
    }

    fn date(&self, document: &Document) -> Option<String> {
        if self.after.is_none() && self.before.is_none() {
            return None;
        }
        let Some(date) = document.published.as_deref().and_then(date) else {
            return Some("it has no date".into());
        };
        let early = self.after.is_some_and(|after| date < after);
        let late = self.before.is_some_and(|before| date > before);
        (early || late).then(|| format!("it was published on {date}"))
    }

    fn length(&self, document: &Document) -> Option<String> {
        if self.words == (0..=usize::MAX) {
            return None;
        }
        let count = words(document.text()).count();
        (!self.words.contains(&count)).then(|| format!("it has {count} words"))
    }

    fn domain(&self, document: &Document) -> Option<String> {
        let host = document.url().and_then(|url| Url::parse(url).ok());
        let host = host.as_ref().and_then(Url::host_str).unwrap_or_default();
        let wanted = self.domains.as_ref().is_none_or(|domains| is_below_any(host, domains));
        let said =
            if host.is_empty() { "it has no domain".into() } else { format!("it is on `{host}`") };
        (!wanted || is_below_any(host, &self.domains_not)).then_some(said)
    }

    fn words(&self, document: &Document) -> Option<String> {
        let found = |pattern: &Option<Regex>| pattern.as_ref().map(|p| p.is_match(document.text()));
        if found(&self.pattern) == Some(false) {
            return Some("the pattern is not in it".into());
        }
        (found(&self.pattern_not) == Some(true)).then(|| "it has what it must not have".into())
    }
}

fn is_below_any(host: &str, domains: &[String]) -> bool {
    domains.iter().any(|domain| {
        let domain = domain.trim_start_matches("*.").to_ascii_lowercase();
        host == domain || host.strip_suffix(&*domain).is_some_and(|sub| sub.ends_with('.'))
    })
}

fn pattern(text: &str) -> Result<Regex, Failure> {
    let regex = RegexBuilder::new(text).case_insensitive(true).size_limit(PATTERN_MAX).build();
    regex.map_err(|error| invalid("bad_pattern", format!("`{text}` is no pattern: {error}")))
}

fn wanted_date(text: &str) -> Result<Date, Failure> {
    date(text)
        .ok_or_else(|| invalid("bad_input", format!("`{text}` is no date such as 2026-03-01")))
}

/// The day of an ISO date, with or without a time behind it.
fn date(text: &str) -> Option<Date> {
    text.trim().get(..10)?.parse().ok()
}
