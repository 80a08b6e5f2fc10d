//! A server that knows nothing: answers of a given length, and a stream that says to all what it is told.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::cli::exit::Stop;
use crate::cli::out;

/// Answers until it is killed: `/{n}` with n bytes, `/events` with what is posted to `/say`.
pub(in crate::cli::bench) async fn serve() -> Result<(), Stop> {
    let (say, _) = broadcast::channel::<Bytes>(64);
    let router = Router::new()
        .route(
            "/say",
            post(async |State(say): State<broadcast::Sender<Bytes>>, told: Bytes| {
                say.send(told).ok();
            }),
        )
        .route("/events", get(async |State(say): State<broadcast::Sender<Bytes>>| events(&say)))
        .route("/{length}", get(of_length).post(of_length))
        .with_state(say);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    out::line(&format!("listening on http://{}", listener.local_addr()?))?;
    use axum::serve::ListenerExt as _;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}

async fn of_length(Path(length): Path<usize>, _body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], "x".repeat(length)).into_response()
}

fn events(say: &broadcast::Sender<Bytes>) -> Response {
    let told = stream::unfold(say.subscribe(), |mut told| async {
        let bytes = told.recv().await.ok()?;
        Some((bytes, told))
    });
    let body = Body::from_stream(told.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
