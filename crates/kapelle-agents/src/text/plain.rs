//! Text without the marks that Markdown leaves inside a line.

/// `text` as one line: every run of white space is one space.
pub(crate) fn squeeze(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// `text` as one line without emphasis, backticks and links: what a reader of the page sees.
pub(crate) fn plain(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['[', '!', '*', '`', '_', '\\', '>']) {
        seen.push_str(&rest[..at]);
        let marked = &rest[at..];
        rest = match link(marked) {
            Some((words, after)) => {
                seen.push_str(&words.replace(['*', '`'], ""));
                after
            }
            None => mark(marked, &mut seen),
        };
    }
    seen.push_str(rest);
    squeeze(&seen)
}

/// Passes over one mark, or keeps it where it is none.
fn mark<'a>(marked: &'a str, seen: &mut String) -> &'a str {
    let letter = marked.chars().next().unwrap_or_default();
    let rest = &marked[letter.len_utf8()..];
    let before = seen.chars().next_back();
    match letter {
        '*' | '`' => (),
        '\\' if rest.starts_with(|next: char| next.is_ascii_punctuation()) => {
            let next = rest.chars().next().unwrap_or_default();
            seen.push(next);
            return &rest[next.len_utf8()..];
        }
        // `_` inside a name is part of it, at the edge of a word it is emphasis.
        '_' if !is_inner(before, rest) => (),
        '>' if before.is_none_or(|before| before == '\n') => (),
        _ => seen.push(letter),
    }
    rest
}

fn is_inner(before: Option<char>, rest: &str) -> bool {
    let is = |letter: char| letter.is_alphanumeric() || letter == '_';
    before.is_some_and(is) && rest.starts_with(is) || rest.starts_with('_')
}

/// The words of the link or image at the start of `marked`, and what follows it. Another bracket ends
/// the search, and so does a length no address has: looking for the end is never the bulk of the work.
fn link(marked: &str) -> Option<(&str, &str)> {
    const WINDOW: usize = 2000;
    let image = marked.starts_with("![");
    let inner = marked.strip_prefix("![").or_else(|| marked.strip_prefix('['))?;
    let near = &inner[..inner.floor_char_boundary(WINDOW)];
    let words = &near[..near.find(['[', ']'])?];
    let target = near[words.len()..].strip_prefix("](")?;
    let end = target.find([')', '[']).filter(|end| target[*end..].starts_with(')'))?;
    let after = &inner[words.len() + 2 + end + 1..];
    Some((if image { "" } else { words }, after))
}
