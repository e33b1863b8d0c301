//! A feature: takes the samples of one channel, gives named numbers every `hop`, which conditions and models read.
//!
//! Wraps `signal`'s features. How many samples a second come may be written in the flow; if it is not, it is measured
//! from the times of the first readings. Then the windows are cut, and the feature says that it is ready.

use signal::feature::envelope::EnvelopeConfig;
use signal::feature::frame::FrameConfig;
use signal::feature::{Feature as Numbers, FeatureConfig as Settings, FeatureError, FeatureKind};
use wire::id::PartName;
use wire::world::WallMs;

/// Bands of a spectrum that were not written: equal parts of what the rate allows.
pub const DEFAULT_BANDS: usize = 8;
/// The rate is measured over so many readings at least, and over so long.
const MEASURE_READINGS: u64 = 64;
const MEASURE_MS: i64 = 2_000;

/// One feature of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureConfig {
    /// Its name.
    pub name: PartName,
    /// Whose channel it is: the source's place in the flow.
    pub source: usize,
    /// The channel; `None`: the only one.
    pub channel: Option<String>,
    /// What is computed.
    pub kind: Kind,
    /// How long a time it looks at.
    pub window_ms: i64,
    /// How often.
    pub hop_ms: i64,
    /// Samples a second; `None`: measured.
    pub rate_hz: Option<f64>,
}

/// What is computed.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Level, spread, peaks, shape.
    Statistics,
    /// Power in bands, in hertz; `None`: in [`DEFAULT_BANDS`] equal ones.
    Spectrum(Option<Vec<(f64, f64)>>),
    /// Blows at multiples of a shaft's speed.
    Envelope(EnvelopeConfig),
    /// Beats of a heart.
    Heart,
}

impl FeatureConfig {
    /// What its numbers are called.
    pub fn names(&self) -> Vec<String> {
        self.signal_kind(1.0).names()
    }

    /// The feature at a rate, in samples.
    pub fn build(&self, rate_hz: f64) -> Result<Numbers, FeatureError> {
        let samples = |ms: i64| (ms as f64 / 1e3 * rate_hz).round().clamp(0.0, 1e9) as usize;
        let frame = FrameConfig { len: samples(self.window_ms), hop: samples(self.hop_ms), rate_hz };
        Numbers::new(Settings { kind: self.signal_kind(rate_hz), frame })
    }

    fn signal_kind(&self, rate_hz: f64) -> FeatureKind {
        match &self.kind {
            Kind::Statistics => FeatureKind::Statistics,
            Kind::Spectrum(Some(bands)) => FeatureKind::Spectrum { bands: bands.clone() },
            Kind::Spectrum(None) => {
                let edge = |at: usize| rate_hz / 2.0 * at as f64 / DEFAULT_BANDS as f64;
                FeatureKind::Spectrum {
                    bands: (0..DEFAULT_BANDS).map(|at| (edge(at), edge(at + 1))).collect(),
                }
            }
            Kind::Envelope(config) => FeatureKind::Envelope(config.clone()),
            Kind::Heart => FeatureKind::Heart,
        }
    }
}

/// One feature of a running flow.
#[derive(Debug, Clone)]
pub struct Feature {
    config: FeatureConfig,
    names: Vec<String>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// Its source is not open, or it cannot work with it.
    Idle,
    Measuring {
        column: usize,
        first_ms: Option<WallMs>,
        readings: u64,
    },
    Running {
        column: usize,
        numbers: Box<Numbers>,
    },
}

/// What came of a reading.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// Numbers are due. Shape: that of the names; NaN where they are missing.
    Numbers(&'a [f64]),
    /// The rate was measured: it works from now on.
    Ready {
        /// Samples a second.
        rate_hz: f64,
    },
    /// The rate was measured, and it cannot work at it.
    Failed(FeatureError),
}

/// Why a feature cannot work with a source.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BindError {
    /// The channel is not there.
    #[error("`source.{source_name}` has no channel `{channel}`")]
    NoChannel {
        /// The source.
        source_name: PartName,
        /// As configured.
        channel: String,
    },
    /// No channel was named and there are several.
    #[error("`source.{source_name}` has {found} channels: say which with `channel`")]
    WhichChannel {
        /// The source.
        source_name: PartName,
        /// As found.
        found: usize,
    },
    /// The rate or what is to be computed at it cannot be.
    #[error(transparent)]
    Feature(#[from] FeatureError),
}

impl Feature {
    /// A feature whose source is not open.
    pub fn new(config: FeatureConfig) -> Feature {
        Feature { names: config.names(), config, state: State::Idle }
    }

    /// Its settings.
    pub fn config(&self) -> &FeatureConfig {
        &self.config
    }

    /// What its numbers are called.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Gives it its source's channels; whatever it held is forgotten.
    pub fn bind(&mut self, source: &PartName, channels: &[String]) -> Result<(), BindError> {
        self.state = State::Idle;
        let column = match &self.config.channel {
            Some(wanted) => channels.iter().position(|channel| channel == wanted).ok_or_else(|| {
                BindError::NoChannel { source_name: source.clone(), channel: wanted.clone() }
            })?,
            None if channels.len() == 1 => 0,
            None => {
                return Err(BindError::WhichChannel { source_name: source.clone(), found: channels.len() });
            }
        };
        self.state = match self.config.rate_hz {
            Some(rate_hz) => State::Running { column, numbers: Box::new(self.config.build(rate_hz)?) },
            None => State::Measuring { column, first_ms: None, readings: 0 },
        };
        Ok(())
    }

    /// Whether it works.
    pub fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Takes one reading of its source. `values`: `[channels]`.
    pub fn step(&mut self, t_ms: WallMs, values: &[f64]) -> Option<Step<'_>> {
        if let State::Measuring { column, first_ms, readings } = &mut self.state {
            let column = *column;
            let since_ms = t_ms.saturating_sub(*first_ms.get_or_insert(t_ms));
            if since_ms < 0 {
                // The clock was set: begin again.
                (*first_ms, *readings) = (Some(t_ms), 1);
                return None;
            }
            *readings += 1;
            if *readings <= MEASURE_READINGS || since_ms < MEASURE_MS {
                return None;
            }
            let rate_hz = (*readings - 1) as f64 / (since_ms as f64 / 1e3);
            return match self.config.build(rate_hz) {
                Ok(numbers) => {
                    self.state = State::Running { column, numbers: Box::new(numbers) };
                    Some(Step::Ready { rate_hz })
                }
                Err(error) => {
                    self.state = State::Idle;
                    Some(Step::Failed(error))
                }
            };
        }
        match &mut self.state {
            State::Running { column, numbers } => {
                numbers.push(t_ms, *values.get(*column)?).map(Step::Numbers)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(kind: Kind, rate_hz: Option<f64>) -> Feature {
        let name = PartName::new("vib").unwrap();
        let channel = Some("x".to_owned());
        Feature::new(FeatureConfig { name, source: 0, channel, kind, window_ms: 1_000, hop_ms: 500, rate_hz })
    }

    fn source() -> PartName {
        PartName::new("acc").unwrap()
    }

    #[test]
    fn a_rate_that_is_not_written_is_measured() {
        for (rate_hz, first) in [(Some(100.0), 990), (None, 3_000)] {
            let mut feature = feature(Kind::Spectrum(None), rate_hz);
            feature.bind(&source(), &["y".into(), "x".into()]).unwrap();
            let mut given = Vec::new();
            for i in 0..500i64 {
                let value = (std::f64::consts::TAU * 10.0 * i as f64 / 100.0).sin();
                match feature.step(i * 10, &[0.0, value]) {
                    Some(Step::Numbers(numbers)) => {
                        assert!(
                            (numbers[1] - 0.5).abs() < 1e-9 && (numbers[8] - 10.0).abs() < 1e-6,
                            "{numbers:?}"
                        );
                        given.push(i * 10);
                    }
                    Some(Step::Ready { rate_hz }) => assert_eq!((i * 10, rate_hz), (2_000, 100.0)),
                    Some(Step::Failed(error)) => panic!("{error}"),
                    None => {}
                }
            }
            assert_eq!(given[0], first);
            assert!(given.windows(2).all(|pair| pair[1] - pair[0] == 500), "{given:?}");
            assert_eq!(feature.names().len(), DEFAULT_BANDS + 3);
        }
    }

    #[test]
    fn what_cannot_work_says_why() {
        let mut statistics = feature(Kind::Statistics, None);
        let error = statistics.bind(&source(), &["y".into()]).unwrap_err().to_string();
        assert_eq!(error, "`source.acc` has no channel `x`");
        assert_eq!(statistics.step(0, &[1.0]), None);
        let mut any = Feature::new(FeatureConfig { channel: None, ..statistics.config().clone() });
        assert!(any.bind(&source(), &["y".into()]).is_ok());
        assert!(
            any.bind(&source(), &["y".into(), "z".into()]).unwrap_err().to_string().contains("say which")
        );
        let mut heart = feature(Kind::Heart, None);
        heart.bind(&source(), &["x".into()]).unwrap();
        let failed: Vec<i64> =
            (0..90).filter(|i| matches!(heart.step(i * 100, &[0.0]), Some(Step::Failed(_)))).collect();
        assert_eq!(failed, [64]);
    }
}
