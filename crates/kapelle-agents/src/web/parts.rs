//! What is read off a page.

use serde::Serialize;

/// What is read off the content of a page.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) text: String,
    pub(super) markdown: String,
    pub(super) headings: Vec<Heading>,
    pub(super) links: Vec<Link>,
    pub(super) lists: Vec<List>,
    pub(super) tables: Vec<Table>,
}

#[derive(Debug, Serialize)]
pub(super) struct Heading {
    pub(super) level: u8,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Link {
    pub(super) url: String,
    pub(super) text: String,
}

#[derive(Debug, Serialize)]
pub(super) struct List {
    pub(super) ordered: bool,
    pub(super) items: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) caption: String,
    /// Whether the first row names the columns.
    pub(super) header: bool,
    pub(super) rows: Vec<Vec<String>>,
}
