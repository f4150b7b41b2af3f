#![doc = include_str!("../README.md")]
//!
//! # From a model to a smaller one
//!
//! | step | type | errors |
//! |---|---|---|
//! | what there is | [`Source`] | the file is no `qwen3moe`, or its metadata lack a count; the folder holds no model that can be run |
//! | what matters | [`Importance`] | the file is no importance matrix |
//! | what becomes of it | [`Plan`] | a type that cannot be written or read, a pattern that matches nothing, quantized weights without leave, the importance of another model |
//! | the bytes | [`Plan::write`] | a weight that is not finite, the output that fails |
//! | the file | [`NewFile`] | the path |
//!
//! A GGUF file becomes a checkpoint by a [`CheckpointPlan`] and a [`NewFolder`].
//!
//! A plan says all types and the size before anything is written. Writing reads the weights
//! where they lie, a few million at a time, and holds no more of them than that, so a model
//! may be far larger than memory. The bytes depend on the source and the plan alone, not on
//! the number of threads.
//!
//! # Which experts a text goes to
//!
//! [`RoutingSums`] counts them as passes show their layers, [`LayerRouting`] measures a layer,
//! [`RoutingSums::coverage`] says what the hottest would take in memory, and [`HeatMap`] draws
//! all of them.
//!
//! # How good a model is
//!
//! [`eval`] asks it questions whose answers are known, as lm-evaluation-harness does.

#![forbid(unsafe_code)]

mod card;
mod error;
pub mod eval;
mod from_checkpoint;
mod importance;
mod naming;
mod new_file;
mod new_folder;
mod plan;
mod quantize;
mod source;
mod tensor_type;
mod to_checkpoint;
mod trace;
pub mod verify;

pub use error::ToolError;
pub use importance::{Importance, ImportanceSums, Unseen};
pub use new_file::NewFile;
pub use new_folder::NewFolder;
pub use plan::{Plan, PlannedTensor, QuantizeOptions};
pub use quantize::Progress;
pub use source::{Source, SourceTensor, TensorData};
pub use tensor_type::TensorType;
pub use to_checkpoint::{CheckpointOptions, CheckpointPlan};
pub use trace::{Coverage, HeatMap, Hot, LayerRouting, Overlap, RoutingSums, expert_bytes};
