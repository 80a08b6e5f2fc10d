//! The binary from outside, as a user has it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_files;
mod api;
mod approve;
mod bench;
mod budgets;
mod cassette;
mod check;
mod code_review;
mod doctor;
mod fake_model;
mod fault;
mod fault_round;
mod full;
mod help;
mod history;
mod injection;
mod kill;
mod kill_check;
mod kill_node;
mod kill_processes;
mod kill_round;
mod kill_server;
mod kill_stores;
mod leak;
mod library;
mod live;
mod memory;
mod model;
mod pages;
mod peers;
mod plan;
mod poison;
mod recover;
mod repo_check;
mod research;
mod run;
mod size;
mod slow;
mod store;
mod storm;
mod support;
mod terminal;
mod web;
mod why;
