//! `/docs`: the API as a page to read, made of [`openapi`] when it is asked for.
//!
//! **Invariants:** it is whole in itself: no script, no font and no picture, from nowhere; its policy lets a browser
//! load nothing. All that is in it is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kapelle_core::Digest;
use serde_json::Value;

use super::openapi::openapi;

const STYLE: &str = include_str!("manual.css");

/// What there is to ask, for people.
///
/// `GET /docs`
pub(super) async fn page() -> Response {
    let digest = BASE64_STANDARD.encode(Digest::of(STYLE.as_bytes()).as_bytes());
    let policy = format!("default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'");
    let headers = [(header::CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(html(&openapi()))).into_response()
}

fn html(api: &Value) -> String {
    let mut page = Page { api, text: String::new() };
    page.put("<!doctype html><html lang=en><meta charset=utf-8>");
    page.put("<meta name=viewport content='width=device-width'><title>Kapelle: the API</title>");
    page.put(&format!("<style>{STYLE}</style>"));
    page.contents();
    page.put("<main>");
    page.introduction();
    for (tag, operations) in page.by_tag() {
        page.put(&format!("<h2>{}</h2>", escaped(&tag)));
        for (method, path, operation) in operations {
            page.operation(&method, &path, operation);
        }
    }
    page.put("<h2 id=shapes>Shapes</h2>");
    for (name, schema) in entries(&api["components"]["schemas"]) {
        page.shape(name, schema);
    }
    page.put("<h2 id=errors>Errors</h2>");
    for (name, example) in entries(&api["components"]["examples"]) {
        page.code(name, example);
    }
    page.put("</main></html>");
    page.text
}

struct Page<'a> {
    api: &'a Value,
    text: String,
}

type Operations<'a> = Vec<(String, String, &'a Value)>;

impl<'a> Page<'a> {
    fn put(&mut self, html: &str) {
        self.text.push_str(html);
    }

    fn by_tag(&self) -> BTreeMap<String, Operations<'a>> {
        let mut tags: BTreeMap<String, Operations<'_>> = BTreeMap::new();
        for (path, methods) in entries(&self.api["paths"]) {
            for (method, operation) in entries(methods) {
                let tag = operation["tags"][0].as_str().unwrap_or_default().to_owned();
                let method = method.to_uppercase();
                tags.entry(tag).or_default().push((method, path.clone(), operation));
            }
        }
        tags
    }

    fn contents(&mut self) {
        self.put("<nav><a href='#top'>Kapelle</a>");
        for (tag, operations) in self.by_tag() {
            self.put(&format!("<b>{}</b>", escaped(&tag)));
            for (method, path, operation) in operations {
                let (id, path) = (text(&operation["operationId"]), escaped(&path));
                self.put(&format!("<a href='#{id}'><i>{method}</i> {path}</a>"));
            }
        }
        self.put("<b><a href='#shapes'>Shapes</a></b><b><a href='#errors'>Errors</a></b></nav>");
    }

    fn introduction(&mut self) {
        let version = text(&self.api["info"]["version"]);
        self.put(&format!("<h1 id=top>Kapelle <small>{version}</small></h1>"));
        self.put(&format!("<p>{}", text(&self.api["info"]["description"])));
        self.put(" Bodies are JSON, unknown fields are refused, times are RFC 3339 in UTC. The same for programs: ");
        self.put("<a href='/openapi.json'>openapi.json</a>.</p>");
        for (name, scheme) in entries(&self.api["components"]["securitySchemes"]) {
            let told = text(&scheme["description"]);
            self.put(&format!("<p><code>{}</code>: {told}</p>", escaped(name)));
        }
    }

    fn operation(&mut self, method: &str, path: &str, operation: &Value) {
        let (id, shown) = (text(&operation["operationId"]), escaped(path));
        self.put(&format!("<section id='{id}'><h3><i>{method}</i> {shown}</h3>"));
        self.put(&format!("<p>{}. ", text(&operation["summary"])));
        match operation["x-permission"].as_str() {
            Some(needs) => self.put(&format!("Needs <code>{}</code>.</p>", escaped(needs))),
            None => self.put("Open to all.</p>"),
        }
        self.parameters(&operation["parameters"]);
        let body = &operation["requestBody"]["content"];
        for (media, content) in entries(body) {
            self.content("Body", media, content);
        }
        self.put(&format!("<pre>{}</pre>", escaped(&self.curl(method, path, operation))));
        for (status, answer) in entries(&operation["responses"]) {
            let problem = &answer["content"]["application/problem+json"];
            if !problem.is_null() {
                let codes = entries(&problem["examples"]).map(|(code, _)| {
                    let code = escaped(code);
                    format!("<a href='#code-{code}'>{code}</a>")
                });
                let codes = codes.collect::<Vec<_>>().join(", ");
                self.put(&format!("<p><b>{status}</b> {codes}</p>"));
                continue;
            }
            self.put(&format!("<p><b>{status}</b> {}</p>", text(&answer["description"])));
            for (media, content) in entries(&answer["content"]) {
                self.content("Answer", media, content);
            }
        }
        self.put("</section>");
    }

    fn parameters(&mut self, parameters: &Value) {
        let all = parameters.as_array().map_or(&[][..], Vec::as_slice);
        if all.is_empty() {
            return;
        }
        self.put("<table>");
        for one in all {
            let (name, place) = (text(&one["name"]), text(&one["in"]));
            let (kind, told) = (kind(&one["schema"]), text(&one["description"]));
            let row = format!("<tr><td><code>{name}</code><td>{place}<td>{kind}<td>{told}");
            self.put(&row);
        }
        self.put("</table>");
    }

    fn content(&mut self, what: &str, media: &str, content: &Value) {
        let schema = &content["schema"];
        let kind = if schema.is_null() { String::new() } else { kind(schema) };
        self.put(&format!("<p>{what}: <code>{}</code> {kind}</p>", escaped(media)));
        let example = self.example(content).cloned();
        if let Some(example) = example {
            self.shown("Example", &example);
        }
    }

    /// The example of a body or an answer.
    fn example(&self, content: &Value) -> Option<&'a Value> {
        let at = content["examples"]["example"]["$ref"].as_str()?;
        self.api.pointer(at.trim_start_matches('#'))?.get("value")
    }

    fn shown(&mut self, what: &str, example: &Value) {
        let example = escaped(&serde_json::to_string_pretty(example).unwrap_or_default());
        self.put(&format!("<details><summary>{what}</summary><pre>{example}</pre></details>"));
    }

    /// How it is asked with curl.
    fn curl(&self, method: &str, path: &str, operation: &Value) -> String {
        let mut line = "curl -H \"Authorization: Bearer $KEY\"".to_owned();
        if method != "GET" && method != "POST" {
            write!(line, " -X {method}").ok();
        }
        let body = &operation["requestBody"]["content"];
        if let Some(example) = self.example(&body["application/json"]) {
            write!(line, " --json '{}'", example.to_string().replace('\'', "'\\''")).ok();
        } else if !body.is_null() {
            line += " --data-binary @FILE";
        } else if method == "POST" {
            line += " -X POST";
        }
        line += " http://127.0.0.1:4700";
        for (at, part) in path.split(['{', '}']).enumerate() {
            line += &if at % 2 == 1 { part.to_uppercase() } else { part.to_owned() };
        }
        line
    }

    fn shape(&mut self, name: &str, schema: &Value) {
        let shown = escaped(name);
        self.put(&format!("<section id='shape-{shown}'><h3>{shown}</h3>"));
        self.put(&format!("<p>{}</p>", text(&schema["description"])));
        self.fields(schema);
        for choice in ["oneOf", "anyOf"].iter().flat_map(|of| schema[of].as_array()).flatten() {
            let told = text(&choice["description"]);
            self.put(&format!("<p>{} {told}</p>", kind(choice)));
            self.fields(choice);
        }
        self.put("</section>");
    }

    fn fields(&mut self, schema: &Value) {
        if entries(&schema["properties"]).next().is_none() {
            return;
        }
        let needed = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        self.put("<table>");
        for (field, of) in entries(&schema["properties"]) {
            let mark = if needed.iter().any(|name| name == field) { "" } else { "?" };
            let (kind, told) = (kind(of), text(&of["description"]));
            self.put(&format!("<tr><td><code>{}{mark}</code><td>{kind}<td>{told}", escaped(field)));
        }
        self.put("</table>");
    }

    /// A code, what it means and what a problem with it looks like; nothing of what is no code.
    fn code(&mut self, code: &str, example: &Value) {
        let Some(said) = example["summary"].as_str() else { return };
        let (code, status) = (escaped(code), &example["value"]["status"]);
        self.put(&format!("<section id='code-{code}'><h3><i>{status}</i> {code}</h3>"));
        self.put(&format!("<p>{}</p>", spans(said)));
        self.shown("Example", &example["value"]);
        self.put("</section>");
    }
}

/// The first kind of a schema that is something.
fn kind_of(schema: &Value) -> &str {
    let several = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    schema["type"]
        .as_str()
        .or_else(|| several.into_iter().find(|kind| *kind != "null"))
        .unwrap_or("")
}

/// What a schema is, in a word, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href='#shape-{name}'>{name}</a>");
    }
    let choices = ["oneOf", "anyOf"].iter().flat_map(|of| schema[of].as_array()).flatten();
    let choices: Vec<_> = choices.filter(|choice| choice["type"] != "null").map(kind).collect();
    match kind_of(schema) {
        "array" => format!("{} []", kind(&schema["items"])),
        "" if !choices.is_empty() => choices.join(" or "),
        "" => "any".to_owned(),
        known => escaped(known),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A text of the description, as HTML.
fn text(value: &Value) -> String {
    spans(value.as_str().unwrap_or_default())
}

/// A text with what stands between backticks as code; one that has none to end it is a letter.
fn spans(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return escaped(text);
    }
    let one = |(at, piece): (usize, &&str)| match at % 2 {
        0 => escaped(piece),
        _ => format!("<code>{}</code>", escaped(piece)),
    };
    pieces.iter().enumerate().map(one).collect()
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::routes::routes;

    #[test]
    fn every_route_shape_and_code_is_on_the_page_and_every_link_leads_somewhere() {
        let api = openapi();
        let page = html(&api);
        for route in routes() {
            let heading = format!("<h3><i>{}</i> {}</h3>", route.method, escaped(route.path));
            assert!(page.contains(&heading), "{heading}");
            let linked = |code| page.contains(&format!("<a href='#code-{code}'>"));
            assert!(route.codes().all(linked), "{heading}");
        }
        for (name, _) in entries(&api["components"]["schemas"]) {
            assert!(page.contains(&format!("id='shape-{name}'")), "{name}");
        }
        let mut links = 0;
        for link in page.split("href='#").skip(1) {
            let (id, _) = link.split_once('\'').unwrap();
            let is_there =
                page.contains(&format!("id='{id}'")) || page.contains(&format!("id={id}>"));
            assert!(is_there, "{id}");
            links += 1;
        }
        assert!(links > 100, "{links}");
    }

    #[test]
    fn what_is_said_in_backticks_is_code_and_names_are_words() {
        assert_eq!(spans("`a<b`, or ` alone?`"), "<code>a&lt;b</code>, or <code> alone?</code>");
        assert_eq!(spans("one ` alone"), "one ` alone");
        let page = html(&openapi());
        let is_numbered = |id: &&str| id.ends_with(|last: char| last.is_ascii_digit());
        let ids = page.split("id='shape-").skip(1).filter_map(|rest| rest.split('\'').next());
        assert_eq!(ids.filter(is_numbered).collect::<Vec<_>>(), [""; 0]);
        let told = page.split("<pre>").filter_map(|part| part.rsplit("</pre>").next());
        let odd: Vec<_> = told.filter(|told| told.contains('`')).collect();
        assert!(odd.is_empty(), "backticks are shown: {odd:?}");
    }

    #[tokio::test]
    async fn the_page_may_load_nothing_and_asks_for_nothing() {
        let answer = page().await;
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let page = html(&openapi());
        for foreign in ["<script", "src=", "@import", "url(", "<link", "style="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<style>").count(), 1);
    }

    #[test]
    fn what_could_be_markup_is_text() {
        let odd = "<script>alert('x')</script>\"&";
        let operation = serde_json::json!({ "operationId": "a", "summary": odd, "tags": [odd] });
        let page = html(&serde_json::json!({ "paths": { odd: { "get": operation } } }));
        assert!(!page.contains("<script"), "{page}");
    }
}
