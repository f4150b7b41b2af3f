//! The router: which experts a token goes to, and with what weight.
//!
//! The scores of all experts go through a softmax; the most probable `U` are chosen, by
//! descending probability and, where two are equal, by the lower id; their probabilities are
//! divided by their sum. The order of the choice is the order in which expert outputs are
//! added up later, so it is part of the answer.

use quant_kernels::Isa;

/// One chosen expert.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Route {
    /// The expert's number.
    pub expert: u32,
    /// Its share of the output; the shares of a token add up to 1.
    pub weight: f32,
}

/// Turns the scores of one token into probabilities. Returns false, with the scores as they
/// were, if one is not finite.
pub(crate) fn probabilities(isa: Isa, scores: &mut [f32]) -> bool {
    let finite = all_finite(scores);
    if finite {
        isa.softmax(scores);
    }
    finite
}

/// Chooses as many experts as `chosen` has places.
pub(crate) fn select(probabilities: &[f32], chosen: &mut [Route]) {
    let mut n_chosen = 0;
    for (expert, &weight) in (0..).zip(probabilities) {
        // Later experts stand behind equal ones, so ties go to the lower id.
        let ahead = chosen[..n_chosen]
            .iter()
            .rposition(|route| route.weight >= weight);
        let place = ahead.map_or(0, |last| last + 1);
        if place == chosen.len() {
            continue;
        }
        n_chosen = chosen.len().min(n_chosen + 1);
        chosen.copy_within(place..n_chosen - 1, place + 1);
        chosen[place] = Route { expert, weight };
    }
    let total: f32 = chosen.iter().map(|route| route.weight).sum();
    chosen.iter_mut().for_each(|route| route.weight /= total);
}

/// Returns whether no value is NaN or infinite.
pub(crate) fn all_finite(x: &[f32]) -> bool {
    // As integers, magnitudes order like the floats they are, with infinity and NaN on top.
    let largest = x
        .iter()
        .fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
    largest < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scores: &[f32], n: usize) -> Vec<Route> {
        let (mut scores, mut chosen) = (scores.to_vec(), vec![Route::default(); n]);
        assert!(probabilities(Isa::detect(), &mut scores));
        select(&scores, &mut chosen);
        chosen
    }

    fn experts(scores: &[f32], n: usize) -> Vec<u32> {
        chosen(scores, n).iter().map(|route| route.expert).collect()
    }

    #[test]
    fn router_takes_the_most_probable_in_descending_order() {
        assert_eq!(experts(&[0.5, 3.0, -1.0, 2.0, 1.0], 3), [1, 3, 4]);
        assert_eq!(experts(&[0.5, 3.0], 2), [1, 0]);
        assert_eq!(experts(&[7.0], 1), [0]);
    }

    #[test]
    fn router_breaks_ties_by_lowest_expert() {
        assert_eq!(experts(&[1.0; 6], 4), [0, 1, 2, 3]);
        assert_eq!(experts(&[0.0, 2.0, 1.0, 2.0, 1.0], 3), [1, 3, 2]);
    }

    #[test]
    fn weights_are_renormalised() {
        let routes = chosen(&[0.0, 2.0f32.ln(), 9f32.ln(), 3.0f32.ln()], 2);
        assert!((routes[0].weight - 0.75).abs() < 1e-6);
        assert!((routes[1].weight - 0.25).abs() < 1e-6);
    }

    #[test]
    fn a_score_that_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!probabilities(Isa::detect(), &mut [0.0, bad, 1.0]));
        }
    }
}
