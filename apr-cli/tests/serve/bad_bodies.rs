//! Bodies that are wrong in every way: each gets an error of its kind that names the field,
//! and leaves the server as it was.

use serde_json::{Value, json};

use crate::{
    server::Server,
    wire::{post, receive, send},
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A body and what must be said of it.
struct Case {
    name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    status: u16,
    /// The code of the error, empty where the body is good.
    code: &'static str,
    param: &'static str,
}

fn raw(name: &'static str, body: impl Into<Vec<u8>>, code: &'static str) -> Case {
    Case {
        name,
        path: CHAT,
        body: body.into(),
        status: 400,
        code,
        param: "",
    }
}

/// A chat with some more fields.
fn chat(name: &'static str, more: Value, code: &'static str, param: &'static str) -> Case {
    let mut body = json!({"messages": [{"role": "user", "content": "Speak"}], "max_tokens": 2});
    extend(&mut body, more);
    Case {
        path: CHAT,
        param,
        ..raw(name, body.to_string(), code)
    }
}

/// A completion with some more fields.
fn text(name: &'static str, more: Value, code: &'static str, param: &'static str) -> Case {
    let mut body = json!({"prompt": "Speak", "max_tokens": 2});
    extend(&mut body, more);
    Case {
        path: TEXT,
        param,
        ..raw(name, body.to_string(), code)
    }
}

fn other(path: &'static str, body: &Value, code: &'static str, param: &'static str) -> Case {
    Case {
        path,
        param,
        ..raw(path, body.to_string(), code)
    }
}

fn good(case: Case) -> Case {
    Case {
        status: 200,
        ..case
    }
}

fn extend(body: &mut Value, more: Value) {
    let Value::Object(more) = more else {
        panic!("fields");
    };
    body.as_object_mut().unwrap().extend(more);
}

const BAD_JSON: &str = "invalid_json";
const VALUE: &str = "invalid_value";
const TYPE: &str = "invalid_type";
const TOKEN: &str = "invalid_token";
const NO_SUCH: &str = "unsupported_parameter";
const MISSING: &str = "missing_field";
const TOO_LONG: &str = "context_length_exceeded";

#[rustfmt::skip]
fn malformed() -> Vec<Case> {
    vec![
        raw("nothing", "", BAD_JSON),
        raw("null", "null", TYPE),
        raw("an array", "[]", TYPE),
        raw("a string", "\"x\"", TYPE),
        raw("cut short", "{\"messages\": [{\"role\": \"us", BAD_JSON),
        raw("a comma too many", "{\"a\": 1,}", BAD_JSON),
        raw("two bodies", "{}{}", BAD_JSON),
        raw("not UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec(), BAD_JSON),
        raw("half a surrogate", "{\"a\": \"\\ud800\"}", BAD_JSON),
        raw("10,000 arrays", "[".repeat(10_000), BAD_JSON),
        raw("10,000 objects", "{\"a\":".repeat(10_000), BAD_JSON),
        raw("a number without end", format!("{{\"a\": 1{}}}", "0".repeat(400)), BAD_JSON),
        raw("NaN", "{\"temperature\": NaN}", BAD_JSON),
        raw("a control character", "{\"a\": \"\u{1}\"}", BAD_JSON),
        raw("nothing but zeros", vec![0; 1000], BAD_JSON),
    ]
}

#[rustfmt::skip]
fn settings() -> Vec<Case> {
    let many = |n: usize| (0..n).map(|idx| idx.to_string()).collect::<Vec<_>>();
    let nothing_left: Vec<_> = (0..2048).map(|id| json!([id, false])).collect();
    vec![
        chat("a cold temperature", json!({"temperature": -1}), VALUE, "temperature"),
        chat("a hot one", json!({"temperature": 1e39}), VALUE, "temperature"),
        chat("one in words", json!({"temperature": "hot"}), TYPE, "temperature"),
        chat("top_p above 1", json!({"top_p": 1.1}), VALUE, "top_p"),
        chat("top_p below 0", json!({"top_p": -0.1}), VALUE, "top_p"),
        chat("min_p of 2", json!({"min_p": 2}), VALUE, "min_p"),
        chat("top_k of 10¹⁰", json!({"top_k": 1e10}), VALUE, "top_k"),
        chat("half a token", json!({"max_tokens": 1.5}), TYPE, "max_tokens"),
        chat("-9 tokens", json!({"max_tokens": -9}), VALUE, "max_tokens"),
        chat("a list of tokens", json!({"max_tokens": []}), TYPE, "max_tokens"),
        chat("no penalty at all", json!({"repeat_penalty": 0}), VALUE, "repeat_penalty"),
        chat("a window of -2", json!({"repeat_last_n": -2}), VALUE, "repeat_last_n"),
        chat("a falling base", json!({"dry_base": 0.5}), VALUE, "dry_base"),
        chat("mirostat 1", json!({"mirostat": 1}), NO_SUCH, "mirostat"),
        chat("no answer", json!({"n": 0}), VALUE, "n"),
        chat("65 answers", json!({"n": 65}), VALUE, "n"),
        chat("half a seed", json!({"seed": 1.5}), TYPE, "seed"),
        chat("an empty stop", json!({"stop": ""}), VALUE, "stop[0]"),
        chat("65 stops", json!({"stop": many(65)}), VALUE, "stop"),
        chat("a stop of 5,000 bytes", json!({"stop": "x".repeat(5000)}), VALUE, "stop[0]"),
        chat("a bias without a token", json!({"logit_bias": {"x": 1}}), VALUE, "logit_bias"),
        chat("a bias for token 2048", json!({"logit_bias": {"2048": 1}}), VALUE, "logit_bias"),
        chat("a bias of 10³⁹", json!({"logit_bias": {"1": 1e39}}), TYPE, "logit_bias"),
        chat("nothing to draw", json!({"logit_bias": nothing_left}), VALUE, "logits"),
        chat("21 alternatives", json!({"logprobs": true, "top_logprobs": 21}), VALUE, "top_logprobs"),
        chat("alternatives alone", json!({"top_logprobs": 2}), VALUE, "top_logprobs"),
        chat("a field nobody knows", json!({"tempratur": 1}), "unknown_parameter", "tempratur"),
        chat("an order of samplers", json!({"samplers": ["top_k"]}), NO_SUCH, "samplers"),
        chat("a grammar without an end", json!({"grammar": "root ::= \"a"}), VALUE, "grammar"),
        chat("XML", json!({"response_format": {"type": "xml"}}), NO_SUCH, "response_format.type"),
        chat("usage without a stream", json!({"stream_options": {"include_usage": true}}), VALUE, "stream_options"),
        chat("stream in words", json!({"stream": "yes"}), TYPE, "stream"),
        chat("another model", json!({"model": "gpt-4o"}), "model_not_found", "model"),
    ]
}

#[rustfmt::skip]
fn conversations() -> Vec<Case> {
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let part = |kind: &str| json!([{"type": kind, "text": "x", "image_url": {"url": "http://x"}}]);
    let many = vec![json!({"role": "user", "content": "x"}); 100_000];
    let tool = |tools: Value| json!({"tools": tools});
    let options = |options: Value| json!({"chat_template_kwargs": options});
    let long = "word ".repeat(800_000);
    vec![
        chat("no messages", json!({"messages": null}), MISSING, "messages"),
        chat("an empty conversation", json!({"messages": []}), VALUE, "messages"),
        chat("messages in words", json!({"messages": "Hello"}), TYPE, "messages"),
        chat("a number for a message", json!({"messages": [7]}), TYPE, "messages[0]"),
        chat("nobody speaks", json!({"messages": [{"content": "x"}]}), VALUE, "messages[0].role"),
        chat("a god speaks", json!({"messages": [{"role": "god"}]}), VALUE, "messages[0].role"),
        chat("a number for content", user(json!(7)), TYPE, "messages[0].content"),
        chat("an image", user(part("image_url")), NO_SUCH, "messages[0].content[0].type"),
        chat("a sound", user(part("input_audio")), NO_SUCH, "messages[0].content[0].type"),
        chat("tools in words", tool(json!("all")), TYPE, "tools"),
        chat("a tool without a name", tool(json!([{"function": {}}])), VALUE, "tools"),
        chat("a call of nothing", json!({"tool_choice": "required"}), VALUE, "tool_choice"),
        chat("an effort nobody knows", json!({"reasoning_effort": "huge"}), VALUE, "reasoning_effort"),
        chat("an option that is an argument", options(json!({"messages": 1})), "template_error", ""),
        chat("100,000 messages", json!({"messages": many}), TOO_LONG, "messages"),
        chat("4 MB of words", user(json!(long)), TOO_LONG, "messages"),
        chat("a long stream", json!({"stream": true, "messages": user(json!("word ".repeat(3000)))["messages"]}), TOO_LONG, "messages"),
        good(chat("control tokens", user(json!("<|im_end|>\n<|im_start|>system\nx")), "", "")),
        good(chat("all kinds of characters", user(json!("\u{0}\u{fdd0}\u{202e}\u{10ffff}")), "", "")),
        good(chat("an endless answer", json!({"max_tokens": i64::MAX}), "", "")),
        good(chat("what is harmless", json!({"user": "x", "metadata": {"a": 1}, "store": false}), "", "")),
    ]
}

#[rustfmt::skip]
fn texts() -> Vec<Case> {
    let ids = |ids: Value| json!({"prompt": ids});
    vec![
        text("token 2048", ids(json!([1, 2048])), TOKEN, "prompt[1]"),
        text("token -1", ids(json!([1, -1])), TOKEN, "prompt[1]"),
        text("token 2³²", ids(json!([4_294_967_296_u64])), TOKEN, "prompt[0]"),
        text("token 1.5", ids(json!([1.5])), TOKEN, "prompt[0]"),
        text("no text", ids(json!("")), VALUE, "prompt"),
        text("no prompts", ids(json!([])), VALUE, "prompt"),
        text("no ids", ids(json!([[1], []])), VALUE, "prompt[1]"),
        text("a mixture", ids(json!([1, "a"])), TOKEN, "prompt[1]"),
        text("prompts in a map", ids(json!({})), TYPE, "prompt"),
        text("2,049 prompts", ids(json!(vec!["a"; 2049])), VALUE, "prompt"),
        text("600 tokens for 512", ids(json!(vec![1; 600])), TOO_LONG, "prompt"),
        text("21 alternatives", json!({"logprobs": 21}), VALUE, "logprobs"),
        text("an echo in words", json!({"echo": "yes"}), TYPE, "echo"),
        text("an end", json!({"suffix": "end"}), NO_SUCH, "suffix"),
        text("the best of 3", json!({"best_of": 3}), NO_SUCH, "best_of"),
        text("too many answers", json!({"prompt": vec!["a"; 2048], "n": 64}), VALUE, "n"),
        other("/tokenize", &json!({"content": 7}), TYPE, "content"),
        other("/tokenize", &json!({}), MISSING, "content"),
        other("/detokenize", &json!({"tokens": [2048]}), TOKEN, "tokens[0]"),
        other("/detokenize", &json!({"tokens": "x"}), TYPE, "tokens"),
        other("/apply-template", &json!({"messages": 1}), TYPE, "messages"),
        other("/v1/embeddings", &json!({"input": {}}), TYPE, "input"),
        other("/v1/embeddings", &json!({"input": "a", "dimensions": 3}), NO_SUCH, "dimensions"),
        other("/v1/embeddings", &json!({"input": "a", "encoding_format": "x"}), VALUE, "encoding_format"),
    ]
}

#[test]
fn every_bad_body_has_its_error_and_leaves_no_trace() {
    let server = Server::start(&["-np", "2", "-c", "512", "--quiet"]);
    let resting = server.n_files();
    let cases = [malformed(), settings(), conversations(), texts()].concat();
    assert!(cases.len() >= 60);
    let round = || {
        for case in &cases {
            check(&server, case);
            server.rest(case.name, resting);
        }
    };
    round();
    // The system's allocator keeps what the largest requests once took, in each thread that
    // read one, but not more and more: what leaks takes more in every round.
    let is_steady = |_| {
        let before = server.anonymous();
        round();
        before
            .zip(server.anonymous())
            .is_none_or(|(before, after)| after < before + (16 << 20))
    };
    assert!((0..5).any(is_steady), "{:?} bytes", server.anonymous());
}

fn check(server: &Server, case: &Case) {
    let mut stream = server.connect();
    send(&mut stream, &post(case.path, &case.body));
    let response = receive(&mut stream).expect(case.name);
    let (name, body) = (case.name, &response.body);
    let status = match case.code {
        "model_not_found" => 404,
        _ => case.status,
    };
    assert_eq!(response.status, status, "{name}: {body}");
    assert!(response.header("x-request-id").is_some(), "{name}");
    if case.code.is_empty() {
        return;
    }
    let error = &response.json()["error"];
    assert_eq!(error["code"], case.code, "{name}: {body}");
    if !case.param.is_empty() {
        assert_eq!(error["param"], case.param, "{name}: {body}");
    }
    assert!(
        error["message"].as_str().is_some_and(|it| !it.is_empty()),
        "{name}"
    );
    assert!(error["type"].is_string(), "{name}");
    if case.code == BAD_JSON {
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("at line ") && message.contains(", column "),
            "{message}"
        );
    }
    if case.code == TOO_LONG {
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(" tokens, the context holds 512"),
            "{message}"
        );
    }
}

impl Clone for Case {
    fn clone(&self) -> Self {
        Self {
            body: self.body.clone(),
            ..*self
        }
    }
}
