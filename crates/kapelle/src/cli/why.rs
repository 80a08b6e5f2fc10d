//! `why`: why a run or a step stands where it stands.

use kapelle_api::Why;

use super::bill::dollars;
use super::exit::{Exit, Stop};
use super::out;
use super::session::{Settings, quoted, with_reader};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: String,
    /// Only this step
    step: Option<String>,
    /// Print one JSON object: `{"run", "step", "status", "reasons", "unblock", "agent", "attempts", "calls", "steps", "cost"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn why(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let why = with_reader(settings, async |client, _| {
        Ok(match &args.step {
            Some(step) => client.why_step(&args.run, step).await?,
            None => client.why(&args.run).await?,
        })
    })
    .await?;
    if args.json {
        out::json(&why)?;
    } else {
        out::text(&written(&why, settings))?;
    }
    Ok(Exit::Done)
}

fn written(why: &Why, settings: &Settings) -> String {
    let what = match &why.step {
        Some(step) => format!("step {} of run {}", out::shown(step, 80), why.run),
        None => format!("run {}", why.run),
    };
    let mut text = format!("{what}: {}\n", why.status);
    for reason in &why.reasons {
        text += &format!("  {}\n", out::shown(reason, 400));
    }
    if let Some(agent) = &why.agent {
        text += &format!("\nagent {}: {}\n", agent.name, agent.reason);
    }
    if !why.attempts.is_empty() {
        text += &format!("\n{}", out::table(&attempts(why)));
    }
    if !why.calls.is_empty() {
        text += &format!("\n{}", out::table(&calls(why)));
    }
    if !why.steps.is_empty() {
        let mut rows = vec![["STEP", "STATUS", "WHY"].map(str::to_owned).to_vec()];
        rows.extend(why.steps.iter().map(|line| {
            vec![line.step.clone(), line.status.clone(), out::shown(&line.reason, 120)]
        }));
        text += &format!("\n{}", out::table(&rows));
        if why.more_steps > 0 {
            text += &format!("and {} more\n", why.more_steps);
        }
    }
    if !why.unblock.is_empty() {
        text += "\nwhat would help\n";
    }
    for help in &why.unblock {
        text += &format!("  {}\n", help.what);
        if !help.command.is_empty() {
            let words: Vec<String> = help.command.iter().map(|word| quoted(word)).collect();
            text += &format!("    {}\n", settings.command(&words.join(" ")));
        }
    }
    if why.cost.attempts > 0 {
        text += &cost(why);
    }
    text
}

fn attempts(why: &Why) -> Vec<Vec<String>> {
    let mut rows =
        vec![["ATTEMPT", "AGENT", "TOOK", "OUTCOME", "AND THEN"].map(str::to_owned).to_vec()];
    for attempt in &why.attempts {
        let failure = attempt.failure.as_ref().map(|failure| format!("{}; ", failure.code));
        let then = attempt.then.as_deref().unwrap_or_default();
        rows.push(vec![
            attempt.attempt.to_string(),
            attempt.agent.clone(),
            out::duration(attempt.elapsed_ms),
            attempt.outcome.clone(),
            out::shown(&format!("{}{then}", failure.unwrap_or_default()), 160),
        ]);
    }
    rows
}

fn calls(why: &Why) -> Vec<Vec<String>> {
    let heads = ["MODEL", "KEY", "READ", "CACHED", "WRITTEN", "COST", "THE PROMPT, IN BYTES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for call in &why.calls {
        let read = call.fresh_tokens + call.cached_tokens + call.stored_tokens;
        // In the order in which a model reads them.
        let made = ["instructions", "tools", "task", "said", "told"].into_iter().filter_map(|of| {
            let bytes = call.prompt.get(of).filter(|bytes| **bytes > 0)?;
            Some(format!("{of} {bytes}"))
        });
        rows.push(vec![
            call.model.clone(),
            call.key.as_deref().map_or_else(|| "none".to_owned(), |key| out::shown(key, 60)),
            read.to_string(),
            call.cached_tokens.to_string(),
            call.output_tokens.to_string(),
            call.nano_usd.map_or_else(|| "unknown".to_owned(), dollars),
            made.collect::<Vec<_>>().join(", "),
        ]);
        for passed in &call.passed {
            rows.push(vec![format!("instead of {}", out::shown(passed, 160))]);
        }
    }
    rows
}

fn cost(why: &Why) -> String {
    let cost = &why.cost;
    let mut text = format!(
        "\ncost  {} from the first attempt on, {} at work in {}, {} bytes in, {} out",
        out::duration(cost.elapsed_ms),
        out::duration(cost.working_ms),
        out::counted(cost.attempts, "attempt"),
        cost.input_bytes,
        cost.output_bytes
    );
    if cost.effects > 0 {
        text += &format!(", {} outside calls recorded", cost.effects);
    }
    if cost.input_tokens + cost.output_tokens > 0 {
        let (read, written) = (cost.input_tokens, cost.output_tokens);
        text += &format!(", {read} tokens read and {written} written");
    }
    text + "\n"
}
