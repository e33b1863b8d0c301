//! Which bytes of a blob are still to come.

use std::ops::Range;

/// Ranges of bytes, ascending, none empty, none touching another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing(Vec<Range<u64>>);

impl Missing {
    /// All of a blob.
    pub fn all(size_bytes: u64) -> Missing {
        let mut missing = Missing::default();
        missing.lose(0..size_bytes);
        missing
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How many bytes that is.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// What of `range` is missing.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.0.partition_point(|missing| missing.end <= range.start);
        let hit = self.0[first..].iter().take_while(move |missing| missing.start < range.end);
        hit.map(move |missing| missing.start.max(range.start)..missing.end.min(range.end))
    }

    /// `range` came.
    pub fn come(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Some((first, last)) = self.hit(range.start + 1, range.end - 1) else { return };
        let (before, after) = (self.0[first].start..range.start, range.end..self.0[last].end);
        let rest = [before, after].into_iter().filter(|rest| !rest.is_empty());
        drop(self.0.splice(first..=last, rest));
    }

    /// `range` is missing again.
    pub fn lose(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        match self.hit(range.start, range.end) {
            Some((first, last)) => {
                let merged = range.start.min(self.0[first].start)..range.end.max(self.0[last].end);
                drop(self.0.splice(first..=last, [merged]));
            }
            None => {
                let at = self.0.partition_point(|missing| missing.end < range.start);
                self.0.insert(at, range);
            }
        }
    }

    /// The first and the last range that end at `from` or later and begin at `to` or earlier.
    fn hit(&self, from: u64, to: u64) -> Option<(usize, usize)> {
        let first = self.0.partition_point(|missing| missing.end < from);
        let behind = self.0.partition_point(|missing| missing.start <= to);
        (first < behind).then(|| (first, behind - 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_row_of_bits(steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..40), 0..30)) {
            let mut missing = Missing::all(40);
            let mut bits = [true; 40];
            for (comes, from, to) in steps {
                let range = from.min(to)..from.max(to);
                let before = bits;
                bits[range.start as usize..range.end as usize].fill(!comes);
                let hit: u64 = missing.within(range.clone()).map(|hit| hit.end - hit.start).sum();
                let expected = (range.start..range.end).filter(|at| before[*at as usize]).count();
                prop_assert_eq!(hit, expected as u64);
                if comes { missing.come(range) } else { missing.lose(range) }
                let listed: Vec<u64> = missing.ranges().iter().cloned().flatten().collect();
                let expected: Vec<u64> = (0..40).filter(|at| bits[*at as usize]).collect();
                prop_assert_eq!(missing.bytes(), expected.len() as u64);
                prop_assert_eq!(listed, expected);
                prop_assert!(missing.ranges().windows(2).all(|two| two[0].end < two[1].start));
            }
        }
    }
}
