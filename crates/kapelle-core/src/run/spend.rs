//! What a run may spend: reserved before a call, in the commit that announces it, and settled with
//! what the call really used.
//!
//! **Invariants:** what is spent, reserved and of unknown end together stay within the limit; a
//! reservation ends with its call's record, or becomes "unknown" with the attempt that made it: the
//! call may have happened, and is paid for as far as we know. All of it is a function of the events,
//! so it holds over restarts, and is shared by parallel steps and retries.

use std::time::Duration;

use super::Run;
use super::event::Event;
use crate::plan::{Budget, OnExceeded};
use crate::port::agent::Usage;
use crate::{StepId, StepNo, Timestamp};

/// What was used, or may have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tokens read and written.
    pub tokens: u64,
    /// Nano-dollars, as far as prices are known.
    pub nanos: i64,
    /// Calls whose price nobody knows.
    pub unpriced: u32,
    /// Milliseconds that calls took.
    pub ms: u64,
}

impl Sum {
    /// What a call has used, or may use.
    #[must_use]
    pub fn of(usage: &Usage) -> Self {
        Self {
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            nanos: usage.cost_nanos.unwrap_or(0),
            unpriced: u32::from(usage.cost_nanos.is_none()),
            ms: usage.ms,
        }
    }

    fn add(&mut self, more: Self) {
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.nanos = self.nanos.saturating_add(more.nanos);
        self.unpriced = self.unpriced.saturating_add(more.unpriced);
        self.ms = self.ms.saturating_add(more.ms);
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.add(more);
        self
    }

    fn take(&mut self, less: Self) {
        self.tokens = self.tokens.saturating_sub(less.tokens);
        self.nanos = self.nanos.saturating_sub(less.nanos);
        self.unpriced = self.unpriced.saturating_sub(less.unpriced);
        self.ms = self.ms.saturating_sub(less.ms);
    }
}

/// What a run, or a step of it, has spent, and what is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What recorded calls have used.
    pub spent: Sum,
    /// What calls that are under way may use.
    pub reserved: Sum,
    /// What calls may have used of which nobody knows the end.
    pub unknown: Sum,
    /// What was granted beyond the plan's budget.
    pub raised: Sum,
    /// How long a step whose budget is one of time was worked on, in the attempts that are over.
    pub worked: Duration,
}

/// Why a call would be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// More than is left, whatever becomes of what is under way.
    Limit,
    /// It may fit once calls that are under way have ended.
    Reserved,
    /// Its price is not known, and there is a limit of money.
    Unpriced,
    /// The run has no time left.
    Time,
}

impl Ledger {
    pub(super) fn reserve(&mut self, usage: &Usage) {
        self.reserved.add(Sum::of(usage));
    }

    /// A call has ended: what it had reserved is free, what it used is spent.
    pub(super) fn settle(&mut self, reserved: Option<&Usage>, used: &Usage) {
        if let Some(reserved) = reserved {
            self.reserved.take(Sum::of(reserved));
        }
        self.spent.add(Sum::of(used));
    }

    /// Nobody will say how a call ended, or what it used.
    pub(super) fn give_up(&mut self, reserved: &Usage) {
        self.reserved.take(Sum::of(reserved));
        self.unknown.add(Sum::of(reserved));
    }

    /// The tokens and the nano-dollars of a budget, with what it was raised by.
    fn limits(&self, budget: &Budget) -> (Option<u64>, Option<i64>) {
        let tokens = budget.tokens.map(|max| max.saturating_add(self.raised.tokens));
        (tokens, budget.nanos.map(|max| max.saturating_add(self.raised.nanos)))
    }

    /// What is left of it, and what a call wants of that, in words.
    fn shortage(&self, budget: &Budget, wanted: &Usage) -> Box<str> {
        let (gone, wanted) = (self.spent.and(self.unknown), Sum::of(wanted));
        let (tokens, nanos) = self.limits(budget);
        let tokens = tokens.map(|max| {
            let left = max.saturating_sub(gone.tokens);
            format!("{left} tokens are left, it may use {}", wanted.tokens)
        });
        let dollars = |nanos: i64| Duration::from_nanos(nanos.max(0).unsigned_abs()).as_secs_f64();
        let nanos = nanos.map(|max| {
            let left = dollars(max.saturating_sub(gone.nanos));
            format!("${left:.4} are left, it may cost ${:.4}", dollars(wanted.nanos))
        });
        tokens.into_iter().chain(nanos).collect::<Vec<_>>().join(", ").into()
    }

    /// How much time a budget gives, with what it was raised by.
    fn time(&self, budget: &Budget) -> Option<Duration> {
        budget.time_ms.map(|ms| Duration::from_millis(ms.saturating_add(self.raised.ms)))
    }

    fn over(&self, budget: &Budget, wanted: &Usage) -> Option<Over> {
        if budget.nanos.is_some() && wanted.cost_nanos.is_none() {
            return Some(Over::Unpriced);
        }
        let gone = self.spent.and(self.unknown);
        let mut all = Sum::of(wanted).and(gone);
        let (tokens, nanos) = self.limits(budget);
        let fits = |sum: &Sum| {
            tokens.is_none_or(|max| sum.tokens <= max) && nanos.is_none_or(|max| sum.nanos <= max)
        };
        if !fits(&all) {
            return Some(Over::Limit);
        }
        all.add(self.reserved);
        (!fits(&all)).then_some(Over::Reserved)
    }
}

/// Which limit a call met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit: the step's own, or the run's.
    pub step: Option<StepId>,
    /// Why.
    pub over: Over,
    /// What is left, and what the call may use.
    left: Box<str>,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose =
            self.step.as_ref().map_or("the run".to_owned(), |step| format!("step `{step}`"));
        f.write_str(&format!("the budget of {whose} "))?;
        match self.over {
            Over::Unpriced => f.write_str(
                "is in money, and nobody knows what this call costs; name its price in \
                 `models.prices` of kapelle.toml",
            ),
            Over::Reserved => f.write_str("is reserved by calls that are under way"),
            Over::Limit => write!(f, "has no room for this call: {}", self.left),
            Over::Time => f.write_str("has no time left"),
        }
    }
}

impl Run {
    /// What it has spent, and what is on its way.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a call that may use `wanted` would be too much.
    pub(super) fn exceeds(&self, no: StepNo, wanted: &Usage) -> Option<Exceeded> {
        let step = &self.steps[no.index()];
        let own = self.spec(no).budget.as_ref().map(|budget| {
            (Some(step.id.clone()), step.ledger.as_deref().copied().unwrap_or_default(), budget)
        });
        let all = self.plan.plan.budget.as_ref().map(|budget| (None, self.ledger, budget));
        let over = own.into_iter().chain(all).find_map(|(step, ledger, budget)| {
            let over = ledger.over(budget, wanted)?;
            Some(Exceeded { step, over, left: ledger.shortage(budget, wanted) })
        });
        let late = Exceeded { step: None, over: Over::Time, left: "".into() };
        over.or_else(|| self.is_out_of_time().then_some(late))
    }

    /// How long the run was active until its last event, if it has a limit of that.
    #[must_use]
    pub fn active(&self) -> Duration {
        let going = self.clock.since.map_or(Duration::ZERO, |since| self.last_at.since(since));
        self.clock.spent + going
    }

    /// How long the run may be active before it has used up its budget.
    pub(super) fn time(&self) -> Option<Duration> {
        self.ledger.time(self.plan.plan.budget.as_ref()?)
    }

    /// Whether it has used up its budget of time, as its clock shows that does not go.
    #[must_use]
    pub fn is_out_of_time(&self) -> bool {
        self.time().is_some_and(|limit| self.clock.spent >= limit)
    }

    /// How long a step may still be worked on. `now`: an attempt is under way.
    pub(super) fn time_left(&self, no: StepNo, now: Option<Timestamp>) -> Option<Duration> {
        let step = &self.steps[no.index()];
        let ledger = step.ledger();
        let since = now.map_or(Duration::ZERO, |now| now.since(step.begun_at));
        Some(ledger.time(self.spec(no).budget.as_ref()?)?.saturating_sub(ledger.worked + since))
    }

    /// Counts the time of a step that is worked on, up to `until`; from there on it counts anew.
    pub(super) fn count_time(&mut self, no: StepNo, until: Timestamp) {
        if self.spec(no).budget.as_ref().is_none_or(|budget| budget.time_ms.is_none()) {
            return;
        }
        let step = &mut self.steps[no.index()];
        let worked = until.since(step.begun_at);
        step.ledger.get_or_insert_default().worked += worked;
    }

    /// Whether a step that has met a limit waits for somebody to raise it.
    pub(super) fn waits_at_limit(&self, no: StepNo) -> bool {
        let budget = self.spec(no).budget.as_ref().or(self.plan.plan.budget.as_ref());
        budget.is_some_and(|budget| budget.on_exceeded == OnExceeded::Pause)
    }

    /// Takes note that calls were announced, have ended, or are given up.
    pub(super) fn keep_ledgers(&mut self, no: StepNo, note: impl Fn(&mut Ledger)) {
        note(&mut self.ledger);
        note(self.steps[no.index()].ledger.get_or_insert_default());
    }

    /// The attempt of a step is over: what its calls had reserved is of unknown end.
    pub(super) fn give_up_reserved(&mut self, no: StepNo) {
        let effects = self.steps[no.index()].effects.as_deref_mut();
        let held: Vec<Usage> = effects
            .into_iter()
            .flatten()
            .filter_map(|(_, effect)| effect.reserved.take())
            .collect();
        for reserved in held {
            self.keep_ledgers(no, |ledger| ledger.give_up(&reserved));
        }
    }

    /// Takes note of more that may be spent.
    pub(super) fn raise(&mut self, event: &Event) {
        let Event::BudgetRaised { step, tokens, nanos, ms, .. } = event else { return };
        let more = Sum { tokens: *tokens, nanos: *nanos, ms: *ms, unpriced: 0 };
        match step {
            None => self.ledger.raised.add(more),
            Some(no) if no.index() < self.steps.len() => {
                self.steps[no.index()].ledger.get_or_insert_default().raised.add(more);
            }
            Some(_) => {}
        }
    }
}
