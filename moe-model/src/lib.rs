//! moe-model
