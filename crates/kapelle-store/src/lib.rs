//! Where a journal is kept: in SQLite for work that must last, in memory for what need not.
//!
//! **Invariants:** both adapters pass `contract` and answer a random history alike; no rule about
//! runs is written here, only that an entry continues its run, that its writer owns the shard, and
//! that what it refers to exists. No error of SQLite leaves this crate.
//!
//! Start with [`Sqlite`], then `check`, which both adapters share.

mod check;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod limits;
mod memory;
mod nodes;
mod sqlite;

pub use memory::{Fate, Faults, Memory};
pub use nodes::{Alone, Member};
pub use sqlite::{Audited, Damage, Progress, Sqlite, Verified};
