//! Sentences chosen by a model: as they stand in the texts, in their order.

use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Failure};
use serde_json::json;

use super::{Input, value};
use crate::rules::Made;
use crate::rules::choose::{Chosen, STEMS_MIN, candidates, worth_reading};
use crate::rules::document::Page;
use crate::rules::engine::{Choosing, Question, Thought};
use crate::rules::sheet::{Notes, Sheet, Source, nothing_given, numbers, object};
use crate::text::Terms;

pub(super) const SUMMARIZE: Thought = Thought { ask, make };

fn ask(input: &Json) -> Result<Option<Question>, Failure> {
    let (input, documents) = Input::read(input)?;
    let pages = Page::all(&documents);
    let mut terms = Terms::default();
    let of = candidates(&pages, STEMS_MIN, &mut terms).len();
    let question = input.question.as_deref();
    let lines = worth_reading(&pages, question, &mut terms);
    let Some(sheet) = Sheet::of(question, &Source::of(&pages), lines) else { return Ok(None) };
    let about = if question.is_some() { " to the question" } else { "" };
    let task = format!(
        "Summarize the texts: choose the {} sentences that together say most of what they have to \
         say{about}, each of which can be read alone and none of which repeats another. The most \
         important comes first.",
        input.count(of)
    );
    let schema = object(&json!({"sentences": numbers("numbers of sentences")}));
    Ok(Some(Question { task, sheet, schema }))
}

#[expect(clippy::cast_precision_loss, reason = "a summary has few sentences")]
fn make(call: &Call, chosen: &Choosing<'_>) -> Result<Made, Failure> {
    let mut notes = Notes::default();
    let (input, documents) = Input::read(&call.input)?;
    let pages = Page::all(&documents);
    let of = candidates(&pages, STEMS_MIN, &mut Terms::default()).len();
    let mut numbers = chosen.sheet.chosen(&chosen.choice["sentences"], &mut notes)?;
    if numbers.is_empty() {
        return Err(nothing_given());
    }
    numbers.truncate(input.count(of));
    let count = numbers.len() as f32;
    let sentence = |(at, number): (usize, &usize)| {
        let line = chosen.sheet.at(*number);
        let score = (count - at as f32) / count;
        Chosen { page: line.page, range: line.range.clone(), score }
    };
    let mut sentences: Vec<Chosen> = numbers.iter().enumerate().map(sentence).collect();
    sentences.sort_by_key(|one| (one.page, one.range.start));
    let mut value = value(&sentences, &pages, of);
    notes.tell(&mut value);
    Ok(Made { value, files: Vec::new() })
}
