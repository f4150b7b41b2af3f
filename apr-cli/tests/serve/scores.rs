//! What benchmarks ask a server for: the scores of prompts, and the tokenizer.

use std::process::Command;

use serde_json::{Value, json};

use crate::{server::Server, wire::get};

const TEXT: &str = "/v1/completions";
const ITEMS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/eval__choices.jsonl"
);

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn scores_are_as_many_as_tokens_also_when_a_control_token_ends_the_text() {
    let server = Server::start(&["--quiet"]);
    let info = server.ask(&get("/tokenizer_info")).json();
    let end = server.good("/tokenize", &json!({"prompt": info["eos_token"]}));
    assert_eq!(end["count"], 1);
    let end = end["tokens"][0].as_u64().unwrap();
    let mut bias = json!({});
    bias[end.to_string()] = 100.into();
    let body = json!({
        "prompt": [[40, 41, 42], [40, 41]],
        "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0, "logit_bias": bias,
    });
    let answer = server.good(TEXT, &body);
    for (idx, n_prompt) in [(0, 3), (1, 2)] {
        let choice = &answer["choices"][idx];
        assert_eq!(choice["finish_reason"], "stop");
        let scores = &choice["logprobs"];
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let list = scores[list].as_array().unwrap();
            assert_eq!(list.len(), n_prompt + 1, "{scores}");
        }
        assert!(scores["token_logprobs"][n_prompt].is_number());
        let tokens = scores["tokens"].as_array().unwrap();
        let text: String = tokens[..n_prompt]
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        assert_eq!(choice["text"], text);
    }
    // Without an echo too, and as the last chunk of a stream says it.
    let alone = json!({"prompt": [40], "logprobs": 1, "logit_bias": bias});
    let answer = server.good(TEXT, &alone);
    let scores = &answer["choices"][0]["logprobs"]["token_logprobs"];
    assert_eq!(scores.as_array().unwrap().len(), 1);
}

#[test]
fn a_tokenizer_is_asked_as_vllm_is() {
    let server = Server::start(&["--quiet"]);
    let info = server.ask(&get("/tokenizer_info")).json();
    assert_eq!(
        (&info["eos_token"], &info["bos_token"]),
        (&json!("<|im_end|>"), &Value::Null)
    );
    assert!(info["chat_template"].as_str().unwrap().contains("im_start"));
    let text = "O Romeo<|im_end|>";
    let body = json!({
        "model": "built-in-model", "prompt": text, "add_special_tokens": false,
        "return_token_strs": true,
    });
    let answer = server.good("/tokenize", &body);
    let tokens = answer["tokens"].as_array().unwrap();
    assert_eq!(answer["count"], tokens.len());
    assert_eq!(answer["token_strs"].as_array().unwrap().len(), tokens.len());
    let plain = server.good("/tokenize", &json!({"content": text}));
    assert!(plain["tokens"].as_array().unwrap().len() > tokens.len());
    let back = server.good("/detokenize", &plain);
    assert_eq!(
        (&back["prompt"], &back["content"]),
        (&json!(text), &json!(text))
    );
    let unknown = json!({"prompt": text, "parse_special": true});
    assert_eq!(server.post("/tokenize", &unknown).status, 400);
}

#[test]
fn an_echo_has_the_likelihoods_that_an_evaluation_finds() {
    let server = Server::start(&["--quiet"]);
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples.jsonl");
    let mut eval = Command::new(env!("CARGO_BIN_EXE_apr"));
    eval.args(["eval", "-q", ITEMS, "--samples"]).arg(&samples);
    assert!(eval.output().unwrap().status.success());
    let samples = std::fs::read_to_string(samples).unwrap();
    let items = std::fs::read_to_string(ITEMS).unwrap();
    let tokens = |text: &str| server.good("/tokenize", &json!({"prompt": text}))["tokens"].take();
    for (item, sample) in items.lines().zip(samples.lines()).skip(6) {
        let item: Value = serde_json::from_str(item).unwrap();
        let sample: Value = serde_json::from_str(sample).unwrap();
        let context = item["context"].as_str().unwrap();
        let n_context = tokens(context).as_array().unwrap().len();
        let choices = item["choices"].as_array().unwrap().iter();
        let prompts: Vec<Value> = choices
            .map(|choice| tokens(&format!("{context} {}", choice.as_str().unwrap())))
            .collect();
        let body = json!({
            "prompt": prompts, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0,
        });
        let answer = server.good(TEXT, &body);
        let found = answer["choices"].as_array().unwrap().iter().map(|choice| {
            let scores = choice["logprobs"]["token_logprobs"].as_array().unwrap();
            let scores = &scores[n_context..scores.len() - 1];
            scores.iter().map(|it| it.as_f64().unwrap()).sum::<f64>()
        });
        for (found, expected) in found.zip(numbers(&sample["loglikelihoods"])) {
            // They were printed, read and added up.
            assert!((found - expected).abs() < 1e-12, "{context}");
        }
    }
}
