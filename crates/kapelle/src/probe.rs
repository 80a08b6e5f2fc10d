//! A server without a port: what `fuzz/` and whoever else feeds it bytes talks to.
//!
//! **Invariant:** what answers is what answers at a port: the same connection, the same door, the same routes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kapelle_api::Client;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::library::Error;
use crate::node::{Node, Place, Reachable, Setup};
use crate::server::door::guard::Guard;
use crate::server::door::limits::{Limits, Rates};
use crate::server::tcp;

/// How long is waited for something of a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node in memory, and the door in front of it.
pub struct Probe {
    node: Node,
    router: Router,
}

impl Probe {
    /// Begins, with nothing in its store. Needs a tokio runtime.
    pub async fn open() -> Result<Self, Error> {
        let plain = Setup::plain(Place::Memory, Reachable::No);
        // Runs begin somewhere, also where there is no store.
        let opened = Node::open(Setup { roots: vec!["/".into()], ..plain }).await;
        let node = opened.map_err(|error| Error::Open(error.to_string()))?;
        let guard = Guard {
            keys: node.app.keys().clone(),
            tokens: None,
            audit: node.app.audit().clone(),
            tickets: node.app.tickets().clone(),
            at: SocketAddr::from((Ipv4Addr::LOCALHOST, 4700)),
            hosts: Vec::new(),
            origins: vec!["https://a.example".to_owned()],
            limits: Arc::new(Limits::new(Rates { requests: 0, control: 0, unknown: 0 })),
            open: false,
        };
        let router = crate::server::guarded(node.app.clone(), Arc::new(guard));
        Ok(Self { node, router })
    }

    /// The owner of the store, who need not come through the door.
    #[must_use]
    pub fn owner(&self) -> Client {
        self.node.app.client()
    }

    /// Answers on a connection until it ends.
    pub async fn answer<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tcp::answer_one(stream, self.router.clone(), self.node.app.rooms(), PATIENCE).await;
    }

    /// Ends at once.
    pub async fn close(self) -> Result<(), Error> {
        let closed = self.node.close(Duration::ZERO).await;
        closed.map_err(|error| Error::Open(error.to_string()))
    }
}
