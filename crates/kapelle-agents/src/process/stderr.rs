//! What a command writes to stderr: its newest line is progress, its end is kept.

use std::time::Duration;

use kapelle_core::port::agent::{Desk, Progress};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

/// How much of the end is kept, in bytes.
const TAIL_MAX: usize = 4 << 10;
/// The shortest time between two progress reports.
const PACE: Duration = Duration::from_millis(100);
/// The longest line that is shown, in characters.
const LINE_MAX: usize = 200;

/// Reads `from` to its end and gives the last 4 KiB of it; what cannot be read is left out.
pub(super) async fn tail(mut from: impl AsyncRead + Unpin, desk: &dyn Desk) -> String {
    let mut kept = Vec::new();
    let mut piece = vec![0; TAIL_MAX];
    let mut next = Instant::now();
    let mut unshown = false;
    loop {
        tokio::select! {
            read = from.read(&mut piece) => {
                let read = read.unwrap_or(0);
                if read == 0 {
                    break;
                }
                kept.extend_from_slice(&piece[..read]);
                kept.drain(..kept.len().saturating_sub(TAIL_MAX));
                unshown = true;
            }
            () = tokio::time::sleep_until(next), if unshown => {
                show(&kept, desk);
                unshown = false;
                next = Instant::now() + PACE;
            }
        }
    }
    if unshown {
        show(&kept, desk);
    }
    text(&kept)
}

fn show(kept: &[u8], desk: &dyn Desk) {
    let text = text(kept);
    // A progress bar rewrites its line after a carriage return.
    let newest = text.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty());
    if let Some(line) = newest {
        let message: String = line.chars().take(LINE_MAX).collect();
        desk.progress(Progress { message: Some(message.into()), fraction: None });
    }
}

/// The text of `kept`, without the rest of a character that was cut at its start.
fn text(kept: &[u8]) -> String {
    let is_rest = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let cut =
        if kept.len() == TAIL_MAX { kept.iter().take(3).take_while(is_rest).count() } else { 0 };
    String::from_utf8_lossy(&kept[cut..]).into_owned()
}
