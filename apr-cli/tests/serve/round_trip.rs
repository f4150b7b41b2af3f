//! An agent's steps: what the model wrote goes back as the client got it, and the template writes
//! it as the model did, so that the cache holds and only what is new is computed. This model cuts
//! words otherwise than its tokenizer does, so the cache ends somewhere within what it wrote; what
//! stood before, the beginning of its turn included, is there.

use serde_json::{Value, json};

use crate::{models::Model, server::Server};

const CHAT: &str = "/v1/chat/completions";
const N_STEPS: usize = 4;

fn tools() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {
            "text": {"type": "string", "maxLength": 12},
            "n": {"type": "number"},
            "is_on": {"type": "boolean"},
        },
        "required": ["text", "n", "is_on"],
        "additionalProperties": false,
    });
    json!([{"type": "function", "function": {"name": "note", "parameters": parameters}}])
}

/// Has an agent make its steps, each with a call and its result.
fn agent(server: &Server, more: &Value) {
    let mut messages = vec![json!({"role": "user", "content": "Speak of Verona, step by step."})];
    let mut n_known = 0;
    for step in 0..N_STEPS {
        let mut body = json!({
            "messages": messages,
            "tools": tools(),
            "tool_choice": "required",
            "parallel_tool_calls": false,
            "temperature": 1.0,
            "seed": step,
            "max_tokens": 400,
        });
        let Value::Object(more) = more else {
            panic!("fields");
        };
        body.as_object_mut().unwrap().extend(more.clone());
        let answer = server.good(CHAT, &body);
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{more:?} {answer}");
        let usage = &answer["usage"];
        let count = |value: &Value| value.as_u64().unwrap();
        let n_cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
        assert!(
            n_cached >= n_known,
            "{more:?}, step {step}: {n_cached} of {n_known} are cached, {answer}"
        );
        n_known = count(&usage["prompt_tokens"]);
        let message = choice["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "It is noted."}));
    }
}

#[test]
fn every_step_of_an_agent_goes_on_from_the_one_before() {
    let names = ["Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "Qwen3-Coder"];
    for name in names {
        let model = Model::under(name);
        let server = Server::start(&["--quiet", "-c", "4096", "-m", model.path()]);
        agent(&server, &json!({}));
        agent(&server, &json!({"enable_thinking": false}));
    }
}

#[test]
fn a_tag_in_an_answer_is_no_thought() {
    let model = Model::under("Qwen-Qwen3-0.6B");
    let server = Server::start(&["--quiet", "-m", model.path()]);
    let render = |content: &str| {
        let body = json!({"messages": [
            {"role": "user", "content": "What ends a thought?"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": "And then?"},
        ]});
        let answer = server.good("/apply-template", &body);
        answer["prompt"].as_str().unwrap().to_owned()
    };
    let tag = "The tag </think> does.";
    assert!(render(tag).contains(tag));
    let whole = render("<think>Hm.</think>It does.");
    assert!(
        whole.contains("assistant\nIt does.") && !whole.contains("Hm."),
        "{whole}"
    );
}
