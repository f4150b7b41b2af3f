//! Random numbers that are looked up, not drawn.
//!
//! A [`Stream`] is a function from a position to a number, so any thread can compute any
//! part of a model, and the result does not depend on who did. The function is the
//! finalizer of `SplitMix64` over multiples of the golden ratio.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// An endless list of random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The list of a seed for one purpose, such as the weights of one tensor.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let start = mix(seed ^ GOLDEN);
        Self(purpose.bytes().fold(start, |state, byte| {
            mix(state.wrapping_mul(GOLDEN) ^ u64::from(byte))
        }))
    }

    /// A list that has nothing to do with this one, by number.
    pub(crate) fn fork(self, idx: u64) -> Self {
        Self(mix(self.word(idx) ^ GOLDEN))
    }

    /// The 64 bits at a position.
    #[inline]
    pub(crate) fn word(self, idx: u64) -> u64 {
        mix(self
            .0
            .wrapping_add(idx.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// A number of mean 0 and deviation 1 at a position.
    ///
    /// The sum of twelve uniform 16-bit numbers, which has a variance of 2³² within 1e-9 and
    /// the shape of a normal distribution out to four deviations. All of it is exact, while
    /// the logarithm that a true normal distribution needs differs between machines.
    #[inline]
    pub(crate) fn normal(self, idx: u64) -> f32 {
        const MEAN_OF_SUM: i32 = 12 * 0xffff / 2;
        let sum: u64 = (0..3)
            .map(|part| {
                let word = self.word(idx.wrapping_mul(3).wrapping_add(part));
                (0..4).map(|lane| word >> (16 * lane) & 0xffff).sum::<u64>()
            })
            .sum();
        (sum as i32 - MEAN_OF_SUM) as f32 / 65536.0
    }
}

/// A bijection of 64 bits in which each output bit depends on each input bit.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        let stream = Stream::new(1, "token_embd.weight");
        assert_eq!(stream.word(0), 0x7004_14e9_f6b0_2c51);
        assert_eq!(stream.word(1), 0x9ef7_2dd2_4296_3903);
        assert_eq!(
            [stream.normal(0), stream.normal(1)],
            [-0.4609375, 1.1582794189453125]
        );
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_bell() {
        let stream = Stream::new(7, "bell");
        let n = 200_000;
        let moment = |power: i32| {
            (0..n)
                .map(|idx| f64::from(stream.normal(idx)).powi(power))
                .sum::<f64>()
                / n as f64
        };
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.01, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.03, "skew {}", moment(3));
        assert!(
            (moment(4) - 2.9).abs() < 0.05,
            "fourth moment {}",
            moment(4)
        );
    }

    #[test]
    fn seeds_purposes_and_forks_differ() {
        let words = [
            Stream::new(1, "a").word(0),
            Stream::new(2, "a").word(0),
            Stream::new(1, "b").word(0),
            Stream::new(1, "").word(0),
            Stream::new(1, "a").fork(0).word(0),
            Stream::new(1, "a").fork(1).word(0),
        ];
        for (idx, word) in words.iter().enumerate() {
            assert!(!words[..idx].contains(word), "stream {idx} repeats another");
        }
    }
}
