//! Sets of characters.

/// Characters as ranges, ascending, apart from each other, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CharSet {
    ranges: Vec<(u32, u32)>,
}

const LAST: u32 = 0x10_FFFF;
/// What is no character and lies among them.
const SURROGATES: (u32, u32) = (0xD800, 0xDFFF);

impl CharSet {
    /// Takes ranges in any order.
    pub(super) fn new(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self { ranges: joined }
    }

    pub(super) fn one(c: u32) -> Self {
        Self {
            ranges: vec![(c, c)],
        }
    }

    pub(super) fn all() -> Self {
        Self::new(Vec::new()).complement()
    }

    /// Returns all other characters.
    pub(super) fn complement(&self) -> Self {
        let mut ranges = Vec::new();
        let mut next = 0;
        let mut taken = self.ranges.clone();
        taken.push(SURROGATES);
        for (first, last) in Self::new(taken).ranges {
            if first > next {
                ranges.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= LAST {
            ranges.push((next, LAST));
        }
        Self { ranges }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let overlaps_any = |&(first, last): &(u32, u32)| {
            let mut others = other.ranges.iter();
            others.any(|&(start, end)| first <= end && start <= last)
        };
        self.ranges.iter().any(overlaps_any)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the set as a class of a regular expression.
    pub(super) fn class(&self) -> String {
        let mut class = String::from("[");
        for &(first, last) in &self.ranges {
            class.push_str(&format!("\\x{{{first:x}}}"));
            if last > first {
                class.push_str(&format!("-\\x{{{last:x}}}"));
            }
        }
        class.push(']');
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_complements_leave_surrogates_out() {
        let set = CharSet::new(vec![(99, 101), (97, 98), (120, 130), (125, 126)]);
        assert_eq!(set.class(), r"[\x{61}-\x{65}\x{78}-\x{82}]");
        let rest = set.complement();
        assert_eq!(rest.complement(), set);
        assert!(!rest.overlaps(&set));
        assert!(rest.overlaps(&CharSet::new(vec![(101, 102)])));
        let all = CharSet::all().class();
        assert_eq!(all, r"[\x{0}-\x{d7ff}\x{e000}-\x{10ffff}]");
        assert!(CharSet::all().complement().is_empty());
    }
}
