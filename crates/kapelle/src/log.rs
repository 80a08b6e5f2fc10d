//! What this process tells of its work: on stderr for people, and as JSON in a file that begins anew when it
//! is full.
//!
//! **Invariant:** a log that cannot be written stops nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::config::{Format, Log};

/// Where the log of a server is, if nothing is said.
const FILE: &str = "logs/orchestrator.log";

/// Tells from here on; `store` is the folder of a server's store.
pub(crate) fn start<W>(
    log: &Log,
    stderr: W,
    has_colours: bool,
    store: Option<&Path>,
) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = |name: &str, level: &str| {
        EnvFilter::try_new(level).map_err(|error| format!("`log.{name}`: {error}"))
    };
    // It would complain on stderr, with a panic if that takes nothing: a full disk is enough.
    let lines = fmt::layer().with_writer(stderr).with_ansi(has_colours).log_internal_errors(false);
    let level = filter("level", &log.level)?;
    let lines = match log.format {
        Format::Text => lines.with_filter(level).boxed(),
        Format::Json => {
            lines.json().flatten_event(true).with_span_list(false).with_filter(level).boxed()
        }
    };
    let file = match file_of(log, store) {
        Some(path) => {
            let open = Rotating::open(&path, log.file_max, log.files_kept);
            let file =
                open.map_err(|error| format!("`log.file`: `{}`: {error}", path.display()))?;
            let lines = fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(Mutex::new(file));
            let level = filter("file_level", &log.file_level)?;
            Some(lines.log_internal_errors(false).with_filter(level))
        }
        None => None,
    };
    registry().with(lines).with(file).init();
    Ok(())
}

fn file_of(log: &Log, store: Option<&Path>) -> Option<PathBuf> {
    let store = store?;
    match &*log.file {
        "none" => None,
        "" => Some(store.join(FILE)),
        named => Some(PathBuf::from(named)),
    }
}

/// A file that takes so many bytes; then it is `FILE.1`, what that was is `FILE.2`, and the oldest goes.
struct Rotating {
    path: PathBuf,
    file: File,
    len: u64,
    max: u64,
    kept: u32,
}

impl Rotating {
    fn open(path: &Path, max: u64, kept: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append_to(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, len, max, kept })
    }

    fn turn(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.kept).rev() {
            // There may be none yet.
            fs::rename(numbered(number), numbered(number + 1)).ok();
        }
        match self.kept {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, numbered(1))?,
        }
        self.file = append_to(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.len > 0 && self.len + line.len() as u64 > self.max {
            self.turn()?;
        }
        let written = self.file.write(line)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_full_gives_way_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/log");
        let mut log = Rotating::open(&path, 10, 2).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "a long one\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("deep").join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("a long one\n"));
        assert_eq!(read("log.1").as_deref(), Some("six\n"));
        assert_eq!(read("log.2").as_deref(), Some("four\nfive\n"));
        assert_eq!(read("log.3"), None);
        drop(log);
        // It goes on where it was.
        Rotating::open(&path, 100, 2).unwrap().write_all(b"again\n").unwrap();
        assert_eq!(read("log").as_deref(), Some("a long one\nagain\n"));
    }
}
