//! The time of a reading, as strangers write it.
//!
//! Understood: RFC 3339 (`2026-01-31T10:00:00+01:00`), `2026-01-31 10:00:00[.fff]` and `2026-01-31` (taken as UTC:
//! a file that does not say its zone gets no guess), and unix time as a number. Its unit follows from its size: below
//! 10¹¹ it is seconds (until the year 5138), below 10¹⁴ milliseconds, below 10¹⁷ microseconds, above nanoseconds.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use wire::world::WallMs;

/// Reads times; remembers which form the last one had, as a file keeps to one.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeReader {
    form: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Unix,
    Zoned,
    Civil,
    Day,
}

impl TimeReader {
    /// The time in milliseconds since 1970 UTC; `None` if it is none.
    pub fn read(&mut self, text: &str) -> Option<WallMs> {
        if text.is_empty() || text.len() > 64 {
            return None;
        }
        if let Some(ms) = self.form.read(text) {
            return Some(ms);
        }
        let forms = [Form::Unix, Form::Zoned, Form::Civil, Form::Day];
        let (form, ms) = forms.into_iter().find_map(|form| Some((form, form.read(text)?)))?;
        self.form = form;
        Some(ms)
    }
}

impl Form {
    fn read(self, text: &str) -> Option<WallMs> {
        match self {
            Form::Unix => unix_ms(text),
            Form::Zoned => text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
            // Beyond the first ten characters there must be a time, or `Day` would be a second name for this form.
            Form::Civil if text.len() > 10 => utc_ms(text.parse::<DateTime>().ok()?),
            Form::Civil => None,
            Form::Day => utc_ms(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())),
        }
    }
}

fn utc_ms(civil: DateTime) -> Option<WallMs> {
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond())
}

/// Unix time of any unit, see above.
fn unix_ms(text: &str) -> Option<WallMs> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(match whole.unsigned_abs() {
            0..100_000_000_000 => whole * 1_000,
            100_000_000_000..100_000_000_000_000 => whole,
            100_000_000_000_000..100_000_000_000_000_000 => whole.div_euclid(1_000),
            _ => whole.div_euclid(1_000_000),
        });
    }
    let number: f64 = text.parse().ok()?;
    let ms = match number.abs() {
        size if size < 1e11 => number * 1e3,
        size if size < 1e14 => number,
        size if size < 1e17 => number / 1e3,
        size if size < 1e20 => number / 1e6,
        _ => return None,
    };
    Some(ms.round() as WallMs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        fn check(text: &str, expected: Option<WallMs>) {
            assert_eq!(TimeReader::default().read(text), expected, "{text}");
        }
        check("2026-01-31T10:00:00Z", Some(1_769_853_600_000));
        check("2026-01-31T11:00:00+01:00", Some(1_769_853_600_000));
        check("2026-01-31 10:00:00", Some(1_769_853_600_000));
        check("2026-01-31 10:00:00.125", Some(1_769_853_600_125));
        check("2026-01-31", Some(1_769_817_600_000));
        check("1769853600", Some(1_769_853_600_000));
        check("1769853600.5", Some(1_769_853_600_500));
        check("1769853600123", Some(1_769_853_600_123));
        check("1769853600123456", Some(1_769_853_600_123));
        check("1769853600123456789", Some(1_769_853_600_123));
        check("0", Some(0));
        check("0.25", Some(250));
        check("-5", Some(-5_000));
        check("", None);
        check("NaN", None);
        check("inf", None);
        check("1e300", None);
        check("99999999999999999999999", None);
        check("12/31/2026", None);
        check("pump", None);
        check("2026-13-01", None);
        check(&"9".repeat(100), None);
    }

    #[test]
    fn a_file_may_change_its_form() {
        let mut reader = TimeReader::default();
        assert_eq!(reader.read("2026-01-31"), Some(1_769_817_600_000));
        assert_eq!(reader.read("5"), Some(5_000));
        assert_eq!(reader.read("2026-01-31"), Some(1_769_817_600_000));
    }
}
