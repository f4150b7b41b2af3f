//! Chat templates render as with Hugging Face's transformers, byte for byte.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizer::{ChatTemplate, Message};

#[derive(Deserialize)]
struct Golden {
    template: String,
    messages: Vec<Message>,
    tools: Option<Value>,
    chat_template_kwargs: Map<String, Value>,
    add_generation_prompt: bool,
    rendered: String,
}

fn template(name: &str) -> ChatTemplate {
    let source = match name {
        "Qwen-Qwen2.5-7B-Instruct.jinja" => {
            include_str!("data/template__Qwen-Qwen2.5-7B-Instruct.jinja")
        }
        "Qwen-Qwen3-0.6B.jinja" => include_str!("data/template__Qwen-Qwen3-0.6B.jinja"),
        "Qwen3-Coder.jinja" => include_str!("data/template__Qwen3-Coder.jinja"),
        other => panic!("no template {other}"),
    };
    ChatTemplate::new(source).unwrap()
}

fn assert_goldens(goldens: &str, n_expected: usize) {
    let goldens: Vec<Golden> = serde_json::from_str(goldens).unwrap();
    assert_eq!(goldens.len(), n_expected);
    for (i, golden) in goldens.iter().enumerate() {
        let rendered = template(&golden.template)
            .render(
                &golden.messages,
                golden.tools.as_ref(),
                &golden.chat_template_kwargs,
                golden.add_generation_prompt,
            )
            .unwrap();
        assert_eq!(rendered, golden.rendered, "conversation {i}");
    }
}

#[test]
fn conversations_render_as_transformers_renders_them() {
    assert_goldens(include_str!("data/chat__goldens.json"), 52);
}

#[test]
fn all_reference_conversations_render_as_transformers_renders_them() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/chat/goldens.json");
    match std::fs::read_to_string(&path) {
        Ok(goldens) => assert_goldens(&goldens, 120),
        Err(_) => println!("skipped: {} is absent", path.display()),
    }
}
