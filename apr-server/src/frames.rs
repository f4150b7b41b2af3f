//! Answers that come in pieces: server-sent events and lines of JSON.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use http_body::{Body as HttpBody, Frame};
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces that may wait for a client that reads slowly; then the next one is not made.
const WAITING: usize = 16;

/// A body whose pieces come from elsewhere.
struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Begins a response in pieces. It ends when the sender is dropped; when the client goes
/// away, the sender is closed.
pub(crate) fn response(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let mut response = Response::new(Body::new(Pieces(pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on know this one.
    let no_buffer = HeaderName::from_static("x-accel-buffering");
    headers.insert(no_buffer, HeaderValue::from_static("no"));
    (sender, response)
}

/// Writes an event without a name.
pub(crate) fn event(data: &Value, out: &mut String) {
    event_of(out, |out| out.push_str(&data.to_string()));
}

/// Writes an event whose data `write` writes in one line.
pub(crate) fn event_of(out: &mut String, write: impl FnOnce(&mut String)) {
    out.push_str("data: ");
    write(out);
    out.push_str("\n\n");
}

/// What ends a stream of OpenAI's.
pub(crate) const DONE: &str = "data: [DONE]\n\n";
/// What shows that a stream lives; clients skip it.
pub(crate) const PING: &str = ": ping\n\n";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let mut out = String::new();
        event(&json!({"text": "a\n\ndata: b\r\u{2028}"}), &mut out);
        assert_eq!(out, "data: {\"text\":\"a\\n\\ndata: b\\r\u{2028}\"}\n\n");
    }
}
