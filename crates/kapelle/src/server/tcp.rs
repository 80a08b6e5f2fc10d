//! A door in the network: connections that are bounded in number, and heads of requests in time and size.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::door::guard::Peer;

/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may be, in bytes, and how many headers it may have.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;
/// How long the system is left alone after it had no connection for us.
const PAUSE: Duration = Duration::from_millis(50);

/// A port that is listened on.
pub(crate) struct Port {
    listener: TcpListener,
    at: SocketAddr,
}

/// A port that is answered on, until it is closed.
pub(crate) struct Serving {
    leave: watch::Sender<bool>,
    room: Arc<Semaphore>,
    connections: u32,
}

impl Port {
    /// Listens at `at`. Who connects waits for [`Self::serve`].
    pub(crate) async fn bind(at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let at = listener.local_addr()?;
        Ok(Self { listener, at })
    }

    /// Where it is, also where the system chose the number.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Answers from here on, on so many connections at once.
    pub(crate) fn serve(self, router: Router, connections: u32) -> Serving {
        let (leave, leaving) = watch::channel(false);
        let room = Arc::new(Semaphore::new(connections as usize));
        tokio::spawn(accept(self.listener, router, room.clone(), leaving));
        Serving { leave, room, connections }
    }
}

impl Serving {
    /// Takes no new requests, and waits at most `grace` for answers that are under way.
    pub(crate) async fn close(self, grace: Duration) {
        self.leave.send(true).ok();
        tokio::time::timeout(grace, self.room.acquire_many(self.connections)).await.ok();
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    room: Arc<Semaphore>,
    mut leaving: watch::Receiver<bool>,
) {
    loop {
        // Whoever comes when there is no room waits in the system's queue, which is bounded.
        let next = async {
            let place = room.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = leaving.changed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Too many open files, or one that went away at once.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (router, leaving) = (router.clone(), leaving.clone());
        tokio::spawn(async move {
            answer(stream, peer, router, leaving).await;
            drop(place);
        });
    }
}

/// Answers on a connection until it ends. Errors of single connections are theirs.
async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut leaving: watch::Receiver<bool>,
) {
    stream.set_nodelay(true).ok();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    http.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX).half_close(false);
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}
