//! Mirostat 2: steers the truncation so that the text surprises as much as asked.
//!
//! Candidates whose surprise −log₂ p exceeds μ are dropped, one is drawn, and μ moves
//! against the error between the surprise that was seen and the target τ. Basu et al.
//! 2020, <https://arxiv.org/abs/2007.14966>; start at μ = 2τ as in llama.cpp.

use std::f64::consts::LN_2;

use crate::candidates::{Candidate, Candidates};
use crate::config::Mirostat2;

#[derive(Debug, Clone)]
pub(crate) struct Mirostat {
    tau: f64,
    eta: f64,
    /// The largest surprise that is let through, in bits.
    mu: f64,
}

impl Mirostat {
    pub(crate) fn new(config: Mirostat2) -> Self {
        let (tau, eta) = (f64::from(config.tau), f64::from(config.eta));
        Self {
            tau,
            eta,
            mu: 2.0 * tau,
        }
    }

    /// Keeps the candidates that surprise by at most μ, at least one.
    pub(crate) fn truncate(&self, candidates: &mut Candidates) {
        let log_mass = libm::log(candidates.mass());
        let is_kept = |c: &Candidate| surprise(candidates, c, log_mass) <= self.mu;
        let n = candidates.as_slice().partition_point(is_kept);
        candidates.truncate(n);
    }

    /// Learns from the token that was drawn from the truncated candidates.
    pub(crate) fn observe(&mut self, candidates: &Candidates, drawn: &Candidate) {
        let observed = surprise(candidates, drawn, libm::log(candidates.mass()));
        self.mu -= self.eta * (observed - self.tau);
    }
}

/// Returns −log₂ of the candidate's probability.
fn surprise(candidates: &Candidates, candidate: &Candidate, log_mass: f64) -> f64 {
    (candidates.drop(candidate) + log_mass) / LN_2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;
    use crate::stages::draw;
    use crate::testing::{candidates, ids, logits, probabilities};

    fn mirostat(tau: f32, eta: f32) -> Mirostat {
        Mirostat::new(Mirostat2 { tau, eta })
    }

    #[test]
    fn mu_starts_at_twice_the_target_and_follows_the_error() {
        let mut m = mirostat(3.0, 0.5);
        assert_eq!(m.mu, 6.0);
        // Four equal candidates surprise by two bits, one less than the target.
        let c = candidates(&[0.0; 4]);
        m.observe(&c, &c.as_slice()[2]);
        assert!((m.mu - 6.5).abs() < 1e-12);
    }

    #[test]
    fn one_candidate_is_always_left() {
        let mut c = candidates(&[0.0; 16]);
        mirostat(0.0, 0.1).truncate(&mut c);
        assert_eq!(ids(&c), [0]);
    }

    #[test]
    fn mean_surprise_approaches_the_target() {
        let xs: Vec<f32> = (0..500).map(|i| -0.02 * i as f32).collect();
        let (mut m, mut rng) = (mirostat(4.0, 0.1), Rng::new(11));
        let mut sum = 0.0;
        for step in 0..3000 {
            let mut c = candidates(&xs);
            m.truncate(&mut c);
            let drawn = draw::sample(&c, &mut rng);
            if step >= 1000 {
                sum += surprise(&c, &drawn, libm::log(c.mass()));
            }
            m.observe(&c, &drawn);
        }
        assert!((sum / 2000.0 - 4.0).abs() < 0.05, "{}", sum / 2000.0);
    }

    proptest! {
        #[test]
        fn keeps_exactly_those_within_mu(xs in logits(1..60), tau in 0.0f32..6.0) {
            let all = candidates(&xs);
            let m = mirostat(tau, 0.1);
            let mut kept = candidates(&xs);
            m.truncate(&mut kept);
            for (i, p) in probabilities(&all).into_iter().enumerate().skip(1) {
                let surprise = -p.log2();
                prop_assert!(i >= kept.len() || surprise <= m.mu + 1e-9);
                prop_assert!(i < kept.len() || surprise >= m.mu - 1e-9);
            }
        }
    }
}
