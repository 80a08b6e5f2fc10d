//! `runs`: looking at runs, and telling them what to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kapelle_api::{self as api, Client, Decision, Resolve, Wish};

use super::exit::{Exit, Stop};
use super::follow::{Wanted, follow, follow_there, watch};
use super::run::{How, ended};
use super::session::{Settings, with_client, with_reader};
use super::view::View;
use super::{bill, history, out};
use crate::cassette::{OnRecord, Tape};
use crate::node::Node;

/// A run: its id, a unique end of it (4 or more characters), or its task id
pub(super) type RunRef = String;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List runs, newest first
    List(List),
    /// Show a run and its steps
    Show {
        /// The run: its id, a unique end of it (4 or more characters), or its task id
        run: RunRef,
        /// As it was after this event
        #[arg(long, value_name = "SEQ")]
        at: Option<u64>,
        /// Print one JSON object: `{"id", "workflow", "status", "steps", "output", "artifacts", "bytes"}`
        #[arg(long)]
        json: bool,
    },
    /// Print what has happened in a run so far
    Events {
        /// The run: its id, a unique end of it (4 or more characters), or its task id
        run: RunRef,
        /// Only what came after this event
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// Print one JSON object per event, as `run --json` does
        #[arg(long)]
        json: bool,
    },
    /// Show a run as it goes on, without working on it; Ctrl-C leaves it alone
    Watch {
        /// The run: its id, a unique end of it (4 or more characters), or its task id
        run: RunRef,
        /// Print one JSON object per event, as `run --json` does
        #[arg(long)]
        json: bool,
    },
    /// Begin no new attempts; those that are running go on to their end
    Pause(Tell),
    /// Go on with a run in the foreground, to its end
    Resume(Resume),
    /// End a run; what is running is told to stop
    Cancel(Tell),
    /// Answer a step that waits for approval
    Approve(Approve),
    /// Say what to do about a blocked step
    Resolve(Resolution),
    /// Answer what a step asks a person; it goes on with that
    Answer(Answer),
    /// Let a run spend more, or a step of it; steps that wait for that go on
    Budget(Budget),
    /// Show what a run has cost: by step, by model, reserved and of unknown outcome
    Bill(bill::Bill),
    /// Show what differs between two runs: plan, inputs, steps, output
    Diff {
        /// The one: its id, a unique end of it (4 or more characters), or its task id
        run: RunRef,
        /// The other
        other: RunRef,
        /// Print one JSON object: `{"a", "b", "differences": [{"path", "a", "b"}], "durations"}`
        #[arg(long)]
        json: bool,
    },
    /// Do a run anew from a step on, with what it has done before and beside that
    Fork(history::Fork),
    /// Write runs that have ended to stdout, as one file
    Export {
        /// The runs: ids, unique ends of them (4 or more characters), or task ids
        #[arg(required = true)]
        runs: Vec<RunRef>,
    },
    /// Take in the runs of a file that `runs export` wrote
    Import(history::Import),
    /// Remove runs that have ended, and give their space back to the disk
    Prune(history::Prune),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only those with this status: pending, running, waiting, paused, stopping, completed, completed_with_errors, failed, cancelled
    #[arg(long)]
    status: Option<String>,
    /// Only those of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON object: `{"items", "next_cursor"}`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tell {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
}

/// Who gives a command, and how the answer is printed.
#[derive(Debug, clap::Args)]
struct Who {
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true)]
    by: Option<String>,
    /// Print one JSON object: `{"id", "status", "seq", "worked_on"}`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    run: Option<RunRef>,
    /// All runs that have not ended
    #[arg(long)]
    all: bool,
    /// Go on with the cassette to which the run was recorded
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "replay"])]
    record: Option<PathBuf>,
    /// Take what the outside answers out of this file, and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    replay: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// The step that waits; may be left out where only one does
    step: Option<String>,
    /// Say no
    #[arg(long)]
    reject: bool,
    /// What there is to say about it
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resolution {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// The step that is blocked
    step: String,
    /// What to do
    #[arg(long, value_enum)]
    action: Action,
    /// For `complete`, which needs it: what the step gave, as JSON (`null` for nothing) or text
    #[arg(long, value_name = "JSON")]
    output: Option<String>,
    /// What there is to say about it
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Answer {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// The step that asks
    step: String,
    /// What it wants to know; where it names the answers there are, one of them
    answer: String,
    /// Only if this is the call that asks: its number, as `runs events --json` tells it
    #[arg(long, value_name = "N")]
    ordinal: Option<u32>,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Budget {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: RunRef,
    /// The step, if the budget is its own
    #[arg(long)]
    step: Option<String>,
    /// So many more tokens
    #[arg(long, required_unless_present_any = ["usd", "time"])]
    tokens: Option<u64>,
    /// So many more US dollars
    #[arg(long)]
    usd: Option<f64>,
    /// So much more time, such as `10m`
    #[arg(long, value_name = "DURATION", value_parser = span)]
    time: Option<Duration>,
    #[command(flatten)]
    who: Who,
}

fn span(text: &str) -> Result<Duration, String> {
    kapelle_core::parse_duration(text)
        .ok_or_else(|| "say it as `500ms`, `30s`, `10m` or `2h`".to_owned())
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Action {
    /// Try again, with the same key
    Retry,
    /// The call was made; go on with its output
    Complete,
    /// Do without the step
    Skip,
    /// Take it as failed
    Fail,
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    match command {
        Command::Resume(args) => resume(args, settings).await,
        Command::Fork(args) => history::fork(args, settings).await,
        Command::Import(args) => history::import(args, settings).await,
        Command::Watch { run, json } => {
            let view = match settings.server() {
                Some(_) => View::without_plan(json),
                None => View::new(json, 1),
            };
            let shown = (view, How { json, wait: false }.people());
            with_reader(settings, async |client, node| {
                watch(client, node, &run, shown, settings).await
            })
            .await
        }
        command @ (Command::List(_)
        | Command::Show { .. }
        | Command::Events { .. }
        | Command::Diff { .. }
        | Command::Bill(_)
        | Command::Export { .. }) => {
            with_reader(settings, async |client, node| ask(command, client, node, settings).await)
                .await
        }
        command => {
            with_client(settings, async |client, node| ask(command, client, node, settings).await)
                .await
        }
    }
}

async fn ask(
    command: Command,
    client: &Client,
    node: Option<&Node>,
    settings: &Settings,
) -> Result<Exit, Stop> {
    let teller = Teller { node, settings };
    match command {
        Command::List(args) => list(args, client).await?,
        Command::Show { run, at: None, json } => show(client.run(&run).await?, json)?,
        Command::Show { run, at: Some(seq), json } => {
            let then = client.run_at(&run, seq).await?;
            if !json {
                out::line(&format!("event     {}, {}", then.seq, then.updated_at))?;
            }
            show(then, json)?;
        }
        Command::Events { run, after, json } => events(client, &run, after, json).await?,
        Command::Pause(Tell { run, reason, who }) => {
            let wish = Wish { by: who.by.clone(), reason };
            teller.told(&client.pause(&run, &wish).await?, who.json).await?;
        }
        Command::Cancel(Tell { run, reason, who }) => {
            let wish = Wish { by: who.by.clone(), reason };
            let mut told = client.cancel(&run, &wish).await?;
            if told.status == "stopping" && !teller.works_elsewhere(&told).await? {
                told = to_its_end(client, told).await?;
            }
            teller.told(&told, who.json).await?;
        }
        Command::Approve(args) => approve(args, client, &teller).await?,
        Command::Resolve(args) => resolve(args, client, &teller).await?,
        Command::Answer(Answer { run, step, answer, ordinal, who }) => {
            let word = api::Answer { answer, ordinal, by: who.by.clone() };
            teller.told(&client.answer(&run, &step, &word).await?, who.json).await?;
        }
        Command::Budget(Budget { run, step, tokens, usd, time, who }) => {
            let time_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let word = api::Raise { step, tokens, usd, time_ms, by: who.by.clone() };
            teller.told(&client.raise(&run, &word).await?, who.json).await?;
        }
        Command::Bill(args) => bill::bill(args, client).await?,
        Command::Diff { run, other, json } => {
            history::diff(&client.diff(&run, &other).await?, json)?;
        }
        Command::Export { runs } => history::export(&runs, client).await?,
        Command::Prune(args) => history::prune(args, client).await?,
        Command::Watch { .. } | Command::Resume(_) | Command::Fork(_) | Command::Import(_) => {
            unreachable!("done by `perform`")
        }
    }
    Ok(Exit::Done)
}

async fn list(args: List, client: &Client) -> Result<(), Stop> {
    let List { status, workflow, limit, cursor, json } = args;
    let query = api::RunsQuery { status, workflow, limit: Some(limit), cursor };
    let page = client.runs(&query).await?;
    if json {
        return Ok(out::json(&page)?);
    }
    let mut rows =
        vec![["RUN", "WORKFLOW", "STATUS", "CREATED", "TASK"].map(str::to_owned).to_vec()];
    for run in page.items {
        let created = run.created_at.get(..19).unwrap_or_default().replace('T', " ");
        rows.push(vec![run.id, run.workflow, run.status, created, run.task_id.unwrap_or_default()]);
    }
    out::text(&out::table(&rows))?;
    if let Some(cursor) = page.next_cursor {
        out::say(&format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}

fn show(run: api::Run, json: bool) -> Result<(), Stop> {
    if json {
        return Ok(out::json(&run)?);
    }
    let mut text =
        format!("run       {}\nworkflow  {}\nstatus    {}", run.id, run.workflow, run.status);
    if let Some(detail) = &run.detail {
        text += &format!(" ({})", out::shown(detail, 300));
    }
    if let Some(forked) = &run.forked {
        text += &format!("\nforked    from {} at `{}`", forked.run, forked.from);
    }
    if let Some(task_id) = &run.task_id {
        text += &format!("\ntask      {task_id}");
    }
    text += &format!("\ncreated   {}", run.created_at);
    if let Some(ended) = &run.ended_at {
        text += &format!("\nended     {ended}");
    }
    if let Some(node) = &run.node {
        text += &format!("\nnode      {} (process {})", node.id, node.pid);
    }
    if let Some(bytes) = run.bytes {
        text += &format!("\nbytes     {bytes}");
    }
    text += "\n\n";
    let mut rows = vec![["STEP", "STATUS", "AGENT", "ATTEMPTS", "WHY"].map(str::to_owned).to_vec()];
    for step in run.steps {
        let failed = step.failure.map(|failure| format!("{}: {}", failure.code, failure.message));
        let why = step.reason.or(failed).unwrap_or_default();
        let agent = step.agent.unwrap_or_else(|| "a person".to_owned());
        let why = out::shown(&why, 120);
        rows.push(vec![step.id, step.status, agent, step.attempts.to_string(), why]);
    }
    text += &out::table(&rows);
    for api::Message { from, to, text: said, .. } in &run.messages {
        text += &format!("\n{from} to {}: {}", to.join(", "), out::shown(said, 160));
    }
    for artifact in run.artifacts {
        text += &format!("\n{}  {}", out::shown(&artifact.name, 80), artifact.digest);
    }
    Ok(out::line(&text)?)
}

async fn events(client: &Client, run: &str, mut after: u64, json: bool) -> Result<(), Stop> {
    let mut view = if json { View::Json } else { View::listed() };
    loop {
        let page = client.events_page(run, after).await?;
        for event in &page.items {
            view.event(event)?;
        }
        match page.next_cursor.and_then(|cursor| cursor.parse().ok()) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn resume(args: Resume, settings: &Settings) -> Result<Exit, Stop> {
    if let Some(client) = settings.server() {
        let Some(run) = args.run.filter(|_| args.record.is_none() && args.replay.is_none()) else {
            let message =
                "a server works on all runs: name the one that is paused, without a cassette";
            return Err(Stop::usage(message));
        };
        let run = client.resume(&run, &Wish::default()).await?.id;
        return follow_there(client, &run, None, &args.how, settings).await;
    }
    let tape = tape(&args, settings).await?;
    settings.expect_store()?;
    let node = settings.open_with(tape.clone()).await?;
    let client = node.app.client();
    let runs = match args.run {
        Some(run) => vec![run],
        None => open_runs(&client).await?,
    };
    if runs.is_empty() {
        out::say("there is nothing to resume");
    }
    let view = View::new(args.how.json, runs.len());
    let wanted = runs.into_iter().map(|run| Wanted { run, fresh: false }).collect();
    let end = follow(node, settings, wanted, args.how.people(), view).await;
    ended(tape.as_deref(), &end);
    end
}

/// The cassette with which the run goes on, if one is wanted.
async fn tape(args: &Resume, settings: &Settings) -> Result<Option<Arc<Tape>>, Stop> {
    let (Some(run), Some(file)) = (&args.run, args.record.as_ref().or(args.replay.as_ref())) else {
        return Ok(None);
    };
    with_reader(settings, async |client, node| {
        let Some(node) = node else { return Ok(None) };
        let id = client.run(run).await?.id.parse().map_err(Stop::usage)?;
        if let Some(other) = node.engine().owner(id).await? {
            let word = format!("process {} works on the run: its calls are not ours", other.pid);
            return Err(Stop::usage(word));
        }
        let run = node.engine().run(node.app.tenant(), id).await?;
        let run = OnRecord::of(&run, &settings.known_agents());
        let tape = match args.record {
            Some(_) => Tape::append(file, &run),
            None => Tape::play_on(file, &run),
        };
        let tape = tape.map_err(Stop::usage)?;
        tape.is_about(id);
        Ok(Some(Arc::new(tape)))
    })
    .await
}

async fn open_runs(client: &Client) -> Result<Vec<String>, Stop> {
    let mut open = Vec::new();
    let mut query = api::RunsQuery { limit: Some(1_000), ..api::RunsQuery::default() };
    loop {
        let page = client.runs(&query).await?;
        let going_on = page.items.into_iter().filter(|run| run.ended_at.is_none());
        open.extend(going_on.map(|run| run.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(open);
        }
    }
}

async fn approve(args: Approve, client: &Client, teller: &Teller<'_>) -> Result<(), Stop> {
    let step = match args.step {
        Some(step) => step,
        None => only_asked(client, &args.run).await?,
    };
    let decision = if args.reject { Decision::Reject } else { Decision::Approve };
    let word = api::Approval { decision, by: args.who.by.clone(), comment: args.comment };
    let told =
        client.approve(&args.run, &step, &word).await.map_err(|error| match error.code() {
            Some("not_yours") => Stop::usage(format!("{error}: say who you are with `--by NAME`")),
            _ => error.into(),
        })?;
    teller.told(&told, args.who.json).await
}

async fn only_asked(client: &Client, run: &str) -> Result<String, Stop> {
    let steps = client.run(run).await?.steps;
    let asked = steps.into_iter().filter(|step| step.status == "waiting_approval");
    let mut asked: Vec<String> = asked.map(|step| step.id).collect();
    match (asked.pop(), asked.is_empty()) {
        (Some(step), true) => Ok(step),
        (Some(step), false) => {
            let all = asked.join("`, `");
            Err(Stop::usage(format!("several steps wait for approval: `{all}`, `{step}`")))
        }
        (None, _) => Err(Stop::usage("no step of the run waits for approval")),
    }
}

async fn resolve(args: Resolution, client: &Client, teller: &Teller<'_>) -> Result<(), Stop> {
    let output = args.output.map(|text| {
        serde_json::from_str(&text).unwrap_or_else(|_| api::Json::String(text.clone()))
    });
    let action = match args.action {
        Action::Retry => Resolve::Retry,
        Action::Complete => Resolve::Complete,
        Action::Skip => Resolve::Skip,
        Action::Fail => Resolve::Fail,
    };
    let word = api::Resolution { action, output, by: args.who.by.clone(), comment: args.comment };
    teller.told(&client.resolve(&args.run, &args.step, &word).await?, args.who.json).await
}

/// Waits for a run that this process is stopping.
async fn to_its_end(client: &Client, mut told: api::Told) -> Result<api::Told, Stop> {
    let mut events = client.events(&told.id, told.seq);
    while let Some(event) = events.next().await {
        if let api::EventKind::RunCompleted { verdict, .. } = event?.kind {
            told.status = verdict;
        }
    }
    told.seq = events.last_seq();
    Ok(told)
}

/// Tells what came of a command.
struct Teller<'a> {
    /// `None`: a server was told, which works on all runs.
    node: Option<&'a Node>,
    settings: &'a Settings,
}

impl Teller<'_> {
    /// Whether another process works on the run, or did until its end: this one is about to leave.
    async fn works_elsewhere(&self, told: &api::Told) -> Result<bool, Stop> {
        let Some(node) = self.node else { return Ok(true) };
        let run = told.id.parse().map_err(Stop::usage)?;
        let engine = node.engine();
        if !told.worked_on || engine.owner(run).await?.is_some() {
            return Ok(told.worked_on);
        }
        let row = engine.journal().run(node.app.tenant(), run).await?;
        Ok(row.is_some_and(|row| !row.open))
    }

    /// Prints the answer, and how to go on where nobody works on the run.
    async fn told(&self, told: &api::Told, json: bool) -> Result<(), Stop> {
        let worked_on = self.works_elsewhere(told).await?;
        if json {
            out::json(&api::Told { worked_on, ..told.clone() })?;
        } else {
            out::line(&format!("run {}: {}", told.id, told.status))?;
        }
        if !worked_on && !is_verdict(&told.status) {
            let resume = self.settings.command(&format!("runs resume {}", told.id));
            out::say(&format!("nobody works on it now; go on with: {resume}"));
        }
        Ok(())
    }
}

fn is_verdict(status: &str) -> bool {
    matches!(status, "completed" | "completed_with_errors" | "failed" | "cancelled")
}
