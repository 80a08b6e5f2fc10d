//! `summarizer`: the sentences that say most of a text, as they stand there.

mod judged;
#[cfg(test)]
mod tests;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::json;

use super::choose::{Chosen, STEMS_MIN, Wanted, candidates, choose};
use super::document::{self, Document, Page};
use super::engine::Thinker;
use super::{Made, Rules, Verb, Work};
use crate::input::{invalid, read};
use crate::text::Terms;

/// How many sentences a summary has where the step does not say.
const SENTENCES: usize = 5;

/// The agent.
pub(crate) fn agent(thinker: Thinker) -> Rules {
    let verb = Verb {
        name: "summarize",
        description: "Chooses the sentences that say most, by their centrality and the question",
        input: schema(),
        output: json!({
            "type": "object",
            "required": ["summary", "sentences", "of"],
            "additionalProperties": false,
            "properties": {
                "summary": {"description": "the sentences, one after the other", "type": "string"},
                "sentences": {"type": "array", "items": document::quote_schema(&json!({
                    "score": {"type": "number"}
                }))},
                "of": {"description": "how many sentences there were", "type": "integer", "minimum": 0}
            }
        }),
        work: Work::Anywhere(summarize),
        thought: Some(judged::SUMMARIZE),
    };
    Rules::new("summarizer", "Summarizes texts by their own sentences", vec![verb], thinker)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    text: Option<String>,
    documents: Option<Vec<Document>>,
    sentences: Option<usize>,
    ratio: Option<f64>,
    question: Option<String>,
}

fn schema() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [{"required": ["text"]}, {"required": ["documents"]}],
        "not": {"required": ["sentences", "ratio"]},
        "properties": {
            "text": {"type": "string"},
            "documents": document::list_schema(),
            "sentences": {"type": "integer", "minimum": 1, "maximum": 1000, "default": SENTENCES},
            "ratio": {
                "description": "the share of all sentences, instead of their number",
                "type": "number", "exclusiveMinimum": 0, "maximum": 1
            },
            "question": {"type": "string", "maxLength": 10_000}
        }
    })
}

impl Input {
    /// The input, and the documents that are to be summarized.
    fn read(input: &Json) -> Result<(Self, Vec<Document>), Failure> {
        let mut input: Self = read(input)?;
        if input.sentences.is_some() && input.ratio.is_some() {
            return Err(invalid("bad_input", "give either `sentences` or `ratio`"));
        }
        let documents = match (input.text.take(), input.documents.take()) {
            (Some(text), None) => vec![Document::of_text(text)],
            (None, Some(documents)) => documents,
            _ => return Err(invalid("bad_input", "give either `text` or `documents`")),
        };
        document::check(&documents)?;
        Ok((input, documents))
    }

    /// How many sentences are wanted of so many.
    fn count(&self, of: usize) -> usize {
        match self.ratio {
            Some(ratio) => share(of, ratio),
            None => self.sentences.unwrap_or(SENTENCES),
        }
    }
}

fn summarize(input: &Json) -> Result<Made, Failure> {
    let (input, documents) = Input::read(input)?;
    let pages = Page::all(&documents);
    let mut terms = Terms::default();
    let found = candidates(&pages, STEMS_MIN, &mut terms);
    let of = found.len();
    let wanted = Wanted { count: input.count(of), question: input.question.as_deref() };
    let chosen = choose(found, &pages, &wanted, &mut terms);
    Ok(Made { value: value(&chosen, &pages, of), files: Vec::new() })
}

/// The answer: these sentences of so many.
fn value(chosen: &[Chosen], pages: &[Page<'_>], of: usize) -> Json {
    json!({
        "summary": summary(chosen, pages),
        "sentences": chosen.iter().map(|chosen| show(chosen, pages)).collect::<Json>(),
        "of": of,
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a text has fewer sentences than a float is exact for"
)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to `all`")]
fn share(all: usize, ratio: f64) -> usize {
    (all as f64 * ratio.clamp(0.0, 1.0)).ceil().max(1.0) as usize
}

/// The sentences as prose: those of each document in a paragraph.
fn summary(chosen: &[Chosen], pages: &[Page<'_>]) -> String {
    let mut prose = String::new();
    let mut page = None;
    for one in chosen {
        if page.is_some() {
            prose.push_str(if page == Some(one.page) { " " } else { "\n\n" });
        }
        page = Some(one.page);
        prose.push_str(&pages[one.page].plain(&one.range));
    }
    prose
}

fn show(chosen: &Chosen, pages: &[Page<'_>]) -> Json {
    let mut quote = pages[chosen.page].quote(&chosen.range);
    let score = (f64::from(chosen.score) * 1000.0).round() / 1000.0;
    quote.insert("score".into(), score.into());
    Json::Object(quote)
}
