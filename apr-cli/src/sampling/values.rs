//! Values of sampling flags, refused where they are typed if they are out of their range.

/// Reads a temperature.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "0, which is greedy, or above")
}

/// Reads a share or a probability.
pub(super) fn share(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "0 to 1")
}

/// Reads any number.
pub(super) fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a finite number")
}

/// Reads a scale that may be 0.
pub(super) fn scale(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "a number of at least 0")
}

/// Reads what logits are divided by.
pub(super) fn divisor(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

/// Reads the base of a power that must not fall.
pub(super) fn base(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 1.0, "a number of at least 1")
}

/// Reads a number of tokens; -1 is all.
pub(super) fn last_n(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(n) if n >= -1 => Ok(n),
        _ => Err("expected a number of tokens, or -1 for all".to_owned()),
    }
}

fn number(text: &str, is_good: fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() && is_good(x) => Ok(x),
        _ => Err(format!("expected {expected}")),
    }
}

/// Reads `ID+BIAS` or `ID-BIAS`.
pub(super) fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let sign = text.find(['+', '-']).ok_or("expected ID+BIAS or ID-BIAS")?;
    let (id, bias) = text.split_at(sign);
    let id = id
        .parse()
        .map_err(|_| format!("expected a token id, found `{id}`"))?;
    match bias.parse::<f32>() {
        Ok(bias) if bias < f32::INFINITY => Ok((id, bias)),
        _ => Err(format!("expected a finite number or -inf, found `{bias}`")),
    }
}

/// Reads the most tokens to generate; no limit is written -1 or, as in llama.cpp for
/// "until the context is full", -2.
pub(crate) fn n_predict(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(n) if n >= -2 => Ok(n),
        _ => Err("expected a number of tokens, or -1 for no limit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_held_to_their_range() {
        assert_eq!(temperature("0"), Ok(0.0));
        assert_eq!(share("1"), Ok(1.0));
        assert_eq!(finite("-2.5"), Ok(-2.5));
        assert_eq!(scale("0"), Ok(0.0));
        assert_eq!(divisor("0.5"), Ok(0.5));
        assert_eq!(base("1"), Ok(1.0));
        assert_eq!(last_n("-1"), Ok(-1));
        let refused = [
            temperature("-0.1"),
            share("1.1"),
            share("nan"),
            finite("inf"),
            scale("-1"),
            divisor("0"),
            base("0.9"),
            last_n("-2").map(|n| n as f32),
        ];
        for (idx, value) in refused.into_iter().enumerate() {
            assert!(value.is_err(), "{idx}");
        }
    }

    #[test]
    fn biases_carry_their_sign() {
        assert_eq!(logit_bias("15+1.5"), Ok((15, 1.5)));
        assert_eq!(logit_bias("15-inf"), Ok((15, f32::NEG_INFINITY)));
        assert!(logit_bias("15").is_err());
        assert!(logit_bias("15+inf").is_err());
        assert!(logit_bias("a+1").is_err());
        assert!(logit_bias("1+b").is_err());
    }

    #[test]
    fn negative_lengths_are_no_limit() {
        assert_eq!(n_predict("-1"), Ok(-1));
        assert_eq!(n_predict("0"), Ok(0));
        assert!(n_predict("-3").is_err());
    }
}
