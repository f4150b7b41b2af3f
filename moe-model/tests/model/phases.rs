//! How often the threads meet: for a decoded token six times a layer, and for the head.

use moe_model::{Outputs, forward_qwen3_moe, forward_with};
use quant_kernels::Isa;
use synth_model::TypeMix;

use crate::fixture::{cpu, prompt, state, tiny, with_model};

/// Counts, so it depends on no clock and on nobody else's work.
#[test]
fn a_decoded_token_takes_at_most_six_phases_a_layer_and_two() {
    with_model(&tiny(TypeMix::Q4_K_M), |model| {
        let config = model.config();
        let n_layer = u64::try_from(config.n_layer).unwrap();
        for n_threads in [2, 3] {
            let (cpu, mut state) = (cpu(Isa::detect(), n_threads), state(model, 600));
            // A context that attention divides makes the threads meet once more.
            for (n_past, per_layer) in [(40, 6), (520, 7)] {
                let tokens = prompt(n_past - state.len(), config.n_vocab);
                forward_with(&cpu, model, &mut state, &tokens, Outputs::None).unwrap();
                for token in [3, 5] {
                    let before = cpu.n_phases();
                    forward_qwen3_moe(&cpu, model, &mut state, &[token]).unwrap();
                    let n_phases = cpu.n_phases() - before;
                    let limit = per_layer * n_layer + 2;
                    assert!(
                        n_phases <= limit,
                        "{n_phases} phases after {n_past} positions, at most {limit}"
                    );
                }
            }
        }
    });
}
