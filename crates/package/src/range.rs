//! What a `Range` header asks of a blob, for whoever serves one: the hub, and nodes to their neighbours.

use std::ops::Range;

use crate::form::decimal;

/// What a `Range` asks of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of them.
    Whole,
    /// Some; never none.
    Part(Range<u64>),
    /// Some that are not there.
    Nowhere,
}

/// One range is understood; of several, or of what cannot be read, all is given, as HTTP has it.
pub fn asked(header: Option<&str>, size: u64) -> Asked {
    let parts = header.and_then(|range| range.strip_prefix("bytes=")?.trim().split_once('-'));
    match parts.map(|(first, last)| (first, decimal(first), last, decimal(last))) {
        Some(("", None, _, Some(bytes))) => match size.min(bytes) {
            0 => Asked::Nowhere,
            bytes => Asked::Part(size - bytes..size),
        },
        Some((_, Some(first), "", None)) if first < size => Asked::Part(first..size),
        Some((_, Some(first), _, Some(last))) if first <= last && first < size => {
            Asked::Part(first..size.min(last.saturating_add(1)))
        }
        Some((_, Some(first), _, Some(last))) if first > last => Asked::Whole,
        Some((_, Some(_), "", None) | (_, Some(_), _, Some(_))) => Asked::Nowhere,
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        fn check(header: &str, size: u64, expected: Asked) {
            assert_eq!(asked(Some(header), size), expected, "{header} of {size}");
        }
        check("bytes=0-0", 10, Asked::Part(0..1));
        check("bytes=3-", 10, Asked::Part(3..10));
        check("bytes=3-99", 10, Asked::Part(3..10));
        check("bytes=-3", 10, Asked::Part(7..10));
        check("bytes=-30", 10, Asked::Part(0..10));
        check("bytes=0-18446744073709551615", 10, Asked::Part(0..10));
        check("bytes=10-", 10, Asked::Nowhere);
        check("bytes=10-11", 10, Asked::Nowhere);
        check("bytes=-0", 10, Asked::Nowhere);
        check("bytes=0-", 0, Asked::Nowhere);
        check("bytes=-5", 0, Asked::Nowhere);
        for odd in ["", "bytes", "bytes=", "bytes=-", "bytes=4-3", "bytes=0-1,3-4", "lines=0-1", "bytes=x-"] {
            check(odd, 10, Asked::Whole);
        }
        assert_eq!(asked(None, 0), Asked::Whole);
    }
}
