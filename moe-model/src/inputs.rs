//! What the matrices of a layer are multiplied with, for those who measure it.
//!
//! Importance matrices are made of the squares of these numbers. They are what the products
//! see before activations are rounded to eight bits. Norms are not kept by the passes
//! themselves, so they are computed once more here, by the same code.

use quant_kernels::{Norm, Team};

use crate::{Config, weights::LayerWeights, workspace::Workspace};

/// The inputs of one matrix, or of several that share them.
#[derive(Clone, Copy, Debug)]
pub struct MatrixInputs<'a> {
    /// The layer.
    pub layer: usize,
    /// What the matrices are called in the layer, as in `attn_q`.
    pub matrices: &'static [&'static str],
    /// A row for each product `[_, n_cols]`.
    pub rows: &'a [f32],
    /// Columns of the matrices.
    pub n_cols: usize,
    /// Which expert meets which row; `None` where the matrix is one for all, and meets each.
    pub experts: Option<&'a [ExpertRow]>,
}

/// An expert and a row that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertRow {
    /// The expert.
    pub expert: u32,
    /// Index of the row.
    pub row: u32,
}

/// Who is shown the inputs of a pass.
pub(crate) type Watcher<'p> = &'p mut (dyn FnMut(MatrixInputs<'_>) + Send);

/// Shows the inputs of the matrices as a pass goes through the layers.
pub(crate) struct InputsWatch<'p> {
    watcher: Watcher<'p>,
    /// Normed rows of the residual stream `[T, E]`.
    normed: Vec<f32>,
    met: Vec<ExpertRow>,
}

impl<'p> InputsWatch<'p> {
    pub(crate) fn new(watcher: Watcher<'p>) -> Self {
        Self {
            watcher,
            normed: Vec::new(),
            met: Vec::new(),
        }
    }

    /// Before a layer's attention.
    pub(crate) fn at_attention(
        &mut self,
        team: &Team<'_>,
        config: &Config,
        (layer, weights): (usize, &LayerWeights<'_>),
        b: &Workspace,
    ) {
        self.norm(team, config, &weights.attn_norm, b);
        (self.watcher)(MatrixInputs {
            layer,
            matrices: &["attn_q", "attn_k", "attn_v"],
            rows: &self.normed,
            n_cols: config.n_embd,
            experts: None,
        });
    }

    /// Between a layer's attention and its router.
    pub(crate) fn at_router(
        &mut self,
        team: &Team<'_>,
        config: &Config,
        (layer, weights): (usize, &LayerWeights<'_>),
        b: &Workspace,
    ) {
        (self.watcher)(MatrixInputs {
            layer,
            matrices: &["attn_output"],
            rows: &b.attended,
            n_cols: config.q_len(),
            experts: None,
        });
        self.norm(team, config, &weights.ffn_norm, b);
        (self.watcher)(MatrixInputs {
            layer,
            matrices: &["ffn_gate_inp"],
            rows: &self.normed,
            n_cols: config.n_embd,
            experts: None,
        });
    }

    /// After a layer's experts.
    pub(crate) fn after_experts(&mut self, config: &Config, layer: usize, b: &Workspace) {
        self.meet(b, |slot| b.plan.tokens[slot]);
        (self.watcher)(MatrixInputs {
            layer,
            matrices: &["ffn_gate_exps", "ffn_up_exps"],
            rows: &self.normed,
            n_cols: config.n_embd,
            experts: Some(&self.met),
        });
        self.meet(b, |slot| b.rows[slot]);
        (self.watcher)(MatrixInputs {
            layer,
            matrices: &["ffn_down_exps"],
            rows: &b.gated,
            n_cols: config.n_ff_exp,
            experts: Some(&self.met),
        });
    }

    fn norm(&mut self, team: &Team<'_>, config: &Config, weight: &[f32], b: &Workspace) {
        let norm = Norm {
            weight,
            eps: config.rms_eps,
        };
        self.normed.resize(b.residual.len(), 0.0);
        let rows = b.residual.chunks_exact(config.n_embd);
        for (x, out) in rows.zip(self.normed.chunks_exact_mut(config.n_embd)) {
            team.isa().rms_norm(x, norm, out);
        }
    }

    /// Lists the experts of all slots with the row that each slot stands for.
    fn meet(&mut self, b: &Workspace, row: impl Fn(usize) -> u32) {
        self.met.clear();
        for (expert, slots) in (0..).zip(b.plan.starts.windows(2)) {
            let slots = slots[0]..slots[1];
            self.met.extend(slots.map(|slot| ExpertRow {
                expert,
                row: row(slot),
            }));
        }
    }
}
