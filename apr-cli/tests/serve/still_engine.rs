//! A server whose engine does no step, or has no model yet: what it says then, it says without
//! waiting for either.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use apr_server::{Config, ModelFacts, ServedModel, Server};
use generate::{Engine, EngineOptions};
use moe_model::{Model, ModelFile};
use quant_kernels::{Cpu, Isa, KvType};
use serde_json::json;
use tokenizer::Tokenizer;
use tokio::sync::oneshot;

use crate::{
    apis::{self, Api, last_word},
    wire::{PATIENCE, Response, get, post, receive, send},
};

const QUEUE_LEN: usize = 2;

static FILE: LazyLock<ModelFile> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bard.gguf");
    ModelFile::open(&path).unwrap()
});
static MODEL: LazyLock<Model<'static>> =
    LazyLock::new(|| Model::from_gguf(&FILE.gguf().unwrap()).unwrap());
static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let gguf = FILE.gguf().unwrap();
    Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap())
});
static CPU: LazyLock<Cpu> = LazyLock::new(|| Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap());

fn engine() -> Engine<'static> {
    let options = EngineOptions {
        n_parallel: 1,
        queue_len: QUEUE_LEN,
        n_ctx: 512,
        keys: KvType::F16,
        values: KvType::F16,
        batch_len: 64,
        step_time: Duration::from_millis(200),
        cache_bytes: 0,
        disk: None,
    };
    let begin = Instant::now();
    let clock = Box::new(move || begin.elapsed());
    Engine::new(&CPU, &MODEL, &TOKENIZER, options, clock).unwrap()
}

fn served(engine: &Engine<'_>) -> ServedModel {
    let facts = ModelFacts::new("built-in-model", &MODEL, "fp_test");
    ServedModel::new(engine.handle(), Arc::clone(&TOKENIZER), facts).unwrap()
}

/// A server in this process, which ends when it is dropped.
struct Running {
    server: Server,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(config: Config) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::new(config);
        let (stop, stopped) = oneshot::channel();
        let of_thread = server.clone();
        let thread = thread::spawn(move || {
            let stopped = async {
                let _ = stopped.await;
            };
            of_thread.run(listener, stopped).unwrap();
        });
        Self {
            server,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&mut stream, request);
        stream
    }

    fn ask(&self, request: &[u8]) -> Response {
        receive(&mut self.send(request)).unwrap()
    }

    fn post(&self, api: &Api) -> Response {
        self.ask(&request(api, false))
    }

    fn shut_down(&mut self) {
        self.stop = None;
    }

    fn end(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config() -> Config {
    Config {
        queue_len: QUEUE_LEN,
        grace: Duration::ZERO,
        ..Config::default()
    }
}

fn request(api: &Api, is_streamed: bool) -> Vec<u8> {
    let body = match api.has_stream {
        true => api.with(json!({"stream": is_streamed})),
        false => api.body.clone(),
    };
    post(api.path, body.to_string().as_bytes())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn assert_told(api: &Api, response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{}: {}", api.path, response.body);
    let complaint = api.complaint(&response.json(), code, "");
    assert_eq!(complaint, None, "{}", api.path);
}

#[test]
fn a_full_queue_is_told_while_the_engine_does_nothing() {
    let engine = engine();
    let running = Running::start(config());
    running.server.set_model(served(&engine));
    let apis = apis::working();
    let _waiting: Vec<_> = apis[..QUEUE_LEN]
        .iter()
        .map(|api| running.send(&request(api, false)))
        .collect();
    let status = || engine.handle().status();
    wait_until("the queue is full", || status().n_waiting == QUEUE_LEN);
    for api in &apis {
        for is_streamed in [false, true] {
            let response = running.ask(&request(api, is_streamed));
            assert_told(api, &response, 429, "queue_full");
            assert_eq!(response.header("retry-after"), Some("1"), "{}", api.path);
        }
    }
    let status = status();
    assert_eq!((status.n_steps, status.n_ended), (0, 0));
}

#[test]
fn a_request_that_takes_too_long_is_told_so() {
    let limit = Duration::from_millis(20);
    for api in &apis::working() {
        let mut engine = engine();
        let running = Running::start(Config {
            request_timeout: Some(limit),
            ..config()
        });
        running.server.set_model(served(&engine));
        let begin = Instant::now();
        assert_told(api, &running.post(api), 504, "timeout");
        assert!(begin.elapsed() >= limit);
        if api.has_stream {
            let response = running.ask(&request(api, true));
            assert_eq!(response.status, 200, "{}", api.path);
            let complaint = api.complaint(&last_word(&response), "timeout", "");
            assert_eq!(complaint, None, "{}", api.path);
        }
        while engine.step() {}
        let status = engine.handle().status();
        assert_eq!((status.n_waiting, status.n_steps), (0, 0), "{}", api.path);
    }
}

#[test]
fn requests_are_told_that_the_model_is_being_loaded() {
    let running = Running::start(config());
    let health = running.ask(&get("/health"));
    assert_eq!(
        (health.status, &health.json()["error"]["code"]),
        (503, &json!("loading"))
    );
    for api in &apis::all() {
        let response = running.post(api);
        assert_told(api, &response, 503, "loading");
        assert_eq!(response.header("retry-after"), Some("1"), "{}", api.path);
    }
    for path in [
        "/v1/models",
        "/v1/models/x",
        "/props",
        "/slots",
        "/api/tags",
    ] {
        assert_eq!(running.ask(&get(path)).status, 503, "{path}");
    }
    for path in ["/", "/metrics", "/openapi.json", "/api/version"] {
        assert_eq!(running.ask(&get(path)).status, 200, "{path}");
    }
    let engine = engine();
    running.server.set_model(served(&engine));
    for path in ["/health", "/v1/models", "/slots"] {
        assert_eq!(running.ask(&get(path)).status, 200, "{path}");
    }
}

#[test]
fn what_runs_at_the_end_is_finished_and_what_comes_is_refused() {
    let mut engine = engine();
    let mut running = Running::start(Config {
        grace: PATIENCE,
        ..config()
    });
    running.server.set_model(served(&engine));
    let apis = apis::working();
    let whole = Api {
        body: apis[0].with(json!({"ignore_eos": true})),
        ..apis[0].clone()
    };
    let mut streams = [
        running.send(&request(&whole, false)),
        running.send(&request(&apis[1], true)),
    ];
    wait_until("both wait", || engine.handle().status().n_waiting == 2);
    running.shut_down();
    wait_until("it is draining", || {
        running.ask(&get("/health")).status == 503
    });
    assert_eq!(
        running.ask(&get("/health")).json()["error"]["code"],
        "draining"
    );
    for api in &apis {
        assert_told(api, &running.post(api), 503, "draining");
    }
    while engine.step() {}
    let [whole, streamed] = streams.each_mut().map(|stream| receive(stream).unwrap());
    assert_eq!(whole.json()["usage"]["completion_tokens"], 2);
    assert_eq!(streamed.events().last().map(String::as_str), Some("[DONE]"));
    running.end();
}

#[test]
fn what_runs_after_the_grace_period_is_told_in_the_form_of_its_api() {
    for api in &apis::working() {
        for is_streamed in [false, true]
            .into_iter()
            .take(1 + usize::from(api.has_stream))
        {
            let engine = engine();
            let mut running = Running::start(config());
            running.server.set_model(served(&engine));
            let mut stream = running.send(&request(api, is_streamed));
            wait_until("it waits", || engine.handle().status().n_waiting == 1);
            running.shut_down();
            let response = receive(&mut stream).unwrap();
            match is_streamed {
                false => assert_told(api, &response, 503, "draining"),
                true => {
                    let complaint = api.complaint(&last_word(&response), "draining", "");
                    assert_eq!(complaint, None, "{}", api.path);
                }
            }
            running.end();
        }
    }
}
