//! What must hold of every history, judged by the committed events alone and the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kapelle_core::plan::OnFailure;
use kapelle_core::port::agent::{FailureKind, Safety};
use kapelle_core::run::{Event, Outcome, Resolved, Run, Skipped, StepStatus, Verdict};
use kapelle_core::{Attempt, StepNo};

/// What the events so far have shown.
#[derive(Default)]
pub(super) struct Promises {
    finals: BTreeMap<StepNo, End>,
    attempts: BTreeMap<StepNo, Attempt>,
    definite: BTreeMap<StepNo, u32>,
    /// Unsafe calls begun and not known to have ended, with the attempt that began them.
    open: BTreeMap<(StepNo, u32), Attempt>,
    /// Calls that must never be made again.
    paid: BTreeSet<(StepNo, u32)>,
    /// What was said in which call, to whom.
    said: BTreeSet<(StepNo, u32, StepNo, Arc<str>)>,
    /// Questions that have no answer.
    asked: BTreeSet<(StepNo, u32)>,
    stopping: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// What needs it runs.
    Good,
    /// A failure that is forgiven.
    Forgiven,
    /// What needs it is skipped.
    Bad,
}

impl Promises {
    /// Takes note of a committed event; panics if it breaks a promise.
    pub(super) fn check(&mut self, run: &Run, event: &Event) {
        match event {
            Event::StepStarted { step, attempt, generation, .. } => {
                assert!(!self.stopping, "nothing starts while stopping");
                self.may_begin(run, *step);
                let last = self.attempts.insert(*step, *attempt);
                assert_eq!(
                    *attempt,
                    last.map_or(Attempt(1), Attempt::next),
                    "attempts rise by one"
                );
                let definite = self.definite.get(step).copied().unwrap_or_default();
                assert_eq!(*generation, definite, "a key changes after definite failures only");
            }
            Event::StepsGrown { by: step, .. } | Event::ApprovalRequested { step, .. } => {
                assert!(!self.finals.contains_key(step), "what has ended grows and asks no more");
                if !matches!(event, Event::StepsGrown { list: None, .. }) {
                    self.may_begin(run, *step);
                }
            }
            Event::StepRetrying { step, failure, definite, .. } => {
                let sure = failure.certain && failure.kind != FailureKind::Lost;
                assert_eq!(*definite, sure, "lost and unknown ends are not definite");
                *self.definite.entry(*step).or_default() += u32::from(*definite);
            }
            Event::StepCompleted { step, .. } => self.end(*step, End::Good),
            Event::StepFailed { step, .. } => {
                let forgiven = spec(run, *step).on_failure == OnFailure::Continue;
                self.end(*step, if forgiven { End::Forgiven } else { End::Bad });
            }
            Event::StepSkipped { step, why } => self.skip(*step, why),
            Event::StepsDropped { steps } => {
                steps.iter().for_each(|step| self.end(*step, End::Good));
            }
            Event::EffectStarted { step, attempt, effect, .. } => {
                let call = (*step, effect.ordinal);
                assert!(!self.paid.contains(&call), "an unsafe success is not repeated");
                let begun = self.open.insert(call, *attempt);
                assert!(begun.is_none_or(|by| by == *attempt), "a doubt is not repeated unasked");
            }
            Event::EffectRecorded { step, effect, outcome, .. } => {
                self.open.remove(&(*step, effect.ordinal));
                if effect.safety == Safety::Unsafe && matches!(outcome, Outcome::Done(_)) {
                    self.paid.insert((*step, effect.ordinal));
                }
            }
            Event::StepResolved { step, how, .. } => {
                // The person spoke of the first call in doubt; the next one is asked about next.
                let first = self.open.range((*step, 0)..(*step, u32::MAX)).next().map(|(c, _)| *c);
                if let Some(call) = first {
                    self.open.remove(&call);
                    if matches!(how, Resolved::Done(_)) {
                        self.paid.insert(call);
                    }
                }
            }
            Event::MessageSent { step, ordinal, to, text, .. } => {
                for to in to {
                    assert!(!self.finals.contains_key(to), "nobody is told what has ended");
                    let said = (*step, *ordinal, *to, text.clone());
                    assert!(self.said.insert(said), "what was said is not said again");
                }
            }
            Event::QuestionAsked { step, effect, .. } => {
                self.asked.insert((*step, effect.ordinal));
            }
            Event::QuestionAnswered { step, ordinal, .. } => {
                assert!(self.asked.remove(&(*step, *ordinal)), "what nobody asks is not answered");
            }
            Event::RunStopping { .. } => self.stopping = true,
            Event::RunCompleted { verdict, .. } => self.judge(run, *verdict),
            Event::RunCreated(_)
            | Event::RunForked(_)
            | Event::RunStarted
            | Event::RunAdopted
            | Event::RunPaused { .. }
            | Event::RunResumed { .. }
            | Event::BudgetRaised { .. }
            | Event::StepBlocked { .. }
            | Event::ApprovalDecided { .. } => {}
        }
    }

    fn may_begin(&self, run: &Run, step: StepNo) {
        assert!(!self.finals.contains_key(&step), "what has ended never starts again");
        if run.step(step).is_some_and(|step| step.grown_by().is_some()) {
            return;
        }
        for need in &spec(run, step).needs {
            let end = run.find(need.as_str()).and_then(|need| self.finals.get(&need));
            assert!(
                matches!(end, Some(End::Good | End::Forgiven)),
                "`{step:?}` begins though `{need}` is {end:?}"
            );
        }
    }

    fn skip(&mut self, step: StepNo, why: &Skipped) {
        let end = match why {
            Skipped::Needs { step: need, blame } => {
                assert_eq!(self.finals.get(need), Some(&End::Bad), "only bad ends skip others");
                assert_eq!(self.finals.get(blame), Some(&End::Bad), "only bad ends are blamed");
                End::Bad
            }
            Skipped::Condition | Skipped::Person => End::Good,
        };
        self.end(step, end);
    }

    fn end(&mut self, step: StepNo, end: End) {
        assert_eq!(self.finals.insert(step, end), None, "a step ends once");
    }

    fn judge(&self, run: &Run, verdict: Verdict) {
        if self.stopping {
            assert!(matches!(verdict, Verdict::Cancelled | Verdict::Failed));
            return;
        }
        let count = run.plan().len();
        let written = run.steps().iter().take(count).zip(0..).map(|(_, no)| StepNo(no));
        let ends: Vec<_> = written.filter_map(|no| self.finals.get(&no).copied()).collect();
        assert_eq!(ends.len(), count, "a run ends when its steps have");
        let parts = run.steps().iter().zip(0..).skip(count);
        let parts_failed =
            parts.clone().any(|(_, no)| self.finals.get(&StepNo(no)) == Some(&End::Forgiven));
        match verdict {
            Verdict::Failed => assert!(ends.contains(&End::Bad)),
            Verdict::CompletedWithErrors => {
                assert!(!ends.contains(&End::Bad));
                assert!(ends.contains(&End::Forgiven) || parts_failed);
            }
            Verdict::Completed => assert!(ends.iter().all(|end| *end == End::Good)),
            Verdict::Cancelled => panic!("nobody cancelled"),
        }
    }
}

/// What must hold of the state after every step of the simulation.
pub(super) fn check_state(run: &Run) {
    let open = run.steps().iter().filter(|step| !step.status.is_final()).count();
    assert_eq!(run.open(), open, "the open steps are counted right");
    let limit = run.plan().plan.max_parallel as usize;
    assert!(run.running().len() <= limit, "no more than {limit} attempts at once");
    for step in run.steps() {
        if step.parts().is_empty() {
            continue;
        }
        let each = template(run, step.id.as_str()).for_each.as_ref();
        let Some(width) = each.and_then(|each| each.max_parallel) else { continue };
        let parts = step.parts().iter().filter_map(|no| run.step(*no));
        let begun =
            parts.filter(|part| part.status != StepStatus::Waiting && !part.status.is_final());
        assert!(begun.count() <= width as usize, "no more than {width} items at once");
    }
}

fn spec(run: &Run, no: StepNo) -> &kapelle_core::plan::Step {
    template(run, run.name(no).expect("the step exists").as_str())
}

fn template<'a>(run: &'a Run, id: &str) -> &'a kapelle_core::plan::Step {
    let root = id.split('.').next().unwrap_or(id);
    run.plan().plan.steps.iter().find(|step| step.id.as_str() == root).expect("it is in the plan")
}
