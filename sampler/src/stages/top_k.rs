//! Top-k: collects the best candidates in one pass over the vocabulary.
//!
//! A buffer takes every token that may still be among the best k. Whenever it holds 2k,
//! a partial selection throws the worse half away and leaves the k-th best as the bound
//! that later tokens have to beat. For k = 20 of 150,000 tokens nearly all are refused by
//! one comparison of integers, and only 20 are ever sorted.

use crate::error::SamplerError;
use crate::rank::{Key, RANK_MASKED, RANK_MAX, invalid_logit, rank};

/// The k that keeps every token.
pub(crate) const ALL: usize = usize::MAX;

/// Turns llama.cpp's `top_k` into a number of tokens; 0 or less is all.
pub(crate) fn count(top_k: i32) -> usize {
    usize::try_from(top_k)
        .ok()
        .filter(|&k| k > 0)
        .unwrap_or(ALL)
}

/// Fills `keys` with the best `k` (at least 1) tokens whose logit is at least `floor`,
/// best first. Masked tokens are left out.
///
/// An error if a logit is NaN or +∞, if all are masked, or if there are none.
pub(crate) fn select(
    logits: &[f32],
    k: usize,
    floor: f64,
    keys: &mut Vec<Key>,
) -> Result<(), SamplerError> {
    keys.clear();
    let mut bound = Key::LAST;
    for (token, &logit) in logits.iter().enumerate() {
        let rank = rank(logit);
        let key = Key::new(rank, token as u32);
        if key >= bound {
            continue;
        }
        if rank > RANK_MAX {
            return Err(invalid_logit(token, logit));
        }
        if rank == RANK_MASKED || f64::from(logit) < floor {
            continue;
        }
        keys.push(key);
        if keys.len() >= k.saturating_mul(2) {
            bound = keep_best(keys, k);
        }
    }
    if keys.len() > k {
        keep_best(keys, k);
    }
    keys.sort_unstable();
    match (keys.is_empty(), logits.len()) {
        (false, _) => Ok(()),
        (true, 0) => Err(SamplerError::EmptyLogits),
        (true, n_vocab) => Err(SamplerError::AllMasked { n_vocab }),
    }
}

/// Keeps the best `k` of more than `k`, in any order, and returns the last of them.
fn keep_best(keys: &mut Vec<Key>, k: usize) -> Key {
    let (_, worst, _) = keys.select_nth_unstable(k - 1);
    let worst = *worst;
    keys.truncate(k);
    worst
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::logits;

    fn top(logits: &[f32], k: usize, floor: f64) -> Result<Vec<u32>, SamplerError> {
        let mut keys = Vec::new();
        select(logits, k, floor, &mut keys)?;
        Ok(keys.into_iter().map(Key::id).collect())
    }

    fn naive(logits: &[f32], k: usize, floor: f64) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.retain(|&id| logits[id as usize] > f32::NEG_INFINITY);
        ids.retain(|&id| f64::from(logits[id as usize]) >= floor);
        ids.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
        ids.truncate(k);
        ids
    }

    #[test]
    fn equal_logits_keep_the_lowest_ids_in_order() {
        assert_eq!(
            top(&[1.0; 100], 5, f64::NEG_INFINITY),
            Ok(vec![0, 1, 2, 3, 4])
        );
    }

    #[test]
    fn invalid_and_masked_logits_are_errors() {
        let none = f64::NEG_INFINITY;
        assert_eq!(top(&[], 5, none), Err(SamplerError::EmptyLogits));
        let masked = [f32::NEG_INFINITY; 2];
        assert_eq!(
            top(&masked, 5, none),
            Err(SamplerError::AllMasked { n_vocab: 2 })
        );
        let mut late = vec![0.0; 500];
        late[400] = f32::NAN;
        assert_eq!(
            top(&late, 1, none),
            Err(SamplerError::NanLogit { token: 400 })
        );
        late[399] = f32::INFINITY;
        assert_eq!(
            top(&late, 1, none),
            Err(SamplerError::InfiniteLogit { token: 399 })
        );
    }

    #[test]
    fn zero_or_less_is_all() {
        assert_eq!(
            [count(-1), count(0), count(1), count(20)],
            [ALL, ALL, 1, 20]
        );
    }

    proptest! {
        #[test]
        fn agrees_with_sorting_everything(
            xs in logits(1..400), k in 1usize..60, share in 0.0f64..1.0,
        ) {
            let max = xs.iter().copied().fold(f32::MIN, f32::max);
            let floor = f64::from(max) - 20.0 * share;
            for k in [k, ALL] {
                prop_assert_eq!(top(&xs, k, floor).unwrap(), naive(&xs, k, floor));
                let all = f64::NEG_INFINITY;
                prop_assert_eq!(top(&xs, k, all).unwrap(), naive(&xs, k, all));
            }
        }
    }
}
