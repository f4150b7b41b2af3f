//! A job as a response in pieces.

use axum::{body::Bytes, response::Response};
use tokio::{sync::mpsc, time::Instant};

use super::{Running, Update};
use crate::{
    api_error::ApiError,
    frames::{self, PING},
};

/// Writes a job in the form of an API.
pub(crate) trait Writer: Send + 'static {
    /// What comes before everything.
    fn begin(&mut self, running: &Running, out: &mut String);

    /// Something has happened.
    fn update(&mut self, running: &Running, update: Update, out: &mut String);

    /// All choices are complete.
    fn end(&mut self, running: &Running, out: &mut String);

    /// Something went wrong, and nothing more will come.
    fn fail(&mut self, error: &ApiError, out: &mut String);

    /// What shows that the stream lives.
    fn ping(&self) -> &'static str {
        PING
    }
}

/// Answers with a stream that follows a job. When the client goes away, the job is dropped.
pub(crate) fn stream(
    running: Running,
    writer: impl Writer,
    content_type: &'static str,
) -> Response {
    let (pieces, response) = frames::response(content_type);
    tokio::spawn(follow(running, writer, pieces));
    response
}

async fn follow(mut running: Running, mut writer: impl Writer, pieces: mpsc::Sender<Bytes>) {
    let interval = running.app().config.ping_interval;
    let mut out = String::new();
    let mut is_over = false;
    let mut ping_at = Instant::now() + interval;
    writer.begin(&running, &mut out);
    while !is_over {
        if !out.is_empty() {
            if send(&pieces, &mut out).await.is_none() {
                return;
            }
            ping_at = Instant::now() + interval;
        }
        let update = tokio::select! {
            biased;
            () = pieces.closed() => return,
            update = running.next() => update,
            // Updates that say nothing to the client are no sign of life.
            () = tokio::time::sleep_until(ping_at) => {
                out.push_str(writer.ping());
                continue;
            }
        };
        match update {
            Ok(Some(update)) => writer.update(&running, update, &mut out),
            Ok(None) => {
                writer.end(&running, &mut out);
                is_over = true;
            }
            Err(error) => {
                writer.fail(&error, &mut out);
                is_over = true;
            }
        }
    }
    send(&pieces, &mut out).await;
}

/// Waits until the client can take more; `None` if it is gone.
async fn send(pieces: &mpsc::Sender<Bytes>, out: &mut String) -> Option<()> {
    let piece = Bytes::from(std::mem::take(out));
    pieces.send(piece).await.ok()
}
