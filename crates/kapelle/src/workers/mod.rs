//! Agents whose work others do: who has registered, who waits for work, and who works on what.
//!
//! **Invariants:** an attempt has one worker at the most; its lease counts from the assignment, or the last
//! word of that worker, and one that nobody has taken has none. Nothing here is durable but what the
//! [`registry`] keeps: what an attempt came to is the engine's to write down, and its fence is the engine's.
//!
//! The routes are in `server::work`; the contract is `docs/workers.md`.

mod hub;
mod post;
pub(crate) mod registry;

pub(crate) use hub::{Attempt, AttemptId, NoPlace, Whose};
pub(crate) use post::{Ending, Made, Output};
