//! The two sheets that are written at once: plain text and Markdown.
//!
//! **Invariant:** white space is collapsed, blocks are apart by one empty line at the most, and
//! prefixes of lists and quotes do not grow with depth beyond [`DEPTH_MAX`].

use super::parts::Table;
use crate::text::squeeze;

/// How deep lists and quotes are set off.
const DEPTH_MAX: usize = 6;

/// Text and Markdown, as far as they are written.
#[derive(Default)]
pub(super) struct Sheet {
    text: String,
    markdown: String,
    /// White space that is due before the next word.
    gap: Gap,
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// How deep in quotes the last line is.
    quoted: usize,
    /// What begins the next line: a list's marker, or the signs of a heading.
    marker: Option<String>,
    /// Marks that open with the next word.
    marks: Vec<(&'static str, bool)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Blank,
    Line,
    Empty,
}

impl Sheet {
    pub(super) fn finish(self) -> (String, String) {
        (self.text, self.markdown)
    }

    /// Words that flow.
    pub(super) fn prose(&mut self, text: &str) {
        if text.starts_with(char::is_whitespace) {
            self.gap = self.gap.max(Gap::Blank);
        }
        for (n, word) in text.split_whitespace().enumerate() {
            if n > 0 {
                self.text.push(' ');
                self.markdown.push(' ');
            } else {
                self.begin_word();
            }
            self.text.push_str(word);
            push_escaped(&mut self.markdown, word);
            self.gap = Gap::None;
        }
        if text.ends_with(char::is_whitespace) {
            self.gap = self.gap.max(Gap::Blank);
        }
    }

    /// A few words of code in the flow.
    pub(super) fn code(&mut self, code: &str) {
        let code = squeeze(code);
        if code.is_empty() {
            return;
        }
        self.begin_word();
        self.text.push_str(&code);
        let fence = "`".repeat((longest_run(&code) + 1).min(32));
        let blank = if code.starts_with('`') || code.ends_with('`') { " " } else { "" };
        for piece in [&fence, blank, &code, blank, &fence] {
            self.markdown.push_str(piece);
        }
    }

    pub(super) fn block_of_code(&mut self, code: &str, language: Option<&str>) {
        let code = code.trim_matches('\n').trim_end();
        if code.trim().is_empty() {
            return;
        }
        self.end_block(2);
        self.begin_word();
        let fence = "`".repeat((longest_run(code) + 1).clamp(3, 32));
        self.markdown.push_str(&fence);
        self.markdown.push_str(language.unwrap_or_default());
        let prefix = self.prefix();
        for (n, line) in code.lines().enumerate() {
            if n > 0 {
                self.text.push('\n');
            }
            self.text.push_str(line.trim_end());
            self.markdown.push('\n');
            self.markdown.push_str(&prefix);
            self.markdown.push_str(line.trim_end());
        }
        self.markdown.push('\n');
        self.markdown.push_str(&prefix);
        self.markdown.push_str(&fence);
        self.end_block(2);
    }

    /// Ends a block, with an empty line after it if `lines` is 2.
    pub(super) fn end_block(&mut self, lines: u8) {
        let gap = if lines > 1 && self.lists.is_empty() { Gap::Empty } else { Gap::Line };
        self.gap = self.gap.max(gap);
    }

    pub(super) fn begin_heading(&mut self, level: u8) {
        self.end_block(2);
        if self.marker.is_none() {
            self.marker = Some(format!("{} ", "#".repeat(level.into())));
        }
    }

    pub(super) fn end_heading(&mut self) {
        if self.marker.as_ref().is_some_and(|marker| marker.starts_with('#')) {
            self.marker = None;
        }
        self.end_block(2);
    }

    pub(super) fn begin_list(&mut self, number: Option<u64>) {
        self.end_block(if self.lists.is_empty() { 2 } else { 1 });
        self.lists.push(number);
    }

    pub(super) fn end_list(&mut self) {
        self.lists.pop();
        self.end_block(if self.lists.is_empty() { 2 } else { 1 });
    }

    pub(super) fn begin_item(&mut self) {
        self.end_block(1);
        self.marker = Some(match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{number}. ");
                *number = number.saturating_add(1);
                marker
            }
            Some(None) | None => "- ".to_owned(),
        });
    }

    pub(super) fn end_item(&mut self) {
        self.marker = None;
        self.end_block(1);
    }

    pub(super) fn begin_quote(&mut self) {
        self.end_block(2);
        self.quotes += 1;
    }

    pub(super) fn end_quote(&mut self) {
        self.quotes = self.quotes.saturating_sub(1);
        self.end_block(2);
    }

    pub(super) fn rule(&mut self) {
        self.end_block(2);
    }

    pub(super) fn begin_mark(&mut self, mark: &'static str) {
        if self.marks.len() < DEPTH_MAX && self.marks.iter().all(|(known, _)| *known != mark) {
            self.marks.push((mark, false));
        }
    }

    pub(super) fn end_mark(&mut self, mark: &'static str) {
        if let Some((_, was_opened)) = self.marks.pop_if(|(open, _)| *open == mark)
            && was_opened
        {
            self.markdown.push_str(mark);
        }
    }

    /// Where in the Markdown the text of a link begins.
    pub(super) fn begin_link(&mut self) -> usize {
        self.markdown.len()
    }

    /// Makes a link to `url` of what was written since `begun`.
    pub(super) fn end_link(&mut self, begun: usize, url: Option<&str>) {
        let Some(url) = url else { return };
        let written = &self.markdown[begun..];
        let lead = written.len() - written.trim_start_matches([' ', '\n', '>', '#', '-']).len();
        // What reaches over several blocks is no link in Markdown.
        if written.trim().is_empty() || written[lead..].contains('\n') {
            return;
        }
        self.markdown.insert(begun + lead, '[');
        self.markdown.push_str("](");
        for letter in url.chars() {
            match letter {
                '(' => self.markdown.push_str("%28"),
                ')' => self.markdown.push_str("%29"),
                letter => self.markdown.push(letter),
            }
        }
        self.markdown.push(')');
    }

    pub(super) fn table(&mut self, table: &Table) {
        if !table.caption.is_empty() {
            self.prose(&table.caption);
            self.end_block(2);
        }
        let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0).min(64);
        let (prefix, mut lines) = (self.prefix(), 0);
        for row in &table.rows {
            if lines == 0 {
                self.begin_word();
            } else {
                self.text.push('\n');
                self.markdown.push('\n');
                self.markdown.push_str(&prefix);
            }
            self.text.push_str(row.join("\t").trim());
            self.row(row);
            if lines == 0 {
                self.markdown.push('\n');
                self.markdown.push_str(&prefix);
                self.markdown.push_str(&"| --- ".repeat(columns));
                self.markdown.push('|');
            }
            lines += 1;
        }
        self.end_block(2);
    }

    fn row(&mut self, row: &[String]) {
        for cell in row {
            self.markdown.push_str("| ");
            push_escaped(&mut self.markdown, cell);
            self.markdown.push(' ');
        }
        self.markdown.push('|');
    }

    /// Writes what is due before a word.
    fn begin_word(&mut self) {
        let gap = std::mem::take(&mut self.gap);
        let newlines = match gap {
            Gap::None | Gap::Blank => 0,
            Gap::Line => 1,
            Gap::Empty => 2,
        };
        if !self.text.is_empty() {
            self.text.push_str(&"\n\n"[..newlines]);
            if gap == Gap::Blank {
                self.text.push(' ');
            }
        }
        self.begin_markdown(gap, newlines);
    }

    fn begin_markdown(&mut self, gap: Gap, newlines: usize) {
        let is_first = self.markdown.is_empty();
        if newlines > 0 || is_first {
            if newlines == 1 && self.lists.is_empty() && self.marker.is_none() && !is_first {
                // The line ends here, and the paragraph does not.
                self.markdown.push('\\');
            }
            if newlines == 2 && !is_first {
                self.markdown.push('\n');
                let both = self.quotes.min(self.quoted).min(DEPTH_MAX);
                self.markdown.push_str("> ".repeat(both).trim_end());
            }
            if !is_first {
                self.markdown.push('\n');
            }
            let prefix = self.line_prefix();
            self.markdown.push_str(&prefix);
            self.quoted = self.quotes;
        } else if gap == Gap::Blank {
            self.markdown.push(' ');
        }
        for (mark, opened) in &mut self.marks {
            if !*opened {
                self.markdown.push_str(mark);
                *opened = true;
            }
        }
    }

    fn line_prefix(&mut self) -> String {
        match self.marker.take() {
            Some(marker) if marker.starts_with('#') => self.prefix() + &marker,
            Some(marker) => {
                let depth = self.lists.len().saturating_sub(1).min(DEPTH_MAX);
                self.quote() + &"   ".repeat(depth) + &marker
            }
            None => self.prefix(),
        }
    }

    fn prefix(&self) -> String {
        self.quote() + &"   ".repeat(self.lists.len().min(DEPTH_MAX))
    }

    fn quote(&self) -> String {
        "> ".repeat(self.quotes.min(DEPTH_MAX))
    }
}

fn longest_run(code: &str) -> usize {
    code.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

/// Writes `text` so that Markdown means nothing else by it.
fn push_escaped(markdown: &mut String, text: &str) {
    let special =
        |letter: &u8| matches!(letter, b'\\' | b'`' | b'*' | b'_' | b'[' | b']' | b'<' | b'|');
    if !text.as_bytes().iter().any(special) {
        return markdown.push_str(text);
    }
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        // `snake_case` is one word to Markdown too.
        let inside = letter == '_'
            && before.is_alphanumeric()
            && letters.peek().is_some_and(|next| next.is_alphanumeric());
        if u8::try_from(letter).is_ok_and(|letter| special(&letter)) && !inside {
            markdown.push('\\');
        }
        markdown.push(letter);
        before = letter;
    }
}
