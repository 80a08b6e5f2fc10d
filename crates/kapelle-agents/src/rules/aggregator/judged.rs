//! What a model finds for a report: the sentences that answer, and statements that contradict each other.
//!
//! **Invariant:** it is told as the pages say it: a value stands in the sentence that is named for it,
//! two values are of two pages, and what they are about is in words of these sentences.

use std::path::Path;

use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Failure};
use serde_json::json;

use super::report::{Choice, Input, Quote, Told, near};
use crate::rules::Made;
use crate::rules::choose::worth_reading;
use crate::rules::document::Page;
use crate::rules::engine::{Choosing, Question, Thought};
use crate::rules::sheet::{Line, Notes, Sheet, Source, TEXT_MAX, lines, numbers, object};
use crate::text::{Terms, plain, words};

pub(super) const REPORT: Thought = Thought { ask, make };

/// How many sentences answer at the most: a way to do something may be a list.
const ANSWER_MAX: usize = 16;
/// How many contradictions a model finds at the most.
const CONTRADICTIONS_MAX: usize = 20;

fn ask(input: &Json) -> Result<Option<Question>, Failure> {
    let input = Input::read(input)?;
    let pages = Page::all(&input.documents);
    let question = input.question();
    let all = match question {
        Some(question) => around(question, &pages),
        None => worth_reading(&pages, None, &mut Terms::default()),
    };
    let Some(sheet) = Sheet::of(question, &Source::of(&pages), all) else { return Ok(None) };
    let wanted = match question {
        Some(_) => {
            "Answer the question by the sentences that answer it, the best first: one to three, or all \
             of a list that the answer is. None where the texts do not answer it."
        }
        None => "Choose the three sentences that say most of what the texts have to say.",
    };
    let task = format!(
        "{wanted} Then name where two sources contradict each other: different values for the same \
         thing under the same conditions. Give what it is about in words that stand in the sentences, \
         and each value as it stands in its sentence. Examples and history are no contradictions."
    );
    let value = object(&json!({"value": {"type": "string"}, "at": {"type": "integer"}}));
    let told = object(&json!({
        "about": {"type": "string"}, "values": {"type": "array", "items": value}
    }));
    let schema = object(&json!({
        "answer": numbers("numbers of sentences, the best first"),
        "contradictions": {"type": "array", "items": told},
    }));
    Ok(Some(Question { task, sheet, schema }))
}

/// The sentences of the passages that have most of the question, by their places.
fn around(question: &str, pages: &[Page<'_>]) -> Vec<Line> {
    let (mut bytes, mut found) = (0, Vec::new());
    for one in near(question, pages, &mut Terms::default()) {
        bytes += one.passage.range.len();
        if bytes > TEXT_MAX * 3 / 4 {
            break;
        }
        let page = &pages[one.page];
        found.extend(lines(one.page, page.text, &page.blocks, &one.passage.range));
    }
    found.sort_by_key(|line| (line.page, line.range.start));
    found
}

fn make(call: &Call, chosen: &Choosing<'_>) -> Result<Made, Failure> {
    let mut notes = Notes::default();
    let mut numbers = chosen.sheet.chosen(&chosen.choice["answer"], &mut notes)?;
    numbers.truncate(ANSWER_MAX);
    let input = Input::read(&call.input)?;
    let pages = Page::all(&input.documents);
    let told = chosen.choice["contradictions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let contradiction = |told: &Json| {
        let made = contradiction(told, chosen.sheet, &pages);
        made.map_err(|why| notes.add(format!("dropped: {why}"))).ok()
    };
    let contradictions = told.iter().take(CONTRADICTIONS_MAX).filter_map(contradiction).collect();
    let answer = quotes(&numbers, chosen.sheet);
    let choice = Choice { answer, contradictions, by: chosen.by.into() };
    Ok(input.written(&pages, Path::new(&*call.root), Some(choice), notes))
}

/// The places of sentences; those that follow each other are one.
fn quotes(numbers: &[usize], sheet: &Sheet) -> Vec<Quote> {
    let mut quotes: Vec<Quote> = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let line = sheet.at(*number);
        let follows = at > 0 && numbers[at - 1] + 1 == *number;
        match quotes.last_mut().filter(|last| follows && last.page == line.page) {
            Some(last) if sheet.at(number - 1).heading == line.heading => {
                last.range.end = line.range.end;
            }
            _ => quotes.push(Quote { page: line.page, range: line.range.clone(), heading: None }),
        }
    }
    quotes
}

/// What a model says that sources contradict each other on, or why that is not so.
fn contradiction(told: &Json, sheet: &Sheet, pages: &[Page<'_>]) -> Result<Told, String> {
    let about = plain(told["about"].as_str().unwrap_or_default());
    let mut values: Vec<(Box<str>, Vec<Quote>)> = Vec::new();
    let mut said = String::new();
    for one in told["values"].as_array().into_iter().flatten() {
        let (at, value) = (&one["at"], plain(one["value"].as_str().unwrap_or_default()));
        let line = sheet.line(at).ok_or_else(|| format!("the model was not given {at}"))?;
        let sentence = pages[line.page].plain(&line.range).to_lowercase();
        if value.is_empty() || !stands_in(&value.to_lowercase(), &sentence) {
            return Err(format!("`{value}` does not stand in `{sentence}`"));
        }
        said = format!("{said} {sentence}");
        let quote = Quote { page: line.page, range: line.range.clone(), heading: None };
        match values.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&value)) {
            Some((_, quotes)) => quotes.push(quote),
            None => values.push((value.into(), vec![quote])),
        }
    }
    let page = values.first().map(|(_, quotes)| quotes[0].page);
    let elsewhere = values.iter().flat_map(|(_, quotes)| quotes).any(|it| Some(it.page) != page);
    if values.len() < 2 || !elsewhere {
        return Err(format!("two values of two sources are no contradiction on `{about}`"));
    }
    let known: Vec<&str> = words(&said).map(|(_, word)| word).collect();
    let lower = about.to_lowercase();
    let mut asked = words(&lower).map(|(_, word)| word).peekable();
    if asked.peek().is_none() || !asked.all(|word| known.contains(&word)) {
        return Err(format!("`{about}` is not what the sentences are about"));
    }
    Ok(Told { subject: about.into(), values })
}

/// Whether `value` stands in `sentence` by itself, and is no part of a longer word or number.
fn stands_in(value: &str, sentence: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric();
    sentence.match_indices(value).any(|(at, _)| {
        let (before, after) = (&sentence[..at], &sentence[at + value.len()..]);
        let begins = !value.starts_with(inner) || !before.ends_with(inner);
        begins && (!value.ends_with(inner) || !after.starts_with(inner))
    })
}
