//! The models that a node can ask: by name, by tier, and what is asked instead where one is in trouble.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kapelle_core::Digest;
use kapelle_core::port::agent::{Failure, FailureKind};

use super::{Governor, Prices, Provider};

/// The names of tiers, from the quick one to the one that thinks most.
pub const TIERS: [&str; 3] = ["fast", "balanced", "strong"];

/// Names that public agent files use, and the tiers that they stand for.
const ALIASES: [(&str, &str); 4] =
    [("haiku", "fast"), ("sonnet", "balanced"), ("opus", "strong"), ("fable", "strong")];

/// How vendors' own names of models begin, and what their providers are called.
const VENDORS: [(&str, &str); 2] = [("claude-", "anthropic"), ("gpt-", "openai")];

/// The models that can be asked.
#[derive(Clone, Debug, Default)]
pub struct Models {
    lines: BTreeMap<Box<str>, Arc<Line>>,
    /// Tiers and aliases, each with the models to ask, in order: `provider/model`.
    names: BTreeMap<Box<str>, Vec<Box<str>>>,
    /// What is asked where nobody says what.
    default: Option<Box<str>>,
    /// What calls cost.
    pub prices: Option<Arc<Prices>>,
    paces: Arc<Paces>,
    /// How many tokens an answer has at the most, where neither the step nor its agent says so.
    pub tokens_max: Option<u64>,
    /// Agents that can do without ask none of them.
    pub rules_only: bool,
}

/// A provider, and the paces of calls under the keys of all providers.
#[derive(Debug)]
pub struct Line {
    /// The provider.
    pub provider: Provider,
    paces: Arc<Paces>,
    /// Models that broke off in the middle of an answer, and when.
    troubled: Mutex<BTreeMap<Box<str>, Instant>>,
}

/// The pace of calls for each key: two names of one provider with one key are one to it.
#[derive(Debug, Default)]
struct Paces {
    by_key: Mutex<BTreeMap<Digest, Governor>>,
    /// Where processes tell each other of waits.
    folder: OnceLock<PathBuf>,
}

impl Line {
    /// The pace of calls under the provider's key as it is now.
    pub async fn governor(&self) -> Result<Governor, Failure> {
        let key = self.provider.fingerprint().await?;
        let mut paces = self.paces.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = || match self.paces.folder.get() {
            Some(folder) => Governor::kept_in(folder.join(&key.hex()[..32])),
            None => Governor::default(),
        };
        Ok(paces.entry(key).or_insert_with(begun).clone())
    }
}

/// So long another model is asked first where one broke off.
const TROUBLED: Duration = Duration::from_secs(60);

/// A model of a provider.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Where it is.
    pub line: Arc<Line>,
    /// What the provider calls it.
    pub model: Box<str>,
}

impl Choice {
    /// `provider/model`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.line.provider.name, self.model)
    }

    /// It broke off in the middle of an answer.
    pub fn is_in_trouble(&self) {
        self.troubled().insert(self.model.clone(), Instant::now());
    }

    /// It has answered.
    pub fn is_well(&self) {
        self.troubled().remove(&self.model);
    }

    /// Whether it broke off lately.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.troubled().get(&self.model).is_some_and(|at| at.elapsed() < TROUBLED)
    }

    fn troubled(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Instant>> {
        self.line.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Models {
    /// Models of `providers`, and what calls of them cost.
    #[must_use]
    pub fn new(providers: Vec<Provider>, prices: Prices) -> Self {
        let paces: Arc<Paces> = Arc::default();
        let lines = providers.into_iter().map(|provider| {
            let line = Line { provider, paces: paces.clone(), troubled: Mutex::default() };
            (line.provider.name.clone(), Arc::new(line))
        });
        let (lines, prices) = (lines.collect(), Some(Arc::new(prices)));
        Self { lines, prices, paces: paces.clone(), ..Self::default() }
    }

    /// Has the waits that providers ask for kept in `folder` too, for other processes and the next one. What
    /// is said first holds.
    pub fn keep_waits_in(&self, folder: PathBuf) {
        self.paces.folder.set(folder).ok();
    }

    /// Calls the first of `models` that answers `name`; each is `provider/model`.
    pub fn name(&mut self, name: &str, models: Vec<Box<str>>) -> Result<(), String> {
        if models.is_empty() {
            return Err(format!("`{name}` names no model"));
        }
        if let Some(odd) = models.iter().find_map(|model| self.direct(model).err()) {
            return Err(format!("`{name}`: {odd}"));
        }
        self.names.insert(name.into(), models);
        Ok(())
    }

    /// What is asked where nobody says what.
    pub fn set_default(&mut self, wish: &str) -> Result<(), String> {
        self.find(Some(wish)).map_err(|failure| String::from(failure.message))?;
        self.default = Some(wish.into());
        Ok(())
    }

    /// Whether there is a model to ask where nobody says which.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.find(None).is_ok()
    }

    /// The models to ask for a wish, in order: a tier, an alias, or `provider/model`.
    pub fn find(&self, wish: Option<&str>) -> Result<Vec<Choice>, Failure> {
        let inherited = |wish: &&str| !matches!(*wish, "inherit" | "default" | "");
        // `opus[1m]`: how much it may read is the provider's business.
        let wish = wish.map(|wish| wish.split_once('[').map_or(wish, |(wish, _)| wish));
        let wish = wish.filter(inherited).or(self.default.as_deref()).unwrap_or("balanced");
        let found = match self.names.get(self.meant(wish)) {
            Some(models) => models.iter().map(|model| self.direct(model)).collect(),
            None => self.direct(self.meant(wish)).map(|choice| vec![choice]),
        };
        found.map_err(|why| Failure::new(FailureKind::Invalid, "no_model", why))
    }

    /// What a name means that a vendor has for its models, where that vendor is not there: the tier.
    fn meant<'a>(&'a self, wish: &'a str) -> &'a str {
        let known = ALIASES.into_iter().find(|(alias, _)| *alias == wish);
        let Some((_, tier)) = known.filter(|_| !self.names.contains_key(wish)) else { return wish };
        let given = self.names.contains_key(tier).then_some(tier);
        given.or(self.default.as_deref()).unwrap_or(wish)
    }

    fn direct(&self, name: &str) -> Result<Choice, String> {
        if self.lines.is_empty() {
            return Err(format!(
                "no model provider is configured, so `{name}` cannot be asked: a key in \
                 `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` is enough, and docs/models.md has all else"
            ));
        }
        if let Some((provider, model)) = name.split_once('/')
            && let Some(line) = self.lines.get(provider)
        {
            return Ok(Choice { line: line.clone(), model: model.into() });
        }
        // Public agent files name models as their vendors do.
        let vendor = VENDORS.into_iter().find(|(start, _)| name.starts_with(start));
        if let Some(line) = vendor.and_then(|(_, vendor)| self.lines.get(vendor)) {
            return Ok(Choice { line: line.clone(), model: name.into() });
        }
        // A name without a provider is clear where there is one provider alone.
        match self.lines.values().next() {
            Some(line) if self.lines.len() == 1 && !TIERS.contains(&name) => {
                Ok(Choice { line: line.clone(), model: name.into() })
            }
            _ => {
                let providers: Vec<&str> = self.lines.keys().map(AsRef::as_ref).collect();
                let names: Vec<&str> = self.names.keys().map(AsRef::as_ref).collect();
                let (names, providers) = (names.join(", "), providers.join(", "));
                let known =
                    if names.is_empty() { names } else { format!("names are {names}, or ") };
                Err(format!(
                    "there is no model `{name}`; {known}`PROVIDER/MODEL` with a provider of {providers} is one"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wire;
    use super::*;
    use crate::egress::{Egress, Policy};

    fn models(providers: &[&str]) -> Models {
        let egress = Arc::new(Egress::new(Policy::Operator));
        let base = "http://localhost:1".parse().unwrap();
        let provider = |name: &&str| Provider::new(name, Wire::OpenAi, &base, None, egress.clone());
        Models::new(providers.iter().map(provider).collect(), Prices::shipped())
    }

    fn names(models: &Models, wish: Option<&str>) -> Result<Vec<String>, String> {
        let found = models.find(wish).map_err(|failure| String::from(failure.message))?;
        Ok(found.iter().map(Choice::name).collect())
    }

    #[test]
    fn a_wish_is_a_tier_an_alias_or_a_model() {
        let mut models = models(&["a", "b"]);
        models.name("balanced", vec!["a/m-1".into(), "b/x/m-2".into()]).unwrap();
        models.name("sonnet", vec!["b/s".into()]).unwrap();
        let both = Ok(vec!["a/m-1".to_owned(), "b/x/m-2".to_owned()]);
        for wish in [None, Some("inherit"), Some("default"), Some("balanced"), Some("balanced[1m]")]
        {
            assert_eq!(names(&models, wish), both, "{wish:?}");
        }
        assert_eq!(names(&models, Some("sonnet")), Ok(vec!["b/s".to_owned()]));
        assert_eq!(names(&models, Some("a/any")), Ok(vec!["a/any".to_owned()]));
        let unnamed = names(&self::models(&["a", "b"]), Some("gpt")).unwrap_err();
        assert!(unnamed.starts_with("there is no model `gpt`; `PROVIDER/MODEL` with"), "{unnamed}");
        let unknown = names(&models, Some("gpt")).unwrap_err();
        assert_eq!(
            unknown,
            "there is no model `gpt`; names are balanced, sonnet, or `PROVIDER/MODEL` with a provider of a, b is one"
        );
        // Names of a vendor that is not there: the tier, or else the default.
        assert_eq!(names(&models, Some("sonnet")), Ok(vec!["b/s".to_owned()]));
        assert!(names(&models, Some("opus")).is_err());
        models.set_default("sonnet").unwrap();
        assert_eq!(names(&models, Some("opus")), Ok(vec!["b/s".to_owned()]));
        models.name("strong", vec!["a/big".into()]).unwrap();
        assert_eq!(names(&models, Some("opus")), Ok(vec!["a/big".to_owned()]));
        assert_eq!(names(&models, None), Ok(vec!["b/s".to_owned()]));
        assert!(models.name("strong", vec!["c/m".into()]).is_err());
    }

    #[test]
    fn a_vendors_own_name_of_a_model_is_asked_of_the_vendor() {
        let both = models(&["anthropic", "openai", "other"]);
        for (wish, is) in
            [("claude-opus-5", "anthropic/claude-opus-5"), ("gpt-4o", "openai/gpt-4o")]
        {
            assert_eq!(names(&both, Some(wish)), Ok(vec![is.to_owned()]));
        }
    }

    #[test]
    fn one_provider_needs_no_name_and_none_says_what_is_missing() {
        let one = models(&["local"]);
        assert_eq!(names(&one, Some("qwen")), Ok(vec!["local/qwen".to_owned()]));
        assert!(!one.has_default());
        let none = names(&models(&[]), Some("sonnet")).unwrap_err();
        assert!(none.starts_with("no model provider is configured, so `sonnet`"), "{none}");
    }
}
