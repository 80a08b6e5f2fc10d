//! The agents against real processes and real servers on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod contract;
mod death;
mod dialects;
mod echo;
mod egress;
mod files;
mod http;
mod judged;
mod memory;
mod model;
mod peers;
mod process;
mod rules;
mod shipped;
mod support;
mod web;
