//! Plans, runs and what to do next: everything that Kapelle decides, and nothing that it does.
//!
//! **Invariant:** nothing here reads a clock, rolls dice, waits, or touches a file, the network or
//! the environment. The same events give the same run on every machine and in every version.
//! Time and random numbers are arguments; what core needs of the world it declares in [`port`].

mod digest;
pub mod expr;
mod ids;
pub mod plan;
pub mod port;
pub mod problem;
pub mod run;
mod suggest;
mod time;
mod value;
mod violation;
pub mod workflow;

pub use digest::{Digest, Digester};
pub use ids::{Attempt, BadId, Epoch, NodeId, RunId, Shard, StepId, StepNo, Tenant};
pub use time::{DURATION_PATTERN, Timestamp, parse_duration};
pub use value::{Artifact, INLINE_MAX, Json, Payload, ROW_MAX, Value, canonical};
