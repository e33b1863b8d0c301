//! What a release may take that is ordered to answer beside the current one, and how much of what is asked it answers.
//!
//! Stands in the entry of a release in an assignment. A node that does not know the word refuses the whole assignment, so none
//! installs what it was to compare. Integers only, as in all that is signed.

use serde::{Deserialize, Serialize};

use crate::trust::canonical::Value;
use crate::trust::metadata::{FormError, only};

/// The whole, in the parts in which shares are told.
const WHOLE_PPM: u32 = 1_000_000;
/// The most answers that one node compares.
const ANSWERS_MAX: u32 = 1_000_000;
/// The most joules of a minute that can be told: of 16 kW.
const JOULES_MAX: u32 = 1_000_000;

/// How far a release answers beside the current one, and what that may cost the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of all answers that can be compared, so many in a million are.
    pub share_ppm: u32,
    /// In a minute it may keep one core busy for so many millionths of it.
    pub core_ppm: u32,
    /// Joules that the machine may use in a minute while it answers; absent: any. A node that cannot measure them has no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<u32>,
    /// Bytes of memory that it may take; absent: what the package and the node say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// So many answers are enough of one node.
    pub answers: u32,
}

impl Limits {
    /// Reads what is signed. What is unknown refuses it: without it more could be meant.
    pub fn read(value: &Value) -> Result<Limits, FormError> {
        only(value, "shadow", &["share_ppm", "core_ppm", "joules", "memory", "answers"])?;
        let wrong = |field: &str, expected| FormError::Field { field: field.to_owned(), expected };
        let number = |field: &str, most: u32, expected| {
            let found = value.get(field).and_then(Value::as_u64).and_then(|found| u32::try_from(found).ok());
            found.filter(|found| (1..=most).contains(found)).ok_or_else(|| wrong(field, expected))
        };
        let memory = value.get("memory").map(|memory| {
            memory.as_u64().filter(|bytes| *bytes > 0).ok_or_else(|| wrong("memory", "bytes, above 0"))
        });
        let joules = value.get("joules").map(|_| number("joules", JOULES_MAX, "1 to 1000000"));
        Ok(Limits {
            share_ppm: number("share_ppm", WHOLE_PPM, "1 to 1000000")?,
            core_ppm: number("core_ppm", WHOLE_PPM, "1 to 1000000")?,
            joules: joules.transpose()?,
            memory_bytes: memory.transpose()?,
            answers: number("answers", ANSWERS_MAX, "1 to 1000000")?,
        })
    }

    /// What is signed, and what [`Limits::read`] reads.
    pub fn to_value(&self) -> Value {
        let Limits { share_ppm, core_ppm, joules, memory_bytes, answers } = *self;
        let mut value = Value::object([
            ("answers", u64::from(answers).into()),
            ("core_ppm", u64::from(core_ppm).into()),
            ("share_ppm", u64::from(share_ppm).into()),
        ]);
        if let Some(fields) = value.as_object_mut() {
            fields.extend(joules.map(|joules| ("joules".to_owned(), u64::from(joules).into())));
            fields.extend(memory_bytes.map(|bytes| ("memory".to_owned(), bytes.into())));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { share_ppm: 100_000, core_ppm: 50_000, joules: None, memory_bytes: None, answers: 500 };

    #[test]
    fn what_is_written_is_read() {
        let bounded = Limits { joules: Some(60), memory_bytes: Some(1 << 31), ..LIMITS };
        for limits in [LIMITS, bounded] {
            assert_eq!(Limits::read(&limits.to_value()), Ok(limits));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |field: &str, value: Value, expected: &str| {
            let mut limits = LIMITS.to_value();
            limits.as_object_mut().unwrap().insert(field.to_owned(), value);
            let refused = Limits::read(&limits).unwrap_err().to_string();
            assert!(refused.contains(expected), "{field}: {refused}");
        };
        check("share_ppm", 0u64.into(), "1 to 1000000");
        check("share_ppm", 1_000_001u64.into(), "1 to 1000000");
        check("core_ppm", "much".into(), "1 to 1000000");
        check("joules", 0u64.into(), "1 to 1000000");
        check("memory", Value::Null, "above 0");
        check("answers", 0u64.into(), "1 to 1000000");
        check("at_night", true.into(), "at_night");
        assert!(Limits::read(&true.into()).is_err());
    }
}
