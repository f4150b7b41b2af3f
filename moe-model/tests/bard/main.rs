//! The trained model: the one built into the program, which is always there, and the files
//! of `../shared/models/bard` beside the repository with what transformers and llama.cpp say
//! of them. Without that folder the tests that need it say so and pass.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod builtin;
mod checkpoint;
mod folder;
mod greedy;
mod perplexities;
mod rows;
mod score;
mod transformers;
