//! What a run has cost, and more that it may.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json as Answer;
use kapelle_agents::model::MODEL_EFFECT;
use kapelle_api as api;
use kapelle_core::plan::Budget;
use kapelle_core::port::account::Per;
use kapelle_core::run::{Command, Effect, EffectState, Ledger, Outcome, Run, Sum};
use kapelle_core::{Digest, Json, StepNo, canonical};
use kapelle_engine::Account;

use super::App;
use super::body::{Body, Path};
use super::control::{said, step_id, tell};
use super::problem::Problem;

/// A run may spend more, or a step of it; steps that wait for that go on.
///
/// `POST /runs/{run}/budget`
pub(super) async fn raise(
    app: App,
    Path(run): Path<String>,
    Body(word): Body<api::Raise>,
) -> Result<Answer<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let step = word.step.as_deref().map(step_id).transpose()?;
    let usd = word.usd.unwrap_or(0.0);
    if !(0.0..=1e6).contains(&usd) {
        return Err(Problem::invalid("bad_body", "`usd` is 0 to 1000000"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
    let nanos = (usd * 1e9).round() as i64;
    let (by, _) = said(&app, word.by, None);
    let (tokens, ms) = (word.tokens.unwrap_or(0), word.time_ms.unwrap_or(0));
    let more = Sum { tokens, nanos, ms, unpriced: 0 };
    tell(&app, run, Command::Raise { step, more, by }, Vec::new()).await
}

/// What a run has cost so far: by step and by model, with what is reserved and of unknown end.
///
/// `GET /runs/{run}/bill`
pub(super) async fn bill(app: App, Path(run): Path<String>) -> Result<Answer<api::Bill>, Problem> {
    let id = app.find(&run).await?;
    let run = app.engine().run(app.tenant(), id).await?;
    let (mut steps, mut models) = (Vec::new(), BTreeMap::new());
    for view in run.view() {
        let (ledger, calls) = (view.step.ledger(), calls(&app, &run, view.no).await?);
        if ledger == Ledger::default() && calls.is_empty() {
            continue;
        }
        let mut asked = api::Asked::default();
        for call in &calls {
            add(&mut asked, call);
            add_to_model(&mut models, call);
        }
        steps.push(api::StepSpending {
            step: view.step.id.to_string(),
            cost: cost(&ledger),
            asked,
            worked_ms: millis(ledger.worked),
            budget: run.spec(view.no).budget.map(|budget| limit(&budget, &ledger)),
        });
    }
    Ok(Answer(api::Bill {
        run: id.to_string(),
        total: cost(run.ledger()),
        steps,
        models: models.into_values().collect(),
        budget: run.plan().plan.budget.map(|budget| limit(&budget, run.ledger())),
        active_ms: millis(run.active()),
    }))
}

/// How the limits of all runs together stand, as this node has them.
///
/// `GET /budgets`
pub(super) async fn budgets(app: App) -> Result<Answer<api::Budgets>, Problem> {
    let accounts = app.engine().accounts(app.tenant()).await?;
    Ok(Answer(api::Budgets { accounts: accounts.iter().map(account).collect() }))
}

fn account(of: &Account) -> api::Account {
    let Account { limit, standing, until } = of;
    let gone = standing.gone();
    let per = match limit.per {
        Per::Day => "day",
        Per::Month => "month",
        Per::Ever => "ever",
    };
    api::Account {
        account: standing.account.to_string(),
        per: per.to_owned(),
        until: until.map(|until| until.to_string()),
        limit: api::Limit { tokens: limit.tokens, nano_usd: limit.nanos, time_ms: limit.ms },
        spent: amount(&standing.spent),
        reserved: amount(&standing.reserved),
        left: api::Limit {
            tokens: limit.tokens.map(|max| max.saturating_sub(gone.tokens)),
            nano_usd: limit.nanos.map(|max| max.saturating_sub(gone.nanos).max(0)),
            time_ms: limit.ms.map(|max| max.saturating_sub(gone.ms)),
        },
    }
}

/// What is spent, reserved and of unknown end.
pub(crate) fn cost(ledger: &Ledger) -> api::Spending {
    api::Spending {
        spent: amount(&ledger.spent),
        reserved: amount(&ledger.reserved),
        unknown_outcome: amount(&ledger.unknown),
    }
}

/// A sum as people are told of it.
pub(crate) fn amount(sum: &Sum) -> api::Amount {
    let Sum { tokens, nanos, unpriced, ms } = *sum;
    let nano_usd = (unpriced == 0 || nanos != 0).then_some(nanos);
    api::Amount { tokens, nano_usd, unpriced_calls: unpriced, time_ms: ms }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn limit(budget: &Budget, ledger: &Ledger) -> api::Limit {
    api::Limit {
        tokens: budget.tokens.map(|tokens| tokens.saturating_add(ledger.raised.tokens)),
        nano_usd: budget.nanos.map(|nanos| nanos.saturating_add(ledger.raised.nanos)),
        time_ms: budget.time_ms.map(|ms| ms.saturating_add(ledger.raised.ms)),
    }
}

/// What is left of the budget of a run, in words.
pub(crate) fn left(run: &Run) -> String {
    let (budget, ledger) = (run.plan().plan.budget, *run.ledger());
    let Some(budget) = budget else { return "it has none".to_owned() };
    let gone = ledger.spent.and(ledger.unknown).and(ledger.reserved);
    let limit = limit(&budget, &ledger);
    let tokens =
        limit.tokens.map(|max| format!("{} of {max} tokens", max.saturating_sub(gone.tokens)));
    let money = limit.nano_usd.map(|max| {
        format!("{} of {}", dollars(max.saturating_sub(gone.nanos).max(0)), dollars(max))
    });
    let left: Vec<String> = tokens.into_iter().chain(money).collect();
    if left.is_empty() {
        "no time is left".to_owned()
    } else {
        format!("{} are left", left.join(" and "))
    }
}

fn add(asked: &mut api::Asked, call: &api::ModelCall) {
    asked.calls += 1;
    asked.fresh_tokens += call.fresh_tokens;
    asked.cached_tokens += call.cached_tokens;
    asked.stored_tokens += call.stored_tokens;
    asked.output_tokens += call.output_tokens;
}

fn add_to_model(models: &mut BTreeMap<String, api::ModelSpending>, call: &api::ModelCall) {
    let of = models.entry(call.model.clone()).or_default();
    of.model.clone_from(&call.model);
    add(&mut of.asked, call);
    match call.nano_usd {
        Some(nanos) => of.nano_usd = Some(of.nano_usd.unwrap_or(0) + nanos),
        None => of.unpriced_calls += 1,
    }
}

/// The calls of models that a step has on record, in their order.
pub(super) async fn calls(
    app: &App,
    run: &Run,
    step: StepNo,
) -> Result<Vec<api::ModelCall>, Problem> {
    let mut calls = Vec::new();
    for effect in run.effects(step).into_values() {
        let EffectState::Recorded(Outcome::Done(value)) = &effect.state else { continue };
        if is_asked(&effect) {
            calls.push(call(&*app.engine().value(app.tenant(), run, value).await?));
        }
    }
    Ok(calls)
}

/// What the outside call of a step is that is in doubt: its name and, where a model wanted it, with what.
pub(super) async fn in_doubt(
    app: &App,
    run: &Run,
    (step, ordinal): (StepNo, u32),
) -> Result<Option<String>, Problem> {
    let effects = run.effects(step);
    let Some(name) = effects.get(&ordinal).map(|effect| &*effect.id.name) else {
        return Ok(None);
    };
    let before = effects.range(..ordinal).rev().find(|(_, effect)| is_asked(effect));
    let about = effects[&ordinal].id.input;
    let mut inputs = Vec::new();
    if let Some((_, effect)) = before
        && let EffectState::Recorded(Outcome::Done(value)) = &effect.state
    {
        let record = app.engine().value(app.tenant(), run, value).await?;
        let calls = record["parts"].as_array().into_iter().flatten();
        let of_tool = |part: &&Json| {
            part["type"] == "tool_call" && part["name"].as_str() == name.strip_prefix("tool:")
        };
        let calls: Vec<&Json> = calls.filter(of_tool).collect();
        let this = calls.iter().find(|part| {
            let of = serde_json::json!({"id": part["id"], "input": part["input"]});
            Digest::of(canonical(&of).as_bytes()) == about
        });
        let shown = this.map_or(&calls[..], std::slice::from_ref);
        inputs.extend(shown.iter().map(|part| part["input"].to_string()));
    }
    let with = if inputs.is_empty() { String::new() } else { format!(": {}", inputs.join(" or ")) };
    Ok(Some(format!("the call in doubt is its outside call {ordinal}, `{name}`{with}")))
}

/// What is to be said of the tools that a model asked for in a step: those that it may not have, and what
/// a person is to know of others.
pub(super) async fn of_tools(app: &App, run: &Run, step: StepNo) -> Result<Vec<String>, Problem> {
    let mut denied = BTreeMap::<String, u32>::new();
    let mut told = Vec::new();
    for effect in run.effects(step).into_values() {
        let (Some(tool), EffectState::Recorded(Outcome::Done(value))) =
            (effect.id.name.strip_prefix("tool:"), &effect.state)
        else {
            continue;
        };
        let record = app.engine().value(app.tenant(), run, value).await?;
        if is_denied(&record) {
            *denied.entry(format!("`{tool}`")).or_default() += 1;
        }
        told.extend(
            warnings(&record).into_iter().map(|line| format!("while `{tool}` ran: {line}")),
        );
    }
    let times = |(tool, times): (String, u32)| match times {
        1 => tool,
        times => format!("{tool} ({times} times)"),
    };
    let denied: Vec<String> = denied.into_iter().map(times).collect();
    if !denied.is_empty() {
        let line =
            format!("it asked for what it may not do, and nothing was done: {}", denied.join(", "));
        told.insert(0, line);
    }
    Ok(told)
}

/// Whether a record of a tool's call says that it was not made.
pub(super) fn is_denied(record: &Json) -> bool {
    record["denied"] == true
}

/// What a record of a tool's call has for people.
pub(super) fn warnings(record: &Json) -> Vec<String> {
    let all = record["warnings"].as_array().into_iter().flatten();
    all.filter_map(|line| line.as_str().map(str::to_owned)).collect()
}

fn is_asked(effect: &Effect) -> bool {
    &*effect.id.name == MODEL_EFFECT
}

/// Who was asked before, and why that one did not answer.
fn passed(record: &Json) -> Vec<String> {
    let all = record["passed"].as_array().into_iter().flatten();
    let one = |of: &Json| Some(format!("{}: {}", of["model"].as_str()?, of["why"].as_str()?));
    all.filter_map(one).collect()
}

fn call(record: &Json) -> api::ModelCall {
    let text = |name: &str| record[name].as_str().map(str::to_owned);
    let tokens = |name: &str| record["tokens"][name].as_u64().unwrap_or(0);
    let made = record["made"].as_object().into_iter().flatten();
    api::ModelCall {
        model: text("by").unwrap_or_else(|| "unknown".to_owned()),
        key: text("key"),
        request: text("request"),
        fresh_tokens: tokens("fresh"),
        cached_tokens: tokens("cached"),
        stored_tokens: tokens("stored") + tokens("stored_long"),
        output_tokens: tokens("written"),
        nano_usd: record["cost_nanos"].as_i64(),
        prompt: made.filter_map(|(of, bytes)| Some((of.clone(), bytes.as_u64()?))).collect(),
        passed: passed(record),
    }
}

/// Billionths of a dollar as dollars.
pub(crate) fn dollars(nanos: i64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let short = text.trim_end_matches('0');
    let cents = text.find('.').map_or(0, |dot| dot + 3);
    format!("${}", if short.len() < cents { &text[..cents] } else { short })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_to_the_last_nano_dollar_and_no_further() {
        assert_eq!(dollars(0), "$0.00");
        assert_eq!(dollars(1_500_000_000), "$1.50");
        assert_eq!(dollars(123_456_789), "$0.123456789");
        assert_eq!(dollars(5_000), "$0.000005");
    }
}
