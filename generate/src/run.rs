//! The whole job in one call.

use gguf_format::GgufSet;
use moe_model::{Model, StateOptions};
use quant_kernels::Cpu;

use crate::{
    CancelFlag, FinishReason, GenerateError, GenerationConfig, Sequence, TokenLoop, TokenStep,
};

/// Continues `prompt` with the model of `gguf` and returns the prompt's ids followed by the
/// generated ones.
///
/// The continuation ends after `config.n_predict` tokens, or with a stop token, which is then
/// the last id, or when the model's context is full. The same seed gives the same ids.
///
/// # Errors
/// [`GenerateError::EmptyPrompt`], [`GenerateError::PromptTooLong`] and
/// [`GenerateError::TokenOutOfRange`] for the prompt; [`GenerateError::Model`] for another
/// architecture, and for each metadata key or tensor that is missing or wrong;
/// [`GenerateError::Sampler`] for a setting out of its range.
pub fn run_qwen3_moe_generate(
    cpu: &Cpu,
    gguf: &GgufSet<'_>,
    prompt: &[u32],
    config: &GenerationConfig,
) -> Result<Vec<u32>, GenerateError> {
    let model = Model::from_gguf(gguf)?;
    let options = StateOptions::new(model.config().n_ctx);
    let mut sequence = Sequence::new(cpu, &model, options)?;
    let cancel = CancelFlag::new();
    sequence.prefill(prompt, &cancel, &mut |_| ())?;
    let mut tokens = TokenLoop::new(&sequence, config)?;
    let mut ids = prompt.to_vec();
    loop {
        match tokens.step(&mut sequence, &cancel)? {
            TokenStep::Token(token) => ids.push(token),
            TokenStep::Finished(reason) => {
                if let FinishReason::StopToken(token) = reason {
                    ids.push(token);
                }
                return Ok(ids);
            }
        }
    }
}
