//! apr-cli

fn main() {}
