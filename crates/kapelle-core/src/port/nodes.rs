//! The nodes port: which processes work on a store, and which of them are alive.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::journal::Error;
use crate::NodeId;

/// A process that works on a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Its process id.
    pub pid: u32,
    /// Its version of kapelle.
    pub version: Box<str>,
    /// Where its API listens: the path of a socket.
    pub socket: Option<Box<str>>,
}

/// The nodes of a store. One's own is a node for as long as this value lives.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Oneself.
    fn me(&self) -> &Node;

    /// Who works on the store now, oneself included.
    async fn list(&self) -> Result<Vec<Node>, Error>;

    /// Whether `node` is alive. Once `false`, it stays so: a node never comes back under its old name.
    async fn alive(&self, node: &NodeId) -> Result<bool, Error>;

    /// Whether child processes of dead nodes may still be running. Of any: who owned a shard when
    /// they were started is not known any more once somebody else had it for a moment.
    async fn has_orphans(&self) -> Result<bool, Error>;
}
