//! What the actions are given: one address or several, of the web or of files.

use std::path::{Path, PathBuf};

use kapelle_core::port::agent::{Call, Failure};
use serde::Deserialize;
use url::Url;

use crate::input::{invalid, read};

/// The most pages of one step.
pub(super) const PAGES_MAX: usize = 64;
/// The longest address, in bytes.
pub(super) const URL_MAX: usize = 2_048;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    url: Option<String>,
    urls: Option<Vec<String>>,
    #[serde(default)]
    partial: bool,
}

/// The input of every action.
#[derive(Debug)]
pub(super) struct Input {
    /// The addresses as given, but for credentials, and what they mean.
    pub(super) targets: Vec<(String, Target)>,
    /// Whether one page was asked for, not a list of them.
    pub(super) is_single: bool,
    /// Whether pages that cannot be read are listed instead of failing the step.
    pub(super) partial: bool,
}

/// Where a page is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Web(Url),
    File {
        path: PathBuf,
        /// The run's folder, if it has one.
        root: Option<PathBuf>,
    },
}

impl Input {
    pub(super) fn read(call: &Call) -> Result<Self, Failure> {
        let given: Given = read(&call.input)?;
        let (list, is_single) = match (given.url, given.urls) {
            (Some(url), None) if !given.partial => (vec![url], true),
            (None, Some(urls)) if (1..=PAGES_MAX).contains(&urls.len()) => (urls, false),
            _ => {
                let message = format!("either `url`, or `urls` with 1 to {PAGES_MAX} of them");
                return Err(invalid("bad_input", message));
            }
        };
        let target = |given: String| {
            let target = Target::of(&given, &call.root)?;
            Ok((target.open_name(given), target))
        };
        let targets = list.into_iter().map(target).collect::<Result<_, Failure>>()?;
        Ok(Self { targets, is_single, partial: given.partial })
    }
}

/// An address as messages have it.
pub(super) fn shown(url: &Url) -> String {
    url.as_str().chars().take(200).collect()
}

/// `url` without credentials.
fn open(url: &Url) -> Url {
    let mut open = url.clone();
    // A URL that can hold none holds none.
    open.set_password(None).ok();
    open.set_username("").ok();
    open
}

/// What is no address that is read, without what may be credentials.
fn after_credentials(given: &str) -> &str {
    given.rsplit_once('@').map_or(given, |(_, rest)| rest)
}

impl Target {
    /// What `given` means in a run whose folder is `root`.
    fn of(given: &str, root: &str) -> Result<Self, Failure> {
        let shown: String = after_credentials(given).chars().take(200).collect();
        let bad = |why: &str| invalid("bad_url", format!("`{shown}`: {why}"));
        if given.len() > URL_MAX {
            return Err(bad("it is too long"));
        }
        let root = Some(PathBuf::from(root)).filter(|root| root.is_absolute());
        let relative = given.strip_prefix("file:").filter(|rest| !rest.starts_with('/'));
        if let Some(path) = relative {
            return Self::below(path, root).ok_or_else(|| bad("the run has no folder"));
        }
        match Url::parse(given) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self::Web(url)),
            Ok(url) if url.scheme() == "file" => {
                let path = url.to_file_path().map_err(|()| bad("it is no path"))?;
                Ok(Self::File { path, root })
            }
            Ok(_) => Err(bad("only http, https and file are read")),
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                Self::below(given, root).ok_or_else(|| bad("the run has no folder"))
            }
            Err(error) => Err(bad(&error.to_string())),
        }
    }

    fn below(path: &str, root: Option<PathBuf>) -> Option<Self> {
        let path = root.as_deref()?.join(Path::new(path));
        Some(Self::File { path, root })
    }

    /// The address as `given`, but for what nobody else may see.
    fn open_name(&self, given: String) -> String {
        match self {
            Self::Web(url) if open(url) != *url => open(url).into(),
            Self::Web(_) | Self::File { .. } => given,
        }
    }

    /// What tells it from another one, as recorded.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Web(url) => open(url).into(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_in_no_name_and_no_message() {
        for given in ["http://me:canary@host/x", "HTTP:me:canary@host/x", "https:/canary@host/x"] {
            let target = Target::of(given, "/").unwrap();
            let names = target.name() + &target.open_name(given.into());
            assert!(!names.contains("canary") && names.contains("host/x"), "{names}");
        }
        for given in ["me:canary@host/x", "http://me:canary@host:99999/x", "http://me:canary@/"] {
            let message = Target::of(given, "/").unwrap_err().to_string();
            assert!(!message.contains("canary"), "{message}");
        }
        let file = Target::of("notes@home.txt", "/").unwrap();
        assert_eq!(file.open_name("notes@home.txt".into()), "notes@home.txt");
    }
}
