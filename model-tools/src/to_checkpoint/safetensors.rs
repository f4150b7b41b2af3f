//! Safetensors files: a header that says where each tensor lies, and the tensors.
//!
//! The safetensors crate wants the data of all tensors at once or as files of its own making, so
//! the header, a small piece of JSON, is written here. Tensors of wider numbers come first, which
//! keeps all of them aligned.

use serde_json::{Map, Value, json};

use crate::PlannedTensor;

/// The file of a checkpoint that has one.
const WEIGHTS: &str = "model.safetensors";
/// The document that says which tensor is in which file.
const INDEX: &str = "model.safetensors.index.json";

/// A file of tensors.
#[derive(Debug)]
pub(super) struct Shard<'a> {
    name: String,
    tensors: Vec<PlannedTensor<'a>>,
}

/// Distributes tensors over files of at most `max_bytes`.
pub(super) fn shards<'a>(tensors: Vec<PlannedTensor<'a>>, max_bytes: u64) -> Vec<Shard<'a>> {
    let mut groups: Vec<Vec<PlannedTensor<'a>>> = vec![Vec::new()];
    let mut n_bytes = 0_u64;
    for tensor in tensors {
        let with = n_bytes.saturating_add(tensor.n_bytes());
        match groups.last_mut() {
            Some(group) if group.is_empty() || with <= max_bytes => {
                group.push(tensor);
                n_bytes = with;
            }
            _ => {
                n_bytes = tensor.n_bytes();
                groups.push(vec![tensor]);
            }
        }
    }
    let n = groups.len();
    let shard = |(no, mut tensors): (usize, Vec<PlannedTensor<'a>>)| {
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.ty.block_bytes()));
        Shard {
            name: match n {
                1 => WEIGHTS.to_owned(),
                n => format!("model-{:05}-of-{n:05}.safetensors", no + 1),
            },
            tensors,
        }
    };
    groups.into_iter().enumerate().map(shard).collect()
}

/// Returns name and bytes of the index, where there are several files.
pub(super) fn index(shards: &[Shard<'_>]) -> Option<(String, Vec<u8>)> {
    if shards.len() < 2 {
        return None;
    }
    let mut map = Map::new();
    for shard in shards {
        for tensor in &shard.tensors {
            map.insert(tensor.source.name.clone(), shard.name.as_str().into());
        }
    }
    let total: u64 = shards.iter().map(Shard::n_bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    Some((INDEX.to_owned(), format!("{index:#}\n").into_bytes()))
}

impl<'a> Shard<'a> {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tensors(&self) -> &[PlannedTensor<'a>] {
        &self.tensors
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::n_bytes).sum()
    }

    /// Returns what stands before the data.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut start = 0;
        for tensor in &self.tensors {
            let end = start + tensor.n_bytes();
            let shape: Vec<u64> = tensor.source.ne.iter().rev().copied().collect();
            let entry = json!({
                "dtype": tensor.ty.name(),
                "shape": shape,
                "data_offsets": [start, end],
            });
            header.insert(tensor.source.name.clone(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // The data begin at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut header);
        bytes
    }
}
