//! What a model reads in a text and a person does not see: it is written out.
//!
//! **Invariant:** nothing of a text goes without a trace. What is needed in its place stays: what joins
//! emoji, and single joiners between letters of scripts that are written with them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// What is not seen: ignorable by default, or there to steer how the rest is shown.
const HIDDEN: [RangeInclusive<char>; 18] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];
/// Pictures, and signs that are shown as one.
const EMOJI: [RangeInclusive<char>; 9] = [
    '\u{a9}'..='\u{ae}',
    '\u{203c}'..='\u{203c}',
    '\u{2049}'..='\u{2049}',
    '\u{2122}'..='\u{21ff}',
    '\u{2300}'..='\u{23ff}',
    '\u{25a0}'..='\u{27bf}',
    '\u{2900}'..='\u{2bff}',
    '\u{3030}'..='\u{3299}',
    '\u{1f000}'..='\u{1faff}',
];
/// Letters of Arabic, of India and of its neighbours, which are joined or kept apart.
const JOINED: [RangeInclusive<char>; 3] =
    ['\u{620}'..='\u{109f}', '\u{1780}'..='\u{17b3}', '\u{1820}'..='\u{18aa}'];

/// The text with what is not seen written out, as `\u{e0041}`. Flags of three countries are among it,
/// which is the price.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_hidden(c) && !is_needed(c, before, chars.peek().copied()) {
            shown.extend(c.escape_unicode());
            before = None;
        } else {
            shown.push(c);
            before = Some(c);
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(c: char) -> bool {
    is_in(c, &HIDDEN)
}

/// Whether what is not seen itself makes what stands before it what it is.
fn is_needed(c: char, before: Option<char>, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    let is_picture = |c: char| is_in(c, &EMOJI);
    let is_letter = |c: char| is_in(c, &JOINED);
    match c {
        '\u{fe0f}' => is_picture(before) || (after == Some('\u{20e3}') && before.is_ascii()),
        '\u{200d}' if is_picture(before) || before == '\u{fe0f}' => after.is_some_and(is_picture),
        '\u{200c}' | '\u{200d}' => is_letter(before) && after.is_some_and(is_letter),
        _ => false,
    }
}

fn is_in(c: char, ranges: &[RangeInclusive<char>]) -> bool {
    ranges.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_written_out() {
        for c in [
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2061}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{e0041}',
            '\u{e01ef}',
        ] {
            let shown = visible(&format!("a{c}b")).into_owned();
            assert_eq!(shown, format!("a{}b", c.escape_unicode()), "{c:?}");
        }
        // Bytes hidden behind a picture, and one joiner after another.
        assert_eq!(visible("😀\u{fe01}"), "😀\\u{fe01}");
        assert_eq!(visible("😀\u{fe0f}\u{fe0f}"), "😀\u{fe0f}\\u{fe0f}");
        assert_eq!(visible("می\u{200c}\u{200c}خ"), "می\\u{200c}\\u{200c}خ");
    }

    #[test]
    fn what_is_needed_to_be_seen_stays() {
        for text in [
            "plain, Łódź",
            "❤\u{fe0f}",
            "👩\u{200d}💻",
            "🏳\u{fe0f}\u{200d}🌈",
            "1\u{fe0f}\u{20e3}",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
        ] {
            assert_eq!(visible(text), text);
        }
    }
}
