//! Models and processors that the tests share.

use std::{num::NonZeroUsize, sync::LazyLock};

use moe_model::{Model, ModelFile, State, StateOptions};
use quant_kernels::{Cpu, Isa, KvType, QuantType};
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

/// Rows of one block of 256, and as many matrices as there are types, so that
/// [`TypeMix::Mixed`] has each type once.
const ALL_TYPES: Geometry = Geometry {
    n_layer: 3,
    ..Geometry::TINY
};

/// As small as a model can be: for tests that build many.
const SMALLEST: Geometry = Geometry {
    n_layer: 2,
    n_embd: 64,
    n_head: 4,
    n_head_kv: 2,
    head_dim: 32,
    n_expert: 4,
    n_expert_used: 2,
    n_ff_exp: 32,
    n_vocab: 320,
    ..Geometry::TINY
};

/// Returns the bytes of a model with each weight type in it.
pub(crate) fn all_types() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| synth(ALL_TYPES, TypeMix::Mixed));
    &BYTES
}

/// Returns the bytes of a model of two layers.
pub(crate) fn tiny(mix: TypeMix) -> Vec<u8> {
    synth(Geometry::TINY, mix)
}

/// Returns the bytes of a model of 64 columns, in F32.
pub(crate) fn smallest() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| synth(SMALLEST, TypeMix::Pure(QuantType::F32)));
    &BYTES
}

/// Returns the bytes of a model of 64 columns.
pub(crate) fn smallest_of(mix: TypeMix) -> Vec<u8> {
    synth(SMALLEST, mix)
}

fn synth(geometry: Geometry, mix: TypeMix) -> Vec<u8> {
    let model = SynthModel {
        geometry,
        mix,
        vocab: Vocab::ByteLevel,
        seed: 7,
    };
    model.to_bytes().unwrap()
}

/// Calls `test` with the model of some bytes.
pub(crate) fn with_model<R>(bytes: &[u8], test: impl FnOnce(&Model<'_>) -> R) -> R {
    let file = ModelFile::from_bytes("synthetic", bytes.to_vec());
    let gguf = file.gguf().unwrap();
    test(&Model::from_gguf(&gguf).unwrap())
}

pub(crate) fn cpu(isa: Isa, n_threads: usize) -> Cpu {
    Cpu::new(isa, NonZeroUsize::new(n_threads).unwrap()).unwrap()
}

pub(crate) fn options(kv: KvType, n_ctx: usize) -> StateOptions {
    StateOptions {
        keys: kv,
        values: kv,
        ..StateOptions::new(n_ctx)
    }
}

pub(crate) fn state(model: &Model<'_>, n_ctx: usize) -> State {
    State::new(model, options(KvType::F32, n_ctx)).unwrap()
}

/// Returns `n` token ids below `n_vocab` that repeat themselves little.
pub(crate) fn prompt(n: usize, n_vocab: usize) -> Vec<u32> {
    let id = |i: usize| u32::try_from((i * i * 31 + i * 7 + 3) % n_vocab).unwrap();
    (0..n).map(id).collect()
}
