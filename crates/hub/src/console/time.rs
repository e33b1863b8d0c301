//! Times for people: how long ago, and when. Pages show UTC; the script turns it into the reader's own time.

use jiff::Timestamp;
use jiff::tz::Offset;
use wire::world::WallMs;

/// A time on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// Milliseconds since 1970, for the script.
    pub ms: WallMs,
    /// `2026-11-21T14:03:22Z`, for machines.
    pub iso: String,
    /// `21 Nov 14:03:22`, for people without a script.
    pub text: String,
    /// `3 min ago`.
    pub ago: String,
}

/// A time seen from now.
pub fn when(ms: WallMs, now_ms: WallMs) -> When {
    let (iso, text) = match Timestamp::from_millisecond(ms) {
        Ok(time) => {
            let utc = Offset::UTC.to_datetime(time);
            (utc.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), utc.strftime("%-d %b %H:%M:%S").to_string())
        }
        Err(_) => (String::new(), format!("{ms} ms")),
    };
    When { ms, iso, text, ago: ago(ms, now_ms) }
}

/// `just now`, `3 min ago`, `in 2 h`.
pub fn ago(ms: WallMs, now_ms: WallMs) -> String {
    let past_ms = now_ms.saturating_sub(ms);
    match past_ms {
        -4_999..5_000 => "just now".to_owned(),
        5_000.. => format!("{} ago", length(past_ms)),
        _ => format!("in {}", length(past_ms.saturating_neg())),
    }
}

/// A length of time in its largest whole unit: `8 s`, `3 min`, `5 h`, `12 d`.
pub fn length(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        ..1 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A length of time in its two largest units: `3 min 20 s`.
pub fn exact_length(ms: i64) -> String {
    let seconds = ms / 1000;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        ..60 => length(ms),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        let now = 1_767_225_600_000;
        for (past_ms, expected) in [
            (0, "just now"),
            (-3_000, "just now"),
            (42_000, "42 s ago"),
            (61_000, "1 min ago"),
            (7_300_000, "2 h ago"),
            (200_000_000, "2 d ago"),
            (-90_000, "in 1 min"),
        ] {
            assert_eq!(ago(now - past_ms, now), expected);
        }
        assert_eq!(ago(i64::MIN, i64::MAX), "106751991167 d ago");
        assert_eq!(ago(i64::MAX, i64::MIN), "in 106751991167 d");
        assert_eq!(exact_length(200_000), "3 min 20 s");
        assert_eq!(exact_length(7_200_000), "2 h");
        assert_eq!(exact_length(40), "40 ms");
    }

    #[test]
    fn for_machines() {
        let when = when(1_767_225_601_500, 1_767_225_600_000);
        assert_eq!((when.iso.as_str(), when.text.as_str()), ("2026-01-01T00:00:01Z", "1 Jan 00:00:01"));
        assert_eq!(super::when(i64::MAX, 0).iso, "");
    }
}
