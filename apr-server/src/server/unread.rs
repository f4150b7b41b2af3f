//! The body of a request, of which nothing may be left.
//!
//! A request can be answered before its body has been read: the key is wrong, there is no such
//! path, the queue is full. A connection that is closed while its client is still sending is
//! broken for the client, who never sees the answer. So what nobody wanted is read for a while
//! beside the answer, and forgotten.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// How long a client may go on sending what nobody wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// A body that is read to its end when it is dropped.
#[derive(Debug)]
pub(crate) struct Unread {
    /// `None` when it has come to its end.
    body: Option<Incoming>,
    /// Whether the client sends it unasked.
    is_coming: bool,
}

impl Unread {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap) -> Self {
        Self {
            body: Some(body),
            // `100-continue` is what the client waits for before it sends anything.
            is_coming: !headers.contains_key(header::EXPECT),
        }
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_coming = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(Incoming::size_hint)
            .unwrap_or_default()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let rest = self
            .body
            .take()
            .filter(|body| self.is_coming && !body.is_end_stream());
        let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) else {
            return;
        };
        runtime.spawn(tokio::time::timeout(PATIENCE, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
