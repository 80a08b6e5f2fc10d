//! `analyzer`: what documents are about, which passages answer a question, which documents are
//! wanted at all.

mod filter;
mod judged;
#[cfg(test)]
mod tests;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::json;

use super::document::{self, Document, Page};
use super::engine::Thinker;
use super::rank::{Ranked, rank};
use super::salient::{keywords, overall};
use super::{Made, Rules, Verb, Work};
use crate::input::read;
use crate::text::{Terms, words};
use filter::Filters;

/// How many passages are answered where the step does not say.
const TOP: usize = 10;
/// How many keywords a document is described by.
const KEYWORDS: usize = 10;

/// The agent.
pub(crate) fn agent(thinker: Thinker) -> Rules {
    let passages = json!({"type": "array", "items": passage_schema()});
    let verbs = vec![
        Verb {
            name: "analyze",
            description: "Describes documents: language, length, keywords, and with a question \
                          the passages that answer it",
            input: input_schema(&["documents"]),
            output: json!({
                "type": "object",
                "required": ["documents", "keywords"],
                "additionalProperties": false,
                "properties": {
                    "documents": {"type": "array", "items": description_schema()},
                    "keywords": keywords_schema(),
                    "passages": passages
                }
            }),
            work: Work::Anywhere(analyze),
            thought: Some(judged::ANALYZE),
        },
        Verb {
            name: "rank",
            description: "Ranks passages of documents by how well they answer a question",
            input: input_schema(&["documents", "question"]),
            output: json!({
                "type": "object",
                "required": ["passages", "considered"],
                "additionalProperties": false,
                "properties": {
                    "passages": passages,
                    "considered": {
                        "description": "how many passages have a word of the question",
                        "type": "integer", "minimum": 0
                    }
                }
            }),
            work: Work::Anywhere(ranked),
            thought: Some(judged::RANK),
        },
        Verb {
            name: "filter",
            description: "Keeps documents by language, date, length, domain and pattern",
            input: input_schema(&["documents", "filters"]),
            output: filter::output_schema(),
            work: Work::Anywhere(filtered),
            thought: None,
        },
    ];
    let description = "Finds what matters in documents: passages, keywords, filters";
    Rules::new("analyzer", description, verbs, thinker)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    documents: Vec<Json>,
    question: Option<String>,
    top: Option<usize>,
    filters: Option<Filters>,
}

fn input_schema(required: &[&str]) -> Json {
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": {
            "documents": document::list_schema(),
            "question": {"type": "string", "maxLength": 10_000},
            "top": {
                "description": "how many passages to answer", "default": TOP,
                "type": "integer", "minimum": 1, "maximum": 100_000
            },
            "filters": filter::schema()
        }
    })
}

fn passage_schema() -> Json {
    document::quote_schema(&json!({
        "rank": {"type": "integer", "minimum": 1},
        "score": {"type": "number", "exclusiveMinimum": 0},
        "heading": {"type": "string"},
        "language": {"type": "string"},
        "matched": {
            "description": "the words of the question that are in it, stemmed",
            "type": "array", "items": {"type": "string"}
        }
    }))
}

fn keywords_schema() -> Json {
    json!({"type": "array", "items": {"type": "string"}})
}

fn description_schema() -> Json {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "required": ["source", "language", "words", "passages", "keywords"],
        "additionalProperties": false,
        "properties": {
            "source": {"type": "string"}, "title": {"type": "string"},
            "language": {"description": "ISO 639-1, or `und`", "type": "string"},
            "words": count, "passages": count, "keywords": keywords_schema(),
            "published": {"type": "string"}
        }
    })
}

impl Input {
    /// The input, and of its documents those that its filters let through.
    fn read(input: &Json) -> Result<(Self, Vec<Document>), Failure> {
        let mut read: Self = read(input)?;
        let filters = read.filters.take().unwrap_or_default();
        let documents = filters.sort(std::mem::take(&mut read.documents))?.kept;
        let documents: Vec<Document> = documents.into_iter().map(|kept| kept.1).collect();
        Ok((read, documents))
    }

    fn top(&self) -> usize {
        self.top.unwrap_or(TOP).max(1)
    }
}

fn analyze(input: &Json) -> Result<Made, Failure> {
    let (input, documents) = Input::read(input)?;
    let pages = Page::all(&documents);
    let mut terms = Terms::default();
    let mut all = Vec::new();
    let mut described = Vec::new();
    for page in &pages {
        let found = keywords(page, &mut terms);
        let shown: Vec<_> = found.iter().take(KEYWORDS).map(|keyword| &*keyword.word).collect();
        described.push(describe(page, &shown));
        all.push(found);
    }
    let mut value = json!({"documents": described, "keywords": overall(all, 2 * KEYWORDS)});
    if let Some(question) = &input.question {
        let ranked = rank(question, &pages, &mut terms);
        value["passages"] = show(ranked.iter().take(input.top()), &pages, &terms);
    }
    Ok(Made { value, files: Vec::new() })
}

fn describe(page: &Page<'_>, keywords: &[&str]) -> Json {
    let mut described = json!({
        "source": page.document.name(),
        "language": page.language.code(),
        "words": words(page.text).count(),
        "passages": page.passages().len(),
        "keywords": keywords,
    });
    for (name, said) in [("title", &page.document.title), ("published", &page.document.published)] {
        if let Some(said) = said {
            described[name] = said.trim().into();
        }
    }
    described
}

fn ranked(input: &Json) -> Result<Made, Failure> {
    let (input, documents) = Input::read(input)?;
    let pages = Page::all(&documents);
    let mut terms = Terms::default();
    let ranked = rank(input.question.as_deref().unwrap_or_default(), &pages, &mut terms);
    let passages = show(ranked.iter().take(input.top()), &pages, &terms);
    let value = json!({"passages": passages, "considered": ranked.len()});
    Ok(Made { value, files: Vec::new() })
}

fn filtered(input: &Json) -> Result<Made, Failure> {
    let input: Input = read(input)?;
    let sorted = input.filters.unwrap_or_default().sort(input.documents)?;
    Ok(Made { value: sorted.value(), files: Vec::new() })
}

/// Passages, best first, as an answer shows them.
fn show<'r>(best: impl Iterator<Item = &'r Ranked>, pages: &[Page<'_>], terms: &Terms) -> Json {
    let shown = best.enumerate().map(|(index, one)| {
        let page = &pages[one.page];
        let mut shown = page.quote(&one.passage.range);
        shown.insert("rank".into(), (index + 1).into());
        shown.insert("score".into(), ((one.score * 1000.0).round() / 1000.0).max(0.001).into());
        shown.insert("language".into(), page.language.code().into());
        if let Some(heading) = &one.passage.heading {
            shown.insert("heading".into(), page.plain(heading).into());
        }
        let matched: Vec<_> = one.terms.iter().map(|term| terms.stem(*term)).collect();
        shown.insert("matched".into(), matched.into());
        Json::Object(shown)
    });
    shown.collect()
}
