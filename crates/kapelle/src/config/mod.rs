//! `kapelle.toml`: what the operator says once instead of on every command line.
//!
//! A setting `section.name` may be overridden by the environment variable `KAPELLE_SECTION_NAME`.
//! **Invariant:** core and engine receive values, never the configuration; an unknown name or a
//! wrong value is an error that says where it is.

mod budgets;
mod duration;
mod jwt;
mod log;
mod models;
mod node;
mod server;
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use budgets::Budgets;
pub(crate) use jwt::Jwt;
pub(crate) use log::{Format, Log};
pub(crate) use models::{Models, ProviderAt, models};
pub(crate) use node::Node;
pub(crate) use server::Server;
pub(crate) use web::Web;

/// What a file is called where none is named.
pub(crate) const FILE: &str = "kapelle.toml";
/// The longest file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The folder of the store, or `memory`; `.kapelle` where nothing is said.
    pub(crate) store: String,
    /// How this process works.
    pub(crate) node: Node,
    /// How it is reached from the network.
    pub(crate) server: Server,
    /// Whose tokens open that, beside its keys.
    pub(crate) jwt: Jwt,
    /// What it tells of its work, on stderr.
    pub(crate) log: Log,
    /// How it reads pages.
    pub(crate) web: Web,
    /// Where models can be asked, by name.
    pub(crate) providers: BTreeMap<String, ProviderAt>,
    /// What models are called.
    pub(crate) models: Models,
    /// What may be spent in all runs together.
    pub(crate) budgets: Budgets,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub(crate) struct Error {
    place: String,
    message: String,
}

impl Config {
    /// Reads `file` (else `kapelle.toml` in the current folder, if there is one), then the environment.
    pub(crate) fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let path = file.map_or_else(|| PathBuf::from(FILE), Path::to_path_buf);
        let place = path.display().to_string();
        let error = |message: String| Error { place: place.clone(), message };
        let text = match read(&path) {
            Err(missing) if missing.kind() == ErrorKind::NotFound && file.is_none() => {
                String::new()
            }
            read => read.map_err(|cause| error(cause.to_string()))?,
        };
        let config: Self = toml::from_str(&text).map_err(|cause| error(told(&cause, &text)))?;
        config.check().map_err(error)?;
        config.overridden(env)
    }

    /// Every setting has a variable, whose value is read as TOML, or else as text.
    fn overridden(self, env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut table = toml::Table::try_from(&self).expect("settings are TOML");
        let mut last = None;
        for (key, value) in &mut table {
            let toml::Value::Table(section) = value else {
                last = set(value, &variable(&[key]), &env).or(last);
                continue;
            };
            for (name, value) in section {
                last = set(value, &variable(&[key, name]), &env).or(last);
            }
        }
        let Some(last) = last else { return Ok(self) };
        let config: Result<Self, _> = serde_path_to_error::deserialize(table);
        let config = config.map_err(|error| Error {
            place: variable(&error.path().to_string().split('.').collect::<Vec<_>>()),
            message: error.inner().to_string().trim_end().to_owned(),
        })?;
        config.check().map_err(|message| Error { place: last, message })?;
        Ok(config)
    }

    /// Whether this process knows keys of providers, or will.
    pub(crate) fn has_keys(&self, env: impl Fn(&str) -> Option<String>) -> bool {
        models::has_keys(&self.providers, env)
    }

    /// The models that can be asked here.
    pub(crate) fn asked(&self) -> Result<kapelle_agents::provider::Models, Error> {
        self.asked_with(|name| std::env::var(name).ok())
    }

    /// The same where nobody is asked in truth, so that no key is needed.
    pub(crate) fn asked_by_nobody(&self) -> Result<kapelle_agents::provider::Models, Error> {
        self.asked_with(|name| Some(if name.ends_with("_KEY") { "-" } else { "" }.to_owned()))
    }

    fn asked_with(
        &self,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<kapelle_agents::provider::Models, Error> {
        models(&self.providers, &self.models, env)
            .map_err(|message| Error { place: FILE.to_owned(), message })
    }

    fn check(&self) -> Result<(), String> {
        self.node.check()?;
        self.server.check()?;
        self.jwt.check()?;
        self.log.check()?;
        self.web.check()?;
        self.models.check()?;
        self.budgets.check()?;
        // Which vendors' keys there are is another day's question: a name of one is in order.
        let keys = |name: &str| name.ends_with("_API_KEY").then(|| "a key".to_owned());
        models(&self.providers, &self.models, keys).map(drop)
    }
}

/// What is wrong with a file, and where. Not the line itself, and of the message no text of the file that
/// might be a key: who writes one down in the wrong place has it on no screen and in no log.
fn told(cause: &toml::de::Error, text: &str) -> String {
    let mut message = cause.message().trim_end().to_owned();
    for secret in texts(text).iter().filter(|text| may_be_a_key(text)) {
        message = message.replace(secret, "…");
    }
    let Some(before) = cause.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.rsplit('\n').next().unwrap_or_default();
    let (row, column) = (before.matches('\n').count() + 1, line.chars().count() + 1);
    format!("line {row}, column {column}: {message}")
}

/// Whether a text of the file is none of the words that settings are made of.
fn may_be_a_key(text: &str) -> bool {
    let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.len() >= 8 && !is_word && !text.contains(char::is_whitespace)
}

/// All texts of a file, as far as it can be read.
fn texts(text: &str) -> Vec<String> {
    let mut values: Vec<_> =
        toml::from_str::<toml::Table>(text).into_iter().flatten().map(|(_, value)| value).collect();
    let mut texts = Vec::new();
    while let Some(value) = values.pop() {
        match value {
            toml::Value::String(text) => texts.push(text),
            toml::Value::Array(all) => values.extend(all),
            toml::Value::Table(all) => values.extend(all.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    texts
}

fn read(path: &Path) -> std::io::Result<String> {
    if fs::metadata(path)?.len() > FILE_MAX {
        return Err(std::io::Error::other("the file is over 1 MiB"));
    }
    fs::read_to_string(path)
}

fn variable(path: &[&str]) -> String {
    format!("KAPELLE_{}", path.join("_").to_uppercase())
}

fn set(
    value: &mut toml::Value,
    variable: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let text = env(variable)?;
    let parsed = toml::from_str::<toml::Table>(&format!("x = {text}")).ok();
    *value = match parsed.and_then(|mut table| table.remove("x")) {
        Some(parsed) if !value.is_str() => parsed,
        _ => toml::Value::String(text),
    };
    Some(variable.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kapelle.toml");
        fs::write(&file, text).unwrap();
        let look = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let loaded = Config::load(Some(&file), look);
        loaded.map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn a_file_is_read_and_the_environment_wins() {
        let text =
            "store = \"s\"\n[node]\nslots = 7\ndrain_grace = \"1m\"\n[log]\nlevel = \"info\"\n";
        let config = load(text, &[("KAPELLE_NODE_SLOTS", "9"), ("KAPELLE_STORE", "12")]).unwrap();
        assert_eq!((config.node.slots, config.store.as_str()), (9, "12"));
        assert_eq!(config.node.drain_grace, Duration::from_secs(60));
        assert_eq!(config.log.level, "info");
        let web = [("KAPELLE_WEB_ROOTS", "[\"/srv/docs\"]"), ("KAPELLE_WEB_GAP", "1s")];
        let config = load("", &web).unwrap();
        assert_eq!(config.web.roots, [Path::new("/srv/docs")]);
        assert_eq!(config.web.settings().gap, Duration::from_secs(1));
    }

    #[test]
    fn mistakes_say_where_they_are() {
        let unknown = load("[node]\nslot = 7\n", &[]).unwrap_err();
        assert!(unknown.contains("line 2") && unknown.contains("`slot`"), "{unknown}");
        let unit = load("[node]\ndrain_grace = \"5 parsecs\"\n", &[]).unwrap_err();
        assert!(unit.contains("line 2") && unit.contains("parsecs"), "{unit}");
        let none = load("[node]\nslots = 0\n", &[]).unwrap_err();
        assert!(none.contains("node.slots"), "{none}");
        for name in ["requests", "streams", "open_runs", "memory"] {
            let none = load(&format!("[server]\n{name} = 0\n"), &[]).unwrap_err();
            assert!(none.contains(&format!("server.{name}")), "{none}");
        }
        let root = load("[web]\nroots = [\"docs\"]\n", &[]).unwrap_err();
        assert!(root.contains("web.roots") && root.contains("docs"), "{root}");
        let gap = load("", &[("KAPELLE_WEB_GAP", "5 parsecs")]).unwrap_err();
        assert!(gap.starts_with("KAPELLE_WEB_GAP: "), "{gap}");
        let variable = load("", &[("KAPELLE_NODE_SLOTS", "many")]).unwrap_err();
        assert!(variable.starts_with("KAPELLE_NODE_SLOTS: "), "{variable}");
        let level = load("", &[("KAPELLE_LOG_FORMAT", "loud")]).unwrap_err();
        assert!(level.starts_with("KAPELLE_LOG_FORMAT: "), "{level}");
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_shown() {
        for line in [
            "key = \"sk-Canary-7f3a9d\"",
            "key = sk-Canary-7f3a9d",
            "key_env = sk-Canary-7f3a9d",
            "key_env = \"sk-Canary-7f3a9d",
            "key_env = \"sk-Canary-7f3a9d\"",
            "key_env = \"gsk_Canary7f3a9dCanary7f3a9d\"",
            "key_file = \"gsk_Canary7f3a9dCanary7f3a9d\"",
            "key_command = [\"gsk_Canary7f3a9dCanary7f3a9d\"]",
            "max_tokens = \"sk-Canary-7f3a9d\"",
            "url = \"sk-Canary-7f3a9d\"",
            "wire = \"sk-Canary-7f3a9d\"",
            "version = \"sk-Canary-7f3a9d\"",
            "version = [\"sk-Canary-7f3a9d\", 1]",
            "sk-Canary-7f3a9d",
        ] {
            let wire = if line.starts_with("wire") { "" } else { "wire = \"openai\"\n" };
            let told = load(&format!("[providers.a]\n{wire}{line}\n"), &[]).unwrap_err();
            assert!(told.starts_with("DIR/kapelle.toml: "), "{told}");
            assert!(!told.contains("Canary"), "{line}: {told}");
            assert!(told.contains("line ") || told.contains("`providers.a`"), "{line}: {told}");
        }
        let named =
            load("[providers.a]\nwire = \"openai\"\nkey = \"sk-Canary\"\n", &[]).unwrap_err();
        assert!(named.contains("line 3, column 1: unknown field `key`"), "{named}");
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let missing = Config::load(Some(Path::new("/no/such/file.toml")), |_| None).unwrap_err();
        assert!(missing.to_string().starts_with("/no/such/file.toml: "), "{missing}");
    }
}
