//! A connection on which refusals have a body.
//!
//! hyper answers what is no HTTP, or has a head that is too long, by itself and without a word.
//! Its answer is the last thing on the connection and looks like nothing that a handler makes,
//! so it can be told by its bytes; an answer with the same status takes its place. After that
//! the connection is read to its end for a moment: if it were closed while the client is still
//! sending, the client would see a broken connection instead of the answer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How long a client that was refused may go on sending.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream, and what is said in place of hyper's refusals.
#[derive(Debug)]
pub(crate) struct Refusals<S, F> {
    stream: S,
    /// Makes the whole response, head and body.
    answer: F,
    /// Bytes of it that have not been written.
    unsaid: Vec<u8>,
    /// Runs from the end of it.
    alarm: Option<Pin<Box<Sleep>>>,
    has_refused: bool,
}

impl<S, F> Refusals<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(StatusCode) -> Vec<u8> + Unpin,
{
    pub(crate) const fn new(stream: S, answer: F) -> Self {
        Self {
            stream,
            answer,
            unsaid: Vec::new(),
            alarm: None,
            has_refused: false,
        }
    }

    fn say(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsaid.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsaid))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsaid.drain(..n);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what still comes, until it ends or has gone on for too long.
    fn hear_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        let mut bytes = [0; 8192];
        while alarm.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for Refusals<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S, F> AsyncWrite for Refusals<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(StatusCode) -> Vec<u8> + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.say(context))?;
        match bare_refusal(bytes) {
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
            Some((0, status)) => {
                self.unsaid = (self.answer)(status);
                self.has_refused = true;
                Poll::Ready(Ok(bytes.len()))
            }
            // The end of a good answer goes first.
            Some((start, _)) => Pin::new(&mut self.stream).poll_write(context, &bytes[..start]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A head with nothing behind it comes alone.
        if let [head] = slices {
            return self.poll_write(context, head);
        }
        ready!(self.say(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.say(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.say(context))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.has_refused {
            ready!(self.hear_out(context));
        }
        Poll::Ready(Ok(()))
    }
}

/// Finds an answer of hyper's own at the end of `bytes`: where it begins, and its status. It
/// is an error and has none but these three headers; ours have more.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    const START: &[u8] = b"HTTP/1.";
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes
        .windows(START.len())
        .rposition(|window| window == START)?;
    let mut lines = std::str::from_utf8(&bytes[start..])
        .ok()?
        .trim_end()
        .lines();
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok()?;
    let is_bare = lines.all(|line| {
        matches!(
            line.split_once(": "),
            Some(("content-length", "0") | ("connection", "close") | ("date", _))
        )
    });
    (is_bare && status.is_client_error()).then_some((start, status))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BARE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
        content-length: 0\r\ndate: Wed, 25 Nov 2026 01:00:00 GMT\r\n\r\n";

    #[test]
    fn only_bare_errors_at_the_end_are_refusals() {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(bare_refusal(BARE.as_bytes()), Some((0, status)));
        let behind = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{BARE}");
        let start = behind.len() - BARE.len();
        assert_eq!(bare_refusal(behind.as_bytes()), Some((start, status)));
        for other in [
            BARE.replace("431", "304"),
            BARE.replace("date", "x-request-id"),
            BARE.replace("content-length: 0", "content-length: 9"),
            format!("{BARE}0\r\n\r\n"),
            BARE.trim_end().to_owned(),
            "\r\n\r\n".to_owned(),
        ] {
            assert_eq!(bare_refusal(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_replaced_and_its_client_heard_out() {
        let (mut client, server) = tokio::io::duplex(64);
        let answer = |status: StatusCode| format!("our own {}", status.as_u16()).into_bytes();
        let mut stream = Refusals::new(server, answer);
        let conversation = tokio::spawn(async move {
            stream.write_all(b"good, ").await.unwrap();
            stream.write_all(BARE.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        client.write_all(&[b'x'; 5000]).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "good, our own 431");
        drop(client);
        conversation.await.unwrap();
    }
}
