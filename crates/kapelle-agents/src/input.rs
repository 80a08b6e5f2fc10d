//! What the agents share in reading their input and naming what went wrong.

use std::time::Duration;

use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads an action's input; what does not fit is `invalid`.
pub(crate) fn read<T: DeserializeOwned>(input: &Json) -> Result<T, Failure> {
    T::deserialize(input).map_err(|error| invalid("bad_input", error.to_string()))
}

/// A failure that lies in the step and would come again.
pub(crate) fn invalid(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, code, message)
}

/// Refuses an action that the agent has not.
pub(crate) fn expect_action(agent: &str, has: &str, wanted: &str) -> Result<(), Failure> {
    if wanted == has {
        return Ok(());
    }
    Err(invalid("no_such_action", format!("`{agent}` has no action `{wanted}`, only `{has}`")))
}

/// The failure of a call that somebody stopped: nobody knows how far it got.
pub(crate) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "cancelled", "cancelled while it ran").uncertain()
}

/// A span of time as people write it (`"100ms"`), or a number of milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Ms(u64),
            Text(String),
        }
        match Written::deserialize(from)? {
            Written::Ms(ms) => Ok(Self(Duration::from_millis(ms))),
            Written::Text(text) => kapelle_core::parse_duration(&text).map(Self).ok_or_else(|| {
                serde::de::Error::custom(format!("`{text}` is no duration such as `100ms` or `2s`"))
            }),
        }
    }
}

/// A text, number or boolean as text; `None` for anything else.
pub(crate) fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
