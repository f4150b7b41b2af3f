//! `apr eval`: what it measures, what it does not depend on, and what it refuses.

use std::fs;

use serde_json::Value;

use crate::{done, fed, isas, json, stderr, stdout};

const CHOICES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/eval__choices.jsonl"
);
const CONTINUATIONS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/eval__continuations.jsonl"
);
const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/eval__texts.jsonl");

/// Returns task, measure and value of all measures.
fn measures(record: &Value) -> Vec<(&str, &str, f64)> {
    let rows = record["results"].as_array().unwrap().iter();
    rows.flat_map(|row| {
        let task = row["task"].as_str().unwrap_or("all");
        let metrics = row["metrics"].as_array().unwrap().iter();
        metrics.map(move |it| {
            let value = it["value"].as_f64().unwrap();
            (task, it["name"].as_str().unwrap(), value)
        })
    })
    .collect()
}

#[test]
fn measures_are_those_that_the_harness_finds() {
    let choices = json(&["eval", "-q", "--json", CHOICES]);
    assert_eq!(choices["n_items"], 12);
    let continuations = json(&["eval", "-q", "--json", CONTINUATIONS]);
    let texts = json(&["eval", "-q", "--json", TEXTS]);
    let found = [&choices, &continuations, &texts].map(measures).concat();
    let expected = [
        ("grammar", "acc", 4.0 / 6.0),
        ("grammar", "acc_norm", 5.0 / 6.0),
        ("grammar", "acc_bytes", 5.0 / 6.0),
        ("speaker", "acc", 1.0),
        ("speaker", "acc_norm", 4.0 / 6.0),
        ("speaker", "acc_bytes", 4.0 / 6.0),
        ("all", "acc", 10.0 / 12.0),
        ("all", "acc_norm", 9.0 / 12.0),
        ("all", "acc_bytes", 9.0 / 12.0),
        ("eval__continuations", "acc", 0.25),
        ("eval__continuations", "perplexity", 742_378.144_014_857_1),
        ("eval__texts", "word_perplexity", 503_963.026_895_188_9),
        ("eval__texts", "byte_perplexity", 13.387_010_663_128_768),
        ("eval__texts", "bits_per_byte", 3.742_761_935_836_385),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1));
        assert!(
            (found.2 - expected.2).abs() < 1e-9 * expected.2,
            "{found:?}"
        );
    }
}

#[test]
fn answers_do_not_depend_on_threads_instructions_batches_or_what_is_cached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.jsonl");
    let run = |more: &[&str]| {
        let base = ["eval", "-q", "--json", CHOICES, "--samples"];
        let mut record = json(&[&base[..], &[path.to_str().unwrap()], more].concat());
        record.as_object_mut().unwrap().remove("timing");
        (record, fs::read_to_string(&path).unwrap())
    };
    let expected = run(&["--isa", "scalar", "-t", "1"]);
    for isa in isas() {
        assert_eq!(
            run(&["--isa", isa, "-t", "2", "-b", "3"]),
            expected,
            "{isa}"
        );
    }
    let samples: Vec<Value> = expected
        .1
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(samples.len(), 12);
    assert_eq!(
        (&samples[4]["id"], &samples[4]["line"], &samples[4]["kind"]),
        (&"c5".into(), &5.into(), &"multiple_choice".into())
    );

    // One item alone has no neighbours whose context it could share.
    let items = fs::read_to_string(CHOICES).unwrap();
    let alone = folder.path().join("alone.jsonl");
    fs::write(&alone, items.lines().nth(4).unwrap()).unwrap();
    let (alone, of_alone) = (alone.to_str().unwrap(), path.to_str().unwrap());
    json(&["eval", "-q", "--json", alone, "--samples", of_alone]);
    let line = fs::read_to_string(of_alone).unwrap();
    let alone: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(alone["loglikelihoods"], samples[4]["loglikelihoods"]);
}

#[test]
fn a_text_longer_than_the_context_is_read_in_windows() {
    let whole = json(&["eval", "-q", "--json", TEXTS]);
    let windows = json(&["eval", "-q", "--json", TEXTS, "-c", "16"]);
    assert_eq!(windows["n_ctx"], 16);
    let tokens = |record: &Value| record["results"][0]["n_tokens"].clone();
    assert_eq!(tokens(&whole), tokens(&windows));
    let bits = |record: &Value| {
        record["results"][0]["metrics"][2]["value"]
            .as_f64()
            .unwrap()
    };
    assert!(bits(&windows) > bits(&whole), "less context tells less");
}

#[test]
fn a_table_is_printed_and_items_come_from_stdin_too() {
    let items = fs::read(CHOICES).unwrap();
    let output = fed(&["eval", "-", "--limit", "5"], &items);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[1].starts_with("speaker        5  acc "), "{lines:?}");
    assert!(
        stderr(&output).contains("5 items · "),
        "{}",
        stderr(&output)
    );

    let marked = "\u{feff}{\"text\": \"Exit\"}\n\n  \n{\"text\": \"Exeunt\"}";
    let output = fed(&["eval", "-q", "-"], marked.as_bytes());
    assert!(stdout(&output).contains("\nstdin        2  word_perplexity"));
    assert_eq!(stderr(&output), "");
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_the_model_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (bad, empty, missing) = (path("bad.jsonl"), path("empty.jsonl"), path("no.jsonl"));
    let (long, samples) = (path("long.jsonl"), path("samples.jsonl"));
    fs::write(&bad, "{\"text\": \"x\"}\n\n{\"texte\": \"x\"}\n").unwrap();
    fs::write(&empty, "\n \n").unwrap();
    let item =
        r#"{"context": "ROMEO:\nI will", "continuation": " not be so bold as that, my lord"}"#;
    fs::write(&long, item).unwrap();
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &[&bad, "--samples", &samples],
            3,
            "bad.jsonl: line 3: column 8: unknown field `texte`",
        ),
        (&[&empty], 3, "empty.jsonl: no items"),
        (&[&missing], 4, "no.jsonl"),
        (&[&long, "-c", "8"], 3, "the model's context holds 8"),
        (&[&long, "--samples", &long], 2, "one of those to read"),
        (&[CHOICES, "--limit", "0"], 2, "--limit 0"),
        (
            &[CHOICES, "--prefix-token", "4000000000"],
            2,
            "--prefix-token",
        ),
        (&[], 2, "FILE"),
    ];
    for (args, code, says) in cases {
        let output = done(&[&["eval"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    assert!(!fs::exists(&samples).unwrap(), "nothing is begun");
}
