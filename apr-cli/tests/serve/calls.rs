//! Calls of tools: each names a tool that exists and has arguments that its schema allows, in
//! both forms that models are taught.

use serde_json::{Value, json};

use crate::{models::Model, server::Server};

const CHAT: &str = "/v1/chat/completions";
/// The token `<tool_call>` of the built-in model, and the one that other ways of writing it
/// begin with.
const OPEN: &str = "2042";
const BRACKET: &str = "27";

fn function(name: &str, parameters: &Value) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

/// The schemas of two tools.
fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 8},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "unit": {"enum": ["C", "F"]},
            "hours": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
        "required": ["city", "days"],
    })
}

fn note() -> Value {
    json!({
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 2, "maxLength": 6},
            "to": {"$ref": "#/$defs/who"},
        },
        "required": ["text", "to"],
        "$defs": {"who": {"type": "string", "enum": ["Romeo", "Juliet"]}},
        "additionalProperties": false,
    })
}

fn tools() -> Value {
    json!([
        function("weather", &weather()),
        function("note", &note()),
        function("wait", &json!({}))
    ])
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "What is the weather in Verona?"}],
        "max_tokens": 400,
        "temperature": 1.5,
        "seed": 7,
        "tools": tools(),
    });
    let Value::Object(more) = more else {
        panic!("fields");
    };
    body.as_object_mut().unwrap().extend(more);
    body
}

/// Returns the names and arguments of the calls of a message.
fn calls(message: &Value) -> Vec<(String, String)> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let call = |call: &Value| {
        let function = &call["function"];
        let text = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
        (text("name"), text("arguments"))
    };
    calls.map(call).collect()
}

fn assert_valid(calls: &[(String, String)]) {
    assert!(!calls.is_empty());
    for (name, arguments) in calls {
        let value: Value =
            serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {arguments}"));
        let schema = match name.as_str() {
            "weather" => weather(),
            "note" => note(),
            "wait" => json!({"maxProperties": 0, "type": "object"}),
            other => panic!("no tool is called {other}"),
        };
        assert!(jsonschema::is_valid(&schema, &value), "{name}: {arguments}");
    }
}

/// Runs a check with the built-in model and with one that is taught the other form.
fn in_both_forms(check: impl Fn(&Server)) {
    check(&Server::start(&["--quiet", "-np", "4"]));
    let coder = Model::coder();
    check(&Server::start(&["--quiet", "-np", "4", "-m", coder.path()]));
}

#[test]
fn a_call_that_is_demanded_is_made_and_is_valid() {
    in_both_forms(|server| {
        for temperature in [0.0, 1.0, 20.0] {
            let more = json!({"tool_choice": "required", "n": 4, "temperature": temperature});
            let answer = server.good(CHAT, &chat(more));
            for choice in answer["choices"].as_array().unwrap() {
                let made = calls(&choice["message"]);
                // One that is cut off ends in the middle of a call.
                let is_cut = choice["finish_reason"] == "length";
                let n_whole = made.len() - usize::from(is_cut && made.len() > 1);
                assert_valid(&made[..n_whole]);
                assert!(is_cut || choice["message"]["content"].is_null(), "{choice}");
            }
        }
        for name in ["weather", "note", "wait"] {
            let choice = json!({"type": "function", "function": {"name": name}});
            let answer = server.good(CHAT, &chat(json!({"tool_choice": choice})));
            let choice = &answer["choices"][0];
            let made = calls(&choice["message"]);
            assert_valid(&made);
            assert_eq!((made.len(), &*made[0].0), (1, name), "{choice}");
            assert_eq!(choice["finish_reason"], "tool_calls");
        }
        let more = json!({"tool_choice": "required", "parallel_tool_calls": false});
        let answer = server.good(CHAT, &chat(more));
        assert_eq!(calls(&answer["choices"][0]["message"]).len(), 1);
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    });
}

#[test]
fn calls_come_in_pieces_as_they_come_whole() {
    in_both_forms(|server| {
        let demanded = json!({"tool_choice": "required", "parallel_tool_calls": false});
        let mut body = chat(demanded);
        let whole = server.good(CHAT, &body);
        let again = server.good(CHAT, &body);
        let message = &whole["choices"][0]["message"];
        assert_eq!(calls(message), calls(&again["choices"][0]["message"]));
        body["stream"] = json!(true);
        let (mut name, mut arguments, mut finish) = (String::new(), String::new(), Value::Null);
        for event in server.post(CHAT, &body).events() {
            let Ok(chunk) = serde_json::from_str::<Value>(&event) else {
                continue;
            };
            let choice = &chunk["choices"][0];
            let function = &choice["delta"]["tool_calls"][0]["function"];
            name.push_str(function["name"].as_str().unwrap_or_default());
            arguments.push_str(function["arguments"].as_str().unwrap_or_default());
            if !choice["finish_reason"].is_null() {
                finish = choice["finish_reason"].clone();
            }
        }
        assert_eq!(calls(message), [(name, arguments)]);
        assert_eq!(finish, "tool_calls");
    });
}

#[test]
fn a_call_that_the_model_begins_is_held_to_its_schema() {
    in_both_forms(|server| {
        let begins = json!({"logit_bias": {OPEN: 100}, "parallel_tool_calls": false});
        let answer = server.good(CHAT, &chat(begins));
        assert_valid(&calls(&answer["choices"][0]["message"]));
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        // A tool that may not be called.
        let only = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "note"}},
        ]}});
        let more =
            json!({"logit_bias": {OPEN: 100}, "parallel_tool_calls": false, "tool_choice": only});
        let answer = server.good(CHAT, &chat(more));
        assert_eq!(calls(&answer["choices"][0]["message"])[0].0, "note");
        let none = json!({"tool_choice": "none", "max_tokens": 12});
        let answer = server.good(CHAT, &chat(none));
        assert!(answer["choices"][0]["message"]["content"].is_string());
    });
}

#[test]
fn with_tools_and_a_form_an_answer_is_a_call_or_of_the_form() {
    in_both_forms(|server| {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"], "additionalProperties": false});
        let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
        let more = |bias: Value| json!({"response_format": format, "logit_bias": bias});
        let answer = server.good(CHAT, &chat(more(json!({OPEN: -100, BRACKET: -100}))));
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        assert!(
            ["{\"ok\": true}", "{\"ok\": false}"].contains(&text),
            "{text}"
        );
        assert_eq!(choice["finish_reason"], "stop");
        let mut body = chat(more(json!({OPEN: 100})));
        body["parallel_tool_calls"] = json!(false);
        let answer = server.good(CHAT, &body);
        assert_valid(&calls(&answer["choices"][0]["message"]));
        let answer = server.post(CHAT, &chat(json!({"regex": "a"})));
        assert_eq!(
            (answer.status, &answer.json()["error"]["param"]),
            (400, &json!("regex"))
        );
    });
}

#[test]
fn what_cannot_be_held_to_is_refused_where_it_must_be() {
    in_both_forms(|server| {
        let schema = json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "uniqueItems": true, "maxItems": 3},
        }});
        let mut tool = function("f", &schema);
        let refused = |body: &Value| {
            let response = server.post(CHAT, body);
            assert_eq!(response.status, 400, "{}", response.body);
            let error = &response.json()["error"];
            assert_eq!(error["param"], "tools[0]", "{error}");
            assert!(
                error["message"].as_str().unwrap().contains("`uniqueItems`"),
                "{error}"
            );
        };
        refused(&chat(json!({"tools": [tool], "tool_choice": "required"})));
        // Names and types are held to all the same.
        let more =
            json!({"tools": [tool], "logit_bias": {OPEN: 100}, "parallel_tool_calls": false});
        let answer = server.good(CHAT, &chat(more));
        let made = calls(&answer["choices"][0]["message"]);
        assert!(made[0].0 == "f" && made[0].1.starts_with('{'), "{made:?}");
        tool["function"]["strict"] = json!(true);
        refused(&chat(json!({"tools": [tool]})));
        let unknown = json!({"tool_choice": {"type": "function", "function": {"name": "other"}}});
        let response = server.post(CHAT, &chat(unknown));
        assert_eq!(response.json()["error"]["param"], "tool_choice");
    });
}

#[test]
fn other_apis_demand_calls_in_their_own_words() {
    let server = Server::start(&["--quiet", "-np", "4"]);
    let message = chat(json!({}))["messages"].clone();
    let tool = json!({"type": "function", "name": "note", "parameters": note(), "strict": true});
    for choice in [
        json!("required"),
        json!({"type": "function", "name": "note"}),
    ] {
        let body = json!({"input": message, "tools": [tool], "tool_choice": choice, "parallel_tool_calls": false});
        let answer = server.good("/v1/responses", &body);
        let item = &answer["output"][0];
        assert_eq!(
            (&item["type"], &item["name"]),
            (&json!("function_call"), &json!("note"))
        );
        let arguments: Value = serde_json::from_str(item["arguments"].as_str().unwrap()).unwrap();
        assert!(jsonschema::is_valid(&note(), &arguments), "{item}");
    }
    let tool = json!({"name": "note", "input_schema": note()});
    for choice in [
        json!({"type": "any", "disable_parallel_tool_use": true}),
        json!({"type": "tool", "name": "note"}),
    ] {
        let body =
            json!({"messages": message, "tools": [tool], "tool_choice": choice, "max_tokens": 400});
        let answer = server.good("/v1/messages", &body);
        let block = &answer["content"][0];
        assert_eq!(
            (&block["type"], &block["name"]),
            (&json!("tool_use"), &json!("note"))
        );
        assert!(jsonschema::is_valid(&note(), &block["input"]), "{block}");
        assert_eq!(answer["stop_reason"], "tool_use");
    }
}

#[test]
fn the_token_that_ends_a_single_call_has_its_score() {
    let server = Server::start(&["--quiet"]);
    let single = json!({"tool_choice": "required", "parallel_tool_calls": false, "logprobs": true});
    let answer = server.good(CHAT, &chat(single));
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let scores = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(json!(scores.len()), answer["usage"]["completion_tokens"]);
}
