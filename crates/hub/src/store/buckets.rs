//! In which bucket a record lies: its class, and the period in which it arrived, by the hub's clock. A bucket is cut as a whole;
//! a class that is kept for long has long periods, so that there are few buckets to look into.

use jiff::Span;
use jiff::civil::Date;
use sqlx::Row;
use wire::class::Class;
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};

/// A day.
pub const DAY_MS: i64 = 86_400_000;

/// Between the first buckets of two classes; also the last day that there is, in the year 2243.
const CLASS_STEP: i64 = 100_000;

/// A clock that is so many days behind the newest record was wrong before; less may be another hub's.
const BEHIND_MAX_DAYS: i64 = 2;

/// Days since 1970, as far as buckets go.
pub fn day_of(at_ms: WallMs) -> i64 {
    at_ms.div_euclid(DAY_MS).clamp(0, CLASS_STEP - 1)
}

/// How many days of a class lie in one bucket.
pub fn period_days(class: Class) -> i64 {
    match class {
        Class::Audit => 28,
        Class::Event => 7,
        Class::Metric => 3,
        Class::Raw => 1,
    }
}

/// The bucket of a class for what arrives on this day. Never 0: there lies what was never given one.
pub fn bucket(class: Class, day: i64) -> i64 {
    first(class) + day - day % period_days(class)
}

/// Which buckets of a class hold only what arrived before `day`.
pub fn before(class: Class, day: i64) -> std::ops::Range<i64> {
    first(class)..bucket(class, day.clamp(0, CLASS_STEP - 1))
}

/// A day since 1970 as people write it: `2026-11-22`.
pub fn show_day(day: i64) -> String {
    let days = Span::new().try_days(day).ok();
    let date = days.and_then(|days| Date::constant(1970, 1, 1).checked_add(days).ok());
    date.map_or_else(|| day.to_string(), |date| date.to_string())
}

/// The first day of a bucket.
pub fn first_day(bucket: i64) -> i64 {
    bucket % CLASS_STEP
}

fn first(class: Class) -> i64 {
    let place = match class {
        Class::Audit => 1,
        Class::Event => 2,
        Class::Metric => 3,
        Class::Raw => 4,
    };
    place * CLASS_STEP
}

/// The day of what arrives now, `newest` being that of what arrived last: days do not go back for a clock that is a little
/// behind another hub's.
pub fn arrival_day(newest: Option<i64>, today: i64) -> i64 {
    match newest {
        Some(newest) if today < newest && newest - today <= BEHIND_MAX_DAYS => newest,
        _ => today,
    }
}

/// That records from this number on arrived on this day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRow {
    /// The number of the first.
    pub first: i64,
    /// Days since 1970.
    pub day: i64,
}

/// The day of the newest record.
pub async fn newest_day(writer: &mut Writer) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query("SELECT day FROM days ORDER BY first DESC LIMIT 1");
    query.fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}

/// A new day begins with this record.
pub async fn begin_day(writer: &mut Writer, row: DayRow) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT INTO days (first, day) VALUES ($1, $2)");
    query.bind(row.first).bind(row.day).execute(writer).await?;
    Ok(())
}

/// All days on which records arrived, in their order.
pub async fn days(readers: &Readers) -> Result<Vec<DayRow>, sqlx::Error> {
    let read = |row: StoredRow| Ok(DayRow { first: row.try_get("first")?, day: row.try_get("day")? });
    let rows = sqlx::query("SELECT first, day FROM days ORDER BY first").fetch_all(readers).await?;
    rows.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_classes_never_meet() {
        let day = 20_779; // 2026-11-22
        let buckets = Class::ALL.map(|class| bucket(class, day));
        assert_eq!(buckets, [120_776, 220_776, 320_778, 420_779]);
        assert_eq!(buckets.map(first_day), [20_776, 20_776, 20_778, 20_779]);
        for class in Class::ALL {
            assert!(before(class, 0).is_empty());
            assert!(before(class, day + period_days(class)).contains(&bucket(class, day)), "{class}");
            assert!(!before(class, day).contains(&bucket(class, day)), "what is not over is kept");
            assert!(before(class, i64::MAX).end <= first(class) + CLASS_STEP);
        }
        assert_eq!((day_of(-1), day_of(i64::MAX), day_of(DAY_MS)), (0, 99_999, 1));
    }

    #[test]
    fn days_as_people_write_them() {
        assert_eq!(show_day(0), "1970-01-01");
        assert_eq!(show_day(20_779), "2026-11-22");
        assert_eq!(show_day(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn days_go_back_only_for_a_clock_that_was_wrong() {
        let check = |newest, today, expected| assert_eq!(arrival_day(newest, today), expected);
        check(None, 7, 7);
        check(Some(7), 7, 7);
        check(Some(7), 6, 7);
        check(Some(7), 5, 7);
        check(Some(7), 4, 4);
        check(Some(7), 8, 8);
    }
}
