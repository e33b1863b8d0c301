//! When a node may change, by its own time: at night, on some days, and from some day on at any time. Pure.
//!
//! A window that ends before it begins ends on the next day, and belongs to the day on which it began. Whoever does not
//! know the time waits, also past `by`: a clock that is wrong must not open what people have closed.

use std::collections::BTreeSet;

use wire::world::WallMs;

use crate::trust::canonical::Value;
use crate::trust::metadata::{FormError, only, time};
use crate::trust::time::format_utc;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1440 * MINUTE_MS;
/// Clocks beyond are judged as if they stood there: about 140 000 years either way.
const FARTHEST_MS: i64 = 1 << 52;

/// When a node may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// The days on which a window begins; Monday is 1, Sunday 7. At least one.
    pub days: BTreeSet<u8>,
    /// When it begins, in minutes after midnight: 0 to 1439.
    pub from_min: u16,
    /// When it ends, in minutes after midnight: 0 to 1440. Not after `from_min`: on the next day.
    pub to_min: u16,
    /// From then on at any time.
    pub by_ms: Option<WallMs>,
}

/// Whether a node may change now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// A window is open.
    Now,
    /// None is, and it has waited long enough.
    Forced,
    /// Not before so many milliseconds have passed.
    In {
        /// How many.
        ms: i64,
    },
    /// Nobody knows: the node has no time that it can trust.
    NoTime,
}

impl When {
    /// Judges the time `now_ms`, `None` if it is not known, where clocks are `offset_s` seconds ahead of UTC.
    pub fn judge(&self, now_ms: Option<WallMs>, offset_s: i32) -> Judged {
        let Some(now_ms) = now_ms else { return Judged::NoTime };
        let now_ms = now_ms.clamp(-FARTHEST_MS, FARTHEST_MS);
        let local_ms = now_ms + i64::from(offset_s) * 1000;
        let today = local_ms.div_euclid(DAY_MS);
        let opens = |day: i64| day * DAY_MS + i64::from(self.from_min) * MINUTE_MS;
        let length = i64::from(self.to_min) - i64::from(self.from_min);
        let length_ms = MINUTE_MS * if length <= 0 { length + 1440 } else { length };
        let began = [today - 1, today].into_iter().filter(|day| self.has(*day)).map(opens);
        if began.into_iter().any(|opens| (opens..opens + length_ms).contains(&local_ms)) {
            return Judged::Now;
        }
        let by_ms = self.by_ms.map(|by_ms| by_ms.saturating_sub(now_ms));
        if by_ms.is_some_and(|in_ms| in_ms <= 0) {
            return Judged::Forced;
        }
        let begins = (today..=today + 7).filter(|day| self.has(*day)).map(|day| opens(day) - local_ms);
        let next_ms = begins.filter(|in_ms| *in_ms > 0).chain(by_ms).min();
        // Without a day, nothing ever opens; reading refuses that.
        Judged::In { ms: next_ms.unwrap_or(i64::MAX) }
    }

    /// Whether a window begins on the day that is so many after Thursday, 1 January 1970.
    fn has(&self, day: i64) -> bool {
        let weekday = (day + 3).rem_euclid(7) + 1;
        u8::try_from(weekday).is_ok_and(|weekday| self.days.contains(&weekday))
    }

    /// Reads `{"days":[1,2,3],"from":"22:00","to":"05:00","by":"2026-12-24T00:00:00Z"}`, of which `by` may be absent.
    pub fn read(value: &Value) -> Result<When, FormError> {
        only(value, "when", &["days", "from", "to", "by"])?;
        let days = value.get("days").and_then(Value::as_list).unwrap_or_default().iter();
        let day = |day: &Value| day.as_u64().and_then(|day| u8::try_from(day).ok()).filter(|day| *day <= 7);
        let days: Option<BTreeSet<u8>> = days.map(|value| day(value).filter(|day| *day > 0)).collect();
        let days = days.filter(|days| !days.is_empty());
        let minute = |field: &'static str, most: u16| {
            let minute = value.get(field).and_then(Value::as_text).and_then(parse_minute);
            minute.filter(|minute| *minute <= most).ok_or_else(|| wrong(field, "a time such as \"22:00\""))
        };
        Ok(When {
            days: days.ok_or_else(|| wrong("days", "a list of days, 1 for Monday to 7 for Sunday"))?,
            from_min: minute("from", 1439)?,
            to_min: minute("to", 1440)?,
            by_ms: time(value, "by")?,
        })
    }

    /// What [`When::read`] reads.
    pub fn to_value(&self) -> Value {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let days = self.days.iter().map(|day| u64::from(*day).into()).collect();
        let mut when = Value::object([
            ("days", Value::List(days)),
            ("from", clock(self.from_min).into()),
            ("to", clock(self.to_min).into()),
        ]);
        if let (Some(by_ms), Some(fields)) = (self.by_ms, when.as_object_mut()) {
            fields.insert("by".to_owned(), format_utc(by_ms).into());
        }
        when
    }
}

/// Reads `22:00`, up to `24:00`.
pub fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_two.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
    Some(hour * 60 + minute).filter(|minute| *minute <= 1440)
}

fn wrong(field: &str, expected: &'static str) -> FormError {
    FormError::Field { field: field.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::canonical::parse;
    use crate::trust::time::parse_utc;

    fn when(json: &str) -> When {
        When::read(&parse(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_window_opens_on_its_days_and_over_midnight() {
        const HOUR_MS: i64 = 60 * MINUTE_MS;
        const BY: &str = "2026-12-24T00:00:00Z";
        let nights = when(&format!(r#"{{"days":[1,2,3,4,5],"from":"22:00","to":"05:00","by":"{BY}"}}"#));
        let noon = when(r#"{"days":[7],"from":"12:00","to":"12:00"}"#);
        let evening = when(r#"{"days":[3],"from":"18:30","to":"24:00"}"#);
        // 2026-11-20 is a Friday.
        let cases = [
            (&nights, "2026-11-20T21:59:00Z", 0, Judged::In { ms: MINUTE_MS }),
            (&nights, "2026-11-20T21:59:00Z", 60, Judged::Now),
            (&nights, "2026-11-20T22:00:00Z", 0, Judged::Now),
            (&nights, "2026-11-21T04:59:59Z", 0, Judged::Now),
            (&nights, "2026-11-21T05:00:00Z", 0, Judged::In { ms: 65 * HOUR_MS }),
            (&nights, "2026-11-21T22:30:00Z", 0, Judged::In { ms: 47 * HOUR_MS + 30 * MINUTE_MS }),
            (&nights, "2026-12-23T23:00:00Z", 0, Judged::Now),
            (&nights, "2026-12-23T21:30:00Z", -9 * 3600, Judged::In { ms: 2 * HOUR_MS + 30 * MINUTE_MS }),
            (&nights, BY, -9 * 3600, Judged::Forced),
            (&noon, "2026-11-22T11:59:59Z", 0, Judged::In { ms: 1000 }),
            (&noon, "2026-11-23T11:59:59Z", 0, Judged::Now),
            (&noon, "2026-11-23T12:00:00Z", 0, Judged::In { ms: 6 * DAY_MS }),
            (&evening, "2026-11-18T23:59:59Z", 0, Judged::Now),
            (
                &evening,
                "2026-11-19T00:00:00Z",
                0,
                Judged::In { ms: 6 * DAY_MS + 18 * HOUR_MS + 30 * MINUTE_MS },
            ),
        ];
        for (when, now, offset_s, expected) in cases {
            assert_eq!(when.judge(parse_utc(now), offset_s), expected, "{now} {offset_s}");
        }
        assert_eq!(nights.judge(None, 0), Judged::NoTime, "not even `by` forces what has no time");
        for far in [i64::MIN, i64::MAX] {
            nights.judge(Some(far), i32::MAX);
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        for json in [
            r#"{"by":"2026-12-24T00:00:00Z","days":[1,7],"from":"22:05","to":"05:00"}"#,
            r#"{"days":[3],"from":"00:00","to":"24:00"}"#,
        ] {
            let bytes = crate::trust::canonical::canonical(&when(json).to_value());
            assert_eq!(String::from_utf8(bytes).unwrap(), json);
        }
        for wrong in [
            r#"{"days":[],"from":"22:00","to":"05:00"}"#,
            r#"{"days":[0],"from":"22:00","to":"05:00"}"#,
            r#"{"days":[8],"from":"22:00","to":"05:00"}"#,
            r#"{"days":[1],"from":"24:00","to":"05:00"}"#,
            r#"{"days":[1],"from":"22:60","to":"05:00"}"#,
            r#"{"days":[1],"from":"2:00","to":"05:00"}"#,
            r#"{"days":[1],"from":"+2:00","to":"05:00"}"#,
            r#"{"days":[1],"from":"22:00"}"#,
            r#"{"days":[1],"from":"22:00","to":"05:00","by":"tomorrow"}"#,
            r#"[]"#,
        ] {
            let refused = When::read(&parse(wrong.as_bytes()).unwrap());
            assert!(matches!(refused, Err(FormError::Field { .. })), "{wrong}: {refused:?}");
        }
        let newer = br#"{"days":[1],"from":"22:00","to":"05:00","holidays":"no"}"#;
        let refused = When::read(&parse(newer).unwrap()).unwrap_err();
        assert!(
            matches!(&refused, FormError::Unsupported { what } if what.contains("holidays")),
            "{refused}"
        );
    }
}
