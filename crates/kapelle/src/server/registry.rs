//! Registering agents whose work others do, and changing and removing them.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use kapelle_api as api;
use kapelle_core::parse_duration;
use kapelle_core::port::agent::{OnUnknown, no_schema};
use kapelle_core::problem::{Code, Problem as Finding};

use super::App;
use super::agents::shown;
use super::body::{Body, Path};
use super::door::permission::Permission::AgentWrite;
use super::problem::Problem;
use crate::workers::Whose;
use crate::workers::registry::{AGENTS_MAX, Known, Registration, Unkept, Verb};

/// How long a worker may be silent where nothing is said.
const LEASE: Duration = Duration::from_secs(30);
const LEASE_MIN: Duration = Duration::from_millis(100);
const LEASE_MAX: Duration = Duration::from_hours(24);
/// The longest name of an agent, an action, a capability or a domain.
const NAME_MAX: usize = 64;
const TEXT_MAX: usize = 1_000;
const ACTIONS_MAX: usize = 64;
const WORDS_MAX: usize = 64;

/// Registers an agent: 201, or 200 if it is registered so already.
///
/// `POST /agents`
pub(super) async fn register(
    app: App,
    Body(new): Body<api::NewAgent>,
) -> Result<(StatusCode, Json<api::Agent>), Problem> {
    let mut found = Vec::new();
    if !is_name(&new.name) {
        let message = format!("an agent's name is {NAME}, not `{}`", new.name);
        found.push(finding(Code::BadValue, "name", message));
    }
    let registration = checked(
        api::AgentPatch {
            description: Some(new.description),
            actions: Some(new.actions),
            capabilities: Some(new.capabilities),
            domains: Some(new.domains),
            lease: new.lease,
            on_unknown: new.on_unknown,
        },
        nothing(),
        &mut found,
    );
    refuse(&found)?;
    may_register(&app, &new.name)?;
    let whose = Whose { tenant: app.tenant().clone(), agent: new.name.into() };
    if app.agents().await.of_all().get(&whose.agent).is_some() {
        return Err(Problem::conflict("agent_conflict", there_is(&whose, "on this server")));
    }
    let status = match app.registry().get(&whose) {
        Some(known) => {
            let other = known.registration.differs(&registration);
            if !other.is_empty() {
                let what = format!("with another `{}`; `PATCH` changes it", other.join("`, `"));
                return Err(Problem::conflict("agent_conflict", there_is(&whose, &what)));
            }
            StatusCode::OK
        }
        None => {
            keep(&app, &whose, registration, None).await?;
            StatusCode::CREATED
        }
    };
    Ok((status, Json(found_again(&app, &whose)?)))
}

/// Changes what is given of a registered agent; attempts that go on are not touched.
///
/// `PATCH /agents/{name}`
pub(super) async fn update(
    app: App,
    Path(name): Path<String>,
    Body(patch): Body<api::AgentPatch>,
) -> Result<Json<api::Agent>, Problem> {
    let whose = Whose { tenant: app.tenant().clone(), agent: name.into() };
    app.agents().await;
    let known = app.registry().get(&whose).ok_or_else(|| not_registered(&whose))?;
    let mut found = Vec::new();
    let registration = checked(patch, (*known.registration).clone(), &mut found);
    refuse(&found)?;
    keep(&app, &whose, registration, Some(&known)).await?;
    Ok(Json(found_again(&app, &whose)?))
}

/// Removes a registered agent: its steps wait until there is one again. Attempts that go on may end.
///
/// `DELETE /agents/{name}`
pub(super) async fn unregister(app: App, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let whose = Whose { tenant: app.tenant().clone(), agent: name.into() };
    if !app.registry().remove(&whose).await? {
        return Err(not_registered(&whose));
    }
    app.renew(None);
    Ok(StatusCode::NO_CONTENT)
}

async fn keep(
    app: &App,
    whose: &Whose,
    registration: Registration,
    before: Option<&Known>,
) -> Result<(), Problem> {
    match app.registry().put(whose, registration, before).await {
        Ok(()) => {
            app.renew(None);
            Ok(())
        }
        Err(Unkept::Taken) => {
            let detail = there_is(whose, "that was changed just now: look at it, and repeat");
            Err(Problem::conflict("agent_conflict", detail))
        }
        Err(Unkept::TooMany) => {
            let detail = format!("there are {AGENTS_MAX} registered agents: remove one first");
            Err(Problem::conflict("too_many_agents", detail))
        }
        Err(Unkept::Store(error)) => Err(error.into()),
    }
}

/// Who may change agents may register any; a key that names its agents and may do their work may
/// register these: it could do no more with the name than it does already.
fn may_register(app: &App, name: &str) -> Result<(), Problem> {
    let caller = app.caller();
    if caller.agents.as_ref().is_some_and(|own| own.iter().any(|own| **own == *name)) {
        return Ok(());
    }
    if caller.agents.is_some() {
        return Err(Problem::may_not(&caller.name, &format!("to register the agent `{name}`")));
    }
    caller.check(Some(AgentWrite))
}

fn found_again(app: &App, whose: &Whose) -> Result<api::Agent, Problem> {
    let agents = app.engine().agents();
    let agent = agents.of(&whose.tenant).get(&whose.agent).ok_or_else(|| not_registered(whose))?;
    Ok(shown(app, agent))
}

pub(super) fn not_registered(whose: &Whose) -> Problem {
    let detail = format!("there is no registered agent `{}`", whose.agent);
    Problem::not_found("agent_not_found", detail)
}

fn there_is(whose: &Whose, what: &str) -> String {
    format!("there is an agent `{}` {what}", whose.agent)
}

fn nothing() -> Registration {
    Registration {
        description: "".into(),
        actions: Vec::new(),
        capabilities: Vec::new(),
        domains: Vec::new(),
        lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
        on_unknown: OnUnknown::Retry,
        registered_at: crate::now(),
    }
}

/// `before` with what `patch` gives; all that is wrong with that goes to `found`.
fn checked(patch: api::AgentPatch, before: Registration, found: &mut Vec<Finding>) -> Registration {
    let mut now = before;
    if let Some(description) = patch.description {
        if description.chars().count() > TEXT_MAX {
            let message = format!("a description has at most {TEXT_MAX} characters");
            found.push(finding(Code::OutOfRange, "description", message));
        }
        now.description = description.into();
    }
    if let Some(actions) = patch.actions {
        now.actions = verbs(actions, found);
    }
    if let Some(words) = patch.capabilities {
        now.capabilities = named("capabilities", words, found);
    }
    if let Some(words) = patch.domains {
        now.domains = named("domains", words, found);
    }
    if let Some(text) = patch.lease {
        match parse_duration(&text).filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease)) {
            Some(lease) => now.lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            None => {
                let message =
                    format!("`{text}` is no lease of {LEASE_MIN:?} to 24h, such as `30s`");
                found.push(finding(Code::BadDuration, "lease", message));
            }
        }
    }
    match patch.on_unknown.as_deref() {
        None => {}
        Some("retry") => now.on_unknown = OnUnknown::Retry,
        Some("ask") => now.on_unknown = OnUnknown::Ask,
        Some("fail") => now.on_unknown = OnUnknown::Fail,
        Some(odd) => {
            let message = format!("`{odd}` is none of `retry`, `ask` and `fail`");
            found.push(finding(Code::BadValue, "on_unknown", message));
        }
    }
    now
}

fn verbs(actions: Vec<api::NewAction>, found: &mut Vec<Finding>) -> Vec<Verb> {
    if actions.is_empty() {
        let (name, description) = ("run".into(), "does its work".into());
        return vec![Verb { name, description, input: true.into(), output: true.into() }];
    }
    if actions.len() > ACTIONS_MAX {
        let message = format!("there are {} actions, at most {ACTIONS_MAX} fit", actions.len());
        found.push(finding(Code::OutOfRange, "actions", message));
    }
    let mut verbs: Vec<Verb> = Vec::new();
    for (index, action) in actions.into_iter().enumerate().take(ACTIONS_MAX) {
        let at = |field: &str| format!("actions[{index}].{field}");
        if !is_name(&action.name) {
            let message = format!("an action's name is {NAME}, not `{}`", action.name);
            found.push(finding(Code::BadValue, at("name"), message));
        }
        if verbs.iter().any(|verb| *verb.name == *action.name) {
            let message = format!("there are two actions `{}`", action.name);
            found.push(finding(Code::DuplicateKey, at("name"), message));
        }
        if action.description.chars().count() > TEXT_MAX {
            let message = format!("a description has at most {TEXT_MAX} characters");
            found.push(finding(Code::OutOfRange, at("description"), message));
        }
        let mut schema = |field: &str, schema: Option<api::Json>| {
            let schema = schema.unwrap_or_else(|| true.into());
            if let Some(why) = no_schema(&schema) {
                found.push(finding(Code::BadSchema, at(field), format!("no JSON Schema: {why}")));
            }
            schema
        };
        let (input, output) = (schema("input", action.input), schema("output", action.output));
        let (name, description) = (action.name.into(), action.description.into());
        verbs.push(Verb { name, description, input, output });
    }
    verbs
}

fn named(field: &str, words: Vec<String>, found: &mut Vec<Finding>) -> Vec<Box<str>> {
    if words.len() > WORDS_MAX {
        let message = format!("there are {} words, at most {WORDS_MAX} fit", words.len());
        found.push(finding(Code::OutOfRange, field, message));
    }
    for (index, word) in words.iter().enumerate().take(WORDS_MAX) {
        if !(1..=NAME_MAX).contains(&word.chars().count()) {
            let message = format!("it has 1 to {NAME_MAX} characters");
            found.push(finding(Code::OutOfRange, format!("{field}[{index}]"), message));
        }
    }
    words.into_iter().map(Into::into).collect()
}

const NAME: &str = "1 to 64 letters, digits, `-`, `_` and `.`, first a letter or a digit";

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(fits)
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

fn finding(code: Code, field: impl Into<String>, message: String) -> Finding {
    Finding::error(code, field, message).hint(Some("see docs/workers.md".to_owned()))
}

fn refuse(found: &[Finding]) -> Result<(), Problem> {
    if found.is_empty() { Ok(()) } else { Err(Problem::findings(found)) }
}
