//! The time that expiry is judged by, and times as text.
//!
//! A gateway without a battery wakes up in 1970, and whoever reaches its clock can keep an old repository fresh for ever. So
//! the time never counts as earlier than what trusted signers have said it is: the *floor*. It is fed by signatures
//! only, never by the node's own clock or records, because one wrong reading of the future would poison it for good. It
//! has two halves: what offline keys said stays; what online keys said is forgotten when the root rotates those keys, so
//! that a stolen online key cannot push a node into the future for ever.
//!
//! A clock far ahead makes everything look expired; nothing of that is kept, and it mends itself with the clock.

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

/// The earliest that now can be, as far as signers have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// By root, targets and assignments, and by when this program was built.
    pub offline_ms: WallMs,
    /// By snapshot and timestamp.
    pub online_ms: WallMs,
}

impl Floor {
    /// A signer whose key is offline says that it is at least `said_ms`.
    pub fn raise_offline(&mut self, said_ms: WallMs) {
        self.offline_ms = self.offline_ms.max(said_ms);
    }

    /// A signer whose key is online says that it is at least `said_ms`; heard up to `root_expires_ms`.
    pub fn raise_online(&mut self, said_ms: WallMs, root_expires_ms: WallMs) {
        self.online_ms = self.online_ms.max(said_ms.min(root_expires_ms));
    }

    /// The online keys were rotated: what they said no longer counts.
    pub fn forget_online(&mut self) {
        self.online_ms = 0;
    }

    /// The later of the two.
    pub fn at_least_ms(self) -> WallMs {
        self.offline_ms.max(self.online_ms)
    }
}

/// Where the time that was judged by came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// The node's clock, which no signer contradicts.
    Clock,
    /// The floor: the clock is behind by at least this many milliseconds.
    Floor {
        /// How far behind, at least.
        behind_ms: i64,
    },
}

/// A time to judge expiry by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Milliseconds since 1970.
    pub now_ms: WallMs,
    /// Where it comes from.
    pub quality: Quality,
}

/// The later of the clock and the floor; without a floor, the clock.
pub fn effective(floor: Option<Floor>, clock_ms: WallMs) -> Judged {
    match floor.map(Floor::at_least_ms) {
        Some(floor_ms) if floor_ms > clock_ms => {
            let behind_ms = floor_ms.saturating_sub(clock_ms);
            Judged { now_ms: floor_ms, quality: Quality::Floor { behind_ms } }
        }
        _ => Judged { now_ms: clock_ms, quality: Quality::Clock },
    }
}

const DAY_MS: i64 = 86_400_000;

/// Reads `2026-11-21T20:00:00Z`, the one form that TUF has; `None` for any other.
pub fn parse_utc(text: &str) -> Option<WallMs> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, digits: usize| {
        let digits = &bytes[from..from + digits];
        let value = |value: i64, digit: &u8| value * 10 + i64::from(*digit - b'0');
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, value))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if marks.iter().any(|(place, mark)| bytes[*place] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    let days = days_of(year, month, day);
    let is_date = (1..=12).contains(&month) && day >= 1 && date_of(days) == (year, month, day);
    (is_date && is_time).then(|| days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000)
}

/// Writes what [`parse_utc`] reads, whole seconds; years outside 0…9999 are cut to the nearest in it.
pub fn format_utc(ms: WallMs) -> String {
    let (first, last) = (days_of(0, 1, 1) * DAY_MS, days_of(10_000, 1, 1) * DAY_MS - 1);
    let ms = ms.clamp(first, last);
    let (year, month, day) = date_of(ms.div_euclid(DAY_MS));
    let seconds = ms.rem_euclid(DAY_MS) / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 in the Gregorian calendar; counts years from March, so that the leap day is a year's last, and
/// by eras of 400 years, which have 146 097 days each.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_of`]: year, month, day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_text() {
        let check = |text: &str, ms: WallMs| {
            assert_eq!(parse_utc(text), Some(ms), "{text}");
            assert_eq!(format_utc(ms), text);
        };
        check("1970-01-01T00:00:00Z", 0);
        check("2026-01-01T00:00:00Z", 1_767_225_600_000);
        check("2024-02-29T23:59:59Z", 1_709_251_199_000);
        check("1969-12-31T23:59:59Z", -1000);
        check("9999-12-31T23:59:59Z", 253_402_300_799_000);
        assert_eq!(format_utc(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(format_utc(i64::MIN), "0000-01-01T00:00:00Z");
        for wrong in [
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00+0",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01t00:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
        for day in (-800_000..3_000_000).step_by(997) {
            let (y, m, d) = date_of(day);
            assert_eq!(days_of(y, m, d), day);
        }
    }

    #[test]
    fn the_later_of_clock_and_floor() {
        let floor = Some(Floor { offline_ms: 100, online_ms: 50 });
        assert_eq!(effective(None, 7), Judged { now_ms: 7, quality: Quality::Clock });
        assert_eq!(effective(floor, 100).quality, Quality::Clock);
        assert_eq!(effective(floor, 60), Judged { now_ms: 100, quality: Quality::Floor { behind_ms: 40 } });
        assert_eq!(effective(floor, 200).now_ms, 200);
    }

    #[test]
    fn an_online_key_is_heard_until_the_root_expires_or_rotates_it() {
        let mut floor = Floor::default();
        floor.raise_offline(10);
        floor.raise_online(1_000, 500);
        assert_eq!(floor.at_least_ms(), 500);
        floor.raise_online(20, 500);
        assert_eq!(floor.at_least_ms(), 500);
        floor.forget_online();
        assert_eq!(floor.at_least_ms(), 10);
    }
}
