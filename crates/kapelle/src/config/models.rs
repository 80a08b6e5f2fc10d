//! `[providers.NAME]` and `[models]`: which models can be asked, where, and under what names.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_agents::egress::{Egress, Policy, shown};
use kapelle_agents::files::tools::rule;
use kapelle_agents::model::tool::Tools;
use kapelle_agents::model::tools::{self, Reserved};
use kapelle_agents::provider::{
    KeySource, LIMITS, MaxTokensAs, Models as Asked, Prices, Provider, Row, Wire,
};
use serde::{Deserialize, Serialize};
use url::Url;

/// A provider of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderAt {
    /// How it is spoken to: `anthropic`, or `openai` for all that speak Chat Completions.
    pub(crate) wire: Speaks,
    /// Where it is; the vendor's own address where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Url>,
    /// The environment variable that holds its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_env: Option<String>,
    /// The file that holds its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// The command that prints its key: a program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_command: Option<Vec<String>>,
    /// The version of the Messages format, for servers that know only an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// How many tokens an answer of its models has at the most, for servers with a small window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<NonZeroU64>,
    /// The word in which it is told how long an answer may be, where it reads another one than most of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens_as: Option<Word>,
}

/// What a server that speaks Chat Completions calls the longest answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaks {
    /// Messages.
    Anthropic,
    /// Chat Completions.
    OpenAi,
}

/// The names of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Models {
    /// What is asked where nobody says what: a name of those below, or `PROVIDER/MODEL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    /// `analyzer`, `summarizer`, `guide-extractor` and `aggregator` never ask one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rules_only: bool,
    /// How many tokens an answer has at the most, where neither the step nor its agent says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<NonZeroU64>,
    /// For what is easy: the first of these that answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fast: Vec<String>,
    /// For most work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) balanced: Vec<String>,
    /// For what is hard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) strong: Vec<String>,
    /// Other names, as agent files use them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    /// The tools that change something and that agents may call which name them; those that only look
    /// need no grant. `run_command` is granted by the first words of commands, `run_command(git log:*)`, and `fetch_url` by
    /// hosts, `fetch_url(docs.rs)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) grants: Vec<String>,
    /// Prices besides those that are known, or instead of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) prices: Vec<Row>,
}

/// The providers that are there by their key alone: name, variable of the key, variable of the address.
const BY_KEY: [(&str, Speaks, &str, &str); 2] = [
    ("anthropic", Speaks::Anthropic, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    ("openai", Speaks::OpenAi, "OPENAI_API_KEY", "OPENAI_BASE_URL"),
];

/// What names mean with these providers where the configuration does not say.
const NAMES: [(&str, &str, &[&str]); 2] = [
    (
        "anthropic",
        "fast=claude-haiku-5-5 balanced=claude-sonnet-5-5 strong=claude-opus-5-5",
        &[
            "haiku=claude-haiku-5-5",
            "sonnet=claude-sonnet-5-5",
            "opus=claude-opus-5-5",
            "fable=claude-fable-5-1",
        ],
    ),
    ("openai", "fast=gpt-5.4-mini balanced=gpt-6-sol strong=gpt-6-astra", &[]),
];

impl Speaks {
    fn home(self) -> Url {
        let home = match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::OpenAi => "https://api.openai.com/v1",
        };
        home.parse().expect("it is a URL")
    }
}

impl ProviderAt {
    fn source(&self) -> Result<Option<KeySource>, String> {
        let env = self.key_env.as_deref().map(|name| KeySource::Env(name.into()));
        let file = self.key_file.clone().map(KeySource::File);
        let command = self
            .key_command
            .as_ref()
            .map(|argv| KeySource::Command(argv.iter().map(|arg| arg.as_str().into()).collect()));
        let told: Vec<KeySource> = [env, file, command].into_iter().flatten().collect();
        if told.len() > 1 {
            return Err("the key is told by one of `key_env`, `key_file` and `key_command`".into());
        }
        if let Some(setting) = self.holds_a_key() {
            return Err(format!(
                "`{setting}` says where the key is, such as in the variable `ANTHROPIC_API_KEY`: what is there \
                 is no such name, and not shown as it may be the key itself"
            ));
        }
        Ok(told.into_iter().next())
    }

    /// The setting that holds a key, or what may be one, where it ought to say where the key is.
    fn holds_a_key(&self) -> Option<&'static str> {
        let file = self.key_file.as_deref().and_then(Path::to_str);
        let program = self.key_command.as_deref().and_then(|argv| argv.first());
        let odd = [
            (
                "key_env",
                self.key_env.as_deref().is_some_and(|name| !is_variable(name) || is_key(name)),
            ),
            ("key_file", file.is_some_and(is_key)),
            ("key_command", program.is_some_and(|program| is_key(program))),
        ];
        odd.into_iter().find_map(|(setting, is_odd)| is_odd.then_some(setting))
    }

    fn provider(&self, name: &str, egress: &Arc<Egress>) -> Result<Provider, String> {
        let wire = match self.wire {
            Speaks::Anthropic => Wire::Anthropic,
            Speaks::OpenAi => Wire::OpenAi,
        };
        let url = self.url.clone().unwrap_or_else(|| self.wire.home());
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            let shown = shown(&url);
            return Err(format!("`url` is `{shown}`, and no address such as `https://host/v1`"));
        }
        let provider = Provider::new(name, wire, &url, self.source()?, egress.clone());
        let word = self.max_tokens_as.map(|word| match word {
            Word::MaxTokens => MaxTokensAs::MaxTokens,
            Word::MaxCompletionTokens => MaxTokensAs::MaxCompletionTokens,
        });
        let provider = provider.at_most(self.max_tokens.map(NonZeroU64::get)).told_as(word);
        match &self.version {
            Some(version)
                if version.parse::<jiff::civil::Date>().is_ok() && version.len() == 10 =>
            {
                Ok(provider.in_version(version))
            }
            Some(_) => Err("`version` is one such as `2023-06-01`".to_owned()),
            None => Ok(provider),
        }
    }
}

/// Whether `name` can be one of an environment variable.
fn is_variable(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_part) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether a text looks like a key: long, in one piece, of small letters and digits.
fn is_key(text: &str) -> bool {
    let has = |which: fn(&u8) -> bool| text.as_bytes().iter().any(which);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    text.len() >= 20 && mixed && text.bytes().all(is_part)
}

/// Whether `name` can be one of a provider.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Whether there are keys: in the environment, or where the configuration says.
pub(super) fn has_keys(
    providers: &BTreeMap<String, ProviderAt>,
    env: impl Fn(&str) -> Option<String>,
) -> bool {
    let known = BY_KEY.iter().any(|(_, _, key, _)| env(key).is_some());
    known || providers.values().any(|at| matches!(at.source(), Ok(Some(_))))
}

/// The models that can be asked. `env` tells which vendors' keys there are.
pub(crate) fn models(
    providers: &BTreeMap<String, ProviderAt>,
    names: &Models,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Asked, String> {
    let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
    let mut all = providers.clone();
    for (name, wire, key, url) in BY_KEY {
        if !all.contains_key(name) && env(key).is_some_and(|key| !key.is_empty()) {
            let url = env(url).filter(|url| !url.is_empty()).map(|text| {
                text.parse().map_err(|error| format!("the variable `{url}` is no URL: {error}"))
            });
            let key_env = Some(key.to_owned());
            let at = ProviderAt {
                wire,
                url: url.transpose()?,
                key_env,
                key_file: None,
                key_command: None,
                version: None,
                max_tokens: None,
                max_tokens_as: None,
            };
            all.insert(name.to_owned(), at);
        }
    }
    let made = all.iter().map(|(name, at)| {
        let of = |why| format!("`providers.{name}`: {why}");
        if !is_name(name) {
            return Err(of("a name has letters, digits, `-` and `_`".to_owned()));
        }
        at.provider(name, &egress).map_err(of)
    });
    let made: Vec<Provider> = made.collect::<Result<_, _>>()?;
    let prices = Prices::shipped().with(names.prices.clone());
    let mut models = Asked::new(made, prices.map_err(|why| format!("`models.prices`: {why}"))?);
    names.give(&all, &mut models)?;
    models.rules_only = names.rules_only;
    models.tokens_max = names.max_tokens.map(NonZeroU64::get);
    Ok(models)
}

/// The variable that would have to hold the key of a vendor's model, if it does not.
fn key_missing(model: &str, all: &BTreeMap<String, ProviderAt>) -> Option<&'static str> {
    let (vendor, _) = model.split_once('/')?;
    let known = BY_KEY.iter().find(|(name, ..)| *name == vendor && !all.contains_key(vendor))?;
    Some(known.2)
}

impl Models {
    /// The tools that agents may call which name them.
    pub(crate) fn tools(&self, reserved: &Arc<Reserved>) -> Tools {
        Tools::new(tools::shipped(reserved), self.grants.iter().map(|name| name.as_str().into()))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.grants.iter().try_for_each(|grant| self.check_grant(grant))
    }

    fn check_grant(&self, grant: &str) -> Result<(), String> {
        let (name, rule) = rule(grant);
        match rule {
            None if name == tools::RUN_COMMAND => Err(format!(
                "`models.grants`: `{name}` names no command; write `{name}(git log:*)` for all commands that \
                 begin with these words, or `{name}(cargo test)` for this one"
            )),
            Some(rule) if name == tools::RUN_COMMAND => match tools::first_words(rule) {
                Some(_) => Ok(()),
                None => Err(format!(
                    "`models.grants`: `{grant}` names no words; write them as in `{name}(git log:*)`"
                )),
            },
            None if name == tools::FETCH_URL => Err(format!(
                "`models.grants`: `{name}` names no host; write `{name}(docs.rs)`, `{name}(*.docs.rs)` for all below \
                 it, or `{name}(*)` for all"
            )),
            Some(rule) if name == tools::FETCH_URL && !rule.is_empty() => Ok(()),
            _ => self.check_name(grant),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        let tools = self.tools(&Arc::default());
        let known = tools.iter().map(|tool| &*tool.card().name);
        let known: Vec<&str> =
            known.chain(tools::LENT).chain([tools::RUN_COMMAND, tools::FETCH_URL]).collect();
        if known.contains(&name) {
            return Ok(());
        }
        Err(format!("`models.grants`: there is no tool `{name}`; tools are {}", known.join(", ")))
    }

    /// Gives the names that are told, and for those that are not what the first known vendor has.
    fn give(&self, all: &BTreeMap<String, ProviderAt>, models: &mut Asked) -> Result<(), String> {
        for (vendor, tiers, aliases) in NAMES.iter().rev() {
            if all.contains_key(*vendor) {
                let pairs = tiers.split(' ').chain(aliases.iter().copied());
                for (name, model) in pairs.filter_map(|pair| pair.split_once('=')) {
                    models.name(name, vec![format!("{vendor}/{model}").into()])?;
                }
            }
        }
        let tiers = [("fast", &self.fast), ("balanced", &self.balanced), ("strong", &self.strong)];
        let aliases = self.aliases.iter().map(|(name, wanted)| (name.as_str(), wanted));
        for (name, wanted) in
            tiers.into_iter().filter(|(_, wanted)| !wanted.is_empty()).chain(aliases)
        {
            let wanted = wanted.iter().filter(|model| {
                let key = key_missing(model, all);
                if let Some(key) = key {
                    tracing::warn!(name, model, "passed over: `{key}` is not set");
                }
                key.is_none()
            });
            let wanted: Vec<Box<str>> = wanted.map(|model| model.as_str().into()).collect();
            // Who only looks at runs has no keys: what is missing is said to who asks.
            if !wanted.is_empty() {
                models.name(name, wanted).map_err(|why| format!("`models`: {why}"))?;
            }
        }
        match &self.default {
            Some(default) => {
                models.set_default(default).map_err(|why| format!("`models.default`: {why}"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, env: &[(&str, &str)]) -> Result<Asked, String> {
        #[derive(Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[derive(Default)]
        struct File {
            providers: BTreeMap<String, ProviderAt>,
            models: Models,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        models(&file.providers, &file.models, |name| env.get(name).cloned())
    }

    fn names(models: &Asked, wish: &str) -> Vec<String> {
        models
            .find(Some(wish))
            .unwrap()
            .iter()
            .map(kapelle_agents::provider::Choice::name)
            .collect()
    }

    #[test]
    fn a_key_in_the_environment_is_enough() {
        let models = read("", &[("ANTHROPIC_API_KEY", "k")]).unwrap();
        assert_eq!(names(&models, "balanced"), ["anthropic/claude-sonnet-5-5"]);
        assert_eq!(names(&models, "opus"), ["anthropic/claude-opus-5-5"]);
        let both = read("", &[("ANTHROPIC_API_KEY", "k"), ("OPENAI_API_KEY", "k")]).unwrap();
        assert_eq!(names(&both, "strong"), ["anthropic/claude-opus-5-5"]);
        assert!(!read("", &[("ANTHROPIC_API_KEY", "")]).unwrap().has_default());
        assert!(!both.rules_only);
        // Names of a vendor that is not there stand for tiers.
        let other = read("", &[("OPENAI_API_KEY", "k")]).unwrap();
        assert_eq!(names(&other, "sonnet"), names(&other, "balanced"));
        assert_eq!(names(&other, "haiku"), ["openai/gpt-5.4-mini"]);
        assert!(read("[models]\nrules_only = true", &[]).unwrap().rules_only);
        let odd = read("", &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "no")]).unwrap_err();
        assert!(odd.contains("`OPENAI_BASE_URL`"), "{odd}");
    }

    #[test]
    fn names_are_given_and_fall_back_in_their_order() {
        let text = r#"
            [providers.local]
            wire = "openai"
            url = "http://localhost:11434/v1"
            [providers.anthropic]
            wire = "anthropic"
            key_file = "/run/secrets/key"
            version = "2023-06-01"
            [models]
            default = "coder"
            balanced = ["anthropic/claude-sonnet-5-5", "local/qwen"]
            [models.aliases]
            coder = ["local/qwen"]
            [[models.prices]]
            model = "qwen"
            input = 0
            output = 0
            source = "my own machine"
        "#;
        let models = read(text, &[]).unwrap();
        assert_eq!(names(&models, "balanced"), ["anthropic/claude-sonnet-5-5", "local/qwen"]);
        assert_eq!(names(&models, "inherit"), ["local/qwen"]);
        assert_eq!(names(&models, "strong"), ["anthropic/claude-opus-5-5"]);
    }

    #[test]
    fn mistakes_say_where_they_are() {
        let wrong = |text: &str| read(text, &[]).expect_err("it is wrong");
        let two = "[providers.a]\nwire = \"openai\"\nkey_env = \"A\"\nkey_file = \"/b\"";
        assert!(
            wrong(two).starts_with("`providers.a`: the key is told by one of"),
            "{}",
            wrong(two)
        );
        let scheme = "[providers.a]\nwire = \"openai\"\nurl = \"ftp://x\"";
        assert!(wrong(scheme).contains("`url` is `ftp://x/`, and no address"), "{}", wrong(scheme));
        let name = "[providers.\"a b\"]\nwire = \"openai\"";
        assert!(wrong(name).contains("a name has letters"), "{}", wrong(name));
        let tier = "[providers.a]\nwire = \"openai\"\n[providers.b]\nwire = \"openai\"\n[models]\nfast = [\"c/m\"]";
        assert!(
            wrong(tier).starts_with("`models`: `fast`: there is no model `c/m`"),
            "{}",
            wrong(tier)
        );
        let grants = Models { grants: vec!["write_files".to_owned()], ..Models::default() };
        let grants = grants.check().unwrap_err();
        assert!(
            grants.contains("no tool `write_files`") && grants.contains("write_file"),
            "{grants}"
        );
        let granting = |grant: &str| Models { grants: vec![grant.to_owned()], ..Models::default() };
        assert_eq!(granting("run_command(git log:*)").check(), Ok(()));
        for grant in ["run_command", "run_command()", "run_command(*)", "run_command(git * x)"] {
            let wrong = granting(grant).check().unwrap_err();
            assert!(wrong.contains("run_command(git log:*)"), "{wrong}");
        }
        assert!(granting("write_file(src)").check().is_err(), "it knows no rules");
        for grant in ["fetch_url(docs.rs)", "fetch_url(*)", "remember"] {
            assert_eq!(granting(grant).check(), Ok(()));
        }
        assert!(granting("fetch_url").check().unwrap_err().contains("fetch_url(docs.rs)"));
        let key = "[providers.a]\nwire = \"openai\"\nkey = \"sk-1\"";
        assert!(wrong(key).contains("key"), "a key itself has no place in a file");
    }
}
