//! What steps of a run say to each other.
//!
//! **Invariants:** who said it is the step whose attempt had it recorded, whatever the words claim; a
//! message is there once for each place among the calls of its step and each text, over all attempts
//! and generations; what one step sends and is sent is bounded.
//!
//! Absent: messages to other runs, topics, and letters that are dead. Who reads is the agents' affair.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{EffectId, Event, Outcome};
use super::question::SAID_MAX;
use super::step::Status;
use super::{Refusal, Run};
use crate::plan::Work;
use crate::port::agent::Heard;
use crate::{Attempt, StepNo, Timestamp, Value};

/// So many messages a step may send, and so many it takes.
const MESSAGES_MAX: usize = 100;

/// Something that one step said to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place among all messages of the run, from 1.
    pub number: u32,
    /// Who said it.
    pub from: StepNo,
    /// In which call.
    pub ordinal: u32,
    /// To whom.
    pub to: Vec<StepNo>,
    /// What.
    pub text: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// All messages of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mail {
    all: Vec<Arc<Message>>,
    boxes: BTreeMap<StepNo, Vec<Arc<Message>>>,
    sent: BTreeMap<StepNo, usize>,
}

impl Mail {
    fn sent_by(&self, step: StepNo) -> usize {
        self.sent.get(&step).copied().unwrap_or(0)
    }

    fn to(&self, step: StepNo) -> &[Arc<Message>] {
        self.boxes.get(&step).map_or(&[], Vec::as_slice)
    }
}

impl Run {
    /// All messages, in order.
    #[must_use]
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.mail.all.iter().map(AsRef::as_ref)
    }

    /// What a step was told after the message `after`, in order.
    pub fn mail(&self, step: StepNo, after: u32) -> impl Iterator<Item = &Arc<Message>> {
        self.mail.to(step).iter().filter(move |message| message.number > after)
    }

    /// A message as those hear it whom it is for.
    #[must_use]
    pub fn heard(&self, message: &Message) -> Option<Heard> {
        let from = self.step(message.from)?.id.clone();
        let Work::Agent { agent, .. } = &self.spec(message.from).work else { return None };
        let (number, agent, text) = (message.number, agent.clone(), message.text.clone());
        Some(Heard { number, from, agent, text })
    }

    /// Takes note of a message.
    pub(super) fn post(&mut self, event: &Event, at: Timestamp) {
        let Event::MessageSent { step, ordinal, to, text, .. } = event else { return };
        let number = u32::try_from(self.mail.all.len()).unwrap_or(u32::MAX).saturating_add(1);
        let (from, ordinal, to, text) = (*step, *ordinal, to.clone(), text.clone());
        let message = Arc::new(Message { number, from, ordinal, to, text, at });
        for to in &message.to {
            self.mail.boxes.entry(*to).or_default().push(message.clone());
        }
        *self.mail.sent.entry(from).or_default() += 1;
        self.mail.all.push(message);
    }

    pub(super) fn send(
        &self,
        (step, attempt): (StepNo, Attempt),
        effect: EffectId,
        to: &str,
        text: Arc<str>,
    ) -> Result<Vec<Event>, Refusal> {
        let ordinal = effect.ordinal;
        let to = self.recipients(step, to).and_then(|to| self.with_room(step, to, &text));
        let mut to = to.map_err(Refusal::Undelivered)?;
        to.retain(|to| !self.has_said(step, ordinal, *to, &text));
        let said = Event::MessageSent { step, attempt, ordinal, to, text };
        let outcome = Outcome::Done(Value::null());
        let recorded = Event::EffectRecorded { step, attempt, effect, outcome, used: None };
        let is_new = matches!(&said, Event::MessageSent { to, .. } if !to.is_empty());
        Ok(is_new.then_some(said).into_iter().chain([recorded]).collect())
    }

    /// Whether a conversation that is held anew says what it has said before.
    fn has_said(&self, from: StepNo, ordinal: u32, to: StepNo, text: &str) -> bool {
        let said = |known: &Arc<Message>| {
            known.from == from && known.ordinal == ordinal && &*known.text == text
        };
        self.mail.to(to).iter().any(said)
    }

    /// Whom a name means: a step, what it has grown, or the steps of an agent.
    fn recipients(&self, from: StepNo, to: &str) -> Result<Vec<StepNo>, Box<str>> {
        let (mut found, named) = (Vec::new(), self.find(to));
        match named {
            Some(no) => self.add_recipients(no, &mut found),
            None => found.extend(self.steps_of(to).filter(|no| self.takes_mail(*no))),
        }
        let own = named == Some(from);
        found.retain(|no| *no != from);
        match named {
            _ if !found.is_empty() => Ok(found),
            _ if own => Err("that is yourself".into()),
            Some(_) => Err(format!("step `{to}` has ended, or nobody works on it").into()),
            None if self.steps_of(to).next().is_some() => {
                Err(format!("no other step of agent `{to}` is still to be done").into())
            }
            None => Err(format!("there is no step and no agent `{to}` in this run").into()),
        }
    }

    fn add_recipients(&self, no: StepNo, found: &mut Vec<StepNo>) {
        if self.takes_mail(no) {
            found.push(no);
        }
        for part in self.steps[no.index()].parts() {
            self.add_recipients(*part, found);
        }
    }

    fn steps_of<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = StepNo> + 'a {
        self.view().filter(move |view| view.agent == Some(agent)).map(|view| view.no)
    }

    /// Whether an agent works on it, or will: not on one that only waits for those that it grows.
    fn takes_mail(&self, no: StepNo) -> bool {
        let (step, spec) = (&self.steps[no.index()], self.spec(no));
        let grows = step.part_of.is_none() && spec.for_each.is_some();
        let is_work = matches!(spec.work, Work::Agent { .. });
        is_work && !grows && step.status != Status::Grown && !step.status.is_final()
    }

    fn with_room(
        &self,
        from: StepNo,
        to: Vec<StepNo>,
        text: &str,
    ) -> Result<Vec<StepNo>, Box<str>> {
        if text.len() > SAID_MAX {
            let len = text.len();
            return Err(format!("it has {len} bytes, {SAID_MAX} are the most").into());
        }
        if self.mail.sent_by(from) >= MESSAGES_MAX {
            return Err(format!("you have sent {MESSAGES_MAX} messages, which is the most").into());
        }
        let full = to.iter().find(|to| self.mail.to(**to).len() >= MESSAGES_MAX);
        match full {
            Some(full) => {
                let name = &self.steps[full.index()].id;
                Err(format!("step `{name}` has {MESSAGES_MAX} messages and takes no more").into())
            }
            None => Ok(to),
        }
    }
}
