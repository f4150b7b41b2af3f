#![doc = include_str!("../README.md")]
//!
//! # What is real and what is not
//!
//! Real are the geometry, the names, the types and where they are placed, the metadata and,
//! if it is copied from a file, the vocabulary: whatever reads the file does the work, and
//! touches the memory, that a trained model of this size asks for. Not real are the weights.
//! They are bell-shaped noise, so text is gibberish, the router chooses experts evenly, and
//! nothing can be said about sampling or speculation.
//!
//! Deviations are chosen so that activations keep their size through the layers: one over the
//! root of the row length for most matrices, twice that for router and output, norms near
//! one, embeddings of deviation one.
//!
//! # Why it is fast, and what that costs
//!
//! Quantizing 30 billion weights takes hours, so a few thousand stretches of 256 weights are
//! quantized per type and deviation, and rows are put together from them (see `pool`). Every
//! stretch serves equally often, and within a matrix no two rows are equal in practice, so a
//! mistaken index shows.

#![forbid(unsafe_code)]

mod error;
mod geometry;
mod model;
mod plan;
mod pool;
mod random;
mod type_mix;
mod vocab;

pub use error::SynthError;
pub use geometry::Geometry;
pub use model::{Progress, SynthModel};
pub use type_mix::TypeMix;
pub use vocab::Vocab;
