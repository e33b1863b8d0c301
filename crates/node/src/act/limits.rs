//! What an actuator may be set to, how often, how fast, and for how long: the numbers of its envelope, as they are declared.

use serde::{Deserialize, Serialize};
use wire::body::act::{Setting, WORD_MAX_BYTES};

/// The most words of one actuator.
pub const WORDS_MAX: usize = 32;

/// What an actuator may be set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// One of these.
    Words(Vec<String>),
    /// A number of this range, both ends included.
    Range {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
}

impl Allowed {
    /// Whether a setting is one of them; the error says what would be.
    pub fn check(&self, setting: &Setting) -> Result<(), String> {
        match (self, setting) {
            (Allowed::Words(words), Setting::Word(word)) if words.contains(word) => Ok(()),
            (Allowed::Words(words), other) => {
                let mut shown = other.to_string();
                shown.truncate(shown.floor_char_boundary(64));
                Err(format!("{shown:?} is not among its values: {}", words.join(", ")))
            }
            (Allowed::Range { min, max }, Setting::Number(number)) if (*min..=*max).contains(number) => {
                Ok(())
            }
            (Allowed::Range { min, max }, Setting::Number(number)) => {
                Err(format!("{number} is outside its range, {min} to {max}"))
            }
            (Allowed::Range { min, max }, Setting::Word(_)) => {
                Err(format!("it is set to a number from {min} to {max}, not to a word"))
            }
        }
    }

    /// Reads what a person or a device wrote.
    pub fn read(&self, text: &str) -> Result<Setting, String> {
        let text = text.trim();
        if text.len() > WORD_MAX_BYTES {
            return Err(format!("a setting has at most {WORD_MAX_BYTES} bytes, this one has {}", text.len()));
        }
        match self {
            Allowed::Words(_) => Ok(Setting::Word(text.to_owned())),
            Allowed::Range { .. } => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Setting::Number(number)),
                _ => Err(format!("{text:?} is not a number")),
            },
        }
    }
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long, in milliseconds.
    pub per_ms: u64,
}

impl Rate {
    /// Reads `6/min`. Units: s, min, h, d.
    pub fn parse(text: &str) -> Result<Rate, String> {
        let (count, per_ms) = per(text)?;
        match count {
            count if count.fract() == 0.0 && (1.0..=1_000.0).contains(&count) => {
                Ok(Rate { count: count as u32, per_ms })
            }
            _ => Err(format!("{text:?}: a rate is a whole number from 1 to 1000, as in \"6/min\"")),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = UNITS.iter().find(|(_, ms)| *ms == self.per_ms).map_or("?", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.count)
    }
}

const UNITS: [(&str, u64); 4] = [("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a slew such as `10/s`: how far a number may move, a second.
pub fn slew_per_s(text: &str) -> Result<f64, String> {
    let (far, per_ms) = per(text)?;
    let slew = far * 1_000.0 / per_ms as f64;
    if slew > 0.0 { Ok(slew) } else { Err(format!("{text:?}: a slew is above 0, as in \"10/s\"")) }
}

fn per(text: &str) -> Result<(f64, u64), String> {
    let refuse = || format!("{text:?} is not a number by a time, such as \"6/min\" (units s, min, h, d)");
    let (number, unit) = text.split_once('/').ok_or_else(refuse)?;
    let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    number.zip(unit.map(|(_, ms)| *ms)).ok_or_else(refuse)
}

/// The envelope of one actuator.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// What it may be set to.
    pub allowed: Allowed,
    /// What it goes back to; one of the allowed. Always allowed, at any time, at once.
    pub safe: Setting,
    /// How often it may be sent to another setting than the safe one.
    pub rate: Rate,
    /// How far a number may move a second; `None`: at once. The way back to the safe setting is always taken at once.
    pub slew_per_s: Option<f64>,
    /// Whether it may only leave its safe setting while a condition holds.
    pub interlocked: bool,
    /// How long the word of a rule or an agent stands if it is not renewed; also how long the guard waits for a node that says
    /// nothing.
    pub lease_ms: u64,
    /// The longest that the word of a person may stand.
    pub longest_ms: u64,
    /// How far what a device says may be from the number that it was set to.
    pub tolerance: f64,
    /// Whether agents may ask for it at all.
    pub agents: bool,
}

impl Limits {
    /// Whether what the device says is what it was set to.
    pub fn agrees(&self, set: &Setting, read: &Setting) -> bool {
        match (set, read) {
            (Setting::Number(set), Setting::Number(read)) => (set - read).abs() <= self.tolerance,
            (set, read) => set == read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        fn check(text: &str, expected: Option<(u32, u64)>) {
            assert_eq!(Rate::parse(text).ok().map(|rate| (rate.count, rate.per_ms)), expected, "{text}");
        }
        check("6/min", Some((6, 60_000)));
        check(" 1 / d ", Some((1, 86_400_000)));
        check("0/s", None);
        check("1.5/s", None);
        check("6", None);
        check("6/fortnight", None);
        check("-1/s", None);
        assert_eq!(Rate::parse("6/min").unwrap().to_string(), "6/min");
        assert_eq!(slew_per_s("30/min"), Ok(0.5));
        assert!(slew_per_s("0/s").is_err() && slew_per_s("inf/s").is_err());
    }

    #[test]
    fn what_may_be_set() {
        let words = Allowed::Words(vec!["open".into(), "closed".into()]);
        let range = Allowed::Range { min: 0.0, max: 100.0 };
        let word = |text: &str| Setting::Word(text.into());
        assert_eq!(words.check(&word("open")), Ok(()));
        assert!(words.check(&word("ajar")).unwrap_err().contains("open, closed"));
        assert!(words.check(&Setting::Number(1.0)).is_err());
        assert_eq!(range.check(&Setting::Number(100.0)), Ok(()));
        assert!(range.check(&Setting::Number(100.1)).is_err());
        assert!(range.check(&Setting::Number(f64::NAN)).is_err());
        assert!(range.check(&word("open")).is_err());
        assert_eq!(range.read(" 3.5\n"), Ok(Setting::Number(3.5)));
        assert!(range.read("inf").is_err() && range.read("open").is_err());
        assert_eq!(words.read("open\n"), Ok(word("open")));
        assert!(words.read(&"x".repeat(300)).is_err());
        // A long word of a stranger is cut between characters.
        assert!(words.check(&word(&"ü".repeat(100))).is_err());
    }
}
