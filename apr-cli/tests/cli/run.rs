//! `apr run`, and `apr` alone.

use serde_json::json;

use crate::{apr, done, fed, isas, json, stderr, stdout};

#[test]
fn text_goes_to_stdout_and_all_else_to_stderr() {
    let output = done(&["run", "-p", "ROMEO:", "-n", "24", "--temp", "0"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(
        text.starts_with("ROMEO:") && text.len() > "ROMEO:".len() + 24,
        "{text:?}"
    );
    for part in ["load ", "prefill ", "decode 24 tokens", "tok/s"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert!(!text.contains(part));
    }
    assert!(!stderr(&output).contains('\u{1b}') && !text.contains('\u{1b}'));
}

#[test]
fn quiet_says_nothing_beside_the_text() {
    let output = done(&[
        "run",
        "-q",
        "-p",
        "ROMEO:",
        "-n",
        "4",
        "--no-display-prompt",
    ]);
    assert_eq!(stderr(&output), "");
    assert!(!stdout(&output).contains("ROMEO:"));
}

#[test]
fn the_same_ids_come_from_any_threads_instructions_and_batches() {
    let prompt = "O Romeo, Romeo! wherefore art thou Romeo?\nDeny thy father and refuse";
    let ids = |more: &[&str]| {
        let base = [
            "run", "-q", "--json", "--temp", "0", "-n", "24", "-p", prompt,
        ];
        json(&[&base, more].concat())["ids"].clone()
    };
    let expected = ids(&["-t", "1", "--isa", "scalar"]);
    assert_eq!(expected.as_array().unwrap().len(), 24);
    for isa in isas() {
        assert_eq!(ids(&["--isa", isa, "-t", "2"]), expected, "{isa}");
    }
    for [flag, value] in [["-t", "3"], ["-b", "1"], ["-b", "7"], ["-c", "128"]] {
        assert_eq!(ids(&[flag, value]), expected, "{flag} {value}");
    }
}

#[test]
fn a_seed_gives_its_text_again() {
    let text = |seed: &str| {
        let args = [
            "run", "-q", "--json", "-p", "JULIET:", "-n", "16", "--temp", "1", "-s", seed,
        ];
        json(&args)["text"].clone()
    };
    assert_eq!(text("7"), text("7"));
    assert_ne!(text("7"), text("8"));
}

#[test]
fn json_holds_text_ids_end_and_times() {
    let record = json(&[
        "run", "--json", "-p", "ROMEO:", "-n", "5", "--temp", "0", "-s", "3",
    ]);
    assert_eq!(record["finish_reason"], "length");
    assert_eq!(record["prompt"], "ROMEO:");
    assert_eq!(record["seed"], 3);
    assert_eq!(record["ids"].as_array().unwrap().len(), 5);
    assert_eq!(record["timings"]["n_generated"], 5);
    assert_eq!(
        record["timings"]["n_prompt"],
        record["prompt_ids"].as_array().unwrap().len()
    );
    assert!(record["timings"]["prefill_tok_s"].as_f64().unwrap() > 0.0);
    let ids: Vec<String> = record["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let text = json(&["detokenize", "--json", "--tokens", &ids.join(",")]);
    assert_eq!(text["text"], record["text"]);
}

#[test]
fn no_tokens_are_generated_if_none_are_asked_for() {
    let output = done(&["run", "-q", "-p", "ROMEO:", "-n", "0"]);
    assert_eq!((stdout(&output), output.status.code()), ("ROMEO:", Some(0)));
}

#[test]
fn a_stop_string_ends_the_text_and_is_no_part_of_it() {
    let args = [
        "run", "-q", "--json", "-p", "ROMEO:", "--temp", "0", "-r", "\n\n",
    ];
    let record = json(&args);
    assert_eq!(record["finish_reason"], "stop_string");
    assert!(!record["text"].as_str().unwrap().contains("\n\n"));
}

#[test]
fn the_context_is_the_end_where_nothing_else_is() {
    let args = [
        "run",
        "-p",
        "ROMEO:",
        "-c",
        "32",
        "--ignore-eos",
        "--temp",
        "0",
        "--json",
    ];
    let record = json(&args);
    assert_eq!(record["finish_reason"], "context_full");
    let timings = &record["timings"];
    let n = timings["n_prompt"].as_u64().unwrap() + timings["n_generated"].as_u64().unwrap();
    // The last token that was drawn is not in the context any more.
    assert_eq!(n, 33);
    assert!(stderr(&done(&args)).contains("context of 32 tokens is full"));
}

#[test]
fn stdin_is_continued_with_and_without_the_verb() {
    let args = ["-q", "-n", "6", "--temp", "0"];
    let with_verb = fed(&[&["run"], &args[..]].concat(), b"ROMEO:");
    let mut alone = apr(&[]);
    for (name, value) in [
        ("QUIET", "1"),
        ("N_PREDICT", "6"),
        ("TEMP", "0"),
        ("PROMPT", "ROMEO:"),
    ] {
        alone.env(format!("APR_{name}"), value);
    }
    let alone = alone.output().unwrap();
    assert!(stdout(&with_verb).starts_with("ROMEO:"));
    assert_eq!(stdout(&with_verb), stdout(&alone), "{}", stderr(&alone));
}

#[test]
fn control_tokens_in_a_text_are_text() {
    let ids = |more: &[&str]| {
        let base = ["tokenize", "--json", "-p", "<|im_end|>"];
        json(&[&base, more].concat())["ids"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(ids(&[]) > 1);
    assert_eq!(ids(&["--parse-special"]), 1);
}

#[test]
fn biased_tokens_win() {
    let args = [
        "run", "-q", "--json", "-p", "A", "-n", "2", "--temp", "0", "-l", "300+1000",
    ];
    assert_eq!(json(&args)["ids"], json!([300, 300]));
}
