//! The fake on the wire.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails; indices are small"
)]

mod anthropic;
mod cache;
mod faults;
mod manual;
mod openai;
mod pace;
mod sdk;
mod support;
