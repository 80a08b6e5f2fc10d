//! The engine as a whole, driven from outside: real lives, and simulated ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod life;
mod pair;
mod poison;
mod shards;
mod sim;
