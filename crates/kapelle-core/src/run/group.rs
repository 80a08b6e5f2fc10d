//! Steps that grow others and wait for them: maps, races, votes, loops.
//!
//! A grown step is its template's step without the `forEach`. What the group comes to is decided
//! each time a part ends: [`Run::follow`] makes it an event at once.

use super::event::{Event, Join, Parts};
use super::step::{Group, Status, Step};
use super::{Due, Run, Skipped, Verdict};
use crate::plan::OnFailure;
use crate::port::agent::{Failure, FailureKind};
use crate::{StepId, StepNo, Value};

/// The most parts that one growth may have.
pub(super) const PARTS_MAX: usize = 100_000;
/// The code of the failure of a step whose parts have not done what it takes.
const PARTS_FAILED: &str = "parts_failed";

impl Run {
    pub(super) fn grow(&mut self, by: StepNo, parts: &Parts, join: Join, list: Option<&Value>) {
        if !(1..=PARTS_MAX).contains(&parts.count()) {
            return;
        }
        let first = self.steps.len();
        let parent = &self.steps[by.index()];
        let known = parent.group.as_ref().map_or(0, |group| group.parts.len());
        let ids: Vec<StepId> = match parts {
            Parts::Count(n) => {
                (known..known + *n as usize).map(|i| parent.id.grown(&i.to_string())).collect()
            }
            Parts::Named(names) => names.iter().map(|name| parent.id.grown(name)).collect(),
        };
        let (spec, released) = (parent.spec, parent.released);
        for (id, index) in ids.into_iter().zip(known..) {
            let mut step = Step::fresh(id, spec, 0);
            step.part_of = Some((by, u32::try_from(index).expect("a group is small")));
            step.released = released;
            self.steps.push(step);
        }
        self.open += parts.count();
        let group = self.steps[by.index()].group.get_or_insert_with(|| {
            Box::new(Group {
                parts: Vec::new(),
                join,
                list: list.cloned(),
                next: 0,
                ended: 0,
                succeeded: Vec::new(),
                failed: None,
                deciding: false,
            })
        });
        group.deciding = false;
        group.parts.extend((first..first + parts.count()).map(StepNo::from_index));
        self.set(by, Status::Grown);
        let width = self.spec(by).for_each.as_ref().and_then(|each| each.max_parallel);
        for _ in 0..width.map_or(parts.count(), |width| parts.count().min(width as usize)) {
            self.let_in(by);
        }
        // A vote for more than there are is decided already.
        self.dues.push_back(Due::Join(by));
    }

    /// Lets the next part of a group begin.
    fn let_in(&mut self, by: StepNo) {
        let Some(group) = self.steps[by.index()].group.as_deref_mut() else { return };
        let Some(&part) = group.parts.get(group.next) else { return };
        group.next += 1;
        if self.steps[part.index()].status == Status::Waiting {
            self.make_ready(part);
        }
    }

    pub(super) fn part_ended(&mut self, by: StepNo, part: StepNo) {
        let forgiven = self.spec(by).on_failure == OnFailure::Continue;
        let status = self.steps[part.index()].status.clone();
        let Some(group) = self.steps[by.index()].group.as_deref_mut() else { return };
        group.ended += 1;
        match status {
            Status::Completed => group.succeeded.push(part),
            Status::Failed if forgiven && group.join == Join::All => self.errors = true,
            Status::Failed => {
                let (first, count) = group.failed.unwrap_or((part, 0));
                group.failed = Some((first, count + 1));
            }
            _ => {}
        }
        let group = self.steps[by.index()].group.as_deref_mut().expect("it was there");
        group.deciding =
            group.join == Join::Until && group.failed.is_none() && group.ended == group.parts.len();
        self.dues.push_back(Due::Join(by));
        self.let_in(by);
    }

    /// What follows by itself from what has happened, if anything does: to be applied at once.
    pub fn follow(&mut self) -> Option<Event> {
        if self.ended.is_some() {
            return None;
        }
        while let Some(due) = self.dues.front().copied() {
            if let Some(event) = self.due(due) {
                return Some(event);
            }
            self.dues.pop_front();
        }
        let (verdict, reason) = self.stopping.as_ref()?;
        self.running.is_empty().then(|| Event::RunCompleted {
            verdict: *verdict,
            output: Value::null(),
            detail: if *verdict == Verdict::Cancelled && reason.is_empty() {
                "cancelled".into()
            } else {
                reason.clone()
            },
        })
    }

    fn due(&self, due: Due) -> Option<Event> {
        match due {
            Due::Skip { step, because, blame } => {
                let waiting = self.steps[step.index()].status == Status::Waiting;
                let why = Skipped::Needs { step: because, blame };
                waiting.then_some(Event::StepSkipped { step, why })
            }
            Due::Join(by) => self.joined(by),
        }
    }

    /// What a group comes to now, if it is decided.
    fn joined(&self, by: StepNo) -> Option<Event> {
        let step = &self.steps[by.index()];
        let group = step.group.as_deref().filter(|_| step.status == Status::Grown)?;
        let failures = group.failed.map_or(0, |(_, count)| count);
        let all_ended = group.ended == group.parts.len();
        let hopes = group.parts.len() - group.ended + group.succeeded.len();
        let outcome = match group.join {
            Join::All if all_ended && failures == 0 => Ok(list_of(&group.parts)),
            Join::All if all_ended => Err(()),
            Join::First if !group.succeeded.is_empty() => {
                Ok(self.steps[group.succeeded[0].index()].value.clone())
            }
            Join::Quorum(n) if group.succeeded.len() >= n as usize => {
                let mut winners = group.succeeded[..n as usize].to_vec();
                winners.sort_unstable();
                Ok(Value::Picked(winners))
            }
            Join::First if hopes == 0 => Err(()),
            Join::Quorum(n) if hopes < n as usize => Err(()),
            Join::Until if all_ended && failures > 0 => Err(()),
            Join::All | Join::First | Join::Quorum(_) | Join::Until => return None,
        };
        let live = self.live_below(group);
        if !live.is_empty() {
            return Some(Event::StepsDropped { steps: live });
        }
        Some(match outcome {
            Ok(value) => self.completed_by_itself(by, value),
            Err(()) => self.failed_together(by, group),
        })
    }

    pub(super) fn completed_by_itself(&self, step: StepNo, value: Value) -> Event {
        Event::StepCompleted {
            step,
            attempt: None,
            value,
            artifacts: Vec::new(),
            usage: None,
            engine: None,
        }
    }

    fn failed_together(&self, by: StepNo, group: &Group) -> Event {
        let parts = group.parts.len();
        let first = group.failed.map(|(first, count)| (&self.steps[first.index()], count));
        let failure = match first
            .and_then(|(first, count)| Some((first.failure.as_ref()?, first, count)))
        {
            Some((failure, first, count)) => {
                let message =
                    format!("{count} of {parts} failed, `{}` first: {}", first.id, failure.message);
                Failure::new(failure.kind, PARTS_FAILED, message)
            }
            None => {
                let message = format!("too few of {parts} can succeed");
                Failure::new(FailureKind::Refused, PARTS_FAILED, message)
            }
        };
        Event::StepFailed { step: by, attempt: None, failure }
    }

    /// The parts of a group that have not ended, and theirs.
    fn live_below(&self, group: &Group) -> Vec<StepNo> {
        let mut live = Vec::new();
        for part in &group.parts {
            let step = &self.steps[part.index()];
            if !step.status.is_final() {
                live.extend(step.group.as_deref().map_or_else(Vec::new, |g| self.live_below(g)));
                live.push(*part);
            }
        }
        live
    }
}

fn list_of(parts: &[StepNo]) -> Value {
    let Some(&first) = parts.first() else {
        return Value::Inline(std::sync::Arc::new(crate::Json::Array(Vec::new())));
    };
    let together = parts.iter().zip(first.0..).all(|(part, no)| part.0 == no);
    if together {
        Value::List { first, count: u32::try_from(parts.len()).expect("a group is small") }
    } else {
        Value::Picked(parts.to_vec())
    }
}
