//! Checkpoints become GGUF files, GGUF files checkpoints, and nothing is lost on the way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, num::NonZeroUsize, ops::ControlFlow, path::Path};

use gguf_format::{GgmlType, Gguf, GgufSet, GgufWriter};
use model_tools::{
    CheckpointOptions, CheckpointPlan, NewFolder, Plan, QuantizeOptions, Source, ToolError,
};
use moe_model::{Model, ModelFile, Outputs, State, StateOptions, TensorValues, forward_with};
use quant_kernels::{Cpu, Isa, MatRef, QuantType};
use serde_json::{Map, Value, json};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use type_mix::Mix;

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn model(mix: Mix, geometry: Geometry) -> Vec<u8> {
    let model = SynthModel {
        geometry,
        mix: TypeMix::Named(mix),
        vocab: Vocab::ByteLevel,
        seed: 5,
    };
    model.to_bytes().unwrap()
}

/// Rows of experts that are no whole number of anything: not of blocks of 256, nor of squares
/// of scales, nor do they fit into the pieces that are converted at a time.
const UNEVEN: Geometry = Geometry {
    n_ff_exp: 160,
    ..Geometry::TINY
};

fn set(bytes: &[u8]) -> GgufSet<'_> {
    GgufSet::new(vec![Gguf::parse(bytes).unwrap()]).unwrap()
}

/// Makes a folder of a GGUF file.
fn to_folder(gguf: &[u8], folder: &Path, options: &CheckpointOptions) -> Result<(), ToolError> {
    let gguf = set(gguf);
    let plan = CheckpointPlan::new(&gguf, options)?;
    let new = NewFolder::create(folder)?;
    let mut last = 0;
    plan.write(&new, TWO, |progress| {
        last = progress.written;
        ControlFlow::Continue(())
    })?;
    assert_eq!(last, plan.n_bytes());
    new.finish()
}

/// Makes a GGUF file of a folder.
fn to_gguf(folder: &Path, mix: Mix) -> Vec<u8> {
    let file = ModelFile::open(folder).unwrap();
    let source = Source::read(&file.contents().unwrap()).unwrap();
    let plan = Plan::new(source, &QuantizeOptions::new(mix), None).unwrap();
    plan.write(Vec::new(), TWO, |_| ControlFlow::Continue(()))
        .unwrap()
}

/// All metadata, told as text.
fn metadata(gguf: &[u8]) -> BTreeMap<String, String> {
    let set = set(gguf);
    let metadata = set.metadata().iter();
    metadata
        .map(|(key, value)| (key.to_owned(), format!("{value:?}")))
        .collect()
}

fn assert_same_tensors(found: &[u8], expected: &[u8]) {
    let [found, expected] = [found, expected].map(set);
    assert_eq!(found.tensors().len(), expected.tensors().len());
    for expected in expected.tensors() {
        let found = found.tensor(expected.info.name()).unwrap();
        assert_eq!(found.info.ne(), expected.info.ne());
        assert_eq!(found.info.ty(), expected.info.ty());
        assert!(found.data == expected.data, "{}", expected.info.name());
    }
}

fn logits(file: &ModelFile) -> Vec<u32> {
    let contents = file.contents().unwrap();
    let model = Model::read(&contents).unwrap();
    let cpu = Cpu::new(Isa::detect(), TWO).unwrap();
    let mut state = State::new(&model, StateOptions::new(16)).unwrap();
    let tokens: Vec<u32> = (3..14).collect();
    let logits = forward_with(&cpu, &model, &mut state, &tokens, Outputs::All).unwrap();
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Adds metadata to a file.
fn with(gguf: &[u8], add: impl FnOnce(&mut GgufWriter)) -> Vec<u8> {
    let given = set(gguf);
    let mut writer = GgufWriter::new();
    writer.set_all(given.metadata()).unwrap();
    add(&mut writer);
    for tensor in given.tensors() {
        let info = tensor.info;
        writer.tensor(info.name(), info.ne(), info.ty()).unwrap();
    }
    let data: Vec<&[u8]> = given.tensors().map(|tensor| tensor.data).collect();
    writer.to_bytes(&data).unwrap()
}

/// What a file may say of itself besides what a model needs.
fn described(gguf: &[u8]) -> Vec<u8> {
    with(gguf, |writer| {
        for (key, value) in [
            ("general.name", "A: \"model\" # of ours"),
            ("general.organization", "us"),
            ("general.size_label", "8x1K"),
            ("general.author", "me"),
            ("general.version", "v3"),
            ("general.description", "for tests"),
            ("general.finetune", "chat"),
            ("general.basename", "A"),
            ("general.license", "apache-2.0"),
            ("general.license.link", "https://example.org/LICENSE"),
            ("general.base_model.0.name", "Base 1B"),
            ("general.base_model.0.organization", "Them"),
            (
                "general.base_model.0.repo_url",
                "https://huggingface.co/them/base-1B",
            ),
            ("general.base_model.1.repo_url", "https://example.org/other"),
            ("general.dataset.0.name", "Plays"),
            ("general.sampling.sequence", "penalties;top_k;temperature"),
            ("tokenizer.chat_template.tool_use", "{{ messages }}"),
        ] {
            writer.set(key, value).unwrap();
        }
        writer
            .set("tokenizer.chat_templates", ["tool_use"])
            .unwrap();
        writer.set("general.base_model.count", 2_u32).unwrap();
        writer.set("general.dataset.count", 1_u32).unwrap();
        writer
            .set("general.tags", ["chat", "text-generation"])
            .unwrap();
        writer.set("general.languages", ["en", "no"]).unwrap();
        writer.set("general.sampling.temp", 0.6_f32).unwrap();
        writer.set("general.sampling.top_k", 20_i32).unwrap();
        writer.set("general.sampling.top_p", 0.95_f32).unwrap();
        writer.set("general.sampling.min_p", 0.01_f32).unwrap();
        writer
            .set("general.sampling.penalty_last_n", 64_i32)
            .unwrap();
        writer
            .set("general.sampling.penalty_repeat", 1.05_f32)
            .unwrap();
        writer.set("general.sampling.mirostat", 2_i32).unwrap();
        writer
            .set("general.sampling.mirostat_eta", 0.2_f32)
            .unwrap();
        writer.set("qwen3moe.feed_forward_length", 768_u32).unwrap();
        writer.set("qwen3moe.rope.scaling.type", "yarn").unwrap();
        writer.set("qwen3moe.rope.scaling.factor", 4.0_f32).unwrap();
        writer
            .set("qwen3moe.rope.scaling.original_context_length", 128_u32)
            .unwrap();
        writer
            .set("qwen3moe.rope.scaling.yarn_beta_fast", 30.5_f32)
            .unwrap();
        writer
            .set("qwen3moe.rope.scaling.yarn_beta_slow", 1.5_f32)
            .unwrap();
    })
}

#[test]
fn a_file_comes_back_from_a_folder_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    for (mix, max_shard_bytes) in [
        (Mix::BF16, 1 << 30),
        (Mix::BF16, 300_000),
        (Mix::F16, 1 << 30),
        (Mix::F32, 1_000_000),
    ] {
        let folder = temp.path().join(format!("{mix}-{max_shard_bytes}"));
        let gguf = described(&model(mix, Geometry::TINY));
        let options = CheckpointOptions {
            max_shard_bytes,
            ..CheckpointOptions::default()
        };
        to_folder(&gguf, &folder, &options).unwrap();
        let is_split = folder.join("model.safetensors.index.json").exists();
        assert_eq!(is_split, max_shard_bytes < 1 << 30, "{mix}");
        assert_ne!(folder.join("model.safetensors").exists(), is_split);
        let again = to_gguf(&folder, mix);
        assert_same_tensors(&again, &gguf);
        assert_eq!(metadata(&again), metadata(&gguf), "{mix}");
    }
}

#[test]
fn the_safetensors_library_reads_what_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    let gguf = model(Mix::BF16, Geometry::TINY);
    to_folder(&gguf, &folder, &CheckpointOptions::default()).unwrap();
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let query = read
        .tensor("model.layers.1.self_attn.q_proj.weight")
        .unwrap();
    assert!(query.data() == set(&gguf).tensor("blk.1.attn_q.weight").unwrap().data);
    let down = read
        .tensor("model.layers.0.mlp.experts.7.down_proj.weight")
        .unwrap();
    let all = set(&gguf);
    let all = all.tensor("blk.0.ffn_down_exps.weight").unwrap();
    assert!(all.data.ends_with(down.data()));
    assert_eq!(
        down.shape(),
        [
            Geometry::TINY.n_embd as usize,
            Geometry::TINY.n_ff_exp as usize
        ]
    );
}

#[test]
fn the_same_weights_give_the_same_bits_as_folder_and_as_files() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    let gguf = model(Mix::BF16, UNEVEN);
    to_folder(&gguf, &folder, &CheckpointOptions::default()).unwrap();
    let expected = logits(&ModelFile::from_bytes("given", gguf));
    assert_eq!(logits(&ModelFile::open(&folder).unwrap()), expected);
    for mix in [Mix::BF16, Mix::F32] {
        let file = ModelFile::from_bytes("converted", to_gguf(&folder, mix));
        assert!(logits(&file) == expected, "{mix}");
    }
    let quantized = [to_gguf(&folder, Mix::Q4_K_M), {
        let bytes = model(Mix::BF16, UNEVEN);
        let gguf = set(&bytes);
        let source = Source::from_gguf(&gguf).unwrap();
        let plan = Plan::new(source, &QuantizeOptions::new(Mix::Q4_K_M), None).unwrap();
        plan.write(Vec::new(), TWO, |_| ControlFlow::Continue(()))
            .unwrap()
    }];
    assert_same_tensors(&quantized[0], &quantized[1]);
}

/// The numbers of all matrices by name.
fn numbers(file: &ModelFile) -> BTreeMap<String, Vec<u32>> {
    let contents = file.contents().unwrap();
    let model = Model::read(&contents).unwrap();
    let of_matrix = |matrix: &MatRef<'_>| {
        let mut row = vec![0.0; matrix.n_cols()];
        let mut bits = Vec::new();
        for idx in 0..matrix.n_rows() {
            matrix.dequantize_row(idx, &mut row);
            bits.extend(row.iter().map(|x| x.to_bits()));
        }
        bits
    };
    let tensors = model.weights().tensors().into_iter();
    tensors
        .map(|tensor| {
            let bits = match tensor.values {
                TensorValues::Vector(values) => values.iter().map(|x| x.to_bits()).collect(),
                TensorValues::Matrix(matrix) => of_matrix(&matrix),
                TensorValues::Experts(experts) => experts.iter().flat_map(of_matrix).collect(),
            };
            (tensor.name, bits)
        })
        .collect()
}

#[test]
fn quantized_weights_become_the_floats_they_stand_for() {
    let temp = tempfile::tempdir().unwrap();
    let gguf = model(Mix::Q4_K_M, Geometry::TINY);
    let options = CheckpointOptions {
        ty: Some(QuantType::F32),
        ..CheckpointOptions::default()
    };
    let set = set(&gguf);
    let plan = CheckpointPlan::new(&set, &options).unwrap();
    assert!(plan.quantized().contains(&QuantType::Q4_K));
    let default = CheckpointPlan::new(&set, &CheckpointOptions::default()).unwrap();
    assert_eq!(default.ty(), QuantType::BF16);
    let folder = temp.path().join("model");
    to_folder(&gguf, &folder, &options).unwrap();
    let expected = numbers(&ModelFile::from_bytes("given", gguf.clone()));
    assert!(numbers(&ModelFile::open(&folder).unwrap()) == expected);
}

/// Makes 8-bit floats with scales of a folder's down projections, which are F32.
fn narrow_to_fp8(folder: &Path) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (mut header, mut all) = (Map::new(), Vec::new());
    let mut add = |name: &str, dtype: &str, shape: &[usize], data: &[u8]| {
        let start = all.len();
        all.extend_from_slice(data);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, all.len()]});
        header.insert(name.to_owned(), entry);
    };
    for (name, tensor) in read.iter() {
        let shape = tensor.shape();
        if !name.contains("down_proj") {
            add(name, "F32", shape, tensor.data());
            continue;
        }
        // Any bytes but those of NaN are numbers.
        let n = shape[0] * shape[1];
        let bytes: Vec<u8> = (0..n).map(|i| (i * 37 % 127) as u8).collect();
        add(name, "F8_E4M3", shape, &bytes);
        let scales = [shape[0].div_ceil(128), shape[1].div_ceil(128)];
        let values = (0..scales[0] * scales[1]).map(|i| 0.01 * (i as f32 + 1.3));
        let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        add(&format!("{name}_scale_inv"), "F32", &scales, &data);
    }
    let header = Value::Object(header).to_string();
    let len = (header.len() as u64).to_le_bytes();
    fs::write(&path, [&len[..], header.as_bytes(), &all].concat()).unwrap();
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["quantization_config"] = json!({
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "activation_scheme": "dynamic",
    });
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn eight_bit_floats_become_the_numbers_they_stand_for() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    let gguf = model(Mix::F32, UNEVEN);
    to_folder(&gguf, &folder, &CheckpointOptions::default()).unwrap();
    let before = numbers(&ModelFile::open(&folder).unwrap());
    narrow_to_fp8(&folder);
    let file = ModelFile::open(&folder).unwrap();
    let expected = numbers(&file);
    assert!(expected != before);
    let contents = file.contents().unwrap();
    assert_eq!(Source::read(&contents).unwrap().float_type(), Mix::F32);
    let converted = to_gguf(&folder, Mix::F32);
    let ty = set(&converted)
        .tensor("blk.0.ffn_down_exps.weight")
        .unwrap()
        .info
        .ty();
    assert_eq!(ty, GgmlType::F32);
    assert!(numbers(&ModelFile::from_bytes("converted", converted.clone())) == expected);
    // A folder made of that file says nothing of 8-bit floats.
    let again = temp.path().join("again");
    to_folder(&converted, &again, &CheckpointOptions::default()).unwrap();
    let config = fs::read_to_string(again.join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"), "{config}");
    assert!(numbers(&ModelFile::open(&again).unwrap()) == expected);
}

#[test]
fn what_a_checkpoint_cannot_say_is_refused_or_told() {
    let gguf = described(&model(Mix::BF16, Geometry::TINY));
    let refused = |key: &str, value: f32| {
        let gguf = with(&gguf, |writer| {
            writer.set(key, value).unwrap();
        });
        let plan = CheckpointPlan::new(&set(&gguf), &CheckpointOptions::default());
        plan.unwrap_err().to_string()
    };
    let error = refused("qwen3moe.rope.scaling.yarn_ext_factor", 0.5);
    let says = "`rope.scaling.yarn_ext_factor` is 0.5: a checkpoint can only say 1";
    assert_eq!(error, says);
    let told = with(&gguf, |writer| {
        writer.set("general.doi", "me").unwrap();
        writer.set("general.quantized_by", "me").unwrap();
    });
    let told = set(&told);
    let plan = CheckpointPlan::new(&told, &CheckpointOptions::default()).unwrap();
    let says = "a checkpoint has no place for general.doi and 1 more metadata";
    assert_eq!(plan.notes(), [says]);
    let options = CheckpointOptions {
        ty: Some(QuantType::Q8_0),
        ..CheckpointOptions::default()
    };
    let error = CheckpointPlan::new(&told, &options).unwrap_err();
    assert!(matches!(error, ToolError::NotFloat { .. }), "{error}");
}

#[test]
fn what_a_gguf_file_cannot_say_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    let gguf = model(Mix::BF16, Geometry::TINY);
    to_folder(&gguf, &folder, &CheckpointOptions::default()).unwrap();
    fs::write(folder.join("README.md"), "---\nlicense: {a: b}\n---\n").unwrap();
    fs::write(folder.join("generation_config.json"), "{\"num_beams\": 2}").unwrap();
    let file = ModelFile::open(&folder).unwrap();
    let source = Source::read(&file.contents().unwrap()).unwrap();
    let says = [
        "generation_config.json: num_beams 2 is not followed",
        "README.md: field `license` cannot be read",
    ];
    assert_eq!(source.notes, says);
    let plan = Plan::new(source, &QuantizeOptions::new(Mix::BF16), None).unwrap();
    let bytes = plan
        .write(Vec::new(), TWO, |_| ControlFlow::Continue(()))
        .unwrap();
    let metadata = metadata(&bytes);
    assert_eq!(metadata["general.name"], "String(\"Model\")");
    assert!(!metadata.contains_key("general.license"));
}

/// Makes a folder with a card, and a GGUF file of it.
fn with_card(name: &str, card: &str) -> BTreeMap<String, String> {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join(name);
    let gguf = model(Mix::BF16, Geometry::TINY);
    to_folder(&gguf, &folder, &CheckpointOptions::default()).unwrap();
    fs::write(folder.join("README.md"), card).unwrap();
    metadata(&to_gguf(&folder, Mix::BF16))
}

#[test]
fn what_a_model_is_called_comes_from_its_folder_and_its_card() {
    let card = "---\nlicense: apache-2.0\nmodel_creator: us\nbase_model:\n- Them/Base-4M-v2\n\
                - https://example.org/base\ndatasets: [them/plays]\ntags:\n- chat\n\
                pipeline_tag: text-generation\nlanguage: en\n---\n# Tiny\n";
    let found = with_card("Tiny-4M-A1M-Instruct-2507", card);
    let expected = [
        ("name", "Tiny 4M A1M Instruct 2507"),
        ("author", "us"),
        ("version", "2507"),
        ("finetune", "Instruct"),
        ("basename", "Tiny"),
        ("size_label", "4M-A1M"),
        ("license", "apache-2.0"),
        ("base_model.0.name", "Base 4M v2"),
        ("base_model.0.version", "v2"),
        ("base_model.0.organization", "Them"),
        (
            "base_model.0.repo_url",
            "https://huggingface.co/Them/Base-4M-v2",
        ),
        ("base_model.1.repo_url", "https://example.org/base"),
        ("dataset.0.name", "Plays"),
        ("dataset.0.organization", "Them"),
        ("dataset.0.repo_url", "https://huggingface.co/them/plays"),
    ];
    for (key, expected) in expected {
        let found = found.get(&format!("general.{key}")).map(String::as_str);
        assert_eq!(found, Some(&*format!("String({expected:?})")), "{key}");
    }
    assert_eq!(found["general.base_model.count"], "U32(2)");
    assert_eq!(found["general.dataset.count"], "U32(1)");
    assert!(!found.contains_key("general.base_model.1.name"));
    for (key, values) in [
        ("general.tags", ["chat", "text-generation"].as_slice()),
        ("general.languages", &["en"]),
    ] {
        let value = &found[key];
        assert!(values.iter().all(|text| value.contains(text)), "{value}");
    }

    // The card is right where it differs from the name.
    let card = "---\nmodel_name: Great\nversion: 3\nbasename: G\nfinetune: none\n---\n";
    let found = with_card("Tiny-4M-Instruct-2507", card);
    for (key, expected) in [
        ("name", "Great"),
        ("version", "3"),
        ("basename", "G"),
        ("finetune", "none"),
        ("size_label", "4M"),
    ] {
        assert_eq!(
            found[&format!("general.{key}")],
            format!("String({expected:?})")
        );
    }
    // A word says nothing but itself.
    let found = with_card("tiny", "");
    assert_eq!(found["general.size_label"], "String(\"8x1.1M\")");
    for key in ["basename", "finetune", "version", "license", "tags"] {
        assert!(!found.contains_key(&format!("general.{key}")), "{key}");
    }
}

/// The keys that llama.cpp requires of the architecture and of a byte-level tokenizer, and those
/// by which Ollama and LM Studio describe a model and choose how to talk to it.
#[test]
fn a_converted_file_has_every_key_that_other_programs_read() {
    let found = with_card("Tiny-4M", "");
    let texts = ["architecture", "type", "name", "size_label"].map(|key| format!("general.{key}"));
    for key in texts {
        assert!(found[&key].starts_with("String("), "{key}");
    }
    assert_eq!(found["general.architecture"], "String(\"qwen3moe\")");
    assert_eq!(found["general.type"], "String(\"model\")");
    assert_eq!(found["general.file_type"], "U32(32)");
    assert_eq!(found["general.quantization_version"], "U32(2)");
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
    ] {
        let value = &found[&format!("qwen3moe.{key}")];
        assert!(value.starts_with("U32("), "{key}: {value}");
    }
    for key in ["rope.freq_base", "attention.layer_norm_rms_epsilon"] {
        let value = &found[&format!("qwen3moe.{key}")];
        assert!(value.starts_with("F32("), "{key}: {value}");
    }
    assert_eq!(found["tokenizer.ggml.model"], "String(\"gpt2\")");
    assert_eq!(found["tokenizer.ggml.pre"], "String(\"qwen2\")");
    for key in ["tokens", "token_type", "merges"] {
        let value = &found[&format!("tokenizer.ggml.{key}")];
        assert!(value.starts_with("Array("), "{key}: {value}");
    }
    assert!(found["tokenizer.ggml.eos_token_id"].starts_with("U32("));
    assert_eq!(found["tokenizer.ggml.add_bos_token"], "Bool(false)");
    assert!(found["tokenizer.chat_template"].contains("add_generation_prompt"));
}

#[test]
fn work_that_is_ended_leaves_no_folder() {
    let temp = tempfile::tempdir().unwrap();
    let bytes = model(Mix::BF16, Geometry::TINY);
    let gguf = set(&bytes);
    let plan = CheckpointPlan::new(&gguf, &CheckpointOptions::default()).unwrap();
    let folder = NewFolder::create(&temp.path().join("model")).unwrap();
    let ended = plan.write(&folder, TWO, |_| ControlFlow::Break(()));
    assert!(matches!(ended, Err(ToolError::Interrupted)));
    drop(folder);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

/// The trained model, as llama.cpp has converted it, where it is at hand.
#[test]
fn metadata_and_tensors_are_those_of_llama_cpps_conversion() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/bard");
    let Ok(expected) = fs::read(folder.join("bard-bf16.gguf")) else {
        println!("skipped: {} is absent", folder.display());
        return;
    };
    let found = to_gguf(&folder, Mix::BF16);
    assert_same_tensors(&found, &expected);
    let mut metadata = [&found[..], &expected].map(metadata);
    let added = metadata[0].remove("tokenizer.ggml.add_bos_token");
    assert_eq!(added.as_deref(), Some("Bool(false)"));
    assert_eq!(metadata[0], metadata[1]);
    let temp = tempfile::tempdir().unwrap();
    let again = temp.path().join("again");
    to_folder(&found, &again, &CheckpointOptions::default()).unwrap();
    let weights = [&folder, &again].map(|path| fs::read(path.join("model.safetensors")).unwrap());
    let [given, again] =
        [0, 1].map(|i| safetensors::SafeTensors::deserialize(&weights[i]).unwrap());
    for (name, tensor) in given.iter() {
        let found = again.tensor(name).unwrap();
        assert_eq!(found.dtype(), tensor.dtype(), "{name}");
        assert!(found.data() == tensor.data(), "{name}");
    }
    assert_eq!(given.len(), again.len());
}
