//! The anomaly detector: strictly causal, one sample in, one verdict out.
//!
//! Two questions are asked of each sample. *Surprise* ([`crate::surprise`]): is what just happened unlike the
//! stream's own past? It works from the start and adapts for ever. *State* ([`crate::mewma`]): is the plant still
//! in the state of its learning part? It lives from what several channels have to do with each other, starts after
//! `learn` samples, and then only follows slow wander while all is normal, so that a fault that stays keeps being one.
//! When the state has been another for `relearn_after` samples it is taken for the new normal, and learnt anew.
//!
//! Each is divided by its own limit (a quantile of what it was, times a factor), and the larger is the score: from 1
//! on a sample is anomalous. By default a stream of several channels is asked both questions, a single channel only
//! the first: the univariate streams of NAB wander, and a state learnt once is no reference there.
//!
//! Measured with the defaults. NAB (standard): 66.6 on 25 files, 67.8 on all 58; without NAB's search for a threshold
//! 65.3 and 67.5. SKAB, from sample 400 of each file on: F1 0.81 at 19.5 % false alarms; of the samples of its fault-free
//! run 3 % are called anomalous. A simulated plant: F1 0.86 at 10 % (decision 0037). At 8 channels 34 kB and 5 µs a sample; learning
//! ends in a millisecond.
//!
//! Always holds: a score is finite and at least 0 whatever the input; memory is bounded by the configuration; only
//! starting and ending to learn allocate.

use serde::{Deserialize, Serialize};

use crate::calibrate::{Tail, anomaly_probability};
use crate::mewma::{Learner, Mewma};
use crate::surprise::Surprise;

/// The most channels of a stream: 2 MB.
pub const MAX_CHANNELS: usize = 1024;
/// The most `lag` × `channels` whose state is watched: with one sample a lag learning then holds 2 MB, and its last step takes
/// tens of milliseconds.
pub const MAX_WATCHED: usize = 320;
/// In the learning part, a value further from its mean than so many standard deviations is taken to be that far.
const LEARN_CLIP: f64 = 8.0;
/// Scores behind a probability. Few, for the surprise of an unchanging stream goes on falling as more of it is known.
const SCORES_MEMORY: f64 = 1000.0;
/// An alarm is raised soon after another if its score is so often the other's.
const LOUDER: f64 = 3.0;
/// Inputs beyond this are as large as it: their squares and sums stay finite.
const LARGEST: f64 = 1e60;

/// How a detector looks at its stream. The defaults are one configuration for every stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Values per sample.
    pub channels: usize,
    /// Samples before anything is judged, at least 2.
    #[serde(default = "defaults::warm_up")]
    pub warm_up: u64,
    /// Samples after which the usual, to which surprise is compared, has largely been replaced.
    #[serde(default = "defaults::memory")]
    pub memory: f64,
    /// How often the head's own quantile a surprise must be to score 1.
    #[serde(default = "defaults::surprise_factor")]
    pub surprise_factor: f64,
    /// Whether the state is learnt and watched; `None` is: if there are several channels, but at most
    /// [`MAX_WATCHED`].
    #[serde(default)]
    pub watch_state: Option<bool>,
    /// Samples of the learning part.
    #[serde(default = "defaults::learn")]
    pub learn: u64,
    /// Samples over which the state is averaged.
    #[serde(default = "defaults::lag")]
    pub lag: usize,
    /// Quantile of the learning part at which the state has its limits.
    #[serde(default = "defaults::state_quantile")]
    pub state_quantile: f64,
    /// How often its limit in the learning part a state must be to score 1.
    #[serde(default = "defaults::state_factor")]
    pub state_factor: f64,
    /// Samples for which the state must have been anomalous, on balance, to be learnt anew.
    #[serde(default = "defaults::relearn_after")]
    pub relearn_after: u64,
    /// Samples after an alarm during which no other is raised, unless its score is three times as high.
    #[serde(default = "defaults::refractory")]
    pub refractory: u64,
    /// Samples for which a missing cell is taken to be what it last was.
    #[serde(default = "defaults::hold")]
    pub hold: u32,
}

/// One number per field, with its reason.
mod defaults {
    pub(super) fn warm_up() -> u64 {
        40
    }
    pub(super) fn memory() -> f64 {
        4000.0
    }
    /// The one threshold that serves NAB's standard profile best, on its 25 shared files as on all 58.
    pub(super) fn surprise_factor() -> f64 {
        1.5
    }
    pub(super) fn learn() -> u64 {
        400
    }
    pub(super) fn lag() -> usize {
        10
    }
    pub(super) fn state_quantile() -> f64 {
        0.99
    }
    /// High enough that a wandering plant is mostly called normal, and so followed: at 1.4 seven times as much of SKAB's
    /// fault-free run is anomalous; from 1.4 to 1.6 F1 on the plant moves by 0.01.
    pub(super) fn state_factor() -> f64 {
        1.5
    }
    /// Five learning parts: longer than a fault goes unnoticed, and a plant that has warmed up is judged again.
    pub(super) fn relearn_after() -> u64 {
        2000
    }
    /// From 25 to 150 NAB moves by less than 2 points.
    pub(super) fn refractory() -> u64 {
        75
    }
    pub(super) fn hold() -> u32 {
        10
    }
}

/// Why a detector cannot be built, or a stored one not be trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
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
    /// More than [`MAX_WATCHED`].
    #[error("lag {lag} × {channels} channels exceeds {MAX_WATCHED} numbers")]
    TooLarge {
        /// As configured.
        lag: usize,
        /// As configured.
        channels: usize,
    },
    /// A stored state whose parts do not fit together or hold numbers that no detector reaches.
    #[error("the stored detector is damaged: its {part} cannot be")]
    Damaged {
        /// Which part.
        part: &'static str,
    },
}

/// The verdict on one sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// At least 0, unbounded; from 1 on the sample is anomalous. 0 while warming up.
    pub raw: f64,
    /// The probability of an anomaly, in (0, 1): from how rare the score is among the stream's last one to two thousand
    /// normal samples, beyond their 95 % quantile by a fitted Pareto tail ([`crate::calibrate`]). `None` until there are
    /// a hundred.
    pub probability: Option<f64>,
    /// Whether `raw` is at least 1.
    pub anomalous: bool,
    /// The first anomalous sample after a refractory period without one; within that period, one whose score is three times that of the
    /// alarm before: what was hardly odd must not hide what is.
    pub alarm: bool,
}

/// One channel's part in the last score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Its index in the sample.
    pub channel: usize,
    /// From 0 to 1; all channels together give 1.
    pub share: f64,
}

/// What has happened to the input so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Samples taken.
    pub samples: u64,
    /// Cells that were missing, not finite or not there.
    pub missing: u64,
    /// Of those, cells that were filled with what the channel last was.
    pub held: u64,
}

/// The detector of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Detector {
    config: Config,
    counts: Counts,
    /// Per channel: the last value and for how many samples it has been held.
    cells: Vec<Cell>,
    /// This sample after holding and clamping.
    sample: Vec<Option<f64>>,
    /// Channels that have been missing for longer than they are held.
    #[serde(skip)]
    silent: Vec<bool>,
    surprise: Surprise,
    state: State,
    /// This sample as the state sees it: what is missing is what it last was. Shape: `[channels]` if the state is watched.
    believed: Vec<f64>,
    /// Distribution of the score of samples that were not anomalous, for its probability.
    scores: Tail,
    /// Samples left of the refractory period.
    quiet: u64,
    /// The score of the last alarm.
    loudest: f64,
    /// Whether the last score was the state's rather than the surprise.
    by_state: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    last: Option<f64>,
    held: u32,
}

/// What is known of the normal state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    Unwatched,
    Learning(Learner),
    Learnt {
        mewma: Mewma,
        /// Anomalous samples less others, not below 0.
        estranged: u64,
    },
}

impl Config {
    /// The default configuration for a stream of so many channels. With more than 8 it learns longer, for there is more to
    /// learn; with more than 32 it averages over fewer samples instead.
    pub fn new(channels: usize) -> Config {
        let lag = defaults::lag().min(MAX_WATCHED / channels.max(1)).max(1);
        Config {
            channels,
            warm_up: defaults::warm_up(),
            memory: defaults::memory(),
            surprise_factor: defaults::surprise_factor(),
            watch_state: None,
            learn: defaults::learn().max(5 * (lag * channels) as u64),
            lag,
            state_quantile: defaults::state_quantile(),
            state_factor: defaults::state_factor(),
            relearn_after: defaults::relearn_after(),
            refractory: defaults::refractory(),
            hold: defaults::hold(),
        }
    }

    fn watches_state(&self) -> bool {
        self.watch_state.unwrap_or((2..=MAX_WATCHED).contains(&self.channels))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let share = |x: f64| x > 0.0 && x < 1.0;
        let above_0 = |x: f64| x > 0.0 && x.is_finite();
        let checks = [
            ("channels", self.channels as f64, (1..=MAX_CHANNELS).contains(&self.channels), "1 to 1024"),
            ("warm_up", self.warm_up as f64, self.warm_up >= 2, "at least 2"),
            ("memory", self.memory, self.memory >= 10.0 && self.memory.is_finite(), "at least 10"),
            ("surprise_factor", self.surprise_factor, above_0(self.surprise_factor), "above 0"),
            ("lag", self.lag as f64, self.lag >= 1, "at least 1"),
            ("state_quantile", self.state_quantile, share(self.state_quantile), "between 0 and 1"),
            ("state_factor", self.state_factor, above_0(self.state_factor), "above 0"),
        ];
        for (field, value, holds, must) in checks {
            if !holds {
                return Err(ConfigError::Field { field, must, value });
            }
        }
        if !self.watches_state() {
            return Ok(());
        }
        let size = self.lag.saturating_mul(self.channels);
        if size > MAX_WATCHED {
            return Err(ConfigError::TooLarge { lag: self.lag, channels: self.channels });
        }
        if self.learn < 2 * size as u64 {
            let must = "at least twice lag × channels";
            return Err(ConfigError::Field { field: "learn", must, value: self.learn as f64 });
        }
        Ok(())
    }
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(config: Config) -> Result<Detector, ConfigError> {
        config.check()?;
        let channels = config.channels;
        let state = if config.watches_state() {
            State::Learning(Learner::new(channels, config.lag, config.learn))
        } else {
            State::Unwatched
        };
        Ok(Detector {
            counts: Counts::default(),
            cells: vec![Cell::default(); channels],
            sample: vec![None; channels],
            silent: vec![false; channels],
            surprise: Surprise::new(channels, config.memory),
            state,
            believed: vec![0.0; if config.watches_state() { channels } else { 0 }],
            scores: Tail::new(SCORES_MEMORY),
            quiet: 0,
            loudest: 0.0,
            by_state: false,
            config,
        })
    }

    /// Judges one sample from it and those before it. `values`: `[channels]`; NaN and infinities are missing cells,
    /// as are those a short slice lacks.
    ///
    /// Takes some µs; the step that ends learning takes a millisecond or a few.
    pub fn step(&mut self, values: &[f64]) -> Score {
        self.counts.samples += 1;
        self.fill(values);

        let warm = self.counts.samples > self.config.warm_up;
        let surprise = self.surprise.step(&self.sample) / self.config.surprise_factor;
        let state = self.judge_state() / self.config.state_factor;
        self.by_state = state > surprise;
        let raw = if warm { surprise.max(state).min(f64::MAX) } else { 0.0 };

        let probability = self.probability(raw);
        let anomalous = raw >= 1.0;
        // What is normal is learnt from what was: a long fault must not make itself probable.
        if warm && !anomalous {
            self.scores.push(raw);
        }
        let alarm = anomalous && (self.quiet == 0 || raw >= LOUDER * self.loudest);
        (self.quiet, self.loudest) = match alarm {
            true => (self.config.refractory, raw),
            false => (self.quiet.saturating_sub(1), self.loudest),
        };
        Score { raw, probability, anomalous, alarm }
    }

    /// The probability of an anomaly that a sample with the score `raw` would have now; `None` until a hundred are known.
    pub fn probability(&self, raw: f64) -> Option<f64> {
        (self.scores.total() >= 100.0).then(|| anomaly_probability(self.scores.above(raw)))
    }

    /// Which channels the last score came from, largest share first. Empty if nothing deviated.
    pub fn contributions(&self) -> Vec<Contribution> {
        let mut parts = vec![0.0; self.config.channels];
        match &self.state {
            State::Learnt { mewma, .. } if self.by_state => mewma.contributions(&mut parts),
            _ => self.surprise.contributions(&mut parts),
        }
        let sum: f64 = parts.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Vec::new();
        }
        let mut contributions: Vec<Contribution> = parts
            .iter()
            .enumerate()
            .map(|(channel, part)| Contribution { channel, share: part / sum })
            .collect();
        contributions.sort_by(|a, b| b.share.total_cmp(&a.share));
        contributions
    }

    /// Whether every part of it judges: warmed up, and the state learnt if it is watched.
    pub fn learnt(&self) -> bool {
        self.counts.samples > self.config.warm_up && !matches!(self.state, State::Learning(_))
    }

    /// What has happened to the input so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// As it was built.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything it holds, on the stack and on the heap.
    pub fn state_bytes(&self) -> usize {
        let state = match &self.state {
            State::Unwatched => 0,
            State::Learning(learner) => learner.heap_bytes(),
            State::Learnt { mewma, .. } => mewma.heap_bytes(),
        };
        size_of::<Detector>()
            + self.cells.capacity() * size_of::<Cell>()
            + self.sample.capacity() * size_of::<Option<f64>>()
            + self.silent.capacity()
            + self.believed.capacity() * size_of::<f64>()
            + self.surprise.heap_bytes()
            + self.scores.heap_bytes()
            + state
    }

    /// Fills `sample`: missing cells held for a while, huge ones clamped.
    fn fill(&mut self, values: &[f64]) {
        for (i, (cell, filled)) in self.cells.iter_mut().zip(&mut self.sample).enumerate() {
            *filled = match values.get(i).copied().filter(|value| value.is_finite()) {
                Some(value) => {
                    *cell = Cell { last: Some(value.clamp(-LARGEST, LARGEST)), held: 0 };
                    cell.last
                }
                None => {
                    self.counts.missing += 1;
                    cell.held = cell.held.saturating_add(1);
                    let held = cell.last.filter(|_| cell.held <= self.config.hold);
                    self.counts.held += u64::from(held.is_some());
                    held
                }
            };
        }
    }

    /// Learns or judges the state; 0 while it is not known.
    fn judge_state(&mut self) -> f64 {
        let config = &self.config;
        if matches!(self.state, State::Unwatched) {
            return 0.0;
        }
        let learning = matches!(self.state, State::Learning(_));
        let cells = self.cells.iter().zip(&mut self.silent).zip(&mut self.believed);
        for (channel, ((cell, silent), believed)) in cells.enumerate() {
            *silent = !learning && cell.held > config.hold;
            let value = cell.last.unwrap_or(0.0);
            *believed = if learning { self.surprise.tame(channel, value, LEARN_CLIP) } else { value };
        }
        match &mut self.state {
            State::Unwatched => 0.0,
            State::Learning(learner) => {
                learner.push(&self.believed);
                // If nothing varied yet there is nothing to learn from: another learning part is added.
                if learner.samples().is_multiple_of(config.learn)
                    && let Some(mewma) = learner.learn(config.state_quantile)
                {
                    self.state = State::Learnt { mewma, estranged: 0 };
                }
                0.0
            }
            State::Learnt { mewma, estranged } => {
                // A channel that has been silent too long is what the others say: they are judged without it.
                if self.silent.iter().all(|silent| *silent) {
                    return 0.0;
                }
                let score = mewma.step(&self.believed, &self.silent);
                // Tracks slow wander, but learns nothing from an anomaly.
                if score < config.state_factor {
                    *estranged = estranged.saturating_sub(1);
                    mewma.follow(&self.believed, 1.0 / config.learn as f64);
                } else {
                    *estranged += 1;
                }
                if *estranged > config.relearn_after {
                    self.state = State::Learning(Learner::new(config.channels, config.lag, config.learn));
                }
                score
            }
        }
    }
}

/// A detector as it was stored, before it is trusted.
#[derive(Deserialize)]
struct Stored {
    config: Config,
    counts: Counts,
    cells: Vec<Cell>,
    sample: Vec<Option<f64>>,
    surprise: Surprise,
    state: State,
    believed: Vec<f64>,
    scores: Tail,
    quiet: u64,
    loudest: f64,
    by_state: bool,
}

impl TryFrom<Stored> for Detector {
    type Error = ConfigError;

    fn try_from(stored: Stored) -> Result<Detector, ConfigError> {
        let Stored {
            config,
            counts,
            cells,
            sample,
            surprise,
            state,
            believed,
            scores,
            quiet,
            loudest,
            by_state,
        } = stored;
        config.check()?;
        let channels = config.channels;
        let watched = if config.watches_state() { channels } else { 0 };
        let finite = |list: &[Option<f64>]| list.iter().flatten().all(|x| x.abs() <= LARGEST);
        let state_is_sound = match &state {
            State::Unwatched => true,
            State::Learning(learner) => watched > 0 && learner.is_sound(channels, config.lag, config.learn),
            State::Learnt { mewma, estranged } => {
                watched > 0 && mewma.is_sound(channels, config.lag) && *estranged <= config.relearn_after
            }
        };
        let Counts { samples, missing, held } = counts;
        let parts = [
            ("counts", samples.max(missing).max(held) < 1 << 60),
            ("cells", cells.len() == channels && cells.iter().all(|cell| finite(&[cell.last]))),
            ("sample", sample.len() == channels && finite(&sample)),
            ("surprise", surprise.is_sound(channels)),
            ("state", state_is_sound),
            ("believed", believed.len() == watched && believed.iter().all(|x| x.abs() <= LARGEST)),
            ("scores", scores.is_sound()),
            ("quiet", quiet <= config.refractory),
            ("loudest", loudest >= 0.0 && loudest.is_finite()),
        ];
        match parts.iter().find(|(_, sound)| !sound) {
            Some(&(part, _)) => Err(ConfigError::Damaged { part }),
            None => Ok(Detector {
                config,
                counts,
                cells,
                sample,
                silent: vec![false; channels],
                surprise,
                state,
                believed,
                scores,
                quiet,
                loudest,
                by_state,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number from 0 to 1 that looks like chance.
    fn noise(i: u64) -> f64 {
        let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Eight channels of a running pump that share two rhythms.
    fn pump(i: u64) -> [f64; 8] {
        let t = i as f64;
        std::array::from_fn(|c| {
            let weight = c as f64 / 8.0;
            10.0 * weight
                + weight * (t * 0.11).sin()
                + (1.0 - weight) * (t * 0.031).cos()
                + 0.1 * noise(8 * i + c as u64)
        })
    }

    fn after(config: Config, samples: u64) -> Detector {
        let mut detector = Detector::new(config).unwrap();
        for i in 0..samples {
            detector.step(&pump(i)[..detector.config.channels]);
        }
        detector
    }

    #[test]
    fn a_weak_alarm_hides_no_strong_one() {
        let mut detector = after(Config::new(1), 600);
        let weak = detector.step(&[pump(600)[0] + 2.0]);
        assert!(weak.alarm, "{weak:?}");
        for i in 601..610 {
            assert!(!detector.step(&pump(i)[..1]).anomalous);
        }
        let alike = detector.step(&[pump(610)[0] + 2.5]);
        assert!(!alike.alarm, "{alike:?}");
        let strong = detector.step(&[pump(611)[0] + 200.0]);
        assert!(strong.alarm && strong.raw >= LOUDER * weak.raw, "{strong:?}");
    }

    #[test]
    fn a_fault_that_stays_is_seen_as_long_as_it_stays_and_traced_to_its_channel() {
        let mut detector = after(Config::new(8), 400);
        assert!(detector.learnt());
        let usual: Vec<Score> = (400..1000).map(|i| detector.step(&pump(i))).collect();
        assert!(usual.iter().filter(|score| score.anomalous).count() < 12);
        let mut faulty = Vec::new();
        for i in 1000..1600 {
            let mut sample = pump(i);
            sample[3] = sample[5];
            faulty.push(detector.step(&sample));
        }
        assert!(faulty[20..].iter().all(|score| score.anomalous && score.probability > Some(0.0)));
        let alarms: Vec<usize> = (0..600).filter(|&i| faulty[i].alarm).collect();
        assert!(alarms[0] < 20 && alarms.windows(2).all(|pair| pair[1] - pair[0] > 75), "{alarms:?}");
        let contributions = detector.contributions();
        assert_eq!(contributions[0].channel, 3);
        assert!((contributions.iter().map(|c| c.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_state_that_stays_becomes_the_new_normal() {
        let config = Config { relearn_after: 500, ..Config::new(8) };
        let mut detector = after(config, 1000);
        let changed: Vec<bool> = (1000..3000)
            .map(|i| {
                let mut sample = pump(i);
                sample[2] += 5.0;
                detector.step(&sample).anomalous
            })
            .collect();
        assert!(changed[20..500].iter().all(|&anomalous| anomalous));
        assert!(changed[1000..].iter().filter(|&&anomalous| anomalous).count() < 20);
    }

    #[test]
    fn says_nothing_while_cold() {
        let mut detector = Detector::new(Config::new(1)).unwrap();
        for i in 0..500 {
            let score = detector.step(&[noise(i)]);
            // A hundred samples that were not anomalous, after the warm-up.
            assert!(score.probability.is_none() || i >= 140, "{i}");
            assert!(score.probability.is_some() || i < 200, "{i}");
            assert!(i >= 40 || score.raw == 0.0);
        }
    }

    #[test]
    fn noise_is_rarely_probable_and_a_fault_is() {
        let mut detector = Detector::new(Config::new(1)).unwrap();
        let mut step = |i, fault| detector.step(&[noise(i) + noise(i + 99_991) + fault]).probability;
        let calm: Vec<f64> = (0..20_000).filter_map(|i| step(i, 0.0)).skip(15_000).collect();
        // Where the tail is right, a share p of the samples is as rare as p: even odds stand at 5.5e-4.
        let even = calm.iter().filter(|&&probability| probability >= 0.5).count();
        assert!(even <= 8, "{even} of {}", calm.len());
        assert!((20_000..20_005).any(|i| step(i, 12.0) > Some(0.99)));
    }

    #[test]
    fn a_missing_cell_is_held_for_a_while() {
        let mut detector = after(Config::new(2), 100);
        for _ in 0..30 {
            assert!(!detector.step(&[f64::NAN, pump(99)[1]]).anomalous);
        }
        detector.step(&[]);
        assert_eq!(detector.counts(), Counts { samples: 131, missing: 32, held: 11 });
    }

    #[test]
    fn a_silent_channel_has_no_say_and_the_others_are_judged_without_it() {
        let mut detector = after(Config::new(8), 2000);
        let mut step = |i: u64, fault: f64| {
            let mut sample = pump(i);
            sample[3] = f64::NAN;
            sample[6] += fault;
            detector.step(&sample)
        };
        let quiet: Vec<Score> = (2000..4000).map(|i| step(i, 0.0)).collect();
        let called = quiet.iter().filter(|score| score.anomalous).count();
        assert!(called < 40, "{called} of 2000 while one channel is silent");
        let found = (4000..4200).filter(|i| step(*i, 2.0).anomalous).count();
        assert!(found > 150, "{found} of 200 readings of a fault elsewhere");
        assert!(detector.contributions()[0].channel == 6, "{:?}", detector.contributions());
        for i in 4200..4300 {
            let score = detector.step(&[f64::NAN; 8]);
            assert!(i < 4240 || !score.anomalous);
        }
    }

    #[test]
    fn state_fits_in_64_kb_at_every_step() {
        let mut detector = Detector::new(Config::new(8)).unwrap();
        let mut largest = 0;
        for i in 0..2000 {
            detector.step(&pump(i));
            largest = largest.max(detector.state_bytes());
        }
        assert!(largest <= 64 * 1024, "{largest} bytes");
        assert!(detector.state_bytes() <= 40 * 1024, "{} bytes once learnt", detector.state_bytes());
    }

    #[test]
    fn a_restored_detector_continues_bit_for_bit() {
        for (channels, samples) in [(1, 0), (1, 300), (8, 5), (8, 200), (8, 900)] {
            let mut detector = after(Config::new(channels), samples);
            let stored = serde_json::to_string(&detector).unwrap();
            let mut restored: Detector = serde_json::from_str(&stored).unwrap();
            assert_eq!(restored, detector);
            for i in samples..samples + 300 {
                let sample = &pump(i * 7)[..channels];
                assert_eq!(restored.step(sample), detector.step(sample), "{channels} channels, sample {i}");
            }
        }
    }

    /// Calls `change` with a copy of `json` for each list and number in it, changed in one place.
    fn damage(json: &serde_json::Value, change: &mut dyn FnMut(serde_json::Value)) {
        use serde_json::{Value, json};
        match json {
            Value::Array(list) => {
                change(Value::Array(list[..list.len().saturating_sub(1)].to_vec()));
                change(Value::Array(list.iter().chain(list.first()).cloned().collect()));
                // Lists of numbers are long and alike: two of them stand for the rest.
                for i in [0, list.len() / 2].into_iter().filter(|&i| i < list.len()) {
                    damage(&list[i], &mut |changed| {
                        let mut list = list.clone();
                        list[i] = changed;
                        change(Value::Array(list));
                    });
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    damage(value, &mut |changed| {
                        let mut fields = fields.clone();
                        fields.insert(key.clone(), changed);
                        change(Value::Object(fields));
                    });
                }
            }
            Value::Number(_) => {
                for number in [
                    json!(0),
                    json!(-1),
                    json!(1e300),
                    json!(u64::MAX),
                    json!(1e-300),
                    json!("x"),
                    json!(null),
                ] {
                    change(number);
                }
            }
            _ => change(json!([])),
        }
    }

    #[test]
    fn a_damaged_state_is_refused_or_harmless() {
        for (channels, samples) in [(1, 60), (2, 60), (2, 500)] {
            let config = Config { lag: 3, learn: 100, ..Config::new(channels) };
            let stored = serde_json::to_value(after(config, samples)).unwrap();
            let (mut refused, mut taken) = (0, 0);
            damage(&stored, &mut |changed| match serde_json::from_value::<Detector>(changed) {
                Err(_) => refused += 1,
                Ok(mut detector) => {
                    taken += 1;
                    for i in 0..3 {
                        let score = detector.step(&pump(i)[..channels]);
                        assert!(score.raw.is_finite() && score.raw >= 0.0);
                        detector.contributions();
                    }
                }
            });
            assert!(refused > taken / 2, "{refused} refused, {taken} taken");
        }
    }

    #[test]
    fn configurations_that_cannot_be_are_refused() {
        for channels in [1, 2, 8, 33, 320, 1024] {
            assert!(Detector::new(Config::new(channels)).is_ok(), "{channels}");
        }
        let good = Config::new(2);
        for bad in [
            Config { channels: 0, ..good.clone() },
            Config { channels: usize::MAX, ..good.clone() },
            Config { lag: 0, ..good.clone() },
            Config { lag: usize::MAX, ..good.clone() },
            Config { learn: 39, ..good.clone() },
            Config { memory: f64::NAN, ..good.clone() },
            Config { state_quantile: 1.0, ..good.clone() },
            Config { surprise_factor: 0.0, ..good.clone() },
            Config { state_factor: f64::INFINITY, ..good.clone() },
        ] {
            assert!(Detector::new(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Config>(r#"{"channels": 2, "leg": 3}"#).is_err());
        assert_eq!(serde_json::from_str::<Config>(r#"{"channels": 2}"#).unwrap(), good);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever a sensor sends, a score is a score.
        #[test]
        fn no_input_breaks_it(
            cells in proptest::collection::vec(prop_oneof![
                any::<f64>(), -1.0f64..1.0, Just(f64::NAN), Just(f64::INFINITY), Just(1e300), Just(-1e300), Just(0.0),
            ], 400..800),
            channels in 1usize..4,
        ) {
            let config = Config { lag: 2, learn: 60, warm_up: 2, ..Config::new(channels) };
            let mut detector = Detector::new(config).unwrap();
            for sample in cells.chunks(channels) {
                let score = detector.step(sample);
                prop_assert!(score.raw.is_finite() && score.raw >= 0.0);
                prop_assert!(score.probability.is_none_or(|p| (0.0..1.0).contains(&p)));
                prop_assert!(detector.contributions().iter().all(|c| (0.0..=1.0).contains(&c.share)));
            }
            let stored = serde_json::to_string(&detector).unwrap();
            prop_assert!(serde_json::from_str::<Detector>(&stored).is_ok());
        }
    }
}
