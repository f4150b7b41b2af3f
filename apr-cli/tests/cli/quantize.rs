//! `apr quantize`: what is written, what is said, and what is left after a failure.

use std::{fs, path::PathBuf};

use gguf_format::{GgmlType, GgufWriter};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use tempfile::TempDir;

use crate::{done, json, stderr, stdout};

/// A folder with a model `bf16.gguf` in it.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new(geometry: Geometry) -> Self {
        let folder = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let model = SynthModel {
            geometry,
            mix: TypeMix::Named("bf16".parse().unwrap()),
            vocab: Vocab::ByteLevel,
            seed: 1,
        };
        fs::write(folder.path("bf16.gguf"), model.to_bytes().unwrap()).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

#[test]
fn a_quantized_model_is_smaller_and_runs() {
    let folder = Folder::new(Geometry::TINY);
    let (input, output) = (folder.text("bf16.gguf"), folder.text("small.gguf"));
    fs::write(&output, "an old file").unwrap();
    let quantized = done(&["quantize", &input, &output, "q4_k_m"]);
    assert_eq!(quantized.status.code(), Some(0), "{}", stderr(&quantized));
    assert_eq!(stdout(&quantized), "");
    assert_eq!(
        stderr(&quantized).lines().count(),
        1,
        "{}",
        stderr(&quantized)
    );
    assert!(stderr(&quantized).contains("bits per weight"));
    assert_eq!(folder.names(), ["bf16.gguf", "small.gguf"]);

    let record = json(&["inspect", "--json", "-m", &output]);
    assert_eq!(record["metadata"]["general.file_type"], 15);
    assert!(record["types"]["Q4_K"]["n_tensors"].as_u64() > Some(4));
    let args = [
        "run", "-m", &output, "-p", "x", "-n", "2", "--temp", "0", "-q",
    ];
    let run = done(&args);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    let quiet = done(&[
        "quantize",
        "-q",
        "-t",
        "1",
        &input,
        &folder.text("again.gguf"),
        "Q4_K_M",
    ]);
    assert_eq!((quiet.status.code(), stderr(&quiet)), (Some(0), ""));
    let same = [output, folder.text("again.gguf")].map(|path| fs::read(path).unwrap());
    assert!(same[0] == same[1]);
}

#[test]
fn a_dry_run_says_all_types_and_writes_nothing() {
    let folder = Folder::new(Geometry {
        n_ff_exp: 96,
        ..Geometry::TINY
    });
    let input = folder.text("bf16.gguf");
    let args = [
        "--tensor-type",
        r"blk\.1\.attn_q=q8_0",
        "--output-tensor-type",
        "q5_k",
    ];
    let dry = done(&[&["quantize", "--dry-run", &input, "q4_k_s"], &args[..]].concat());
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(folder.names(), ["bf16.gguf"]);
    let line = |name: &str| -> Vec<String> {
        let mut lines = stdout(&dry).lines();
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let has = |name: &str, word: &str| line(name).iter().any(|found| found == word);
    assert!(has("blk.1.attn_q.weight", "Q8_0") && has("output.weight", "Q5_K"));
    assert!(has("blk.0.ffn_gate_inp.weight", "F32") && !has("blk.0.ffn_gate_inp.weight", "Q4_K"));
    assert!(has("blk.0.ffn_down_exps.weight", "Q5_0"));
    assert_eq!(
        stderr(&dry),
        "note: rows of 96 are no whole blocks of Q4_K: blk.0.ffn_down_exps.weight and 1 other \
         are Q5_0 instead\n"
    );

    let output = folder.text("x.gguf");
    let wet = done(&[&["quantize", "-q", &input, &output, "q4_k_s"], &args[..]].concat());
    assert_eq!(wet.status.code(), Some(0), "{}", stderr(&wet));
    assert_eq!(stderr(&wet), stderr(&dry), "said whatever -q");
    let total = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|&word| word == "bytes").unwrap();
        words[at - 1].parse::<u64>().unwrap()
    };
    let record = json(&["inspect", "--json", "-m", &output]);
    let types = record["types"].as_object().unwrap().values();
    let written: u64 = types.map(|sum| sum["n_bytes"].as_u64().unwrap()).sum();
    assert_eq!(total(stdout(&dry)), written);
}

#[test]
fn importance_is_read_and_what_it_lacks_is_said() {
    let folder = Folder::new(Geometry::TINY);
    let mut writer = GgufWriter::new();
    writer.set("imatrix.chunk_count", 3_u32).unwrap();
    let (name, n_experts) = ("blk.0.ffn_down_exps.weight", 8);
    let ne = [256, n_experts];
    writer
        .tensor(&format!("{name}.in_sum2"), &ne, GgmlType::F32)
        .unwrap();
    writer
        .tensor(&format!("{name}.counts"), &[1, n_experts], GgmlType::F32)
        .unwrap();
    let sums: Vec<u8> = (0..8 * 256)
        .flat_map(|i| ((i % 7) as f32).to_le_bytes())
        .collect();
    let counts: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    fs::write(
        folder.path("i.gguf"),
        writer.to_bytes(&[&sums, &counts]).unwrap(),
    )
    .unwrap();
    let [input, output, imatrix] = ["bf16.gguf", "x.gguf", "i.gguf"].map(|name| folder.text(name));
    let quantized = done(&["quantize", &input, &output, "q4_k_s", "--imatrix", &imatrix]);
    assert_eq!(quantized.status.code(), Some(0), "{}", stderr(&quantized));
    let says = stderr(&quantized);
    assert!(
        says.contains("no importance for token_embd.weight"),
        "{says}"
    );
    assert!(
        says.contains("know nothing of 1 expert of blk.0.ffn_down_exps.weight"),
        "{says}"
    );
    let record = json(&["inspect", "--json", "-m", &output]);
    assert_eq!(record["metadata"]["quantize.imatrix.file"], "i.gguf");
    assert_eq!(record["metadata"]["quantize.imatrix.chunks_count"], 3);
}

#[test]
fn a_text_makes_importance_for_the_quantizer() {
    let folder = Folder::new(Geometry::TINY);
    let [input, text, imatrix] = ["bf16.gguf", "text.txt", "i.gguf"].map(|name| folder.text(name));
    fs::write(&text, "to be or not to be, that is the question ".repeat(4)).unwrap();
    let args = [
        "imatrix", "-m", &input, "-f", &text, "-o", &imatrix, "-c", "32",
    ];
    let made = done(&[&args[..], &["--chunks", "2"]].concat());
    assert_eq!(
        (made.status.code(), stdout(&made)),
        (Some(0), ""),
        "{}",
        stderr(&made)
    );
    assert!(stderr(&made).contains("16 importance matrices from 2 chunks of 32 tokens"));
    let record = json(&["inspect", "--json", "-m", &imatrix]);
    assert_eq!(
        record["metadata"]["imatrix.datasets"],
        serde_json::json!(["text.txt"])
    );
    assert_eq!(record["metadata"]["imatrix.chunk_count"], 2);

    let output = folder.text("x.gguf");
    let quantized = done(&["quantize", &input, &output, "q4_k_m", "--imatrix", &imatrix]);
    assert_eq!(quantized.status.code(), Some(0), "{}", stderr(&quantized));
    let says = stderr(&quantized);
    assert!(
        says.contains("no importance for token_embd.weight, output.weight\n"),
        "{says}"
    );

    fs::write(&text, "too short").unwrap();
    let before = folder.names();
    let short = done(&args);
    assert_eq!(short.status.code(), Some(1), "{}", stderr(&short));
    assert_eq!(folder.names(), before);
}

#[test]
fn a_new_file_never_takes_the_place_of_one_that_is_read() {
    let folder = Folder::new(Geometry::TINY);
    fs::write(
        folder.path("text.txt"),
        "To be, or not to be, that is the question. ".repeat(20),
    )
    .unwrap();
    let [input, text, imatrix] = ["bf16.gguf", "text.txt", "i.gguf"].map(|name| folder.text(name));
    let make = |output: &str| {
        done(&[
            "imatrix", "-m", &input, "-f", &text, "-o", output, "-c", "32", "-q",
        ])
    };
    assert_eq!(make(&imatrix).status.code(), Some(0));
    let read = || [&input, &text, &imatrix].map(|path| fs::read(path).unwrap());
    let before = read();
    let refused = [
        make(&input),
        make(&text),
        done(&["logits", "-m", &input, "-f", &text, "-o", &text]),
        done(&["logits", "-m", &input, "-p", "To be", "-o", &input]),
        done(&[
            "quantize",
            &input,
            &imatrix,
            "q4_k_m",
            "--imatrix",
            &imatrix,
        ]),
    ];
    for output in refused {
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("is one of those to read"));
    }
    assert!(read() == before, "a file was changed");
}

#[test]
fn failures_have_their_codes_and_leave_nothing() {
    let folder = Folder::new(Geometry::TINY);
    fs::write(folder.path("garbage.dat"), "what is this").unwrap();
    let q8 = folder.text("q8.gguf");
    let input = folder.text("bf16.gguf");
    assert_eq!(
        done(&["quantize", "-q", &input, &q8, "q8_0"]).status.code(),
        Some(0)
    );
    let (output, garbage) = (folder.text("x.gguf"), folder.text("garbage.dat"));
    let before = folder.names();
    let cases: [(&[&str], i32, &str); 11] = [
        (&[&input, &output], 2, "no TYPE"),
        (
            &[&input, &output, "q4_0", "--imatrix", "/"],
            3,
            "expected a file of importance matrices, found a folder",
        ),
        (
            &[&input, &output, "iq1_s"],
            2,
            "unknown mix of types `iq1_s`",
        ),
        (&[&input, &input, "q4_0"], 2, "is one of those to read"),
        (&[&q8, &output, "q4_0"], 2, "--allow-requantize"),
        (
            &[&input, &output, "q4_0", "--tensor-type", "nope=q8_0"],
            2,
            "`nope` matches none",
        ),
        (
            &[&input, &output, "q4_0", "--tensor-type", "attn_q"],
            2,
            "PATTERN=TYPE",
        ),
        (
            &[&input, &output, "q4_0", "--output-tensor-type", "iq2_s"],
            2,
            "IQ2_S",
        ),
        (&[&garbage, &output, "q4_0"], 3, "garbage.dat"),
        (
            &[&input, &output, "q4_0", "--imatrix", &garbage],
            3,
            "garbage.dat",
        ),
        (
            &[&input, "/no/such/folder/x.gguf", "q4_0"],
            4,
            "/no/such/folder/x.gguf",
        ),
    ];
    for (args, code, says) in cases {
        let output = done(&[&["quantize"], args].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(says),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(folder.names(), before, "{args:?}");
    }
}
