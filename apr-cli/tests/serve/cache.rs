//! What was computed once is not computed again, through HTTP as a client sees it: after a
//! turn, after a restart, after a prompt that was given up. No digit of an answer shows it.

use std::{fs, io::Read, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    server::{PROGRAM, Server},
    wire::{post, send},
};

const CHAT: &str = "/v1/chat/completions";
/// Tokens of an answer.
const ANSWER_LEN: u64 = 24;

/// What an answer says, and what it cost.
#[derive(Debug)]
struct Answer {
    text: String,
    /// Every generated token with its log probability and those of its rivals.
    scores: Value,
    n_prompt: u64,
    n_cached: u64,
    /// Tokens of the prompt that went through the model.
    n_computed: u64,
    n_generated: u64,
    timings: Value,
}

fn body(messages: &[Value], more: &Value) -> Value {
    let mut body = json!({
        "messages": messages,
        "max_tokens": ANSWER_LEN,
        // With this one the model ends no answer, and writes words as its tokenizer cuts them.
        "seed": 7,
        "logprobs": true,
        "top_logprobs": 3,
    });
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn ask(server: &Server, messages: &[Value], more: &Value) -> Answer {
    let mut answer = server.good(CHAT, &body(messages, more));
    let choice = answer["choices"][0].take();
    let (usage, timings) = (&answer["usage"], &answer["timings"]);
    let number = |value: &Value| value.as_u64().unwrap();
    Answer {
        text: choice["message"]["content"].as_str().unwrap().to_owned(),
        scores: choice["logprobs"].clone(),
        n_prompt: number(&usage["prompt_tokens"]),
        n_cached: number(&usage["prompt_tokens_details"]["cached_tokens"]),
        n_computed: number(&timings["prompt_n"]),
        n_generated: number(&usage["completion_tokens"]),
        timings: timings.clone(),
    }
}

/// Asserts that an answer is that of a server that remembers nothing, to the last digit.
fn assert_as_uncached(server: &Server, messages: &[Value], more: &Value, found: &Answer) {
    let mut more = more.clone();
    more["cache_prompt"] = json!(false);
    let plain = ask(server, messages, &more);
    assert_eq!((plain.n_cached, plain.n_computed), (0, plain.n_prompt));
    assert_eq!(plain.text, found.text);
    assert_eq!(plain.scores, found.scores);
}

/// Asserts that a turn had nothing computed of the turn before, but for its last token, which
/// had only been drawn.
fn assert_goes_on(before: &Answer, after: &Answer) {
    assert_eq!(before.n_generated, ANSWER_LEN, "{before:?}");
    assert_eq!(
        after.n_cached,
        before.n_prompt + ANSWER_LEN - 1,
        "{after:?}"
    );
    assert_eq!(
        after.n_computed,
        after.n_prompt - after.n_cached,
        "{after:?}"
    );
    assert!(after.n_computed < 20, "{after:?}");
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// Adds the answer and the next question.
fn go_on(messages: &mut Vec<Value>, answer: &Answer, question: &str) {
    messages.push(json!({"role": "assistant", "content": answer.text}));
    messages.push(user(question));
}

/// Some text of a family, of about nine tokens a line.
fn lines(family: &str, n: usize) -> String {
    (0..n)
        .map(|idx| format!("{family} {idx} says nothing new.\n"))
        .collect()
}

fn start(format: &str, folder: &Path) -> Server {
    let folder = folder.to_str().unwrap();
    Server::start(&[
        "--quiet",
        "-np",
        "1",
        "-b",
        "64",
        "-ctk",
        format,
        "-ctv",
        format,
        "--cache-dir",
        folder,
    ])
}

/// A conversation goes on after a restart and in memory, and each turn computes what is new.
fn turns_compute_what_is_new(format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let server = start(format, folder.path());
    let plain = json!({});
    let mut messages = vec![user(&lines("Line", 200))];
    let first = ask(&server, &messages, &plain);
    assert!(first.n_prompt >= 1900, "{}", first.n_prompt);
    assert_eq!((first.n_cached, first.n_computed), (0, first.n_prompt));
    server.signal("-TERM");
    assert!(server.end().0.success());

    let server = start(format, folder.path());
    go_on(&mut messages, &first, "And what else?");
    let second = ask(&server, &messages, &plain);
    assert_goes_on(&first, &second);
    assert_as_uncached(&server, &messages, &plain, &second);

    go_on(&mut messages, &second, "Go on.");
    let third = ask(&server, &messages, &plain);
    assert_goes_on(&second, &third);
    assert!(third.n_prompt + third.n_generated >= 2000);
    assert_as_uncached(&server, &messages, &plain, &third);
    assert_eq!(server.metric("apr_prefix_cache_disk_failures_total"), 0.0);
}

#[test]
fn turns_and_restarts_compute_what_is_new_in_f16() {
    turns_compute_what_is_new("f16");
}

#[test]
fn turns_and_restarts_compute_what_is_new_in_q8_0() {
    turns_compute_what_is_new("q8_0");
}

/// Asks for a stream, hangs up in the middle of the prompt, and returns how many tokens were
/// computed by then, as far as was told.
fn hang_up(server: &Server, messages: &[Value]) -> u64 {
    let more = json!({"stream": true, "return_progress": true});
    let mut stream = server.connect();
    let request = post(CHAT, body(messages, &more).to_string().as_bytes());
    send(&mut stream, &request);
    let mut said = String::new();
    loop {
        let mut piece = [0; 512];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&piece[..n]));
        let whole = said.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let chunks = whole.lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks = chunks.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let mut done = chunks.filter_map(|chunk| chunk["prompt_progress"]["processed"].as_u64());
        if let Some(n_done) = done.next_back().filter(|&n_done| n_done > 0) {
            return n_done;
        }
    }
}

#[test]
fn a_prompt_that_was_given_up_goes_on_where_it_stopped() {
    for format in ["f16", "q8_0"] {
        let folder = tempfile::tempdir().unwrap();
        let server = start(format, folder.path());
        let messages = [user(&lines("Verse", 80))];
        let n_done = hang_up(&server, &messages);
        server.wait_until("the slot is free", |server| server.slots_in_use() == 0);
        let plain = json!({});
        let again = ask(&server, &messages, &plain);
        assert!(again.n_cached >= n_done, "{n_done} of {again:?}");
        assert_eq!(again.n_computed, again.n_prompt - again.n_cached);
        assert_as_uncached(&server, &messages, &plain, &again);
    }
}

/// Returns the ids of a conversation as the model reads it.
fn ids(server: &Server, messages: &[Value], more: &Value) -> Vec<u64> {
    let mut body = more.clone();
    body["messages"] = messages.into();
    let prompt = server.good("/apply-template", &body)["prompt"].take();
    let text = json!({"content": prompt, "parse_special": true});
    let tokens = server.good("/tokenize", &text)["tokens"].take();
    serde_json::from_value(tokens).unwrap()
}

#[test]
fn an_answer_without_thoughts_is_read_anew_and_all_before_it_is_not() {
    let server = Server::start(&["--quiet", "-np", "1"]);
    let off = json!({"enable_thinking": false});
    let mut messages = vec![user("What says ROMEO?")];
    let mut known = ids(&server, &messages, &off);
    let mut answer = ask(&server, &messages, &off);
    for question in ["And JULIET?", "And the KING?"] {
        go_on(&mut messages, &answer, question);
        let prompt = ids(&server, &messages, &off);
        // The template writes an empty thought before an answer that is to be written, and
        // none before one that was: there the prompts part.
        let n_common = known
            .iter()
            .zip(&prompt)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(n_common < known.len());
        answer = ask(&server, &messages, &off);
        assert_eq!(answer.n_cached, n_common as u64, "{answer:?}");
        let miss = &answer.timings["cache_miss"];
        assert_eq!(miss["position"], n_common, "{miss}");
        assert_eq!(miss["cached"]["piece"], "<think>", "{miss}");
        assert_eq!(miss["found"]["id"], prompt[n_common], "{miss}");
        assert_as_uncached(&server, &messages, &off, &answer);
        known = prompt;
    }
}

/// Asks twice while nothing can be written to the folder: what is in memory is found all the
/// same, and no digit is another. Returns the log, in which the failures are one line.
fn goes_on_in_memory(server: Server) -> String {
    let plain = json!({});
    let mut messages = vec![user(&lines("Line", 30))];
    let first = ask(&server, &messages, &plain);
    assert_as_uncached(&server, &messages, &plain, &first);
    go_on(&mut messages, &first, "And what else?");
    let second = ask(&server, &messages, &plain);
    assert!(second.n_cached >= first.n_prompt, "{second:?}");
    assert_as_uncached(&server, &messages, &plain, &second);
    assert!(server.metric("apr_prefix_cache_disk_failures_total") >= 4.0);
    server.signal("-TERM");
    let (status, log) = server.end();
    assert!(status.success(), "{status}: {log}");
    let said = "a file of the cache folder cannot be written";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert_eq!(log.trim().lines().count(), 1, "{log}");
    log
}

#[test]
fn a_full_disk_is_said_once_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let flags = ["--quiet", "-np", "1", "-b", "64", "--cache-dir", path];
    let log = goes_on_in_memory(Server::start_on_a_full_disk(&flags));
    assert!(!log.contains(path), "{log}");
    let models = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = models.flat_map(|model| fs::read_dir(model).unwrap());
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["lock"], "nothing half written is left");
}

#[test]
fn a_folder_that_is_taken_away_is_said_once_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = start("f16", folder.path());
    fs::remove_dir_all(folder.path()).unwrap();
    goes_on_in_memory(server);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for folder in [file.path().join("cache"), "/proc/self/cache".into()] {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--quiet", "--port", "0", "--cache-dir"]);
        let output = command.arg(&folder).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        let error = format!("error: the cache folder {}", folder.display());
        assert!(said.contains(&error), "{said}");
        assert!(said.contains("caused by: "), "{said}");
    }
}
