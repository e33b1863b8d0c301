//! Whether a source's sensors can be believed: each channel is well, suspect, faulty or recovering, with a reason.
//!
//! Stands between the source and everything that thinks. Seven faults are looked for: no value, the same value again
//! and again, values out of range, leaps, too much noise, too little, and drift away from channels that move with it
//! (`siblings.rs`). What is usual is learnt from the first readings (`channel.rs`); how findings become a fault and a
//! fault goes again is `course.rs`.
//!
//! A fault *isolates* if its owner says so: then the channel is missing until it is well. By default the dead, the
//! stuck and what is out of range isolate: these no machine can cause. Leaps, noise and drift are told and the values
//! go on, for a machine that breaks does the same to a sensor that is well.
//!
//! Always holds: only learning's end and a channel's turn allocate; memory is bounded by the number of channels.

mod channel;
pub mod course;
mod siblings;

pub use channel::Limits;
use channel::{Channel, Short, Usual};
use course::{Condition, Course, Fault, Turn};
use serde::{Deserialize, Serialize};
use siblings::{Siblings, Tie};

/// The most channels of a source.
pub const MAX_CHANNELS: usize = 4096;

/// What is looked for, and what comes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthConfig {
    /// Values of a channel that say what is usual.
    pub learn: u64,
    /// Readings without a finding that make a channel well again.
    pub recover: u64,
    /// Faults that are looked for.
    pub watch: Vec<Fault>,
    /// Faults that make a channel missing.
    pub isolate: Vec<Fault>,
    /// Limits of channels that have none of their own.
    pub limits: Limits,
    /// Limits of single channels, by their place.
    pub of: Vec<(usize, Limits)>,
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig {
            learn: 400,
            recover: 20,
            watch: Fault::ALL.to_vec(),
            isolate: vec![Fault::Dead, Fault::Stuck, Fault::Range],
            limits: Limits::default(),
            of: Vec::new(),
        }
    }
}

/// Why health cannot be watched this way.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HealthError {
    /// None, or too many.
    #[error("a source has 1 to {MAX_CHANNELS} channels, not {found}")]
    Channels {
        /// As given.
        found: usize,
    },
    /// Too few or too many readings to learn from.
    #[error("`learn` is 50 to 1000000 readings, not {found}")]
    Learn {
        /// As configured.
        found: u64,
    },
    /// A number that makes no sense for its field.
    #[error("`{field}` must be {must}, not {value}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        must: &'static str,
        /// As configured.
        value: f64,
    },
}

/// A channel is told to be faulty, or well again.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The channel's place.
    pub channel: usize,
    /// What fell or rose.
    pub turn: Turn,
    /// Whether the channel is missing from now on.
    pub isolated: bool,
    /// Why, in words; the channel that it parts from is named by its place.
    pub reason: String,
    /// The sibling that a drifting channel is farthest from.
    pub sibling: Option<usize>,
}

/// What was learnt of a source's channels, to go on with after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habits {
    /// Values that said what is usual.
    learn: u64,
    /// Per channel; absent: not known yet.
    channels: Vec<Option<Usual>>,
    /// Who moves with whom; absent: not known yet.
    siblings: Option<Vec<Tie>>,
}

/// The health of one source's channels.
#[derive(Debug, Clone)]
pub struct Health {
    config: HealthConfig,
    channels: Vec<Channel>,
    courses: Vec<Course>,
    siblings: Siblings,
    /// What the siblings are compared by: missing where a channel is not well.
    compared: Vec<f64>,
    changes: Vec<Change>,
}

impl Limits {
    fn check(&self) -> Result<(), HealthError> {
        let (low, high) = self.range.unwrap_or((0.0, 1.0));
        let checks = [
            ("range", high, low < high, "a lowest and a higher value"),
            (
                "dead_after",
                self.dead_after_ms.unwrap_or(1) as f64,
                self.dead_after_ms.is_none_or(|ms| ms > 0),
                "above 0",
            ),
            (
                "stuck_after",
                self.stuck_after.unwrap_or(2) as f64,
                self.stuck_after.is_none_or(|run| run >= 2),
                "at least 2 readings",
            ),
            ("jump", self.jump_factor, self.jump_factor > 1.0, "above 1"),
            ("noise", self.noise_factor, self.noise_factor > 1.0, "above 1"),
        ];
        match checks.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((field, value, _, must)) => Err(HealthError::Field { field, must, value }),
            None => Ok(()),
        }
    }
}

impl Health {
    /// Health of so many channels, of which nothing is known.
    pub fn new(config: HealthConfig, channels: usize) -> Result<Health, HealthError> {
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(HealthError::Channels { found: channels });
        }
        if !(50..=1_000_000).contains(&config.learn) {
            return Err(HealthError::Learn { found: config.learn });
        }
        config.limits.check()?;
        config.of.iter().try_for_each(|(_, limits)| limits.check())?;
        let limits = |at: usize| {
            let own = config.of.iter().find(|(channel, _)| *channel == at);
            own.map_or(&config.limits, |(_, limits)| limits).clone()
        };
        let siblings = if config.watch.contains(&Fault::Drift) { channels } else { 0 };
        Ok(Health {
            channels: (0..channels).map(|at| Channel::new(limits(at))).collect(),
            courses: vec![Course::WELL; channels],
            siblings: Siblings::new(siblings, config.learn),
            compared: vec![f64::NAN; channels],
            changes: Vec::new(),
            config,
        })
    }

    /// What is known of the channels; `None` while nothing is.
    pub fn habits(&self) -> Option<Habits> {
        let learn = self.config.learn;
        let channels: Vec<_> = self.channels.iter().map(|channel| channel.habits(learn)).collect();
        let is_known = channels.iter().any(Option::is_some);
        is_known.then(|| Habits { learn, channels, siblings: self.siblings.habits() })
    }

    /// Goes on with what was known in an earlier life, before the first reading. False, and nothing is changed, if it was learnt
    /// from other channels or otherwise, or cannot be.
    pub fn recall(&mut self, habits: Habits) -> bool {
        let Habits { learn, channels, siblings } = habits;
        let is_sound = channels.iter().flatten().all(Usual::is_sound);
        if learn != self.config.learn || channels.len() != self.channels.len() || !is_sound {
            return false;
        }
        if siblings.is_some_and(|ties| !self.siblings.recall(ties)) {
            return false;
        }
        for (channel, usual) in self.channels.iter_mut().zip(channels) {
            if let Some(usual) = usual {
                channel.recall(usual, learn);
            }
        }
        true
    }

    /// Judges one reading and makes what cannot be believed missing (NaN). `values`: `[channels]`. Gives what changed.
    pub fn step(&mut self, t_ms: i64, values: &mut [f64]) -> &[Change] {
        self.changes.clear();
        self.compare(values);
        for (at, value) in values.iter_mut().enumerate().take(self.channels.len()) {
            let (channel, course) = (&mut self.channels[at], &mut self.courses[at]);
            let well = course.condition() == Condition::Well;
            let own = channel.step(t_ms, *value, self.config.learn, well);
            let parted = || self.siblings.parted(at).then_some(Fault::Drift);
            let found = own.or_else(parted).filter(|fault| self.config.watch.contains(fault));
            let isolates = |fault: Fault| self.config.isolate.contains(&fault);
            if let Some(turn) = course.step(found, self.config.recover) {
                let (reason, sibling) = match turn {
                    Turn::Fell(Fault::Drift) => {
                        let farthest = self.siblings.farthest(at);
                        let by = farthest.map_or(f64::NAN, |(_, distance)| distance.abs());
                        (format!("it parts from the channels that it moves with, by {}", Short(by)), farthest)
                    }
                    Turn::Fell(fault) => (channel.reason(fault, t_ms, *value), None),
                    Turn::Rose(_) => (format!("nothing was found in {} readings", self.config.recover), None),
                };
                let isolated = matches!(turn, Turn::Fell(fault) if isolates(fault));
                let sibling = sibling.map(|(sibling, _)| sibling);
                self.changes.push(Change { channel: at, turn, isolated, reason, sibling });
            }
            let doubtful = match course.condition() {
                Condition::Faulty(fault) | Condition::Recovering(fault) => isolates(fault),
                Condition::Well | Condition::Suspect => false,
            };
            // A single impossible value is missing before the channel is faulty.
            let impossible = match found {
                Some(Fault::Range) => isolates(Fault::Range),
                _ => channel.leapt() && isolates(Fault::Jumps),
            };
            if doubtful || impossible {
                *value = f64::NAN;
            }
        }
        &self.changes
    }

    /// What the siblings say is from the channels that have not failed otherwise: a stuck one must not accuse the rest.
    fn compare(&mut self, values: &[f64]) {
        for (at, (compared, value)) in self.compared.iter_mut().zip(values).enumerate() {
            *compared = match self.courses[at].condition() {
                Condition::Faulty(fault) | Condition::Recovering(fault) if fault != Fault::Drift => f64::NAN,
                _ if !self.channels[at].possible(*value) => f64::NAN,
                _ => value.clamp(-1e60, 1e60),
            };
        }
        self.siblings.step(&self.compared);
    }

    /// How a channel is.
    pub fn condition(&self, channel: usize) -> Condition {
        self.courses.get(channel).map_or(Condition::Well, Course::condition)
    }

    /// Whether a channel is made missing now.
    pub fn isolated(&self, channel: usize) -> bool {
        match self.condition(channel) {
            Condition::Faulty(fault) | Condition::Recovering(fault) => self.config.isolate.contains(&fault),
            Condition::Well | Condition::Suspect => false,
        }
    }

    /// Whether a channel's habits are known.
    pub fn learnt(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|channel| channel.values() >= self.config.learn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number from −1 to 1 that looks like chance.
    fn noise(i: u64) -> f64 {
        let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Pressure, flow and current of a pump that move together, once a second.
    fn pump(i: u64) -> [f64; 3] {
        let t = i as f64;
        let load = (t * 0.03).sin() + 0.4 * (t * 0.0071).cos();
        let own = |c: u64| 0.05 * (noise(3 * i + c) + noise(3 * i + c + 1_000_003));
        [4.0 + 0.8 * load + own(0), 60.0 + 12.0 * load + 10.0 * own(1), 18.0 + 3.0 * load + 3.0 * own(2)]
    }

    /// Runs a pump with a fault in channel 0 from reading 1500 to 1700; gives what was told of it, as
    /// `fault@reading` and `well@reading`, with the reasons, and the readings that were missing.
    fn run(config: HealthConfig, fault: impl Fn(u64, &mut f64)) -> (Vec<String>, Vec<u64>) {
        let mut health = Health::new(config, 3).unwrap();
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        for i in 0..2600 {
            let mut values = pump(i);
            if (1500..1700).contains(&i) {
                fault(i, &mut values[0]);
            }
            for change in health.step(i as i64 * 1000, &mut values) {
                assert_eq!(change.channel, 0, "at {i}: {change:?}");
                let word = match change.turn {
                    Turn::Fell(fault) => fault.as_str(),
                    Turn::Rose(_) => "well",
                };
                told.push(format!("{word}@{i}{} {}", if change.isolated { "!" } else { "" }, change.reason));
            }
            missing.extend(values[0].is_nan().then_some(i));
        }
        (told, missing)
    }

    fn check(what: &str, fault: impl Fn(u64, &mut f64), by: u64, isolates: bool) {
        let (told, missing) = run(HealthConfig::default(), fault);
        // Something lighter may be told before.
        let [.., fell, rose] = &told[..] else { panic!("{what}: {told:?}") };
        assert!(told.len() == 2 || isolates && told.len() == 3 && !told[0].contains('!'), "{what}: {told:?}");
        let at = |text: &str| -> u64 {
            text.split('@').nth(1).unwrap().split([' ', '!']).next().unwrap().parse().unwrap()
        };
        assert!(fell.starts_with(what), "{told:?}");
        assert!((1500..=1500 + by).contains(&at(fell)), "{told:?}");
        assert!(rose.starts_with("well") && (1715..2000).contains(&at(rose)), "{told:?}");
        assert_eq!(fell.contains('!'), isolates, "{told:?}");
        if isolates {
            let expected: Vec<u64> = (at(fell)..at(rose)).collect();
            assert!(expected.iter().all(|i| missing.contains(i)), "{what}: {told:?} {missing:?}");
        } else {
            assert!(missing.is_empty(), "{what}");
        }
    }

    #[test]
    fn what_was_learnt_is_known_after_a_restart() {
        let mut before = Health::new(HealthConfig::default(), 3).unwrap();
        assert_eq!(before.habits(), None);
        for i in 0..1_200 {
            before.step(i as i64 * 1_000, &mut pump(i));
        }
        let text = serde_json::to_string(&before.habits().unwrap()).unwrap();
        let mut after = Health::new(HealthConfig::default(), 3).unwrap();
        assert!(after.recall(serde_json::from_str(&text).unwrap()));
        assert_eq!(after.habits(), before.habits());
        // An hour later, elsewhere: nothing is wrong with that, and a sensor that is stuck from the first reading is found.
        let mut told = Vec::new();
        for i in 4_800..6_000 {
            let mut values = pump(i);
            if i < 5_000 {
                values[1] = 61.5;
            }
            for change in after.step(i as i64 * 1_000, &mut values) {
                told.push((i, change.channel, change.turn));
            }
        }
        let [(fell, 1, Turn::Fell(Fault::Stuck)), (_, 1, Turn::Rose(Fault::Stuck))] = told[..] else {
            panic!("{told:?}")
        };
        assert!(fell < 4_830, "{told:?}");
        // Of other channels, of other settings, or damaged.
        let habits = || serde_json::from_str::<Habits>(&text).unwrap();
        assert!(!Health::new(HealthConfig::default(), 2).unwrap().recall(habits()));
        let other = HealthConfig { learn: 300, ..HealthConfig::default() };
        assert!(!Health::new(other, 3).unwrap().recall(habits()));
        let mut damaged = habits();
        damaged.channels[0].as_mut().unwrap().spoil();
        assert!(!Health::new(HealthConfig::default(), 3).unwrap().recall(damaged));
    }

    #[test]
    fn each_fault_is_found_told_once_and_goes_again() {
        check("stuck", |_, x| *x = 4.25, 30, true);
        check("dead", |_, x| *x = f64::NAN, 10, true);
        check("noisy", |i, x| *x += 0.6 * noise(i), 170, false);
        // It follows the pump, without the noise that was its own.
        let smooth = |t: f64| 4.0 + 0.8 * ((t * 0.03).sin() + 0.4 * (t * 0.0071).cos());
        check("quiet", |i, x| *x = smooth(i as f64), 190, false);
        check("drift", |_, x| *x += 0.5, 120, false);
        check("jumps", |i, x| *x += if i % 20 < 2 { 9.0 } else { 0.0 }, 60, false);
    }

    #[test]
    fn out_of_range_is_missing_at_once_and_a_fault_if_it_lasts() {
        let limits = Limits { range: Some((0.0, 10.0)), ..Limits::default() };
        let config = HealthConfig { of: vec![(0, limits)], ..HealthConfig::default() };
        let (told, missing) = run(config.clone(), |i, x| {
            if i == 1600 {
                *x = 99.0;
            }
        });
        assert!(told.is_empty() && missing == [1600], "{told:?} {missing:?}");
        let (told, missing) = run(config, |_, x| *x = 99.0);
        assert_eq!(
            told,
            ["range@1502! it was 99, outside 0 to 10", "well@1719 nothing was found in 20 readings"]
        );
        assert_eq!(missing, (1500..1719).collect::<Vec<u64>>());
    }

    #[test]
    fn what_does_not_isolate_goes_on_and_what_is_not_watched_is_not_told() {
        let config = HealthConfig { isolate: vec![Fault::Jumps], ..HealthConfig::default() };
        let (_, missing) = run(config, |i, x| {
            if i == 1600 {
                *x += 50.0;
            }
        });
        assert_eq!(missing, [1600, 1601]);
        let config = HealthConfig { watch: vec![Fault::Dead], ..HealthConfig::default() };
        assert_eq!(run(config, |_, x| *x = 4.25), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_channel_that_never_moved_is_not_stuck_and_one_that_never_spoke_is_dead() {
        let mut health = Health::new(HealthConfig::default(), 2).unwrap();
        for i in 0..2000 {
            let mut values = [7.0, noise(i)];
            assert!(health.step(i as i64 * 100, &mut values).is_empty());
        }
        let limits = Limits { dead_after_ms: Some(60_000), ..Limits::default() };
        let mut health = Health::new(HealthConfig { limits, ..HealthConfig::default() }, 2).unwrap();
        let told: Vec<i64> = (0..2000i64)
            .filter(|i| !health.step(i * 100, &mut [f64::NAN, noise(*i as u64)]).is_empty())
            .collect();
        assert_eq!(told, [601]);
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let with = |limits: Limits| HealthConfig { limits, ..HealthConfig::default() };
        for (config, channels, message) in [
            (HealthConfig::default(), 0, "1 to 4096"),
            (HealthConfig { learn: 3, ..HealthConfig::default() }, 1, "50 to"),
            (with(Limits { range: Some((5.0, 5.0)), ..Limits::default() }), 1, "`range`"),
            (with(Limits { dead_after_ms: Some(0), ..Limits::default() }), 1, "`dead_after`"),
            (with(Limits { stuck_after: Some(1), ..Limits::default() }), 1, "`stuck_after`"),
            (with(Limits { jump_factor: f64::NAN, ..Limits::default() }), 1, "`jump`"),
        ] {
            let error = Health::new(config, channels).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever comes: no panic, values are passed as they were or missing, and nothing rises that did not fall.
        #[test]
        fn no_input_breaks_it(
            cells in proptest::collection::vec((-500i64..3000, prop_oneof![
                any::<f64>(), -1.0f64..1.0, Just(f64::NAN), Just(1e300), Just(0.0), Just(3.0),
            ]), 900..1500),
        ) {
            let config = HealthConfig { learn: 50, isolate: Fault::ALL.to_vec(), ..HealthConfig::default() };
            let mut health = Health::new(config, 3).unwrap();
            let (mut t_ms, mut ill) = (0i64, [false; 3]);
            for cells in cells.chunks_exact(3) {
                t_ms += cells[0].0;
                let before: Vec<f64> = cells.iter().map(|(_, value)| *value).collect();
                let mut values = before.clone();
                for change in health.step(t_ms, &mut values) {
                    let falls = matches!(change.turn, Turn::Fell(_));
                    prop_assert!(falls || ill[change.channel]);
                    ill[change.channel] = falls;
                }
                for (channel, (after, before)) in values.iter().zip(&before).enumerate() {
                    prop_assert!(after.is_nan() || after.to_bits() == before.to_bits());
                    prop_assert!(!health.isolated(channel) || after.is_nan());
                }
            }
        }
    }
}
