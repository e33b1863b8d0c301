//! Readings as JSON: `{"t_ms": 1700000000000, "values": {"pressure": 1.2}}`, or a list of such.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use wire::world::WallMs;

use super::brought::{Brought, MAX_READINGS, MAX_VALUES, Refusal, bad, check_channels};
use crate::source::csv::MAX_COLUMNS;

/// Reads a body. Never holds more than it may give.
pub(super) fn read(text: &str) -> Result<Vec<Brought>, Refusal> {
    let refuse = |error: serde_json::Error| {
        let reason = error.to_string();
        if reason.contains(TOO_LARGE) {
            return Refusal::TooLarge;
        }
        // It is JSON, and says something else.
        let mend = if error.is_data() { r#" (a reading is {"values": {"channel": 1.5}})"# } else { "" };
        bad("the JSON body", format!("{reason}{mend}"))
    };
    let readings = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Readings>(text).map_err(refuse)?.0
    } else {
        vec![serde_json::from_str::<Reading>(text).map_err(refuse)?]
    };
    let brought = readings.into_iter().enumerate().map(|(at, Reading { t_ms, values })| {
        let place = format!("reading {}", at + 1);
        check_channels(&place, &values.0)?;
        Ok(Brought { place, t_ms, values: values.0 })
    });
    brought.collect()
}

const TOO_LARGE: &str = "more readings or values than a body may have";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    t_ms: Option<WallMs>,
    values: Values,
}

struct Values(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Values, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of channels and their numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values: Vec<(String, f64)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if values.len() == MAX_COLUMNS {
                        return Err(A::Error::custom(format_args!("more than {MAX_COLUMNS} channels")));
                    }
                    let value = map
                        .next_value::<Option<f64>>()
                        .map_err(|error| A::Error::custom(format_args!("channel `{name}`: {error}")))?;
                    values.push((name, value.unwrap_or(f64::NAN)));
                }
                Ok(Values(values))
            }
        }
        from.deserialize_map(Pairs)
    }
}

struct Readings(Vec<Reading>);

impl<'de> Deserialize<'de> for Readings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Readings, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Readings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of readings")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Readings, A::Error> {
                let (mut readings, mut values) = (Vec::new(), 0);
                while let Some(reading) = list.next_element::<Reading>()? {
                    values += reading.values.0.len();
                    if readings.len() == MAX_READINGS || values > MAX_VALUES {
                        return Err(A::Error::custom(TOO_LARGE));
                    }
                    readings.push(reading);
                }
                Ok(Readings(readings))
            }
        }
        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        fn check(text: &str, expected: Result<usize, &str>) {
            match (read(text), expected) {
                (Ok(readings), Ok(count)) => assert_eq!(readings.len(), count, "{text}"),
                (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{text}: {refusal}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        check(r#"{"values":{"a":1}}"#, Ok(1));
        check(r#" [{"values":{"a":1}},{"t_ms":-3,"values":{"a":null}}]"#, Ok(2));
        check("[]", Ok(0));
        check("", Err("EOF"));
        check(r#"{"values":{}}"#, Err("no values"));
        check(r#"{"values":{"a":"1"}}"#, Err("channel `a`: invalid type: string"));
        check(r#"{"values":{"a":1,"a":2}}"#, Err("reading 1: `a` stands there twice"));
        check(r#"{"values":{"a":1},"time":2}"#, Err("unknown field `time`"));
        check(r#"{"t_ms":1.5,"values":{"a":1}}"#, Err("invalid type: floating point"));
        check(r#"{"values":{"a":1e999}}"#, Err("number out of range"));
        check(r#"{"values":{"a\u0000":1}}"#, Err("plain text"));
        check(r#"{"t_ms":1}"#, Err("missing field `values`"));
        check(&"[".repeat(5_000), Err("at line 1"));
        check(r#"{"values":{"a":1}} x"#, Err("trailing"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]{}\":,a1.t_msvalue]{0,60}") {
            let _ = read(&text);
        }
    }
}
