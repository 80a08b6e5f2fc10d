//! Agent files: Markdown whose front matter says what an agent is, and whose body is its prompt.
//!
//! **Invariants:** reading never panics and is bounded by [`FILE_MAX`]. What is odd is a [`Warning`]
//! with its line and the agent is there all the same; only a file that says nothing usable is
//! [`Broken`]. YAML is read strictly first; where it is none, line by line by the keys that are known.
//!
//! Which folders are looked through, and what wins: [`shelf`]. The format: `docs/agent-files.md`.

mod front;
mod keys;
mod lines;
pub mod shelf;
mod text;
pub mod tools;
mod tree;

use std::path::{Path, PathBuf};

use kapelle_core::{Digest, Json};

use crate::model::Definition;

pub use shelf::{Shadowed, Shelf, Shelved};

/// The longest agent file, in bytes.
pub const FILE_MAX: usize = 1 << 20;

/// An agent as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFile {
    /// The file.
    pub file: PathBuf,
    /// What makes a model this agent.
    pub definition: Definition,
    /// The allow-list as it is written; `None`: those granted to all.
    pub tools: Option<Vec<Box<str>>>,
    /// What it is for, in a word.
    pub category: Option<Box<str>>,
    /// What it says that it can do.
    pub capabilities: Vec<Box<str>>,
    /// Its part among others.
    pub role: Option<Box<str>>,
    /// All keys of the front matter, those that mean nothing here too.
    pub keys: serde_json::Map<String, Json>,
    /// Of the body without white space around it.
    pub body_sha256: Digest,
    /// What is odd, by line.
    pub warnings: Vec<Warning>,
}

/// Something odd that does not keep an agent from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where, from 1 on.
    pub line: u32,
    /// What.
    pub message: String,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {message}", file.display())]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// Where, from 1 on.
    pub line: u32,
    /// Why not.
    pub message: String,
}

/// What is wrong with a file that cannot be used, before it is known which file it is.
#[derive(Debug)]
struct Useless {
    line: u32,
    message: String,
}

impl Useless {
    fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// What is odd about a file, as it is found.
#[derive(Debug, Default)]
struct Oddities(Vec<Warning>);

impl Oddities {
    fn note(&mut self, line: u32, message: impl Into<String>) {
        self.0.push(Warning { line, message: message.into() });
    }

    fn by_line(mut self) -> Vec<Warning> {
        self.0.sort_by_key(|warning| warning.line);
        self.0
    }
}

/// Reads what `bytes` say; `file` is where they are from and gives an agent without a name its own.
pub fn read(file: &Path, bytes: &[u8]) -> Result<AgentFile, Broken> {
    try_read(file, bytes).map_err(|useless| {
        let Useless { line, message } = useless;
        Broken { file: file.to_path_buf(), line, message }
    })
}

fn try_read(file: &Path, bytes: &[u8]) -> Result<AgentFile, Useless> {
    let mut odd = Oddities::default();
    let text = text::decode(bytes, &mut odd)?;
    let split = front::split(&text, &mut odd);
    let front = lines::without_tabs(split.front, split.line, &mut odd);
    let fields = match tree::parse(&front, split.line) {
        Ok(fields) => fields,
        Err(fault) => {
            let why = &fault.message;
            odd.note(
                fault.line,
                format!("the front matter is no YAML, and is read by lines: {why}"),
            );
            lines::parse(&front, split.line)
        }
    };
    keys::agent(file, fields, &split, odd)
}
