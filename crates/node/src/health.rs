//! Whether the sensors of a source can be believed: `signal`'s health with channel names, settings and words.
//!
//! Stands between a source and whatever thinks about its readings: a channel whose fault isolates is missing from there
//! on, for models, features and rules alike, until it is well again. Raw records keep what the sensor said.

use serde::{Deserialize, Serialize};
use signal::health::course::{Condition, Fault, Turn};
use signal::health::{Habits, Health as Judge, HealthConfig, HealthError, Limits};
use wire::body::PartChange;
use wire::id::PartName;
use wire::world::WallMs;

/// What is looked for in a source's channels, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HealthSettings {
    /// For all channels.
    pub config: HealthConfig,
    /// The lowest and the highest value that can be true, of channels.
    pub ranges: Vec<(String, (f64, f64))>,
    /// Channels that nothing is looked for in.
    pub ignore: Vec<String>,
}

/// The form of stored habits; others are not read.
const STORED_FORM: u32 = 1;

/// What was learnt of a source's sensors, on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u32,
    source: PartName,
    channels: Vec<String>,
    habits: Habits,
}

/// Why stored habits are not used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// They cannot be read.
    #[error("what was learnt of the sensors is damaged")]
    Damaged(#[source] serde_json::Error),
    /// They are of other channels, or were learnt otherwise.
    #[error("what was learnt of the sensors is of other channels or settings")]
    Other,
}

/// The health of one source's channels.
#[derive(Debug, Clone)]
pub struct Health {
    source: PartName,
    channels: Vec<String>,
    judge: Judge,
    ignored: Vec<bool>,
    believed: Vec<f64>,
    changes: Vec<PartChange>,
    isolated: usize,
}

impl Health {
    /// Health of a source with these channels, of which nothing is known.
    pub fn new(
        source: &PartName,
        channels: &[String],
        settings: &HealthSettings,
    ) -> Result<Health, HealthError> {
        let HealthSettings { config, ranges, ignore } = settings;
        let of = |(name, range): &(String, (f64, f64))| {
            let at = channels.iter().position(|channel| channel == name)?;
            Some((at, Limits { range: Some(*range), ..config.limits.clone() }))
        };
        let config = HealthConfig { of: ranges.iter().filter_map(of).collect(), ..config.clone() };
        Ok(Health {
            source: source.clone(),
            judge: Judge::new(config, channels.len())?,
            ignored: channels.iter().map(|channel| ignore.contains(channel)).collect(),
            believed: vec![f64::NAN; channels.len()],
            channels: channels.to_vec(),
            changes: Vec::new(),
            isolated: 0,
        })
    }

    /// What it has learnt, to be given to [`Health::recall`] after a restart; `None` while that is nothing.
    pub fn store(&self) -> Option<Vec<u8>> {
        let (source, channels) = (self.source.clone(), self.channels.clone());
        let stored = Stored { form: STORED_FORM, source, channels, habits: self.judge.habits()? };
        // Numbers, strings and lists.
        Some(serde_json::to_vec(&stored).expect("habits are plain data"))
    }

    /// Goes on with what was learnt in an earlier life, before the first reading.
    pub fn recall(&mut self, stored: &[u8]) -> Result<(), StoredError> {
        let Stored { form, source, channels, habits } =
            serde_json::from_slice(stored).map_err(StoredError::Damaged)?;
        let is_own = form == STORED_FORM && source == self.source && channels == self.channels;
        if is_own && self.judge.recall(habits) { Ok(()) } else { Err(StoredError::Other) }
    }

    /// Judges one reading. `values`: `[channels]`; gives them as far as they can be believed, NaN where they cannot.
    pub fn step(&mut self, t_ms: WallMs, values: &[f64]) -> &[f64] {
        self.changes.clear();
        self.believed.clear();
        self.believed.extend_from_slice(values);
        for change in self.judge.step(t_ms, &mut self.believed) {
            if self.ignored[change.channel] {
                continue;
            }
            let name = |at: usize| self.channels.get(at).map_or("", String::as_str);
            let (state, reason) = match change.turn {
                Turn::Fell(fault) => {
                    let by = change.sibling.map_or(String::new(), |at| format!(", most from `{}`", name(at)));
                    let state = if change.isolated { "faulty" } else { "suspect" };
                    (state, format!("{}: {}{by}", fault.as_str(), change.reason))
                }
                Turn::Rose(fault) => ("well", format!("it was {}; {}", word(fault), change.reason)),
            };
            self.changes.push(PartChange {
                part: format!("source.{}.{}", self.source, name(change.channel)),
                state: state.to_owned(),
                reason,
            });
        }
        self.isolated = 0;
        for (at, (believed, value)) in self.believed.iter_mut().zip(values).enumerate() {
            if self.ignored[at] {
                *believed = *value;
            } else {
                self.isolated += usize::from(self.judge.isolated(at));
            }
        }
        &self.believed
    }

    /// The last reading as it can be believed. Shape: `[channels]`.
    pub fn believed(&self) -> &[f64] {
        &self.believed
    }

    /// What the last reading changed.
    pub fn changes(&self) -> &[PartChange] {
        &self.changes
    }

    /// Channels that are missing now because their sensors are not believed.
    pub fn isolated(&self) -> usize {
        self.isolated
    }

    /// How a channel is, for screens.
    pub fn condition(&self, channel: usize) -> Condition {
        if self.ignored.get(channel).copied().unwrap_or(true) {
            Condition::Well
        } else {
            self.judge.condition(channel)
        }
    }

    /// Whether a channel is missing now because its sensor is not believed.
    pub fn is_isolated(&self, channel: usize) -> bool {
        !self.ignored.get(channel).copied().unwrap_or(true) && self.judge.isolated(channel)
    }
}

/// What a channel was, in a sentence.
fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::Dead => "dead",
        Fault::Stuck => "stuck",
        Fault::Range => "out of range",
        Fault::Jumps => "leaping",
        Fault::Noisy => "too noisy",
        Fault::Quiet => "too quiet",
        Fault::Drift => "away from its siblings",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> Vec<String> {
        vec!["pressure".into(), "valve".into()]
    }

    fn noise(i: u64) -> f64 {
        ((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn a_fault_is_told_with_its_channel_and_what_is_ignored_is_believed() {
        let settings = HealthSettings {
            ranges: vec![("pressure".into(), (0.0, 16.0)), ("nobody".into(), (0.0, 1.0))],
            ignore: vec!["valve".into()],
            ..HealthSettings::default()
        };
        let source = PartName::new("pump").unwrap();
        let mut health = Health::new(&source, &channels(), &settings).unwrap();
        let mut told = Vec::new();
        for i in 0..1200u64 {
            let (pressure, valve) = match i {
                700..800 => (99.0, 5.0),
                _ => (4.0 + noise(i), if i < 600 { noise(3 * i) } else { 5.0 }),
            };
            let believed = health.step(i as i64 * 1000, &[pressure, valve]);
            assert_eq!(believed[1], valve);
            assert_eq!(believed[0].is_nan(), (700..819).contains(&i), "{i}");
            assert_eq!(health.isolated(), usize::from((702..819).contains(&i)), "{i}");
            told.extend(health.changes().iter().cloned());
        }
        let [fell, rose] = &told[..] else { panic!("{told:?}") };
        assert_eq!((fell.part.as_str(), fell.state.as_str()), ("source.pump.pressure", "faulty"));
        assert_eq!(fell.reason, "range: it was 99, outside 0 to 16");
        assert_eq!((rose.state.as_str(), &rose.reason[..20]), ("well", "it was out of range;"));
    }
}
