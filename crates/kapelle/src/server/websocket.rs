//! The events of a run over a WebSocket: each frame of the stream as one text message of JSON.
//!
//! **Invariants:** it goes one way. Who sends anything but `pong` and `close` is told so and closed; what
//! comes is bounded in bytes.

use std::pin::pin;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::header;
use axum::http::request::Parts;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::App;
use super::problem::Problem;
use super::rooms::Stay;
use super::streams::{Frame, Upkeep};

/// How much is read and written at once, and the longest message that is listened to, in bytes.
const BUFFER: usize = 4 << 10;
/// How long nothing may be heard, in spite of pings: whoever is slow to read answers late.
const UNHEARD_MAX: Duration = Duration::from_secs(120);
/// How long the other side has to close as well.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A wish to go on as a WebSocket, and what a stream of either kind keeps.
pub(super) struct Upgrade(pub(super) Option<WebSocketUpgrade>, pub(super) Stay);

impl FromRequestParts<App> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let stay = Stay::of(&parts.extensions);
        let wish = parts.headers.get(header::UPGRADE).map(|wish| wish.as_bytes());
        if !wish.is_some_and(|wish| wish.eq_ignore_ascii_case(b"websocket")) {
            return Ok(Self(None, stay));
        }
        let upgrade = WebSocketUpgrade::from_request_parts(parts, app).await;
        let upgrade = upgrade.map_err(|no| Problem::invalid("bad_upgrade", no.body_text()))?;
        let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER);
        let upgrade = upgrade.max_message_size(BUFFER).max_frame_size(BUFFER);
        Ok(Self(Some(upgrade), stay))
    }
}

/// Why a WebSocket is closed, as the other side is told.
type Why = (u16, &'static str);

const DONE: Why = (1000, "that was the last event");
const LEAVING: Why = (1001, "the server leaves: go on after the last id, in a moment");
const NO_FRAME: Why = (1002, "no frame of a client: masked, whole, at most 4096 bytes");
const ONE_WAY: Why = (1008, "nothing is taken here: this stream goes one way");
const FAILED: Why = (1011, "the stream cannot go on: the last message says why");
const LAGGED: Why = (1013, "nothing was taken for too long: go on after the last id");

/// Sends what there is until it ends, or until one side leaves.
pub(super) async fn carry(
    mut socket: WebSocket,
    frames: impl Stream<Item = Frame>,
    upkeep: Upkeep,
    leaving: CancellationToken,
) {
    let why = converse(&mut socket, frames, upkeep, leaving).await;
    if let Some((code, reason)) = why {
        let frame = CloseFrame { code, reason: reason.into() };
        // What still comes is passed over, so that the close is not lost with it.
        let last_words = async {
            socket.send(Message::Close(Some(frame))).await.ok()?;
            while socket.recv().await?.is_ok() {}
            Some(())
        };
        timeout(LAST_WORDS, last_words).await.ok();
    }
}

/// `None`: the other side is gone.
async fn converse(
    socket: &mut WebSocket,
    frames: impl Stream<Item = Frame>,
    upkeep: Upkeep,
    leaving: CancellationToken,
) -> Option<Why> {
    let mut frames = pin!(frames);
    let mut beat = interval_at(Instant::now() + upkeep.heartbeat, upkeep.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let unheard_max = UNHEARD_MAX.max(3 * upkeep.heartbeat);
    let (mut heard_at, mut end) = (Instant::now(), DONE);
    loop {
        tokio::select! {
            frame = frames.next() => {
                let Some(frame) = frame else { return Some(end) };
                end = match frame.event {
                    "lagged" => LAGGED,
                    "error" => FAILED,
                    _ => DONE,
                };
                let text = serde_json::to_string(&frame).expect("a frame is JSON");
                socket.send(Message::Text(text.into())).await.ok()?;
            }
            heard = socket.recv() => match heard? {
                Ok(Message::Ping(_) | Message::Pong(_)) => heard_at = Instant::now(),
                Ok(Message::Close(_)) => {
                    // Its answer leaves with the next look.
                    timeout(LAST_WORDS, socket.recv()).await.ok();
                    return None;
                }
                Ok(Message::Text(_) | Message::Binary(_)) => return Some(ONE_WAY),
                Err(_) => return Some(NO_FRAME),
            },
            _ = beat.tick() => {
                if heard_at.elapsed() > unheard_max {
                    return None;
                }
                socket.send(Message::Ping("".into())).await.ok()?;
            }
            () = leaving.cancelled() => return Some(LEAVING),
        }
    }
}
