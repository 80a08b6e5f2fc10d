//! Links of Markdown: where one ends.

/// How long the words of the link or image at the start of `marked` are, and how long it is itself.
/// Another bracket ends the search, and so does a length no address has: looking for the end is never
/// the bulk of the work.
pub(super) fn link(marked: &str) -> Option<(usize, usize)> {
    const WINDOW: usize = 2000;
    let inner = marked.strip_prefix("![").or_else(|| marked.strip_prefix('['))?;
    let near = &inner[..inner.floor_char_boundary(WINDOW)];
    let words = near.find(['[', ']'])?;
    let target = near[words..].strip_prefix("](")?;
    let target = &target[..target.find('[').unwrap_or(target.len())];
    // Who has not closed a parenthesis of an address has written a link all the same.
    let end = closing(target).or_else(|| target.find(')'))?;
    Some((words, marked.len() - inner.len() + words + 2 + end + 1))
}

/// Where the parenthesis is that ends a link: outside of its title, and of those that its address has.
fn closing(target: &str) -> Option<usize> {
    let (mut depth, mut until, mut escaped) = (0_usize, None, false);
    for (at, sign) in target.char_indices() {
        let is_apart = target[..at].ends_with([' ', '\n']);
        match (until, sign) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(end), _) => until = until.filter(|_| sign != end),
            (None, '<') if at == 0 => until = Some('>'),
            (None, '"' | '\'') if is_apart => until = Some(sign),
            (None, '(') if is_apart => until = Some(')'),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return Some(at),
            (None, ')') => depth -= 1,
            (None, ' ' | '\n') if depth > 0 => return None,
            (None, _) => (),
        }
    }
    None
}
