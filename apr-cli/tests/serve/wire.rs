//! HTTP by hand.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// What an answer may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Returns a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(": ").is_some_and(|(own, _)| own == name);
        let line = self.head.lines().find(|it| line(it))?;
        Some(&line[name.len() + 2..])
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Returns the data of the events of a stream, and checks that each is whole.
    pub(crate) fn events(&self) -> Vec<String> {
        assert!(self.body.ends_with("\n\n"), "{}", self.body);
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        let data = events.filter_map(|event| event.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }
}

/// Returns a request with a JSON body.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// Returns a request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    with_head("GET", path, "host: localhost\r\n")
}

/// Returns a request without a body and with these lines in its head.
pub(crate) fn with_head(method: &str, path: &str, lines: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n").into_bytes()
}

/// Sends bytes, which the other side need not take to their end.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads until the connection is closed; `None` if there was no response on it.
pub(crate) fn receive(stream: &mut TcpStream) -> Option<Response> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&bytes)),
    }
    (!bytes.is_empty()).then(|| parse(&bytes))
}

fn parse(bytes: &[u8]) -> Response {
    let text = String::from_utf8(bytes.to_vec()).expect("no character is broken");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let head = head.to_lowercase();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Response {
        status: status.unwrap_or_default(),
        head,
        body,
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = Vec::new();
    while let Some((len, behind)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len.trim(), 16).unwrap();
        if len == 0 {
            break;
        }
        body.extend_from_slice(&behind.as_bytes()[..len.min(behind.len())]);
        rest = behind.get(len + 2..).unwrap_or_default();
    }
    String::from_utf8(body).unwrap()
}
