//! The engine: turns decisions into work, and work into facts.
//!
//! [`shards`] is the heart, without I/O; a thin shell of threads and tasks feeds it, does what it
//! says, and keeps the node's claims. **Invariant:** nothing leaves before its commit.
//!
//! Absent on purpose: stores and agents (they come in through core's ports), and any second
//! implementation of recovery: a run that was left behind is loaded, adopted, and turned like any other.

mod accounts;
mod allowance;
mod attempt;
mod breaker;
mod claims;
mod clock;
mod common;
mod desk;
mod engine;
mod feed;
mod fork;
mod history;
mod meter;
mod reader;
pub mod shards;
mod shell;
mod slots;
mod submit;
mod tally;
mod transfer;
mod values;
mod version;
mod watch;

pub use accounts::{Account, Limit, Limits};
pub use engine::{Adopt, Engine, Error, NewRun, Options, Parts, Submitted};
pub use feed::Progressed;
pub use fork::Fork;
pub use meter::{Commit, Load, Meter};
pub use slots::{Alone, Slot, Slots, Taken};
pub use submit::PreparedPlan;
pub use tally::Tally;
pub use transfer::{EXPORT_MAX, Export};
pub use version::Version;
pub use watch::{Seen, SeenEvent};
