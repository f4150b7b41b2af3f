//! The verbs that read and write files: tokenize, detokenize, inspect, logits.

use std::{fs, path::Path};

use gguf_format::{GgmlType, Gguf, GgufWriter};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::{BUILTIN, done, fed, isas, json, stderr, stdout};

#[test]
fn json_lines_of_text_become_ids_and_text_again() {
    let texts = ["ROMEO:\n", "", "naïve 東 🙂", "<|im_end|>"];
    let lines: String = texts
        .iter()
        .map(|text| format!("{}\n", json!({ "text": text })))
        .collect();
    let ids = fed(&["tokenize"], lines.as_bytes());
    assert_eq!(ids.status.code(), Some(0), "{}", stderr(&ids));
    assert_eq!(stdout(&ids).lines().count(), texts.len());
    let back = fed(&["detokenize"], stdout(&ids).as_bytes());
    let back: Vec<Value> = stdout(&back)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (text, back) in texts.iter().zip(back) {
        assert_eq!(back, json!({ "text": text }));
    }
}

#[test]
fn a_line_that_is_no_object_is_named() {
    let output = fed(&["tokenize"], b"{\"text\": \"a\"}\nplain\n");
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("stdin, line 2"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        stdout(&output).lines().count(),
        1,
        "the line before was good"
    );
}

#[test]
fn a_vocabulary_without_tensors_is_enough_to_tokenize() {
    let builtin = fs::read(BUILTIN).unwrap();
    let mut writer = GgufWriter::new();
    writer
        .set_all(Gguf::parse(&builtin).unwrap().metadata())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    fs::write(&path, writer.to_bytes(&[]).unwrap()).unwrap();
    let args = ["tokenize", "--json", "-p", "wherefore art thou"];
    let with_file = [&args[..], &["-m", path.to_str().unwrap()]].concat();
    assert_eq!(json(&with_file), json(&args));
}

#[test]
fn a_text_becomes_a_line_per_token() {
    let record = json(&["tokenize", "--json", "-p", "wherefore art"]);
    let plain = done(&["tokenize", "-p", "wherefore art"]);
    let ids = record["ids"].as_array().unwrap();
    let pieces = record["pieces"].as_array().unwrap();
    assert_eq!(stdout(&plain).lines().count(), ids.len());
    for (line, (id, piece)) in stdout(&plain).lines().zip(ids.iter().zip(pieces)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [&id.to_string(), piece.as_str().unwrap()]);
    }
}

#[test]
fn any_architecture_can_be_inspected_and_cannot_steer_the_terminal() {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "mamba").unwrap();
    writer.set("general.name", "\u{1b}[2Jboo\n").unwrap();
    writer.set("mamba.list", &[1_u32, 2, 3][..]).unwrap();
    writer.tensor("x\u{7}", &[32, 2], GgmlType::Q8_0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, writer.to_bytes(&[&[0; 68]]).unwrap()).unwrap();
    let path = path.to_str().unwrap();

    let report = done(&["inspect", "-m", path]);
    assert_eq!(report.status.code(), Some(0), "{}", stderr(&report));
    let controls = stdout(&report)
        .chars()
        .filter(|&c| c.is_control() && c != '\n');
    assert_eq!(controls.count(), 0);
    assert!(stdout(&report).contains("\\u{1b}[2Jboo\\n") && stdout(&report).contains("[2, 32]"));

    let record = json(&["inspect", "--json", "-m", path]);
    assert_eq!(record["metadata"]["general.name"], "\u{1b}[2Jboo\n");
    assert_eq!(record["metadata"]["mamba.list"], json!([1, 2, 3]));
    assert_eq!(record["tensors"][0]["shape"], json!([2, 32]));
    assert_eq!(
        record["types"]["Q8_0"],
        json!({"n_tensors": 1, "n_weights": 64, "n_bytes": 68})
    );

    let refused = done(&["run", "-m", path, "-p", "x"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("mamba") && stderr(&refused).contains("qwen3moe"));
}

#[test]
fn the_builtin_model_can_be_inspected() {
    let record = json(&["inspect", "--json"]);
    assert_eq!(record["metadata"]["general.architecture"], "qwen3moe");
    assert!(stdout(&done(&["inspect"])).contains("tokenizer.chat_template"));
}

/// Shape and bytes of the logits that a run of `apr logits` writes.
fn logits(folder: &Path, args: &[&str]) -> (Vec<usize>, Vec<u8>) {
    let path = folder.join("logits.safetensors");
    let base = [
        "logits",
        "-q",
        "--tokens",
        "294,457,324,11,294,358,258,269,286,77",
        "-o",
    ];
    let output = done(&[&base, &[path.to_str().unwrap()][..], args].concat());
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    assert_eq!((stdout(&output), stderr(&output)), ("", ""));
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.names(), ["logits"]);
    let logits = tensors.tensor("logits").unwrap();
    (logits.shape().to_vec(), logits.data().to_vec())
}

#[test]
fn logits_are_the_same_bits_however_they_are_computed() {
    let folder = tempfile::tempdir().unwrap();
    let (shape, expected) = logits(folder.path(), &["--isa", "scalar", "-t", "1"]);
    assert_eq!(shape, [10, 2048]);
    for isa in isas() {
        for more in [["-t", "2"], ["-b", "1"], ["-b", "3"]] {
            let args = [&["--isa", isa], &more[..]].concat();
            assert!(logits(folder.path(), &args).1 == expected, "{args:?}");
        }
    }
}
