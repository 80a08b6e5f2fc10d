//! What is wrong with a file, a plan or inputs, told so that the reader can mend it.
//!
//! **Invariant:** every problem has a [`Code`] with an anchor of its name in `docs/errors.md`; a
//! test compares the two. Checks return all problems at once, never only the first.

use std::fmt;

use serde::{Serialize, Serializer};

/// One thing that is wrong, or looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: Option<Box<str>>,
    /// From 1.
    pub line: Option<u32>,
    /// In characters, from 1.
    pub column: Option<u32>,
    /// Which field, as in `tasks[2].retry.max`; empty for the whole.
    pub field: Box<str>,
    /// What kind of problem.
    pub code: Code,
    /// For a person: lower case, no full stop.
    pub message: Box<str>,
    /// What to do about it.
    pub hint: Box<str>,
    /// Whether it forbids going on.
    pub severity: Severity,
    /// The line of the file that it is about.
    #[serde(skip)]
    pub snippet: Option<Snippet>,
}

/// A line of a file and what to underline in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The line without its end, or of a long line the part around the culprit.
    pub text: Box<str>,
    /// How many characters of the line come before `text`.
    pub skipped: u32,
    /// How many characters to underline, from the problem's column on.
    pub len: u32,
}

/// Whether a problem forbids going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It only looks wrong.
    Warning,
}

impl Problem {
    /// An error without a place in a file.
    #[must_use]
    pub fn error(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            field: field.into().into(),
            code,
            message: clipped(message.into()).into(),
            hint: code.remedy().into(),
            severity: Severity::Error,
            snippet: None,
        }
    }

    /// The same with a better hint than the code's remedy, if there is one.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.hint = hint.into();
        }
        self
    }

    /// Whether it forbids going on.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The problem for a terminal: message, place, the line with the culprit underlined, the hint.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error() { "error" } else { "warning" };
        write!(f, "{severity}: {}", self.message)?;
        let hint = &self.hint;
        let (Some(line), Some(column)) = (self.line, self.column) else {
            let place = self.file.as_deref().unwrap_or(&self.field);
            if !place.is_empty() {
                write!(f, "\n  ┌─ {place}")?;
            }
            return write!(f, "\n  = {hint}");
        };
        let number = line.to_string();
        let pad = " ".repeat(number.len());
        write!(f, "\n{pad}┌─ {}:{line}:{column}", self.file.as_deref().unwrap_or("-"))?;
        let Some(snippet) = &self.snippet else {
            return write!(f, "\n{pad} = {hint}");
        };
        let (text, before) = snippet.shown(column);
        write!(f, "\n{number} │ {text}")?;
        let mark = format!("{before}{} {hint}", "^".repeat(snippet.len.clamp(1, 80) as usize));
        write!(f, "\n{pad} │ {}", mark.trim_end())
    }
}

impl Snippet {
    /// The text to show, and the blanks before what is underlined in it.
    fn shown(&self, column: u32) -> (String, String) {
        // A control character could do anything to a terminal.
        let visible = |c: char| if c == '\t' || !c.is_control() { c } else { '\u{fffd}' };
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let before = column.saturating_sub(1 + self.skipped) as usize;
        let blanks = self.text.chars().take(before).map(blank).collect();
        (self.text.chars().map(visible).collect(), blanks)
    }
}

/// A message may quote a value, and a value may have megabytes.
fn clipped(mut message: String) -> String {
    const MAX: usize = 600;
    if message.len() > MAX {
        message.truncate(message.floor_char_boundary(MAX));
        message.push('…');
    }
    message
}

macro_rules! codes {
    ($($name:ident $word:literal $what:literal $remedy:literal,)*) => {
        /// The kinds of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = concat!("`", $word, "`: ", $what, ".")] $name,)*
        }

        impl Code {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word: an anchor in `docs/errors.md`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it means, in one line.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// What to do about it where nothing better is known.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    UnreadableFile "unreadable_file" "the file is not there or cannot be read"
        "correct its name, or the rights to read it",
    FileTooLarge "file_too_large" "the file is larger than 32 MiB"
        "give large values as inputs, or by a step that reads them",
    BadEncoding "bad_encoding" "the file is not UTF-8 text"
        "save the file as UTF-8",
    YamlSyntax "yaml_syntax" "the file is neither YAML nor JSON"
        "check indentation, quotes and brackets here and in the line above",
    TooDeep "too_deep" "the file is nested deeper than 64 levels"
        "use fewer levels",
    TooManyNodes "too_many_nodes" "the file has more than 4 million values, aliases counted each time"
        "use fewer values, or fewer aliases",
    DuplicateKey "duplicate_key" "an object has the same key twice"
        "remove one of the two",
    SeveralDocuments "several_documents" "the file holds more than one document"
        "put each workflow in a file of its own",
    EmptyFile "empty_file" "the file holds no value"
        "a workflow has at least `id` and `tasks`",
    UnknownField "unknown_field" "the format has no such field"
        "see `docs/workflows.md` for the fields there are",
    MissingField "missing_field" "a field that must be there is not"
        "add the field",
    WrongType "wrong_type" "a value is of another type than the field takes"
        "see `docs/workflows.md` for what the field takes",
    BadValue "bad_value" "a value is not one of those that the field takes"
        "see `docs/workflows.md` for what the field takes",
    OutOfRange "out_of_range" "a number or a length is outside its limits"
        "choose a value inside the limits",
    BadDuration "bad_duration" "a text is no duration"
        "write `10ms`, `30s`, `5m`, `24h` or `1h30m`",
    BadId "bad_id" "a text cannot be an id"
        "an id has 1 to 64 letters, digits, `_` and `-`",
    BadSchema "bad_schema" "a JSON Schema is none, or its default does not follow it"
        "correct the schema; it is checked as JSON Schema 2020-12",
    ConstructUnavailable "construct_unavailable" "this version does not have what the field asks for"
        "see `docs/workflows.md` for what there is",
    ConflictingFields "conflicting_fields" "two fields cannot stand together"
        "keep one of them",
    EmptyPlan "empty_plan" "there is nothing to do"
        "add a step to `tasks`",
    TooManySteps "too_many_steps" "a plan has more steps than the limit"
        "use `forEach`, or several workflows",
    DuplicateId "duplicate_id" "two steps have one id"
        "give each step an id of its own",
    UnknownStep "unknown_step" "a step is named that does not exist"
        "name a step of this workflow",
    Cycle "cycle" "steps depend on each other in a circle"
        "remove one of these dependencies",
    UnknownAgent "unknown_agent" "no agent has this name"
        "`kapelle agents list` names those there are",
    UnknownAction "unknown_action" "the agent has no such action, or must be told which"
        "`kapelle agents show` names those there are",
    BadInput "bad_input" "the agent does not take this input"
        "`kapelle agents show` prints the schema of what it takes",
    TemplateInCommand "template_in_command" "a command holds a template"
        "give the value by `env` or `stdin`",
    ExpressionSyntax "expression_syntax" "an expression cannot be read"
        "see `docs/workflows.md` for what expressions look like",
    ExpressionUnknown "expression_unknown" "an expression uses a name, filter or test that does not exist"
        "see `docs/workflows.md` for what expressions can use",
    UnknownInput "unknown_input" "an input is named that the workflow does not have"
        "declare it under `inputs`",
    MissingInput "missing_input" "an input without a default is not given"
        "give it with `--input name=value` or in the file of `--inputs`",
    WrongInput "wrong_input" "an input does not follow its schema"
        "give a value that follows the schema",
    StatementInTemplate "statement_in_template" "a statement in braces and percent signs is taken as text"
        "write `{{ a if b else c }}`, or use a filter",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_page_of_errors_and_the_table_are_the_same() {
        let page = include_str!("../../../docs/errors.md");
        let section = page.split("\n## ").find(|part| part.starts_with("Problems")).unwrap();
        let mut described = BTreeMap::new();
        let mut lines = section.lines();
        while let Some(line) = lines.next() {
            if let Some(code) = line.strip_prefix("### ") {
                described.insert(code, lines.find(|line| !line.is_empty()).unwrap_or_default());
            }
        }
        let table: BTreeMap<_, _> = Code::ALL
            .iter()
            .map(|code| (code.as_str(), format!("{} {}", code.description(), code.remedy())))
            .collect();
        let both: Vec<_> = described.keys().collect();
        assert_eq!(both, table.keys().collect::<Vec<_>>());
        for (code, text) in described {
            let plain = |text: &str| text.to_lowercase().replace('.', "");
            assert_eq!(plain(text), plain(&table[code]), "{code}");
        }
    }

    #[test]
    fn a_problem_shows_no_more_than_it_knows() {
        let mut problem = Problem::error(Code::EmptyFile, "", "the file is empty");
        let hint = "a workflow has at least `id` and `tasks`";
        assert_eq!(problem.to_string(), format!("error: the file is empty\n  = {hint}"));
        problem.field = "tasks".into();
        problem.severity = Severity::Warning;
        let shown = format!("warning: the file is empty\n  ┌─ tasks\n  = {hint}");
        assert_eq!(problem.to_string(), shown);
        (problem.line, problem.column) = (Some(7), Some(3));
        let shown = format!("warning: the file is empty\n ┌─ -:7:3\n  = {hint}");
        assert_eq!(problem.to_string(), shown);
    }

    #[test]
    fn a_line_of_a_file_does_nothing_to_a_terminal() {
        let snippet = Snippet { text: "\ta\u{1b}[31mb".into(), skipped: 10, len: 1 };
        assert_eq!(snippet.shown(12), ("\ta\u{fffd}[31mb".to_owned(), "\t".to_owned()));
        assert_eq!(snippet.shown(14).1, "\t  ");
    }

    #[test]
    fn a_long_message_is_told_in_part() {
        let told = |bytes| Problem::error(Code::BadValue, "", "x".repeat(bytes)).message;
        assert_eq!(told(600), "x".repeat(600).into());
        assert_eq!(told(601), format!("{}…", "x".repeat(600)).into());
    }

    #[test]
    fn a_problem_shows_its_line_and_a_hint_under_it() {
        let mut problem = Problem::error(
            Code::UnknownStep,
            "tasks[1].dependencies[0]",
            "step `frontend` depends on `backnd`, which does not exist",
        )
        .hint(Some("did you mean `backend`?".to_owned()));
        problem.file = Some("fullstack.yaml".into());
        (problem.line, problem.column) = (Some(31), Some(20));
        problem.snippet =
            Some(Snippet { text: "    dependencies: [backnd]".into(), skipped: 0, len: 6 });
        let expected = "\
error: step `frontend` depends on `backnd`, which does not exist
  ┌─ fullstack.yaml:31:20
31 │     dependencies: [backnd]
   │                    ^^^^^^ did you mean `backend`?";
        assert_eq!(problem.to_string(), expected);
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.starts_with(r#"{"file":"fullstack.yaml","line":31,"column":20,"field":"tasks[1].dependencies[0]","code":"unknown_step","message":"#), "{json}");
    }
}
