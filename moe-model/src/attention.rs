//! One layer's attention: norm, queries, keys and values, rotation, cache, output.
//!
//! Grouped-query attention: `H / K` query heads share a key/value head. Each query and key
//! head is normed by itself before it is rotated, which is what Qwen3 adds to Llama.

use quant_kernels::{AttentionInput, AttentionSpan, Forms, MatMut, Product, Team};

use crate::{
    Config, Span,
    forward::{add_and_check, norm_rows},
    kv_cache::{self, KvRows},
    weights::LayerWeights,
    workspace::{Workspace, recycle},
};

/// Heads that one unit of work norms and rotates.
const UNIT_HEADS: usize = 4;

/// Adds the output of attention in layer `idx` to the residual stream; returns whether it is
/// finite.
pub(crate) fn forward(
    team: &Team<'_>,
    config: &Config,
    (idx, layer): (usize, &LayerWeights<'_>),
    spans: &mut [Span<'_>],
    b: &mut Workspace,
) -> bool {
    let n_embd = config.n_embd;
    norm_rows(
        team,
        &b.residual,
        &layer.attn_norm,
        config.rms_eps,
        &mut b.normed,
    );
    project(team, config, layer, b);
    team.done("qkv");
    norm_and_rotate(team, config, layer, b);
    remember(team, config, idx, spans, b);
    team.done("rotate");
    attend(team, config, idx, spans, b);
    team.done("attention");
    let forms = Forms::default().with(layer.attn_output.ty().activation_form());
    team.activate(&b.attended, config.q_len(), forms, &mut b.activations);
    let output = Product {
        w: layer.attn_output,
        up: None,
        x_rows: &b.rows[..b.batch.tokens.len()],
        out_row: 0,
        out_col: 0,
    };
    team.products(
        &[output],
        &b.activations,
        MatMut::new(&mut b.attn_out, n_embd),
    );
    let finite = add_and_check(team, &mut b.residual, &b.attn_out, n_embd);
    team.done("output");
    finite
}

/// `qkv = [Wq · x, Wk · x, Wv · x]`, one phase.
fn project(team: &Team<'_>, config: &Config, layer: &LayerWeights<'_>, b: &mut Workspace) {
    let matrices = [layer.attn_q, layer.attn_k, layer.attn_v];
    let forms = matrices.iter().fold(Forms::default(), |forms, w| {
        forms.with(w.ty().activation_form())
    });
    team.activate(&b.normed, config.n_embd, forms, &mut b.activations);
    let mut products = recycle(std::mem::take(&mut b.products));
    let mut out_col = 0;
    for w in matrices {
        products.push(Product {
            w,
            up: None,
            x_rows: &b.rows[..b.batch.tokens.len()],
            out_row: 0,
            out_col,
        });
        out_col += w.n_rows();
    }
    team.products(
        &products,
        &b.activations,
        MatMut::new(&mut b.qkv, config.qkv_len()),
    );
    b.products = recycle(products);
}

/// Norms and rotates every query and key head.
fn norm_and_rotate(team: &Team<'_>, config: &Config, layer: &LayerWeights<'_>, b: &mut Workspace) {
    let Workspace {
        rotated, qkv, rope, ..
    } = b;
    let (dim, isa) = (config.head_dim, team.isa());
    let (n_head, n_heads) = (config.n_head, config.n_head + config.n_head_kv);
    team.for_each_chunk(rotated, UNIT_HEADS * dim, |unit, heads| {
        for (idx, out) in heads.chunks_mut(dim).enumerate() {
            let idx = unit * UNIT_HEADS + idx;
            let (token, head) = (idx / n_heads, idx % n_heads);
            let weight = if head < n_head {
                &layer.attn_q_norm
            } else {
                &layer.attn_k_norm
            };
            let x = &qkv[token * config.qkv_len() + head * dim..][..dim];
            isa.rms_norm(x, weight, config.rms_eps, out);
            let (cos, sin) = rope.row(token);
            isa.rope(out, cos, sin);
        }
    });
}

/// Writes keys and values into the caches of their sequences.
fn remember(
    team: &Team<'_>,
    config: &Config,
    layer: usize,
    spans: &mut [Span<'_>],
    b: &mut Workspace,
) {
    let (q_len, kv_len) = (config.q_len(), config.kv_len());
    let mut writes = recycle(std::mem::take(&mut b.writes));
    let first_span = b.batch.pieces[0].span;
    for (span, piece) in spans[first_span..].iter_mut().zip(&b.batch.pieces) {
        let first = piece.first;
        writes.extend(span.cache.writes(first, piece.n_tokens, piece.first_row));
    }
    let rows = KvRows {
        keys: &b.rotated[q_len..],
        keys_stride: q_len + kv_len,
        values: &b.qkv[q_len + kv_len..],
        values_stride: config.qkv_len(),
    };
    kv_cache::write(team, layer, &mut writes, rows);
    b.writes = recycle(writes);
}

/// Lets every token look at the positions of its sequence up to its own.
fn attend(team: &Team<'_>, config: &Config, layer: usize, spans: &[Span<'_>], b: &mut Workspace) {
    let q_len = config.q_len();
    let mut attending = recycle(std::mem::take(&mut b.spans));
    attending.extend(b.batch.pieces.iter().map(|piece| AttentionSpan {
        blocks: spans[piece.span].cache.blocks(),
        first_row: piece.first_row,
        n_past: piece.first,
        n_tokens: piece.n_tokens,
    }));
    let input = AttentionInput {
        q: &b.rotated,
        q_stride: q_len + config.kv_len(),
        n_head: config.n_head,
        scale: 1.0 / (config.head_dim as f32).sqrt(),
        layer,
        spans: &attending,
    };
    team.attention(input, &mut b.attention, MatMut::new(&mut b.attended, q_len));
    b.spans = recycle(attending);
}
