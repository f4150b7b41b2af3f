//! The stages of the chain, in the order in which they run.
//!
//! Bias, penalties and DRY edit single logits. Top-n-sigma turns the logits into a floor,
//! and top-k collects what lies above it: the one pass over the vocabulary. From there on a
//! short sorted list is truncated and rescaled, and a token is drawn from what is left.
//! A stage whose setting is neutral changes nothing.

pub(crate) mod logit_bias;

pub(crate) mod penalties;

pub(crate) mod dry;

pub(crate) mod top_n_sigma;

pub(crate) mod top_k;

pub(crate) mod typical;

pub(crate) mod top_p;

pub(crate) mod min_p;

pub(crate) mod xtc;

pub(crate) mod mirostat;

pub(crate) mod temperature;

pub(crate) mod draw;

/// Replaces a logit by `change` of it, in f64 and rounded once.
///
/// Masked logits stay masked and invalid ones invalid. A result beyond the largest finite
/// f32 becomes that number, so no penalty masks a token and no overflow looks like an
/// invalid logit.
fn edit(logit: &mut f32, change: impl FnOnce(f64) -> f64) {
    if logit.is_finite() {
        let (min, max) = (f64::from(f32::MIN), f64::from(f32::MAX));
        *logit = change(f64::from(*logit)).clamp(min, max) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_saturate_and_leave_what_is_not_finite() {
        struct Case {
            logit: f32,
            by: f64,
            expected: f32,
        }
        let cases = [
            Case {
                logit: 1.0,
                by: 0.5,
                expected: 1.5,
            },
            Case {
                logit: f32::MAX,
                by: 1e38,
                expected: f32::MAX,
            },
            Case {
                logit: f32::MIN,
                by: f64::NEG_INFINITY,
                expected: f32::MIN,
            },
            Case {
                logit: f32::NEG_INFINITY,
                by: 100.0,
                expected: f32::NEG_INFINITY,
            },
            Case {
                logit: f32::INFINITY,
                by: -100.0,
                expected: f32::INFINITY,
            },
        ];
        for Case {
            mut logit,
            by,
            expected,
        } in cases
        {
            let before = logit;
            edit(&mut logit, |x| x + by);
            assert_eq!(logit, expected, "{before} + {by}");
        }
        let mut nan = f32::NAN;
        edit(&mut nan, |_| 0.0);
        assert!(nan.is_nan());
    }
}
