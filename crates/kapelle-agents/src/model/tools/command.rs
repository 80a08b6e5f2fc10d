//! `run_command`: a program of those that are granted, behind a wall.
//!
//! **Invariants:** a command is a list of words that no shell reads; its first words are covered by a
//! rule of the operator, and by one of the agent's file if that has any. It runs confined
//! ([`crate::child::confine`]) or not at all. It and all it started are dead when the call ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind, Safety};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::reserved::Reserved;
use super::walls::{Before, around};
use crate::child::confine::Limits;
use crate::child::{End, Report, Spec};
use crate::input::invalid;
use crate::model::tool::{Reach, Told, Tool, ToolCard};
use crate::process::launch::{Launched, launch};
use crate::process::no_lock;

/// What it is called.
pub const RUN_COMMAND: &str = "run_command";
/// Where programs are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// How long a command may take, in seconds: if it does not say, and at the most.
const SECONDS: u64 = 60;
const SECONDS_MAX: u64 = 600;
/// What it has between the wish that it should end and its death.
const GRACE_MS: u64 = 2_000;
/// What is told of the beginning and of the end of an output, in bytes.
const START_MAX: usize = 20 << 10;
const END_MAX: usize = 8 << 10;

/// How commands of models run on this node.
#[derive(Clone, Debug)]
pub struct Commands {
    /// The executable that calls [`crate::child::main`] when its first argument is [`crate::child::ARG`].
    pub launcher: PathBuf,
    /// The file whose shared lock every process of this node holds.
    pub kids: Option<PathBuf>,
    /// What else is not seen, or not changed.
    pub reserved: Arc<Reserved>,
    /// What each process of a command may use up.
    pub limits: Limits,
}

/// The tool that runs commands.
#[must_use]
pub fn run_command(commands: Commands) -> Arc<dyn Tool> {
    let input = json!({
        "type": "object",
        "properties": {
            "command": {
                "type": "array", "minItems": 1, "maxItems": 256,
                "items": {"type": "string", "maxLength": 100_000},
                "description": "The program and its arguments, one by one. No shell reads them."
            },
            "folder": {"type": "string", "description": "Where to stand, relative to the run's folder."},
            "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": SECONDS_MAX},
        },
        "required": ["command"],
        "additionalProperties": false,
    });
    let description = "Runs a program in the run's folder, without a network. It may write there and \
                       in /tmp, which is gone afterwards.";
    let (name, description) = (RUN_COMMAND.into(), description.into());
    let card = ToolCard { name, description, input, reach: Reach::Writes, safety: Safety::Unsafe };
    Arc::new(RunCommand { card, commands, before: Arc::default() })
}

/// Whether commands of models can be confined here, tried with one that does nothing; else what is missing.
pub async fn can_be_confined(launcher: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).map_err(|error| error.to_string())?;
    let walls = around(folder.path(), &Reserved::default(), Limits::default())?;
    let spec = spec(vec!["true".to_owned()], walls.root.clone(), walls);
    let failed = |failure: Failure| failure.to_string();
    let (mut launched, says) = launch(launcher, None, &[], &spec).await.map_err(failed)?;
    let report = launched.report().await;
    drop(says);
    launched.gone().await;
    match report.map_err(failed)? {
        Report::NotConfined(lacks) => Err(lacks),
        _ => Ok(()),
    }
}

/// What `run_command(RULE)` covers: a command whose first words these are, if the rule ends with `:*` or
/// ` *`, or that consists of these words. `None` if it is no such rule.
#[must_use]
pub fn first_words(rule: &str) -> Option<(Vec<&str>, bool)> {
    let rule = rule.trim();
    let open = rule.strip_suffix(":*").or_else(|| rule.strip_suffix(" *"));
    let words: Vec<&str> = open.unwrap_or(rule).split_whitespace().collect();
    let plain = !words.is_empty() && !words.iter().any(|word| word.contains(['*', '"', '\'']));
    plain.then_some((words, open.is_some()))
}

struct RunCommand {
    card: ToolCard,
    commands: Commands,
    before: Arc<Before>,
}

/// What is started, and what was in its folder before.
type Started = (Spec, Arc<BTreeSet<String>>);

#[derive(Deserialize)]
struct Input {
    command: Vec<String>,
    folder: Option<String>,
    timeout_seconds: Option<u64>,
}

#[async_trait]
impl Tool for RunCommand {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn knows_rules(&self) -> bool {
        true
    }

    fn covers(&self, rule: &str, input: &Json) -> bool {
        let command = input["command"].as_array().map(Vec::as_slice).unwrap_or_default();
        first_words(rule).is_some_and(|(words, open)| {
            let same = command.iter().zip(&words).all(|(asked, word)| asked == word);
            same && (command.len() == words.len() || (open && command.len() > words.len()))
        })
    }

    async fn call(
        &self,
        of: &Call,
        input: &Json,
        _: &str,
        desk: &dyn Desk,
    ) -> Result<Told, Failure> {
        let input = Input::deserialize(input)
            .map_err(|error| invalid("bad_input", format!("a command: {error}")))?;
        let timeout =
            Duration::from_secs(input.timeout_seconds.unwrap_or(SECONDS).min(SECONDS_MAX));
        let (spec, before) = match self.spec(of, input).await? {
            Ok(made) => made,
            Err(why) => return Ok(Told::badly(why)),
        };
        let Commands { launcher, kids, .. } = &self.commands;
        let begun = Instant::now();
        let (mut launched, mut says) = launch(launcher, kids.as_deref(), &[], &spec).await?;
        let (ended, late) = says.hear(end(&mut launched), Some(timeout), desk).await;
        drop(says);
        launched.gone().await;
        drop(before);
        let (End { report, swept }, out, err) = ended?;
        let late = late
            .then(|| format!("was stopped after {} s, which were all it had", timeout.as_secs()));
        let (how, failed) = match late {
            Some(late) => (late, true),
            None => outcome(&report, &spec)?,
        };
        let seconds = begun.elapsed().as_secs_f64();
        let program = &spec.argv[0];
        let told = format!(
            "`{program}` {how} ({seconds:.2} s)\nstdout:\n{}\nstderr:\n{}",
            out.text(),
            err.text()
        );
        Ok(Told { text: told, failed, warnings: swept })
    }
}

impl RunCommand {
    /// What to start, with what it holds on to until its end; or why the model may not have it.
    async fn spec(&self, of: &Call, input: Input) -> Result<Result<Started, String>, Failure> {
        let Commands { reserved, limits, .. } = self.commands.clone();
        let before = Arc::clone(&self.before);
        let root = PathBuf::from(&*of.root);
        let made = tokio::task::spawn_blocking(move || {
            if input.command.iter().any(|word| word.contains('\0')) {
                return Err("a NUL byte cannot be handed to a program".to_owned());
            }
            let mut walls = around(&root, &reserved, limits)?;
            let cwd = Path::new(&walls.root).join(input.folder.unwrap_or_default());
            let cwd =
                cwd.canonicalize().ok().filter(|cwd| cwd.is_dir() && cwd.starts_with(&walls.root));
            let cwd = cwd.ok_or("there is no such `folder` below the run's folder")?;
            let known = before.agree(&mut walls)?;
            Ok((spec(input.command, cwd.to_string_lossy().into_owned(), walls), known))
        });
        made.await
            .map_err(|error| Failure::new(FailureKind::Bug, "tool_panicked", error.to_string()))
    }
}

fn spec(argv: Vec<String>, cwd: String, walls: crate::child::confine::Walls) -> Spec {
    let env = [
        ("PATH", PATH),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        // It cannot write where git keeps its index, and need not.
        ("GIT_OPTIONAL_LOCKS", "0"),
        // It is not the owner of a folder that is root's, and git would not work there.
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Spec { argv, cwd, env, stdin: None, grace_ms: GRACE_MS, confined: Some(walls) }
}

async fn end(launched: &mut Launched) -> Result<(End, Kept, Kept), Failure> {
    let (out, err) = launched.said();
    let (end, out, err) = tokio::join!(launched.end(), keep(out), keep(err));
    Ok((end?, out, err))
}

/// How it ended, for the model, and whether that is a failure.
fn outcome(report: &Report, spec: &Spec) -> Result<(String, bool), Failure> {
    match report {
        Report::Exited(code) => Ok((format!("ended with {code}"), *code != 0)),
        Report::Killed(signal) => {
            Ok((format!("was killed by signal {signal}{}", why(*signal)), true))
        }
        Report::NotStarted { errno, .. } if *errno == rustix::io::Errno::NOENT.raw_os_error() => {
            Ok((format!("was not found on {PATH}"), true))
        }
        Report::NotStarted { message, .. } => {
            Ok((format!("could not be started: {message}"), true))
        }
        Report::NoLock(message) => Err(no_lock(message)),
        Report::NotConfined(lacks) => {
            let message = format!(
                "`{}` was not run, as it cannot be confined here, for want of {lacks}. Without \
                 `{RUN_COMMAND}` in `models.grants` the agent works, but for commands",
                spec.argv[0]
            );
            Err(Failure::new(FailureKind::Refused, "not_confined", message))
        }
    }
}

fn why(signal: i32) -> &'static str {
    match Signal::from_named_raw(signal) {
        Some(Signal::XCPU) => ": it used up its time of the processor",
        Some(Signal::XFSZ) => ": it wrote a file longer than it may",
        _ => "",
    }
}

/// The beginning and the end of an output.
#[derive(Default)]
struct Kept {
    start: Vec<u8>,
    end: Vec<u8>,
    left_out: usize,
}

async fn keep(mut from: impl AsyncRead + Unpin) -> Kept {
    let mut kept = Kept::default();
    let mut piece = vec![0; 16 << 10];
    loop {
        // What cannot be read is not told.
        let read = from.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            return kept;
        }
        kept.add(&piece[..read]);
    }
}

impl Kept {
    fn add(&mut self, piece: &[u8]) {
        let room = START_MAX - self.start.len();
        let (start, rest) = piece.split_at(room.min(piece.len()));
        self.start.extend_from_slice(start);
        self.end.extend_from_slice(rest);
        let over = self.end.len().saturating_sub(END_MAX);
        self.left_out += over;
        self.end.drain(..over);
    }

    fn text(&self) -> String {
        if self.left_out == 0 {
            return String::from_utf8_lossy(&[&*self.start, &*self.end].concat()).into_owned();
        }
        let [start, end] = [&self.start, &self.end].map(|bytes| String::from_utf8_lossy(bytes));
        format!("{start}\n… {} bytes are left out …\n{end}", self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_first_words_or_all_words() {
        let tool = run_command(Commands {
            launcher: PathBuf::new(),
            kids: None,
            reserved: Arc::default(),
            limits: Limits::default(),
        });
        let covers = |rule: &str, command: &[&str]| tool.covers(rule, &json!({"command": command}));
        assert!(covers("git log:*", &["git", "log"]) && covers("git log *", &["git", "log", "-1"]));
        assert!(covers("cargo test", &["cargo", "test"]));
        for (rule, command) in [
            ("git log:*", &["git", "logs"][..]),
            ("git log:*", &["git", "-c", "alias.log=!sh", "log"]),
            ("git log:*", &["git"]),
            ("git log:*", &["/tmp/git", "log"]),
            ("git log:*", &["git log"]),
            ("cargo test", &["cargo", "test", "--", "x"]),
            ("*", &["sh"]),
            ("", &["sh"]),
            (":*", &["sh"]),
            ("git * main", &["git", "push", "main"]),
        ] {
            assert!(!covers(rule, command), "{rule}: {command:?}");
        }
    }

    #[test]
    fn of_a_long_output_both_ends_are_kept() {
        let mut kept = Kept::default();
        for n in 0..10_000 {
            kept.add(format!("line {n}\n").as_bytes());
        }
        let text = kept.text();
        assert!(text.starts_with("line 0\n") && text.ends_with("line 9999\n"), "{text}");
        assert!(text.contains("bytes are left out") && text.len() < START_MAX + END_MAX + 100);
    }
}
