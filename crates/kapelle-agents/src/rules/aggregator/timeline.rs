//! The run that a report is of, drawn: a row for each step, from when it began to when it ended.
//!
//! **Invariants:** times are what the input says, since no clock is read here. Lengths are given as
//! shares of the width and letters in their own size, so that the picture reads on a phone, on a
//! screen and on paper.

use std::fmt::Write as _;

use kapelle_core::Json;
use serde::Deserialize;
use serde_json::json;

use super::html::safe;

/// How many steps are drawn: the longest ones, where there are more.
const ROWS: usize = 40;
/// The height of a row, and of the scale below.
const ROW: usize = 34;
const SCALE: usize = 22;
/// How many rows are one picture: paper is cut between two of these.
const STRIP: usize = 6;

/// A run, as `run` is in an expression.
#[derive(Deserialize)]
pub(super) struct Timeline {
    id: Option<String>,
    #[serde(rename = "createdAt")]
    created_at: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    id: String,
    agent: Option<String>,
    status: Option<String>,
    #[serde(default)]
    attempts: u32,
    start_ms: u64,
    end_ms: Option<u64>,
}

pub(super) fn schema() -> Json {
    let text = json!({"type": ["string", "null"]});
    let number = json!({"type": "integer", "minimum": 0});
    json!({
        "description": "what `run` is in an expression: its steps are drawn with their times",
        "type": ["object", "null"],
        "properties": {
            "id": text, "createdAt": text,
            "steps": {"type": "array", "items": {
                "type": "object", "required": ["id", "startMs"],
                "properties": {
                    "id": {"type": "string"}, "agent": text, "status": text,
                    "attempts": number, "startMs": number,
                    "endMs": {"type": ["integer", "null"], "minimum": 0}
                }
            }}
        }
    })
}

impl Timeline {
    /// The picture and what it shows, as HTML; nothing where no step was begun.
    pub(super) fn html(&self) -> Option<String> {
        let all = self.all_ms();
        let shown = self.shown();
        let mut out = String::from("<figure class=\"run\">\n");
        let label = format!("{} steps in {}", self.steps.len(), time(all));
        for (at, strip) in shown.chunks(STRIP).enumerate() {
            let (rows, is_last) = (strip.len() * ROW, (at + 1) * STRIP >= shown.len());
            let height = if is_last { rows + SCALE } else { rows };
            let said = if at == 0 {
                format!("role=\"img\" aria-label=\"{label}\"")
            } else {
                "aria-hidden=\"true\"".into()
            };
            _ = writeln!(out, "<svg width=\"100%\" height=\"{height}\" {said}>");
            lines(&mut out, rows);
            for (row, step) in strip.iter().enumerate() {
                step.draw(&mut out, row * ROW, all);
            }
            if is_last {
                scale(&mut out, all, rows);
            }
            out.push_str("</svg>\n");
        }
        _ = writeln!(out, "<figcaption>{}</figcaption>\n</figure>", self.caption(all));
        (!shown.is_empty()).then_some(out)
    }

    /// How long it took until the last step that is known ended. Never zero: it is divided by.
    fn all_ms(&self) -> u64 {
        let ends = self.steps.iter().map(|step| step.end_ms.unwrap_or(step.start_ms));
        ends.max().unwrap_or(0).max(1)
    }

    /// The steps that are drawn, in the order in which they began.
    fn shown(&self) -> Vec<&Step> {
        let mut longest: Vec<usize> = (0..self.steps.len()).collect();
        longest.sort_by_key(|at| std::cmp::Reverse(self.steps[*at].took()));
        longest.truncate(ROWS);
        longest.sort_by_key(|at| (self.steps[*at].start_ms, *at));
        longest.into_iter().map(|at| &self.steps[at]).collect()
    }

    fn caption(&self, all: u64) -> String {
        let mut said = String::from("The steps of this run");
        if let Some(id) = &self.id {
            _ = write!(said, " <code>{}</code>", safe(id));
        }
        if let Some(at) = self.created_at.as_deref().and_then(|at| at.get(..16)) {
            _ = write!(said, ", begun {} UTC", safe(&at.replace('T', " ")));
        }
        _ = write!(said, ", up to this report: {}.", time(all));
        if self.steps.len() > ROWS {
            _ = write!(said, " The longest {ROWS} of {} are shown.", self.steps.len());
        }
        said
    }
}

impl Step {
    fn took(&self) -> u64 {
        self.end_ms.unwrap_or(self.start_ms).saturating_sub(self.start_ms)
    }

    fn draw(&self, out: &mut String, top: usize, all: u64) {
        let line = top + 14;
        let agent = self.agent.as_deref().unwrap_or("a person");
        _ = writeln!(
            out,
            "<text x=\"0\" y=\"{line}\">{} <tspan class=\"soft\">{}</tspan></text>\
             <text class=\"soft\" x=\"100%\" y=\"{line}\" text-anchor=\"end\">{}</text>",
            safe(&self.id),
            safe(agent),
            safe(&self.words())
        );
        let share = |ms: u64| 100.0 * ms.min(all) as f64 / all as f64;
        let class = match self.status.as_deref() {
            Some("completed" | "running") | None => "done",
            Some(_) => "bad",
        };
        _ = writeln!(
            out,
            "<rect class=\"bar {class}\" x=\"{:.2}%\" y=\"{}\" width=\"{:.2}%\" height=\"9\" rx=\"2\"/>",
            share(self.start_ms).min(99.4),
            top + 19,
            share(self.took()).max(0.6)
        );
    }

    /// How it went, in a few words.
    fn words(&self) -> String {
        let mut words = match self.end_ms {
            Some(_) => time(self.took()),
            None => "goes on".into(),
        };
        if let Some(status) = self.status.as_deref().filter(|status| *status != "completed")
            && self.end_ms.is_some()
        {
            words = format!("{status}, {words}");
        }
        if self.attempts > 1 {
            _ = write!(words, ", {} attempts", self.attempts);
        }
        words
    }
}

/// Lines at the quarters.
fn lines(out: &mut String, height: usize) {
    for x in [0, 25, 50, 75, 100] {
        _ = writeln!(out, "<line x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"{height}\"/>");
    }
}

/// What the lines stand for, below a picture of this height.
fn scale(out: &mut String, all: u64, height: usize) {
    for (quarter, anchor) in (0..).zip(["start", "middle", "middle", "middle", "end"]) {
        _ = writeln!(
            out,
            "<text class=\"soft\" x=\"{}%\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            quarter * 25,
            height + 15,
            time(all * quarter / 4)
        );
    }
}

/// A time as a person says it.
fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}
