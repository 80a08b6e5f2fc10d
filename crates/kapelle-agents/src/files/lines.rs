//! The front matter line by line, where it is no YAML: a line that begins with a key begins a field.
//!
//! People write `: ` into descriptions, and whole dialogues after them. So each field is tried as YAML
//! of its own; one that is none is the text that it looks like.

use std::borrow::Cow;

use super::Oddities;
use super::tree::{self, Field, Value};

/// The keys that mean something, here or where the files come from.
pub(super) const KNOWN: [&str; 31] = [
    "name",
    "description",
    "tools",
    "disallowedTools",
    "model",
    "maxTurns",
    "maxTokens",
    "effort",
    "category",
    "capabilities",
    "role",
    "maxTasks",
    "timeout",
    "retry",
    "resources",
    "kind",
    "permissionMode",
    "skills",
    "mcpServers",
    "hooks",
    "memory",
    "background",
    "isolation",
    "color",
    "initialPrompt",
    "version",
    "author",
    "tags",
    "license",
    "temperature",
    "metadata",
];
/// Words that look like keys and are parts of a description.
const SPEECH: [&str; 15] = [
    "user",
    "assistant",
    "human",
    "ai",
    "agent",
    "system",
    "context",
    "commentary",
    "example",
    "examples",
    "note",
    "input",
    "output",
    "question",
    "answer",
];

/// The key of [`KNOWN`] that `key` means, however it is spelt.
pub(super) fn meant(key: &str) -> Option<&'static str> {
    let plain = |key: &str| key.replace(['-', '_'], "").to_ascii_lowercase();
    let key = plain(key);
    if key == "allowedtools" {
        return Some("tools");
    }
    KNOWN.into_iter().find(|known| plain(known) == key)
}

/// The known key that `line` begins with.
pub(super) fn known_key(line: &str) -> Option<&'static str> {
    key_of(line).and_then(meant)
}

/// The same without the tab before a known key where no list or object can be going on: it would make the
/// line a part of the value before it.
pub(super) fn without_tabs<'a>(front: &'a str, line: u32, odd: &mut Oddities) -> Cow<'a, str> {
    let mut mended = String::new();
    let mut after_value = false;
    for (at, text) in front.split_inclusive('\n').enumerate() {
        let plain = text.trim_start_matches('\t');
        let is_tabbed = after_value && plain.len() < text.len() && known_key(plain).is_some();
        if is_tabbed {
            let line = line.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            odd.note(line, "a tab stands before a key");
        }
        let text = if is_tabbed { plain } else { text };
        after_value = known_key(text).is_some() && is_whole(text);
        mended.push_str(text);
    }
    if mended.len() == front.len() { Cow::Borrowed(front) } else { Cow::Owned(mended) }
}

/// Whether a key's value is all in its line, as far as one line tells.
fn is_whole(line: &str) -> bool {
    let value = line.split_once(':').map_or("", |(_, value)| value.trim());
    !value.is_empty() && !value.starts_with(['|', '>', '[', '{', '"', '\'', '&', '#'])
}

/// Reads `front`, whose first line is `line` of its file. What stands before the first key is lost.
pub(super) fn parse(front: &str, line: u32) -> Vec<Field> {
    let lines: Vec<&str> = front.lines().collect();
    let talk = talk(&lines);
    let indent = lines.iter().find_map(|line| key_of(line.trim_start()).map(|_| indent(line)));
    let indent = indent.unwrap_or(0);
    let begins = |at: &usize| {
        let outside = !talk[*at] && self::indent(lines[*at]) <= indent;
        outside && key_of(lines[*at].trim_start()).is_some_and(is_key)
    };
    let starts: Vec<usize> = (0..lines.len()).filter(begins).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    let field = |(start, end): (&usize, usize)| {
        let number = line.saturating_add(u32::try_from(*start).unwrap_or(u32::MAX));
        field(&lines[*start..end], number)
    };
    starts.iter().zip(ends).map(field).collect()
}

/// Which lines are those of examples: between a tag and its end.
fn talk(lines: &[&str]) -> Vec<bool> {
    let mut talk = vec![false; lines.len()];
    let mut open: Option<usize> = None;
    for (at, line) in lines.iter().enumerate() {
        let (begins, ends) = (line.rfind("<example"), line.rfind("</example>"));
        if let Some(start) = open.filter(|_| ends.is_some()) {
            talk[start..=at].fill(true);
            open = None;
        }
        if begins > ends {
            open = open.or(Some(at + 1));
        }
    }
    talk
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What stands before the colon, if it is one word.
fn key_of(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    let key = key.trim_end();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(word);
    (is_word && (rest.is_empty() || rest.starts_with(char::is_whitespace))).then_some(key)
}

/// Whether a word before a colon is a key: one that is known, or may be one of somebody else's.
fn is_key(word: &str) -> bool {
    meant(word).is_some()
        || (word.starts_with(|c: char| c.is_ascii_lowercase()) && !SPEECH.contains(&word))
}

/// A field of its lines: as YAML if it is that, else as text.
fn field(lines: &[&str], line: u32) -> Field {
    let text = lines.join("\n");
    if let Ok(mut fields) = tree::parse(&text, line)
        && fields.len() == 1
        && let Some(field) = fields.pop()
    {
        return field;
    }
    let (key, rest) = text.split_once(':').unwrap_or((&text, ""));
    let value = Value::Text { text: unquoted(rest.trim()), quoted: false };
    Field { key: key.trim().to_owned(), line, value }
}

/// A value without the quotes around it, or the sign of a block before it.
fn unquoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    if let Some(open) = text.strip_prefix(['"', '\'']).filter(|open| !open.contains(['"', '\''])) {
        return open.to_owned();
    }
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if matches!(first.trim(), "|" | ">" | "|-" | ">-" | "|+" | ">+") {
        return rest.trim().to_owned();
    }
    text.to_owned()
}
