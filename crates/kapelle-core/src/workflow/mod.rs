//! Workflow files: YAML or JSON text becomes a checked plan, or everything that is wrong with it.
//!
//! **Invariants:** a file is read by counts, never by trust: [`FILE_MAX`] bytes, then the limits of
//! `tree`. What this version does not have is an error, never ignored. All problems are
//! reported at once, each with its line, column and field.
//!
//! `tree` reads text into values with places, `file` is the shape as types (and so the schema),
//! `shape` compares the two, `convert` makes the plan, which [`mod@crate::plan::check`] checks.

mod convert;
mod file;
mod shape;
mod tree;

#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::Serialize;

use crate::Json;
use crate::plan::check;
use crate::plan::finding::{self, Field, Finding, Place};
use crate::plan::{self, Plan};
use crate::port::Agents;
use crate::problem::{Code, Problem, Snippet};
use convert::Converted;
use tree::{Fault, Node};

/// The largest file, in bytes.
pub const FILE_MAX: usize = 32 << 20;
/// How much of a line is shown before and after what is wrong in it, in bytes.
const LINE_SHOWN: usize = 160;
/// How many problems are told of one file.
pub const PROBLEMS_MAX: usize = 200;

/// A checked workflow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workflow {
    /// Its id.
    pub id: Box<str>,
    /// What people call it.
    pub name: Option<Box<str>>,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// Its version, as written.
    pub version: Option<Box<str>>,
    /// What kind of work it is.
    pub category: Option<Box<str>>,
    /// Words to find it by.
    pub tags: Vec<Box<str>>,
    /// How hard it is.
    pub complexity: Option<Box<str>>,
    /// How long its author says it takes, in milliseconds.
    pub estimate_ms: Option<u64>,
    /// What it does.
    pub plan: Plan,
}

/// What reading a file gave.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The workflow, if no problem is an error.
    pub workflow: Option<Workflow>,
    /// What is wrong or looks wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Workflow {
    /// Reads a file; `name` is what problems call it.
    ///
    /// Without `agents`, whether agents, actions and inputs exist and fit is not looked at.
    #[must_use]
    pub fn read(name: &str, bytes: &[u8], agents: Option<&Agents>) -> Checked {
        let mut problems = Problems { file: name, text: "", found: Vec::new() };
        let workflow = match text_of(bytes) {
            Ok(text) => {
                problems.text = text;
                read_text(&mut problems, agents)
            }
            Err(fault) => {
                let problem = Problem::error(fault.code, fault.field, fault.message);
                problems.found.push((0, Problem { file: Some(name.into()), ..problem }));
                None
            }
        };
        let problems = problems.finish();
        let usable = !problems.iter().any(Problem::is_error);
        Checked { workflow: workflow.filter(|_| usable), problems }
    }

    /// The plan of one run of it.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// `given` with defaults filled in; see [`plan::inputs`].
    pub fn inputs(&self, given: Json) -> Result<Json, Vec<Problem>> {
        plan::inputs(&self.plan, given)
    }
}

/// The JSON Schema of workflow files.
#[must_use]
pub fn schema() -> Json {
    file::schema()
}

fn text_of(bytes: &[u8]) -> Result<&str, Fault> {
    let fault =
        |code, message: String| Err(Fault { code, field: String::new(), message, at: 0..0 });
    if bytes.len() > FILE_MAX {
        let message = format!("the file has {} bytes, over the limit of {FILE_MAX}", bytes.len());
        return fault(Code::FileTooLarge, message);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return fault(Code::BadEncoding, "the file is UTF-16, not UTF-8".to_owned());
    }
    let line_of = |at: usize| bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return fault(Code::BadEncoding, format!("there is a NUL byte in line {}", line_of(at)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let line = line_of(error.valid_up_to());
            fault(Code::BadEncoding, format!("the file is not UTF-8: see line {line}"))
        }
    }
}

fn read_text(problems: &mut Problems<'_>, agents: Option<&Agents>) -> Option<Workflow> {
    let mut faults = Vec::new();
    let parsed = tree::parse(problems.text, &mut faults);
    for fault in faults {
        problems.at(fault.at, Problem::error(fault.code, fault.field, fault.message));
    }
    let tree = match parsed {
        Ok(tree) => tree,
        Err(fault) => {
            problems.at(fault.at, Problem::error(fault.code, fault.field, fault.message));
            return None;
        }
    };
    let mut json = tree.to_json();
    let stripped = shape::check(&mut json, &tree, problems);
    let file: file::File = match serde_json::from_value(json) {
        Ok(file) => file,
        Err(error) => {
            let message = format!("the file is no workflow: {error}");
            problems.at(tree.at, Problem::error(Code::WrongType, "", message));
            return None;
        }
    };
    let Converted { mut workflow, findings } = convert::convert(file);
    // What holds for the whole plan comes first: not all of a large number of problems is kept.
    let checked = check::find(&mut workflow.plan, agents);
    for finding in checked.into_iter().chain(findings) {
        let pointer = pointer_of(&finding.place);
        let mut ends = pointer.match_indices('/').map(|(end, _)| end).chain([pointer.len()]);
        let hidden = ends.any(|end| stripped.contains(&pointer[..end]));
        if !hidden {
            problems.finding(&tree, &pointer, finding);
        }
    }
    Some(workflow)
}

/// Where in a file a place in its plan is.
fn pointer_of(place: &Place) -> String {
    match place {
        Place::Plan("steps") => "/tasks".to_owned(),
        Place::Plan("max_parallel") => "/config/maxParallelAgents".to_owned(),
        Place::Plan("timeout_ms") => "/config/globalTimeout".to_owned(),
        Place::Plan("deadline_ms") => "/config/deadline".to_owned(),
        Place::Plan(_) => String::new(),
        Place::Input(name) => {
            format!("/inputs/{}", name.replace('~', "~0").replace('/', "~1"))
        }
        Place::Output(pointer) => format!("/output{pointer}"),
        Place::Step(index, field, pointer) => {
            let name = match field {
                Field::Id => "id",
                Field::Needs => "dependencies",
                Field::Agent => "agentName",
                Field::Action => "action",
                Field::Input => "input",
                Field::Prompt => "prompt",
                Field::When => "when",
                Field::List => "forEach",
                Field::ItemName => "as",
                Field::MaxParallel => "maxParallel",
                Field::Priority => "priority",
                Field::Timeout => "timeout",
                Field::Attempts => "retry/maxAttempts",
                Field::Lost => "retry/maxLost",
                Field::Factor => "retry/factor",
                Field::Output => "output",
            };
            format!("/tasks/{index}/{name}{pointer}")
        }
    }
}

/// The problems of one file, found in any order.
struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, Problem)>,
}

impl Problems<'_> {
    /// Adds a problem with what is at `at` in the text.
    fn at(&mut self, at: Range<usize>, mut problem: Problem) {
        // Past the end of a large file full of problems, more of them help nobody.
        if self.found.len() >= 100 * PROBLEMS_MAX {
            return;
        }
        problem.file = Some(self.file.into());
        self.found.push((at.start, problem));
        let len = at.end.saturating_sub(at.start).min(LINE_SHOWN);
        let shown = &self.text[at.start..self.text.floor_char_boundary(at.start + len)];
        let chars = shown.lines().next().unwrap_or_default().trim_end().chars().count();
        let snippet =
            Snippet { text: "".into(), skipped: 0, len: u32::try_from(chars.max(1)).unwrap_or(1) };
        if let Some((_, problem)) = self.found.last_mut() {
            problem.snippet = Some(snippet);
        }
    }

    fn finding(&mut self, tree: &Node, pointer: &str, finding: Finding) {
        let mut at = tree.nearest(pointer).at.clone();
        if finding.of_key
            && let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(entry) = tree.nearest(parent).entry(&tree::unescaped(key))
        {
            at = entry.key_at.clone();
        }
        if let Some(culprit) = finding.culprit.filter(|culprit| !culprit.is_empty())
            && let Some(found) = self.text.get(at.clone()).and_then(|text| text.find(&culprit))
        {
            at = at.start + found..at.start + found + culprit.len();
        }
        let mut problem = Problem::error(finding.code, field_of(pointer), finding.message);
        problem.severity = finding.severity;
        self.at(at, problem.hint(finding.hint));
    }

    /// The problems in the order of the file, with lines and columns.
    fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(start, _)| *start);
        self.found
            .dedup_by(|(x, b), (y, a)| x == y && a.field == b.field && a.message == b.message);
        self.found.truncate(PROBLEMS_MAX);
        let mut lines = Lines { text: self.text, line: 1, line_start: 0, column: 1, at: 0 };
        let place = |(start, mut problem): (usize, Problem)| {
            if let Some(snippet) = &mut problem.snippet {
                lines.go_to(start);
                lines.show(snippet);
                problem.line = Some(lines.line);
                problem.column = Some(lines.column);
            }
            problem
        };
        self.found.into_iter().map(place).collect()
    }
}

/// A place in a text that only goes on, so that many problems cost one look at the text.
struct Lines<'a> {
    text: &'a str,
    line: u32,
    line_start: usize,
    column: u32,
    at: usize,
}

impl Lines<'_> {
    fn go_to(&mut self, start: usize) {
        let start = start.min(self.text.len());
        let between = &self.text[self.at..start];
        let newlines = between.matches('\n').count();
        self.line += u32::try_from(newlines).unwrap_or(u32::MAX);
        let same_line = match between.rfind('\n') {
            Some(newline) => {
                self.line_start = self.at + newline + 1;
                self.column = 1;
                &between[newline + 1..]
            }
            None => between,
        };
        self.column += u32::try_from(same_line.chars().count()).unwrap_or(u32::MAX);
        self.at = start;
    }

    /// The line around here; lines may have megabytes, so of a long one only a part.
    fn show(&self, snippet: &mut Snippet) {
        let long = self.at - self.line_start > LINE_SHOWN;
        let from = if long { self.text.floor_char_boundary(self.at - 60) } else { self.line_start };
        let to = self.text.floor_char_boundary(self.at + LINE_SHOWN);
        let line = self.text[from..to].lines().next().unwrap_or_default();
        let before = u32::try_from(self.text[from..self.at].chars().count()).unwrap_or(u32::MAX);
        snippet.text = line.into();
        snippet.skipped = self.column - 1 - before;
    }
}

fn field_of(pointer: &str) -> String {
    finding::dotted(pointer).trim_start_matches('.').to_owned()
}
