//! The final draw: one uniform number chooses a candidate by its weight.

use crate::candidates::{Candidate, Candidates};
use crate::rng::Rng;

/// Returns the first candidate at which the running sum of weights exceeds the draw.
///
/// Takes one random number, also if there is only one candidate, so that a stream of
/// tokens advances the generator evenly. A candidate of weight 0 is never chosen.
pub(crate) fn sample(candidates: &Candidates, rng: &mut Rng) -> Candidate {
    let list = candidates.as_slice();
    let target = rng.uniform() * candidates.mass();
    let mut sum = 0.0;
    let exceeds = |c: &&Candidate| {
        sum += c.weight;
        sum > target
    };
    // The product may round up to the mass itself; the head then stands in.
    *list.iter().find(exceeds).unwrap_or(&list[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;
    use crate::testing::{candidates, logits};

    #[test]
    fn frequencies_follow_the_probabilities() {
        const N: u32 = 60_000;
        let expected = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04];
        let xs: Vec<f32> = expected.iter().map(|p: &f32| p.ln()).collect();
        let (c, mut rng) = (candidates(&xs), Rng::new(2024));
        let mut counts = [0u32; 6];
        for _ in 0..N {
            counts[sample(&c, &mut rng).id as usize] += 1;
        }
        let deviation = |(&count, &p): (&u32, &f32)| {
            let mean = f64::from(N) * f64::from(p);
            (f64::from(count) - mean).powi(2) / mean
        };
        let chi_square: f64 = counts.iter().zip(&expected).map(deviation).sum();
        // Five degrees of freedom: 15.1 is exceeded by one seed in a hundred.
        assert!(chi_square < 15.1, "{chi_square}: {counts:?}");
    }

    #[test]
    fn one_number_per_token() {
        let (mut a, mut b) = (Rng::new(9), Rng::new(9));
        sample(&candidates(&[1.0]), &mut a);
        sample(&candidates(&[1.0, 2.0, 3.0]), &mut b);
        assert_eq!(a, b);
        assert_ne!(a, Rng::new(9));
    }

    proptest! {
        #[test]
        fn inverts_the_cumulative_distribution(xs in logits(1..60), seed: u64) {
            let c = candidates(&xs);
            let chosen = sample(&c, &mut Rng::new(seed));
            prop_assert!(chosen.weight > 0.0);
            let u = Rng::new(seed).uniform() * c.mass();
            let at = c.as_slice().iter().position(|x| x.id == chosen.id).unwrap();
            let below: f64 = c.as_slice()[..at].iter().map(|x| x.weight).sum();
            prop_assert!(below <= u && u < below + chosen.weight + 1e-12);
        }
    }
}
