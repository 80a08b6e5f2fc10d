//! The reasons in words.

use std::collections::{BTreeMap, BTreeSet};

use kapelle_api::{Chosen, Help};
use kapelle_core::plan::{OnTimeout, Work};
use kapelle_core::run::{Blocked, Run, Skipped, Status, StepStatus, Verdict};
use kapelle_core::{StepNo, Timestamp};

use super::name;
use super::tale::given_up;
use crate::server::runs::reason_of;

/// So many steps are named where one waits for many.
const NAMED_MAX: usize = 5;

/// What is said of a run at a moment.
pub(super) struct Told<'a> {
    pub(super) run: &'a Run,
    pub(super) now: Timestamp,
    /// Whether there is a node that works on it.
    pub(super) worked_on: bool,
    /// Who had it cancelled, when and why.
    pub(super) cancelled: Option<&'a str>,
    /// Registered agents none of whose workers was heard of lately, and what is to be said of that.
    pub(super) idle: BTreeMap<Box<str>, String>,
}

impl Told<'_> {
    /// Of the run as a whole.
    pub(super) fn whole(&self) -> (Vec<String>, Vec<Help>) {
        let run = self.run;
        let mut reasons = Vec::new();
        match (run.status(), run.ended()) {
            (Status::Ended(verdict), Some(ended)) => {
                reasons.push(match (verdict, &*ended.detail) {
                    (Verdict::Cancelled, _) if self.cancelled.is_some() => self.was_cancelled(),
                    (Verdict::Completed, _) => "everything was done".to_owned(),
                    (Verdict::CompletedWithErrors, "") => {
                        "what failed has `onFailure: continue`, so the rest was done".to_owned()
                    }
                    (_, "") => "it was stopped".to_owned(),
                    (_, detail) => detail.to_owned(),
                });
            }
            (Status::Paused, _) => reasons.push(self.paused()),
            (Status::Stopping, _) => {
                reasons.push("it is being stopped: what is under way is told to end".to_owned());
                reasons.extend(self.cancelled.map(|_| self.was_cancelled()));
            }
            (Status::Waiting, _) => reasons.push("it waits for a person".to_owned()),
            (Status::Pending, _) => reasons.push("nothing was begun yet".to_owned()),
            _ => reasons.push(match run.running().len() {
                0 => "no attempt is under way".to_owned(),
                1 => "1 attempt is under way".to_owned(),
                many => format!("{many} attempts are under way"),
            }),
        }
        let mut helps = Vec::new();
        if run.ended().is_none() && !self.worked_on {
            reasons.push("no node works on it".to_owned());
        }
        let resumes = run.ended().is_none() && (!self.worked_on || run.paused().is_some());
        if resumes && run.status() != Status::Waiting {
            helps.push(self.resume());
        }
        (reasons, helps)
    }

    fn paused(&self) -> String {
        match self.run.paused() {
            None | Some("") => "the run is paused".to_owned(),
            Some(reason) => format!("the run is paused: {reason}"),
        }
    }

    fn was_cancelled(&self) -> String {
        format!("it was cancelled {}", self.cancelled.unwrap_or_default())
    }

    fn resume(&self) -> Help {
        if self.run.paused().is_some() && self.run.is_out_of_time() {
            let id = self.run.id().to_string();
            return help("give it more time", &["runs", "budget", &id, "--time", "10m"]);
        }
        help("go on with the run", &["runs", "resume", &self.run.id().to_string()])
    }

    /// Of a step; the first sentence says the most.
    pub(super) fn step(&self, no: StepNo) -> Vec<String> {
        let (run, step) = (self.run, &self.run.steps()[no.index()]);
        if !step.status.is_final() && run.ended().is_some() {
            return self.left(no);
        }
        let mut reasons = match &step.status {
            StepStatus::Waiting => self.waiting(no),
            StepStatus::Ready => vec![self.ready(no)],
            StepStatus::Running => vec![format!(
                "attempt {} is under way; it has until {}",
                step.attempts(),
                step.deadline()
            )],
            StepStatus::Grown => vec![self.grown(no)],
            StepStatus::Retrying(at) => {
                let most = run.spec(no).retry.attempts_max;
                let wait = at.since(self.now).as_secs_f64();
                let next = match run.status() {
                    Status::Stopping => {
                        "there is no other one: its run is being stopped".to_owned()
                    }
                    _ => format!(
                        "the next one begins at {at}, in {wait:.1} s; there are at most {most}"
                    ),
                };
                vec![self.failed(no), next]
            }
            StepStatus::Asked => vec![self.asked(no)],
            StepStatus::Completed | StepStatus::Failed if step.is_taken() => {
                let failure = step.failure.as_deref();
                let failure =
                    failure.map(|failure| format!("{}: {}", failure.code, failure.message));
                failure.into_iter().chain(reason_of(run, step)).collect()
            }
            StepStatus::Completed => vec![match step.attempts() {
                0 => "it was done without an attempt of its own".to_owned(),
                1 => "it was done at the first attempt".to_owned(),
                attempt => format!("it was done at attempt {attempt}"),
            }],
            StepStatus::Failed => match step.failure.as_deref() {
                Some(failure) => vec![
                    format!("{}: {}", failure.code, failure.message),
                    given_up(run, no, failure, step.attempts()),
                ],
                None => vec!["it failed".to_owned()],
            },
            StepStatus::Skipped(Skipped::Condition) => {
                let when = run.spec(no).when.as_deref().unwrap_or_default();
                vec![format!("its `when` gave false: {when}")]
            }
            StepStatus::Skipped(Skipped::Needs { blame, .. }) => {
                let said = reason_of(run, step).into_iter();
                let failure = run.step(*blame).and_then(|step| step.failure.as_deref());
                let failure =
                    failure.map(|failure| format!("`{}`: {}", name(run, *blame), failure.message));
                said.chain(failure).collect()
            }
            StepStatus::Skipped(Skipped::Person) | StepStatus::Blocked(_) => {
                reason_of(run, step).into_iter().collect()
            }
            StepStatus::Dropped => {
                vec!["it was not wanted any more: its run or its group had ended".to_owned()]
            }
        };
        if matches!(step.status, StepStatus::Running | StepStatus::Retrying(_)) && !self.worked_on {
            reasons.insert(0, "no node works on the run".to_owned());
        }
        reasons
    }

    /// Of a step that its run left where it was: nothing is to come any more.
    fn left(&self, no: StepNo) -> Vec<String> {
        let cancelled = self.cancelled.map(|how| format!("its run was cancelled {how}"));
        let ended = cancelled.unwrap_or_else(|| "its run has ended".to_owned());
        let step = &self.run.steps()[no.index()];
        let before = match step.status {
            StepStatus::Retrying(_) => Some(self.failed(no)),
            StepStatus::Blocked(_) => reason_of(self.run, step),
            _ => None,
        };
        std::iter::once(ended).chain(before).collect()
    }

    fn failed(&self, no: StepNo) -> String {
        let step = &self.run.steps()[no.index()];
        let failure = step.failure.as_deref().map(|failure| format!(": {}", failure.message));
        format!("attempt {} failed{}", step.attempts(), failure.unwrap_or_default())
    }

    /// What a waiting step waits for, and what that comes down to.
    fn waiting(&self, no: StepNo) -> Vec<String> {
        let (run, step) = (self.run, &self.run.steps()[no.index()]);
        if let Some(by) = step.grown_by() {
            return vec![format!("it is a part of `{}`, and its turn has not come", name(run, by))];
        }
        let open = self.open_needs(no);
        let mut reasons = vec![format!("it waits for {}", self.named(&open))];
        let mut causes = BTreeSet::new();
        let (mut todo, mut seen) = (open, BTreeSet::new());
        while let Some(no) = todo.pop() {
            if !seen.insert(no) {
                continue;
            }
            match run.steps()[no.index()].status {
                StepStatus::Waiting => todo.extend(self.open_needs(no)),
                _ => drop(causes.insert(no)),
            }
        }
        for cause in causes.into_iter().take(NAMED_MAX) {
            reasons.push(format!("`{}`: {}", name(run, cause), self.step(cause).swap_remove(0)));
        }
        reasons
    }

    fn open_needs(&self, no: StepNo) -> Vec<StepNo> {
        let needs = self.run.spec(no).needs.iter().filter_map(|id| self.run.find(id.as_str()));
        needs.filter(|no| !self.run.steps()[no.index()].status.is_final()).collect()
    }

    fn named(&self, steps: &[StepNo]) -> String {
        let one = |no: &StepNo| {
            format!("`{}` ({})", name(self.run, *no), self.run.steps()[no.index()].status.as_str())
        };
        let named: Vec<String> = steps.iter().take(NAMED_MAX).map(one).collect();
        match steps.len().checked_sub(NAMED_MAX) {
            Some(more @ 1..) => format!("{} and {more} more", named.join(", ")),
            _ => named.join(", "),
        }
    }

    fn ready(&self, no: StepNo) -> String {
        let (run, step) = (self.run, &self.run.steps()[no.index()]);
        let most = run.plan().plan.max_parallel;
        if let Some(reason) = reason_of(run, step) {
            reason
        } else if run.paused().is_some() {
            self.paused()
        } else if !self.worked_on {
            "no node works on the run".to_owned()
        } else if self.is_full() {
            format!(
                "the run has {most} attempts under way, as many as `config.maxParallelAgents` allows"
            )
        } else if let Some(idle) = self.idle(no) {
            format!("it begins when a worker asks for work; {idle}")
        } else {
            let agent = self.agent(no).map_or("its agent".to_owned(), |agent| agent.name);
            format!(
                "it begins as soon as its node and `{agent}` have a slot for it; an agent that \
                 failed many times in a row is left alone for a while, and its retries are limited"
            )
        }
    }

    fn idle(&self, no: StepNo) -> Option<&String> {
        self.idle.get(&*self.agent(no)?.name)
    }

    /// Whether as many attempts are under way as the plan allows.
    fn is_full(&self) -> bool {
        self.run.running().len() as u64 >= u64::from(self.run.plan().plan.max_parallel)
    }

    fn grown(&self, no: StepNo) -> String {
        let step = &self.run.steps()[no.index()];
        let parts = step.parts();
        let open = |no: &&StepNo| !self.run.steps()[no.index()].status.is_final();
        let open: Vec<StepNo> = parts.iter().filter(open).copied().collect();
        let (done, of) = (parts.len() - open.len(), parts.len());
        let left = if open.is_empty() { String::new() } else { format!(": {}", self.named(&open)) };
        format!("{done} of its {of} parts have ended{left}")
    }

    fn asked(&self, no: StepNo) -> String {
        let (step, spec) = (&self.run.steps()[no.index()], self.run.spec(no));
        let Work::Approval { by, timeout_ms, on_timeout } = &spec.work else {
            return "the run is in manual mode: a person lets each step begin".to_owned();
        };
        let who = if by.is_empty() { "anybody".to_owned() } else { by.join(" or ") };
        match timeout_ms {
            None => format!("it waits for a word of {who}, for as long as it takes"),
            Some(_) => {
                let then = match on_timeout {
                    OnTimeout::Reject => "rejected",
                    OnTimeout::Approve => "approved",
                };
                format!("it waits for a word of {who} until {}; then it is {then}", step.deadline())
            }
        }
    }

    /// More of what the budget of a step, or of the run, limits: more of anything else helps nobody.
    fn more(&self, no: StepNo, own: bool) -> Help {
        let (run, id, step) = (self.run, self.run.id().to_string(), name(self.run, no));
        let of_step = run.spec(no).budget.as_ref().filter(|_| own);
        let budget = of_step.or(run.plan().plan.budget.as_ref());
        let (is_tokens, is_money) =
            budget.map_or((true, false), |of| (of.tokens.is_some(), of.nanos.is_some()));
        let mut command = vec!["runs", "budget", &*id];
        if own {
            command.extend(["--step", &*step]);
        }
        command.extend(match (is_tokens, is_money) {
            (true, _) => ["--tokens", "N"],
            (_, true) => ["--usd", "X"],
            _ => ["--time", "10m"],
        });
        help(
            "let it spend more of what is limited: `--tokens N`, `--usd X` or `--time 10m`",
            &command,
        )
    }

    fn blocked_part(&self, no: StepNo) -> Option<StepNo> {
        let steps = self.run.steps();
        let is_blocked = |no: &&StepNo| matches!(steps[no.index()].status, StepStatus::Blocked(_));
        steps[no.index()].parts().iter().find(is_blocked).copied()
    }

    /// What somebody can do about it.
    pub(super) fn help(&self, no: StepNo) -> Vec<Help> {
        let run = self.run;
        let (id, step) = (run.id().to_string(), name(run, no));
        if run.ended().is_some() {
            return self.anew(no).into_iter().collect();
        }
        match &run.steps()[no.index()].status {
            StepStatus::Asked => {
                let mut command = vec!["runs", "approve", &id, &step];
                if let Work::Approval { by, .. } = &run.spec(no).work
                    && let Some(first) = by.first()
                {
                    command.extend(["--by", first]);
                }
                vec![help("say yes, or no with `--reject`", &command)]
            }
            StepStatus::Blocked(Blocked::Budget { own, .. }) => vec![self.more(no, *own)],
            StepStatus::Blocked(Blocked::Account { .. }) => vec![
                help("see what is left of each limit", &["budgets"]),
                help(
                    "raise it, `[budgets]` in `kapelle.toml`, and have a node that starts then work on it",
                    &[],
                ),
                self.resume(),
            ],
            StepStatus::Blocked(Blocked::Question { .. }) => {
                vec![help("answer it", &["runs", "answer", &id, &step, "ANSWER"])]
            }
            StepStatus::Blocked(Blocked::NoAgent { lacks, .. }) if !lacks.is_empty() => vec![
                help("have a node work on it that has what is missing", &[]),
                self.resume(),
                help(
                    "try again on this one, where it is there now",
                    &["runs", "resolve", &*id, &*step, "--action", "retry"],
                ),
            ],
            StepStatus::Blocked(Blocked::NoAgent { agent, .. }) => vec![
                help(
                    &format!(
                        "register the agent `{agent}` at the server (`POST /agents`): it goes on by itself"
                    ),
                    &[],
                ),
                help(&format!("or have a node work on it that has the agent `{agent}`"), &[]),
                self.resume(),
            ],
            StepStatus::Blocked(Blocked::InDoubt { .. }) => ["retry", "complete", "skip", "fail"]
                .map(|action| {
                    let what = match action {
                        "retry" => "make the call again, with the same key",
                        "complete" => "the call was made: go on with what it gave, as JSON",
                        "skip" => "do without the step",
                        _ => "take it as failed",
                    };
                    let mut command = vec!["runs", "resolve", &*id, &*step, "--action", action];
                    if action == "complete" {
                        command.extend(["--output", "JSON"]);
                    }
                    help(what, &command)
                })
                .to_vec(),
            // Its parts go on when they may, and it with them.
            StepStatus::Grown if self.blocked_part(no).is_some() => {
                self.blocked_part(no).map(|part| self.help(part)).unwrap_or_default()
            }
            StepStatus::Waiting => self
                .open_needs(no)
                .into_iter()
                .take(NAMED_MAX)
                .flat_map(|no| self.help(no))
                .collect(),
            status if !status.is_final() && (!self.worked_on || run.paused().is_some()) => {
                vec![self.resume()]
            }
            StepStatus::Retrying(at) if run.status() != Status::Stopping => vec![
                help(&format!("mend what it failed of before the next attempt, at {at}"), &[]),
                help("or end the run", &["runs", "cancel", &id]),
            ],
            StepStatus::Failed | StepStatus::Skipped(Skipped::Needs { .. }) => {
                self.anew(no).into_iter().collect()
            }
            StepStatus::Ready if self.idle(no).is_some() => {
                vec![help("start a worker, as in docs/workers.md: it goes on by itself", &[])]
            }
            StepStatus::Ready if self.is_full() => vec![help(
                "have the next run do more at once: a higher `config.maxParallelAgents`, or \
                 `--max-parallel N`",
                &[],
            )],
            _ => Vec::new(),
        }
    }

    /// How a step is done after all that failed, or was skipped for one that did.
    fn anew(&self, no: StepNo) -> Option<Help> {
        let failed = match self.run.steps()[no.index()].status {
            StepStatus::Failed => no,
            StepStatus::Skipped(Skipped::Needs { blame, .. }) => blame,
            _ => return None,
        };
        let (id, step) = (self.run.id().to_string(), name(self.run, failed));
        // A fork begins with a step of the file, not with one that grew from it.
        let written = step.split('.').next().unwrap_or(&step);
        let where_to = if self.run.ended().is_some() { "" } else { ", in a run of its own" };
        let what =
            format!("mend what failed, and do `{written}` and all that needs it anew{where_to}");
        Some(help(&what, &["runs", "fork", &id, "--from", written]))
    }

    /// Who does it, and why this one.
    pub(super) fn agent(&self, no: StepNo) -> Option<Chosen> {
        let Work::Agent { agent, .. } = &self.run.spec(no).work else { return None };
        let reason = "the workflow names it (`agentName`)".to_owned();
        Some(Chosen { name: agent.to_string(), reason })
    }
}

fn help(what: &str, command: &[&str]) -> Help {
    Help { what: what.to_owned(), command: command.iter().map(|&word| word.to_owned()).collect() }
}
