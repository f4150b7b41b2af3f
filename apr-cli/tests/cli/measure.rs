//! The verbs that measure: perplexity, bench, doctor; and completions.

use std::fs;

use crate::{done, json, stderr, stdout};

const SPEECH: &str = "ROMEO:\nBut, soft! what light through yonder window breaks?\n\
    It is the east, and Juliet is the sun.\nArise, fair sun, and kill the envious moon,\n\
    Who is already sick and pale with grief,\nThat thou her maid art far more fair than she.\n\n";

#[test]
fn perplexity_is_low_for_verse_and_a_model_does_not_diverge_from_itself() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder
        .path()
        .join("speech.txt")
        .to_str()
        .unwrap()
        .to_owned();
    let saved = folder
        .path()
        .join("saved.safetensors")
        .to_str()
        .unwrap()
        .to_owned();
    fs::write(&text, SPEECH.repeat(3)).unwrap();
    let base = ["perplexity", "-q", "--json", "-f", &text, "-c", "64"];
    let first = json(&[&base[..], &["--save-logits", &saved, "-t", "1"]].concat());
    let perplexity = first["perplexity"].as_f64().unwrap();
    assert!((1.0..200.0).contains(&perplexity), "{perplexity}");
    let second = json(&[&base[..], &["--kl-divergence-base", &saved, "-b", "5"]].concat());
    assert_eq!(second["perplexity"], first["perplexity"]);
    assert_eq!(
        (
            second["mean_kl"].as_f64(),
            second["same_top_percent"].as_f64()
        ),
        (Some(0.0), Some(100.0))
    );

    let other = [
        "perplexity",
        "-q",
        "-f",
        &text,
        "-c",
        "32",
        "--kl-divergence-base",
        &saved,
    ];
    let output = done(&other);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let report = done(&["perplexity", "-q", "-f", &text, "-c", "64", "--chunks", "1"]);
    assert!(
        stdout(&report).starts_with("perplexity "),
        "{}",
        stdout(&report)
    );
}

#[test]
fn a_text_shorter_than_a_window_has_no_perplexity() {
    let output = done(&["perplexity", "-p", "too short"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a window of 512"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bench_has_a_row_for_each_test_in_each_form() {
    let base = [
        "bench", "-q", "-p", "8", "-n", "4", "-pg", "4,2", "-d", "0,3", "-r", "2", "-o",
    ];
    let record = json(&[&base[..], &["json"]].concat());
    let tests: Vec<&str> = record["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["test"].as_str().unwrap())
        .collect();
    let expected = [
        "pp8",
        "tg4",
        "pp4+tg2",
        "pp8 @ d3",
        "tg4 @ d3",
        "pp4+tg2 @ d3",
    ];
    assert_eq!(tests, expected);
    let decode = &record["rows"][1];
    assert_eq!(decode["seconds"].as_array().unwrap().len(), 2);
    assert!(decode["share_percent"].as_f64().unwrap() > 0.0);
    assert!(record["rows"][0]["read_gb_s"].is_null());
    assert!(record["rows"][0]["multiply_percent"].as_f64().unwrap() > 0.0);
    assert!(decode["multiply_percent"].is_null());
    let total: f64 = decode["phases"]
        .as_object()
        .unwrap()
        .values()
        .map(|seconds| seconds.as_f64().unwrap())
        .sum();
    assert!(total > 0.0);
    assert!(decode["phases"]["attention"].is_number());
    let table = done(&["bench", "-q", "-p", "8", "-n", "0", "-r", "1"]);
    assert_eq!(stdout(&table).lines().count(), 3, "{}", stdout(&table));
    let phases = done(&["bench", "-q", "-p", "8", "-n", "0", "-r", "1", "--phases"]);
    assert!(stdout(&phases).contains("pp8: "), "{}", stdout(&phases));
    let csv = done(&["bench", "-q", "-p", "0", "-n", "2", "-r", "1", "-o", "csv"]);
    assert_eq!(stdout(&csv).lines().count(), 2, "{}", stdout(&csv));
}

#[test]
fn a_bench_says_what_a_grammar_costs() {
    let base = [
        "bench", "-q", "-p", "0", "-n", "6", "-d", "0,3", "-r", "2", "--held", "-o",
    ];
    let record = json(&[&base[..], &["json"]].concat());
    let held = record["held"].as_array().unwrap();
    assert_eq!(held.len(), 2, "{record}");
    for (held, depth) in held.iter().zip([0, 3]) {
        assert_eq!(
            (&held["n_gen"], &held["n_depth"]),
            (&6.into(), &depth.into())
        );
        let number = |name: &str| held[name].as_f64().unwrap();
        let (free, bound) = (number("free_tok_s"), number("held_tok_s"));
        assert!((number("held_percent") - 100.0 * bound / free).abs() < 1e-6);
        assert_eq!(held["held_seconds"].as_array().unwrap().len(), 2);
    }
    let output = done(&[&base[..], &["md"]].concat());
    assert!(
        stdout(&output).contains("tg6 @ d3, tokens drawn: "),
        "{}",
        stdout(&output)
    );
    let output = done(&[&base[..], &["csv"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_bench_of_several_sequences_counts_all_their_tokens() {
    let record = json(&[
        "bench", "-q", "-p", "0", "-n", "4", "-d", "6", "-np", "1,3", "-pg", "5,2", "-b", "8",
        "-r", "1", "-o", "json",
    ]);
    let rows = record["rows"].as_array().unwrap();
    let expected = [
        ("tg4 @ d6", 1, 4),
        ("3 × tg4 @ d6", 3, 12),
        ("pp5+tg2 @ d6", 1, 7),
        ("3 × pp5+tg2 @ d6", 3, 21),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (test, n_parallel, n_tokens)) in rows.iter().zip(expected) {
        assert_eq!(
            (&row["test"], &row["n_parallel"]),
            (&test.into(), &n_parallel.into())
        );
        let in_time = row["tok_s"].as_f64().unwrap() * row["seconds"][0].as_f64().unwrap();
        assert!(
            (in_time - f64::from(n_tokens)).abs() < 1e-6,
            "{test}: {in_time}"
        );
    }
    // Three sequences read the dense weights once, and some experts that only one goes to.
    let bytes = |row: &serde_json::Value| {
        row["read_gb_s"].as_f64().unwrap() * row["seconds"][0].as_f64().unwrap() * 1e9
    };
    let ratio = bytes(&rows[1]) / bytes(&rows[0]);
    assert!((1.1..2.9).contains(&ratio), "{ratio}");
    let alone = record["engine"]["weight_bytes_per_token"].as_f64().unwrap() * 4.0;
    assert!(
        (alone..alone * 1.1).contains(&bytes(&rows[0])),
        "{}",
        bytes(&rows[0])
    );
    assert!(rows[3]["read_gb_s"].is_null());
}

#[test]
fn a_bench_of_no_sequences_or_too_many_is_refused() {
    for n in ["0", "1025", "2,x"] {
        let output = done(&["bench", "-q", "-np", n]);
        assert_eq!(output.status.code(), Some(2), "{n}");
        assert!(
            stderr(&output).contains("expected 1 to 1024"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_plan_counts_what_a_model_takes_and_reads() {
    let plan = json(&["plan", "--json", "-t", "1", "-c", "100", "-np", "3"]);
    let number = |name: &str| plan[name].as_u64().unwrap();
    let (kv, own) = (number("kv_bytes"), number("own_bytes"));
    assert_eq!(own, kv + number("batch_bytes") + number("logits_bytes"));
    assert_eq!(number("total_bytes"), own + number("file_bytes"));
    assert_eq!(number("logits_bytes"), 3 * 4 * 2048);
    assert!(kv >= 3 * 100 * number("kv_bytes_per_token"));
    assert_eq!(plan["fit"], "fits");
    let table = plan["kv_cache"].as_array().unwrap();
    assert_eq!(table[0]["n_ctx"], 100);
    assert_eq!(table[0]["f16"].as_u64(), Some(kv / 3));
    let rate = |name: &str| plan[name].as_f64().unwrap();
    let bound = rate("stream_gb_s") * 1e9 / rate("weight_bytes_per_token");
    assert!((rate("tok_s_first") / bound - 1.0).abs() < 1e-6);
    assert!(rate("tok_s_last") < rate("tok_s_first"));

    let bench = json(&["bench", "-q", "-p", "0", "-n", "1", "-r", "1", "-o", "json"]);
    let reads = &bench["engine"]["weight_bytes_per_token"];
    assert_eq!(&plan["weight_bytes_per_token"], reads);
    let half = json(&["plan", "--json", "-c", "100", "-np", "3", "-ctk", "q8_0"]);
    assert!(half["kv_bytes"].as_u64().unwrap() < kv);
    let report = done(&["plan", "-c", "100"]);
    for row in ["verdict", "fits", "a token reads", "at most", "q8_0"] {
        assert!(stdout(&report).contains(row), "{}", stdout(&report));
    }
}

#[test]
fn doctor_names_what_is_used_and_why() {
    let findings = json(&["doctor", "--json", "-t", "1"]);
    assert_eq!(
        (findings["threads"].as_u64(), &findings["threads_why"]),
        (Some(1), &"asked for".into())
    );
    assert!(findings["read_gb_s"].as_f64().unwrap() > 0.0);
    let report = done(&["doctor"]);
    for row in [
        "processor",
        "instructions",
        "threads",
        "memory",
        "huge pages",
        "GB/s",
    ] {
        assert!(stdout(&report).contains(row), "{}", stdout(&report));
    }
}

#[test]
fn doctor_reads_a_model_from_its_own_pages() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/bard.gguf");
    let findings = json(&["doctor", "--json", "-m", model]);
    let n_bytes = fs::metadata(model).unwrap().len();
    assert_eq!(findings["model_bytes"].as_u64(), Some(n_bytes));
    assert!(findings["read_gb_s"].as_f64().unwrap() > 0.0);
    let report = done(&["doctor", "-m", model]);
    assert!(
        stdout(&report).contains("% of the model mapped in them"),
        "{}",
        stdout(&report)
    );
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let script = done(&["completions", shell]);
        for verb in ["run", "chat", "inspect", "perplexity"] {
            assert!(stdout(&script).contains(verb), "{shell}: {verb}");
        }
    }
}
