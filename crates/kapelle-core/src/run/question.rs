//! What steps want to know of people.
//!
//! **Invariants:** a question is a call whose end is the answer: it is asked once, and answered once; a
//! step that waits for one holds no attempt. Several are answered one by one, in the order of their calls.

use super::event::{Blocked, EffectId, Event, Outcome};
use super::step::{Effect, EffectState, Status};
use super::{Refusal, Run};
use crate::port::agent::Question;
use crate::{Attempt, StepNo, Value};

/// The code of a failure by which an attempt ends that waits for an answer.
pub const UNANSWERED: &str = "unanswered";
/// The longest message, and the longest answer, in bytes.
pub const SAID_MAX: usize = 8 << 10;

impl Run {
    pub(super) fn ask(
        &self,
        (step, attempt): (StepNo, Attempt),
        effect: EffectId,
        question: Question,
    ) -> Vec<Event> {
        let known = self.steps[step.index()].effects.as_deref();
        let known = known.and_then(|effects| effects.get(&effect.ordinal));
        let same = |known: &Effect| {
            let asked = matches!(&known.state, EffectState::Asked(asked) if *asked == question);
            asked && known.id == effect
        };
        // It was asked in an attempt before, or its outcome was unknown to the reporter.
        let is_new = !known.is_some_and(same);
        is_new
            .then_some(Event::QuestionAsked { step, attempt, effect, question })
            .into_iter()
            .collect()
    }

    pub(super) fn reply(
        &self,
        no: StepNo,
        wanted: Option<u32>,
        answer: &str,
        by: Box<str>,
    ) -> Result<Vec<Event>, Refusal> {
        let step = &self.steps[no.index()];
        let Status::Blocked(Blocked::Question { ordinal, question }) = &step.status else {
            return Err(Refusal::NoQuestion(step.id.clone()));
        };
        if wanted.is_some_and(|wanted| wanted != *ordinal) {
            return Err(Refusal::NoQuestion(step.id.clone()));
        }
        is_answer(question, answer).map_err(Refusal::NoAnswer)?;
        let (said, _) = Value::of(serde_json::json!({"answer": answer, "by": by}), usize::MAX);
        let first = Event::QuestionAnswered { step: no, ordinal: *ordinal, answer: said, by };
        let doubt = || self.open_effects(no).next().map(Blocked::in_doubt);
        let next = self.open_question(no, Some(*ordinal)).or_else(doubt);
        let next = next.map(|why| Event::StepBlocked { step: no, attempt: step.attempt, why });
        Ok(std::iter::once(first).chain(next).collect())
    }

    /// Takes note of an answer: the call has ended with it.
    pub(super) fn note_answer(&mut self, no: StepNo, ordinal: u32, answer: &Value) {
        let effects = self.steps[no.index()].effects.as_deref_mut();
        if let Some(effect) = effects.and_then(|effects| effects.get_mut(&ordinal)) {
            effect.state = EffectState::Recorded(Outcome::Done(answer.clone()));
        }
        self.make_ready(no);
    }

    /// The first question of a step that is open.
    pub(super) fn open_question(&self, no: StepNo, but: Option<u32>) -> Option<Blocked> {
        let effects = self.steps[no.index()].effects.as_deref().into_iter().flatten();
        let mut open = effects.filter(|(ordinal, _)| Some(**ordinal) != but);
        open.find_map(|(ordinal, effect)| match &effect.state {
            EffectState::Asked(question) => {
                Some(Blocked::Question { ordinal: *ordinal, question: question.clone() })
            }
            EffectState::Started | EffectState::Recorded(_) | EffectState::Forgotten => None,
        })
    }
}

fn is_answer(question: &Question, answer: &str) -> Result<(), Box<str>> {
    if answer.trim().is_empty() || answer.len() > SAID_MAX {
        return Err(format!("an answer has 1 to {SAID_MAX} bytes").into());
    }
    let choices = &question.choices;
    if choices.is_empty() || choices.iter().any(|choice| **choice == *answer) {
        return Ok(());
    }
    Err(format!("the answer is to be one of `{}`", choices.join("`, `")).into())
}
