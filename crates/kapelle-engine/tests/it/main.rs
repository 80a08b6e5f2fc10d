//! The engine: whole lives, and simulated ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod life;
//! The engine as a whole, driven from outside.

mod sim;
