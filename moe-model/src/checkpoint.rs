//! A checkpoint as Hugging Face lays it out: a folder of documents and safetensors files.
//!
//! [`Checkpoint`] is to a folder what `GgufSet` is to GGUF files: the tensors of all files by
//! name, borrowed from the map, and the documents beside them. Whatever the files say is
//! checked here or by those who read the fields: `config.json` by [`crate::Config`], the
//! tokenizer's documents by the tokenizer. Pickles are never read.

pub(crate) mod config;
mod document;
mod header;
mod index;
mod rope;
mod sampling;
pub(crate) mod tensors;

use std::{collections::HashMap, fs, path::Path};

use quant_kernels::QuantType;
use safetensors::Dtype;
use serde_json::{Map, Value};

use self::document::Document;
pub(crate) use self::index::shards;
pub use self::tensors::checkpoint_name;
use crate::{ModelError, error::quote};

/// The configuration, without which a folder is no checkpoint.
pub(crate) const CONFIG: &str = "config.json";
/// How the model's makers would sample.
const GENERATION_CONFIG: &str = "generation_config.json";
/// All weights, if they are in one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Which weights are in which file, if they are in several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The documents of a checkpoint that are mapped where they are present.
pub(crate) const DOCUMENTS: [&str; 9] = [
    CONFIG,
    GENERATION_CONFIG,
    INDEX,
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// Ends of the names of weights in formats that run code when they are read.
const PICKLES: [&str; 4] = [".bin", ".pth", ".pt", ".ckpt"];

/// A file of a checkpoint, by its path and bytes.
pub(crate) type PathBytes<'a> = (&'a Path, &'a [u8]);

/// A checkpoint whose headers were read, borrowed from its files.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    folder: &'a Path,
    documents: Vec<PathBytes<'a>>,
    /// File by file, in the order of their data.
    tensors: Vec<CheckpointTensor<'a>>,
    places: HashMap<&'a str, usize>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointTensor<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: Vec<u64>,
    data: &'a [u8],
    path: &'a Path,
    offset: u64,
}

impl<'a> Checkpoint<'a> {
    /// Reads the headers of all files, and the index if there is one.
    pub(crate) fn read(
        folder: &'a Path,
        shards: &[PathBytes<'a>],
        documents: Vec<PathBytes<'a>>,
    ) -> Result<Self, ModelError> {
        if shards.is_empty() {
            return Err(no_weights(folder));
        }
        let mut tensors = Vec::new();
        for (path, bytes) in shards {
            tensors.extend(header::read(path, bytes)?);
        }
        let mut places = HashMap::with_capacity(tensors.len());
        for (place, tensor) in tensors.iter().enumerate() {
            if let Some(first) = places.insert(tensor.name, place) {
                let other: &CheckpointTensor<'_> = &tensors[first];
                let found = format!("another one in {}", other.path.display());
                return Err(tensor.fault("one tensor of this name", found));
            }
        }
        let checkpoint = Self {
            folder,
            documents,
            tensors,
            places,
        };
        index::check(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Returns the path of the folder.
    #[must_use]
    pub const fn folder(&self) -> &'a Path {
        self.folder
    }

    /// Returns the bytes of a document, such as `config.json`, if it is there.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<&'a [u8]> {
        self.path_bytes(name).map(|(_, bytes)| bytes)
    }

    /// Returns the tensor of a name, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CheckpointTensor<'a>> {
        self.places.get(name).map(|&place| &self.tensors[place])
    }

    /// Iterates over all tensors, file by file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &CheckpointTensor<'a>> {
        self.tensors.iter()
    }

    /// Returns the fields of a JSON document, such as `config.json`, if it is there.
    ///
    /// # Errors
    /// It is no JSON object, too long, or has a key twice, at any depth.
    pub fn fields(&self, name: &str) -> Result<Option<Map<String, Value>>, ModelError> {
        Ok(self.json(name)?.map(Document::into_fields))
    }

    fn path_bytes(&self, name: &str) -> Option<PathBytes<'a>> {
        let mut documents = self.documents.iter();
        documents.find(|(path, _)| path.ends_with(name)).copied()
    }

    /// Parses a JSON document, if it is there.
    fn json(&self, name: &str) -> Result<Option<Document<'a>>, ModelError> {
        let document = self.path_bytes(name);
        let parse = |(path, bytes)| Document::parse(path, bytes);
        document.map(parse).transpose()
    }

    /// Parses the configuration.
    fn config(&self) -> Result<Document<'a>, ModelError> {
        self.json(CONFIG)?.ok_or_else(|| ModelError::IsDirectory {
            path: self.folder.to_owned(),
        })
    }
}

impl<'a> CheckpointTensor<'a> {
    /// Returns its name, such as `model.embed_tokens.weight`.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Returns its type as the file spells it, such as `BF16`.
    #[must_use]
    pub fn dtype(&self) -> String {
        self.dtype.to_string()
    }

    /// Returns the type that kernels know for it, if they multiply it.
    #[must_use]
    pub const fn quant_type(&self) -> Option<QuantType> {
        match self.dtype {
            Dtype::F32 => Some(QuantType::F32),
            Dtype::F16 => Some(QuantType::F16),
            Dtype::BF16 => Some(QuantType::BF16),
            Dtype::F8_E4M3 => Some(QuantType::F8_E4M3),
            _ => None,
        }
    }

    /// Returns its shape, slowest dimension first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Returns its bytes.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    fn fault(&self, expected: &str, found: String) -> ModelError {
        ModelError::SafetensorsTensor {
            path: self.path.to_owned(),
            name: quote(self.name),
            offset: self.offset,
            expected: expected.to_owned(),
            found,
        }
    }
}

fn no_weights(folder: &Path) -> ModelError {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_pickle = |name: &String| PICKLES.iter().any(|end| name.ends_with(end));
    let mut pickles: Vec<String> = names.filter(is_pickle).collect();
    pickles.sort_unstable();
    ModelError::NoWeights {
        path: folder.to_owned(),
        found: match pickles.as_slice() {
            [] => "neither".to_owned(),
            [one] => format!("{}, a pickle, which is never read", quote(one)),
            [first, others @ ..] => format!(
                "{} and {} more pickles, which are never read",
                quote(first),
                others.len()
            ),
        },
    }
}
