//! Requests that are wrong before their body is read.

use serde_json::json;

use crate::{
    server::Server,
    wire::{get, post, with_head},
};

/// Bytes to send, and the statuses that are right; 0 is a connection closed without a word.
struct Case {
    name: &'static str,
    request: Vec<u8>,
    status: &'static [u16],
}

fn case(name: &'static str, request: impl Into<Vec<u8>>, status: &'static [u16]) -> Case {
    Case {
        name,
        request: request.into(),
        status,
    }
}

/// A chat with other lines in its head.
fn chat(lines: &str, body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\n{lines}connection: close\r\n\r\n{body}")
}

#[rustfmt::skip]
fn routes() -> Vec<Case> {
    vec![
        case("GET where POST is due", get("/v1/chat/completions"), &[405]),
        case("DELETE", with_head("DELETE", "/health", "host: localhost\r\n"), &[405]),
        case("a method of its own", with_head("BREW", "/health", "host: localhost\r\n"), &[405]),
        case("POST where GET is due", post("/health", b"{}"), &[405]),
        case("OPTIONS", with_head("OPTIONS", "/health", "host: localhost\r\n"), &[405]),
        case("no such path", get("/v1/nothing"), &[404]),
        case("a path that climbs", get("/assets/../../../etc/passwd"), &[404]),
        case("one that climbs in disguise", get("/assets/%2e%2e/%2e%2e/etc/passwd"), &[404]),
        case("a path of zeros", get("/%00%00"), &[404]),
        case("another model", get("/v1/models/gpt-4o"), &[404]),
        case("the whole address", get("http://evil.example/health"), &[200]),
    ]
}

#[rustfmt::skip]
fn heads() -> Vec<Case> {
    let local = "host: localhost\r\n";
    let json = "content-type: application/json\r\n";
    let long_name = format!("x-long: {}\r\n", "x".repeat(1 << 20));
    let many: String = (0..1000).map(|idx| format!("x-{idx}: 1\r\n")).collect();
    vec![
        case("no content type", chat(&format!("{local}content-length: 2\r\n"), "{}"), &[415]),
        case("text", chat(&format!("{local}content-type: text/plain\r\ncontent-length: 2\r\n"), "{}"), &[415]),
        case("a form", chat(&format!("{local}content-type: application/x-www-form-urlencoded\r\ncontent-length: 2\r\n"), "{}"), &[415]),
        case("a foreign host", chat(&format!("host: evil.example\r\n{json}content-length: 2\r\n"), "{}"), &[403]),
        case("a host that ends well", with_head("GET", "/health", "host: evil.localhost.example\r\n"), &[403]),
        case("no host", with_head("GET", "/health", ""), &[400]),
        case("a page of another origin", with_head("GET", "/v1/models", &format!("{local}origin: https://evil.example\r\n")), &[403]),
        case("a page without origin", with_head("GET", "/v1/models", &format!("{local}origin: null\r\n")), &[403]),
        case("1 GB announced", chat(&format!("{local}{json}content-length: 1000000000\r\n"), "{}"), &[413]),
        case("more than a number announced", chat(&format!("{local}{json}content-length: 99999999999999999999\r\n"), "{}"), &[400, 413]),
        case("a length in words", chat(&format!("{local}{json}content-length: two\r\n"), "{}"), &[400]),
        case("a negative length", chat(&format!("{local}{json}content-length: -2\r\n"), "{}"), &[400]),
        case("two lengths", chat(&format!("{local}{json}content-length: 2\r\ncontent-length: 3\r\n"), "{}"), &[400]),
        case("a chunk of no size", chat(&format!("{local}{json}transfer-encoding: chunked\r\n"), "zz\r\n{}\r\n"), &[400]),
        case("a chunk of all sizes", chat(&format!("{local}{json}transfer-encoding: chunked\r\n"), "ffffffffffffffffff\r\n{}\r\n"), &[400]),
        case("a head of 1 MB", with_head("GET", "/health", &format!("{local}{long_name}")), &[431]),
        case("1,000 headers", with_head("GET", "/health", &format!("{local}{many}")), &[431]),
        case("a path of 100 KB", get(&format!("/{}", "x".repeat(100_000))), &[414, 431]),
        case("a header without a colon", with_head("GET", "/health", "host localhost\r\n"), &[400]),
        case("zeros in a header", with_head("GET", "/health", "host: local\0host\r\n"), &[400]),
    ]
}

#[rustfmt::skip]
fn other_languages() -> Vec<Case> {
    vec![
        case("noise", vec![0xa7; 4096], &[400]),
        case("empty lines", "\r\n".repeat(40_000), &[400, 431, 0]),
        case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40), &[400]),
        case("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[400, 505, 0]),
        case("HTTP/9", "GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n", &[400]),
        case("a word", "hello\r\n\r\n", &[400]),
    ]
}

#[test]
fn every_bad_head_has_its_status_and_leaves_no_trace() {
    let server = Server::start(&["-c", "512", "--quiet", "--header-timeout", "1"]);
    let resting = server.n_files();
    for case in [routes(), heads(), other_languages()].concat() {
        let name = case.name;
        let response = server.try_ask(&case.request);
        let status = response.as_ref().map_or(0, |response| response.status);
        assert!(
            case.status.contains(&status),
            "{name}: {status} {response:?}"
        );
        if let Some(response) = response.filter(|_| status >= 400) {
            let error = &response.json()["error"];
            assert!(
                error["message"].is_string() && error["code"].is_string(),
                "{name}"
            );
            assert!(response.header("x-request-id").is_some(), "{name}");
        }
        server.rest(name, resting);
    }
}

#[test]
fn a_body_in_chunks_is_cut_off_where_it_is_too_long() {
    let server = Server::start(&["-c", "512", "--quiet", "--max-body", "1"]);
    let mut request = chat(
        "host: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n",
        "",
    )
    .into_bytes();
    for _ in 0..40 {
        request.extend_from_slice(b"10000\r\n");
        request.extend_from_slice(&vec![b' '; 0x10000]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let response = server.ask(&request);
    assert_eq!(
        (response.status, &response.json()["error"]["code"]),
        (413, &json!("body_too_large"))
    );
    assert_eq!(server.ask(&get("/health")).status, 200);
}

#[test]
fn a_wrong_method_and_a_wrong_path_say_what_is_right() {
    let server = Server::start(&["-c", "512", "--quiet"]);
    let response = server.ask(&get("/v1/chat/completions"));
    assert_eq!(response.header("allow"), Some("post"));
    let routes = server.ask(&get("/nothing")).json()["routes"].take();
    let routes: Vec<_> = routes
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it.as_str())
        .collect();
    assert!(routes.contains(&"POST /v1/chat/completions"));
    let document = server.ask(&get("/openapi.json")).json();
    for route in routes {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace("{*", "{");
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(operation["operationId"].is_string(), "{route}");
    }
}

impl Clone for Case {
    fn clone(&self) -> Self {
        Self {
            request: self.request.clone(),
            ..*self
        }
    }
}
