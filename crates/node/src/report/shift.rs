//! When a shift begins and ends, by a clock on the wall of a place whose offset from UTC is declared.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use wire::world::WallMs;

/// The shifts of a report: each as long as the others, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifts {
    /// How long each is.
    pub every_ms: i64,
    /// When in the day one of them begins, by the local clock.
    pub begins_ms: i64,
    /// The local clock's offset from UTC.
    pub offset_s: i32,
}

/// One shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// Its first millisecond.
    pub from_ms: WallMs,
    /// The first millisecond after it.
    pub to_ms: WallMs,
}

impl Shifts {
    /// Reads `06:00`, `06:00Z` or `06:00+02:00`: milliseconds of the day, and the offset in seconds.
    pub fn read_begin(text: &str) -> Result<(i64, i32), String> {
        let refuse = || format!("{text:?} is no time of day such as \"06:00\" or \"06:00+02:00\"");
        let clock = |text: &str, most_h: i64| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str| (text.len() == 2).then(|| text.parse::<i64>().ok()).flatten();
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            ((0..=most_h).contains(&hours) && (0..60).contains(&minutes)).then_some(hours * 60 + minutes)
        };
        let (day, zone) = match text.find(['+', '-', 'Z']) {
            Some(at) => text.split_at(at),
            None => (text, "Z"),
        };
        let begin = clock(day, 23).ok_or_else(refuse)?;
        let offset = match zone.strip_prefix(['+', '-']) {
            Some(far) => clock(far, 14).ok_or_else(refuse)? * if zone.starts_with('-') { -1 } else { 1 },
            None if zone == "Z" => 0,
            None => return Err(refuse()),
        };
        Ok((begin * 60_000, (offset * 60) as i32))
    }

    /// The last shift that was over at `now_ms`.
    pub fn last(&self, now_ms: WallMs) -> Shift {
        let base_ms = self.begins_ms - i64::from(self.offset_s) * 1_000;
        let since_ms = now_ms.saturating_sub(base_ms).rem_euclid(self.every_ms);
        let to_ms = now_ms.saturating_sub(since_ms);
        Shift { from_ms: to_ms.saturating_sub(self.every_ms), to_ms }
    }

    /// A shift in words: `2026-01-31 06:00 to 14:00 (UTC+02:00)`.
    pub fn shown(&self, shift: Shift) -> String {
        let at = |t_ms: WallMs, form: &str| {
            let zone = Offset::from_seconds(self.offset_s).map_or(TimeZone::UTC, TimeZone::fixed);
            let at = Timestamp::from_millisecond(t_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
            at.strftime(form).to_string()
        };
        let zone = match self.offset_s {
            0 => "UTC".to_owned(),
            offset_s => {
                let (sign, minutes) = (if offset_s < 0 { '-' } else { '+' }, offset_s.abs() / 60);
                format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        };
        let same_day = at(shift.from_ms, "%F") == at(shift.to_ms - 1, "%F");
        let end = at(shift.to_ms, if same_day { "%H:%M" } else { "%F %H:%M" });
        format!("{} to {end} ({zone})", at(shift.from_ms, "%F %H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_of_shifts() {
        let check = |text: &str, expected: Option<(i64, i32)>| {
            assert_eq!(Shifts::read_begin(text).ok(), expected, "{text}");
        };
        check("06:00", Some((21_600_000, 0)));
        check("06:30Z", Some((23_400_000, 0)));
        check("06:00+02:00", Some((21_600_000, 7_200)));
        check("22:15-03:30", Some((80_100_000, -12_600)));
        check("24:00", None);
        check("6:00", None);
        check("06:60", None);
        check("06:00+2", None);
        check("06:00+99:00", None);
        check("noon", None);
        check("06:00Zulu", None);
    }

    #[test]
    fn shifts_follow_one_another() {
        let (begins_ms, offset_s) = Shifts::read_begin("06:00+02:00").unwrap();
        let shifts = Shifts { every_ms: 8 * 3_600_000, begins_ms, offset_s };
        // 2026-01-31 10:00 UTC is noon there.
        let noon = 1_769_853_600_000;
        let shift = shifts.last(noon);
        assert_eq!(shifts.shown(shift), "2026-01-30 22:00 to 2026-01-31 06:00 (UTC+02:00)");
        let next = shifts.last(noon + 3 * 3_600_000);
        assert_eq!(next.from_ms, shift.to_ms);
        assert_eq!(shifts.shown(next), "2026-01-31 06:00 to 14:00 (UTC+02:00)");
        assert_eq!(shifts.last(next.to_ms), next, "a shift is over with its last millisecond");
        assert_eq!(shifts.last(next.to_ms - 1), shift);
        let utc = Shifts { every_ms: 86_400_000, begins_ms: 0, offset_s: 0 };
        assert_eq!(utc.shown(utc.last(noon)), "2026-01-30 00:00 to 00:00 (UTC)");
    }
}
