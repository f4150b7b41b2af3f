//! Rows that go through the layers together, whoever they belong to.
//!
//! A pass continues one sequence or several, each by its own tokens: a step of one token, a
//! prompt, or a piece of one. All their tokens, one sequence after the other, are the rows of
//! the pass, and are cut into batches without regard to where a sequence ends. Only attention
//! asks which sequence a row belongs to; everything else happens to each row by itself.

use std::ops::Range;

use crate::KvCache;

/// Tokens by which a pass continues one sequence.
///
/// A sequence cannot be in a pass twice:
///
/// ```compile_fail,E0499
/// use moe_model::{KvCache, Outputs, Span};
///
/// fn twice(cache: &mut KvCache) -> [Span<'_>; 2] {
///     let (tokens, outputs) = (&[1][..], Outputs::Last);
///     [Span { cache, tokens, outputs }, Span { cache, tokens, outputs }]
/// }
/// ```
#[derive(Debug)]
pub struct Span<'a> {
    /// The sequence.
    pub cache: &'a mut KvCache,
    /// Its next tokens, at least one.
    pub tokens: &'a [u32],
    /// For which of them logits are computed.
    pub outputs: Outputs,
}

/// For which tokens of a span logits are computed. The head is a seventh of the work of a
/// token, so it is left out where nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outputs {
    /// For none: the tokens only enter the cache.
    None,
    /// For the last one.
    #[default]
    Last,
    /// For those from this index of the span on.
    From(usize),
    /// For all.
    All,
}

impl Outputs {
    fn rows(self, n_tokens: usize) -> Range<usize> {
        match self {
            Self::None => n_tokens..n_tokens,
            Self::Last => n_tokens - 1..n_tokens,
            Self::From(first) => first.min(n_tokens)..n_tokens,
            Self::All => 0..n_tokens,
        }
    }

    /// Returns for how many of `n_tokens` there are logits.
    pub(crate) fn n_rows(self, n_tokens: usize) -> usize {
        self.rows(n_tokens).len()
    }
}

/// Where a row of a batch belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the span.
    pub span: usize,
    /// Position in its sequence.
    pub position: usize,
}

/// Consecutive rows of a batch that belong to one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) span: usize,
    pub(crate) first_row: usize,
    /// Position of the first token.
    pub(crate) first: usize,
    pub(crate) n_tokens: usize,
}

/// Rows that go through the layers together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Whose rows they are; consecutive spans.
    pub(crate) pieces: Vec<Piece>,
    /// Token of each row.
    pub(crate) tokens: Vec<u32>,
    /// Place of each row.
    pub(crate) places: Vec<Place>,
    /// Rows whose logits are asked for.
    pub(crate) wanted: Vec<u32>,
}

impl Batch {
    /// Takes the rows of a pass from `start` on, at most `len`. Returns false if there are
    /// none.
    pub(crate) fn fill(&mut self, spans: &[Span<'_>], start: usize, len: usize) -> bool {
        self.pieces.clear();
        self.tokens.clear();
        self.places.clear();
        self.wanted.clear();
        let mut begin = 0;
        for (idx, span) in spans.iter().enumerate() {
            // Of the rows begin..end of the span, those within start..start + len.
            let end = begin + span.tokens.len();
            let rows = begin.max(start)..end.min(start.saturating_add(len));
            if !rows.is_empty() {
                self.take(idx, span, rows.start - begin..rows.end - begin);
            }
            begin = end;
        }
        !self.tokens.is_empty()
    }

    /// Appends some tokens of a span.
    fn take(&mut self, idx: usize, span: &Span<'_>, tokens: Range<usize>) {
        let (n_past, first_row) = (span.cache.len(), self.tokens.len());
        self.pieces.push(Piece {
            span: idx,
            first_row,
            first: n_past + tokens.start,
            n_tokens: tokens.len(),
        });
        let wanted = span.outputs.rows(span.tokens.len());
        let rows = tokens.clone().zip(first_row as u32..);
        let rows = rows.filter(|(token, _)| wanted.contains(token));
        self.wanted.extend(rows.map(|(_, row)| row));
        self.places.extend(tokens.clone().map(|token| Place {
            span: idx,
            position: n_past + token,
        }));
        self.tokens.extend_from_slice(&span.tokens[tokens]);
    }
}

/// Logits of a pass, by span.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'w> {
    pub(crate) rows: &'w [f32],
    /// Ends of the spans' floats, ascending.
    pub(crate) ends: &'w [usize],
}

impl<'w> Logits<'w> {
    /// Returns the logits `[_, V]` of the tokens that a span asked for.
    ///
    /// # Panics
    /// If the pass had no such span.
    #[must_use]
    pub fn of(&self, span: usize) -> &'w [f32] {
        let start = span.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[span]]
    }
}
