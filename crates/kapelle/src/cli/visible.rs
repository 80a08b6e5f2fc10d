//! Texts of others without what could do anything to a terminal.

use std::iter::Peekable;
use std::str::Chars;

/// `text` without its terminal sequences (colours, titles, movements), which go as a whole, and with
/// a blank for every other control character but line ends and tabs.
pub(crate) fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            '\n' | '\t' => seen.push(c),
            c if c.is_control() => seen.push(' '),
            // What turns the order of letters around has a name pass for another one.
            c if turns(c) => seen.extend(c.escape_unicode()),
            c => seen.push(c),
        }
    }
    seen
}

/// Whether it steers in which direction a text is shown.
const fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows an escape character.
fn skip_escape(rest: &mut Peekable<Chars<'_>>) {
    match rest.next_if(|c| (' '..='~').contains(c)) {
        Some('[') => skip_control(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
        Some(' '..='/') => {
            while rest.next_if(|c| (' '..='/').contains(c)).is_some() {}
            rest.next_if(|c| ('0'..='~').contains(c));
        }
        _ => {}
    }
}

/// Numbers up to a letter, as of a colour.
fn skip_control(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| (' '..='?').contains(c)).is_some() {}
    rest.next_if(|c| ('@'..='~').contains(c));
}

/// A text for the terminal, as of a title; one without an end takes its line with it, and no more.
fn skip_string(rest: &mut Peekable<Chars<'_>>) {
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' if rest.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::visible;
    use crate::cli::out::shown;

    #[test]
    fn a_sequence_goes_as_a_whole() {
        for (text, seen) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[1;38;5;196mbold\u{1b}[m it", "bold it"),
            ("\u{1b}]0;pwn\u{7}title", "title"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}Pq#0\u{1b}\\sixel", "sixel"),
            ("\u{1b}(Bascii \u{1b}cand \u{1b}7more", "ascii and more"),
            ("\u{9b}2Jgone \u{9d}0;x\u{9c}here", "gone here"),
            ("\u{1b}]0;no end\nnext", "\nnext"),
            ("cut \u{1b}[31", "cut "),
            ("cut \u{1b}", "cut "),
            ("\u{1b}日本\u{1b}[宽", "日本宽"),
            ("a\u{0}b\rc\td", "a b c\td"),
            ("gpj\u{202e}exe.", "gpj\\u{202e}exe."),
            ("\u{2066}a\u{2069} שלום", "\\u{2066}a\\u{2069} שלום"),
        ] {
            assert_eq!(visible(text), seen, "{text:?}");
        }
        assert_eq!(shown("\u{1b}[1m\u{1b}[31mred\u{1b}[0m\u{1b}[0m", 4), "red");
    }
}
