//! `[server]`: how this node is reached from the network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kapelle_agents::egress::Policy;
use serde::{Deserialize, Serialize};

use super::duration;
use crate::server::Upkeep;
use crate::server::door::limits::Rates;
use crate::server::rooms::Space;

/// What a span of time may be here.
const SPAN_MIN: Duration = Duration::from_millis(10);
const SPAN_MAX: Duration = Duration::from_secs(3_600);

/// How a node is reached from the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Names that it is called by, beside its address: what `Host` may say.
    pub(crate) hosts: Vec<String>,
    /// Pages of these origins may ask: `https://example.org`.
    pub(crate) allow_origins: Vec<String>,
    /// Folders in which runs of those who are not its owner may begin; none: one of its own in the store.
    pub(crate) roots: Vec<PathBuf>,
    /// Whether what it works on may reach loopback and private addresses.
    pub(crate) private_addresses: bool,
    /// How many connections are open at once.
    pub(crate) connections: u32,
    /// How many requests are at work at once; as many besides that are about what is under way.
    pub(crate) requests: u32,
    /// How many streams are open at once, with workers that wait for work.
    pub(crate) streams: u32,
    /// How many bytes of bodies, and of answers that nobody has read yet, are held at once.
    pub(crate) memory: u64,
    /// How many open runs this node works on at once: more are not taken from the network.
    pub(crate) open_runs: u32,
    /// How many requests a second each key, and each address, may make; 0: as many as it likes.
    pub(crate) requests_per_second: u32,
    /// The same for those that pause, resume, cancel, approve and answer.
    pub(crate) control_per_second: u32,
    /// How many a second of each address are refused for want of a key before it is told to wait.
    pub(crate) unknown_per_second: u32,
    /// How long is waited for the next piece of a body.
    #[serde(with = "duration")]
    pub(crate) body_patience: Duration,
    /// How often a quiet stream shows that it lives.
    #[serde(with = "duration")]
    pub(crate) heartbeat: Duration,
    /// How long the reader of a stream may take nothing.
    #[serde(with = "duration")]
    pub(crate) stream_patience: Duration,
}

impl Default for Server {
    fn default() -> Self {
        let Upkeep { heartbeat, patience } = Upkeep::default();
        let Space { connections, requests, streams, bytes, runs } = Space::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4700)),
            hosts: Vec::new(),
            allow_origins: Vec::new(),
            roots: Vec::new(),
            private_addresses: false,
            connections,
            requests,
            streams,
            memory: bytes,
            open_runs: runs,
            requests_per_second: 50_000,
            control_per_second: 1_000,
            unknown_per_second: 100,
            body_patience: Duration::from_secs(10),
            heartbeat,
            stream_patience: patience,
        }
    }
}

impl Server {
    pub(crate) fn upkeep(&self) -> Upkeep {
        Upkeep { heartbeat: self.heartbeat, patience: self.stream_patience }
    }

    pub(crate) const fn egress(&self) -> Policy {
        if self.private_addresses { Policy::Operator } else { Policy::Global }
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates {
            requests: self.requests_per_second,
            control: self.control_per_second,
            unknown: self.unknown_per_second,
        }
    }

    pub(crate) const fn space(&self) -> Space {
        let Self { connections, requests, streams, memory: bytes, open_runs: runs, .. } = *self;
        Space { connections, requests, streams, bytes, runs }
    }

    fn check_space(&self) -> Result<(), String> {
        for (name, count, max) in [
            ("connections", self.connections, 100_000),
            ("requests", self.requests, 100_000),
            ("streams", self.streams, 100_000),
            ("open_runs", self.open_runs, 100_000_000),
        ] {
            if !(1..=max).contains(&count) {
                return Err(format!("`server.{name}` is 1 to {max}, not {count}"));
            }
        }
        if self.memory < 1 << 20 {
            return Err(format!("`server.memory` is 1048576 or more, not {}", self.memory));
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.check_space()?;
        for (name, rate) in [
            ("requests", self.requests_per_second),
            ("control", self.control_per_second),
            ("unknown", self.unknown_per_second),
        ] {
            if rate > 1_000_000 {
                return Err(format!("`server.{name}_per_second` is at most 1000000, not {rate}"));
            }
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&self.body_patience) {
            return Err("`server.body_patience` is 100ms to 10m".to_owned());
        }
        for (name, span) in
            [("heartbeat", self.heartbeat), ("stream_patience", self.stream_patience)]
        {
            if !(SPAN_MIN..=SPAN_MAX).contains(&span) {
                return Err(format!(
                    "`server.{name}` is 10 ms to 1 h, not {} ms",
                    span.as_millis()
                ));
            }
        }
        if let Some(odd) = self.roots.iter().find(|root| !root.is_absolute()) {
            return Err(format!("`server.roots`: `{}` is no absolute folder", odd.display()));
        }
        let is_origin = |origin: &&String| {
            url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == **origin)
        };
        if let Some(odd) = self.allow_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(format!(
                "`server.allow_origins`: `{odd}` is no origin such as `https://example.org`"
            ));
        }
        Ok(())
    }
}
