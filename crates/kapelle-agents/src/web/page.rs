//! A page, read: from its bytes to what the agent answers.

use jiff::civil::Date;
use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use serde_json::{Map, json};
use url::Url;

use super::charset::decode;
use super::content::Content;
use super::input::shown;
use super::language::language;
use super::parts::Parts;
use super::tag::Tag;
use super::tree::{Error, Id, Kind, Tree};
use super::write::{absolute, write};
use super::{Action, Fetched, Found, Media, front, refresh};
use crate::text::squeeze;

/// The longest title, in characters.
const TITLE_MAX: usize = 300;
/// The longest block of linked data that is looked at, in bytes.
const JSON_MAX: usize = 256 << 10;

/// Reads what was fetched. Takes time, not memory: call it where that may be.
pub(super) fn read(fetched: &Fetched, action: Action) -> Result<Found, Failure> {
    let text = decode(&fetched.bytes, fetched.charset.as_deref());
    if fetched.media != Media::Html {
        return plain(fetched, &text, action).map(Found::Page);
    }
    let tree = Tree::parse(&text).map_err(failure)?;
    drop(text);
    let head = Head::of(&tree, &fetched.url);
    if let Some(to) = refresh::target(&tree, &head.base, &fetched.url) {
        return Ok(Found::Lead(to));
    }
    let content = match action {
        Action::Read => Content::main(&tree),
        Action::Links | Action::Headings => Content::whole(&tree),
    };
    let parts = write(&tree, &content, &head.base);
    if action == Action::Read && refresh::is_note(&parts.text) && parts.links.len() == 1 {
        let (url, to) = (shown(&fetched.url), &parts.links[0].url);
        let message = format!("`{url}` says only where it is now: `{to}`");
        return Err(Failure::new(FailureKind::Refused, "moved", message));
    }
    answer(&fetched.url, &head, parts, action).map(Found::Page)
}

fn failure(error: Error) -> Failure {
    let (kind, code) = match error {
        Error::Depth => (FailureKind::Refused, "too_deep"),
        Error::Count => (FailureKind::Refused, "too_many_elements"),
        Error::Time | Error::Attributes => (FailureKind::Refused, "too_slow_to_parse"),
    };
    Failure::new(kind, code, error.to_string())
}

/// A file or an answer that is no HTML. What is no Markdown says so, that nobody takes it for some.
fn plain(fetched: &Fetched, text: &str, action: Action) -> Result<Json, Failure> {
    let name = fetched.url.path_segments().and_then(|mut parts| parts.next_back());
    let is_markdown = fetched.media == Media::Markdown;
    let (front, text) = if is_markdown { front::split(text) } else { ("", text) };
    let title = text.lines().map(str::trim).find(|line| !line.is_empty());
    let title = title.map(|line| line.trim_start_matches(['#', ' ']));
    let title = front::value(front, "title").or(title).or(name);
    let title = title.unwrap_or_default().chars().take(TITLE_MAX).collect();
    let published = front::value(front, "date").and_then(moment);
    let head = Head { title, base: fetched.url.clone(), lang: None, published };
    let text = text.replace("\r\n", "\n").replace('\0', "");
    let parts = Parts { markdown: text.clone(), text, ..Parts::default() };
    let mut page = answer(&fetched.url, &head, parts, action)?;
    if action == Action::Read && !is_markdown {
        page["format"] = "text".into();
    }
    Ok(page)
}

fn answer(url: &Url, head: &Head, parts: Parts, action: Action) -> Result<Json, Failure> {
    if action == Action::Read && parts.text.trim().is_empty() {
        let message = format!("`{}` holds no text", shown(url));
        return Err(Failure::new(FailureKind::Refused, "no_text", message));
    }
    let mut page = Map::new();
    page.insert("url".into(), json!(url.as_str()));
    page.insert("title".into(), json!(head.title));
    match action {
        Action::Links => {
            page.insert("links".into(), json!(parts.links));
        }
        Action::Headings => {
            page.insert("headings".into(), json!(parts.headings));
        }
        Action::Read => {
            page.insert("language".into(), json!(language(&parts.text, head.lang.as_deref())));
            if let Some(published) = &head.published {
                page.insert("published".into(), json!(published));
            }
            page.insert("links".into(), json!(parts.links));
            page.insert("headings".into(), json!(parts.headings));
            page.insert("lists".into(), json!(parts.lists));
            page.insert("tables".into(), json!(parts.tables));
            page.insert("text".into(), Json::String(parts.text));
            page.insert("markdown".into(), Json::String(parts.markdown));
        }
    }
    Ok(Json::Object(page))
}

/// What a page says of itself.
struct Head {
    title: String,
    base: Url,
    lang: Option<String>,
    published: Option<String>,
}

impl Head {
    fn of(tree: &Tree, url: &Url) -> Self {
        let mut seen = Seen::default();
        for id in tree.below(Tree::ROOT) {
            seen.look(tree, id);
        }
        let base = seen.base.and_then(|href| absolute(url, &href)?.parse().ok());
        let title = seen.title.or(seen.shared_title).or(seen.heading).unwrap_or_default();
        let dates = [seen.published, seen.linked_data, seen.time];
        Self {
            title: squeeze(&title).chars().take(TITLE_MAX).collect(),
            base: base.unwrap_or_else(|| url.clone()),
            lang: seen.lang,
            published: dates.into_iter().flatten().find_map(|date| moment(&date)),
        }
    }
}

/// The first of each that was found.
#[derive(Default)]
struct Seen {
    title: Option<String>,
    shared_title: Option<String>,
    heading: Option<String>,
    base: Option<String>,
    lang: Option<String>,
    published: Option<String>,
    linked_data: Option<String>,
    time: Option<String>,
}

impl Seen {
    fn look(&mut self, tree: &Tree, id: Id) {
        let attr = |name| tree.attr(id, name).map(str::to_owned);
        match tree.tag(id) {
            Some(Tag::Title) if self.title.is_none() => {
                self.title = Some(text_of(tree, id)).filter(|title| !title.trim().is_empty());
            }
            Some(Tag::Heading(1)) if self.heading.is_none() => {
                self.heading = Some(text_of(tree, id));
            }
            Some(Tag::Base) if self.base.is_none() => self.base = attr("href"),
            Some(Tag::Meta) => self.meta(tree, id),
            Some(Tag::Script)
                if self.linked_data.is_none()
                    && tree.attr(id, "type") == Some("application/ld+json") =>
            {
                self.linked_data = date_published(&text_of(tree, id));
            }
            Some(Tag::Time) if self.time.is_none() => self.time = attr("datetime"),
            Some(Tag::Block | Tag::Body) if self.lang.is_none() => self.lang = attr("lang"),
            _ => {}
        }
    }

    fn meta(&mut self, tree: &Tree, id: Id) {
        let names = ["property", "name", "itemprop"];
        let Some(name) = names.iter().find_map(|name| tree.attr(id, name)) else { return };
        let Some(content) = tree.attr(id, "content") else { return };
        let to = match &*name.to_ascii_lowercase() {
            "og:title" => &mut self.shared_title,
            "article:published_time"
            | "datepublished"
            | "date"
            | "dc.date"
            | "dcterms.date"
            | "dcterms.created"
            | "dcterms.issued"
            | "citation_publication_date"
            | "parsely-pub-date"
            | "pubdate"
            | "publish-date" => &mut self.published,
            _ => return,
        };
        to.get_or_insert_with(|| content.to_owned());
    }
}

fn text_of(tree: &Tree, id: Id) -> String {
    let texts = tree.below(id).filter_map(|below| match tree.kind(below) {
        Kind::Text(text) => Some(&**text),
        Kind::Element { .. } | Kind::Other => None,
    });
    texts.collect()
}

/// The day of a page in schema.org's words.
fn date_published(script: &str) -> Option<String> {
    if script.len() > JSON_MAX {
        return None;
    }
    let data: Json = serde_json::from_str(script.trim()).ok()?;
    let graph = data.get("@graph").unwrap_or(&data);
    let one = std::slice::from_ref(graph);
    let things = graph.as_array().map_or(one, Vec::as_slice);
    things.iter().find_map(|thing| Some(thing.get("datePublished")?.as_str()?.to_owned()))
}

/// A day or a moment as ISO 8601 has it.
fn moment(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.to_string());
    }
    let day = text.get(..10).unwrap_or(text).replace('/', "-");
    day.parse::<Date>().ok().map(|day| day.to_string())
}
