//! One layer's attention: norm, queries, keys and values, rotation, cache, output.
//!
//! Grouped-query attention: `H / K` query heads share a key/value head. Each query and key
//! head is normed by itself before it is rotated, which is what Qwen3 adds to Llama.

use quant_kernels::{AttentionInput, AttentionSpan, Forms, MatMut, Norm, Product, Team};

use crate::{
    Config, Span,
    kv_cache::{self, KvRows},
    weights::LayerWeights,
    workspace::{Workspace, recycle},
};

/// Adds the output of attention in layer `idx` to the residual stream; returns whether it is
/// finite.
pub(crate) fn forward(
    team: &Team<'_>,
    config: &Config,
    (idx, layer): (usize, &LayerWeights<'_>),
    spans: &mut [Span<'_>],
    b: &mut Workspace,
) -> bool {
    project(team, config, layer, b);
    remember(team, config, idx, spans, b);
    team.done("qkv");
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
    let residual = MatMut::new(&mut b.residual, config.n_embd);
    let finite = team.add_product(&output, &b.activations, residual);
    team.done("output");
    finite
}

/// `qkv = [Wq · norm(x), Wk · norm(x), Wv · norm(x)]`, one phase; whoever has computed a query
/// or a key head norms and rotates it.
fn project(team: &Team<'_>, config: &Config, layer: &LayerWeights<'_>, b: &mut Workspace) {
    let matrices = [layer.attn_q, layer.attn_k, layer.attn_v];
    let forms = matrices.iter().fold(Forms::default(), |forms, w| {
        forms.with(w.ty().activation_form())
    });
    let norm = |weight| Norm {
        weight,
        eps: config.rms_eps,
    };
    let head_norms = [&layer.attn_q_norm, &layer.attn_k_norm].map(|weight| norm(weight));
    let tokens = &b.rows[..b.batch.tokens.len()];
    team.activate_normed(
        &b.residual,
        tokens,
        norm(&layer.attn_norm),
        forms,
        &mut b.activations,
    );
    let mut products = recycle(std::mem::take(&mut b.products));
    let mut out_col = 0;
    for w in matrices {
        products.push(Product {
            w,
            up: None,
            x_rows: tokens,
            out_row: 0,
            out_col,
        });
        out_col += w.n_rows();
    }
    team.products_then(
        &products,
        &b.activations,
        config.head_dim,
        MatMut::new(&mut b.qkv, config.qkv_len()),
        |matrix, token, heads| {
            let Some(norm) = head_norms.get(matrix) else {
                return;
            };
            let (cos, sin) = b.rope.row(token);
            for head in heads.chunks_exact_mut(config.head_dim) {
                team.isa().norm_rope(head, *norm, cos, sin);
            }
        },
    );
    b.products = recycle(products);
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
        keys: &b.qkv[q_len..],
        values: &b.qkv[q_len + kv_len..],
        stride: config.qkv_len(),
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
        q: &b.qkv,
        q_stride: config.qkv_len(),
        n_head: config.n_head,
        scale: 1.0 / (config.head_dim as f32).sqrt(),
        layer,
        spans: &attending,
    };
    team.attention(input, &mut b.attention, MatMut::new(&mut b.attended, q_len));
    b.spans = recycle(attending);
}
