//! What all requests share.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{api_error::ApiError, config::Config, metrics::Metrics, model::ServedModel};

/// Bytes of all bodies being read at a time, and of the trees of small ones, in bodies of the
/// greatest length.
const BODIES_AT_A_TIME: usize = 8;

/// Requests at a time that may be compiling grammars. There are more threads that read requests,
/// so that one without a grammar does not wait for those with one.
pub(crate) const COMPILING_AT_A_TIME: usize = 2;

/// How far the end of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are taken.
    Open,
    /// Running requests go on, new ones are refused.
    Draining,
    /// Running requests are ended.
    Ending,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    model: OnceLock<ServedModel>,
    phase: watch::Sender<Phase>,
    /// Completions that have not ended.
    active: watch::Sender<usize>,
    body_bytes: AtomicUsize,
    pub(crate) compiling: Arc<Semaphore>,
    /// Has a place for one.
    pub(crate) large_bodies: Arc<Semaphore>,
}

/// A completion that has not ended.
#[derive(Debug)]
pub(crate) struct Active(Arc<App>);

/// Bytes of a body that are held in memory.
#[derive(Debug)]
pub(crate) struct BodyBytes {
    app: Arc<App>,
    n: usize,
}

impl App {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            metrics: Metrics::default(),
            model: OnceLock::new(),
            phase: watch::channel(Phase::Open).0,
            active: watch::channel(0).0,
            body_bytes: AtomicUsize::new(0),
            compiling: Arc::new(Semaphore::new(COMPILING_AT_A_TIME)),
            large_bodies: Arc::new(Semaphore::new(1)),
        }
    }

    /// Begins to serve a model. Only the first one counts.
    pub(crate) fn set_model(&self, model: ServedModel) {
        let _ = self.model.set(model);
        // Either this sees the end, or who ends sees the model.
        if self.phase() == Phase::Ending {
            self.drain();
        }
    }

    /// Tells the engine of the model, if there is one, to take no more requests.
    pub(crate) fn drain(&self) {
        if let Some(model) = self.model.get() {
            model.engine.drain();
        }
    }

    /// Returns the model for looking at.
    pub(crate) fn loaded(&self) -> Result<&ServedModel, ApiError> {
        self.model.get().ok_or_else(|| ApiError::not_ready(false))
    }

    /// Returns the model for a request that makes it work.
    pub(crate) fn model(&self) -> Result<&ServedModel, ApiError> {
        match self.phase() {
            Phase::Open => self.loaded(),
            Phase::Draining | Phase::Ending => Err(ApiError::not_ready(true)),
        }
    }

    /// Refuses at once what would find the queue full after its prompt was read.
    pub(crate) fn check_queue(&self) -> Result<(), ApiError> {
        let n_waiting = self.model()?.engine.status().n_waiting;
        match n_waiting >= self.config.queue_len {
            true => Err(ApiError::queue_full(n_waiting)),
            false => Ok(()),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits until running requests are to be ended.
    pub(crate) async fn ending(phase: &mut watch::Receiver<Phase>) {
        // The sender lives as long as the app, which everybody here holds.
        let _ = phase.wait_for(|&phase| phase == Phase::Ending).await;
    }

    /// Goes on to a later phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    /// Counts a completion until the result is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.active.send_modify(|n| *n += 1);
        Active(Arc::clone(self))
    }

    /// Waits until no completion is left.
    pub(crate) async fn idle(&self) {
        // The sender is `self`, so the channel is open.
        let _ = self.active.subscribe().wait_for(|&n| n == 0).await;
    }

    /// Holds no bytes of a body yet.
    pub(crate) fn body(self: &Arc<Self>) -> BodyBytes {
        BodyBytes {
            app: Arc::clone(self),
            n: 0,
        }
    }

    /// Waits for one of some places.
    pub(crate) async fn turn(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        // They are never closed.
        Arc::clone(places).acquire_owned().await.ok()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.send_modify(|n| *n -= 1);
    }
}

impl BodyBytes {
    /// Takes more of what bodies may have together.
    pub(crate) fn add(&mut self, n: usize) -> Result<(), ApiError> {
        let most = self
            .app
            .config
            .max_body_bytes
            .saturating_mul(BODIES_AT_A_TIME);
        self.n += n;
        let all = self.app.body_bytes.fetch_add(n, Ordering::Relaxed) + n;
        if all <= most {
            return Ok(());
        }
        let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        let message = "too many bytes of other requests are being read";
        Err(ApiError::new(status, message).code("busy").header(
            axum::http::header::RETRY_AFTER,
            axum::http::HeaderValue::from_static("1"),
        ))
    }
}

impl Drop for BodyBytes {
    fn drop(&mut self) {
        self.app.body_bytes.fetch_sub(self.n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_together_are_bounded_and_give_back_what_they_took() {
        let config = Config {
            max_body_bytes: 10,
            ..Config::default()
        };
        let app = Arc::new(App::new(config));
        let mut one = app.body();
        assert!(one.add(80).is_ok());
        assert!(app.body().add(1).is_err());
        drop(one);
        assert!(app.body().add(80).is_ok());
    }

    #[test]
    fn phases_only_go_on() {
        let app = App::new(Config::default());
        app.enter(Phase::Ending);
        app.enter(Phase::Draining);
        assert_eq!(app.phase(), Phase::Ending);
    }
}
