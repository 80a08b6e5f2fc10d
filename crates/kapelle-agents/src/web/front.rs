//! The front matter of a Markdown file: what the file says of itself before its text begins.
//!
//! **Invariant:** only lines between two fences that begin with a key are front matter; a page that begins
//! with a rule keeps it.

/// The longest front matter, in bytes.
const FRONT_MAX: usize = 64 << 10;

/// The lines between the fences at the start of `text`, and what comes after; nothing of the first where
/// there is no front matter.
pub(super) fn split(text: &str) -> (&str, &str) {
    parts(text).unwrap_or(("", text))
}

fn parts(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.split_inclusive('\n');
    let start = lines.next().filter(|line| line.trim_end() == "---")?.len();
    let mut end = start;
    for line in lines {
        if matches!(line.trim_end(), "---" | "...") {
            let front = &text[start..end];
            return is_fields(front).then_some((front, &text[end + line.len()..]));
        }
        end += line.len();
        if end > FRONT_MAX {
            break;
        }
    }
    None
}

/// Whether the first line that says something begins with a key.
fn is_fields(front: &str) -> bool {
    let mut lines = front.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_none_or(|line| {
        let key = line.split_once(':').map(|(key, _)| key).unwrap_or_default();
        let is_word = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
        !key.is_empty() && key.chars().all(is_word)
    })
}

/// The value of `key`, if it stands in its line.
pub(super) fn value<'a>(front: &'a str, key: &str) -> Option<&'a str> {
    let value = front.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
    let quoted = |sign| value.strip_prefix(sign)?.strip_suffix(sign);
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty() && !value.starts_with(['|', '>', '[', '{'])).then_some(value)
}
