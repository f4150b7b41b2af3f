//! Numbers that nobody foresees, for ids and for seeds that were not given.

use std::hash::{BuildHasher, RandomState};

/// Returns a number that the system chose.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(0)
}

/// Returns an id such as `chatcmpl_0f3a…`.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}_{:016x}", number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_repeat() {
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
