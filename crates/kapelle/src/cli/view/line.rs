//! A line for a terminal: never wider than it may be, coloured or not.

use unicode_width::UnicodeWidthChar as _;

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Like any text.
    Plain,
    /// What the eye should find first.
    Bold,
    /// What it may pass over.
    Dim,
    /// Ended well.
    Good,
    /// Ended badly.
    Bad,
    /// Going on.
    Busy,
    /// Not as it should be.
    Doubt,
    /// Somebody is asked.
    Ask,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Busy => "36",
            Self::Doubt => "33",
            Self::Ask => "35",
        }
    }
}

/// A line as it goes to the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// With colours, without a line end.
    pub(super) text: String,
    /// How many columns it takes.
    pub(super) width: usize,
}

/// A line that is being written.
pub(super) struct Draft {
    chars: Vec<(char, Style)>,
    width: usize,
}

impl Draft {
    pub(super) const fn new() -> Self {
        Self { chars: Vec::new(), width: 0 }
    }

    /// How many columns it takes so far.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Adds a piece.
    pub(super) fn put(&mut self, style: Style, text: &str) -> &mut Self {
        self.chars.extend(text.chars().map(|c| (c, style)));
        self.width += columns(text);
        self
    }

    /// Adds a piece that takes exactly `width` columns: cut, or with blanks after it.
    pub(super) fn cell(&mut self, style: Style, text: &str, width: usize) -> &mut Self {
        let text = cut(text, width);
        self.put(style, &text).blanks(width.saturating_sub(columns(&text)))
    }

    /// Adds blanks.
    pub(super) fn blanks(&mut self, count: usize) -> &mut Self {
        self.put(Style::Plain, &" ".repeat(count))
    }

    /// The line, cut to `max` columns.
    pub(super) fn line(mut self, max: usize, colours: bool) -> Line {
        while self.chars.last().is_some_and(|(c, _)| *c == ' ') {
            self.chars.pop();
        }
        let mut width: usize = self.chars.iter().map(|(c, _)| column(*c)).sum();
        if width > max {
            while width >= max.max(1) {
                width -= self.chars.pop().map_or(0, |(c, _)| column(c));
            }
            let style = self.chars.last().map_or(Style::Plain, |(_, style)| *style);
            self.chars.push(('…', style));
            width += 1;
        }
        Line { width, text: painted(&self.chars, colours) }
    }
}

fn painted(chars: &[(char, Style)], colours: bool) -> String {
    let mut text = String::new();
    let mut now = Style::Plain;
    for (c, style) in chars {
        if colours && *style != now && *c != ' ' {
            text += if now == Style::Plain { "" } else { "\x1b[0m" };
            if *style != Style::Plain {
                text += &format!("\x1b[{}m", style.code());
            }
            now = *style;
        }
        text.push(*c);
    }
    text + if now == Style::Plain { "" } else { "\x1b[0m" }
}

/// How many columns `text` takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

fn column(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The start of `text` that fits into `max` columns; `…` is for the rest.
pub(super) fn cut(text: &str, max: usize) -> String {
    if columns(text) <= max {
        return text.to_owned();
    }
    let mut width = 0;
    let fits = |c: &char| {
        width += column(*c);
        width < max
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if max > 0 {
        kept.push('…');
    }
    kept
}

/// `text` as at most `lines` lines of `max` columns, broken between words where it can be.
pub(super) fn wrapped(text: &str, max: usize, lines: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && out.len() < lines {
        if out.len() + 1 == lines || columns(rest) <= max {
            out.push(cut(rest, max));
            break;
        }
        let (line, after) = rest.split_at(break_of(rest, max.max(1)));
        out.push(line.trim_end().to_owned());
        rest = after.trim_start();
    }
    out
}

/// Where a text that is too long is broken: after its last blank that fits, or in a word.
fn break_of(text: &str, max: usize) -> usize {
    let mut width = 0;
    let mut blank = None;
    for (at, c) in text.char_indices() {
        width += column(c);
        if width > max {
            // A blank may stand right behind what fits; one character is always taken.
            let here = if c == ' ' { Some(at) } else { blank };
            return here.unwrap_or(if at == 0 { c.len_utf8() } else { at });
        }
        if c == ' ' {
            blank = Some(at + 1);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns_and_not_by_characters() {
        let mut draft = Draft::new();
        draft.put(Style::Good, "✓").blanks(1).put(Style::Plain, "日本語の名前");
        let line = draft.line(9, false);
        assert_eq!((line.text.as_str(), line.width), ("✓ 日本語…", 9));
    }

    #[test]
    fn colours_end_where_their_piece_ends() {
        let mut draft = Draft::new();
        draft.put(Style::Bad, "no").put(Style::Plain, " way").blanks(5);
        assert_eq!(draft.line(80, true).text, "\x1b[31mno \x1b[0mway");
    }

    #[test]
    fn a_text_is_broken_between_words() {
        let text = "`sh` ended with 2: cannot open a-very-long-name-of-a-file";
        assert_eq!(
            wrapped(text, 20, 3),
            ["`sh` ended with 2:", "cannot open", "a-very-long-name-of…"]
        );
        assert_eq!(wrapped("ééééé", 2, 9), ["éé", "éé", "é"]);
        assert_eq!(wrapped("", 10, 3), Vec::<String>::new());
    }
}
