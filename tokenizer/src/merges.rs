//! The merges: which two tokens become which one, and in what order.
//!
//! Merges lie in one list, those with the same left token together and by right token, with
//! the start of each group beside it. A pair is found by bisecting its group; most groups are
//! a handful. It is built by counting, in time that no choice of merges can raise, and takes
//! 12 bytes a merge.

use crate::{
    TokenizerError,
    error::excerpt,
    vocabulary::{TokenKind, Vocabulary},
};

/// All merges of a vocabulary.
#[derive(Debug)]
pub(crate) struct Merges {
    /// Where the group of each left token starts, and at the end the number of merges.
    starts: Vec<u32>,
    groups: Vec<Grouped>,
}

/// What becomes of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Its place in the file's list; the lowest of a text goes first.
    pub(crate) rank: u32,
    /// The token that is made.
    pub(crate) made: u32,
}

/// A merge in the group of its left token.
#[derive(Clone, Copy, Debug, Default)]
struct Grouped {
    right: u32,
    rank: u32,
    made: u32,
}

impl Merges {
    /// Takes pairs of texts, the soonest first.
    pub(crate) fn new<'m>(
        vocabulary: &Vocabulary,
        pairs: impl ExactSizeIterator<Item = Result<(&'m str, &'m str), TokenizerError>>,
    ) -> Result<Self, TokenizerError> {
        // Several pairs may make the same token, but more than the token has inner borders
        // cannot; 64 a token is beyond any trained vocabulary.
        if pairs.len() / 64 > vocabulary.len() {
            return Err(TokenizerError::TooManyMerges {
                found: pairs.len(),
                n_vocab: vocabulary.len(),
            });
        }
        let mut reader = Reader::new(vocabulary);
        let mut merges = Vec::with_capacity(pairs.len());
        for (rank, pair) in (0_u32..).zip(pairs) {
            let (left, right) = pair?;
            let merge = reader.read(rank, left, right)?;
            merges.push(merge);
        }
        let table = Self::group(vocabulary.len(), &merges);
        table.check_once(vocabulary)?;
        Ok(table)
    }

    /// Returns what becomes of two neighbours, if anything.
    pub(crate) fn find(&self, left: u32, right: u32) -> Option<Merge> {
        let start = *self.starts.get(left as usize)?;
        let end = *self.starts.get(left as usize + 1)?;
        let group = &self.groups[start as usize..end as usize];
        let place = group.binary_search_by_key(&right, |merge| merge.right);
        place.ok().map(|place| Merge {
            rank: group[place].rank,
            made: group[place].made,
        })
    }

    /// Returns the tokens of all pairs, the soonest first.
    pub(crate) fn in_order(&self) -> Vec<(u32, u32)> {
        let mut pairs = vec![(0, 0); self.groups.len()];
        for (left, ends) in (0..).zip(self.starts.windows(2)) {
            for merge in &self.groups[ends[0] as usize..ends[1] as usize] {
                pairs[merge.rank as usize] = (left, merge.right);
            }
        }
        pairs
    }

    /// Returns what each merge makes, by rank.
    pub(crate) fn made(&self) -> Vec<u32> {
        let mut made = vec![0; self.groups.len()];
        for merge in &self.groups {
            made[merge.rank as usize] = merge.made;
        }
        made
    }

    /// Sorts by left token, then right, then rank; `merges` come by rank.
    fn group(n_vocab: usize, merges: &[(u32, Grouped)]) -> Self {
        let mut starts = vec![0; n_vocab + 1];
        for (left, _) in merges {
            starts[*left as usize] += 1;
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        // Each start is the end of its group now, and moves down as the group fills.
        let mut groups = vec![Grouped::default(); merges.len()];
        for (left, merge) in merges {
            let place = &mut starts[*left as usize];
            *place -= 1;
            groups[*place as usize] = *merge;
        }
        for ends in starts.windows(2) {
            let group = &mut groups[ends[0] as usize..ends[1] as usize];
            group.sort_unstable_by_key(|merge| (merge.right, merge.rank));
        }
        Self { starts, groups }
    }

    /// Finds a pair that comes twice.
    fn check_once(&self, vocabulary: &Vocabulary) -> Result<(), TokenizerError> {
        for (left, ends) in (0..).zip(self.starts.windows(2)) {
            let group = &self.groups[ends[0] as usize..ends[1] as usize];
            let twice = group.windows(2).find(|two| two[0].right == two[1].right);
            if let Some(&[_, merge]) = twice {
                let text = |id| excerpt(vocabulary.text(id).unwrap_or_default());
                return Err(TokenizerError::DuplicateMerge {
                    rank: merge.rank as usize,
                    left: text(left),
                    right: text(merge.right),
                });
            }
        }
        Ok(())
    }
}

/// Finds the tokens behind texts.
struct Reader<'a> {
    vocabulary: &'a Vocabulary,
    /// What the last merge made.
    last: u32,
    joined: String,
}

impl<'a> Reader<'a> {
    fn new(vocabulary: &'a Vocabulary) -> Self {
        Self {
            vocabulary,
            last: 0,
            joined: String::new(),
        }
    }

    fn read(
        &mut self,
        rank: u32,
        left: &str,
        right: &str,
    ) -> Result<(u32, Grouped), TokenizerError> {
        let made = self.joined(rank, left, right)?;
        self.last = made;
        let left = self.known(rank, left)?;
        let right = self.known(rank, right)?;
        Ok((left, Grouped { right, rank, made }))
    }

    /// The token of both texts. A trained vocabulary lists its tokens as it made them, so the
    /// one after the last is tried before the texts are joined and looked up.
    fn joined(&mut self, rank: u32, left: &str, right: &str) -> Result<u32, TokenizerError> {
        if let Some(next) = self.last.checked_add(1)
            && let Some(text) = self.vocabulary.text(next)
            && text.strip_prefix(left) == Some(right)
            && is_mergeable(self.vocabulary, next)
        {
            return Ok(next);
        }
        self.joined.clear();
        self.joined.push_str(left);
        self.joined.push_str(right);
        self.known(rank, &self.joined)
    }

    fn known(&self, rank: u32, text: &str) -> Result<u32, TokenizerError> {
        let id = self.vocabulary.id(text);
        id.filter(|&id| is_mergeable(self.vocabulary, id))
            .ok_or_else(|| TokenizerError::MergeToken {
                rank: rank as usize,
                text: excerpt(text),
            })
    }
}

/// Whether merging may make a token: of control tokens it may not.
fn is_mergeable(vocabulary: &Vocabulary, id: u32) -> bool {
    match vocabulary.kind(id) {
        Some(TokenKind::Normal) => true,
        // Spelled the same literally and in the byte-level alphabet.
        Some(TokenKind::UserDefined) => vocabulary
            .text(id)
            .is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_graphic())),
        Some(TokenKind::Control | TokenKind::Unused) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Entry;

    fn vocabulary() -> Vocabulary {
        let entries = ["a", "b", "ab", "ba", "aba"].map(|text| Entry {
            text,
            kind: TokenKind::Normal,
        });
        Vocabulary::new(entries.into_iter()).unwrap()
    }

    fn merges(pairs: &[(&'static str, &'static str)]) -> Result<Merges, TokenizerError> {
        Merges::new(&vocabulary(), pairs.iter().map(|&pair| Ok(pair)))
    }

    #[test]
    fn pairs_are_found_with_their_rank_whatever_their_order() {
        let merges = merges(&[("b", "a"), ("ab", "a"), ("a", "ba"), ("a", "b")]).unwrap();
        let find = |left, right| merges.find(left, right).map(|m| (m.rank, m.made));
        assert_eq!(find(1, 0), Some((0, 3)));
        assert_eq!(find(2, 0), Some((1, 4)));
        assert_eq!(find(0, 3), Some((2, 4)));
        assert_eq!(find(0, 1), Some((3, 2)));
        assert_eq!(merges.made(), [3, 4, 4, 2]);
        for (left, right) in [(0, 0), (0, 2), (4, 0), (5, 0), (0, 5), (u32::MAX, u32::MAX)] {
            assert_eq!(find(left, right), None, "{left} {right}");
        }
    }

    #[test]
    fn a_pair_that_comes_twice_is_named_with_its_second_place() {
        let error = merges(&[("a", "b"), ("b", "a"), ("a", "b")]).unwrap_err();
        assert!(matches!(
            error,
            TokenizerError::DuplicateMerge { rank: 2, left, right } if left == "a" && right == "b"
        ));
    }

    #[test]
    fn without_merges_nothing_is_found() {
        assert_eq!(merges(&[]).unwrap().find(0, 1), None);
    }
}
