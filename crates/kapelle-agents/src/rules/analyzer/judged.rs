//! Passages ranked by a model: of those that have words of the question, as they are, in its order.

use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Failure};
use serde_json::json;

use super::{Input, analyze, show};
use crate::rules::Made;
use crate::rules::document::Page;
use crate::rules::engine::{Choosing, Question, Thought};
use crate::rules::rank::{Ranked, rank};
use crate::rules::sheet::{Line, Notes, Sheet, Source, numbers, object};
use crate::text::Terms;

/// Passages for a question, beside what rules say of the documents.
pub(super) const ANALYZE: Thought = Thought { ask, make: analyzed };
/// Passages for a question.
pub(super) const RANK: Thought = Thought { ask, make: ranked };

/// From how many passages a model chooses.
const CONSIDERED: usize = 60;

fn ask(input: &Json) -> Result<Option<Question>, Failure> {
    let (input, documents) = Input::read(input)?;
    let Some(question) = &input.question else { return Ok(None) };
    let pages = Page::all(&documents);
    let ranked = rank(question, &pages, &mut Terms::default());
    let line = |one: &Ranked| {
        let (page, range, heading) = (one.page, one.passage.range.clone(), &one.passage.heading);
        Line { page, range, heading: heading.clone(), is_code: false }
    };
    let lines = ranked.iter().take(CONSIDERED.max(input.top())).map(line);
    let Some(sheet) = Sheet::of(Some(question), &Source::of(&pages), lines) else {
        return Ok(None);
    };
    let task = format!(
        "Rank the passages by how well they answer the question: at most {}, the best first. Leave out \
         those that do not help to answer it.",
        input.top()
    );
    let schema = object(&json!({"passages": numbers("numbers of passages, the best first")}));
    Ok(Some(Question { task, sheet, schema }))
}

fn analyzed(call: &Call, chosen: &Choosing<'_>) -> Result<Made, Failure> {
    let mut made = analyze(&call.input)?;
    let (passages, _, notes) = passages(&call.input, chosen)?;
    made.value["passages"] = passages;
    notes.tell(&mut made.value);
    Ok(made)
}

fn ranked(call: &Call, chosen: &Choosing<'_>) -> Result<Made, Failure> {
    let (passages, considered, notes) = passages(&call.input, chosen)?;
    let mut value = json!({"passages": passages, "considered": considered});
    notes.tell(&mut value);
    Ok(Made { value, files: Vec::new() })
}

/// The passages that were chosen, and of how many.
fn passages(input: &Json, chosen: &Choosing<'_>) -> Result<(Json, usize, Notes), Failure> {
    let mut notes = Notes::default();
    let numbers = chosen.sheet.chosen(&chosen.choice["passages"], &mut notes)?;
    let (input, documents) = Input::read(input)?;
    let pages = Page::all(&documents);
    let mut terms = Terms::default();
    let ranked = rank(input.question.as_deref().unwrap_or_default(), &pages, &mut terms);
    // They were shown in the order of their rank.
    let best = numbers.iter().filter_map(|number| ranked.get(*number)).take(input.top());
    Ok((show(best, &pages, &terms), ranked.len(), notes))
}
