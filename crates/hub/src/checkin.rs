//! The check-in as the hub sees it: what a node said, and when it shall come again. Pure.

use wire::checkin::CheckIn;

/// The most bytes of a check-in.
pub const CHECKIN_MAX_BYTES: usize = 256 * 1024;

/// The most sources, the most streams, and the most models, of a node.
pub const PARTS_MAX: usize = 1024;

/// How many check-ins a second the hub invites at most; a third of what two cores carry beside 3 000 records/s.
const CHECKINS_PER_SECOND: u64 = 200;

/// The longest a node is sent away for when the hub is busy.
const STRETCH_MAX_MS: u64 = 300_000;

/// A check-in that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BadCheckIn {
    /// Not the JSON of a check-in.
    #[error("the check-in is not valid: {0}")]
    NotACheckIn(#[from] serde_json::Error),
    /// Too many sources, streams or models.
    #[error("the check-in has {count} {what}, the limit is {PARTS_MAX}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

/// Reads a check-in.
pub fn decode(body: &[u8]) -> Result<CheckIn, BadCheckIn> {
    let checkin: CheckIn = serde_json::from_slice(body)?;
    let (sources, streams, models) = (checkin.sources.len(), checkin.streams.len(), checkin.slots.len());
    for (what, count) in [("sources", sources), ("streams", streams), ("models", models)] {
        if count > PARTS_MAX {
            return Err(BadCheckIn::TooMany { what, count });
        }
    }
    Ok(checkin)
}

/// When a node shall come again: the configured time, longer when the fleet is so large that the hub would get more
/// than it can carry, and up to four times that while the writer's queue is filling.
pub fn next_ms(configured_ms: u64, nodes: u64, queue_percent: u64) -> u64 {
    let fair_ms = configured_ms.max(nodes.saturating_mul(1000) / CHECKINS_PER_SECOND);
    let stretch = match queue_percent {
        0..=24 => 1,
        25..=49 => 2,
        _ => 4,
    };
    fair_ms.saturating_mul(stretch).min(configured_ms.max(STRETCH_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_again() {
        #[track_caller]
        fn check(configured_ms: u64, nodes: u64, queue_percent: u64, expected: u64) {
            assert_eq!(next_ms(configured_ms, nodes, queue_percent), expected);
        }
        check(10_000, 0, 0, 10_000);
        check(10_000, 2_000, 0, 10_000);
        check(10_000, 10_000, 0, 50_000);
        check(10_000, 10_000, 30, 100_000);
        check(10_000, 10_000, 90, 200_000);
        check(10_000, 1_000_000, 90, 300_000);
        check(600_000, 1, 90, 600_000);
        check(10_000, u64::MAX, 100, 300_000);
    }

    #[test]
    fn what_does_not_decode() {
        #[track_caller]
        fn check(body: &str, expected: &str) {
            let error = decode(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("", "not valid");
        check("{\"node\":\"A\"}", "found 'A'");
        let start = "{\"v\":1,\"node\":\"a\",\"journal\":\"00000000000000000000000000000001\",\
             \"boot\":\"00000000000000000000000000000002\",\"version\":\"0\",\"uptime_ms\":1,\"wall_ms\":0,\
             \"clock\":\"unchecked\"";
        assert!(decode(format!("{start}}}").as_bytes()).is_ok());
        check(&format!("{start},\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)), "recursion limit");
        let stream = "{\"stream\":\"s\",\"class\":\"raw\",\"last\":1,\"acked\":0},".repeat(PARTS_MAX + 1);
        check(&format!("{start},\"streams\":[{}]}}", stream.trim_end_matches(',')), "1025 streams");
        let slot = "{\"model\":\"m\"},".repeat(PARTS_MAX + 1);
        check(&format!("{start},\"slots\":[{}]}}", slot.trim_end_matches(',')), "1025 models");
    }
}
