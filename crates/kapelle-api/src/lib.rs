//! The wire types of the HTTP API, and a client for it.
//!
//! **Invariants:** this crate depends on none of ours, so a client needs nothing of the engine.
//! What a server reads refuses unknown fields; what a client reads ignores them. Times are RFC 3339
//! in UTC, digests `sha256:<hex>`.
//!
//! The server is in the crate `kapelle`, `server`; what each route does is in `docs/api.md`.

mod agent;
mod audit;
mod bill;
pub mod client;
mod event;
mod history;
mod key;
mod plan;
mod problem;
mod run;
mod stream;
mod why;
mod worker;

pub use agent::{
    Action, Activity, Agent, AgentWarning, CheckedAgent, CheckedAgents, Thinks, UnusableAgent,
    Workers,
};
pub use audit::AuditEntry;
pub use bill::{
    Account, Amount, Asked, Bill, Budgets, Limit, ModelSpending, Raise, Spending, StepSpending,
};
pub use client::Client;
pub use event::{Event, EventKind, Failure};
pub use history::{Diff, DiffSide, Difference, Durations, Fork, Forked, Prune, Pruned};
pub use key::{CreatedKey, Key, NewKey};
pub use plan::{Analysis, CheckRequest, Checked, PlanRequest, StepAnalysis};
pub use problem::{Finding, Problem};
pub use run::{
    Answer, Approval, Artifact, Decision, Message, NewRun, Node, Page, Resolution, Resolve, Run,
    RunSummary, RunsQuery, Step, Submitted, Told, Wish,
};
pub use stream::{Frame, Lagged, NewStreamTicket, StreamTicket};
pub use why::{Attempt, Chosen, Cost, Help, Line, ModelCall, Why};
pub use worker::{
    AgentPatch, AgentsQuery, Alert, Assignment, Beat, Completion, Heard, NewAction, NewAgent,
    NewArtifact, NewEffect, NewFailure, Recorded, Settled, WorkQuery,
};

/// Whether a number says nothing, so that it need not be told.
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// A JSON value.
pub type Json = serde_json::Value;
