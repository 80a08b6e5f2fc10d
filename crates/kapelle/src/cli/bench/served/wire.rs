//! A connection to a server, as thin as can be: what is measured is the server, not its client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::failed;
use crate::cli::exit::Stop;

/// A connection that is kept.
pub(in crate::cli::bench) struct Line {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer with its whole body.
pub(in crate::cli::bench) struct Answer<'a> {
    pub(in crate::cli::bench) status: u16,
    pub(in crate::cli::bench) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The body of a success.
    pub(in crate::cli::bench) fn done(&self) -> Result<&'a [u8], Stop> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let body = String::from_utf8_lossy(self.body);
        Err(failed(format!("the server answered {}: {body}", self.status)))
    }
}

impl Line {
    pub(in crate::cli::bench) async fn connect(at: SocketAddr) -> Result<Self, Stop> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends a request and reads the answer to its end.
    pub(in crate::cli::bench) async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>, Stop> {
        self.read.clear();
        self.stream.write_all(request).await?;
        let (head, status, len) = self.head().await?;
        while self.read.len() < head + len {
            self.more().await?;
        }
        Ok(Answer { status, body: &self.read[head..head + len] })
    }

    /// Sends a request whose answer never ends, and reads the head of it.
    pub(in crate::cli::bench) async fn open(&mut self, request: &[u8]) -> Result<(), Stop> {
        self.read.clear();
        self.stream.write_all(request).await?;
        let (head, status, _) = self.head().await?;
        self.read.drain(..head);
        if status == 200 { Ok(()) } else { Err(failed(format!("a stream answered {status}"))) }
    }

    /// What has come of such an answer and was not taken, after waiting for more of it.
    pub(in crate::cli::bench) async fn next(&mut self) -> Result<&mut Vec<u8>, Stop> {
        self.more().await?;
        Ok(&mut self.read)
    }

    async fn more(&mut self) -> Result<(), Stop> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(failed("the measured server hung up")),
            _ => Ok(()),
        }
    }

    /// How long the head of an answer is, its status, and how long its body.
    async fn head(&mut self) -> Result<(usize, u16, usize), Stop> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.read[..end]).map_err(failed)?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let len = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok((end, status.ok_or_else(|| failed("no HTTP"))?, len.unwrap_or(0)))
    }
}
