//! The binary from outside, as a user has it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod approve;
mod check;
mod help;
mod library;
mod plan;
mod recover;
mod repo_check;
mod run;
mod store;
mod support;
