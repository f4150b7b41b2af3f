//! The server as clients meet it, good ones and bad ones: over raw sockets, since no client
//! library sends what a bad one does.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod answers;
mod apis;
mod bad_bodies;
mod bad_calls;
mod bad_clients;
mod bad_heads;
mod cache;
mod calls;
mod end;
mod forms;
mod limits;
mod models;
mod round_trip;
mod scores;
mod server;
mod still_engine;
mod wire;
