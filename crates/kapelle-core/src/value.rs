//! Values that steps hand on: small ones in the journal, large ones by digest.
//!
//! **Invariant:** an event never holds more than [`INLINE_MAX`] bytes of a user's value, so that a
//! journal grows with what happened, not with what it was about: a plan is kept once for all its runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, StepNo};

/// A JSON value.
pub type Json = serde_json::Value;

/// The largest canonical JSON, in bytes, that an event holds itself.
pub const INLINE_MAX: usize = 256;
/// The largest payload, in bytes, that is a row; larger ones are files.
pub const ROW_MAX: usize = 1 << 20;

/// A value as the journal knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// The value itself, small.
    Inline(Arc<Json>),
    /// A payload: the canonical JSON with this digest and length.
    Digest {
        /// Of the canonical JSON.
        digest: Digest,
        /// In bytes.
        len: u64,
    },
    /// The outputs of `count` steps from `first` on, in order; never copied.
    List {
        /// The first of them.
        first: StepNo,
        /// How many.
        count: u32,
    },
    /// The outputs of these steps, in order.
    Picked(Vec<StepNo>),
    /// The outputs of the plan's steps that no other one needs, by their ids.
    Sinks,
}

impl Value {
    /// JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::Inline(Arc::new(Json::Null))
    }

    /// The value of `json`, and the payload to keep where it is too long to be inline.
    #[must_use]
    pub fn of(json: Json, inline_max: usize) -> (Self, Option<Payload>) {
        let text = canonical(&json);
        if text.len() <= inline_max {
            return (Self::Inline(Arc::new(json)), None);
        }
        let (value, payload) = Self::by_digest(text);
        (value, Some(payload))
    }

    /// The value whose canonical JSON is `text`, and the payload to keep.
    #[must_use]
    pub fn by_digest(text: String) -> (Self, Payload) {
        let payload = Payload::new(text.into());
        let (digest, len) = (payload.digest, payload.bytes.len() as u64);
        (Self::Digest { digest, len }, payload)
    }

    /// The digest of the payload, if it is one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Digest { digest, .. } => Some(*digest),
            Self::Inline(_) | Self::List { .. } | Self::Picked(_) | Self::Sinks => None,
        }
    }
}

/// Bytes kept by their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Of `bytes`.
    pub digest: Digest,
    /// The content.
    pub bytes: bytes::Bytes,
}

impl Payload {
    /// The payload with this content.
    #[must_use]
    pub fn new(bytes: bytes::Bytes) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// A payload with a name and a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What the agent called it, such as `report.md`: a relative path without `..`.
    pub name: Box<str>,
    /// Of the content.
    pub digest: Digest,
    /// The media type, such as `text/markdown`.
    #[serde(rename = "type")]
    pub media_type: Box<str>,
    /// In bytes.
    pub len: u64,
}

/// The one way to write `json`: keys in RFC 8785's order, no spaces, integers exact.
#[must_use]
pub fn canonical(json: &Json) -> String {
    let mut out = Vec::with_capacity(INLINE_MAX);
    write_canonical(json, &mut out);
    String::from_utf8(out).expect("JSON is text")
}

fn write_canonical(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Json::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_scalar(key, out);
                out.push(b':');
                write_canonical(value, out);
            }
            out.push(b'}');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => push_scalar(json, out),
    }
}

fn push_scalar<T: Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("a scalar is JSON");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_json_sorts_keys_by_utf_16_and_keeps_integers() {
        let json =
            json!({"b": [1, {"z": null, "a": "\n"}], "\u{1F600}": 1, "\u{FB33}": 2, "a": u64::MAX});
        let expected = "{\"a\":18446744073709551615,\"b\":[1,{\"a\":\"\\n\",\"z\":null}],\"\u{1F600}\":1,\"\u{FB33}\":2}";
        assert_eq!(canonical(&json), expected);
    }

    #[test]
    fn a_long_value_becomes_a_digest() {
        let (small, none) = Value::of(json!("x"), INLINE_MAX);
        assert_eq!((small, none), (Value::Inline(Arc::new(json!("x"))), None));
        let (large, payload) = Value::of(json!("x".repeat(300)), INLINE_MAX);
        assert_eq!(large.digest(), payload.map(|p| p.digest));
        assert!([INLINE_MAX, ROW_MAX].is_sorted(), "what no event holds is a row before a file");
    }
}
