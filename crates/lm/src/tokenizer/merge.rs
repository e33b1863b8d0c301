//! Joins neighbours, the best pair first, until no pair is left: the heart of BPE, with ranks or with scores.
//!
//! Stands below `bpe` and `sentencepiece`, which say what two neighbours become. Always: of all pairs the one of the
//! least order is joined, of equals the leftmost; short inputs by looking at all pairs each time, which is faster up to
//! some dozens, long ones with a heap, so that a megabyte of one letter takes n log n.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A run of bytes that is one symbol so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What two neighbours become, and how early: the least order first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub(crate) order: u32,
    pub(crate) id: u32,
}

/// Up to so many parts, looking at all pairs for each join is faster than a heap.
const SHORT: usize = 48;

/// Joins `parts`, which lie side by side, as `join` says. `pairs` is room to work in.
pub(crate) fn merge(
    parts: &mut Vec<Part>,
    pairs: &mut Vec<Option<Joined>>,
    join: impl Fn(Part, Part) -> Option<Joined>,
) {
    if parts.len() <= SHORT { merge_short(parts, pairs, join) } else { merge_long(parts, join) }
}

fn merge_short(
    parts: &mut Vec<Part>,
    pairs: &mut Vec<Option<Joined>>,
    join: impl Fn(Part, Part) -> Option<Joined>,
) {
    pairs.clear();
    pairs.extend(parts.windows(2).map(|pair| join(pair[0], pair[1])));
    loop {
        let mut best: Option<(usize, Joined)> = None;
        for (place, joined) in pairs.iter().enumerate() {
            if let Some(joined) = *joined
                && best.is_none_or(|(_, best)| joined.order < best.order)
            {
                best = Some((place, joined));
            }
        }
        let Some((place, joined)) = best else {
            return;
        };
        parts[place] = Part { id: joined.id, start: parts[place].start, end: parts[place + 1].end };
        parts.remove(place + 1);
        pairs.remove(place);
        if place > 0 {
            pairs[place - 1] = join(parts[place - 1], parts[place]);
        }
        if place < pairs.len() {
            pairs[place] = join(parts[place], parts[place + 1]);
        }
    }
}

fn merge_long(parts: &mut Vec<Part>, join: impl Fn(Part, Part) -> Option<Joined>) {
    let count = u32::try_from(parts.len()).expect("2^32 parts would take 96 GiB");
    // What each part becomes with its right neighbour. A part that was joined to its left one has start == end.
    let mut pairs: Vec<Option<Joined>> = parts.windows(2).map(|pair| join(pair[0], pair[1])).collect();
    pairs.push(None);
    let mut next: Vec<u32> = (1..=count).collect();
    let mut before: Vec<u32> = (0..count).map(|place| place.wrapping_sub(1)).collect();
    // Orders, then places, in one number: half the memory to move of anything that says more.
    let key = |joined: Joined, place: u32| Reverse(u64::from(joined.order) << 32 | u64::from(place));
    let keys = (0_u32..).zip(&pairs).filter_map(|(place, joined)| Some(key((*joined)?, place)));
    let mut heap = BinaryHeap::from_iter(keys);
    while let Some(Reverse(best)) = heap.pop() {
        let (order, place) = ((best >> 32) as u32, best as u32);
        let left = place as usize;
        // An entry may be of a pair that is no more. If the pair that is there now has the same order, it is its turn.
        let Some(joined) = pairs[left].filter(|joined| joined.order == order) else {
            continue;
        };
        let right = next[left] as usize;
        parts[left] = Part { id: joined.id, start: parts[left].start, end: parts[right].end };
        parts[right].start = parts[right].end;
        pairs[right] = None;
        next[left] = next[right];
        pairs[left] = None;
        if next[left] < count {
            before[next[left] as usize] = place;
            pairs[left] = join(parts[left], parts[next[left] as usize]);
        }
        heap.extend(pairs[left].map(|joined| key(joined, place)));
        if before[left] < count {
            let before = before[left];
            pairs[before as usize] = join(parts[before as usize], parts[left]);
            heap.extend(pairs[before as usize].map(|joined| key(joined, before)));
        }
    }
    parts.retain(|part| part.start < part.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters join to one of a toy table: any two whose sum is even, the least sum first.
    fn join(left: Part, right: Part) -> Option<Joined> {
        let sum = left.id + right.id;
        (sum.is_multiple_of(2) && right.end - left.start <= 9)
            .then_some(Joined { order: sum, id: sum / 2 + 1 })
    }

    fn parts(ids: &[u32]) -> Vec<Part> {
        ids.iter().enumerate().map(|(place, &id)| Part { id, start: place, end: place + 1 }).collect()
    }

    /// The definition: look at every pair, join the best.
    fn by_definition(mut parts: Vec<Part>) -> Vec<Part> {
        loop {
            let pairs =
                (1..parts.len()).filter_map(|right| Some((right, join(parts[right - 1], parts[right])?)));
            let Some((right, joined)) = pairs.min_by_key(|(right, joined)| (joined.order, *right)) else {
                return parts;
            };
            parts[right - 1] = Part { id: joined.id, start: parts[right - 1].start, end: parts[right].end };
            parts.remove(right);
        }
    }

    proptest::proptest! {
        #[test]
        fn both_ways_join_as_the_definition(ids in proptest::collection::vec(0_u32..12, 0..90)) {
            let expected = by_definition(parts(&ids));
            let mut short = parts(&ids);
            merge_short(&mut short, &mut Vec::new(), join);
            proptest::prop_assert_eq!(&short, &expected);
            let mut long = parts(&ids);
            merge_long(&mut long, join);
            proptest::prop_assert_eq!(&long, &expected);
        }
    }
}
