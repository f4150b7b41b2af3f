//! synth-model
