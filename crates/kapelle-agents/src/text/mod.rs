//! Text taken apart: blocks, sentences, passages, words, stems.
//!
//! **Invariants:** every range lies on character boundaries of the text it was made from, whatever
//! that text is; every function takes time in proportion to the text, and no piece is longer than a
//! constant, so a megabyte without a full stop is only a long text.
//!
//! Absent on purpose: markup besides Markdown. What is read here is text, or Markdown as text.

mod blocks;
mod emphasis;
mod german;
mod language;
mod link;
mod marked;
mod offsets;
mod passages;
mod plain;
mod sentences;
mod stop;
mod terms;
mod words;

pub(crate) use blocks::{Block, Kind, blocks};
pub(crate) use language::Language;
pub(crate) use marked::as_marked;
pub(crate) use offsets::Offsets;
pub(crate) use passages::{Passage, passages};
pub(crate) use plain::{Written, plain, squeeze};
pub(crate) use sentences::sentences;
pub(crate) use terms::{Term, Terms};
pub(crate) use words::words;

#[cfg(test)]
mod tests;
