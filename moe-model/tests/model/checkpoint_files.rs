//! Folders that are no checkpoints, and files in them that break the rules: each its own error
//! with file, field and offset.

use std::{fs, path::Path};

use moe_model::{Contents, ModelError, ModelFile};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::checkpoint::{Folder, error, open, raw, safetensors, shard, write_json};

/// Why a folder with this file of weights gives no model.
fn error_of(weights: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_json(folder.path(), "config.json", &Folder::bf16().config);
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    error(folder.path())
}

/// A header with tensors of one dimension, by dtype, length and offsets.
fn header(tensors: &[(&str, &str, u64, [u64; 2])]) -> String {
    let entry = |(name, dtype, len, offsets): &(&str, &str, u64, [u64; 2])| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{len}],"data_offsets":{offsets:?}}}"#)
    };
    let entries: Vec<String> = tensors.iter().map(entry).collect();
    format!("{{{}}}", entries.join(","))
}

#[test]
fn headers_that_break_a_rule_are_named_with_their_place() {
    let header_of = |tensors: &[(&str, &str, u64, [u64; 2])], n: usize| {
        let header = header(tensors);
        (raw(&header, &vec![0; n]), 8 + header.len())
    };
    let check = |(bytes, data_start): (Vec<u8>, usize), at: usize, says: &str| {
        let says = says.replace("@", &(data_start + at).to_string());
        assert_eq!(error_of(&bytes), format!("model.safetensors: {says}"));
    };
    check(
        header_of(&[("a", "F32", 1, [0, 4]), ("b", "F32", 1, [8, 12])], 12),
        8,
        "tensor `b` at byte @: expected data from 4 on, where the tensor before it ends, \
         found a hole, data_offsets [8, 12]",
    );
    check(
        header_of(&[("a", "F32", 2, [0, 8]), ("b", "F32", 1, [4, 8])], 8),
        4,
        "tensor `b` at byte @: expected data from 8 on, where the tensor before it ends, \
         found an overlap, data_offsets [4, 8]",
    );
    check(
        header_of(&[("a", "F32", 2, [0, 4])], 4),
        0,
        "tensor `a` at byte @: expected 8 bytes, as F32 [2] takes, found data_offsets [0, 4]",
    );
    check(
        header_of(&[("a", "F32", 2, [8, 0])], 8),
        8,
        "tensor `a` at byte @: expected data from 0 on, where the tensor before it ends, \
         found a hole, data_offsets [8, 0]",
    );
    check(
        header_of(&[("a", "F32", 2, [0, 8])], 7),
        0,
        "tensor `a` at byte @: expected data within the 7 bytes of the file, \
         found data_offsets [0, 8]",
    );
    check(
        header_of(&[("a", "F32", 1, [0, 4])], 7),
        4,
        "byte @: expected the end of the file after the last tensor, found 3 more bytes",
    );
    check(
        header_of(&[("a", "F32", u64::MAX / 2, [0, 4])], 4),
        0,
        "tensor `a` at byte @: expected a shape of whole bytes that memory can hold, \
         found F32 [9223372036854775807]",
    );
    check(
        header_of(&[("a", "F4", 3, [0, 1])], 1),
        0,
        "tensor `a` at byte @: expected a shape of whole bytes that memory can hold, \
         found F4 [3]",
    );
    check(
        header_of(&[("a", "FLOAT", 1, [0, 4])], 4),
        0,
        "tensor `a` at byte @: expected a dtype of the safetensors format, found dtype `FLOAT`",
    );
}

#[test]
fn headers_that_are_none_are_named_with_their_place() {
    let mut too_long = raw("{}", &[]);
    too_long[0] = 3;
    let mut huge = raw("{}", &[]);
    huge[..8].copy_from_slice(&100_000_001_u64.to_le_bytes());
    let wide = header(&[("a", "F32", 0, [0, 0])]).replace("[0]", "[-1]");
    let one = header(&[("a", "F32", 1, [0, 4])]);
    let twice = format!("{{{},{}}}", &one[1..one.len() - 1], &one[1..one.len() - 1]);
    let many = one.replace("[1]", "[1,1,1,1,1,1,1,1,1]");
    let unknown = one.replace("\"shape\"", "\"more\":1,\"shape\"");
    let escaped = one.replace("\"a\"", "\"\\u0061\"");
    let cases = [
        (
            vec![1, 2, 3],
            "byte 0: expected a header length of 8 bytes, found a file of 3 bytes",
        ),
        (
            too_long,
            "byte 0: expected a header within the 2 bytes that follow",
        ),
        (
            huge,
            "byte 0: expected a header of at most 100000000 bytes, found a header of 100000001",
        ),
        (
            raw("{", &[]),
            "byte 8: expected a map of tensors in JSON, found EOF",
        ),
        (raw("[]", &[]), "byte 8: expected a map of tensors in JSON"),
        (
            raw("{}{}", &[]),
            "byte 10: expected a map of tensors in JSON, found trailing",
        ),
        (
            raw("{\"a\":\n\n 3}", &[]),
            "byte 16: expected a map of tensors in JSON",
        ),
        (
            raw(&wide, &[]),
            "byte 38: expected a map of tensors in JSON",
        ),
        (
            raw(&many, &[0; 4]),
            "found a shape of more than 8 dimensions",
        ),
        (raw(&twice, &[0; 4]), "found tensor `a` comes twice"),
        (raw(&unknown, &[0; 4]), "unknown field `more`"),
        (
            raw(&escaped, &[0; 4]),
            "found tensor name `a` is written with escapes",
        ),
        (
            raw(r#"{"__metadata__":{"a":1}}"#, &[]),
            "expected a map of tensors in JSON",
        ),
    ];
    for (bytes, says) in cases {
        let error = error_of(&bytes);
        assert!(error.starts_with("model.safetensors: byte "), "{error}");
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_folder_without_a_model_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let error = ModelFile::open(path).unwrap_err();
    assert!(
        matches!(&error, ModelError::IsDirectory { path: p } if p == path),
        "{error}"
    );
    write_json(path, "config.json", &Folder::bf16().config);
    let says = |folder: &Path| open(folder, |_| ()).unwrap_err().to_string();
    let expected = "expected model.safetensors or model.safetensors.index.json, found ";
    assert_eq!(says(path), format!("{}: {expected}neither", path.display()));
    fs::write(path.join("pytorch_model.bin"), b"\x80\x02").unwrap();
    let pickle = "pytorch_model.bin, a pickle, which is never read";
    assert_eq!(
        says(path),
        format!("{}: {expected}{pickle}", path.display())
    );
    for name in ["pytorch_model-00001-of-00002.bin", "consolidated.00.pth"] {
        fs::write(path.join(name), b"\x80\x02").unwrap();
    }
    let pickles = "consolidated.00.pth and 2 more pickles, which are never read";
    assert!(says(path).ends_with(pickles), "{}", says(path));
    fs::write(path.join("model.safetensors"), b"").unwrap();
    assert!(matches!(
        ModelFile::open(path),
        Err(ModelError::Empty { .. })
    ));
    let gguf = ModelFile::open(Folder::bf16().write().path()).unwrap();
    assert!(matches!(gguf.gguf(), Err(ModelError::Kind { .. })));
}

/// Why a folder in shards gives no model, after a change to its files.
fn error_with_index(change: impl FnOnce(&Path, &mut Value)) -> String {
    const INDEX: &str = "model.safetensors.index.json";
    let folder = Folder::bf16().write_shards();
    let text = fs::read(folder.path().join(INDEX)).unwrap();
    let mut index: Value = serde_json::from_slice(&text).unwrap();
    change(folder.path(), &mut index);
    match index {
        Value::String(text) => fs::write(folder.path().join(INDEX), text).unwrap(),
        index => write_json(folder.path(), INDEX, &index),
    }
    error(folder.path())
}

#[test]
fn an_index_leads_nowhere_but_to_files_of_its_folder() {
    for file in [
        "../model.safetensors",
        "/etc/passwd",
        "pytorch_model.bin",
        "a/b.safetensors",
        "",
    ] {
        let error = error_with_index(|_, index| {
            index["weight_map"]["lm_head.weight"] = json!(file);
        });
        let expected = format!(
            "model.safetensors.index.json: field `weight_map.lm_head.weight`: \
             expected a safetensors file in the same folder, found `{file}`"
        );
        assert_eq!(error, expected);
    }
    let error = error_with_index(|_, index| {
        index["weight_map"]["lm_head.weight"] = json!("model-9.safetensors");
    });
    assert_eq!(error, "model-9.safetensors: no such file");
}

#[test]
fn index_and_files_agree_on_every_tensor() {
    const FIELD: &str = "model.safetensors.index.json: field `weight_map.";
    let error = error_with_index(|_, index| {
        index["weight_map"]["lm_head.weight"] = json!(shard(0));
    });
    let says = format!(
        "{FIELD}lm_head.weight`: expected a tensor of {}, found it in",
        shard(0)
    );
    assert!(error.starts_with(&says), "{error}");
    let error = error_with_index(|_, index| index["weight_map"]["x"] = json!(shard(1)));
    let says = format!(
        "{FIELD}x`: expected a tensor of {}, found no such tensor",
        shard(1)
    );
    assert_eq!(error, says);
    let error = error_with_index(|_, index| {
        index["weight_map"]
            .as_object_mut()
            .unwrap()
            .remove("model.norm.weight");
    });
    assert!(
        error.contains("tensor `model.norm.weight` at byte "),
        "{error}"
    );
    assert!(error.ends_with("expected a tensor that the index names, found it left out"));
    let error = error_with_index(|folder, _| {
        let copy = fs::read(folder.join(shard(0))).unwrap();
        fs::write(folder.join(shard(1)), copy).unwrap();
    });
    assert!(
        error.contains("expected one tensor of this name, found another one in"),
        "{error}"
    );
}

#[test]
fn an_index_counts_beside_a_single_file_too() {
    let folder = Folder::bf16().write();
    let index = json!({"weight_map": {"lm_head.weight": "new.safetensors"}});
    write_json(folder.path(), "model.safetensors.index.json", &index);
    let says = "field `weight_map.lm_head.weight`: expected a tensor of new.safetensors, found it";
    let error = error(folder.path());
    assert!(error.contains(says), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_no_absence() {
    for name in ["generation_config.json", "model.safetensors"] {
        let folder = Folder::bf16().write();
        let path = folder.path().join(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let found = ModelFile::open(folder.path());
        assert!(
            matches!(&found, Err(ModelError::NotFound { path: p }) if *p == path),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn an_index_that_is_none_is_named() {
    let says = |index: Value| error_with_index(|_, place| *place = index);
    let empty = says(json!({"weight_map": {}}));
    assert!(
        empty.contains("field `weight_map`: expected at least one tensor"),
        "{empty}"
    );
    for (index, expected) in [
        (json!({}), "missing field `weight_map`"),
        (
            json!({"weight_map": [1]}),
            "a map from tensor name to file name",
        ),
        (
            json!(r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#),
            "tensor `a` comes twice",
        ),
    ] {
        let error = says(index);
        assert!(
            error.starts_with("model.safetensors.index.json, line 1, column "),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn tensors_that_are_missing_wrong_or_too_many_are_named() {
    const LAYER: &str = "model.layers.1.";
    let name = |within: &str| format!("{LAYER}{within}");
    let expert = name("mlp.experts.3.up_proj.weight");
    let error_of = |change: &dyn Fn(&mut Folder)| {
        let mut folder = Folder::bf16();
        change(&mut folder);
        folder.error()
    };
    let missing = error_of(&|folder| folder.remove(&expert));
    assert_eq!(
        missing,
        format!("tensor `{expert}` is missing, expected shape [32, 64]")
    );
    let too_few = error_of(&|folder| folder.config["num_experts"] = json!(5));
    assert!(too_few.contains("`model.layers.0.mlp.gate.weight`: expected shape [5, 64]"));
    let shape = error_of(&|folder| folder.tensor(&expert).shape = vec![64, 32]);
    assert!(
        shape.ends_with("expected shape [32, 64], found [64, 32]"),
        "{shape}"
    );
    for (dtype, says) in [
        ("I16", "expected a type that can be multiplied, found I16"),
        (
            "F16",
            "expected the type of the layer's first expert, found F16",
        ),
    ] {
        let error = error_of(&|folder| dtype.clone_into(&mut folder.tensor(&expert).dtype));
        assert_eq!(error, format!("tensor `{expert}`: {says}"));
    }
    let foreign = [
        ("self_attn.q_proj.bias", "its bias"),
        ("self_attn.q_proj.weight_scale_inv", "its scale"),
        ("mlp.shared_expert.up_proj.weight", "its shared expert"),
        ("mlp.experts.4.up_proj.weight", "its expert is beyond"),
        (
            "mlp.experts.down_proj",
            "its expert is beyond `num_experts`, or there twice",
        ),
        ("mlp.up_proj.weight", "its layer would have no experts"),
    ];
    for (within, why) in foreign {
        let error = error_of(&|folder| folder.add(&name(within), &[1]));
        let says = format!(
            "tensor `{}` belongs to no Qwen3-MoE model: {why}",
            name(within)
        );
        assert!(error.starts_with(&says), "{error}");
    }
    for layer in ["2", "-1", "99999999999999999999999"] {
        let name = format!("model.layers.{layer}.mlp.gate.weight");
        let beyond = error_of(&|folder| folder.add(&name, &[1]));
        assert!(beyond.contains("beyond `num_hidden_layers`"), "{beyond}");
    }
}

#[test]
fn tensors_that_nobody_reads_are_listed() {
    let mut folder = Folder::bf16();
    folder.add("model.rotary_emb.inv_freq", &[16]);
    let unused = |model: &moe_model::Model<'_>| model.weights().unused().concat();
    let unused = open(folder.write().path(), unused).unwrap();
    assert_eq!(unused, "model.rotary_emb.inv_freq");
}

/// Whether our reader takes a file of weights, be they those of a model or not.
fn is_read(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    write_json(folder.path(), "config.json", &json!({}));
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let file = ModelFile::open(folder.path()).unwrap();
    let is_read = matches!(file.contents(), Ok(Contents::Checkpoint(_)));
    is_read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_document_with_a_wrong_byte_gives_a_model_or_an_error(
        is_index: bool,
        place in 0_usize..1200,
        byte: u8,
        is_cut: bool,
    ) {
        let folder = Folder::bf16().write_shards();
        let name = if is_index { "model.safetensors.index.json" } else { "config.json" };
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        if is_cut {
            bytes.truncate(place + 1);
        }
        fs::write(&path, bytes).unwrap();
        match open(folder.path(), |model| model.config().n_layer) {
            Ok(n_layer) => prop_assert!(n_layer <= 2),
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The crate finds no name that comes twice, so it may accept more.
    #[test]
    fn what_is_read_the_safetensors_crate_reads_too(
        place in 0_usize..700,
        byte: u8,
        cut in proptest::option::weighted(0.2, 1_usize..700),
    ) {
        let mut folder = Folder::bf16();
        folder.tensors.truncate(6);
        for tensor in &mut folder.tensors {
            tensor.data.truncate(8);
            tensor.shape = vec![4];
        }
        let mut bytes = safetensors(&folder.tensors);
        prop_assert!(is_read(&bytes));
        if let Some(at) = bytes.get_mut(place) {
            *at = byte;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let accepted = SafeTensors::deserialize(&bytes).is_ok();
        prop_assert!(accepted || !is_read(&bytes));
    }
}
