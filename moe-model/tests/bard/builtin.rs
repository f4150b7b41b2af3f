//! The model that is built into the program, which every clone has: its answers are these
//! bits, on every instruction set and with any number of threads.

use std::{num::NonZeroUsize, path::Path, thread::available_parallelism};

use moe_model::{Model, ModelFile, Outputs, State, StateOptions, forward_qwen3_moe, forward_with};
use quant_kernels::{Cpu, Isa};

use crate::{
    folder::heldout_ids,
    rows::argmax,
    score::{logits, perplexity},
};

/// `ROMEO:`
const ROMEO: [u32; 2] = [843, 25];

/// What follows, if the best token is taken each time.
const CONTINUATION: [u32; 32] = [
    294, 457, 324, 11, 294, 358, 258, 269, 286, 77, 88, 198, 918, 68, 11, 298, 11, 294, 457, 324,
    269, 286, 325, 11, 294, 457, 307, 258, 269, 829, 67, 11,
];

/// `First Citizen:\nBefore we proceed any further, hear me speak.`
const CITIZEN: [u32; 17] = [
    658, 1168, 268, 784, 553, 334, 586, 1774, 817, 273, 366, 712, 11, 684, 321, 628, 13,
];

/// [`hash`] of the logits after each token of [`CITIZEN`].
const CITIZEN_LOGITS: u64 = 12_370_148_170_026_982_265;

/// Of the held-out text. The F64 sums go through the platform's `exp` and `ln`, so that the
/// last digits may differ between platforms.
const PERPLEXITY: f64 = 73.082_699_598_340_81;

/// What llama.cpp says of the BF16 weights that the built-in model was made from.
const BF16_PERPLEXITY: f64 = 73.1056;

fn with_builtin(test: impl FnOnce(&Model<'_>)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../apr-cli/assets/bard.gguf");
    let file = ModelFile::open(&path).unwrap();
    let gguf = file.gguf().unwrap();
    test(&Model::from_gguf(&gguf).unwrap());
}

/// FNV-1a over the bytes of some logits.
fn hash(logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|x| x.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_builtin_model_gives_these_bits() {
    with_builtin(|model| {
        for (isa, n_threads) in Isa::available().zip([1, 2, 3].into_iter().cycle()) {
            let cpu = Cpu::new(isa, NonZeroUsize::new(n_threads).unwrap()).unwrap();
            let mut state = State::new(model, StateOptions::new(64)).unwrap();
            let logits = forward_with(&cpu, model, &mut state, &CITIZEN, Outputs::All).unwrap();
            assert_eq!(hash(logits), CITIZEN_LOGITS, "{isa}, {n_threads} threads");

            state.truncate(0);
            let mut logits = forward_qwen3_moe(&cpu, model, &mut state, &ROMEO).unwrap();
            let mut continuation = Vec::new();
            for _ in CONTINUATION {
                let best = u32::try_from(argmax(logits)).unwrap();
                continuation.push(best);
                logits = forward_qwen3_moe(&cpu, model, &mut state, &[best]).unwrap();
            }
            assert_eq!(continuation, CONTINUATION, "{isa}, {n_threads} threads");
        }
    });
}

#[test]
fn the_builtin_model_is_as_good_as_its_source() {
    with_builtin(|model| {
        let ids = heldout_ids();
        let cpu = Cpu::new(Isa::detect(), available_parallelism().unwrap()).unwrap();
        let logits = logits(&cpu, model, &ids);
        let found = perplexity(&logits, &ids, model.config().n_vocab);
        assert!((found / PERPLEXITY - 1.0).abs() <= 1e-9, "{found}");
        assert!((found / BF16_PERPLEXITY - 1.0).abs() <= 0.005, "{found}");
    });
}
