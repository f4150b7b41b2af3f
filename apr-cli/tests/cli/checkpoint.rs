//! The folder of a checkpoint in place of a GGUF file: every verb says the same of both.

use std::{fs, path::Path};

use gguf_format::{GgmlType, Gguf, GgufWriter};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{BUILTIN, done, fed, json, stderr, stdout};

/// The vocabulary of the built-in model.
const TOKENIZER: &[u8] = include_bytes!("../../../tokenizer/tests/data/bard__tokenizer.json");

/// Columns and rows of every matrix but those with a row per token or expert.
const N: u64 = 32;
const N_VOCAB: u64 = 2048;
const N_EXPERT: u64 = 4;
const N_CTX: u64 = 256;

/// Names in a folder and in a GGUF file, and shapes, slowest dimension first; experts of a
/// layer count as one tensor.
const TENSORS: [(&str, &str, &[u64]); 15] = [
    ("model.embed_tokens", "token_embd", &[N_VOCAB, N]),
    ("model.norm", "output_norm", &[N]),
    ("lm_head", "output", &[N_VOCAB, N]),
    ("model.layers.0.input_layernorm", "blk.0.attn_norm", &[N]),
    (
        "model.layers.0.post_attention_layernorm",
        "blk.0.ffn_norm",
        &[N],
    ),
    (
        "model.layers.0.self_attn.q_proj",
        "blk.0.attn_q",
        &[2 * N, N],
    ),
    ("model.layers.0.self_attn.k_proj", "blk.0.attn_k", &[N, N]),
    ("model.layers.0.self_attn.v_proj", "blk.0.attn_v", &[N, N]),
    (
        "model.layers.0.self_attn.o_proj",
        "blk.0.attn_output",
        &[N, 2 * N],
    ),
    ("model.layers.0.self_attn.q_norm", "blk.0.attn_q_norm", &[N]),
    ("model.layers.0.self_attn.k_norm", "blk.0.attn_k_norm", &[N]),
    (
        "model.layers.0.mlp.gate",
        "blk.0.ffn_gate_inp",
        &[N_EXPERT, N],
    ),
    ("gate_proj", "blk.0.ffn_gate_exps", &[N_EXPERT, N, N]),
    ("up_proj", "blk.0.ffn_up_exps", &[N_EXPERT, N, N]),
    ("down_proj", "blk.0.ffn_down_exps", &[N_EXPERT, N, N]),
];

/// One model as a folder and as a GGUF file.
struct Both {
    temp: TempDir,
}

impl Both {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let builtin = fs::read(BUILTIN).unwrap();
        let builtin = Gguf::parse(&builtin).unwrap();
        let data: Vec<Vec<u8>> = (1..)
            .zip(&TENSORS)
            .map(|(seed, tensor)| floats(seed, tensor.2))
            .collect();
        fs::write(temp.path().join("model.gguf"), gguf(&builtin, &data)).unwrap();
        let folder = temp.path().join("model");
        fs::create_dir(&folder).unwrap();
        write_documents(
            &folder,
            builtin
                .metadata()
                .require("tokenizer.chat_template")
                .unwrap(),
        );
        fs::write(folder.join("model.safetensors"), safetensors(&data)).unwrap();
        Self { temp }
    }

    /// The folder's path, then the file's.
    fn paths(&self) -> [String; 2] {
        ["model", "model.gguf"].map(|name| self.temp.path().join(name).to_str().unwrap().to_owned())
    }

    /// Runs a verb with both and returns what it prints.
    fn outputs(&self, args: &[&str]) -> [String; 2] {
        self.paths().map(|path| {
            let output = done(&[args, &["-m", &path]].concat());
            assert_eq!(
                output.status.code(),
                Some(0),
                "{args:?}: {}",
                stderr(&output)
            );
            stdout(&output).to_owned()
        })
    }
}

/// Numbers between −1 and 1 that repeat themselves little, as F32.
fn floats(seed: u32, shape: &[u64]) -> Vec<u8> {
    let n: u64 = shape.iter().product();
    let mut state = seed;
    let values = (0..n).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    });
    values.flat_map(f32::to_le_bytes).collect()
}

fn gguf(builtin: &Gguf<'_>, data: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set_all(builtin.metadata()).unwrap();
    for (key, value) in [
        ("block_count", 1),
        ("context_length", N_CTX),
        ("embedding_length", N),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", N),
        ("attention.value_length", N),
        ("expert_count", N_EXPERT),
        ("expert_used_count", 2),
        ("expert_feed_forward_length", N),
    ] {
        let value = u32::try_from(value).unwrap();
        writer.set(&format!("qwen3moe.{key}"), value).unwrap();
    }
    for (_, name, shape) in &TENSORS {
        let ne: Vec<u64> = shape.iter().rev().copied().collect();
        writer
            .tensor(&format!("{name}.weight"), &ne, GgmlType::F32)
            .unwrap();
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    writer.to_bytes(&data).unwrap()
}

fn write_documents(folder: &Path, template: &str) {
    let config = json!({
        "model_type": "qwen3_moe",
        "head_dim": N,
        "hidden_size": N,
        "max_position_embeddings": N_CTX,
        "moe_intermediate_size": N,
        "norm_topk_prob": true,
        "num_attention_heads": 2,
        "num_experts": N_EXPERT,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "vocab_size": N_VOCAB,
        "eos_token_id": 2041,
    });
    let settings = json!({"chat_template": template});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
}

fn safetensors(data: &[Vec<u8>]) -> Vec<u8> {
    let (mut header, mut all) = (Map::new(), Vec::new());
    let mut add = |name: String, shape: &[u64], data: &[u8]| {
        let start = all.len();
        all.extend_from_slice(data);
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, all.len()]});
        header.insert(format!("{name}.weight"), entry);
    };
    for ((name, _, shape), data) in TENSORS.iter().zip(data) {
        let [_, within @ ..] = shape else {
            unreachable!()
        };
        if shape.len() < 3 {
            add((*name).to_owned(), shape, data);
            continue;
        }
        let n_bytes = data.len() / usize::try_from(N_EXPERT).unwrap();
        for (expert, data) in data.chunks(n_bytes).enumerate() {
            add(
                format!("model.layers.0.mlp.experts.{expert}.{name}"),
                within,
                data,
            );
        }
    }
    let header = Value::Object(header).to_string();
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &all].concat()
}

#[test]
fn a_folder_says_what_the_gguf_file_of_the_same_model_says() {
    let both = Both::new();
    let text = "It is the east, and Juliet is the sun. ".repeat(12);
    let verbs: [&[&str]; 3] = [
        &["run", "-q", "-p", "ROMEO:", "-n", "24", "-s", "7"],
        &["tokenize", "--json", "-p", "wherefore art thou<|im_end|>"],
        &["detokenize", "--tokens", "294,457,324,2041"],
    ];
    for args in verbs {
        let [folder, file] = both.outputs(args);
        assert_eq!(folder, file, "{args:?}");
        assert!(folder.len() > 8, "{args:?}: {folder}");
    }
    let perplexity = ["perplexity", "-q", "--json", "-p", &text, "-c", "32"];
    let [folder, file] = both
        .paths()
        .map(|path| json(&[&perplexity[..], &["-m", &path]].concat())["perplexity"].clone());
    assert!(folder.is_number());
    assert_eq!(folder, file);
    let chats = both.paths().map(|path| {
        let args = ["chat", "-q", "-n", "8", "-s", "3", "-m", &path];
        let output = fed(&args, b"What news?\nAnd then?\n");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output).to_owned()
    });
    assert_eq!(chats[0], chats[1]);
}

#[test]
fn logits_of_a_folder_are_those_of_the_gguf_file() {
    let both = Both::new();
    let written = both.paths().map(|path| {
        let to = both.temp.path().join("logits.safetensors");
        let to = to.to_str().unwrap();
        let output = done(&[
            "logits",
            "-q",
            "--tokens",
            "294,457,324",
            "-o",
            to,
            "-m",
            &path,
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        fs::read(to).unwrap()
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn a_folder_is_measured_and_inspected_like_a_file() {
    let both = Both::new();
    let bench = ["bench", "-q", "-p", "8", "-n", "4", "-r", "1", "-o", "json"];
    let records = both
        .paths()
        .map(|path| json(&[&bench[..], &["-m", &path]].concat()));
    for field in ["n_params", "weight_bytes_per_token"] {
        let [folder, file] = [0, 1].map(|idx| records[idx]["engine"][field].as_u64());
        assert!(folder > Some(100_000), "{}", records[0]);
        assert_eq!(folder, file, "{field}");
    }
    let [folder, file] = both
        .paths()
        .map(|path| json(&["inspect", "--json", "-m", &path]));
    assert_eq!(
        folder["types"]["F32"]["n_weights"],
        file["types"]["F32"]["n_weights"]
    );
    assert_eq!(folder["metadata"]["hidden_size"], N);
    let report = both.outputs(&["inspect"])[0].clone();
    assert!(
        report.contains("model.layers.0.mlp.experts.3.down_proj.weight"),
        "{report}"
    );
}

#[test]
fn a_folder_without_weights_is_enough_to_tokenize_and_for_nothing_else() {
    let both = Both::new();
    let [folder, _] = both.paths();
    fs::remove_file(Path::new(&folder).join("model.safetensors")).unwrap();
    let [without, with] = both.outputs(&["tokenize", "-p", "wherefore art thou"]);
    assert_eq!(without, with);
    for verb in ["run", "inspect"] {
        let output = done(&[verb, "-m", &folder]);
        assert_eq!(output.status.code(), Some(3), "{verb}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("expected model.safetensors"),
            "{}",
            stderr(&output)
        );
    }
}
