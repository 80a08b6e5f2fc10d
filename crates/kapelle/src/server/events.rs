//! What happens in a run, as it goes over the wire.

use kapelle_api::{self as api, EventKind};
use kapelle_core::plan::Work;
use kapelle_core::port::agent::{Failure, Question};
use kapelle_core::run::{Blocked, Event, Outcome, Resolved, Run, Skipped};
use kapelle_core::{StepNo, Value};
use kapelle_engine::{Progressed, SeenEvent};

use super::App;
use super::artifacts::{artifact_of, of_run};
use super::bill;
use super::problem::Problem;

/// An event as it goes over the wire. The last one of a run carries its output.
pub(super) async fn event_of(app: &App, seen: &SeenEvent) -> Result<api::Event, Problem> {
    let kind = match &seen.event {
        Event::RunCompleted { verdict, output, detail } => {
            let run = app.engine().run(app.tenant(), seen.run).await?;
            let output = app.engine().value(app.tenant(), &run, output).await?;
            let elapsed = seen.at.since(run.created_at()).as_millis();
            EventKind::RunCompleted {
                verdict: verdict.as_str().to_owned(),
                output: (*output).clone(),
                artifacts: of_run(app, &run),
                elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
                detail: text(detail),
            }
        }
        Event::ApprovalRequested { until, gate: false, .. } => EventKind::ApprovalRequested {
            until: until.map(|until| until.to_string()),
            gate: false,
            by: deciders(&app.engine().run(app.tenant(), seen.run).await?, seen.step()),
        },
        other => kind_of(other, seen),
    };
    Ok(api::Event {
        seq: Some(seen.seq),
        at: Some(seen.at.to_string()),
        run: seen.run.to_string(),
        step: seen.step().map(str::to_owned),
        kind,
    })
}

/// Who may decide a step that is an approval.
fn deciders(run: &Run, step: Option<&str>) -> Vec<String> {
    // A step that was grown has the name of its pattern, and a number.
    let name = step.and_then(|step| step.split('.').next()).unwrap_or_default();
    let spec = run.plan().plan.steps.iter().find(|spec| spec.id.as_str() == name);
    match spec.map(|spec| &spec.work) {
        Some(Work::Approval { by, .. }) if !by.iter().any(|who| &**who == "anyone") => {
            by.iter().map(|who| who.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

fn kind_of(event: &Event, seen: &SeenEvent) -> EventKind {
    run_kind(event, seen)
        .or_else(|| step_kind(event, seen))
        .unwrap_or_else(|| person_kind(event, seen))
}

fn run_kind(event: &Event, seen: &SeenEvent) -> Option<EventKind> {
    Some(match event {
        Event::RunForked(forked) => EventKind::RunForked {
            parent: forked.run.to_string(),
            parent_seq: forked.seq,
            from: seen.name(forked.from).to_owned(),
            taken: forked.taken.len(),
        },
        Event::RunCreated(created) => EventKind::RunCreated {
            workflow: created.workflow.to_string(),
            task_id: created.task_id.as_deref().map(str::to_owned),
            root: created.root.to_string(),
        },
        Event::RunStarted => EventKind::RunStarted {},
        Event::RunAdopted => EventKind::RunAdopted {},
        Event::RunPaused { by, reason } => EventKind::RunPaused {
            by: Some(by.to_string()),
            reason: reason.to_string(),
            resume: None,
        },
        Event::RunResumed { by } => EventKind::RunResumed { by: by.to_string() },
        Event::BudgetRaised { tokens, nanos, ms, by, .. } => {
            let (tokens, nano_usd, time_ms) = (*tokens, *nanos, *ms);
            EventKind::BudgetRaised { tokens, nano_usd, time_ms, by: by.to_string() }
        }
        Event::RunStopping { verdict, by, reason } => EventKind::RunStopping {
            verdict: verdict.as_str().to_owned(),
            by: by.to_string(),
            reason: reason.to_string(),
        },
        _ => return None,
    })
}

fn step_kind(event: &Event, seen: &SeenEvent) -> Option<EventKind> {
    Some(match event {
        Event::StepStarted { attempt, agent, deadline, .. } => EventKind::StepStarted {
            attempt: attempt.0,
            agent: agent.to_string(),
            deadline: deadline.to_string(),
        },
        Event::StepRetrying { attempt, failure, at, .. } => EventKind::StepRetrying {
            attempt: attempt.0,
            failure: failure_of(failure),
            retry_at: at.to_string(),
        },
        Event::StepCompleted { attempt, value, artifacts, engine, .. } => {
            let (output, output_digest) = match value {
                Value::Inline(json) => (Some((**json).clone()), None),
                Value::Digest { digest, .. } => (None, Some(digest.to_string())),
                Value::List { .. } | Value::Picked(_) | Value::Sinks => (None, None),
            };
            EventKind::StepCompleted {
                attempt: attempt.map(|attempt| attempt.0),
                output,
                output_digest,
                artifacts: artifacts.iter().map(|artifact| artifact_of(artifact, None)).collect(),
                engine: engine.as_deref().map(str::to_owned),
            }
        }
        Event::StepFailed { attempt, failure, .. } => EventKind::StepFailed {
            attempt: attempt.map(|attempt| attempt.0),
            failure: failure_of(failure),
        },
        Event::StepSkipped { why, .. } => skipped(why, seen),
        Event::StepsGrown { parts, .. } => EventKind::StepsGrown { count: parts.count() },
        Event::StepsDropped { steps } => EventKind::StepsDropped {
            steps: steps.iter().map(|no| seen.name(*no).to_owned()).collect(),
        },
        Event::EffectStarted { attempt, effect, .. } => EventKind::EffectStarted {
            attempt: attempt.0,
            ordinal: effect.ordinal,
            name: effect.name.to_string(),
        },
        Event::EffectRecorded { attempt, effect, outcome, .. } => EventKind::EffectRecorded {
            attempt: attempt.0,
            ordinal: effect.ordinal,
            name: effect.name.to_string(),
            failure: match outcome {
                Outcome::Done(_) => None,
                Outcome::Failed(failure) => Some(failure_of(failure)),
            },
            denied: tool_record(outcome).is_some_and(bill::is_denied),
            warnings: tool_record(outcome).map(bill::warnings).unwrap_or_default(),
        },
        Event::MessageSent { attempt, ordinal, to, text, .. } => EventKind::MessageSent {
            attempt: attempt.0,
            ordinal: *ordinal,
            to: to.iter().map(|no| seen.name(*no).to_owned()).collect(),
            text: text.to_string(),
        },
        _ => return None,
    })
}

fn person_kind(event: &Event, seen: &SeenEvent) -> EventKind {
    match event {
        Event::StepBlocked { attempt, why, .. } => blocked(attempt.map(|a| a.0), why),
        Event::StepResolved { how, by, comment, .. } => EventKind::StepResolved {
            action: match how {
                Resolved::Retry => "retry",
                Resolved::Done(_) => "complete",
                Resolved::Skip => "skip",
                Resolved::Fail => "fail",
            }
            .to_owned(),
            by: by.to_string(),
            comment: comment.to_string(),
        },
        Event::ApprovalRequested { until, gate, .. } => EventKind::ApprovalRequested {
            until: until.map(|until| until.to_string()),
            gate: *gate,
            by: Vec::new(),
        },
        Event::ApprovalDecided { approved, by, comment, .. } => EventKind::ApprovalDecided {
            approved: *approved,
            by: by.to_string(),
            comment: comment.to_string(),
        },
        Event::QuestionAsked { attempt, effect, question, .. } => EventKind::QuestionAsked {
            attempt: attempt.0,
            ordinal: effect.ordinal,
            question: question.text.to_string(),
            choices: choices(question),
        },
        Event::QuestionAnswered { ordinal, answer, by, .. } => EventKind::QuestionAnswered {
            ordinal: *ordinal,
            answer: match answer {
                Value::Inline(json) => json["answer"].as_str().unwrap_or_default().to_owned(),
                _ => String::new(),
            },
            by: by.to_string(),
        },
        other => unreachable!("event {} of run {}: {other:?}", seen.seq, seen.run),
    }
}

fn skipped(why: &Skipped, seen: &SeenEvent) -> EventKind {
    let name = |no: &StepNo| Some(seen.name(*no).to_owned());
    let (reason, needs, blame) = match why {
        Skipped::Condition => ("condition", None, None),
        Skipped::Person => ("person", None, None),
        Skipped::Needs { step, blame } => ("needs", name(step), name(blame)),
    };
    EventKind::StepSkipped { reason: reason.to_owned(), needs, blame }
}

/// What is recorded of a call, as far as it is short.
fn tool_record(outcome: &Outcome) -> Option<&kapelle_core::Json> {
    match outcome {
        Outcome::Done(Value::Inline(record)) => Some(record),
        Outcome::Done(_) | Outcome::Failed(_) => None,
    }
}

fn blocked(attempt: Option<u32>, why: &Blocked) -> EventKind {
    let limit = match why {
        Blocked::Account { limit, .. } => Some(limit.to_string()),
        Blocked::NoAgent { lacks, .. } if !lacks.is_empty() => Some(lacks.to_string()),
        Blocked::Budget { said, .. } if !said.is_empty() => Some(said.to_string()),
        _ => None,
    };
    let (reason, agent, ordinal, asks) = match why {
        Blocked::InDoubt { ordinal, deaths: 0, workers: 0 } => {
            ("in_doubt", None, Some(*ordinal), None)
        }
        Blocked::InDoubt { ordinal, .. } => ("poison", None, Some(*ordinal), None),
        Blocked::Budget { own: true, .. } => ("budget", None, None, None),
        Blocked::Budget { own: false, .. } => ("run_budget", None, None, None),
        Blocked::Account { .. } => ("account", None, None, None),
        Blocked::NoAgent { agent, .. } => ("no_agent", Some(agent.to_string()), None, None),
        Blocked::Question { ordinal, question } => {
            ("question", None, Some(*ordinal), Some(question))
        }
    };
    EventKind::StepBlocked {
        reason: reason.to_owned(),
        attempt,
        agent,
        limit,
        ordinal,
        question: asks.map(|question| question.text.to_string()),
        choices: asks.map(choices).unwrap_or_default(),
    }
}

fn choices(question: &Question) -> Vec<String> {
    question.choices.iter().map(|choice| choice.to_string()).collect()
}

/// How far an attempt is: live only.
pub(super) fn progress_of(progressed: &Progressed) -> api::Event {
    api::Event {
        seq: None,
        at: None,
        run: progressed.run.to_string(),
        step: Some(progressed.step.to_string()),
        kind: EventKind::StepProgress {
            attempt: progressed.attempt.0,
            message: progressed.progress.message.as_deref().map(str::to_owned),
            fraction: progressed.progress.fraction,
        },
    }
}

/// A failure, as it goes over the wire.
pub(super) fn failure_of(failure: &Failure) -> api::Failure {
    api::Failure {
        kind: failure.kind.as_str().to_owned(),
        code: failure.code.to_string(),
        message: failure.message.to_string(),
        certain: failure.certain,
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
