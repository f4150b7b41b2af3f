//! The APIs that make the model work: what a good request is, and how each tells an error.

use serde_json::{Value, json};

use crate::wire::Response;

/// In which form errors come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    OpenAi,
    Anthropic,
    Ollama,
}

/// A route with a body that is answered.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) path: &'static str,
    pub(crate) form: Form,
    pub(crate) body: Value,
    /// The field that the prompt comes from.
    pub(crate) prompt: &'static str,
    pub(crate) has_stream: bool,
}

fn api(path: &'static str, form: Form, prompt: &'static str, body: Value) -> Api {
    Api {
        path,
        form,
        body,
        prompt,
        has_stream: path != "/v1/embeddings",
    }
}

/// Returns all that go through the engine.
pub(crate) fn working() -> Vec<Api> {
    let messages = json!([{"role": "user", "content": "Speak"}]);
    let model = "built-in-model";
    let few = json!({"num_predict": 2});
    vec![
        api(
            "/v1/chat/completions",
            Form::OpenAi,
            "messages",
            json!({"messages": messages, "max_tokens": 2}),
        ),
        api(
            "/v1/completions",
            Form::OpenAi,
            "prompt",
            json!({"prompt": "Speak", "max_tokens": 2}),
        ),
        api(
            "/v1/responses",
            Form::OpenAi,
            "input",
            json!({"input": "Speak", "max_output_tokens": 2}),
        ),
        api(
            "/v1/embeddings",
            Form::OpenAi,
            "input",
            json!({"input": "Speak"}),
        ),
        api(
            "/v1/messages",
            Form::Anthropic,
            "messages",
            json!({"messages": messages, "max_tokens": 2}),
        ),
        api(
            "/api/chat",
            Form::Ollama,
            "messages",
            json!({"model": model, "messages": messages, "stream": false, "options": few}),
        ),
        api(
            "/api/generate",
            Form::Ollama,
            "prompt",
            json!({"model": model, "prompt": "Speak", "stream": false, "options": few}),
        ),
    ]
}

/// Returns all with a body, those that only read and write text too.
pub(crate) fn all() -> Vec<Api> {
    let messages = json!([{"role": "user", "content": "Speak"}]);
    let text = |path, prompt, body| Api {
        has_stream: false,
        ..api(path, Form::OpenAi, prompt, body)
    };
    let mut all = working();
    all.extend([
        text("/tokenize", "content", json!({"content": "Speak"})),
        text("/detokenize", "tokens", json!({"tokens": [1, 2]})),
        text("/apply-template", "messages", json!({"messages": messages})),
        Api {
            has_stream: false,
            ..api(
                "/v1/messages/count_tokens",
                Form::Anthropic,
                "messages",
                json!({"messages": messages}),
            )
        },
    ]);
    all
}

impl Api {
    /// Returns the good body with some fields of another value.
    pub(crate) fn with(&self, more: Value) -> Value {
        let Value::Object(more) = more else {
            panic!("fields");
        };
        let mut body = self.body.clone();
        body.as_object_mut().unwrap().extend(more);
        body
    }

    /// Returns what is wrong with an error that was told, if anything.
    pub(crate) fn complaint(&self, error: &Value, code: &str, param: &str) -> Option<String> {
        let body = match self.form {
            Form::Ollama => {
                // An error is a text, which begins with the field that it is about; one about
                // the length of all has both counts instead.
                let text = error["error"].as_str().unwrap_or_default();
                let is_right = match (code, param) {
                    (_, "") => !text.is_empty(),
                    ("context_length_exceeded", _) => text.contains(" tokens, the context holds "),
                    (_, param) => text.starts_with(&format!("{param}: ")),
                };
                return (!is_right).then(|| format!("expected {param:?}, found {error}"));
            }
            Form::Anthropic if error["type"] != "error" => {
                return Some(format!("no error of Anthropic's: {error}"));
            }
            Form::Anthropic | Form::OpenAi => &error["error"],
        };
        let has_texts = ["message", "type"]
            .iter()
            .all(|name| body[name].as_str().is_some_and(|it| !it.is_empty()));
        let is_right = has_texts
            && body["code"] == code
            && body.get("param").is_some()
            && (param.is_empty() || body["param"] == param);
        (!is_right).then(|| format!("expected {code} of {param:?}, found {error}"))
    }
}

/// Returns the last thing that a stream said: an event of server-sent ones, or a line.
pub(crate) fn last_word(response: &Response) -> Value {
    let mut lines = response.body.trim_end().lines();
    let line = lines.next_back().unwrap_or_default();
    let data = line.strip_prefix("data: ").unwrap_or(line);
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}
