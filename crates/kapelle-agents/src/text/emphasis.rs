//! Which stars and underscores of a line of Markdown are emphasis: CommonMark's rules of runs that
//! flank words, so `orders.*` and `snake_case` keep theirs.
//!
//! **Invariant:** each run is looked at a bounded number of times, whatever the text is.

use std::ops::Range;

/// Runs of one mark, in the order of the text.
#[derive(Default)]
pub(super) struct Runs(Vec<Run>);

#[derive(Clone, Copy)]
struct Run {
    mark: u8,
    at: usize,
    /// How many marks are not used yet, and how many there were.
    left: usize,
    len: usize,
    opens: bool,
    closes: bool,
}

impl Run {
    /// Whether `self`, which closes, may belong to `open`.
    fn fits(&self, open: &Self) -> bool {
        let either = open.closes || self.opens;
        let odd = either && (open.len + self.len).is_multiple_of(3);
        open.mark == self.mark && (!odd || open.len.is_multiple_of(3))
    }

    /// What looks for the same opening runs as this one.
    fn kind(&self) -> usize {
        usize::from(self.mark == b'_') * 6 + usize::from(self.opens) * 3 + self.len % 3
    }
}

impl Runs {
    /// Takes the run at `range` of `text`, whose neighbours are looked for in `inside` only.
    pub(super) fn take(&mut self, text: &str, range: &Range<usize>, inside: &Range<usize>) {
        let before = text[inside.start..range.start].chars().next_back();
        let after = text[range.end..inside.end].chars().next();
        let blank = |letter: Option<char>| letter.is_none_or(char::is_whitespace);
        let sign = |letter: Option<char>| {
            letter.is_some_and(|letter| !letter.is_alphanumeric() && !letter.is_whitespace())
        };
        let left = !blank(after) && (!sign(after) || blank(before) || sign(before));
        let right = !blank(before) && (!sign(before) || blank(after) || sign(after));
        let mark = text.as_bytes()[range.start];
        let (opens, closes) = match mark {
            b'_' => (left && (!right || sign(before)), right && (!left || sign(after))),
            _ => (left, right),
        };
        let len = range.len();
        self.0.push(Run { mark, at: range.start, left: len, len, opens, closes });
    }

    /// The marks that are emphasis; the runs are forgotten.
    pub(super) fn settle(&mut self, found: &mut Vec<Range<usize>>) {
        let mut open: Vec<Run> = Vec::new();
        // Below which of `open` nothing fits a kind of closing run: what was searched once is not again.
        let mut searched = [0; 12];
        for mut run in self.0.drain(..) {
            while run.closes && run.left > 0 {
                let from = searched[run.kind()];
                let Some(at) = open[from..].iter().rposition(|open| run.fits(open)) else {
                    searched[run.kind()] = open.len();
                    break;
                };
                open.truncate(from + at + 1);
                let Some(begun) = open.last_mut() else { break };
                let used = run.left.min(begun.left).min(2);
                begun.left -= used;
                let start = begun.at + begun.left;
                found.extend([start..start + used, run.at..run.at + used]);
                (run.at, run.left) = (run.at + used, run.left - used);
                open.pop_if(|begun| begun.left == 0);
                searched.iter_mut().for_each(|from| *from = open.len().min(*from));
            }
            if run.opens && run.left > 0 {
                open.push(run);
            }
        }
    }
}
