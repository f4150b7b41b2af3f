//! The server as clients meet it, good ones and bad ones: over raw sockets, since no client
//! library sends what a bad one does.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod answers;
mod bad_bodies;
mod bad_clients;
mod bad_heads;
mod end;
mod scores;
mod server;
mod wire;
