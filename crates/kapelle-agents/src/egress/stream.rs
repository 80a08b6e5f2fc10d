//! An answer that is read as it comes.

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::error::explain;
use super::{Egress, Error, Request, host_of};

/// An answer whose body is still on its way.
#[derive(Debug)]
pub struct Stream {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    answer: reqwest::Response,
    host: String,
    left: usize,
    max: usize,
}

impl Egress {
    /// Asks, and answers as soon as the other side begins to. A redirect is an answer like others.
    pub async fn open(&self, request: Request) -> Result<Stream, Error> {
        let answer = self.ask(&request, self.policy).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let (host, max) = (host_of(&request.url), self.limits.body_max);
        Ok(Stream { status, headers, answer, host, left: max, max })
    }
}

impl Stream {
    /// The next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.answer.chunk().await.map_err(|error| explain(&self.host, &error))?;
        let Some(piece) = piece else { return Ok(None) };
        let left = self.left.checked_sub(piece.len());
        self.left = left.ok_or(Error::TooLarge { host: self.host.clone(), max: self.max })?;
        Ok(Some(piece))
    }

    /// The start of what is left of the body, at most 64 KiB, as far as it comes.
    pub async fn rest(&mut self) -> Bytes {
        let mut rest = BytesMut::new();
        while rest.len() < 64 << 10
            && let Ok(Some(piece)) = self.next().await
        {
            rest.extend_from_slice(&piece);
        }
        rest.freeze()
    }
}
