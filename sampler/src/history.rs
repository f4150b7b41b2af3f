//! The tokens so far, prompt included, for the penalties that look back.
//!
//! They lie in one slice, oldest first. When twice the longest window has gathered, the
//! older half is dropped: a copy now and then instead of a ring with two ends.

#[derive(Debug, Clone)]
pub(crate) struct History {
    tokens: Vec<u32>,
    /// The longest window that will be asked for; 0 keeps nothing.
    limit: usize,
}

impl History {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            tokens: Vec::new(),
            limit,
        }
    }

    pub(crate) fn push(&mut self, token: u32) {
        if self.limit == 0 {
            return;
        }
        if self.tokens.len() >= self.limit.saturating_mul(2) {
            self.tokens.drain(..self.tokens.len() - self.limit);
        }
        self.tokens.push(token);
    }

    /// Returns the last `n` tokens, or all if there are fewer; `n` is within the limit.
    pub(crate) fn last(&self, n: usize) -> &[u32] {
        debug_assert!(n <= self.limit);
        &self.tokens[self.tokens.len().saturating_sub(n)..]
    }

    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_the_last_tokens() {
        for limit in [1, 2, 5, usize::MAX] {
            let mut history = History::new(limit);
            for token in 0..40 {
                history.push(token);
                for n in 0..=limit.min(50) {
                    let from = (token + 1).saturating_sub(n as u32);
                    let expected: Vec<u32> = (from..=token).collect();
                    assert_eq!(history.last(n), expected, "limit {limit}, last {n}");
                }
            }
            assert!(history.tokens.len() <= limit.saturating_mul(2));
        }
    }

    #[test]
    fn nothing_is_kept_where_nothing_looks_back() {
        let mut history = History::new(0);
        history.push(1);
        assert!(history.last(0).is_empty());
        assert!(history.tokens.is_empty());
    }
}
