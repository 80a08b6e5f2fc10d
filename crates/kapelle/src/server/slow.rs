//! Clients that take their time: bodies that come too slowly, and answers that nobody fetches.
//!
//! **Invariant:** nobody keeps a connection by sending a byte now and then, or by reading none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a body has to bring in a second, in bytes, once the patience with it is over.
const PACE: f64 = 1024.0;

/// The body did not come fast enough.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub(super) struct TooSlow;

/// A body that is read as long as it comes.
pub(super) struct Paced {
    body: Incoming,
    patience: Duration,
    /// Since when it is waited for.
    begun: Option<Instant>,
    bytes: f64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// The same body, of which something comes within `patience`, and from then on enough a second.
    pub(super) const fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, begun: None, bytes: 0.0, timer: None }
    }

    fn is_slow(&self) -> bool {
        let spent = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        spent > self.patience && self.bytes / spent.as_secs_f64() < PACE
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.begun.get_or_insert_with(Instant::now);
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let patience = self.patience;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Some(Err(TooSlow.into())));
        };
        self.timer = None;
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes += f64::from(u32::try_from(data.len()).unwrap_or(u32::MAX));
            if self.is_slow() {
                return Poll::Ready(Some(Err(TooSlow.into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that ends when nobody reads what is sent.
pub(super) struct Read<S> {
    stream: S,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Read<S> {
    /// The same connection, on which what is sent may wait for so long.
    pub(super) const fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, timer: None }
    }

    /// What a write came to; an error if it waits for too long.
    fn waited<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Read<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Read<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.waited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.waited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// More than the system keeps of a connection.
    const MANY: usize = 64 << 20;

    async fn connected(patience: Duration) -> (Read<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Read::new(listener.accept().await.unwrap().0, patience), reader)
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_ends_its_connection() {
        let (mut answer, reader) = connected(Duration::from_millis(50)).await;
        let error = answer.write_all(&vec![0; MANY]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }

    #[tokio::test]
    async fn an_answer_that_is_read_comes_to_its_end() {
        let (mut answer, mut reader) = connected(Duration::from_secs(60)).await;
        let send = async move {
            answer.write_all(&vec![7; MANY]).await.unwrap();
            answer.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(send, reader.read_to_end(&mut got));
        assert_eq!(read.unwrap(), MANY);
    }
}
