//! The folder of a checkpoint, made from a GGUF model, so that a test can change one thing.

use std::{fs, path::Path};

use gguf_format::GgmlType;
use half::bf16;
use moe_model::{Model, ModelError, ModelFile};
use serde_json::{Map, Value, json};
use synth_model::TypeMix;
use tempfile::TempDir;

use crate::{
    edit::{Part, Parts},
    fixture::{smallest_of, with_model},
};

/// A checkpoint in parts.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    /// Slowest dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<u8>,
}

/// Returns a model of two layers whose numbers are all BF16, whatever type they are stored in.
pub(crate) fn bf16_parts() -> Parts {
    let mut parts = Parts::of(&smallest_of(TypeMix::Pure(quant_kernels::QuantType::BF16)));
    for part in &mut parts.tensors {
        if part.ty == GgmlType::F32 {
            for value in part.data.as_chunks_mut::<4>().0 {
                let rounded = bf16::from_f32(f32::from_le_bytes(*value));
                *value = rounded.to_f32().to_le_bytes();
            }
        }
    }
    parts
}

/// Stores all tensors as F32; the numbers stay.
pub(crate) fn widen(parts: &mut Parts) {
    for part in &mut parts.tensors {
        if part.ty == GgmlType::BF16 {
            let values = part.data.as_chunks::<2>().0.iter();
            let wide = values.flat_map(|&value| bf16::from_le_bytes(value).to_f32().to_le_bytes());
            part.data = wide.collect();
            part.ty = GgmlType::F32;
        }
    }
}

/// Stores the numbers of an F32 tensor as BF16.
fn narrow(data: &[u8]) -> Vec<u8> {
    let values = data.as_chunks::<4>().0.iter();
    let narrow = values.flat_map(|&value| bf16::from_f32(f32::from_le_bytes(value)).to_le_bytes());
    narrow.collect()
}

impl Folder {
    /// Takes the tensors of a GGUF model as they are, experts one by one.
    pub(crate) fn of(parts: &Parts) -> Self {
        let config = with_model(&parts.to_bytes(), config);
        let tensors = parts.tensors.iter().flat_map(tensors);
        Self {
            config,
            tensors: tensors.collect(),
        }
    }

    /// Takes the model of [`bf16_parts`], all tensors as BF16.
    pub(crate) fn bf16() -> Self {
        let mut folder = Self::of(&bf16_parts());
        for tensor in &mut folder.tensors {
            if tensor.dtype == "F32" {
                tensor.data = narrow(&tensor.data);
                "BF16".clone_into(&mut tensor.dtype);
            }
        }
        folder
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        let mut tensors = self.tensors.iter_mut();
        tensors.find(|tensor| tensor.name == name).unwrap()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    pub(crate) fn add(&mut self, name: &str, shape: &[u64]) {
        let n: u64 = shape.iter().product();
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dtype: "BF16".to_owned(),
            shape: shape.to_vec(),
            data: vec![0; 2 * usize::try_from(n).unwrap()],
        });
    }

    /// Replaces the experts' matrices of each layer by stacks, of gate and up together or of
    /// each by itself.
    pub(crate) fn stack_experts(&mut self, together: bool) {
        let (experts, mut others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tensors)
            .into_iter()
            .partition(|tensor| tensor.name.contains(".experts."));
        let stacks: &[(&str, &[&str])] = if together {
            &[
                ("gate_up_proj", &["gate_proj", "up_proj"]),
                ("down_proj", &["down_proj"]),
            ]
        } else {
            &[
                ("gate_proj.weight", &["gate_proj"]),
                ("up_proj.weight", &["up_proj"]),
                ("down_proj.weight", &["down_proj"]),
            ]
        };
        for layer in 0..2 {
            for (stack, of) in stacks {
                let mut data = Vec::new();
                let mut shape = vec![4, 0, 0];
                for expert in 0..4 {
                    shape[1] = 0;
                    for part in *of {
                        let name =
                            format!("model.layers.{layer}.mlp.experts.{expert}.{part}.weight");
                        let found = experts.iter().find(|tensor| tensor.name == name).unwrap();
                        data.extend_from_slice(&found.data);
                        shape[1] += found.shape[0];
                        shape[2] = found.shape[1];
                    }
                }
                others.push(Tensor {
                    name: format!("model.layers.{layer}.mlp.experts.{stack}"),
                    dtype: "BF16".to_owned(),
                    shape,
                    data,
                });
            }
        }
        self.tensors = others;
    }

    /// Writes the folder with all tensors in one file.
    pub(crate) fn write(&self) -> TempDir {
        let folder = self.write_config();
        fs::write(
            folder.path().join("model.safetensors"),
            safetensors(&self.tensors),
        )
        .unwrap();
        folder
    }

    /// Writes the folder with the tensors in three files and an index.
    pub(crate) fn write_shards(&self) -> TempDir {
        let folder = self.write_config();
        let mut map = Map::new();
        for (no, tensors) in self
            .tensors
            .chunks(self.tensors.len().div_ceil(3))
            .enumerate()
        {
            let file = shard(no);
            map.extend(
                tensors
                    .iter()
                    .map(|tensor| (tensor.name.clone(), json!(file))),
            );
            fs::write(folder.path().join(&file), safetensors(tensors)).unwrap();
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        write_json(folder.path(), "model.safetensors.index.json", &index);
        folder
    }

    fn write_config(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_json(folder.path(), "config.json", &self.config);
        folder
    }

    /// Makes the model and returns why that fails.
    pub(crate) fn error(&self) -> String {
        error(self.write().path())
    }
}

pub(crate) fn shard(no: usize) -> String {
    format!("model-{:05}-of-00003.safetensors", no + 1)
}

pub(crate) fn write_json(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), value.to_string()).unwrap();
}

/// Makes the model of a folder.
pub(crate) fn open<R>(folder: &Path, test: impl FnOnce(&Model<'_>) -> R) -> Result<R, ModelError> {
    let file = ModelFile::open(folder)?;
    let contents = file.contents()?;
    Model::read(&contents).map(|model| test(&model))
}

/// Returns why a folder gives no model, in one line without the folder's own path.
pub(crate) fn error(folder: &Path) -> String {
    let error = open(folder, |_| ()).unwrap_err().to_string();
    let path = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    error.replace(&path, "")
}

/// Writes a safetensors file.
pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.data.len();
        let entry = json!({
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), entry);
        start = end;
    }
    let data: Vec<u8> = tensors
        .iter()
        .flat_map(|tensor| tensor.data.clone())
        .collect();
    raw(&Value::Object(header).to_string(), &data)
}

/// Writes a safetensors file with a header of one's own.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), data].concat()
}

/// The configuration of a model as `config.json`.
fn config(model: &Model<'_>) -> Value {
    let config = model.config();
    json!({
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": false,
        "decoder_sparse_step": 1,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.n_embd,
        "max_position_embeddings": config.n_ctx,
        "mlp_only_layers": [],
        "moe_intermediate_size": config.n_ff_exp,
        "norm_topk_prob": true,
        "num_attention_heads": config.n_head,
        "num_experts": config.n_expert,
        "num_experts_per_tok": config.n_expert_used,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_head_kv,
        "rms_norm_eps": 1e-6,
        "rope_scaling": null,
        "rope_theta": config.rope.freq_base,
        "sliding_window": null,
        "tie_word_embeddings": false,
        "use_sliding_window": false,
        "vocab_size": config.n_vocab,
    })
}

/// A tensor of a GGUF file under the name, or names, it has in a checkpoint.
fn tensors(part: &Part) -> Vec<Tensor> {
    let shape: Vec<u64> = part.ne.iter().rev().copied().collect();
    let tensor = |name: String, shape: &[u64], data: &[u8]| Tensor {
        name,
        dtype: part.ty.name().to_owned(),
        shape: shape.to_vec(),
        data: data.to_vec(),
    };
    let whole = |name: &str| vec![tensor(format!("{name}.weight"), &shape, &part.data)];
    let name = part.name.strip_suffix(".weight").unwrap();
    let Some((layer, name)) = name
        .strip_prefix("blk.")
        .and_then(|name| name.split_once('.'))
    else {
        return whole(match name {
            "token_embd" => "model.embed_tokens",
            "output_norm" => "model.norm",
            "output" => "lm_head",
            other => panic!("{other}"),
        });
    };
    let expert = match name {
        "attn_norm" => return whole(&format!("model.layers.{layer}.input_layernorm")),
        "ffn_norm" => return whole(&format!("model.layers.{layer}.post_attention_layernorm")),
        "ffn_gate_inp" => return whole(&format!("model.layers.{layer}.mlp.gate")),
        "attn_output" => return whole(&format!("model.layers.{layer}.self_attn.o_proj")),
        "attn_q" | "attn_k" | "attn_v" => {
            let letter = name.strip_prefix("attn_").unwrap();
            return whole(&format!("model.layers.{layer}.self_attn.{letter}_proj"));
        }
        "attn_q_norm" | "attn_k_norm" => {
            let name = name.strip_prefix("attn_").unwrap();
            return whole(&format!("model.layers.{layer}.self_attn.{name}"));
        }
        "ffn_gate_exps" => "gate_proj",
        "ffn_up_exps" => "up_proj",
        "ffn_down_exps" => "down_proj",
        other => panic!("{other}"),
    };
    let n_bytes = part.data.len() / usize::try_from(shape[0]).unwrap();
    let experts = part.data.chunks(n_bytes).enumerate();
    experts
        .map(|(idx, data)| {
            let name = format!("model.layers.{layer}.mlp.experts.{idx}.{expert}.weight");
            tensor(name, &shape[1..], data)
        })
        .collect()
}
