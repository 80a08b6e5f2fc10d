//! Claims: what a document says of something as a number, a date, a version or a yes or no.
//!
//! **Invariants:** a claim is a slice of its page; two claims are compared only if they are of one
//! kind of value and about the same thing, with the same conditions. It is better to miss a
//! contradiction than to invent one: what is an example, a question, history or an instruction is
//! no claim.

mod about;
mod agree;
mod clause;
mod flag;
mod only;
mod opposed;
mod sentence;
mod value;

use super::document::Page;
use crate::text::Terms;

pub(super) use agree::{Group, topic};
pub(super) use sentence::{Claim, cells};
pub(super) use value::{Dimension, has_value, measured};

#[cfg(test)]
mod tests;

/// What `pages` say, and which of it is about one thing, by its place in the list.
pub(super) fn told(pages: &[Page<'_>], terms: &mut Terms) -> (Vec<Claim>, Vec<Group>) {
    let mut all = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        all.extend(sentence::claims(index, page, terms));
    }
    let mut groups = agree::groups(&all, pages, terms);
    let against = groups.iter().filter(|group| group.is_contradiction());
    let known = against.flat_map(|group| group.values.iter().flatten());
    let known = known.map(|at| (all[*at].page, all[*at].range.start)).collect();
    groups.extend(opposed::opposed(pages, &known, terms, &mut all));
    groups.extend(only::only(pages, terms, &mut all));
    (all, groups)
}
