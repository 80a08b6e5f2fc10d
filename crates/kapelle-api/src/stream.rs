//! Streams of events: their frames, and tickets to open one.

use serde::{Deserialize, Serialize};

use crate::Json;

/// One frame of a stream of events: a text message of a WebSocket, and the same as a server-sent event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Frame {
    /// Where to go on after it, by `?after=` or `Last-Event-ID`; none if it is live only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// `message` for an event of the run; `lagged` and `error` end the stream before the run does.
    pub event: String,
    /// An `Event`, `Lagged` or a `Problem`.
    pub data: Json,
}

/// The last frame of a stream whose reader took nothing for too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lagged {
    /// The last event that was sent: go on after it.
    pub after: u64,
}

/// `POST /stream-tickets`: which stream is to be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewStreamTicket {
    /// The run: its id, a unique end of it, or its task id.
    pub run: String,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamTicket {
    /// For `?ticket=`, once.
    pub ticket: String,
    /// What it opens, and nothing else.
    pub path: String,
    /// From when on it opens nothing.
    pub expires_at: String,
}
