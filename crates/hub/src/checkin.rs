//! The check-in as the hub sees it: what a node said; what it is advised ([`advice`]); and who may wait for news ([`wait`]).

pub mod advice;
pub mod wait;

use wire::checkin::CheckIn;

/// The most bytes of a check-in.
pub const CHECKIN_MAX_BYTES: usize = 256 * 1024;

/// The most sources, the most streams, and the most models, of a node.
pub const PARTS_MAX: usize = 1024;

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

#[cfg(test)]
mod tests {
    use super::*;

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
