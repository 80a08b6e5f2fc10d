//! `[server]`: how this node is reached from the network.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// How many connections are open at once.
    pub(crate) connections: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4700)),
            hosts: Vec::new(),
            allow_origins: Vec::new(),
            roots: Vec::new(),
            connections: 12_000,
        }
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=100_000).contains(&self.connections) {
            return Err(format!("`server.connections` is 1 to 100000, not {}", self.connections));
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
