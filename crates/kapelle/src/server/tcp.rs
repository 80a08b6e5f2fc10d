//! A door in the network: connections, as far as there are seats, and heads of requests bounded in time and size.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::door::guard::Peer;
use super::problem::Problem;
use super::rooms::{Rooms, Seat};
use super::slow::{Paced, Read};

/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may be, in bytes, and how many headers it may have.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;
/// How long an answer may wait to be read.
const UNREAD: Duration = Duration::from_secs(30);
/// How long the system is left alone after it had no connection for us.
const PAUSE: Duration = Duration::from_millis(50);
/// How many who connect wait in the system's queue.
const QUEUE: u32 = 1024;
/// What the system keeps of an answer until it is read, in bytes; Linux takes twice as much.
const UNREAD_MAX: u32 = 128 << 10;

/// A port that is listened on.
pub(crate) struct Port {
    listener: TcpListener,
    at: SocketAddr,
}

/// A port that is answered on, until it is closed.
pub(crate) struct Serving {
    leave: watch::Sender<bool>,
    rooms: Arc<Rooms>,
}

impl Port {
    /// Listens at `at`. Who connects waits for [`Self::serve`].
    pub(crate) fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // The port of a process that has just ended is free.
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(UNREAD_MAX)?;
        socket.bind(at)?;
        let listener = socket.listen(QUEUE)?;
        let at = listener.local_addr()?;
        Ok(Self { listener, at })
    }

    /// Where it is, also where the system chose the number.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Answers from here on. `patience`: how long it waits for something of a body.
    pub(crate) fn serve(self, router: Router, rooms: Arc<Rooms>, patience: Duration) -> Serving {
        let (leave, leaving) = watch::channel(false);
        tokio::spawn(accept(self.listener, (router, patience), rooms.clone(), leaving));
        Serving { leave, rooms }
    }
}

impl Serving {
    /// Takes no new requests, and waits at most `grace` for answers that are under way.
    pub(crate) async fn close(self, grace: Duration) {
        self.leave.send(true).ok();
        tokio::time::timeout(grace, self.rooms.empty()).await.ok();
    }
}

async fn accept(
    listener: TcpListener,
    (router, patience): (Router, Duration),
    rooms: Arc<Rooms>,
    mut leaving: watch::Receiver<bool>,
) {
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, rooms.seat().await)
        };
        let (accepted, seat) = tokio::select! {
            next = next => next,
            _ = leaving.changed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Too many open files, or one that went away at once.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(seat) = seat else { return };
        let (router, leaving) = (router.clone(), leaving.clone());
        stream.set_nodelay(true).ok();
        let whose = (Peer(peer.ip().to_canonical()), seat);
        tokio::spawn(answer((stream, whose), router, patience, leaving));
    }
}

/// Answers on one connection that is no port's, until it ends, as at a port.
pub(crate) async fn answer_one<S>(stream: S, router: Router, rooms: &Rooms, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(seat) = rooms.seat().await else { return };
    let (_stays, leaving) = watch::channel(false);
    answer((stream, (Peer(Ipv4Addr::LOCALHOST.into()), seat)), router, patience, leaving).await;
}

/// Answers on a connection until it ends. Errors of single connections are theirs.
async fn answer<S>(
    (stream, (peer, seat)): (S, (Peer, Seat)),
    router: Router,
    patience: Duration,
    mut leaving: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    http.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX).half_close(false);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(Paced::new(body, patience)));
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(seat.clone());
        framed(router.clone(), request)
    });
    let io = TokioIo::new(Read::new(stream, UNREAD));
    let mut connection = pin!(http.serve_connection(io, service).with_upgrades());
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

/// Answers a request whose end is where everybody sees it. After a body in chunks the connection is closed: what
/// somebody between us took for the next request is none. So is one that stands where others sit.
async fn framed(router: Router, request: Request<Body>) -> Result<Response, Infallible> {
    let headers = request.headers();
    let is_standing = request.extensions().get::<Seat>().is_some_and(|seat| seat.is_standing);
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let mut answer = if chunked && headers.contains_key(header::CONTENT_LENGTH) {
        Problem::invalid("bad_body", "a body has a length or comes in chunks, not both")
            .into_response()
    } else {
        router.oneshot(request).await?
    };
    if chunked || is_standing || answer.status() == StatusCode::REQUEST_TIMEOUT {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}
