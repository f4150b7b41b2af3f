//! SIGTERM: new requests are refused, running ones are finished or told, and the exit is clean.

use std::{io::Read, net::TcpStream};

use serde_json::{Value, json};

use crate::{
    server::Server,
    wire::{get, post, receive, send},
};

const CHAT: &str = "/v1/chat/completions";

/// Asks for a stream of so many tokens, and waits until it has begun.
fn begun(server: &Server, n_tokens: usize) -> (TcpStream, Vec<u8>) {
    let body = json!({
        "messages": [{"role": "user", "content": "Speak"}],
        "max_tokens": n_tokens,
        "ignore_eos": true,
        "stream": true,
    });
    let mut stream = server.connect();
    send(&mut stream, &post(CHAT, body.to_string().as_bytes()));
    let mut start = vec![0; 400];
    stream.read_exact(&mut start).unwrap();
    (stream, start)
}

/// Reads the rest and returns the data of its last event.
fn last_event(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let events = rest.rsplit("data: ").next().unwrap();
    events.split("\n\n").next().unwrap().to_owned()
}

#[test]
fn running_requests_are_finished_within_the_grace_period() {
    let server = Server::start(&["-np", "2", "--grace", "60", "--quiet"]);
    let (stream, _) = begun(&server, 2000);
    server.signal("-TERM");
    server.wait_until("new requests are refused", |server| {
        server.ask(&get("/health")).status == 503
    });
    let refused = server.post(
        CHAT,
        &json!({"messages": [{"role": "user", "content": "x"}]}),
    );
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "draining");
    assert_eq!(last_event(stream), "[DONE]");
    assert_eq!(server.end().0.code(), Some(0));
}

#[test]
fn who_takes_longer_is_told_so() {
    let server = Server::start(&["-np", "2", "--grace", "0", "--quiet"]);
    let (stream, _) = begun(&server, 100_000);
    let mut whole = server.connect();
    let body = json!({"prompt": "x", "max_tokens": 100_000, "ignore_eos": true});
    send(
        &mut whole,
        &post("/v1/completions", body.to_string().as_bytes()),
    );
    server.wait_until("both run", |server| server.slots_in_use() == 2);
    server.signal("-INT");
    let error: Value = serde_json::from_str(&last_event(stream)).unwrap();
    assert_eq!(error["error"]["code"], "draining");
    assert_eq!(receive(&mut whole).unwrap().status, 503);
    assert_eq!(server.end().0.code(), Some(0));
}

#[test]
fn a_request_has_no_longer_than_the_flag_says() {
    let server = Server::start(&["-np", "1", "--request-timeout", "1", "--quiet"]);
    let resting = server.n_files();
    let endless = json!({
        "messages": [{"role": "user", "content": "Speak"}],
        "max_tokens": 100_000,
        "ignore_eos": true,
        "n": 64,
    });
    let late = server.post(CHAT, &endless);
    assert_eq!(
        (late.status, &late.json()["error"]["code"]),
        (504, &json!("timeout"))
    );
    server.rest("a request that took too long", resting);
}

#[test]
fn a_model_that_cannot_be_opened_ends_the_server() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_apr"))
        .args(["serve", "--port", "0", "-m", "/no/such/model.gguf"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn an_open_address_is_refused_without_a_key() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_apr"))
        .args(["serve", "--port", "0", "--host", "0.0.0.0"])
        .env_remove("APR_API_KEY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--api-key"), "{said}");
}
