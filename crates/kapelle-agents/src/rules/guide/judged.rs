//! Steps chosen by a model: which sentences tell what to do, and which belong to them.

use std::ops::Range;

use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Failure};
use serde_json::json;

use super::collect::{Step, inline_command, join};
use super::{Given, sections, shell};
use crate::rules::Made;
use crate::rules::engine::{Choosing, Question, Thought};
use crate::rules::sheet::{
    Line, Notes, Sheet, Source, TEXT_MAX, lines, nothing_given, numbers, object,
};
use crate::text::{Block, Kind, Written};

pub(super) const EXTRACT: Thought = Thought { ask, make };

fn ask(input: &Json) -> Result<Option<Question>, Failure> {
    let given = Given::read(input)?;
    let text = given.document.marked();
    let blocks = given.document.blocks_of(text);
    // All of a page that can be read as a whole; of a longer one what rules take to be about the task.
    let part = if text.len() <= TEXT_MAX / 2 {
        0..blocks.len()
    } else {
        let text = given.document.written(text, &blocks);
        given.part(&text, &blocks).unwrap_or(0..blocks.len())
    };
    let all = lines(0, text, &blocks[part], &(0..text.len()));
    let title = given.document.title.as_deref().unwrap_or_default();
    let source = Source { text, name: given.document.name(), title };
    let task = given.task.as_deref();
    let Some(sheet) = Sheet::of(task, &[source], all) else { return Ok(None) };
    let about = if task.is_some() { " to do what the question is about" } else { "" };
    let task = format!(
        "Find the steps that the page tells its reader to take{about}, in the order in which they are \
         to be done. For each give the sentence that says what to do (or the code that is to be run), \
         and the sentences that belong to it: commands, notes, warnings, and how one sees that it is \
         done. No steps where it tells none."
    );
    let step = object(&json!({
        "do": {"type": "integer"},
        "commands": numbers("code that is run in this step"),
        "notes": numbers("what is good to know"),
        "warnings": numbers("what can go wrong"),
        "expect": numbers("how one sees that it is done"),
    }));
    let schema = object(&json!({"steps": {"type": "array", "items": step}}));
    Ok(Some(Question { task, sheet, schema }))
}

fn make(call: &Call, chosen: &Choosing<'_>) -> Result<Made, Failure> {
    let given = Given::read(&call.input)?;
    let text = given.document.marked();
    let blocks = given.document.blocks_of(text);
    let text = &given.document.written(text, &blocks);
    let mut reader =
        Reader { text, sheet: chosen.sheet, notes: Notes::default(), steps: Vec::new() };
    let told = chosen.choice["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    told.iter().for_each(|step| reader.step(step));
    let Reader { steps, notes, .. } = reader;
    if steps.is_empty() && !told.is_empty() {
        return Err(nothing_given());
    }
    let title = title(&given, text, &blocks, &steps);
    let mut value = given.value(title, &steps, text);
    notes.tell(&mut value);
    Ok(Made { value, files: Vec::new() })
}

/// The heading that the steps are below; of all of a page, its own.
fn title(given: &Given, text: &Written<'_>, blocks: &[Block], steps: &[Step]) -> Option<String> {
    match (&given.task, steps.first()) {
        (Some(_), Some(first)) => Some(text.plain(first.section.as_ref()?)),
        _ => sections::title(text, blocks),
    }
}

struct Reader<'a> {
    text: &'a Written<'a>,
    sheet: &'a Sheet,
    notes: Notes,
    steps: Vec<Step>,
}

impl Reader<'_> {
    fn step(&mut self, told: &Json) {
        let Some(line) = self.line(&told["do"]) else { return };
        if self.steps.iter().any(|known| known.range == line.range) {
            return;
        }
        let mut step = Step::of(self.text, line.range.clone(), line.heading.clone());
        if line.is_code {
            step = step.only(self.code(&line.range));
        }
        for command in self.all(&told["commands"]) {
            self.command(&mut step, &command);
        }
        let parts = [
            ("notes", &mut step.note),
            ("warnings", &mut step.warning),
            ("expect", &mut step.expect),
        ];
        for (name, part) in parts {
            for line in self.all(&told[name]) {
                join(part, &self.text.plain(&line.range));
            }
        }
        self.steps.push(step);
    }

    /// Adds a command to a step, if that is what stands there.
    fn command(&mut self, step: &mut Step, line: &Line) {
        let command = if line.is_code {
            Some(self.code(&line.range))
        } else {
            inline_command(&self.text[line.range.clone()])
        };
        match (command, &mut step.command) {
            (None, _) => {
                let written = self.text.plain(&line.range);
                self.notes.add(format!("dropped: no command is in `{written}`"));
            }
            (Some(command), Some(before)) if before.contains(&command) => {}
            (Some(command), Some(before)) => *before = format!("{before}\n{command}"),
            (command, none) => *none = command,
        }
    }

    /// The commands of a block of code, without what a shell says before them.
    fn code(&self, range: &Range<usize>) -> String {
        let block = Block { kind: Kind::Code, range: range.clone() };
        let commands = shell::commands(self.text, &block).filter(|commands| !commands.is_empty());
        commands.unwrap_or_else(|| self.text[range.clone()].trim().to_owned())
    }

    fn line(&mut self, number: &Json) -> Option<Line> {
        let line = self.sheet.line(number).cloned();
        if line.is_none() {
            self.notes.unknown(number);
        }
        line
    }

    fn all(&mut self, list: &Json) -> Vec<Line> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|number| self.line(number)).collect()
    }
}
