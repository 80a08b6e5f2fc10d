//! Passages: a few sentences that stand together, short enough to be quoted.
//!
//! **Invariant:** a passage never goes across a heading, and no passage has more than twice the
//! words it aims at.

use std::ops::Range;

use super::blocks::{Block, Kind};
use super::sentences::sentences;
use super::words::words;

/// How many words a passage aims at.
const WORDS: usize = 120;
/// A passage of fewer words takes the next block in as well.
const WORDS_FEW: usize = 40;

/// A few sentences of a document.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) range: Range<usize>,
    /// The heading it is below.
    pub(crate) heading: Option<Range<usize>>,
    pub(crate) words: usize,
}

/// The passages of the `blocks` of `text`.
pub(crate) fn passages(text: &str, blocks: &[Block]) -> Vec<Passage> {
    let mut maker = Maker { found: Vec::new(), heading: None, open: None };
    for block in blocks {
        match block.kind {
            Kind::Heading(_) => {
                maker.close();
                maker.heading = Some(block.range.clone());
            }
            Kind::Paragraph | Kind::Item { .. } | Kind::Code | Kind::Row => {
                maker.block(text, block)
            }
        }
    }
    maker.close();
    maker.found
}

struct Maker {
    found: Vec<Passage>,
    heading: Option<Range<usize>>,
    open: Option<Passage>,
}

impl Maker {
    fn block(&mut self, text: &str, block: &Block) {
        let paragraph = block.kind == Kind::Paragraph;
        if paragraph && self.open.as_ref().is_some_and(|open| open.words >= WORDS_FEW) {
            self.close();
        }
        for sentence in sentences(text, block.range.clone()) {
            let count = words(&text[sentence.clone()]).count();
            self.sentence(sentence, count);
        }
    }

    fn sentence(&mut self, sentence: Range<usize>, words: usize) {
        if self.open.as_ref().is_some_and(|open| open.words + words > WORDS) {
            self.close();
        }
        let heading = &self.heading;
        let open = self.open.get_or_insert_with(|| Passage {
            range: sentence.clone(),
            heading: heading.clone(),
            words: 0,
        });
        open.range.end = sentence.end;
        open.words += words;
    }

    fn close(&mut self) {
        self.found.extend(self.open.take());
    }
}
