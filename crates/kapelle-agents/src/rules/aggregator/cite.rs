//! How a source is named and linked in a report.

use std::path::Path;

use url::Url;

use crate::rules::document::Page;
use crate::text::squeeze;

/// A source as a reader sees it.
pub(super) struct Cited {
    pub(super) number: usize,
    pub(super) title: String,
    /// Where it is, if it is somewhere a reader can go.
    pub(super) url: Option<String>,
    /// Where it is, in words: of a file, the way from the run's folder.
    pub(super) place: String,
    pub(super) published: Option<String>,
    /// What other documents with the same text are called.
    pub(super) also: Vec<String>,
}

impl Cited {
    /// All pages, as a run in `folder` calls them; `repeats` are the names of more with their texts.
    pub(super) fn all(pages: &[Page<'_>], repeats: &[(usize, String)], folder: &Path) -> Vec<Self> {
        let pages = pages.iter().enumerate();
        let mut all: Vec<Self> = pages.map(|(index, page)| Self::of(index, page, folder)).collect();
        for (at, name) in repeats {
            let name = below(name, folder).unwrap_or_else(|| squeeze(name));
            all[*at].also.push(name);
        }
        all
    }

    /// Who says the same word for word, as a reader is told.
    pub(super) fn repeated(&self) -> Option<String> {
        let mut others: Vec<&str> = self.also.iter().map(|name| &**name).collect();
        others.retain(|name| *name != self.place && !name.is_empty());
        match (self.also.len(), others.is_empty()) {
            (0, _) => None,
            (1, true) => Some("given twice".into()),
            (count, true) => Some(format!("given {} times", count + 1)),
            (_, false) => Some(format!("the same text as {}", others.join(", "))),
        }
    }

    /// The page at `index`, which has the next number.
    fn of(index: usize, page: &Page<'_>, folder: &Path) -> Self {
        let number = index + 1;
        let name = page.document.name();
        let title = page.document.title.as_deref().map(squeeze).filter(|title| !title.is_empty());
        let nameless =
            || if name.is_empty() { format!("source {number}") } else { name.to_owned() };
        Self {
            number,
            title: title.unwrap_or_else(nameless),
            url: linked(page.document.url().unwrap_or(name)),
            place: below(name, folder).unwrap_or_else(|| squeeze(name)),
            published: page
                .document
                .published
                .as_deref()
                .and_then(|at| at.get(..10))
                .map(Into::into),
            also: Vec::new(),
        }
    }
}

/// The way from `folder` to the file at `address`, if it is below.
fn below(address: &str, folder: &Path) -> Option<String> {
    let path = Url::parse(address).ok()?.to_file_path().ok()?;
    let real = || path.strip_prefix(folder.canonicalize().ok()?).ok();
    let way = path.strip_prefix(folder).ok().or_else(real)?;
    Some(squeeze(way.to_str()?))
}

/// The address, if a click on it does no more than open a page.
fn linked(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    matches!(url.scheme(), "http" | "https" | "file").then(|| url.to_string())
}
