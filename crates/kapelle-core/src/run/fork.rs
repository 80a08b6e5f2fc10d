//! Forking: a new run with the same plan that takes over what another one has done.
//!
//! **Invariants:** what is taken over stands in the new run's own journal, so the run it is from may
//! be gone; a step is taken over only if all it needs is, so nothing done anew is behind something
//! that was made without it. Outside calls that were recorded are not taken over.

use super::Run;
use super::event::{Forked, Skipped, Taken, TakenEnd};
use super::step::Status;
use crate::plan::OnFailure;
use crate::{Artifact, StepNo};

impl Run {
    /// What a fork from `from` takes over: the written steps that ended in a way that can be built
    /// on, but for `from` and all that needs it, or another step that is done anew. A value may
    /// still be made of other steps: it is to be written out.
    #[must_use]
    pub fn taken_by_fork(&self, from: StepNo) -> Vec<Taken> {
        let written = 0..self.plan.len();
        let mut anew: Vec<bool> = written.clone().map(|index| !self.can_be_taken(index)).collect();
        if let Some(from) = anew.get_mut(from.index()) {
            *from = true;
        }
        let mut queue: Vec<usize> = written.clone().filter(|index| anew[*index]).collect();
        while let Some(index) = queue.pop() {
            for dependent in self.plan.dependents(self.steps[index].spec) {
                if !std::mem::replace(&mut anew[dependent.index()], true) {
                    queue.push(dependent.index());
                }
            }
        }
        let taken = written.filter(|index| !anew[*index]);
        taken.filter_map(|index| self.taken(StepNo::from_index(index))).collect()
    }

    fn taken(&self, no: StepNo) -> Option<Taken> {
        let step = &self.steps[no.index()];
        let end = match &step.status {
            Status::Completed => {
                let (value, mut artifacts) = (step.value.clone(), Vec::new());
                self.artifacts_into(no, &mut artifacts);
                TakenEnd::Completed { value, artifacts }
            }
            Status::Skipped(why) => TakenEnd::Skipped { why: why.clone() },
            _ => TakenEnd::Failed { failure: step.failure.as_deref()?.clone() },
        };
        let (started_at, ended_at) = (step.started_at, step.ended_at?);
        Some(Taken { step: no, end, started_at, ended_at })
    }

    /// What a step made, and all that it has grown.
    fn artifacts_into(&self, no: StepNo, artifacts: &mut Vec<Artifact>) {
        let step = &self.steps[no.index()];
        artifacts.extend(step.artifacts.iter().cloned());
        for part in step.parts() {
            self.artifacts_into(*part, artifacts);
        }
    }

    fn can_be_taken(&self, index: usize) -> bool {
        let step = &self.steps[index];
        match &step.status {
            Status::Completed | Status::Skipped(Skipped::Condition | Skipped::Person) => true,
            // What needs it has gone on without it.
            Status::Failed => {
                self.plan.plan.steps[step.spec as usize].on_failure == OnFailure::Continue
            }
            Status::Skipped(Skipped::Needs { .. })
            | Status::Waiting
            | Status::Ready
            | Status::Running
            | Status::Retrying(_)
            | Status::Asked
            | Status::Blocked(_)
            | Status::Grown
            | Status::Dropped => false,
        }
    }

    /// Where it was forked from, if it was.
    #[must_use]
    pub fn forked(&self) -> Option<&Forked> {
        self.forked.as_deref()
    }

    /// Takes note of what was done elsewhere.
    pub(super) fn take_over(&mut self, forked: &Forked) {
        if self.forked.is_some() || self.started {
            return;
        }
        for taken in &forked.taken {
            let Some(step) = self.steps.get_mut(taken.step.index()) else { continue };
            if step.status.is_final() {
                continue;
            }
            step.started_at = taken.started_at;
            step.taken = true;
            let status = match &taken.end {
                TakenEnd::Completed { value, artifacts } => {
                    step.value = value.clone();
                    step.artifacts.clone_from(artifacts);
                    Status::Completed
                }
                TakenEnd::Failed { failure } => {
                    step.failure = Some(Box::new(failure.clone()));
                    Status::Failed
                }
                TakenEnd::Skipped { why } => Status::Skipped(why.clone()),
            };
            self.end_step(taken.step, status, taken.ended_at);
        }
        // What it is from is known; what it took stands in the steps.
        self.forked = Some(Box::new(Forked { taken: Vec::new(), ..forked.clone() }));
    }
}
