//! Cassettes: what the outside answered to a run, kept in a file, and played to another run instead of
//! the outside.
//!
//! **Invariants:** a line is written when a call has ended, before its agent hears of it; of what was
//! asked there is the digest alone, and no key is in a call or its answer. Whoever plays a cassette asks
//! nobody outside: a call that is not on it fails.
//!
//! A run that was killed goes on with its cassette, see [`resumed`].
//!
//! Absent: the order of calls with different inputs. Of equal calls each has the answer that was recorded
//! at its place, then one of its step, then the next one. What steps said to each other is said anew, but heard where it was heard then: who is done
//! first may differ where nobody outside takes his time.

mod agent;
mod resumed;

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kapelle_core::port::agent::{Failure, FailureKind, Heard, Usage};
use kapelle_core::{Digest, Json, RunId, canonical};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use agent::Taped;
pub(crate) use resumed::OnRecord;

/// What the first line of a cassette says.
const FORMAT: u32 = 1;
/// The longest cassette that is played, in bytes.
const LEN_MAX: u64 = 1 << 30;

/// A cassette in its recorder.
pub(crate) struct Tape {
    /// Where it is.
    file: PathBuf,
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
    /// The run that is named on it.
    run: Option<RunId>,
    /// That run has ended.
    ended: bool,
    /// Why it is not whole.
    fault: Option<String>,
}

#[derive(Default)]
struct Player {
    ends: HashMap<Asked, VecDeque<Line>>,
    /// What steps heard, until the call is played that was made with it.
    heard: HashMap<Place, VecDeque<Vec<Heard>>>,
    played: u64,
    /// The run that it is of, if that had not ended.
    open: Option<RunId>,
}

/// A step, and how many calls its attempt had made.
type Place = (Box<str>, u32);

/// What had come in when a call was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mail {
    /// After so many calls of the attempt.
    after: u32,
    heard: Vec<Heard>,
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

impl End {
    fn is_known(&self) -> bool {
        !matches!(self, Self::Failure(failure) if !failure.certain)
    }
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
    /// Which call of the run that is: `step/ordinal`, 0 for that of the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Box<str>>,
    #[serde(flatten)]
    asked: Asked,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mail: Option<Mail>,
    #[serde(flatten)]
    end: End,
}

/// What a line of the file holds.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Row {
    Head { cassette: u32 },
    Run { run: RunId },
    Ended { ended: RunId },
    Call(Box<Line>),
}

impl Row {
    fn text(&self) -> String {
        serde_json::to_string(self).expect("it is JSON") + "\n"
    }
}

/// What a cassette says.
struct Rows {
    run: Option<RunId>,
    has_ended: bool,
    lines: Vec<Line>,
}

/// `at` in a key of a call, `run/step/ordinal/generation`.
fn place(key: &str) -> Option<Box<str>> {
    let (_, place) = key.split_once('/')?;
    Some(place.rsplit_once('/')?.0.into())
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
        let head = Row::Head { cassette: FORMAT }.text();
        file.write_all(head.as_bytes()).map_err(|error| format!("`{shown}`: {error}"))?;
        let recorder = Recorder { file, calls: 0, run: None, ended: false, fault: None };
        Ok(Self::recording(path, recorder))
    }

    /// A cassette that was recorded.
    pub(crate) fn play(path: &Path) -> Result<Self, String> {
        Self::play_what(path, |_| true)
    }

    fn play_what(path: &Path, wanted: impl Fn(&Line) -> bool) -> Result<Self, String> {
        let text = read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        let rows = rows(&text, path)?;
        let mut player = Player { open: rows.run.filter(|_| !rows.has_ended), ..Player::default() };
        for line in rows.lines.into_iter().filter(wanted) {
            if let Some(mail) = &line.mail {
                let heard = player.heard.entry((line.step.clone(), mail.after)).or_default();
                heard.push_back(mail.heard.clone());
            }
            player.ends.entry(line.asked.clone()).or_default().push_back(line);
        }
        Ok(Self::of(path, Mode::Play(Mutex::new(player))))
    }

    fn recording(path: &Path, recorder: Recorder) -> Self {
        Self::of(path, Mode::Record(Mutex::new(recorder)))
    }

    fn of(path: &Path, mode: Mode) -> Self {
        Self { file: path.to_path_buf(), run: watch::Sender::new(None), mode }
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// It is about this run; calls of agents wait until that is known.
    pub(crate) fn is_about(&self, run: RunId) {
        if let Mode::Record(recorder) = &self.mode {
            let mut recorder = lock(recorder);
            if recorder.run.replace(run).is_none() {
                recorder.write(&Row::Run { run });
            }
        }
        self.run.send_replace(Some(run));
    }

    /// The run has ended: the cassette is whole.
    pub(crate) fn has_ended(&self) {
        if let Mode::Record(recorder) = &self.mode {
            let mut recorder = lock(recorder);
            if let (Some(run), false) = (recorder.run, recorder.ended) {
                recorder.ended = recorder.write(&Row::Ended { ended: run });
            }
        }
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
                    None if recorder.ended || recorder.run.is_none() => {
                        format!("{calls} outside calls recorded")
                    }
                    None => format!(
                        "{calls} outside calls recorded; the run has not ended: `runs resume` with the same \
                         `--record` goes on with both"
                    ),
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

    /// Keeps how a call ended, and what its step had heard before.
    fn put(&self, step: &str, key: Option<&str>, asked: Asked, mail: Option<Mail>, end: End) {
        let Mode::Record(recorder) = &self.mode else { return };
        let line = Line { step: step.into(), at: key.and_then(place), asked, mail, end };
        let mut recorder = lock(recorder);
        let written = recorder.write(&Row::Call(Box::new(line)));
        recorder.calls += u64::from(written);
    }

    /// It is not whole any more.
    fn spoil(&self, why: String) {
        if let Mode::Record(recorder) = &self.mode {
            lock(recorder).fault.get_or_insert(why);
        }
    }

    /// How a call ended when it was recorded; `None` where nothing is played.
    fn take(&self, step: &str, key: Option<&str>, asked: &Asked) -> Option<End> {
        let Mode::Play(player) = &self.mode else { return None };
        let mut player = lock(player);
        let line = player.line(step, key.and_then(place).as_deref(), asked);
        Some(line.map(|line| line.end).unwrap_or_else(|| {
            let call = &asked.call;
            let then = match player.open {
                None => "record it again".to_owned(),
                Some(run) => format!(
                    "its run had not ended when it was recorded; go on with `kapelle runs resume {run} --record FILE`"
                ),
            };
            let message = format!(
                "the cassette has no answer left to `{call}` as step `{step}` asks it: {then}"
            );
            End::Failure(Failure::new(FailureKind::Diverged, "not_on_cassette", message))
        }))
    }
}

impl Tape {
    /// What a step heard after so many calls when it was recorded.
    fn heard(&self, place: &Place) -> Vec<Heard> {
        let Mode::Play(player) = &self.mode else { return Vec::new() };
        lock(player).heard.get(place).and_then(VecDeque::front).cloned().unwrap_or_default()
    }

    /// Why a message was not sent when it was recorded, if it was not.
    fn unsent(&self, asked: &Asked) -> Option<Failure> {
        let Mode::Play(player) = &self.mode else { return None };
        match lock(player).ends.get_mut(asked)?.pop_front()?.end {
            End::Failure(failure) => Some(failure),
            End::Answer(_) => None,
        }
    }
}

impl Player {
    /// What is played to a call: what was recorded at its place, or else in its step, or else next.
    fn line(&mut self, step: &str, at: Option<&str>, asked: &Asked) -> Option<Line> {
        let lines = self.ends.get_mut(asked)?;
        let same = |line: &Line| at.is_some() && line.at.as_deref() == at;
        let of_step = |line: &Line| *line.step == *step;
        let found = lines.iter().position(same).or_else(|| lines.iter().position(of_step));
        let line = lines.remove(found.unwrap_or(0))?;
        self.played += 1;
        if let Some(mail) = &line.mail {
            let heard = self.heard.get_mut(&(line.step.clone(), mail.after));
            heard.and_then(VecDeque::pop_front);
        }
        Some(line)
    }
}

impl Recorder {
    /// Whether it could.
    fn write(&mut self, row: &Row) -> bool {
        let written = self.file.write_all(row.text().as_bytes());
        if let Err(fault) = &written {
            self.fault.get_or_insert(fault.to_string());
        }
        written.is_ok()
    }
}

/// What is written in a cassette.
fn rows(text: &str, path: &Path) -> Result<Rows, String> {
    let shown = path.display();
    let mut lines = text.lines().zip(1_u64..);
    match lines.next().and_then(|(line, _)| serde_json::from_str::<Row>(line).ok()) {
        Some(Row::Head { cassette: FORMAT }) => {}
        Some(Row::Head { cassette: other }) => {
            return Err(format!("`{shown}` has form {other}, known is {FORMAT}"));
        }
        _ => return Err(format!("`{shown}` is no cassette: `--record FILE` makes one")),
    }
    let mut rows = Rows { run: None, has_ended: false, lines: Vec::new() };
    for (line, number) in lines {
        let row: Row = serde_json::from_str(line).or_else(|_| {
            // What a call lacks is told in its own words.
            serde_json::from_str(line)
                .map(Row::Call)
                .map_err(|error| format!("`{shown}`, line {number}: {error}"))
        })?;
        match row {
            Row::Head { .. } => {}
            Row::Run { run } => rows.run = Some(run),
            Row::Ended { .. } => rows.has_ended = true,
            Row::Call(line) => rows.lines.push(*line),
        }
    }
    Ok(rows)
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
        for (asked, end) in [
            (&one, End::Failure(refused)),
            (&two, answer(json!("two"))),
            (&one, answer(json!("one"))),
        ] {
            tape.put("s", None, asked.clone(), None, end);
        }
        assert_eq!(tape.summary(), "3 outside calls recorded");
        assert!(tape.take("s", None, &one).is_none() && !tape.plays());
        assert!(Tape::record(&path).err().unwrap().contains("is there already"));
        let tape = Tape::play(&path).unwrap();
        assert_eq!(value(tape.take("s", None, &one)), Err("no".into()));
        assert_eq!(value(tape.take("s", None, &one)), Ok(json!("one")));
        assert_eq!(value(tape.take("s", None, &one)), Err("not_on_cassette".into()));
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
