//! `runs bill` and `budgets`: what a run costs, and what all of them may.

use kapelle_api::{self as api, Client};

use super::exit::{Exit, Stop};
use super::out::{self, counted, duration};
use super::runs::RunRef;
use super::session::{Settings, with_reader};
pub(crate) use crate::server::bill::dollars;

#[derive(Debug, clap::Args)]
pub(crate) struct Bill {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// Print one JSON object: `{"run", "total", "steps", "models", "budget"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn bill(args: Bill, client: &Client) -> Result<(), Stop> {
    let bill = client.bill(&args.run).await?;
    if args.json {
        return Ok(out::json(&bill)?);
    }
    if bill.total == api::Spending::default() && bill.active_ms == 0 {
        return Ok(out::line("the run has cost nothing so far")?);
    }
    for line in lines(&bill) {
        out::line(&line)?;
    }
    Ok(())
}

fn lines(bill: &api::Bill) -> Vec<String> {
    let mut lines = Vec::new();
    let width = bill.steps.iter().map(|step| step.step.len()).max().unwrap_or(0).max(15);
    for step in &bill.steps {
        let mut cost = amount(&step.cost.spent);
        if step.asked.calls > 0 {
            cost = format!("{cost}: {}", asked(&step.asked));
        }
        for (name, of) in open(&step.cost) {
            cost = format!("{cost}; {name} {}", amount(of));
        }
        if step.worked_ms > 0 {
            cost = format!("{cost}; worked on for {}", duration(step.worked_ms));
        }
        lines.push(format!("{:width$}  {cost}", step.step));
    }
    lines.push(format!("{:width$}  {}", "spent", amount(&bill.total.spent)));
    for (name, of) in open(&bill.total) {
        lines.push(format!("{name:width$}  {}", amount(of)));
    }
    if let Some(limit) = &bill.budget {
        lines.push(format!("{:width$}  {}", "budget", self::limit(limit)));
    }
    if bill.active_ms > 0 {
        lines.push(format!("{:width$}  {}", "active", duration(bill.active_ms)));
    }
    lines.extend(bill.models.iter().map(model));
    lines
}

/// What is reserved or of unknown outcome, if anything is.
fn open(of: &api::Spending) -> impl Iterator<Item = (&'static str, &api::Amount)> {
    let open = [("reserved", &of.reserved), ("unknown outcome", &of.unknown_outcome)];
    open.into_iter().filter(|(_, of)| **of != api::Amount::default())
}

fn model(of: &api::ModelSpending) -> String {
    let price = price(of.nano_usd, of.unpriced_calls);
    format!("{}: {price}: {}", of.model, asked(&of.asked))
}

/// Calls of models, and what they read and wrote.
fn asked(of: &api::Asked) -> String {
    let calls = if of.calls == 1 { "call" } else { "calls" };
    let api::Asked { fresh_tokens, cached_tokens, stored_tokens, output_tokens, .. } = of;
    let read = format!("{} {calls}, {} tokens read", of.calls, of.read_tokens());
    let kinds = [(fresh_tokens, "fresh"), (cached_tokens, "cached"), (stored_tokens, "stored")];
    let kinds = kinds.map(|(tokens, kind)| format!("{tokens} {kind}"));
    format!("{read} ({}), {output_tokens} written", kinds.join(", "))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Budgets {
    /// Print one JSON object: `{"accounts"}`
    #[arg(long)]
    json: bool,
}

/// `budgets`: what may be spent in all runs together, and what is left.
pub(crate) async fn budgets(args: &Budgets, settings: &Settings) -> Result<Exit, Stop> {
    with_reader(settings, async |client, _| {
        let budgets = client.budgets().await?;
        if args.json {
            out::json(&budgets)?;
            return Ok(Exit::Done);
        }
        if budgets.accounts.is_empty() {
            out::line("there are no limits: `[budgets.tenant]` and `[budgets.agents.NAME]` in `kapelle.toml`")?;
        }
        for account in &budgets.accounts {
            out::line(&line(account))?;
        }
        Ok(Exit::Done)
    })
    .await
}

fn line(of: &api::Account) -> String {
    let mut text = format!("{}: {} left", of.account, limit(&of.left));
    text = format!("{text} of {} a {}", limit(&of.limit), of.per);
    if of.per == "ever" {
        text = format!("{}: {} left of {}", of.account, limit(&of.left), limit(&of.limit));
    }
    text = format!("{text}; spent {}", amount(&of.spent));
    if of.reserved != api::Amount::default() {
        text = format!("{text}; reserved {}", amount(&of.reserved));
    }
    of.until.as_ref().map_or(text.clone(), |until| format!("{text}; until {until}"))
}

/// What there is a limit of.
pub(crate) fn limit(of: &api::Limit) -> String {
    let tokens = of.tokens.map(|tokens| format!("{tokens} tokens"));
    let (usd, time) = (of.nano_usd.map(dollars), of.time_ms.map(duration));
    tokens.into_iter().chain(usd).chain(time).collect::<Vec<_>>().join(", ")
}

/// Tokens, money and the time of the calls, with what is not known.
pub(crate) fn amount(of: &api::Amount) -> String {
    let price = price(of.nano_usd, of.unpriced_calls.into());
    let mut text = format!("{} tokens, {price}", of.tokens);
    if of.time_ms > 0 {
        text = format!("{text}, {} of calls", duration(of.time_ms));
    }
    text
}

/// Money, with what is not known of it.
fn price(nano_usd: Option<i64>, unpriced: u64) -> String {
    let calls = counted(unpriced, "call");
    match nano_usd {
        Some(nanos) if unpriced == 0 => dollars(nanos),
        Some(nanos) => format!("{} and {calls} of unknown price", dollars(nanos)),
        None => format!("{calls} of unknown price"),
    }
}
