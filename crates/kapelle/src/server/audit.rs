//! `/audit`: who did what, and who was refused.

use axum::Json;
use kapelle_api as api;
use kapelle_core::port::audit::Noted;
use serde::Deserialize;

use super::App;
use super::body::Query;
use super::door::audit::{Counts, Entry};
use super::problem::Problem;

/// How many entries a page holds where nothing is said, and at the most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// Which entries.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// How many at the most, 1 to 1000; 100 where nothing is said.
    limit: Option<u32>,
    /// As the page before says.
    cursor: Option<String>,
}

/// A page of the tenant's entries, newest first.
///
/// `GET /audit?limit=&cursor=`
pub(super) async fn list(
    app: App,
    Query(which): Query<Which>,
) -> Result<Json<api::Page<api::AuditEntry>>, Problem> {
    let bad = |detail: String| Problem::invalid("bad_query", detail);
    let limit = which.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad(format!("`limit` is 1 to {PAGE_MAX}")));
    }
    let before = which.cursor.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| bad("`cursor` is none of a page of this list".to_owned()))?;
    let entries = app.audit().entries(app.tenant(), before, limit).await?;
    let full = entries.len() >= limit as usize;
    let next_cursor = entries.last().filter(|_| full).map(|(noted, _)| noted.seq.to_string());
    Ok(Json(api::Page { items: entries.into_iter().map(shown).collect(), next_cursor }))
}

fn shown((noted, entry): (Noted, Entry)) -> api::AuditEntry {
    let text = |text: Option<Box<str>>| text.map(String::from);
    let Counts { since, reads, work, refused } = entry.counts;
    api::AuditEntry {
        seq: noted.seq,
        at: entry.at.to_string(),
        who: entry.who.into(),
        peer: entry.peer.map(|peer| peer.to_string()),
        method: text(entry.method),
        route: text(entry.route),
        permission: text(entry.permission),
        about: entry.about.into_iter().map(|(what, name)| (what.into(), name.into())).collect(),
        status: entry.status,
        code: text(entry.code),
        since: since.map(|since| since.to_string()),
        reads,
        work,
        refused,
        hash: noted.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
