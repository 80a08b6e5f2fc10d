//! A provider's key: where it is found, and a type that does not show it.
//!
//! **Invariant:** a key has no `Debug`, `Display` or `Serialize` that shows it; the one way out is the
//! header of a request, marked as sensitive. What comes back is searched for it: see [`super::veil`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::port::agent::{Failure, FailureKind};
use reqwest::header::HeaderValue;
use tokio::process::Command;

use super::veil::Veil;

/// The longest key, in bytes.
const KEY_MAX: usize = 8 << 10;
/// A command that tells a key has this long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In this environment variable.
    Env(Box<str>),
    /// In this file.
    File(PathBuf),
    /// It is what this command prints: a program and its arguments.
    Command(Vec<Box<str>>),
}

/// A provider's key.
#[derive(Clone)]
pub struct Key {
    value: HeaderValue,
    veil: Arc<Veil>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl KeySource {
    /// Looks the key up.
    pub async fn read(&self) -> Result<Key, Failure> {
        let text = match self {
            Self::Env(name) => std::env::var(&**name)
                .map_err(|_| missing(format!("the environment variable `{name}` is not set")))?,
            Self::File(path) => {
                let shown = path.display();
                // A pipe would be waited for.
                if tokio::fs::metadata(path).await.is_ok_and(|found| !found.is_file()) {
                    return Err(missing(format!("the key file `{shown}` is no file")));
                }
                let read = tokio::fs::read_to_string(path).await;
                read.map_err(|cause| missing(format!("the key file `{shown}`: {cause}")))?
            }
            Self::Command(argv) => ask(argv).await?,
        };
        let text = text.trim();
        let key = Key::new(text).ok_or_else(|| {
            let why = if text.is_empty() {
                "holds no key"
            } else {
                "holds what can be no key (one is a line of printable ASCII, 8 KiB at the most); it is not \
                 shown as it may be a key all the same"
            };
            missing(format!("{self} {why}"))
        })?;
        key.veil.remember();
        Ok(key)
    }
}

/// What a command prints. What it says besides may hold the key as well and is not shown.
async fn ask(argv: &[Box<str>]) -> Result<String, Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(missing("the command for the key is empty".into()));
    };
    let args = args.iter().map(|arg| &**arg);
    let mut command = Command::new(&**program);
    command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await;
    let done = done.map_err(|_| missing(format!("`{program}` tells no key within 30 s")))?;
    let done = done.map_err(|cause| missing(format!("`{program}`: {cause}")))?;
    if !done.status.success() {
        return Err(missing(format!("`{program}` ended with {}", done.status)));
    }
    String::from_utf8(done.stdout).map_err(|_| missing(format!("`{program}` prints no text")))
}

fn missing(message: String) -> Failure {
    Failure::new(FailureKind::Refused, "no_key", message)
}

impl Key {
    /// The key `text`, unless it can be none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let sound = !text.is_empty() && text.len() <= KEY_MAX && is_printable;
        let mut value = HeaderValue::from_str(text).ok().filter(|_| sound)?;
        value.set_sensitive(true);
        Some(Self { value, veil: Arc::new(Veil::of(text)) })
    }

    /// The value of a header that is the key.
    pub(super) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// What hides it in what comes from outside.
    pub(super) fn veil(&self) -> Arc<Veil> {
        self.veil.clone()
    }

    /// The value of `Authorization`.
    pub(super) fn bearer(&self) -> HeaderValue {
        let whole = [b"Bearer ", self.value.as_bytes()].concat();
        let mut value = HeaderValue::from_bytes(&whole).expect("a key is a header's value");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
            Self::Command(argv) => write!(f, "the command `{}`", argv.first().map_or("", |p| p)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_found_in_a_file_and_by_a_command_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "sk-secret\n").unwrap();
        let key = KeySource::File(file).read().await.unwrap();
        assert_eq!(key.bearer().as_bytes(), b"Bearer sk-secret");
        assert!(!format!("{key:?} {:?} {:?}", key.header(), key.bearer()).contains("secret"));
        let argv = ["sh", "-c", "echo sk-other; echo sk-loud >&2"].map(Into::into);
        let key = KeySource::Command(argv.to_vec()).read().await.unwrap();
        assert_eq!(key.header().as_bytes(), b"sk-other");
    }

    #[tokio::test]
    async fn without_a_key_it_is_said_where_one_was_looked_for() {
        let said = async |source: KeySource| source.read().await.unwrap_err().message;
        let env = said(KeySource::Env("KAPELLE_TEST_NO_SUCH_KEY".into())).await;
        assert_eq!(&*env, "the environment variable `KAPELLE_TEST_NO_SUCH_KEY` is not set");
        let file = said(KeySource::File("/no/such/key".into())).await;
        assert!(file.starts_with("the key file `/no/such/key`: "), "{file}");
        let folder = said(KeySource::File("/dev".into())).await;
        assert_eq!(&*folder, "the key file `/dev` is no file");
        let loud = ["sh", "-c", "echo sk-loud >&2; exit 3"].map(Into::into);
        let loud = said(KeySource::Command(loud.to_vec())).await;
        assert!(loud.contains("exit status: 3") && !loud.contains("sk-loud"), "{loud}");
        let empty = said(KeySource::Command(vec!["true".into()])).await;
        assert_eq!(&*empty, "the command `true` holds no key");
        let odd = ["printf", "sk-CAN\u{c4}RY1234567"].map(Into::into);
        let odd = said(KeySource::Command(odd.to_vec())).await;
        assert!(odd.contains("`printf` holds what can be no key") && !odd.contains("CAN"), "{odd}");
    }
}
