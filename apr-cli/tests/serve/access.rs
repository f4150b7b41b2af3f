//! Keys, origins, and what is never told.

use serde_json::json;

use crate::{
    server::Server,
    wire::{get, post, with_head},
};

fn with_line(request: Vec<u8>, line: &str) -> Vec<u8> {
    let text = String::from_utf8(request).unwrap();
    text.replacen(
        "host: localhost\r\n",
        &format!("host: localhost\r\n{line}\r\n"),
        1,
    )
    .into_bytes()
}

#[test]
fn any_of_the_keys_opens_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# keys\nsk-two\n\nsk-three\n").unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::start(&[
        "-c",
        "512",
        "--api-key",
        "sk-one",
        "--api-key",
        "sk,four",
        "--api-key-file",
        path,
    ]);
    let status = |request: Vec<u8>| server.ask(&request).status;
    for key in ["sk-one", "sk-two", "sk-three", "sk,four"] {
        let bearer = format!("authorization: Bearer {key}");
        assert_eq!(status(with_line(get("/v1/models"), &bearer)), 200, "{key}");
        let header = format!("x-api-key: {key}");
        assert_eq!(status(with_line(get("/slots"), &header)), 200, "{key}");
    }
    for line in [
        "x-a: b",
        "authorization: Bearer sk-on",
        "authorization: Bearer four",
        "authorization: Basic sk-one",
        "authorization: Bearer # keys",
    ] {
        let response = server.ask(&with_line(get("/v1/models"), line));
        assert_eq!(response.status, 401, "{line}");
        assert_eq!(response.json()["error"]["code"], "invalid_api_key");
    }
    assert_eq!(status(get("/health")), 200);
    assert_eq!(status(get("/")), 200);
    assert_eq!(
        status(get("/nothing")),
        401,
        "what there is, is told to nobody"
    );
    assert_eq!(status(post("/v1/chat/completions", b"{")), 401);
}

#[test]
fn only_listed_origins_may_read_answers() {
    let server = Server::start(&[
        "-c",
        "512",
        "--quiet",
        "--cors-origin",
        "https://ui.example",
    ]);
    let allowed = "access-control-allow-origin";
    let listed = server.ask(&with_line(get("/v1/models"), "origin: https://ui.example"));
    assert_eq!(
        (listed.status, listed.header(allowed)),
        (200, Some("https://ui.example"))
    );
    let other = server.ask(&with_line(
        get("/v1/models"),
        "origin: https://other.example",
    ));
    assert_eq!((other.status, other.header(allowed)), (403, None));
    let own = server.ask(&with_line(get("/v1/models"), "origin: http://localhost"));
    assert_eq!((own.status, own.header(allowed)), (200, None));
    let preflight = with_head(
        "OPTIONS",
        "/v1/chat/completions",
        "host: localhost\r\norigin: https://ui.example\r\naccess-control-request-method: POST\r\n",
    );
    let preflight = server.ask(&preflight);
    assert_eq!(
        (preflight.status, preflight.header(allowed)),
        (204, Some("https://ui.example"))
    );
    assert!(
        preflight
            .header("access-control-allow-methods")
            .unwrap()
            .contains("post")
    );
}

#[test]
fn a_log_has_neither_prompts_nor_keys_nor_paths() {
    let server = Server::start(&[
        "-c",
        "512",
        "--api-key",
        "sk-secret",
        "--log-format",
        "json",
    ]);
    let secret =
        json!({"messages": [{"role": "user", "content": "my-secret-words"}], "max_tokens": 2});
    let body = secret.to_string();
    let key = "x-api-key: sk-secret\r\nx-request-id: id-of-client";
    let request = with_line(post("/v1/chat/completions", body.as_bytes()), key);
    assert_eq!(server.ask(&request).status, 200);
    assert_eq!(
        server
            .ask(&with_line(get("/secret-path"), "x-api-key: sk-other"))
            .status,
        401
    );
    let bad = with_line(
        post(
            "/v1/completions",
            b"{\"prompt\": \"my-secret-words\", \"x\": }",
        ),
        key,
    );
    assert_eq!(server.ask(&bad).status, 400);
    server.signal("-TERM");
    let (status, log) = server.end();
    assert!(status.success());
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let request = lines
        .iter()
        .find(|line| line["id"] == "id-of-client")
        .unwrap();
    assert_eq!(request["route"], "/v1/chat/completions");
    assert_eq!(request["status"], 200);
    for secret in ["secret-words", "sk-secret", "sk-other", "secret-path"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
