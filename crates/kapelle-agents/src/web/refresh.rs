//! Where a page sends its readers instead of telling them something.

use url::Url;

use super::tag::Tag;
use super::tree::{Id, Tree};
use super::write::absolute;

/// After how many seconds a page that goes elsewhere was still meant to be read.
const READ_AFTER: u64 = 10;
/// The longest text that says no more than where a page is now, in characters.
const NOTE_MAX: usize = 200;
/// The words of such a text.
const MOVED: [&str; 5] = ["has moved", "moved to", "moved here", "redirecting", "redirected"];

/// Where the page at `url` refreshes to, if that is soon and elsewhere.
pub(super) fn target(tree: &Tree, base: &Url, url: &Url) -> Option<Url> {
    let metas = tree.below(Tree::ROOT).filter(|id| tree.tag(*id) == Some(Tag::Meta));
    let to = metas.filter(|id| refreshes(tree, *id)).find_map(|id| {
        let to = place(tree.attr(id, "content")?)?;
        absolute(base, to)?.parse::<Url>().ok()
    })?;
    let without_anchor = |url: &Url| {
        let mut url = url.clone();
        url.set_fragment(None);
        url
    };
    (without_anchor(&to) != without_anchor(url)).then_some(to)
}

/// Whether it is said to all, not only to who runs no scripts.
fn refreshes(tree: &Tree, id: Id) -> bool {
    let says_so = |how: &str| how.trim().eq_ignore_ascii_case("refresh");
    tree.attr(id, "http-equiv").is_some_and(says_so)
        && tree.parent(id).and_then(|parent| tree.tag(parent)) != Some(Tag::Unseen)
}

/// The address in `0; url=there`, as browsers read it.
fn place(content: &str) -> Option<&str> {
    let content = content.trim_start();
    let rest = content.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let seconds = &content[..content.len() - rest.len()];
    if seconds.parse::<u64>().map_or(true, |seconds| seconds > READ_AFTER) {
        return None;
    }
    let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let rest = rest.trim_start().trim_start_matches([';', ',']).trim_start();
    let named = rest.get(..3).filter(|name| name.eq_ignore_ascii_case("url"));
    let named = named.and_then(|_| rest[3..].trim_start().strip_prefix('='));
    let to = named.map_or(rest, str::trim_start);
    let to = match to.strip_prefix(['\'', '"']) {
        Some(quoted) => quoted.split(['\'', '"']).next().unwrap_or_default(),
        None => to,
    };
    Some(to.trim_end()).filter(|to| !to.is_empty())
}

/// Whether `text` is all that is left at the old place of a page.
pub(super) fn is_note(text: &str) -> bool {
    let lower = || text.to_lowercase();
    text.chars().nth(NOTE_MAX).is_none() && MOVED.iter().any(|word| lower().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_read_as_browsers_do() {
        for (content, to) in [
            ("0;url=there", Some("there")),
            (" 0 ; URL = 'there' ", Some("there")),
            ("5, there", Some("there")),
            ("0.5;url=\"there\" more", Some("there")),
            ("0; urls", Some("urls")),
            ("0", None),
            ("300; url=there", None),
            ("soon; url=there", None),
            ("0; url=''", None),
            ("99999999999999999999; url=there", None),
            ("0; é", Some("é")),
        ] {
            assert_eq!(place(content), to, "{content}");
        }
    }
}
