//! The colours of a heat map: from pale to dark, through yellow, green and blue.
//!
//! Lightness falls evenly along the scale, so its order can be read without seeing colours,
//! and the hues are those that all kinds of colour-blindness keep apart.

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// Colours at equal distances, made in OKLCH: lightness from 0.965 to 0.25, hue from 105° to
/// 275°.
const STOPS: [Colour; 9] = [
    [245, 242, 195],
    [191, 226, 178],
    [124, 206, 165],
    [43, 180, 164],
    [0, 151, 162],
    [0, 119, 157],
    [0, 85, 145],
    [7, 53, 114],
    [23, 27, 73],
];

/// Returns the colour at `t` from 0 to 1.
pub(super) fn colour(t: f64) -> Colour {
    let at = t.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let first = (at as usize).min(STOPS.len() - 2);
    let part = at - first as f64;
    let mix = |i: usize| {
        let [from, to] = [STOPS[first][i], STOPS[first + 1][i]].map(f64::from);
        (from + (to - from) * part).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// Returns the colour as SVG writes it.
pub(super) fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as the web's contrast rules define it.
    fn luminance(colour: Colour) -> f64 {
        let linear = colour.map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    #[test]
    fn more_is_darker_throughout() {
        let scale: Vec<f64> = (0..=64)
            .map(|i| luminance(colour(f64::from(i) / 64.0)))
            .collect();
        assert!(scale.is_sorted_by(|a, b| a > b), "{scale:?}");
        assert!(scale[0] > 0.85 && scale[64] < 0.02);
    }

    #[test]
    fn values_beyond_the_scale_take_its_ends() {
        assert_eq!(hex(colour(-1.0)), "#f5f2c3");
        assert_eq!(hex(colour(2.0)), "#171b49");
    }
}
