//! A reply that was read and put back through the template is the text that the model wrote,
//! so that the prefix which an agent's next request shares with the cache is as long as can be.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::PathBuf;

use reply_parser::{ArgumentsShape, CallForm, Ending, ReasoningStart, Reply, ReplyFormat, Tool};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizer::{ChatTemplate, Message, SpecialTokens, Tokenizer};

const TEMPLATES: [(&str, &str); 3] = [
    (
        "Qwen-Qwen2.5-7B-Instruct.jinja",
        include_str!("../../tokenizer/tests/data/template__Qwen-Qwen2.5-7B-Instruct.jinja"),
    ),
    (
        "Qwen-Qwen3-0.6B.jinja",
        include_str!("../../tokenizer/tests/data/template__Qwen-Qwen3-0.6B.jinja"),
    ),
    (
        "Qwen3-Coder.jinja",
        include_str!("../../tokenizer/tests/data/template__Qwen3-Coder.jinja"),
    ),
];

fn source(name: &str) -> &'static str {
    let template = TEMPLATES.iter().find(|(known, _)| name == *known);
    template.unwrap_or_else(|| panic!("no template {name}")).1
}

fn tools() -> Value {
    serde_json::from_str(include_str!("data/corpus__tools.json")).unwrap()
}

fn message(value: Value) -> Message {
    serde_json::from_value(value).unwrap()
}

fn assert_written_again(template: &str, replies: &[&str]) {
    let bard = include_bytes!("../../tokenizer/tests/data/bard__tokenizer.json");
    let tokenizer = Tokenizer::from_json(bard).unwrap();
    let (tools, options) = (tools(), Map::new());
    let template = source(template);
    let chat = ChatTemplate::new(template).unwrap();
    let render = |messages: &[Message]| {
        let prompt = tokenizer.encode_chat(&chat, messages, Some(&tools), &options, true);
        prompt.unwrap()
    };
    let user = Message::new("user", "What is the weather in Paris?");
    let prompt = render(std::slice::from_ref(&user));
    let format = ReplyFormat::of_template(template, &prompt.text, Tool::list(&tools).unwrap());
    for reply in replies {
        let read = Reply::read(&format, reply, Ending::Stopped, "");
        let answer = message(format.template_message(&read));
        let result = message(json!({"role": "tool", "content": "rain"}));
        let next = render(&[user.clone(), answer, result]);

        let text = format!("{}{reply}<|im_end|>", prompt.text);
        assert_eq!(next.text.get(..text.len()), Some(text.as_str()));

        let mut ids = prompt.ids.clone();
        ids.extend(tokenizer.encode(reply, SpecialTokens::AsText));
        ids.extend(tokenizer.id("<|im_end|>"));
        assert_eq!(next.ids.get(..ids.len()), Some(ids.as_slice()), "{reply}");
    }
}

#[test]
fn templates_say_how_calls_are_written() {
    let of = |name, prompt| {
        let format = ReplyFormat::of_template(source(name), prompt, Tool::list(&tools()).unwrap());
        (format.calls.unwrap(), format.arguments, format.reasoning)
    };
    assert_eq!(
        of("Qwen-Qwen2.5-7B-Instruct.jinja", "<|im_start|>assistant\n"),
        (CallForm::Hermes, ArgumentsShape::Map, None)
    );
    assert_eq!(
        of("Qwen-Qwen3-0.6B.jinja", "<think>\n\n</think>\n\n"),
        (
            CallForm::Hermes,
            ArgumentsShape::Text,
            Some(ReasoningStart::ByModel)
        )
    );
    assert_eq!(
        of("Qwen3-Coder.jinja", "<|im_start|>assistant\n<think>\n"),
        (
            CallForm::CoderXml,
            ArgumentsShape::MapOfTexts,
            Some(ReasoningStart::OpenedByPrompt)
        )
    );
    let without = ReplyFormat::of_template(source("Qwen3-Coder.jinja"), "", Vec::new());
    assert_eq!(without.calls, None);
}

const CALLS: [&str; 8] = [
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
    "I will look.\n<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>",
    "I will look.\n\n<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"unit\": \"celsius\", \"city\": \"東京 🙂\", \"days\": 3}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"write_file\", \"arguments\": {\"path\": \"a\\\\b\", \"content\": \"\\\"x\\\"\\n\\t<b> & 'y'\"}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"search_files\", \"arguments\": {\"z\": [1, -2.5, true, null], \"options\": {\"b\": {}, \"a\": []}}}\n</tool_call>",
    "Tags such as </think> are text.\n<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>",
    "No calls here, but `<tool_call>` is mentioned.",
];

#[test]
fn hermes_calls_are_written_again_by_qwen25() {
    assert_written_again("Qwen-Qwen2.5-7B-Instruct.jinja", &CALLS);
}

#[test]
fn hermes_calls_are_written_again_by_qwen3_behind_thoughts() {
    for thought in [
        "<think>\nHm.\n\nSo: <tool_call>\n</think>\n\n",
        "<think>\n\n</think>\n\n",
    ] {
        let replies = CALLS.map(|call| format!("{thought}{call}"));
        assert_written_again(
            "Qwen-Qwen3-0.6B.jinja",
            &replies.each_ref().map(String::as_str),
        );
    }
}

#[test]
fn hermes_calls_are_written_again_by_qwen3_without_thoughts() {
    assert_written_again("Qwen-Qwen3-0.6B.jinja", &CALLS);
}

#[test]
fn qwen3_writes_arguments_again_however_they_are_laid_out() {
    assert_written_again(
        "Qwen-Qwen3-0.6B.jinja",
        &[
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1.50,  \"b\" : \"\\u00e9\\/\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\n  \"a\": 1e5,\n  \"a\": 2\n}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 123456789012345678901234567890}}\n</tool_call>",
        ],
    );
}

#[test]
fn coder_calls_are_written_again() {
    let call = |parameters: &str| {
        format!("<tool_call>\n<function=search_files>\n{parameters}</function>\n</tool_call>")
    };
    let parameter = |key: &str, value: &str| format!("<parameter={key}>\n{value}\n</parameter>\n");
    let all = [
        parameter("pattern", "5"),
        parameter("max", "-7"),
        parameter("paths", "[\"a\",  1.50]"),
        parameter("options", "{\"b\":{\n}, \"a\": 1e3}"),
        parameter("case_sensitive", "true"),
        parameter("since", "null"),
        parameter("unknown", "0.50"),
    ];
    let replies = [
        call(""),
        call(&parameter("pattern", "x\n\n  <b> \"q\" & \\n 東京 🙂\n")),
        call(&parameter("max", "ten")),
        call(&all.concat()),
        format!("I will look.\n\n{}", call(&all[1])),
        format!("{}\n{}", call(&all[0]), call(&all[1])),
        "Just text.".to_owned(),
    ];
    assert_written_again("Qwen3-Coder.jinja", &replies.each_ref().map(String::as_str));
}

#[derive(Deserialize)]
struct Golden {
    template: String,
    messages: Vec<Message>,
    tools: Option<Value>,
    chat_template_kwargs: Map<String, Value>,
}

/// Returns how many replies there were, and how many calls.
fn assert_goldens(goldens: &str) -> (usize, usize) {
    let goldens: Vec<Golden> = serde_json::from_str(goldens).unwrap();
    let (mut n_replies, mut n_calls) = (0, 0);
    for golden in &goldens {
        let template = source(&golden.template);
        let chat = ChatTemplate::new(template).unwrap();
        let render = |messages: &[Message], is_open| {
            let (tools, options) = (golden.tools.as_ref(), &golden.chat_template_kwargs);
            chat.render(messages, tools, options, is_open).unwrap()
        };
        let tools = golden.tools.as_ref().map_or(Ok(Vec::new()), Tool::list);
        let tools = tools.unwrap();
        for (at, reply) in golden.messages.iter().enumerate() {
            let calls = reply.tool_calls.as_ref();
            // Without tools nothing is a call.
            if reply.role != "assistant" || (calls.is_some() && tools.is_empty()) {
                continue;
            }
            let prompt = render(&golden.messages[..at], true);
            let whole = render(&golden.messages[..=at], false);
            // The template may have taken a thought out of the content.
            let Some(text) = whole.strip_prefix(&prompt) else {
                continue;
            };
            let text = text.strip_suffix("<|im_end|>\n").unwrap();
            let format = ReplyFormat::of_template(template, &prompt, tools.clone());
            let read = Reply::read(&format, text, Ending::Stopped, "");
            assert_eq!(read.tool_calls.len(), calls.map_or(0, Vec::len));
            let mut messages = golden.messages[..at].to_vec();
            messages.push(message(format.template_message(&read)));
            assert_eq!(render(&messages, false), whole);
            n_replies += 1;
            n_calls += read.tool_calls.len();
        }
    }
    (n_replies, n_calls)
}

#[test]
fn replies_in_reference_conversations_are_written_again() {
    let goldens = include_str!("../../tokenizer/tests/data/chat__goldens.json");
    assert_eq!(assert_goldens(goldens), (101, 8));
}

#[test]
fn replies_in_all_reference_conversations_are_written_again() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/chat/goldens.json");
    match std::fs::read_to_string(&path) {
        Ok(goldens) => assert_eq!(assert_goldens(&goldens), (343, 69)),
        Err(_) => eprintln!("skipped: {} is absent", path.display()),
    }
}
