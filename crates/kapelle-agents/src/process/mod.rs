//! `process`: runs a command and answers with its output.
//!
//! **Invariants:** the command and all it starts are dead when the attempt has ended, also when
//! this process is killed (see [`crate::child`]). Memory does not grow with the output.
//! Absent: a sandbox, and rules about templates in commands (the workflow checker has those).

mod input;
pub(crate) mod launch;
mod out;
mod stderr;
mod stdout;

use std::path::PathBuf;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind};
use serde_json::json;

use crate::child::Report;
use crate::input::{expect_action, invalid};
use input::Input;
use launch::Surroundings;

/// Runs commands.
#[derive(Debug)]
pub struct Process {
    card: Card,
    launcher: PathBuf,
    kids: Option<PathBuf>,
}

impl Process {
    /// The agent. `launcher` is an executable whose `main` calls [`crate::child::main`] when its
    /// first argument is [`crate::child::ARG`]; `kids` is the file whose shared lock every command
    /// and its descendants hold until they have ended. What commands leave for us is meanwhile in
    /// the folder beside it whose name ends in `.out` instead; without `kids`, in a temporary one.
    #[must_use]
    pub fn new(launcher: PathBuf, kids: Option<PathBuf>) -> Self {
        let action = Action {
            name: "run".into(),
            description: "Runs `argv` or `shell` and answers `{code, value, stderr_tail}`".into(),
            input: input::schema(),
            output: json!({
                "type": "object",
                "required": ["code", "value", "stderr_tail"],
                "additionalProperties": false,
                "properties": {
                    "code": {"type": "integer"},
                    "value": {"description": "stdout, as `parse` says"},
                    "stderr_tail": {"type": "string"}
                }
            }),
        };
        let card = Card {
            name: "process".into(),
            description: "Runs a command; files it leaves in `$KAPELLE_OUT` become artifacts"
                .into(),
            actions: vec![action],
            concurrency_max: None,
        };
        Self { card, launcher, kids }
    }
}

#[async_trait]
impl Agent for Process {
    fn card(&self) -> &Card {
        &self.card
    }

    fn is_one_service(&self) -> bool {
        false
    }

    fn is_outside(&self) -> bool {
        true
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        expect_action("process", "run", &call.action)?;
        let input = Input::read(&call.input)?;
        let (launcher, kids) = (&self.launcher, self.kids.as_deref());
        let here = Surroundings::of(&call, &input, kids)?;
        let (mut launched, mut says) = launch::start(launcher, kids, &call, &input, &here).await?;
        let (ended, _) = says.hear(launched.ended(&input, desk), None, desk).await;
        // Whatever went wrong, nothing of the command is left when we answer.
        drop(says);
        launched.gone().await;
        let ended = ended?;
        let code = exit_code(&ended.report, &input, &here, &ended.stderr_tail)?;
        let (value, stdout) = ended.stdout.finish(input.parse).await?;
        let mut artifacts = Vec::from_iter(stdout);
        artifacts.extend(out::collect(here.out.path(), !artifacts.is_empty(), desk).await?);
        let value = json!({"code": code, "value": value, "stderr_tail": ended.stderr_tail});
        Ok(Answer { value, artifacts, ..Answer::default() })
    }
}

/// The command's exit code, if it is one of those that are fine.
fn exit_code(
    report: &Report,
    input: &Input,
    here: &Surroundings,
    stderr_tail: &str,
) -> Result<i32, Failure> {
    let name = input.name();
    match report {
        Report::Exited(code) if input.ok_codes.contains(code) => Ok(*code),
        Report::Exited(code) => {
            let retry = input.retry_codes.contains(code);
            let kind = if retry { FailureKind::Unavailable } else { FailureKind::Refused };
            let message = with_last_lines(format!("`{name}` ended with {code}"), stderr_tail);
            Err(Failure::new(kind, &format!("exit_{code}"), message))
        }
        Report::Killed(signal) => {
            let message =
                with_last_lines(format!("`{name}` was killed by signal {signal}"), stderr_tail);
            Err(Failure::new(FailureKind::Crashed, &format!("signal_{signal}"), message))
        }
        Report::NotStarted { errno, message } => Err(not_started(*errno, message, input, here)),
        Report::NoLock(message) => Err(no_lock(message)),
        Report::NotConfined(_) => unreachable!("it was not to be confined"),
    }
}

pub(crate) fn no_lock(message: &str) -> Failure {
    let message = format!("the lock of this node's processes: {message}");
    Failure::new(FailureKind::Unavailable, "no_lock", message)
}

fn not_started(errno: i32, message: &str, input: &Input, here: &Surroundings) -> Failure {
    use rustix::io::Errno;
    let name = input.name();
    let is = |error: Errno| errno == error.raw_os_error();
    if is(Errno::NOENT) {
        let place = if name.contains('/') {
            format!("in `{}`", here.cwd)
        } else {
            format!("on the PATH `{}`", here.search_path(input))
        };
        return invalid("program_not_found", format!("there is no program `{name}` {place}"));
    }
    if is(Errno::AGAIN) || is(Errno::NOMEM) || is(Errno::MFILE) || is(Errno::NFILE) {
        let message = format!("`{name}` could not be started: {message}");
        return Failure::new(FailureKind::Unavailable, "not_started", message);
    }
    invalid("not_started", format!("`{name}` could not be started: {message}"))
}

/// `what`, and the last lines that the command said on stderr.
fn with_last_lines(what: String, stderr_tail: &str) -> String {
    const LINES: usize = 3;
    const CHARS: usize = 400;
    let lines: Vec<&str> = stderr_tail.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return what;
    }
    let said = lines[lines.len().saturating_sub(LINES)..].join("; ");
    let skip = said.chars().count().saturating_sub(CHARS);
    format!("{what}: {}", said.chars().skip(skip).collect::<String>())
}

/// An output that is kept as an artifact, as it stands in the value.
fn reference(artifact: &kapelle_core::Artifact) -> Json {
    json!({"artifact": artifact.name, "digest": artifact.digest, "len": artifact.len})
}
