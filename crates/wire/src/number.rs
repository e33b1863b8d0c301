//! Readings as JSON. A missing or infinite value has no number in JSON, so it is written `null` and read back as NaN:
//! "no value" is never mistaken for zero.
//!
//! For `#[serde(with = "wire::number")]` on an `f64`, and `wire::number::list` on a `Vec<f64>`.

use serde::{Deserialize, Deserializer, Serializer};

/// Writes a finite number as it is, anything else as `null`.
pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_none() }
}

/// Reads a number, or NaN for `null`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// The same for a list of numbers.
pub mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// One number of a list.
    #[derive(Clone, Copy, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Cell(#[serde(with = "super")] f64);

    /// Writes each finite number as it is, anything else as `null`.
    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| Cell(*value)))
    }

    /// Reads numbers, NaN for each `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Cell>::deserialize(from)?.into_iter().map(|cell| cell.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super::list")]
        many: Vec<f64>,
    }

    #[test]
    fn what_is_not_a_number_is_null() {
        let sample = Sample { one: f64::INFINITY, many: vec![1.5, f64::NAN, -2.0] };
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(text, r#"{"one":null,"many":[1.5,null,-2.0]}"#);
        let back: Sample = serde_json::from_str(&text).unwrap();
        assert!(back.one.is_nan() && back.many[1].is_nan());
        assert_eq!((back.many[0], back.many[2]), (1.5, -2.0));
    }
}
