//! How a source is named and linked in a report.

use url::Url;

use crate::rules::document::Page;
use crate::text::squeeze;

/// A source as a reader sees it.
pub(super) struct Cited {
    pub(super) number: usize,
    pub(super) title: String,
    /// Where it is, if it is somewhere a reader can go.
    pub(super) url: Option<String>,
    /// Where it is, in words.
    pub(super) place: String,
    pub(super) published: Option<String>,
}

impl Cited {
    /// The page at `index`, which has the next number.
    pub(super) fn of(index: usize, page: &Page<'_>) -> Self {
        let number = index + 1;
        let name = page.document.name();
        let title = page.document.title.as_deref().map(squeeze).filter(|title| !title.is_empty());
        let nameless =
            || if name.is_empty() { format!("source {number}") } else { name.to_owned() };
        Self {
            number,
            title: title.unwrap_or_else(nameless),
            url: linked(page.document.url().unwrap_or(name)),
            place: squeeze(name),
            published: page
                .document
                .published
                .as_deref()
                .and_then(|at| at.get(..10))
                .map(Into::into),
        }
    }
}

/// The address, if a click on it does no more than open a page.
fn linked(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    matches!(url.scheme(), "http" | "https" | "file").then(|| url.to_string())
}
