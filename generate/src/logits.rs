//! The logits of given tokens, without drawing any.

use std::ops::Range;

use moe_model::Outputs;

use crate::{CancelFlag, GenerateError, Prefill, Sequence};

impl Sequence<'_> {
    /// Makes `tokens` the content of the sequence and shows `visit` the logits `[V]` after each
    /// token of `wanted`, with the token's index.
    ///
    /// What the tokens before `wanted` share with the content before is not computed again. The
    /// logits of one batch are in memory at a time, so memory does not grow with the text.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill), and whatever `visit` returns.
    pub fn visit_logits<E: From<GenerateError>>(
        &mut self,
        tokens: &[u32],
        wanted: &Range<usize>,
        cancel: &CancelFlag,
        mut visit: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<Prefill, E> {
        self.check(tokens)?;
        let n_cached =
            self.keep_common(&tokens[..tokens.len().min(wanted.start.saturating_add(1))]);
        let n_vocab = self.n_vocab();
        for piece in pieces(n_cached..tokens.len(), wanted, self.piece_len()) {
            let is_wanted = wanted.contains(&piece.start);
            let outputs = if is_wanted {
                Outputs::All
            } else {
                Outputs::None
            };
            let logits = self.feed(&tokens[piece.clone()], outputs, cancel, &mut |_| ())?;
            for (idx, row) in piece.zip(logits.chunks_exact(n_vocab)) {
                visit(idx, row)?;
            }
        }
        Ok(Prefill {
            n_cached,
            n_computed: tokens.len() - n_cached,
        })
    }
}

/// Cuts `all` at the ends of `wanted`, and all of it into pieces of at most `piece_len`.
fn pieces(
    all: Range<usize>,
    wanted: &Range<usize>,
    piece_len: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let start = wanted.start.clamp(all.start, all.end);
    let end = wanted.end.clamp(start, all.end);
    [all.start..start, start..end, end..all.end]
        .into_iter()
        .flat_map(move |part| {
            let end = part.end;
            part.step_by(piece_len)
                .map(move |at| at..(at + piece_len).min(end))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_tokens_and_never_cross_the_wanted_range() {
        let cases = [
            (0..1, 0..1),
            (0..200, 0..200),
            (0..200, 70..199),
            (40..200, 70..199),
            (70..200, 70..200),
            (0..10, 5..5),
            (0..10, 3..20),
            (0..9, 12..20),
        ];
        for (all, wanted) in cases {
            let pieces: Vec<_> = pieces(all.clone(), &wanted, 64).collect();
            let covered: Vec<usize> = pieces.iter().flat_map(Clone::clone).collect();
            assert_eq!(covered, Vec::from_iter(all));
            for piece in pieces {
                let n_wanted = piece.clone().filter(|idx| wanted.contains(idx)).count();
                assert!(
                    n_wanted == 0 || n_wanted == piece.len(),
                    "{wanted:?}: {piece:?}"
                );
                assert!(piece.len() <= 64);
            }
        }
    }
}
