//! Ids of calls: they follow from the id of the answer, so that they are the same in all its pieces
//! and others in every other answer of a conversation.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Letters and digits behind `call_`.
const LEN: usize = 24;

/// Returns the id of a call: `call_` and 24 letters and digits that follow from the seed, such as
/// the id of the answer, and the number of the call alone.
///
/// ```
/// assert_eq!(reply_parser::call_id("chatcmpl-1", 0), reply_parser::call_id("chatcmpl-1", 0));
/// assert_ne!(reply_parser::call_id("chatcmpl-1", 0), reply_parser::call_id("chatcmpl-1", 1));
/// ```
#[must_use]
pub fn call_id(seed: &str, index: usize) -> String {
    // FNV-1a over the seed, then SplitMix64 for each character.
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut state = mixed(hash).wrapping_add(index as u64);
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let digit = mixed(state) % ALPHABET.len() as u64;
        char::from(ALPHABET[usize::try_from(digit).unwrap_or_default()])
    });
    "call_".chars().chain(random.take(LEN)).collect()
}

const fn mixed(state: u64) -> u64 {
    let mut x = state;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_fixed_for_ever() {
        assert_eq!(call_id("", 0), "call_Afa3fr45Ww8Y1uCagDHTH2qz");
        assert_eq!(call_id("chatcmpl-1", 3), "call_pixN8tUaYGYXYNNi7oo8vk3S");
    }

    #[test]
    fn ids_of_different_seeds_and_calls_differ() {
        let seeds = (0..100).map(|seed| format!("request {seed}"));
        let ids: HashSet<String> = seeds
            .flat_map(|seed| (0..100).map(move |index| call_id(&seed, index)))
            .collect();
        assert_eq!(ids.len(), 10_000);
    }
}
