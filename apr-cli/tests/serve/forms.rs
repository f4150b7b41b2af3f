//! Answers of a given form: valid whatever the weights, under the name that each API has for it.

use serde_json::{Value, json};

use crate::{
    models::Model,
    server::Server,
    wire::{get, post, send},
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A schema of which every text is short.
fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["mad", "sad", "bad"]}, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    })
}

fn response_format() -> Value {
    let schema = json!({"name": "person", "strict": true, "schema": person()});
    json!({"type": "json_schema", "json_schema": schema})
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Who art thou?"}],
        "max_tokens": 300,
        "temperature": 1.5,
        "seed": 7,
    });
    extend(&mut body, more);
    body
}

fn extend(body: &mut Value, more: Value) {
    let Value::Object(more) = more else {
        panic!("fields");
    };
    body.as_object_mut().unwrap().extend(more);
}

fn assert_valid(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(jsonschema::is_valid(&person(), &value), "{text}");
}

/// Returns the texts of all choices, which have to have come to their own end.
fn contents(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().unwrap().iter();
    let content = |choice: &'_ Value| {
        assert_eq!(choice["finish_reason"], "stop", "{choice}");
    };
    choices
        .inspect(|choice| content(choice))
        .map(|choice| {
            let text = choice["message"]["content"].as_str();
            text.or_else(|| choice["text"].as_str()).unwrap()
        })
        .collect()
}

#[test]
fn every_answer_is_valid_by_its_schema_in_every_api() {
    let server = Server::start(&["--quiet", "-np", "4"]);
    for temperature in [0.0, 1.0, 20.0] {
        let more =
            json!({"response_format": response_format(), "n": 4, "temperature": temperature});
        let answer = server.good(CHAT, &chat(more));
        contents(&answer).into_iter().for_each(assert_valid);
    }
    for name in ["json_schema", "guided_json"] {
        let answer = server.good(CHAT, &chat(json!({name: person()})));
        assert_valid(contents(&answer)[0]);
    }
    let body = json!({"prompt": ["ROMEO:", "JULIET:"], "response_format": response_format(),
        "max_tokens": 300, "seed": 1});
    let answer = server.good(TEXT, &body);
    contents(&answer).into_iter().for_each(assert_valid);

    let format = json!({"type": "json_schema", "name": "person", "schema": person()});
    let body = json!({"input": "Who art thou?", "text": {"format": format}, "seed": 3});
    let answer = server.good("/v1/responses", &body);
    assert_valid(answer["output"][0]["content"][0]["text"].as_str().unwrap());
    assert_eq!(answer["text"]["format"]["name"], "person");

    let format = json!({"type": "json_schema", "schema": person()});
    for more in [
        json!({"output_config": {"format": format}}),
        json!({"output_format": format}),
    ] {
        let body = chat(more);
        let answer = server.good("/v1/messages", &body);
        assert_valid(answer["content"][0]["text"].as_str().unwrap());
    }
    let ask = json!({"model": "built-in-model", "messages": chat(json!({}))["messages"], "stream": false, "format": person()});
    let answer = server.good("/api/chat", &ask);
    assert_valid(answer["message"]["content"].as_str().unwrap());
    let ask = json!({"model": "built-in-model", "prompt": "Who art thou?", "stream": false, "format": person(), "raw": true});
    let answer = server.good("/api/generate", &ask);
    assert_valid(answer["response"].as_str().unwrap());
}

#[test]
fn other_forms_hold_as_schemas_do() {
    let server = Server::start(&["--quiet"]);
    let told = |more: Value| {
        let answer = server.good(CHAT, &chat(more));
        contents(&answer)[0].to_owned()
    };
    let words = ["aye", "nay", "peradventure"];
    assert!(words.contains(&told(json!({"choice": words})).as_str()));
    assert!(words.contains(&told(json!({"structured_outputs": {"choice": words}})).as_str()));
    let is_time = |text: &str| {
        let (hours, minutes) = text.split_once(':').unwrap();
        hours.len() == 2
            && minutes.len() == 2
            && text.bytes().all(|b| b.is_ascii_digit() || b == b':')
    };
    for more in [
        json!({"regex": "[0-9]{2}:[0-9]{2}"}),
        json!({"grammar": "root ::= d d \":\" d d\nd ::= [0-9]"}),
        json!({"grammar": "%llguidance {}\nstart: D \":\" D\nD: /[0-9]{2}/"}),
    ] {
        let text = told(more.clone());
        assert!(is_time(&text), "{more}: {text}");
    }
    // Any object may be long, so this one may be cut off.
    let body = chat(json!({"response_format": {"type": "json_object"}, "max_tokens": 40}));
    let answer = server.good(CHAT, &body);
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
}

#[test]
fn a_held_answer_is_the_same_streamed_scored_alone_beside_others_and_cut() {
    let server = Server::start(&["--quiet", "-np", "4"]);
    let held = |more: Value| {
        let mut body = chat(json!({"response_format": response_format()}));
        extend(&mut body, more);
        body
    };
    let whole = server.good(CHAT, &held(json!({"cache_prompt": false})));
    let text = contents(&whole)[0];
    let streamed = server.post(CHAT, &held(json!({"stream": true})));
    let mut pieces = String::new();
    for event in streamed.events().iter().filter(|event| *event != "[DONE]") {
        let chunk: Value = serde_json::from_str(event).unwrap();
        pieces.push_str(
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
    }
    assert_eq!(pieces, text);
    let scored = server.good(CHAT, &held(json!({"logprobs": true, "top_logprobs": 2})));
    assert_eq!(contents(&scored)[0], text);
    let scores = scored["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let tokens = scores.iter().filter_map(|score| score["token"].as_str());
    assert_eq!(tokens.collect::<String>(), text);
    let several = server.good(CHAT, &held(json!({"n": 4})));
    for (idx, choice) in contents(&several).into_iter().enumerate() {
        let alone = server.good(CHAT, &held(json!({"seed": 7 + idx})));
        assert_eq!(contents(&alone)[0], choice);
    }
    let cut = server.good(CHAT, &held(json!({"max_tokens": 9})));
    let choice = &cut["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &cut["usage"]["completion_tokens"]),
        (&json!("length"), &json!(9))
    );
    assert!(text.starts_with(choice["message"]["content"].as_str().unwrap()));
}

#[test]
fn a_form_begins_behind_the_thought() {
    let model = Model::thinking();
    let server = Server::start(&["--quiet", "-m", model.path()]);
    let more = json!({"response_format": response_format(), "thinking_budget": 6});
    let answer = server.good(CHAT, &chat(more));
    let message = &answer["choices"][0]["message"];
    assert_valid(message["content"].as_str().unwrap());
    assert!(!message["reasoning_content"].as_str().unwrap().is_empty());
    for logprobs in [false, true] {
        let more =
            json!({"grammar": "root ::= \"aye\"", "thinking_budget": 6, "logprobs": logprobs});
        let answer = server.good(CHAT, &chat(more));
        assert_eq!(answer["choices"][0]["message"]["content"], "aye");
    }
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let more = json!({"tools": [tool], "tool_choice": "required", "thinking_budget": 6, "parallel_tool_calls": false});
    let answer = server.good(CHAT, &chat(more));
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["name"], "f");
    assert!(!message["reasoning_content"].as_str().unwrap().is_empty());
}

/// Forms that are refused, and which field and what of it is told.
fn hostile() -> Vec<(Value, &'static str, &'static str)> {
    let schema = |schema: Value| json!({"json_schema": schema});
    let deep = (0..40).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}));
    let many: Vec<_> = (0..70_000).map(|n| format!("word {n}")).collect();
    let circle = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
    vec![
        (schema(json!({"not": {}})), "json_schema", "`not` in #"),
        (
            schema(json!({"items": {"uniqueItems": true}})),
            "json_schema",
            "`uniqueItems` in #/items",
        ),
        (schema(deep), "json_schema", "levels, expected at most"),
        (
            schema(json!({"enum": many})),
            "json_schema",
            "70000 elements of a list",
        ),
        (schema(circle), "json_schema", "JSON schema"),
        (
            schema(json!({"type": "string", "maxLength": 1e12})),
            "json_schema",
            "`maxLength`",
        ),
        (
            schema(json!({"pattern": "((((a{99}){99}){99}){99})"})),
            "json_schema",
            "when written out",
        ),
        (
            json!({"regex": "(a{500}){500}{500}"}),
            "regex",
            "when written out",
        ),
        (json!({"regex": "(?=a)b"}), "regex", "regular expression"),
        (
            json!({"grammar": "root ::= (((\"a\"{999}){999}){999})"}),
            "grammar",
            "GBNF grammar",
        ),
        (
            json!({"grammar": "root ::= other"}),
            "grammar",
            "GBNF grammar",
        ),
        (json!({"choice": []}), "choice", "it has no texts"),
        (json!({"choice": ["a"], "regex": "a"}), "choice", "one form"),
        (
            json!({"choice": ["a"], "ignore_eos": true}),
            "ignore_eos",
            "has to end",
        ),
    ]
}

#[test]
fn hostile_forms_are_refused_while_others_are_answered() {
    let server = Server::start(&["--quiet", "-np", "2", "-c", "4096"]);
    let long = json!({"prompt": "ROMEO:", "max_tokens": 4000, "ignore_eos": true, "stream": true});
    let n_decoded = || {
        let slots = server.ask(&get("/slots")).json();
        let slots = slots.as_array().unwrap().iter();
        let n = slots.filter_map(|slot| slot["next_token"]["n_decoded"].as_u64());
        n.max()
    };
    for (more, param, message) in hostile() {
        let mut other = server.connect();
        send(&mut other, &post(TEXT, long.to_string().as_bytes()));
        server.wait_until("it speaks", |_| n_decoded().is_some_and(|n| n > 0));
        let before = n_decoded().unwrap_or_default();
        let response = server.post(CHAT, &chat(more.clone()));
        assert_eq!(response.status, 400, "{message}: {}", response.body);
        let error = &response.json()["error"];
        assert_eq!(error["param"], param, "{}", response.body);
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{}",
            response.body
        );
        server.wait_until("it has gone on", |_| n_decoded().is_none_or(|n| n > before));
        drop(other);
        server.wait_until("it has ended", |_| n_decoded().is_none());
    }
    let answer = server.good(CHAT, &chat(json!({"choice": ["aye"]})));
    assert_eq!(contents(&answer), ["aye"]);
}
