//! What a server says of a variable, as a number or as the reason why there is none.

use opcua::types::{DataValue, DateTime, StatusCode, Variant};
use wire::world::WallMs;

/// 1601-01-01, where OPC UA's times begin, in milliseconds since 1970; in units of 100 ns a time counts from there.
const EPOCH_MS: i64 = -11_644_473_600_000;

/// The number of a value; the error says why it has none.
pub(super) fn number(told: &DataValue) -> Result<f64, String> {
    if let Some(status) = told.status.filter(|status| !status.is_good()) {
        return Err(format!("the server says {}", name(status)));
    }
    let number = match &told.value {
        Some(Variant::Boolean(value)) => f64::from(u8::from(*value)),
        Some(Variant::SByte(value)) => f64::from(*value),
        Some(Variant::Byte(value)) => f64::from(*value),
        Some(Variant::Int16(value)) => f64::from(*value),
        Some(Variant::UInt16(value)) => f64::from(*value),
        Some(Variant::Int32(value)) => f64::from(*value),
        Some(Variant::UInt32(value)) => f64::from(*value),
        Some(Variant::Int64(value)) => *value as f64,
        Some(Variant::UInt64(value)) => *value as f64,
        Some(Variant::Float(value)) => f64::from(*value),
        Some(Variant::Double(value)) => *value,
        None | Some(Variant::Empty) => return Err("it has no value".to_owned()),
        Some(other) => return Err(format!("it is no number but {}", kind(other))),
    };
    if number.is_finite() { Ok(number) } else { Err("its value is not finite".to_owned()) }
}

/// Milliseconds since 1970; `None` for times that say nothing (the first and the last that there are).
pub(super) fn wall_ms(time: Option<DateTime>) -> Option<WallMs> {
    let ticks = time?.ticks();
    (1..i64::MAX).contains(&ticks).then(|| ticks / 10_000 + EPOCH_MS)
}

/// Whether values were lost at the server before this one, since its queue was full.
pub(super) fn is_overflow(told: &DataValue) -> bool {
    told.status.is_some_and(|status| status.overflow())
}

/// As the standard names it.
pub(super) fn name(status: StatusCode) -> String {
    status.sub_code().to_string()
}

fn kind(value: &Variant) -> String {
    match value {
        Variant::Array(_) => "an array".to_owned(),
        Variant::String(_) => "a text".to_owned(),
        Variant::DateTime(_) => "a time".to_owned(),
        other => format!("of type {:?}", other.type_id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: Variant, status: StatusCode) -> DataValue {
        DataValue { value: Some(value), status: Some(status), ..DataValue::null() }
    }

    #[test]
    fn numbers() {
        fn check(value: Variant, expected: f64) {
            assert_eq!(number(&told(value, StatusCode::Good)), Ok(expected));
        }
        check(Variant::Boolean(true), 1.0);
        check(Variant::SByte(-3), -3.0);
        check(Variant::Byte(200), 200.0);
        check(Variant::Int16(-300), -300.0);
        check(Variant::UInt16(60_000), 60_000.0);
        check(Variant::Int32(-70_000), -70_000.0);
        check(Variant::UInt32(4_000_000_000), 4e9);
        check(Variant::Int64(-(1 << 53)), -9_007_199_254_740_992.0);
        check(Variant::UInt64(1 << 53), 9_007_199_254_740_992.0);
        check(Variant::Float(20.25), 20.25);
        check(Variant::Double(1.5), 1.5);
        let silent = DataValue { value: Some(Variant::Double(1.5)), status: None, ..DataValue::null() };
        assert_eq!(number(&silent), Ok(1.5), "no status is a good one");
    }

    #[test]
    fn what_is_none() {
        fn check(value: DataValue, why: &str) {
            let found = number(&value).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        check(told(Variant::Double(1.0), StatusCode::BadSensorFailure), "the server says BadSensorFailure");
        check(told(Variant::Double(1.0), StatusCode::UncertainLastUsableValue), "UncertainLastUsableValue");
        check(told(Variant::Double(f64::NAN), StatusCode::Good), "not finite");
        check(told(Variant::Float(f32::INFINITY), StatusCode::Good), "not finite");
        check(told(Variant::String("1.0".into()), StatusCode::Good), "no number but a text");
        check(told(Variant::from(vec![1.0, 2.0]), StatusCode::Good), "no number but an array");
        check(told(Variant::from(DateTime::null()), StatusCode::Good), "no number but a time");
        check(told(Variant::Empty, StatusCode::Good), "no value");
        check(DataValue::null(), "no value");
    }

    #[test]
    fn times() {
        let unix = DateTime::from((2026, 1, 31, 10, 0, 0));
        assert_eq!(wall_ms(Some(unix)), Some(1_769_853_600_000));
        assert_eq!(wall_ms(Some(DateTime::null())), None);
        assert_eq!(wall_ms(None), None);
    }
}
