//! Words: what is searched for and counted.
//!
//! **Invariant:** each word is a slice of the text. A run of a script that writes no spaces gives
//! its overlapping pairs of characters, which is what such scripts are best searched by.

use std::ops::Range;

/// The words of `text`, in order, each with where it is.
pub(crate) fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

pub(crate) struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = (Range<usize>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at + skip(&self.text[self.at..])?;
        let first = self.text[start..].chars().next()?;
        let end = if is_dense(first) { self.pair(start, first) } else { self.run(start) };
        Some((start..end, &self.text[start..end]))
    }
}

impl Words<'_> {
    /// The pair that begins at `start`, or the single character where there is no second one.
    fn pair(&mut self, start: usize, first: char) -> usize {
        let second = start + first.len_utf8();
        self.at = second;
        let mut rest = self.text[second..].chars();
        let Some(next) = rest.next().filter(|next| is_dense(*next)) else { return second };
        let end = second + next.len_utf8();
        if !rest.next().is_some_and(is_dense) {
            self.at = end;
        }
        end
    }

    /// The end of a word of letters and digits; an apostrophe or a decimal point stays inside.
    fn run(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut end = start;
        while let Some(byte) = bytes.get(end) {
            if byte.is_ascii_alphanumeric() {
                end += 1;
                continue;
            }
            if byte.is_ascii() {
                let follows = bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric);
                if !follows || end == start || !joins(bytes[end - 1], *byte, bytes[end + 1]) {
                    break;
                }
                end += 1;
                continue;
            }
            match self.text[end..].chars().next() {
                Some(letter) if is_letter(letter) && !is_dense(letter) => end += letter.len_utf8(),
                _ => break,
            }
        }
        self.at = end;
        end
    }
}

/// Whether `mark` between two letters or digits is part of the word.
fn joins(before: u8, mark: u8, after: u8) -> bool {
    match mark {
        b'.' | b',' => before.is_ascii_digit() && after.is_ascii_digit(),
        b'\'' => before.is_ascii_alphabetic() && after.is_ascii_alphabetic(),
        _ => false,
    }
}

/// How many bytes there are before the first letter or digit.
fn skip(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii() {
            if byte.is_ascii_alphanumeric() {
                return Some(at);
            }
            at += 1;
            continue;
        }
        let letter = text[at..].chars().next()?;
        if is_letter(letter) {
            return Some(at);
        }
        at += letter.len_utf8();
    }
    None
}

/// Letters, digits, and the marks that sit on them.
fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '\u{300}'..='\u{36f}' | '\u{93e}'..='\u{94d}')
}

/// Scripts that write no spaces between words: Han, kana, Thai, Lao, Khmer, Burmese.
fn is_dense(letter: char) -> bool {
    matches!(letter,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
        && letter.is_alphanumeric()
}
