//! What a request may take, in memory and in time, and that a client that sends much is told
//! why it was refused.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    server::Server,
    wire::{PATIENCE, post, receive, with_head},
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const MIB: u64 = 1 << 20;

/// Returns a body of nearly 8 MiB whose messages are all the same.
fn full_of(item: &str) -> Vec<u8> {
    let n = ((8 << 20) - 100) / (item.len() + 1);
    let items = vec![item; n].join(",");
    format!("{{\"messages\":[{items}]}}").into_bytes()
}

/// Sends requests at the same time and returns what was answered: status and code.
fn at_once(server: &Server, bodies: &[&[u8]]) -> Vec<(u16, Value)> {
    thread::scope(|scope| {
        let ask = |body: &[u8]| {
            let request = post(CHAT, body);
            scope.spawn(move || server.ask(&request))
        };
        let asked: Vec<_> = bodies.iter().map(|body| ask(body)).collect();
        let answers = asked.into_iter().map(|asked| asked.join().unwrap());
        answers
            .map(|answer| (answer.status, answer.json()["error"]["code"].clone()))
            .collect()
    })
}

#[test]
fn bodies_take_little_memory_whatever_they_are_made_of_and_give_it_back() {
    let server = Server::start(&["-np", "2", "-c", "512", "--quiet"]);
    let resting = server.n_files();
    let Some(before) = server.peak() else {
        return;
    };
    let bodies = ["{\"\":0}", "[0]", "0", "{}", "[[[[[[[[0]]]]]]]]"].map(full_of);
    let bodies = bodies.each_ref().map(Vec::as_slice);
    for (status, code) in at_once(&server, &bodies) {
        assert_eq!((status, code), (413, json!("too_many_values")));
    }
    let grown = server.peak().unwrap() - before;
    assert!(grown < 128 * MIB, "{grown} bytes for what was refused");
    server.rest("bodies of shells", resting);
}

#[test]
fn scores_of_tokens_take_little_more_memory_than_they_are_long() {
    let server = Server::start(&["-np", "4", "--quiet"]);
    let body = |n: usize, more: Value| {
        let mut body = json!({"n": n, "max_tokens": 200, "ignore_eos": true, "seed": 1});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let chat = json!({"messages": [{"role": "user", "content": "Speak"}]});
    let scored = json!({"logprobs": true, "top_logprobs": 20});
    let cases = [
        (CHAT, chat, scored),
        (TEXT, json!({"prompt": "Speak"}), json!({"logprobs": 20})),
    ];
    for (path, ask, more) in cases {
        let mut request = body(8, ask);
        server.good(path, &request);
        let Some(before) = server.peak() else {
            return;
        };
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = server.post(path, &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let grown = server.peak().unwrap() - before;
        let most = 4 * answer.body.len() as u64 + 16 * MIB;
        assert!(
            grown < most,
            "{path}: {grown} bytes for {}",
            answer.body.len()
        );
    }
}

#[test]
fn a_client_that_still_sends_when_it_is_refused_sees_the_answer() {
    let server = Server::start(&["-np", "1", "-c", "512", "--quiet", "--api-key", "k"]);
    let resting = server.n_files();
    let json = "content-type: application/json\r\n";
    let own = "host: localhost\r\nauthorization: Bearer k\r\n";
    let cases: [(&str, &str, String, u16); 6] = [
        ("POST", CHAT, format!("host: localhost\r\n{json}"), 401),
        ("POST", CHAT, format!("host: evil.example\r\n{json}"), 403),
        ("POST", "/nowhere", format!("{own}{json}"), 404),
        ("PUT", CHAT, format!("{own}{json}"), 405),
        (
            "POST",
            CHAT,
            format!("{own}content-type: text/plain\r\n"),
            415,
        ),
        ("POST", CHAT, format!("{own}{json}"), 413),
    ];
    for (method, path, lines, status) in cases {
        // The one that is too long for its own sake.
        let len = if status == 413 { 9_000_000 } else { 7_000_000 };
        let lines = format!("{lines}content-length: {len}\r\n");
        let mut stream = server.connect();
        stream.write_all(&with_head(method, path, &lines)).unwrap();
        let sent = stream.write_all(&vec![b' '; len]);
        sent.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(receive(&mut stream).unwrap().status, status, "{path}");
        // The connection is as good as before for a client that keeps it.
        let mut stream = server.connect();
        let head = format!("{method} {path} HTTP/1.1\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b' '; len]).unwrap();
        let health = with_head("GET", "/health", "host: localhost\r\n");
        stream.write_all(&health).unwrap();
        let mut both = String::new();
        stream.read_to_string(&mut both).unwrap();
        assert!(both.contains("{\"status\":\"ok\"}"), "{status}: {both}");
    }
    server.wait_until("files are closed", |server| server.n_files() <= resting);
}

#[test]
fn a_server_that_is_stopped_while_it_loads_ends() {
    for delay in [0, 1, 2, 4, 8, 16, 32] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apr"));
        command.args(["serve", "--port", "0"]).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        log.read_line(&mut String::new()).unwrap();
        thread::sleep(Duration::from_millis(delay));
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(
                begin.elapsed() < PATIENCE,
                "stopped after {delay} ms, it goes on"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn limits_that_make_no_sense_are_usage_errors() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["--request-timeout", "18446744073709551615"],
            "0 to 86400 seconds",
        ),
        (&["--grace", "86401"], "0 to 86400 seconds"),
        (&["--timeout", "0"], "1 to 86400 seconds"),
        (&["-np", "4", "-b", "3"], "one token for each of 4 requests"),
        (&["-np", "257"], "1 to 256"),
    ];
    for (flags, says) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apr"));
        let output = command
            .args(["serve", "--port", "0"])
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(says), "{said}");
    }
}
