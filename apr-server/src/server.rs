//! The server itself: listening, connections, and the way to the end.
//!
//! Each connection is a task that speaks HTTP/1.1 through hyper, with a limit on the time for
//! a head, for a body and for taking what is sent. When a connection breaks, hyper drops what
//! was under way on it, and with it the tickets of its completions.
//!
//! At the end new requests are refused while running ones have a grace period; then those are
//! told, and connections close.

mod connections;
mod patient_writer;
mod refusals;
mod unread;

use std::{
    convert::Infallible,
    net::TcpListener as StdListener,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::Request,
    response::Response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use self::{
    connections::{Busy, Connection, Connections},
    patient_writer::PatientWriter,
    refusals::Refusals,
    unread::Unread,
};
use crate::{
    app::{App, COMPILING_AT_A_TIME, Phase},
    config::Config,
    error::ServerError,
    exchange::{self, BUFFER_BYTES},
    model::ServedModel,
    routes,
};

/// Threads for input and output; they compute nothing that takes long.
const IO_THREADS: usize = 2;
/// Threads that read bodies and render conversations.
const BLOCKING_THREADS: usize = COMPILING_AT_A_TIME + 1;
/// What is waited after an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// What ended completions and closing connections have.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A server. It answers from the start, and serves once it has a model.
#[derive(Clone, Debug)]
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// Makes a server that has no model yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            app: Arc::new(App::new(config)),
        }
    }

    /// Begins to serve a model; until then requests are told that it is being loaded. Only
    /// the first model counts.
    pub fn set_model(&self, model: ServedModel) {
        self.app.set_model(model);
    }

    /// Serves until `shutdown` is there and what was running has come to an end or the grace
    /// period is over. Then the engine of the model is told to take no more requests.
    ///
    /// # Errors
    /// The socket cannot be used, or threads cannot be started.
    pub fn run(
        &self,
        listener: StdListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("apr-http")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| ServerError::Runtime { source })?;
        let done = runtime.block_on(listen(&self.app, listener, shutdown));
        runtime.shutdown_timeout(LAST_WORDS);
        self.app.enter(Phase::Ending);
        self.app.drain();
        done
    }
}

async fn listen(
    app: &Arc<App>,
    listener: StdListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let prepared = listener
        .set_nonblocking(true)
        .and_then(|()| listener.local_addr());
    let unusable = |source| ServerError::Listener { source };
    let address = prepared.map_err(unusable)?;
    let listener = TcpListener::from_std(listener).map_err(unusable)?;
    let door = Door {
        app: Arc::clone(app),
        router: routes::router(app),
        connections: Connections::new(app.config.max_connections),
        is_loopback: address.ip().is_loopback(),
    };
    tokio::select! {
        () = door.accept_all(&listener) => {}
        () = shutdown => {}
    }
    tracing::info!(grace_s = app.config.grace.as_secs(), "draining");
    app.enter(Phase::Draining);
    tokio::select! {
        () = door.accept_all(&listener) => {}
        () = app.idle() => {}
        () = tokio::time::sleep(app.config.grace) => {
            tracing::warn!("the grace period is over, running requests are ended");
        }
    }
    app.enter(Phase::Ending);
    let _ = tokio::time::timeout(LAST_WORDS, app.idle()).await;
    let closing = async {
        while door.connections.n_open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, closing).await;
    tracing::info!("stopped");
    Ok(())
}

/// What every new connection gets.
#[derive(Clone)]
struct Door {
    app: Arc<App>,
    router: Router,
    connections: Arc<Connections>,
    is_loopback: bool,
}

impl Door {
    async fn accept_all(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.enter(stream),
                Err(error) => {
                    tracing::warn!(error = %error.kind(), "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn enter(&self, stream: TcpStream) {
        let Some((connection, made_room)) = self.connections.enter() else {
            tokio::spawn(turn_away(stream));
            return;
        };
        if made_room {
            let evicted = &self.app.metrics.connections_evicted;
            evicted.fetch_add(1, Ordering::Relaxed);
        }
        // Small events of a stream must not wait for each other.
        let _ = stream.set_nodelay(true);
        tokio::spawn(self.clone().converse(stream, connection));
    }

    /// Speaks with a client until one of both has enough.
    async fn converse(self, stream: TcpStream, connection: Arc<Connection>) {
        let config = &self.app.config;
        let (way_in, way_out) = stream.into_split();
        let stream = tokio::io::join(way_in, PatientWriter::new(way_out, config.io_timeout));
        let app = Arc::clone(&self.app);
        let stream = Refusals::new(stream, move |status| exchange::refuse(&app, status));
        self.app.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let service = service_fn(|request| self.respond(request, &connection));
        let spoken = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut spoken = pin!(spoken);
        let mut phase = self.app.watch_phase();
        tokio::select! {
            // What a broken connection says helps nobody.
            _ = spoken.as_mut() => {}
            () = connection.evicted() => {}
            () = App::ending(&mut phase) => {
                spoken.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(LAST_WORDS, spoken).await;
            }
        }
        self.app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Result<Response<BusyBody>, Infallible> {
        let busy = connection.begin();
        let (parts, body) = request.into_parts();
        let body = Unread::new(body, &parts.headers);
        let request = Request::from_parts(parts, Body::new(body));
        let router = self.router.clone();
        let response = exchange::answer(&self.app, router, self.is_loopback, request).await;
        Ok(response.map(|body| BusyBody { body, _busy: busy }))
    }
}

/// Tells a client that there is no room, without waiting for its request.
async fn turn_away(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
        connection: close\r\ncontent-type: application/json\r\ncontent-length: 134\r\n\r\n\
        {\"error\":{\"message\":\"all connections of the server are in use\",\
        \"type\":\"unavailable_error\",\"param\":null,\"code\":\"too_many_connections\"}}";
    let write = async {
        if stream.writable().await.is_ok() {
            let _ = stream.try_write(ANSWER);
        }
    };
    let _ = tokio::time::timeout(PAUSE, write).await;
}

/// The body of a response, during which its connection is busy.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
