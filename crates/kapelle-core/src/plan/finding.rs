//! Something wrong at a place of a plan, before it is known how the place is called.
//!
//! A plan given as data calls a place as in `steps[2].needs[0]`; a file calls it as in
//! `tasks[2].dependencies[0]` and knows its line.

use crate::problem::{Code, Problem, Severity};

/// Where in a plan something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Plan(&'static str),
    Input(Box<str>),
    /// In the run's output, at this JSON pointer.
    Output(String),
    /// In a step: which, which field, and at which JSON pointer in it.
    Step(usize, Field, String),
}

/// A field of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Id,
    Needs,
    Agent,
    Action,
    Input,
    Prompt,
    When,
    List,
    ItemName,
    MaxParallel,
    Priority,
    Timeout,
    Attempts,
    Lost,
    Factor,
    Output,
}

/// Something wrong, at a place.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) place: Place,
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) severity: Severity,
    /// The words in the field's text that are meant, where it is a text.
    pub(crate) culprit: Option<String>,
    /// Whether the place's key is meant, not its value.
    pub(crate) of_key: bool,
}

impl Finding {
    pub(crate) fn new(place: Place, code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            place,
            code,
            message,
            hint: None,
            severity: Severity::Error,
            culprit: None,
            of_key: false,
        }
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(super) fn culprit(mut self, culprit: impl Into<String>) -> Self {
        self.culprit = Some(culprit.into());
        self
    }

    pub(super) fn in_plan(self) -> Problem {
        let field = self.place.in_plan();
        let mut problem = Problem::error(self.code, field, self.message).hint(self.hint);
        problem.severity = self.severity;
        problem
    }
}

impl Place {
    fn in_plan(&self) -> String {
        match self {
            Self::Plan(field) => (*field).to_owned(),
            Self::Input(name) => format!("inputs.{name}"),
            Self::Output(pointer) => format!("output{}", dotted(pointer)),
            Self::Step(index, field, pointer) => {
                let name = match field {
                    Field::Id => "id",
                    Field::Needs => "needs",
                    Field::Agent => "work.agent.agent",
                    Field::Action => "work.agent.action",
                    Field::Input => "work.agent.input",
                    Field::Prompt => "work.agent.prompt",
                    Field::When => "when",
                    Field::List => "for_each.list",
                    Field::ItemName => "for_each.as",
                    Field::MaxParallel => "for_each.max_parallel",
                    Field::Priority => "priority",
                    Field::Timeout => "timeout_ms",
                    Field::Attempts => "retry.attempts_max",
                    Field::Lost => "retry.lost_max",
                    Field::Factor => "retry.factor",
                    Field::Output => "output",
                };
                format!("steps[{index}].{name}{}", dotted(pointer))
            }
        }
    }
}

/// A JSON pointer as people write it: `/a/0/b` is `.a[0].b`.
pub(crate) fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{segment}]"));
        } else {
            path.push('.');
            path.push_str(&segment);
        }
    }
    path
}
