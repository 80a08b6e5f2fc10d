//! Durations as people write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    kapelle_core::parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no duration such as `500ms`, `30s` or `5m`"))
    })
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{}ms", duration.as_millis()))
}
