#![doc = include_str!("../README.md")]
//!
//! # From a file to logits
//!
//! | step | type | errors |
//! |---|---|---|
//! | the bytes, mapped | [`ModelFile`] | the path: missing, a folder, empty, not readable |
//! | the header | [`gguf_format::GgufSet`] | field and offset in the file |
//! | the sizes | [`Config`] | the metadata key: missing, wrong type, at odds with others |
//! | the tensors | [`Weights`] | the tensor: missing, wrong shape, wrong type |
//! | the sequence | [`State`] | options out of range |
//! | a pass | [`forward_qwen3_moe`] | context full, id out of range, a value not finite |
//!
//! Each step leaves nothing for the next to check. [`Model`] is the configuration and the
//! weights together and borrows from the file; [`State`] is one sequence, with its cache
//! ([`KvCache`]) and the buffers that passes reuse.
//!
//! # What this crate leaves to others
//!
//! It knows token ids, not text; it gives logits and does not choose from them; it starts no
//! threads (the binary builds the [`quant_kernels::Cpu`]) and prints nothing.

mod attention;
mod config;
mod error;
mod experts;
mod file;
mod forward;
mod kv_cache;
mod model;
mod names;
mod reference;
mod rope;
mod router;
mod sampling;
mod state;
mod weights;

pub use config::Config;
pub use error::{ModelError, Stage};
pub use file::{ModelFile, Prefetch};
pub use forward::{LayerView, Outputs, forward_observed, forward_qwen3_moe, forward_with};
pub use kv_cache::KvCache;
pub use model::Model;
pub use names::SUPPORTED_ARCHITECTURES;
pub use reference::{Reference, ReferenceActivations, ReferenceLayer, ReferencePass};
pub use rope::{RopeConfig, RopeScaling, Yarn};
pub use router::Route;
pub use sampling::SamplingHints;
pub use state::{State, StateOptions, kv_bytes};
pub use weights::{LayerWeights, Weights, quant_type};
