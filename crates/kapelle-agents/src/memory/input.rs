//! What the actions are given.

use kapelle_core::port::agent::{Call, Failure};
use serde::{Deserialize, Deserializer, Serialize};

use super::Action;
use crate::input::{Span, invalid, read};

/// The longest text of an entry, in characters.
pub(super) const TEXT_MAX: usize = 16_384;
/// How many entries one call stores.
pub(super) const ENTRIES_MAX: usize = 256;
/// The longest namespace, source and title, in characters.
pub(super) const NAME_MAX: usize = 128;
pub(super) const SOURCE_MAX: usize = 4096;
/// The longest query, in characters.
pub(super) const QUERY_MAX: usize = 10_000;
/// How many entries one call retrieves, and where it does not say.
pub(super) const TOP_MAX: u32 = 100;
pub(super) const TOP: u32 = 10;

/// Whose words a text is, the least trusted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Trust {
    #[default]
    Web,
    Tool,
    Agent,
    User,
    Operator,
}

impl Trust {
    pub(super) const ALL: [Self; 5] =
        [Self::Web, Self::Tool, Self::Agent, Self::User, Self::Operator];

    /// The number it is kept as.
    pub(super) fn number(self) -> i64 {
        self as i64
    }

    /// What is kept as `number`; an unknown one is trusted least.
    pub(super) fn of(number: i64) -> Self {
        Self::ALL.into_iter().find(|trust| trust.number() == number).unwrap_or_default()
    }
}

/// What a step wants of its memory.
pub(super) enum Wish {
    Store(Store),
    Retrieve(Retrieve),
    Forget(Forget),
}

/// Whose memory it is, and which part.
pub(super) struct Of {
    pub(super) tenant: String,
    pub(super) namespace: String,
}

pub(super) struct Store {
    pub(super) of: Of,
    pub(super) author: Author,
    pub(super) entries: Vec<Given>,
    pub(super) ttl: Option<Span>,
    pub(super) trust: Trust,
}

/// Who writes.
pub(super) struct Author {
    pub(super) run: String,
    pub(super) workflow: String,
    pub(super) step: String,
    /// Stays the same until an attempt is known to have failed.
    pub(super) key: String,
}

pub(super) struct Retrieve {
    pub(super) of: Of,
    pub(super) query: Option<String>,
    pub(super) top: u32,
    pub(super) trust: Trust,
}

pub(super) struct Forget {
    pub(super) of: Of,
    pub(super) which: Which,
}

/// What is to be forgotten.
pub(super) enum Which {
    Ids(Vec<i64>),
    Run(String),
    Source(String),
    All,
}

/// A text to store. What an agent that reads pages or ranks passages says besides is passed over.
#[derive(Deserialize)]
pub(super) struct Given {
    pub(super) text: String,
    #[serde(default, deserialize_with = "or_none")]
    pub(super) source: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    url: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    pub(super) title: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    pub(super) language: Option<String>,
}

/// A template that found nothing says `null`.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreInput {
    namespace: Option<String>,
    text: Option<String>,
    entries: Option<Vec<Given>>,
    source: Option<String>,
    ttl: Option<Span>,
    trust: Option<Trust>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetrieveInput {
    namespace: Option<String>,
    query: Option<String>,
    top: Option<u32>,
    trust: Option<Trust>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForgetInput {
    namespace: Option<String>,
    ids: Option<Vec<i64>>,
    run: Option<String>,
    source: Option<String>,
    all: Option<bool>,
}

impl Wish {
    /// What `call` wants; what does not fit is `invalid`.
    pub(super) fn read(action: Action, call: &Call) -> Result<Self, Failure> {
        match action {
            Action::Store => Ok(Self::Store(store(call)?)),
            Action::Retrieve => Ok(Self::Retrieve(retrieve(call)?)),
            Action::Forget => Ok(Self::Forget(forget(call)?)),
        }
    }
}

impl Of {
    fn read(namespace: Option<String>, call: &Call) -> Result<Self, Failure> {
        let namespace = namespace.unwrap_or_else(|| call.workflow.to_string());
        within("namespace", &namespace, NAME_MAX)?;
        if namespace.is_empty() {
            return Err(invalid("bad_input", "`namespace` is empty"));
        }
        Ok(Self { tenant: call.tenant.to_string(), namespace })
    }
}

fn store(call: &Call) -> Result<Store, Failure> {
    let input: StoreInput = read(&call.input)?;
    let mut entries = match (input.text, input.entries) {
        (Some(text), None) => {
            vec![Given { text, source: None, url: None, title: None, language: None }]
        }
        (None, Some(entries)) => entries,
        _ => return Err(invalid("bad_input", "give either `text` or `entries`")),
    };
    if entries.len() > ENTRIES_MAX {
        let message = format!("{} entries, at most {ENTRIES_MAX} in one call", entries.len());
        return Err(invalid("bad_input", message));
    }
    for entry in &mut entries {
        let url = entry.url.take();
        entry.source = entry.source.take().or(url).or_else(|| input.source.clone());
        check(entry)?;
    }
    let of = Of::read(input.namespace, call)?;
    let author = Author {
        run: call.run.to_string(),
        workflow: call.workflow.to_string(),
        step: call.step.to_string(),
        key: call.key.to_string(),
    };
    Ok(Store { of, author, entries, ttl: input.ttl, trust: input.trust.unwrap_or_default() })
}

fn check(entry: &Given) -> Result<(), Failure> {
    if entry.text.is_empty() {
        return Err(invalid("bad_input", "the text of an entry is empty"));
    }
    within("text", &entry.text, TEXT_MAX)?;
    within("source", entry.source.as_deref().unwrap_or_default(), SOURCE_MAX)?;
    within("title", entry.title.as_deref().unwrap_or_default(), SOURCE_MAX)
}

fn retrieve(call: &Call) -> Result<Retrieve, Failure> {
    let input: RetrieveInput = read(&call.input)?;
    within("query", input.query.as_deref().unwrap_or_default(), QUERY_MAX)?;
    let top = input.top.unwrap_or(TOP);
    if !(1..=TOP_MAX).contains(&top) {
        return Err(invalid("bad_input", format!("`top` is 1 to {TOP_MAX}, not {top}")));
    }
    let of = Of::read(input.namespace, call)?;
    Ok(Retrieve { of, query: input.query, top, trust: input.trust.unwrap_or_default() })
}

fn forget(call: &Call) -> Result<Forget, Failure> {
    let input: ForgetInput = read(&call.input)?;
    let which = match (input.ids, input.run, input.source, input.all) {
        (Some(ids), None, None, None) => Which::Ids(ids),
        (None, Some(run), None, None) => Which::Run(run),
        (None, None, Some(source), None) => Which::Source(source),
        (None, None, None, Some(true)) => Which::All,
        _ => {
            let message = "give one of `ids`, `run`, `source` and `all: true`";
            return Err(invalid("bad_input", message));
        }
    };
    Ok(Forget { of: Of::read(input.namespace, call)?, which })
}

fn within(name: &str, text: &str, max: usize) -> Result<(), Failure> {
    // A text has at least as many bytes as characters: most need not be counted.
    if text.len() > max && text.chars().nth(max).is_some() {
        return Err(invalid("too_long", format!("`{name}` has more than {max} characters")));
    }
    Ok(())
}
