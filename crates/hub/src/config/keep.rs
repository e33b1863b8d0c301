//! `[keep]` and `[archive]`: how long the hub keeps what, and whether it is written into the depot before it goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The fewest days for which records of class `audit` are kept: half a year.
pub const AUDIT_MIN_DAYS: u32 = 183;

/// The fewest days for which it is known how models behaved: rollouts compare with two weeks before them.
pub const SAMPLES_MIN_DAYS: u64 = 28;

/// The most days that can be told.
const DAYS_MAX: u32 = 36_500;

/// So many days, written `400d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Days(u32);

/// Not a number of days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time to keep something: write days, 1d to {DAYS_MAX}d")]
pub struct BadDays(String);

impl Days {
    /// So many days, at least one.
    pub const fn of(days: u32) -> Days {
        Days(if days == 0 { 1 } else { days })
    }

    /// How many.
    pub fn get(self) -> i64 {
        i64::from(self.0)
    }
}

impl FromStr for Days {
    type Err = BadDays;

    fn from_str(text: &str) -> Result<Days, BadDays> {
        let digits = text.strip_suffix('d').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let days = digits.and_then(|digits| digits.parse().ok());
        let days = days.filter(|days| (1..=DAYS_MAX).contains(days));
        days.map(Days).ok_or_else(|| BadDays(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Days {
    type Error = BadDays;

    fn try_from(text: String) -> Result<Days, BadDays> {
        text.parse()
    }
}

impl From<Days> for String {
    fn from(days: Days) -> String {
        days.to_string()
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

/// `[keep]`: for how long records of each class stay after they arrived, at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepConfig {
    /// Decisions, starts, installs: what an auditor asks for. Never less than [`AUDIT_MIN_DAYS`].
    pub audit: Days,
    /// What models found.
    pub event: Days,
    /// Summaries: what charts are made of.
    pub metric: Days,
    /// Readings as they came.
    pub raw: Days,
    /// How models behaved, by day.
    pub samples: Days,
}

impl Default for KeepConfig {
    fn default() -> KeepConfig {
        let [audit, event, metric, raw, samples] = [400, 90, 30, 7, 400].map(Days::of);
        KeepConfig { audit, event, metric, raw, samples }
    }
}

/// `[archive]`: records as Parquet in the depot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Whether days are written there when they are over. Then nothing is cut that is not there.
    pub on: bool,
    /// How long after its end a day is written.
    pub after: Days,
}

impl Default for ArchiveConfig {
    fn default() -> ArchiveConfig {
        ArchiveConfig { on: false, after: Days::of(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (text, expected) in
            [("400d", Some(400)), ("1d", Some(1)), ("0d", None), ("36501d", None), ("", None), ("7", None)]
        {
            assert_eq!(text.parse::<Days>().ok().map(Days::get), expected, "{text}");
        }
        for text in ["d", "-1d", "+1d", "1.5d", "99999999999999d", "7 d"] {
            assert_eq!(text.parse::<Days>(), Err(BadDays(text.to_owned())));
        }
        assert_eq!(Days::of(7).to_string(), "7d");
    }
}
