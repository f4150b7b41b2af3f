//! Clients that are slow, idle, deaf, gone or too many: bounded, and nobody else suffers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    server::Server,
    wire::{get, post, receive, send},
};

const CHAT: &str = "/v1/chat/completions";
const ABORTED: &str = "apr_request_success_total{finished_reason=\"abort\"}";

/// A chat that goes on until the context is full.
fn endless(is_streamed: bool) -> Value {
    json!({
        "messages": [{"role": "user", "content": "Speak"}],
        "max_tokens": 100_000,
        "ignore_eos": true,
        "stream": is_streamed,
    })
}

fn ask(server: &Server, body: &Value) -> TcpStream {
    let mut stream = server.connect();
    send(&mut stream, &post(CHAT, body.to_string().as_bytes()));
    stream
}

/// Asks for something endless, and waits for its first words.
fn talking(server: &Server) -> TcpStream {
    let mut stream = ask(server, &endless(true));
    let mut start = String::new();
    while !start.contains("\"content\":\"") || start.matches("data: ").count() < 3 {
        let mut piece = [0; 512];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{start}");
        start.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    stream
}

/// Writes a byte now and then until the server has enough; returns all that it said.
fn drip(mut stream: TcpStream) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut said = Vec::new();
    loop {
        let _ = stream.write_all(b"x");
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return said,
            Ok(n) => said.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return said,
        }
    }
}

#[test]
fn a_head_that_trickles_in_is_given_up() {
    let server = Server::start(&["-c", "512", "--quiet", "--header-timeout", "1"]);
    let resting = server.n_files();
    let mut stream = server.connect();
    send(
        &mut stream,
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
    );
    drip(stream);
    server.rest("a slow head", resting);
}

#[test]
fn a_body_that_trickles_in_is_given_up_and_told() {
    let server = Server::start(&["-c", "512", "--quiet", "--timeout", "1"]);
    let resting = server.n_files();
    let mut stream = server.connect();
    let request = post(CHAT, &[b' '; 100_000]);
    send(&mut stream, &request[..request.len() - 99_000]);
    let said = String::from_utf8(drip(stream)).unwrap();
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("body_timeout"), "{said}");
    server.rest("a slow body", resting);
}

#[test]
fn two_thousand_idle_connections_keep_nobody_out() {
    let server = Server::start(&["-c", "512", "--quiet", "--max-connections", "100"]);
    let resting = server.n_files();
    let mut idle = Vec::new();
    for n in 0..2000 {
        idle.push(server.connect());
        if n % 200 == 0 {
            assert_eq!(server.ask(&get("/health")).status, 200, "beside {n}");
        }
    }
    server.wait_until("only so many are open", |server| {
        server.n_files() <= resting + 110
    });
    let answer = server.good(
        CHAT,
        &json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}),
    );
    assert_eq!(answer["object"], "chat.completion");
    assert!(server.metric("apr_http_connections_evicted_total") >= 1900.0);
    drop(idle);
    server.rest("idle connections", resting);
}

#[test]
fn connections_that_work_are_not_closed_for_new_ones() {
    let server = Server::start(&["--quiet", "-np", "3", "--max-connections", "3"]);
    let resting = server.n_files();
    let talking: Vec<_> = (0..3).map(|_| talking(&server)).collect();
    let response = server.try_ask(&get("/health")).unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(response.json()["error"]["code"], "too_many_connections");
    drop(talking);
    server.wait_until("there is room", |server| {
        server
            .try_ask(&get("/health"))
            .is_some_and(|it| it.status == 200)
    });
    server.rest("busy connections", resting);
}

#[test]
fn readers_that_never_read_are_given_up() {
    let server = Server::start(&["-np", "2", "--quiet", "--timeout", "1"]);
    let resting = server.n_files();
    let mut body = endless(true);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(20);
    body["n"] = json!(4);
    let deaf: Vec<_> = (0..2).map(|_| ask(&server, &body)).collect();
    server.wait_until("they are worked on", |server| server.slots_in_use() > 0);
    server.wait_until("they are given up", |server| server.metric(ABORTED) >= 2.0);
    server.rest("readers that never read", resting);
    drop(deaf);
}

#[test]
fn a_client_that_leaves_frees_its_slot() {
    let server = Server::start(&["-np", "2", "--quiet"]);
    let resting = server.n_files();
    let long = json!({
        "messages": [{"role": "user", "content": "word ".repeat(1500)}],
        "stream": true,
        "cache_prompt": false,
    });
    let whole = endless(false);
    let leave: [(&str, &dyn Fn()); 4] = [
        ("in mid answer", &|| drop(talking(&server))),
        ("before the first word", &|| drop(ask(&server, &long))),
        ("without a stream", &|| {
            let stream = ask(&server, &whole);
            server.wait_until("it is worked on", |server| server.slots_in_use() > 0);
            drop(stream);
        }),
        ("in mid body", &|| {
            let mut stream = server.connect();
            let request = post(CHAT, &[b' '; 100_000]);
            send(&mut stream, &request[..50_000]);
        }),
    ];
    for (name, leave) in leave {
        leave();
        server.rest(name, resting);
    }
    assert!(server.metric(ABORTED) >= 2.0);
}

#[test]
fn a_full_queue_says_when_to_come_back_and_who_leaves_it_makes_room() {
    let server = Server::start(&["-np", "1", "--queue", "1", "--quiet"]);
    let resting = server.n_files();
    let first = talking(&server);
    let second = ask(&server, &endless(true));
    server.wait_until("one waits", |server| {
        server.metric("apr_requests_waiting") == 1.0
    });
    let refused = server.post(CHAT, &endless(false));
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    drop(second);
    server.wait_until("nobody waits", |server| {
        server.metric("apr_requests_waiting") == 0.0
    });
    assert_eq!(server.slots_in_use(), 1, "the first one goes on");
    drop(first);
    server.rest("a full queue", resting);
}

#[test]
fn a_hundred_at_once_are_answered_or_told_to_come_back() {
    let server = Server::start(&["-np", "4", "--queue", "32", "--quiet", "-c", "512"]);
    let resting = server.n_files();
    let body =
        json!({"messages": [{"role": "user", "content": "Speak"}], "max_tokens": 8, "seed": 3});
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| server.post(CHAT, &body)))
            .collect();
        asked.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let text = |json: &Value| json["choices"][0]["message"]["content"].to_string();
    let mut texts: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| text(&answer.json()))
        .collect();
    let n_refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!(texts.len() + n_refused, 100);
    assert!(texts.len() >= 32, "what fits is answered");
    texts.dedup();
    assert_eq!(texts.len(), 1, "the same seed, the same text");
    server.rest("a hundred requests", resting);
}

#[test]
fn requests_may_follow_each_other_on_a_connection() {
    let server = Server::start(&["-c", "512", "--quiet"]);
    let mut stream = server.connect();
    let kept = String::from_utf8(get("/health"))
        .unwrap()
        .replace("connection: close\r\n", "");
    send(&mut stream, kept.repeat(2).as_bytes());
    send(&mut stream, &get("/health"));
    let response = receive(&mut stream).unwrap();
    assert_eq!(response.body.matches("HTTP/1.1 200").count(), 2);
}
