//! What a command writes to stdout: a value, or an artifact where it is long.

use bytes::{Bytes, BytesMut};
use kapelle_core::port::agent::{ArtifactSink, Desk, Failure, FailureKind};
use kapelle_core::{Artifact, Json};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::input::Parse;
use super::reference;
use crate::input::invalid;

/// The longest stdout, in bytes, that is a value.
const VALUE_MAX: usize = 1 << 20;
/// How much is read at once.
const PIECE: usize = 64 << 10;

/// The artifact of a long stdout.
pub(super) const NAME: &str = "stdout";

/// All that a command wrote to stdout.
pub(super) enum Stdout {
    Short(Vec<u8>),
    Long(Box<dyn ArtifactSink>),
}

/// Reads `from` to its end, in memory that does not grow with its length.
pub(super) async fn read(
    mut from: impl AsyncRead + Unpin,
    parse: Parse,
    desk: &dyn Desk,
) -> Result<Stdout, Failure> {
    let mut kept = Vec::new();
    let mut sink = None;
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        piece.reserve(PIECE);
        let read = from.read_buf(&mut piece).await.map_err(|error| {
            let message = format!("its output could not be read: {error}");
            Failure::new(FailureKind::Crashed, "output_lost", message).uncertain()
        })?;
        if read == 0 {
            return Ok(sink.map_or(Stdout::Short(kept), Stdout::Long));
        }
        let piece = piece.split().freeze();
        match &mut sink {
            Some(sink) => sink.write(piece).await?,
            None if kept.len() + piece.len() <= VALUE_MAX => kept.extend_from_slice(&piece),
            None if parse == Parse::Json => {
                let message = "its output is longer than the 1 MiB of JSON that a value may have";
                return Err(invalid("output_too_long", message));
            }
            None => {
                let mut new = desk.artifact(NAME, "text/plain").await?;
                new.write(Bytes::from(std::mem::take(&mut kept))).await?;
                new.write(piece).await?;
                sink = Some(new);
            }
        }
    }
}

impl Stdout {
    /// The value, and the artifact where it is long.
    pub(super) async fn finish(self, parse: Parse) -> Result<(Json, Option<Artifact>), Failure> {
        match self {
            Self::Long(sink) => {
                let artifact = sink.finish().await?;
                Ok((reference(&artifact), Some(artifact)))
            }
            Self::Short(bytes) => Ok((value(&bytes, parse)?, None)),
        }
    }
}

fn value(bytes: &[u8], parse: Parse) -> Result<Json, Failure> {
    match parse {
        Parse::Text => Ok(String::from_utf8_lossy(bytes).into()),
        Parse::Lines => Ok(String::from_utf8_lossy(bytes).lines().collect()),
        Parse::Json => serde_json::from_slice(bytes)
            .map_err(|error| invalid("not_json", format!("its output is no JSON: {error}"))),
    }
}
