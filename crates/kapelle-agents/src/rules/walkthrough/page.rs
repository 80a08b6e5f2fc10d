//! The page that a walkthrough points at: its links, headings and, where they are known, elements.

use kapelle_core::Json;
use serde::Deserialize;
use serde_json::json;

use crate::text::squeeze;

/// How alike two names must be, as the share of words in common.
const ALIKE: f64 = 0.6;
/// The most elements of a page that are looked at for a step.
const ELEMENTS_MAX: usize = 2000;

/// A page as the agents that read pages give it; what else it has is passed over.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    pub(super) url: Option<String>,
    links: Option<Vec<Link>>,
    elements: Option<Vec<Element>>,
}

#[derive(Debug, Deserialize)]
struct Link {
    #[serde(alias = "href")]
    url: String,
    text: Option<String>,
}

/// An element, as the accessibility tree of a page has it.
#[derive(Debug, Deserialize)]
struct Element {
    role: Option<String>,
    name: Option<String>,
    id: Option<String>,
    selector: Option<String>,
}

/// The JSON Schema of [`Page`].
pub(super) fn schema() -> Json {
    let text = json!({"type": ["string", "null"]});
    json!({
        "description": "the page to point at, as `web.read` or `browser` gives it",
        "type": ["object", "null"],
        "properties": {
            "url": text,
            "links": {"type": ["array", "null"], "items": {
                "type": "object",
                "anyOf": [{"required": ["url"]}, {"required": ["href"]}],
                "properties": {"url": {"type": "string"}, "href": {"type": "string"}, "text": text}
            }},
            "elements": {"type": ["array", "null"], "items": {
                "type": "object",
                "properties": {"role": text, "name": text, "id": text, "selector": text}
            }}
        }
    })
}

/// What was found for a name.
#[derive(Default)]
pub(super) struct Found {
    pub(super) role: Option<String>,
    pub(super) name: Option<String>,
    /// CSS, likeliest first.
    pub(super) selectors: Vec<String>,
}

impl Page {
    /// What on the page is called `name`: elements before links, the same role before another.
    pub(super) fn find(&self, name: &str, role: &str) -> Found {
        let elements = self.elements.iter().flatten().take(ELEMENTS_MAX);
        let rated = elements.filter_map(|element| {
            let alike = alike(element.name.as_deref()?, name);
            let bonus = if element.role.as_deref() == Some(role) { 0.5 } else { 0.0 };
            (alike >= ALIKE).then_some((alike + bonus, element))
        });
        if let Some((_, element)) = rated.max_by(|one, other| one.0.total_cmp(&other.0)) {
            return element.found();
        }
        let links = self.links.iter().flatten().take(ELEMENTS_MAX);
        let rated = links.filter_map(|link| {
            let alike = alike(link.text.as_deref()?, name);
            (alike >= ALIKE).then_some((alike, link))
        });
        match rated.max_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((_, link)) => Found {
                role: Some("link".into()),
                name: link.text.as_deref().map(squeeze),
                selectors: vec![format!("a[href=\"{}\"]", quoted(&link.url))],
            },
            None => Found::default(),
        }
    }
}

impl Element {
    fn found(&self) -> Found {
        let mut selectors: Vec<String> = self.selector.iter().cloned().collect();
        if let Some(id) = self.id.as_deref().filter(|id| !id.is_empty()) {
            selectors.push(format!("[id=\"{}\"]", quoted(id)));
        }
        if let Some(name) = &self.name {
            let name = quoted(name);
            selectors.push(format!("[aria-label=\"{name}\"]"));
            match self.role.as_deref() {
                Some("textbox" | "combobox") => selectors.push(format!("[placeholder=\"{name}\"]")),
                Some("button") => selectors.push(format!("input[value=\"{name}\"]")),
                _ => (),
            }
        }
        Found { role: self.role.clone(), name: self.name.as_deref().map(squeeze), selectors }
    }
}

/// `text` inside the quotation marks of a selector.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\{:x} ", u32::from(letter)))
            }
            _ => quoted.push(letter),
        }
    }
    quoted
}

/// The share of words that both names have.
#[expect(clippy::cast_precision_loss, reason = "names have few words")]
fn alike(one: &str, other: &str) -> f64 {
    let words = |text: &str| -> std::collections::BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    let (one, other) = (words(one), words(other));
    let shared = one.intersection(&other).count();
    2.0 * shared as f64 / (one.len() + other.len()).max(1) as f64
}
