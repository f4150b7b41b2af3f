#![doc = include_str!("../README.md")]
//!
//! # Reading order
//! [`Server`] listens and gives each request to the table in `routes.rs`. An API, such as
//! `openai` or `anthropic`, reads its fields into a job of `completion`, which gives it to the engine, and
//! writes what comes back in its own form, at once or in pieces. `guard.rs` says who may ask,
//! `api_error.rs` what a client is told of failures.
//!
//! Nothing is computed here: the engine has its own thread, and threads for input and output
//! do nothing that takes long. The clock is read for limits, times and identifiers, on which
//! no answer depends.

#![forbid(unsafe_code)]

mod config;
mod error;
mod error_form;
mod model;
mod server;

mod api_error;
mod app;
mod call;
mod exchange;
mod fields;
mod frames;
mod guard;
mod metrics;
mod random;
mod routes;
mod tree_size;

mod anthropic;
mod completion;
mod native;
mod ollama;
mod openai;
mod openapi;
mod page;
mod responses;

pub use config::{ApiKey, Config};
pub use error::ServerError;
pub use model::{ModelFacts, ServedModel};
pub use server::Server;
