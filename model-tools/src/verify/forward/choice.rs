//! Whether a router's choice is one that the reference could have made.
//!
//! Two experts with nearly equal scores may be taken for each other by either path: rounding
//! decides, and neither is wrong. So a choice is judged by the scores that the reference finds
//! for it: each expert chosen must be at least as good as the next one and as all left out, but
//! for twice the error that a score may have.

/// What became of a token's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// As the reference's.
    Same,
    /// Another one, between scores that rounding cannot tell apart.
    NearTie,
    /// The same experts in an order that they do not have.
    WrongOrder,
    /// An expert was taken before a clearly better one, or is not there, or twice.
    Wrong,
}

/// Judges experts in the order they were chosen in; `error` is that of a score.
pub(super) fn judge(scores: &[f64], chosen: &[u32], error: f64) -> Choice {
    let place = |expert: u32| chosen.iter().position(|&id| id == expert);
    let is_list = chosen
        .iter()
        .enumerate()
        .all(|(idx, &id)| (id as usize) < scores.len() && place(id) == Some(idx));
    if !is_list {
        return Choice::Wrong;
    }
    let of_chosen = chosen.iter().map(|&id| scores[id as usize]);
    let worst_in = of_chosen.clone().fold(f64::INFINITY, f64::min);
    let left_out = (0..).zip(scores).filter(|(id, _)| place(*id).is_none());
    let best_out = left_out
        .map(|(_, &score)| score)
        .fold(f64::NEG_INFINITY, f64::max);
    let steps_up = of_chosen.clone().zip(of_chosen.skip(1));
    let disorder = steps_up.map(|(a, b)| b - a).fold(0.0, f64::max);
    let regret = (best_out - worst_in).max(0.0);
    if regret > 2.0 * error {
        Choice::Wrong
    } else if disorder > 2.0 * error {
        Choice::WrongOrder
    } else if regret > 0.0 || disorder > 0.0 {
        Choice::NearTie
    } else {
        Choice::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearly_wrong_experts_are_found_and_near_ties_are_not() {
        let scores = [4.0, 3.0, 2.999, -1.0];
        let judge = |chosen: &[u32]| judge(&scores, chosen, 0.01);
        assert_eq!(judge(&[0, 1]), Choice::Same);
        assert_eq!(judge(&[0, 2]), Choice::NearTie);
        assert_eq!(judge(&[0, 2, 1]), Choice::NearTie);
        assert_eq!(judge(&[0, 3]), Choice::Wrong);
        assert_eq!(judge(&[1, 0]), Choice::WrongOrder);
        assert_eq!(judge(&[0, 0]), Choice::Wrong);
        assert_eq!(judge(&[0, 9]), Choice::Wrong);
    }
}
