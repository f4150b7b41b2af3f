//! Grammars that were compiled before.
//!
//! An agent sends the same tools with every step, and clients the same schema with every
//! request. What is kept is bounded in number and in bytes, and nothing large is kept, so that
//! no source can fill the memory or push out many others.

use std::sync::{Arc, Mutex};

use llguidance::Matcher;

/// A grammar as it is before the first token.
pub(super) type Fresh = Arc<Mutex<Matcher>>;

/// The most grammars that are kept.
const MAX_GRAMMARS: usize = 64;
/// The most bytes of all of them.
const MAX_BYTES: usize = 64 << 20;
/// The most bytes of one.
const MAX_BYTES_OF_ONE: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Kept {
    /// The one that was asked for last is the last.
    grammars: Vec<Entry>,
}

struct Entry {
    /// The source in llguidance's own form.
    source: String,
    fresh: Fresh,
    n_bytes: usize,
}

impl Kept {
    /// Returns the grammar of a source, if it is kept.
    pub(super) fn find(&mut self, source: &str) -> Option<Fresh> {
        let at = self.grammars.iter().position(|it| it.source == source)?;
        let found = self.grammars.remove(at);
        let fresh = Arc::clone(&found.fresh);
        self.grammars.push(found);
        Some(fresh)
    }

    /// Keeps a grammar that takes `n_bytes`, in place of those that nobody has asked for since
    /// longest.
    pub(super) fn keep(&mut self, source: String, fresh: &Fresh, n_bytes: usize) {
        let n_bytes = n_bytes.saturating_add(source.len());
        let is_there = self.grammars.iter().any(|it| it.source == source);
        if is_there || n_bytes > MAX_BYTES_OF_ONE {
            return;
        }
        self.grammars.push(Entry {
            source,
            fresh: Arc::clone(fresh),
            n_bytes,
        });
        while self.grammars.len() > MAX_GRAMMARS || self.n_bytes() > MAX_BYTES {
            self.grammars.remove(0);
        }
    }

    fn n_bytes(&self) -> usize {
        self.grammars.iter().map(|it| it.n_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Fresh {
        let none = Err(std::io::Error::other("none").into());
        Arc::new(Mutex::new(Matcher::new(none)))
    }

    fn sources(kept: &Kept) -> Vec<&str> {
        kept.grammars.iter().map(|it| it.source.as_str()).collect()
    }

    #[test]
    fn the_one_not_asked_for_longest_makes_room() {
        let mut kept = Kept::default();
        for n in 0..MAX_GRAMMARS {
            kept.keep(n.to_string(), &fresh(), 1);
        }
        assert!(kept.find("0").is_some());
        kept.keep("0".to_owned(), &fresh(), 1);
        kept.keep("new".to_owned(), &fresh(), 1);
        assert_eq!(kept.grammars.len(), MAX_GRAMMARS);
        assert!(kept.find("1").is_none());
        assert_eq!(sources(&kept)[MAX_GRAMMARS - 2..], ["0", "new"]);
    }

    #[test]
    fn what_is_large_is_not_kept_and_all_together_is_bounded() {
        let mut kept = Kept::default();
        kept.keep("small".to_owned(), &fresh(), 1);
        kept.keep("large".to_owned(), &fresh(), MAX_BYTES_OF_ONE);
        assert_eq!(sources(&kept), ["small"]);
        for n in 0..9 {
            kept.keep(n.to_string(), &fresh(), MAX_BYTES_OF_ONE - 1);
        }
        assert!(kept.n_bytes() <= MAX_BYTES);
        assert_eq!(sources(&kept).len(), MAX_BYTES / MAX_BYTES_OF_ONE);
    }
}
