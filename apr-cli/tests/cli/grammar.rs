//! Answers of a given form, and forms that are refused.

use std::fs;

use serde_json::{Value, json};

use crate::{apr, done, json, stderr, stdout};

const BASE: [&str; 6] = ["run", "-q", "--no-display-prompt", "-p", "ROMEO:", "-s"];

fn answer(seed: &str, more: &[&str]) -> String {
    let output = done(&[&BASE[..], &[seed], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output).to_owned()
}

#[test]
fn answers_have_the_form_that_a_flag_asks_for() {
    let schema = json!({
        "type": "object", "required": ["name", "n"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "maxLength": 9}, "n": {"enum": [1, 22, 333]}},
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    fs::write(&file, schema.to_string()).unwrap();
    for (seed, flag, value) in [
        ("1", "--json-schema", schema.to_string()),
        ("2", "-j", schema.to_string()),
        ("3", "-jf", file.display().to_string()),
    ] {
        let text = answer(seed, &[flag, &value, "--temp", "3"]);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(
            [1, 22, 333].map(Value::from).contains(&value["n"]),
            "{text}"
        );
        assert!(
            value["name"].as_str().unwrap().chars().count() <= 9,
            "{text}"
        );
    }
    let text = answer("4", &["--regex", "-[0-9]{3}", "--temp", "2"]);
    assert!(text.len() == 4 && text.starts_with('-'), "{text}");
    let text = answer("5", &["--choice", "--yes", "--choice", "no"]);
    assert!(["--yes", "no"].contains(&text.as_str()), "{text}");
    let text = answer("6", &["--grammar", "root ::= \"to \" (\"be\" | \"sleep\")"]);
    assert!(["to be", "to sleep"].contains(&text.as_str()), "{text}");
    let grammar = folder.path().join("grammar.lark");
    fs::write(&grammar, "%llguidance {}\nstart: \"a\" /[bc]/\n").unwrap();
    let text = answer("7", &["--grammar-file", grammar.to_str().unwrap()]);
    assert!(["ab", "ac"].contains(&text.as_str()), "{text}");
}

#[test]
fn a_form_ends_the_answer_by_a_stop_token() {
    let record = json(&[
        "run",
        "-q",
        "--json",
        "-p",
        "ROMEO:",
        "--choice",
        "a fixed answer",
    ]);
    assert_eq!(record["text"], "a fixed answer");
    assert_eq!(record["finish_reason"], "stop_token");
}

#[test]
fn an_answer_that_is_cut_off_before_its_form_ends_says_so() {
    let form = [
        "--json-schema",
        r#"{"type": "integer", "minimum": 100000000}"#,
    ];
    let base = ["run", "--no-display-prompt", "-p", "ROMEO:"];
    let whole = done(&[&base[..], &form].concat());
    let cut = done(&[&base[..], &form, &["-n", "2"]].concat());
    let note = "note: the answer was cut off, so its form may be incomplete\n";
    assert!(!stderr(&whole).contains(note), "{}", stderr(&whole));
    assert!(stderr(&cut).contains(note), "{}", stderr(&cut));
}

#[test]
fn a_bad_form_is_a_usage_error_that_names_the_flag() {
    let cases: [(&[&str], &str); 9] = [
        (&["--json-schema", "{"], "--json-schema: no JSON: "),
        (
            &["--json-schema", r#"{"not": {}}"#],
            "--json-schema: `not` in # is not supported",
        ),
        (
            &["--grammar", "root ::= x"],
            "--grammar: GBNF grammar: there is no rule `x`",
        ),
        (
            &["--grammar", "%llguidance {}\nbegin: \"a\""],
            "--grammar: Lark grammar: ",
        ),
        (&["--regex", "a("], "regex parse error: unclosed group\n"),
        (&["--choice", ""], "--choice: text 0 is empty"),
        (
            &["--choice", "a", "--ignore-eos"],
            "--choice: with --ignore-eos no answer could end where its form does",
        ),
        (
            &["--choice", "a", "--regex", "b"],
            "--regex cannot be used together with --choice",
        ),
        (
            &["--json-schema", "{}", "--json-schema-file", "x"],
            "--json-schema cannot be used together with --json-schema-file",
        ),
    ];
    for (flags, expected) in cases {
        let output = apr(&[&["run", "-q", "-p", "x"], flags].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        let message = stderr(&output);
        assert!(message.contains(expected), "{message}");
    }
    let output = done(&["run", "-q", "-p", "x", "--grammar-file", "/nowhere/g"]);
    assert_eq!(output.status.code(), Some(4));
}
