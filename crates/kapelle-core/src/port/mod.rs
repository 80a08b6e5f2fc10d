//! What core needs of the world, as traits: a journal with accounts, records and an audit log, nodes, agents.
//!
//! Adapters implement these in crates of their own; core never names one.

pub mod account;
pub mod agent;
pub mod audit;
pub mod journal;
pub mod nodes;
pub mod record;

pub use account::Accounts;
pub use agent::{Agent, Agents, Answer, Call, Desk, Failure, FailureKind};
pub use audit::Audit;
pub use journal::Journal;
pub use nodes::Nodes;
pub use record::Records;
