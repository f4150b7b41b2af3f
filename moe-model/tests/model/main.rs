//! Properties of whole models, on synthetic ones.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod checkpoint;
mod checkpoint_config;
mod checkpoint_files;
mod checkpoint_logits;
mod edit;
mod exactness;
mod files;
mod fixture;
mod inputs;
mod invariance;
mod not_finite;
mod phases;
mod wrong_calls;
mod wrong_metadata;
mod wrong_tensors;
