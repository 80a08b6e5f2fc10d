//! Events and wants as sentences.

use kapelle_core::port::agent::{OnUnknown, Question, Usage};
use kapelle_core::run::{
    Blocked, EffectId, Event, Forked, Outcome, Resolved, Skipped, Status, TakenEnd,
};
use kapelle_core::{Attempt, StepNo, Timestamp, Value, canonical};

use crate::driver::{BIRTH, Driver};

/// What happened.
pub(super) fn of(stage: &Driver, event: &Event) -> String {
    let name = |no: &StepNo| name(stage, *no);
    match event {
        Event::RunCreated(_) => "run created".into(),
        Event::RunForked(forked) => forked_from(stage, forked),
        Event::RunStarted => "run started".into(),
        Event::RunAdopted => "run adopted".into(),
        Event::RunPaused { by, .. } => format!("run paused by {by}"),
        Event::RunResumed { by } => format!("run resumed by {by}"),
        Event::RunStopping { verdict, by, reason } => {
            format!("run stopping by {by}, to be {}: {reason}", verdict.as_str())
        }
        Event::RunCompleted { verdict, output, detail } => {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            format!("run {} with {}{detail}", verdict.as_str(), value(stage, output))
        }
        Event::StepStarted { .. } => started(stage, event),
        Event::StepRetrying { step, attempt, failure, at, definite } => {
            let key = if *definite { "a new key" } else { "the same key" };
            let (step, at, key) = (name(step), time(*at), format!("with {key}"));
            format!("{step}#{attempt} failed ({}), again at {at} {key}", failure.message)
        }
        Event::StepCompleted { step, value: v, .. } => {
            format!("{} done: {}", name(step), value(stage, v))
        }
        Event::StepFailed { step, failure, .. } => {
            format!("{} failed ({}): {}", name(step), failure.kind.as_str(), failure.message)
        }
        Event::StepSkipped { step, why } => {
            format!("{} skipped: {}", name(step), skipped(stage, why))
        }
        Event::StepBlocked { step, why, .. } => format!("{} blocked: {}", name(step), blocked(why)),
        Event::StepResolved { step, how, by, .. } => {
            format!("{} resolved by {by}: {}", name(step), resolved(stage, how))
        }
        Event::ApprovalRequested { step, until, gate } => {
            let until = until.map_or(String::new(), |until| format!(" until {}", time(until)));
            let gate = if *gate { " before it starts" } else { "" };
            format!("{} asks{gate}{until}", name(step))
        }
        Event::ApprovalDecided { step, approved, by, .. } => {
            format!("{} {} by {by}", name(step), if *approved { "approved" } else { "rejected" })
        }
        Event::StepsGrown { by, parts, join, .. } => {
            format!("{} grew {} parts, join {join:?}", name(by), parts.count())
        }
        Event::StepsDropped { steps } => {
            format!("dropped: {}", steps.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        Event::BudgetRaised { step, tokens, nanos, ms, by } => {
            let whose = step.as_ref().map_or("run".to_owned(), &name);
            let time = if *ms == 0 { String::new() } else { format!(" and {ms} ms") };
            format!("{whose} may spend {tokens} tokens and {nanos} n${time} more, says {by}")
        }
        Event::EffectStarted { step, attempt, effect, reserve } => {
            let reserve =
                reserve.as_ref().map_or(String::new(), |r| format!(", reserves {}", used(r)));
            format!("{}#{attempt} effect {} started{reserve}", name(step), key(effect))
        }
        Event::EffectRecorded { step, attempt, effect, outcome, used: of } => {
            let of = of.as_ref().map_or(String::new(), |of| format!(", used {}", used(of)));
            let end = match outcome {
                Outcome::Done(done) => format!("done: {}", value(stage, done)),
                Outcome::Failed(failure) => format!("failed: {}", failure.message),
            };
            format!("{}#{attempt} effect {} {end}{of}", name(step), key(effect))
        }
        Event::MessageSent { step, attempt, ordinal, to, text } => {
            let to = to.iter().map(name).collect::<Vec<_>>().join(" ");
            format!("{}#{attempt} says in call {ordinal} to {to}: {}", name(step), shown(text))
        }
        Event::QuestionAsked { step, attempt, effect, question } => {
            format!("{}#{attempt} asks in {}: {}", name(step), key(effect), asked(question))
        }
        Event::QuestionAnswered { step, ordinal, answer, by } => {
            let answer = value(stage, answer);
            format!("{} has its answer {ordinal} of {by}: {}", name(step), shown(&answer))
        }
    }
}

fn forked_from(stage: &Driver, forked: &Forked) -> String {
    let mut text = format!("run forked at {}", name(stage, forked.from));
    for taken in &forked.taken {
        let end = match &taken.end {
            TakenEnd::Completed { value: v, .. } => format!("done: {}", value(stage, v)),
            TakenEnd::Failed { failure } => format!("failed: {}", failure.message),
            TakenEnd::Skipped { why } => format!("skipped: {}", skipped(stage, why)),
        };
        text += &format!("\n    takes over {} {end}", name(stage, taken.step));
    }
    text
}

fn started(stage: &Driver, event: &Event) -> String {
    let Event::StepStarted { step, attempt, generation, agent, input, deadline, on_unknown } =
        event
    else {
        return String::new();
    };
    let mut text = format!("{}#{attempt} started by {agent}", name(stage, *step));
    if *input != Value::null() {
        text += &format!(" with {}", value(stage, input));
    }
    if *generation > 0 {
        text += &format!(", generation {generation}");
    }
    if *on_unknown != OnUnknown::Retry {
        text += &format!(", unknown: {}", format!("{on_unknown:?}").to_lowercase());
    }
    let deaths = stage.run.step(*step).map_or(0, |step| step.deaths());
    if deaths > 0 {
        text += &format!(", nodes lost: {deaths}");
    }
    if let Some(complaint) = stage.run.step(*step).and_then(|step| step.complaint()) {
        text += &format!(", told `{complaint}`");
    }
    text + &format!(", until {}", time(*deadline))
}

/// What should be under way now.
pub(super) fn wants(stage: &Driver) -> String {
    let (run, wants) = (&stage.run, stage.run.wants());
    if let Status::Ended(verdict) = run.status() {
        return format!("ended: {}", verdict.as_str());
    }
    let mut parts = Vec::new();
    let mut say = |what: &str, list: Vec<String>| {
        if !list.is_empty() {
            parts.push(format!("{what} {}", list.join(" ")));
        }
    };
    let attempt = |(id, attempt): &(kapelle_core::StepId, Attempt)| format!("{id}#{attempt}");
    let text = |id: &kapelle_core::StepId| id.to_string();
    say("running", wants.running.iter().map(attempt).collect());
    say("ready", wants.ready.iter().map(text).collect());
    say("retry", wants.retries.iter().map(|(id, at)| format!("{id} at {}", time(*at))).collect());
    say("approval", wants.approvals.iter().map(text).collect());
    let help = |(id, why): &(kapelle_core::StepId, Blocked)| format!("{id} ({})", blocked(why));
    say("help", wants.blocked.iter().map(help).collect());
    say("decision", wants.deciding.iter().map(text).collect());
    say("timer", wants.timer.map(time).into_iter().collect());
    if wants.end {
        parts.push("end".into());
    }
    format!("{}: {}", run.status().as_str(), parts.join(", "))
}

fn name(stage: &Driver, no: StepNo) -> String {
    stage.run.name(no).map_or_else(|| format!("@{}", no.0), ToString::to_string)
}

fn value(stage: &Driver, value: &Value) -> String {
    let known = stage.run.json(value, &stage.values).ok();
    match (value, known) {
        (Value::Digest { len, .. }, _) => format!("({len} bytes)"),
        (Value::List { .. }, Some(json)) => format!("list {}", canonical(&json)),
        (Value::Sinks, Some(json)) => match canonical(&json) {
            long if long.len() > kapelle_core::INLINE_MAX => {
                format!("sinks ({} bytes)", long.len())
            }
            short => format!("sinks {short}"),
        },
        (Value::Picked(_), Some(json)) => format!("picked {}", canonical(&json)),
        (_, Some(json)) => canonical(&json),
        (_, None) => "(not at hand)".into(),
    }
}

fn key(effect: &EffectId) -> String {
    format!("{} ({}/{})", effect.name, effect.ordinal, effect.generation)
}

fn skipped(stage: &Driver, why: &Skipped) -> String {
    match why {
        Skipped::Condition => "its condition is false".into(),
        Skipped::Needs { step, blame } => {
            format!("needs {}, blame {}", name(stage, *step), name(stage, *blame))
        }
        Skipped::Person => "somebody said so".into(),
    }
}

fn used(usage: &Usage) -> String {
    let tokens = usage.input_tokens + usage.output_tokens;
    usage.cost_nanos.map_or_else(|| tokens.to_string(), |nanos| format!("{tokens}/{nanos}n$"))
}

fn asked(question: &Question) -> String {
    let choices = question.choices.join("|");
    let choices = if choices.is_empty() { choices } else { format!(" ({choices})") };
    format!("{}{choices}", question.text)
}

fn shown(text: &str) -> String {
    if text.len() > 80 { format!("({} bytes)", text.len()) } else { text.into() }
}

fn blocked(why: &Blocked) -> String {
    match why {
        Blocked::InDoubt { deaths: 1.., .. } => "poison".into(),
        Blocked::InDoubt { workers: workers @ 1.., .. } => format!("{workers} workers lost"),
        Blocked::InDoubt { ordinal: 0, .. } => "in doubt".into(),
        Blocked::InDoubt { ordinal, .. } => format!("call {ordinal} in doubt"),
        Blocked::NoAgent { agent, lacks } if lacks.is_empty() => format!("no agent {agent}"),
        Blocked::NoAgent { agent, lacks } => format!("no {agent} here: {lacks}"),
        Blocked::Budget { own: true, .. } => "its budget".into(),
        Blocked::Budget { own: false, .. } => "the run's budget".into(),
        Blocked::Account { limit, .. } => format!("account: {limit}"),
        Blocked::Question { ordinal, question } => format!("answer {ordinal}: {}", asked(question)),
    }
}

fn resolved(stage: &Driver, how: &Resolved) -> String {
    match how {
        Resolved::Retry => "try again".into(),
        Resolved::Done(done) => format!("done with {}", value(stage, done)),
        Resolved::Skip => "skip".into(),
        Resolved::Fail => "failed".into(),
    }
}

fn time(at: Timestamp) -> String {
    let span = at.since(BIRTH);
    if span.is_zero() { "+0s".into() } else { format!("+{span:?}") }
}
