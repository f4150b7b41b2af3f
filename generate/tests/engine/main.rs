//! The engine on a synthetic model: a few megabytes of noise, every tensor of the real thing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batching;
mod disk;
mod generation;
mod grammar;
mod many;
mod prefix;
mod run;
mod sequence;

use std::{num::NonZeroUsize, sync::LazyLock};

use generate::Sequence;
use moe_model::{Model, ModelFile, StateOptions};
use quant_kernels::{Cpu, Isa};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

/// The bytes of the model.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let model = SynthModel {
        geometry: Geometry::TINY,
        mix: TypeMix::Q4_K_M,
        vocab: Vocab::ByteLevel,
        seed: 1,
    };
    model.to_bytes().unwrap()
});

static FILE: LazyLock<ModelFile> =
    LazyLock::new(|| ModelFile::from_bytes("synthetic", BYTES.clone()));
static MODEL: LazyLock<Model<'static>> =
    LazyLock::new(|| Model::from_gguf(&FILE.gguf().unwrap()).unwrap());
static CPU: LazyLock<Cpu> =
    LazyLock::new(|| Cpu::new(Isa::detect(), NonZeroUsize::new(2).unwrap()).unwrap());

const PROMPT: [u32; 7] = [1, 20, 300, 4, 50, 6, 70];

/// An empty sequence with a small context.
fn sequence(n_ctx: usize, batch_len: usize) -> Sequence<'static> {
    let options = StateOptions {
        batch_len,
        ..StateOptions::new(n_ctx)
    };
    Sequence::new(&CPU, &MODEL, options).unwrap()
}

/// The bits of a row of logits, which must be equal and not only near.
fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}
