//! The engine as a whole, driven from outside: real lives, and simulated ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kept;
mod life;
mod pair;
mod poison;
mod shards;
mod sim;

/// As the binary has it: a simulation is as fast as memory is given.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
