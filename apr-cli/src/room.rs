//! The memory that a model takes beside its file, and whether there is room for it.

use moe_model::{Config, Outputs, StateOptions, kv_bytes};

use crate::{error::Error, machine, units};

/// What some sequences and the batches they share take in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    n_sequences: usize,
    n_ctx: usize,
    pub(crate) batch_len: usize,
    /// Keys and values of whole contexts.
    pub(crate) kv: u128,
    /// Buffers of a batch, the small ones left out.
    pub(crate) batch: u128,
    pub(crate) logits: u128,
}

impl Room {
    /// Counts what whole contexts of some sequences take, of whose batches `outputs` are asked.
    pub(crate) fn needed(
        config: &Config,
        n_sequences: usize,
        options: StateOptions,
        outputs: Outputs,
    ) -> Result<Self, Error> {
        let StateOptions {
            n_ctx,
            keys,
            values,
            batch_len,
        } = options;
        let batch_len = batch_len.min(n_ctx.saturating_mul(n_sequences));
        Ok(Self {
            n_sequences,
            n_ctx,
            batch_len,
            kv: kv_bytes(config, keys, values, n_ctx)? * n_sequences as u128,
            batch: batch_bytes(config, batch_len),
            logits: logits_bytes(config, batch_len, n_sequences, outputs),
        })
    }

    /// Returns all of it.
    pub(crate) const fn total(&self) -> u128 {
        self.kv + self.batch + self.logits
    }

    /// Checks that it is there: running out later would be no error but the end of the process.
    pub(crate) fn check(&self) -> Result<(), Error> {
        expect_room(self.total(), || {
            let (contexts, flag) = match self.n_sequences {
                1 => ("a context".to_owned(), "--ctx-size"),
                n => (format!("{n} contexts"), "--parallel"),
            };
            let Self {
                n_ctx, batch_len, ..
            } = self;
            format!(
                "{contexts} of {n_ctx} tokens in batches of {batch_len}, see {flag} and --batch-size"
            )
        })
    }
}

/// Checks that memory has room for so many bytes, which are for `what`.
pub(crate) fn expect_room(needed: u128, what: impl FnOnce() -> String) -> Result<(), Error> {
    let available = machine::memory().map_or(u128::MAX, |m| u128::from(m.available));
    if needed <= available {
        return Ok(());
    }
    Err(Error::Memory {
        what: what(),
        needed: units::bytes(clipped(needed)),
        available: units::bytes(clipped(available)),
    })
}

/// Returns a number of bytes that is shown, or compared with what a machine has.
pub(crate) fn clipped(n_bytes: u128) -> u64 {
    u64::try_from(n_bytes).unwrap_or(u64::MAX)
}

/// Returns what the buffers of a batch take in a layer.
const fn batch_bytes(config: &Config, n_tokens: usize) -> u128 {
    let heads = config.qkv_len() + config.q_len();
    let experts = config.n_expert + config.n_expert_used * config.n_ff_exp;
    (config.n_embd + heads + experts) as u128 * n_tokens as u128 * size_of::<f32>() as u128
}

const fn logits_bytes(
    config: &Config,
    n_tokens: usize,
    n_sequences: usize,
    outputs: Outputs,
) -> u128 {
    let n_rows = match outputs {
        Outputs::None => 0,
        Outputs::Last => n_sequences,
        Outputs::From(_) | Outputs::All => n_tokens,
    };
    n_rows as u128 * config.n_vocab as u128 * size_of::<f32>() as u128
}
