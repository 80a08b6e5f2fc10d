//! `/keys`: making, listing and revoking keys.

use axum::Json;
use axum::http::StatusCode;
use kapelle_api as api;
use kapelle_core::{Tenant, Timestamp, parse_duration};

use super::App;
use super::body::{Body, Path};
use super::door::keys::Key;
use super::door::permission::{Permissions, ROLES};
use super::door::{self, audit};
use super::problem::Problem;

/// The longest name of a key or a tenant, in characters.
const NAME_MAX: usize = 100;

/// Makes a key. What it may do is no more than what its maker may.
///
/// `POST /keys`
pub(super) async fn create(
    app: App,
    Body(new): Body<api::NewKey>,
) -> Result<(StatusCode, Json<api::CreatedKey>), Problem> {
    let key = key_of(&app, new)?;
    let (id, key) = app.keys().create(key).await?;
    audit::made("made", &id);
    Ok((StatusCode::CREATED, Json(api::CreatedKey { id: id.into(), key })))
}

fn key_of(app: &App, new: api::NewKey) -> Result<Key, Problem> {
    let bad = |detail: String| Problem::invalid("bad_body", detail);
    if !(1..=NAME_MAX).contains(&new.name.chars().count()) {
        return Err(bad(format!("`name` has 1 to {NAME_MAX} characters")));
    }
    let known = ROLES.map(|(name, _)| name).join(", ");
    let may = Permissions::of_roles(new.roles.iter().map(String::as_str));
    let may = may.map_err(|odd| bad(format!("`roles`: there is no `{odd}`, but {known}")))?;
    if new.roles.is_empty() {
        return Err(bad(format!("`roles` names what it may do: {known}")));
    }
    let caller = app.caller();
    if !caller.may.include(may) {
        return Err(Problem::may_not(&caller.name, "all that these roles permit"));
    }
    let tenant = new.tenant.map(|name| tenant(&name)).transpose()?;
    let tenant = tenant.unwrap_or_else(|| caller.tenant.clone());
    if tenant != caller.tenant && !caller.is_owner {
        return Err(Problem::may_not(&caller.name, "to make keys of other tenants"));
    }
    let span = new.expires_in.map(|text| {
        parse_duration(&text).filter(|span| !span.is_zero()).ok_or_else(|| {
            bad(format!("`expires_in`: `{text}` is no duration such as `90d` or `12h`"))
        })
    });
    let (created_at, span) = (crate::now(), span.transpose()?);
    let list = |list: Option<Vec<String>>| Some(list?.into_iter().map(Into::into).collect());
    Ok(Key {
        name: new.name.into(),
        tenant,
        roles: new.roles.into_iter().map(Into::into).collect(),
        workflows: list(new.workflows),
        agents: list(new.agents),
        expires_at: span.map(|span| created_at.after(span)),
        ..Key::made_at(created_at)
    })
}

fn tenant(name: &str) -> Result<Tenant, Problem> {
    door::keys::tenant(name).ok_or_else(|| {
        let detail = "`tenant` has 1 to 100 letters, digits, `-`, `_` and `.`";
        Problem::invalid("bad_body", detail)
    })
}

/// All keys of the tenant, by id.
///
/// `GET /keys`
pub(super) async fn list(app: App) -> Result<Json<api::Page<api::Key>>, Problem> {
    let items = app.keys().of(app.tenant()).await?.into_iter().map(shown).collect();
    Ok(Json(api::Page { items, next_cursor: None }))
}

fn shown((id, key): (Box<str>, Key)) -> api::Key {
    let list = |list: Option<Vec<Box<str>>>| Some(list?.into_iter().map(Into::into).collect());
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    api::Key {
        id: id.into(),
        name: key.name.into(),
        tenant: key.tenant.to_string(),
        roles: key.roles.into_iter().map(Into::into).collect(),
        workflows: list(key.workflows),
        agents: list(key.agents),
        created_at: key.created_at.to_string(),
        expires_at: time(key.expires_at),
        revoked_at: time(key.revoked_at),
        used_at: time(key.used_at),
    }
}

/// Makes a key open nothing any more.
///
/// `DELETE /keys/{key}`
pub(super) async fn revoke(app: App, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if app.keys().revoke(app.tenant(), &id, crate::now()).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("key_not_found", format!("there is no key `{id}`")))
}
