//! The figures of a trace, as the JSON object that `docs/trace.md` describes.

use model_tools::{LayerRouting, Overlap, RoutingSums};
use serde::Serialize;

/// Parts of the choices for which the experts that take them are counted, in percent.
const PERCENTS: [u32; 3] = [50, 80, 90];
/// Hottest experts that are listed.
const N_HOTTEST: usize = 8;

/// What was read.
#[derive(Debug, Serialize)]
pub(super) struct About {
    pub(super) model: String,
    pub(super) text: String,
    /// Tokens of the longest window.
    pub(super) n_ctx: usize,
    pub(super) n_windows: usize,
}

/// The JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) about: About,
    pub(super) n_tokens: u64,
    pub(super) n_layer: usize,
    pub(super) n_expert: usize,
    pub(super) n_expert_used: usize,
    pub(super) expert_bytes: u64,
    pub(super) coverage: Vec<CoverageRecord>,
    pub(super) hottest: Vec<HotRecord>,
    pub(super) layers: Vec<LayerRecord>,
}

/// The hottest experts that take a part of the choices.
#[derive(Debug, Serialize)]
pub(super) struct CoverageRecord {
    pub(super) percent: u32,
    pub(super) n_experts: usize,
    pub(super) bytes: u64,
}

/// One of the hottest experts.
#[derive(Debug, Serialize)]
pub(super) struct HotRecord {
    pub(super) layer: usize,
    pub(super) expert: usize,
    pub(super) share: f64,
    pub(super) mean_weight: Option<f64>,
}

/// A measure beside what chance would give.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct OverlapRecord {
    pub(super) found: f64,
    pub(super) by_chance: f64,
}

/// One layer.
#[derive(Debug, Serialize)]
pub(super) struct LayerRecord {
    pub(super) entropy_bits: f64,
    pub(super) hottest_eighth: f64,
    pub(super) next_token: Option<OverlapRecord>,
    pub(super) next_layer_bits: Option<OverlapRecord>,
    pub(super) next_layer_same: Option<OverlapRecord>,
    pub(super) bytes_per_expert: u64,
    pub(super) never_chosen: Vec<usize>,
    pub(super) counts: Vec<u64>,
    pub(super) mean_weights: Vec<Option<f64>>,
}

impl Record {
    /// `expert_bytes` are those of one expert of each layer.
    pub(super) fn new(about: About, sums: &RoutingSums, expert_bytes: &[u64]) -> Self {
        let n_expert = sums.n_expert() as u64;
        let coverage = sums.coverage(&PERCENTS, expert_bytes).into_iter();
        let hottest = sums.hottest().into_iter().take(N_HOTTEST);
        let layers = sums.layers().zip(expert_bytes);
        Self {
            about,
            n_tokens: sums.n_tokens(),
            n_layer: sums.n_layer(),
            n_expert: sums.n_expert(),
            n_expert_used: sums.n_expert_used(),
            expert_bytes: expert_bytes.iter().map(|bytes| n_expert * bytes).sum(),
            coverage: coverage
                .map(|coverage| CoverageRecord {
                    percent: coverage.percent,
                    n_experts: coverage.n_experts,
                    bytes: coverage.n_bytes,
                })
                .collect(),
            hottest: hottest
                .map(|hot| HotRecord {
                    layer: hot.layer,
                    expert: hot.expert,
                    share: sums.layer(hot.layer).share(hot.expert),
                    mean_weight: sums.layer(hot.layer).mean_weight(hot.expert),
                })
                .collect(),
            layers: layers
                .map(|(layer, &bytes)| LayerRecord::new(&layer, bytes))
                .collect(),
        }
    }
}

impl LayerRecord {
    fn new(layer: &LayerRouting<'_>, bytes_per_expert: u64) -> Self {
        let experts = 0..layer.counts().len();
        Self {
            entropy_bits: layer.entropy_bits(),
            hottest_eighth: layer.hottest_eighth(),
            next_token: layer.next_token().map(Into::into),
            next_layer_bits: layer.next_layer_bits().map(Into::into),
            next_layer_same: layer.next_layer_same().map(Into::into),
            bytes_per_expert,
            never_chosen: layer.never_chosen().collect(),
            counts: layer.counts().to_vec(),
            mean_weights: experts.map(|expert| layer.mean_weight(expert)).collect(),
        }
    }
}

impl From<Overlap> for OverlapRecord {
    fn from(Overlap { found, by_chance }: Overlap) -> Self {
        Self { found, by_chance }
    }
}
