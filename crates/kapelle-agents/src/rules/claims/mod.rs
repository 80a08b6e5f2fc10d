//! Claims: what a document says of something as a number, a date, a version or a yes or no.
//!
//! **Invariants:** a claim is a slice of its page; two claims are compared only if they are of one
//! kind of value and about the same thing, with the same conditions. It is better to miss a
//! contradiction than to invent one: what is an example, a question, history or an instruction is
//! no claim.

mod about;
mod agree;
mod flag;
mod sentence;
mod value;

pub(super) use agree::{Group, groups, topic};
pub(super) use sentence::{Claim, cells, claims};
pub(super) use value::{Dimension, has_value, is_measured};

#[cfg(test)]
mod tests;
