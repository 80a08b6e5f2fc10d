//! Cassettes: what the outside answered to a run, kept in a file, and played to another run instead of
//! the outside.
//!
//! **Invariants:** a line is written when a call has ended, before its agent hears of it; of what was
//! asked there is the digest alone, and no key is in a call or its answer. Whoever plays a cassette asks
//! nobody outside: a call that is not on it fails.
//!
//! Absent: the order of calls with different inputs. Equal calls are answered in the order of their
//! recording.

mod agent;

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kapelle_core::port::agent::{Failure, FailureKind, Usage};
use kapelle_core::{Digest, Json, RunId, canonical};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use agent::Taped;

/// What the first line of a cassette says.
const FORMAT: u32 = 1;
/// The longest cassette that is played, in bytes.
const LEN_MAX: u64 = 1 << 30;

/// A cassette in its recorder.
pub(crate) struct Tape {
    /// The run that it is about, once that is known.
    run: watch::Sender<Option<RunId>>,
    mode: Mode,
}

enum Mode {
    Record(Mutex<Recorder>),
    Play(Mutex<Player>),
}

struct Recorder {
    file: File,
    calls: u64,
    /// Why it is not whole.
    fault: Option<String>,
}

#[derive(Default)]
struct Player {
    ends: HashMap<Asked, VecDeque<End>>,
    played: u64,
}

/// What a call is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Asked {
    /// The effect, or the agent and its action.
    call: Box<str>,
    /// Of its input.
    input: Digest,
}

impl Asked {
    fn new(call: impl Into<Box<str>>, input: &Json) -> Self {
        Self { call: call.into(), input: Digest::of(canonical(input).as_bytes()) }
    }
}

/// How a call ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    /// Well.
    Answer(Told),
    /// Badly.
    Failure(Failure),
}

/// What was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    value: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Usage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<Made>,
}

/// An artifact with its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    name: Box<str>,
    #[serde(rename = "type")]
    media_type: Box<str>,
    /// In Base64.
    content: String,
}

/// A line of a cassette.
#[derive(Serialize, Deserialize)]
struct Line {
    /// For people: the step that asked.
    step: Box<str>,
    #[serde(flatten)]
    asked: Asked,
    #[serde(flatten)]
    end: End,
}

#[derive(Serialize, Deserialize)]
struct Head {
    cassette: u32,
}

impl Tape {
    /// A new cassette. One that is there already is left as it is.
    pub(crate) fn record(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(path);
        let mut file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("`{shown}` is there already: remove it, or name another file to record to")
            }
            _ => format!("`{shown}`: {error}"),
        })?;
        let head = serde_json::to_string(&Head { cassette: FORMAT }).expect("it is JSON");
        writeln!(file, "{head}").map_err(|error| format!("`{shown}`: {error}"))?;
        let recorder = Recorder { file, calls: 0, fault: None };
        Ok(Self::of(Mode::Record(Mutex::new(recorder))))
    }

    /// A cassette that was recorded.
    pub(crate) fn play(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = read(path).map_err(|error| format!("`{shown}`: {error}"))?;
        let mut lines = text.lines().zip(1_u64..);
        let head = lines.next().and_then(|(line, _)| serde_json::from_str::<Head>(line).ok());
        match head.map(|head| head.cassette) {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("`{shown}` has form {other}, known is {FORMAT}")),
            None => return Err(format!("`{shown}` is no cassette: `--record FILE` makes one")),
        }
        let mut player = Player::default();
        for (line, number) in lines {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| format!("`{shown}`, line {number}: {error}"))?;
            player.ends.entry(line.asked).or_default().push_back(line.end);
        }
        Ok(Self::of(Mode::Play(Mutex::new(player))))
    }

    fn of(mode: Mode) -> Self {
        Self { run: watch::Sender::new(None), mode }
    }

    /// It is about this run; calls of agents wait until that is known.
    pub(crate) fn is_about(&self, run: RunId) {
        self.run.send_replace(Some(run));
    }

    /// Whether nobody outside is asked.
    pub(crate) fn plays(&self) -> bool {
        matches!(self.mode, Mode::Play(_))
    }

    /// What became of it, for people.
    pub(crate) fn summary(&self) -> String {
        match &self.mode {
            Mode::Record(recorder) => {
                let recorder = lock(recorder);
                let calls = recorder.calls;
                match &recorder.fault {
                    None => format!("{calls} outside calls recorded"),
                    Some(fault) => format!("the cassette is not whole: {fault}"),
                }
            }
            Mode::Play(player) => {
                let player = lock(player);
                let left: usize = player.ends.values().map(VecDeque::len).sum();
                format!("{} outside calls played, {left} left on the cassette", player.played)
            }
        }
    }

    async fn is_of(&self, run: RunId) -> bool {
        let mut told = self.run.subscribe();
        let known = told.wait_for(Option::is_some).await;
        known.is_ok_and(|known| *known == Some(run))
    }

    /// Keeps how a call ended. What is not known is not kept.
    fn put(&self, step: &str, asked: Asked, end: End) {
        let Mode::Record(recorder) = &self.mode else { return };
        if matches!(&end, End::Failure(failure) if !failure.certain) {
            return;
        }
        let mut line =
            serde_json::to_string(&Line { step: step.into(), asked, end }).expect("it is JSON");
        line.push('\n');
        let mut recorder = lock(recorder);
        match recorder.file.write_all(line.as_bytes()) {
            Ok(()) => recorder.calls += 1,
            Err(fault) => {
                recorder.fault.get_or_insert(fault.to_string());
            }
        }
    }

    /// It is not whole any more.
    fn spoil(&self, why: String) {
        if let Mode::Record(recorder) = &self.mode {
            lock(recorder).fault.get_or_insert(why);
        }
    }

    /// How a call ended when it was recorded; `None` where nothing is played.
    fn take(&self, step: &str, asked: &Asked) -> Option<End> {
        let Mode::Play(player) = &self.mode else { return None };
        let mut player = lock(player);
        let end = player.ends.get_mut(asked).and_then(VecDeque::pop_front);
        player.played += u64::from(end.is_some());
        Some(end.unwrap_or_else(|| {
            let call = &asked.call;
            let message = format!(
                "the cassette has no answer left to `{call}` as step `{step}` asks it: record it again"
            );
            End::Failure(Failure::new(FailureKind::Diverged, "not_on_cassette", message))
        }))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let len = std::fs::metadata(path)?.len();
    if len > LEN_MAX {
        return Err(io::Error::other(format!(
            "it has {len} bytes, {LEN_MAX} are read at the most"
        )));
    }
    std::fs::read_to_string(path)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(value: Json) -> End {
        End::Answer(Told { value, used: None, artifacts: Vec::new() })
    }

    fn value(end: Option<End>) -> Result<Json, Box<str>> {
        match end.unwrap() {
            End::Answer(told) => Ok(told.value),
            End::Failure(failure) => Err(failure.code),
        }
    }

    #[test]
    fn equal_calls_are_answered_in_the_order_of_their_recording() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        let tape = Tape::record(&path).unwrap();
        let [one, two] = [1, 2].map(|n| Asked::new("fetch", &json!({ "n": n })));
        let refused = Failure::new(FailureKind::Refused, "no", "no");
        let unknown = Failure::new(FailureKind::Lost, "lost", "lost").uncertain();
        for (asked, end) in [
            (&one, End::Failure(unknown)),
            (&one, End::Failure(refused)),
            (&two, answer(json!("two"))),
            (&one, answer(json!("one"))),
        ] {
            tape.put("s", asked.clone(), end);
        }
        assert_eq!(tape.summary(), "3 outside calls recorded");
        assert!(tape.take("s", &one).is_none() && !tape.plays());
        assert!(Tape::record(&path).err().unwrap().contains("is there already"));
        let tape = Tape::play(&path).unwrap();
        assert_eq!(value(tape.take("s", &one)), Err("no".into()));
        assert_eq!(value(tape.take("s", &one)), Ok(json!("one")));
        assert_eq!(value(tape.take("s", &one)), Err("not_on_cassette".into()));
        assert_eq!(tape.summary(), "2 outside calls played, 1 left on the cassette");
    }

    #[test]
    fn what_is_no_cassette_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Tape::play(&path).err().unwrap()
        };
        assert!(refused("id: workflow\n").contains("is no cassette"));
        assert!(refused("{\"cassette\":2}\n").contains("has form 2"));
        assert!(refused("{\"cassette\":1}\n{}\n").contains("line 2: missing field"));
    }
}
