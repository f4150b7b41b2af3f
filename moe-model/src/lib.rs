#![doc = include_str!("../README.md")]
//!
//! # From a file to logits
//!
//! | step | type | errors |
//! |---|---|---|
//! | the bytes, mapped | [`ModelFile`] | the path: missing, no model's folder, empty, not readable |
//! | the headers | [`gguf_format::GgufSet`] or [`Checkpoint`] | field and offset in the file |
//! | the sizes | [`Config`] | the metadata key or field: missing, wrong type, at odds with others |
//! | the tensors | [`Weights`] | the tensor: missing, wrong shape, wrong type |
//! | a sequence | [`State`], or [`KvCache`] and [`Workspace`] | options out of range |
//! | a pass | [`forward_qwen3_moe`], [`forward_batch`] | context full, id out of range, a value not finite |
//!
//! Each step leaves nothing for the next to check. [`Model`] is the configuration and the
//! weights together and borrows from the file; [`KvCache`] is all that is remembered of a
//! sequence, [`Workspace`] the buffers that passes reuse, and [`State`] both for a sequence
//! that is alone.
//!
//! # Several sequences
//!
//! [`forward_batch`] continues several sequences in one pass, each by as many tokens as it
//! likes: weights are read once for all of them. Sequences may come and go between passes.
//! None of them can see in its logits that the others were there.
//!
//! ```no_run
//! use moe_model::{KvCache, Model, ModelError, Outputs, Span, Workspace, forward_batch};
//! use quant_kernels::{Cpu, KvType};
//!
//! /// Goes on with a text by one token while a prompt of another is taken in.
//! fn step(
//!     cpu: &Cpu,
//!     model: &Model<'_>,
//!     workspace: &mut Workspace,
//!     [text, other]: [&mut KvCache; 2],
//! ) -> Result<(), ModelError> {
//!     let outputs = Outputs::Last;
//!     let mut spans = [
//!         Span { cache: text, tokens: &[1879], outputs },
//!         Span { cache: other, tokens: &[9707, 11], outputs },
//!     ];
//!     let logits = forward_batch(cpu, model, workspace, &mut spans, &mut |_| ())?;
//!     assert_eq!(logits.of(1).len(), model.config().n_vocab);
//!     Ok(())
//! }
//! ```
//!
//! # What this crate leaves to others
//!
//! It knows token ids, not text; it gives logits and does not choose from them; it starts no
//! threads (the binary builds the [`quant_kernels::Cpu`]) and prints nothing.

mod attention;
mod batch;
mod checkpoint;
mod config;
mod error;
mod experts;
mod file;
mod forward;
mod inputs;
mod kv_cache;
mod model;
mod names;
mod reference;
mod rope;
mod router;
mod sampling;
mod state;
mod weights;
mod workspace;

pub use batch::{Logits, Outputs, Place, Span};
pub use checkpoint::{Checkpoint, CheckpointTensor, checkpoint_name};
pub use config::Config;
pub use error::{ModelError, Stage};
pub use file::{Contents, ModelFile, Prefetch};
pub use forward::{
    LayerView, forward_batch, forward_inputs, forward_observed, forward_qwen3_moe, forward_with,
};
pub use inputs::{ExpertRow, MatrixInputs};
pub use kv_cache::{KvCache, kv_bytes};
pub use model::Model;
pub use names::SUPPORTED_ARCHITECTURES;
pub use reference::{
    Departure, Reference, ReferenceActivations, ReferenceAttention, ReferenceLayer, ReferencePass,
    ReferenceRows, ReferenceSteps,
};
pub use rope::{RopeConfig, RopeScaling, Yarn};
pub use router::Route;
pub use sampling::SamplingHints;
pub use state::{State, StateOptions};
pub use weights::{Experts, LayerWeights, NamedTensor, TensorValues, Weights, quant_type};
pub use workspace::Workspace;
