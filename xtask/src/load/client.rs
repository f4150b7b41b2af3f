//! One request over a socket of its own, and how its answer comes.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A request to be sent.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) path: &'static str,
    pub(super) body: String,
    pub(super) is_streamed: bool,
    /// When the client goes away.
    pub(super) hang_up: Option<Duration>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Whole {
        text: String,
        n_tokens: u64,
        /// From the request to the first token, where the answer was streamed.
        first: Option<Duration>,
        /// Between one piece and the next.
        gaps: Vec<Duration>,
    },
    HungUp,
    Failed(String),
}

impl Ask {
    pub(super) fn send(&self, address: SocketAddr) -> Answer {
        match self.try_send(address) {
            Ok(answer) => answer,
            Err(_) if self.hang_up.is_some() => Answer::HungUp,
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    fn try_send(&self, address: SocketAddr) -> io::Result<Answer> {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(
            self.hang_up
                .unwrap_or(PATIENCE)
                .max(Duration::from_millis(1)),
        ))?;
        let (path, body) = (self.path, &self.body);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (status, is_chunked) = read_head(&mut reader)?;
        let mut body = Body {
            reader,
            is_chunked,
            left: 0,
        };
        if status != 200 {
            let mut text = String::new();
            body.into_reader().read_to_string(&mut text)?;
            return Ok(Answer::Failed(format!("status {status}: {text}")));
        }
        if self.is_streamed {
            return self.read_stream(&mut body, begin);
        }
        let mut text = Vec::new();
        while let Some(byte) = body.next()? {
            text.push(byte);
        }
        whole(&text)
    }

    fn read_stream(&self, body: &mut Body, begin: Instant) -> io::Result<Answer> {
        let (mut text, mut n_tokens, mut is_finished) = (String::new(), 0, false);
        let (mut first, mut last, mut gaps) = (None, begin, Vec::new());
        while let Some(line) = body.line()? {
            if self.hang_up.is_some_and(|after| begin.elapsed() > after) {
                let _ = body.reader.get_ref().shutdown(Shutdown::Both);
                return Ok(Answer::HungUp);
            }
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            if data == "[DONE]" {
                let answer = Answer::Whole {
                    text,
                    n_tokens,
                    first,
                    gaps,
                };
                return Ok(match is_finished {
                    true => answer,
                    false => Answer::Failed("no reason for the end".to_owned()),
                });
            }
            let chunk: Value = serde_json::from_str(data)?;
            if let Some(error) = chunk.get("error") {
                return Ok(Answer::Failed(error.to_string()));
            }
            let choice = &chunk["choices"][0];
            is_finished |= choice["finish_reason"].is_string();
            if let Some(n) = chunk["usage"]["completion_tokens"].as_u64() {
                n_tokens = n;
            }
            let piece = choice["delta"]["content"].as_str();
            let piece = piece.or_else(|| choice["text"].as_str());
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                let now = Instant::now();
                match first {
                    None => first = Some(now - begin),
                    Some(_) => gaps.push(now - last),
                }
                last = now;
                n_tokens += 1;
                text.push_str(piece);
            }
        }
        Ok(Answer::Failed("the stream ended before its end".to_owned()))
    }
}

/// Reads an answer that came in one piece.
fn whole(body: &[u8]) -> io::Result<Answer> {
    let answer: Value = serde_json::from_slice(body)?;
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"].as_str();
    Ok(match (text, choice["finish_reason"].as_str()) {
        (Some(text), Some(_)) => Answer::Whole {
            text: text.to_owned(),
            n_tokens: answer["usage"]["completion_tokens"]
                .as_u64()
                .unwrap_or_default(),
            first: None,
            gaps: Vec::new(),
        },
        _ => Answer::Failed(answer.to_string()),
    })
}

/// Reads the head of a response: its status, and whether the body comes in chunks.
fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {line:?}")))?;
    let mut is_chunked = false;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().as_str() {
            "" => return Ok((status, is_chunked)),
            "transfer-encoding: chunked" => is_chunked = true,
            _ => {}
        }
    }
}

/// The bytes of a body, without the sizes of its chunks.
struct Body {
    reader: BufReader<TcpStream>,
    is_chunked: bool,
    /// Bytes left in the chunk.
    left: usize,
}

impl Body {
    fn next(&mut self) -> io::Result<Option<u8>> {
        if self.is_chunked && self.left == 0 {
            let mut size = String::new();
            // The end of the chunk before, if there was one.
            while size.trim_end().is_empty() {
                size.clear();
                if self.reader.read_line(&mut size)? == 0 {
                    return Ok(None);
                }
            }
            self.left = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
            if self.left == 0 {
                return Ok(None);
            }
        }
        self.left = self.left.saturating_sub(1);
        let mut byte = [0];
        Ok((self.reader.read(&mut byte)? == 1).then_some(byte[0]))
    }

    /// Reads a line without its end; `None` after the last.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        while let Some(byte) = self.next()? {
            if byte == b'\n' {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            line.push(byte);
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    fn into_reader(self) -> BufReader<TcpStream> {
        self.reader
    }
}
