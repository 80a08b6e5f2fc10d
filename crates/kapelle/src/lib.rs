//! Kapelle, the durable orchestra for agents: command line, server and library.
//!
//! **Invariant:** this crate alone knows all the others. The command line goes through the same
//! routes as any client; core and engine receive values, never the configuration.
//!
//! As a library, start with [`open`]; `examples/library.rs` is a whole program.

mod cassette;
pub mod cli;
mod config;
mod library;
mod log;
mod node;
#[doc(hidden)]
pub mod probe;
mod roster;
mod server;
mod workers;

pub use library::{Builder, Error, Kapelle, Running, agent_fn, open, open_on};

pub use kapelle_api::{Event, EventKind};
pub use kapelle_core::port::agent::{
    Agent, Answer, BoxFuture, Call, Desk, Effect, Failure, FailureKind, Progress, Safety,
};
pub use kapelle_core::problem::Problem;

/// What this machine's clock says.
fn now() -> kapelle_core::Timestamp {
    kapelle_core::Timestamp(jiff::Timestamp::now().as_microsecond())
}
