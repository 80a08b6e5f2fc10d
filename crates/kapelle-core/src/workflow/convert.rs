//! Makes a plan of a file, with the defaults of the format.

use std::collections::BTreeSet;

use super::Workflow;
use super::file::{
    Approval, Budget, Duration, File, Mode, OnExceeded, OnFailure, OnTimeout, OnUnknown, Retry,
    RetryOn, Task,
};
use crate::plan::finding::{Field, Finding, Place};
use crate::plan::{self, ForEach, Plan, Step, Work};
use crate::port::agent::{FailureKind, OnUnknown as StepOnUnknown};
use crate::problem::Code;
use crate::{Json, StepId, suggest};

/// A workflow that is not checked yet, and what could not be carried over.
pub(super) struct Converted {
    pub(super) workflow: Workflow,
    pub(super) findings: Vec<Finding>,
}

pub(super) fn convert(file: File) -> Converted {
    let mut findings = Vec::new();
    let tasks = file.tasks.unwrap_or_default();
    let ids: BTreeSet<String> = tasks.iter().filter_map(|task| task.id.clone()).collect();
    let mut steps = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.into_iter().enumerate() {
        steps.push(Converter { index, ids: &ids, findings: &mut findings }.step(task));
    }
    let config = file.config.unwrap_or_default();
    let text = |text: Option<String>| text.map(Into::into);
    let plan = Plan {
        workflow: file.id.clone().unwrap_or_default().into(),
        name: text(file.name.clone()),
        steps,
        output: file.output,
        max_parallel: config.max_parallel_agents.unwrap_or(plan::default_max_parallel()),
        timeout_ms: config.global_timeout.and_then(|duration| duration.0),
        deadline_ms: config.deadline.and_then(|duration| duration.0),
        manual: config.mode == Some(Mode::Manual),
        budget: config.budget.map(budget),
        inputs: file
            .inputs
            .unwrap_or_default()
            .into_iter()
            .map(|(name, schema)| (name.into(), schema.0))
            .collect(),
    };
    let word = |debug: String| debug.to_lowercase().into();
    let workflow = Workflow {
        id: file.id.unwrap_or_default().into(),
        name: text(file.name),
        description: text(file.description),
        version: file.version.map(|version| match version.0 {
            Json::String(text) => text.into(),
            other => other.to_string().into(),
        }),
        category: file.category.map(|category| word(format!("{category:?}"))),
        tags: file.tags.unwrap_or_default().into_iter().map(Into::into).collect(),
        complexity: file.complexity.map(|complexity| word(format!("{complexity:?}"))),
        estimate_ms: file.estimated_duration.map(seconds_to_ms),
        plan,
    };
    Converted { workflow, findings }
}

struct Converter<'a> {
    index: usize,
    ids: &'a BTreeSet<String>,
    findings: &'a mut Vec<Finding>,
}

impl Converter<'_> {
    fn step(&mut self, mut task: Task) -> Step {
        let id = self.id(task.id.take());
        let needs = self.needs(&id, task.dependencies.take().unwrap_or_default());
        let timeout_ms = self.duration(Field::Timeout, task.timeout);
        let retry = self.retry(task.retry.take().unwrap_or_default());
        let for_each = self.for_each(&task);
        let when = task.when.take().map(|when| match when.0 {
            Json::String(text) => text.into(),
            other => other.to_string().into(),
        });
        Step {
            description: task.description.take().map(Into::into),
            needs,
            when,
            for_each,
            priority: task.priority.unwrap_or(plan::default_priority()),
            timeout_ms: timeout_ms.unwrap_or(plan::default_timeout_ms()),
            retry,
            on_failure: match task.on_failure {
                None | Some(OnFailure::Fail) => plan::OnFailure::Fail,
                Some(OnFailure::Continue) => plan::OnFailure::Continue,
            },
            on_unknown: task.on_unknown.map(|on_unknown| match on_unknown {
                OnUnknown::Retry => StepOnUnknown::Retry,
                OnUnknown::Ask => StepOnUnknown::Ask,
                OnUnknown::Fail => StepOnUnknown::Fail,
            }),
            output: task.output.take().map(|schema| schema.0),
            budget: task.budget.map(budget),
            estimate_ms: task.estimated_duration.map(seconds_to_ms),
            work: self.work(&id, task),
            id,
        }
    }

    fn add(&mut self, field: Field, code: Code, message: String, hint: Option<String>) {
        self.add_at(field, String::new(), code, message, hint);
    }

    fn add_at(
        &mut self,
        field: Field,
        pointer: String,
        code: Code,
        message: String,
        hint: Option<String>,
    ) {
        let place = Place::Step(self.index, field, pointer);
        self.findings.push(Finding::new(place, code, message).hint(hint));
    }

    /// The id; a stand-in where the file has none, which is reported already.
    fn id(&self, id: Option<String>) -> StepId {
        id.and_then(|id| id.parse().ok()).unwrap_or_else(|| {
            format!("unnamed-{}", self.index + 1).parse().expect("this is an id")
        })
    }

    fn needs(&mut self, id: &StepId, dependencies: Vec<String>) -> Vec<StepId> {
        let mut needs = Vec::with_capacity(dependencies.len());
        for (nth, name) in dependencies.into_iter().enumerate() {
            match name.parse::<StepId>() {
                Ok(need) if self.ids.contains(&name) => needs.push(need),
                _ => {
                    let message = format!("step `{id}` depends on `{name}`, which does not exist");
                    let ids = self.ids.iter().map(String::as_str);
                    let pays = suggest::pays(self.findings.len(), self.ids.len());
                    let hint = if pays { suggest::one_of(&name, ids) } else { None };
                    let pointer = format!("/{nth}");
                    self.add_at(Field::Needs, pointer, Code::UnknownStep, message, hint);
                }
            }
        }
        needs
    }

    fn duration(&mut self, field: Field, duration: Option<Duration>) -> Option<u64> {
        let duration = duration?;
        if duration.0.is_none() {
            let message = "the duration is over 100 years".to_owned();
            self.add(field, Code::BadDuration, message, None);
        }
        duration.0
    }

    fn retry(&mut self, retry: Retry) -> plan::Retry {
        let default = plan::Retry::default();
        let initial_ms =
            self.duration(Field::Attempts, retry.initial).unwrap_or(default.initial_ms);
        plan::Retry {
            attempts_max: retry.max_attempts.unwrap_or(default.attempts_max),
            initial_ms,
            factor: retry.factor.unwrap_or(default.factor),
            wait_max_ms: self
                .duration(Field::Attempts, retry.max)
                .unwrap_or(default.wait_max_ms)
                .max(initial_ms),
            jitter: retry.jitter.unwrap_or(default.jitter),
            on: retry.on.map_or(default.on, |kinds| kinds.into_iter().map(failure).collect()),
            lost_max: retry.max_lost.unwrap_or(default.lost_max),
        }
    }

    fn for_each(&mut self, task: &Task) -> Option<ForEach> {
        if task.for_each.is_none() {
            let lonely = [
                (task.item_name.is_some(), Field::ItemName, "as"),
                (task.max_parallel.is_some(), Field::MaxParallel, "maxParallel"),
            ];
            for (given, field, name) in lonely {
                if given {
                    let message = format!("`{name}` means nothing without `forEach`");
                    self.add(field, Code::ConflictingFields, message, None);
                }
            }
        }
        Some(ForEach {
            list: task.for_each.clone()?.into(),
            name: task.item_name.clone().unwrap_or_else(|| "item".to_owned()).into(),
            max_parallel: task.max_parallel,
        })
    }

    fn work(&mut self, id: &StepId, task: Task) -> Work {
        if let Some(approval) = task.approval {
            let given = [
                (task.agent_name.is_some(), Field::Agent, "agentName"),
                (task.action.is_some(), Field::Action, "action"),
                (task.input.is_some(), Field::Input, "input"),
                (task.prompt.is_some(), Field::Prompt, "prompt"),
                (task.for_each.is_some(), Field::List, "forEach"),
            ];
            for (given, field, name) in given {
                if given {
                    let message = format!("`{name}` and `approval` cannot both be in step `{id}`");
                    let hint = "make two steps of it".to_owned();
                    self.add(field, Code::ConflictingFields, message, Some(hint));
                }
            }
            return self.approval(approval);
        }
        Work::Agent {
            agent: task.agent_name.unwrap_or_default().into(),
            action: task.action.map(Into::into),
            input: Json::Object(task.input.unwrap_or_default()),
            prompt: task.prompt.map(Into::into),
        }
    }

    fn approval(&mut self, approval: Approval) -> Work {
        Work::Approval {
            by: approval.by.unwrap_or_default().into_iter().map(Into::into).collect(),
            timeout_ms: self.duration(Field::Timeout, approval.timeout),
            on_timeout: match approval.on_timeout {
                None | Some(OnTimeout::Reject) => plan::OnTimeout::Reject,
                Some(OnTimeout::Approve) => plan::OnTimeout::Approve,
            },
        }
    }
}

fn failure(kind: RetryOn) -> FailureKind {
    match kind {
        RetryOn::Timeout => FailureKind::Timeout,
        RetryOn::RateLimited => FailureKind::RateLimited,
        RetryOn::Unavailable => FailureKind::Unavailable,
        RetryOn::Crashed => FailureKind::Crashed,
        RetryOn::Invalid => FailureKind::Invalid,
        RetryOn::Refused => FailureKind::Refused,
        RetryOn::Denied => FailureKind::Denied,
        RetryOn::Bug => FailureKind::Bug,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the schema bounds it")]
fn budget(budget: Budget) -> plan::Budget {
    plan::Budget {
        tokens: budget.tokens,
        nanos: budget.usd.map(|usd| (usd * 1e9).round() as i64),
        time_ms: budget.time.and_then(|time| time.0),
        on_exceeded: match budget.on_exceeded {
            None | Some(OnExceeded::Pause) => plan::OnExceeded::Pause,
            Some(OnExceeded::Fail) => plan::OnExceeded::Fail,
        },
    }
}

/// Seconds as people write them; the longest is a hundred years.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what both can hold"
)]
fn seconds_to_ms(seconds: f64) -> u64 {
    (seconds * 1_000.0).clamp(0.0, 3.2e12) as u64
}
