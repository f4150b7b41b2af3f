//! The most probable token, the whole of greedy decoding.
//!
//! The slice is walked in chunks. The largest [`rank`] of a chunk is found without a
//! branch; only a chunk that beats all before it is searched for the token itself.

use crate::error::SamplerError;
use crate::rank::{RANK_MASKED, RANK_MAX, invalid_logit, rank};

const CHUNK_LEN: usize = 256;

/// Returns the token with the largest logit, the lowest id among equals.
///
/// A logit of −∞ marks a token that may not be chosen.
///
/// # Errors
///
/// [`SamplerError::EmptyLogits`] for an empty slice, [`SamplerError::NanLogit`] or
/// [`SamplerError::InfiniteLogit`] with the index of the first logit that is NaN or +∞,
/// [`SamplerError::AllMasked`] if every logit is −∞.
pub fn argmax(logits: &[f32]) -> Result<u32, SamplerError> {
    if logits.is_empty() {
        return Err(SamplerError::EmptyLogits);
    }
    let mut best = RANK_MASKED;
    let mut best_idx = 0;
    for (chunk_idx, chunk) in logits.chunks(CHUNK_LEN).enumerate() {
        let top = chunk.iter().map(|&x| rank(x)).max().unwrap_or(RANK_MASKED);
        if top > best {
            let is_wanted = |&x: &f32| rank(x) == top || rank(x) > RANK_MAX;
            let offset = chunk.iter().position(is_wanted).unwrap_or(0);
            best_idx = chunk_idx * CHUNK_LEN + offset;
            if top > RANK_MAX {
                return Err(invalid_logit(best_idx, logits[best_idx]));
            }
            best = top;
        }
    }
    if best == RANK_MASKED {
        return Err(SamplerError::AllMasked {
            n_vocab: logits.len(),
        });
    }
    Ok(best_idx as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    fn naive(logits: &[f32]) -> usize {
        let mut best = 0;
        for (i, &x) in logits.iter().enumerate() {
            if x > logits[best] {
                best = i;
            }
        }
        best
    }

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Ok(1));
        assert_eq!(argmax(&[-0.0, 0.0]), Ok(0));
        let mut far = vec![0.0; 1000];
        far[700] = 5.0;
        far[300] = 5.0;
        assert_eq!(argmax(&far), Ok(300));
    }

    #[test]
    fn empty_is_an_error() {
        assert_eq!(argmax(&[]), Err(SamplerError::EmptyLogits));
    }

    #[test]
    fn all_masked_is_an_error() {
        let masked = [f32::NEG_INFINITY; 3];
        assert_eq!(argmax(&masked), Err(SamplerError::AllMasked { n_vocab: 3 }));
    }

    #[test]
    fn first_invalid_logit_is_named() {
        let mut xs = vec![0.0; 600];
        xs[301] = f32::INFINITY;
        xs[300] = -f32::NAN;
        xs[599] = f32::NAN;
        assert_eq!(argmax(&xs), Err(SamplerError::NanLogit { token: 300 }));
        xs[299] = f32::INFINITY;
        assert_eq!(argmax(&xs), Err(SamplerError::InfiniteLogit { token: 299 }));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_loop(xs in logits(1..700)) {
            prop_assert_eq!(argmax(&xs), Ok(naive(&xs) as u32));
        }
    }
}
