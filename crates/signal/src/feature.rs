//! Numbers that say more of a channel than its samples: statistics, spectra, envelopes, heart beats.
//!
//! A feature takes the samples of one channel, each once, and gives a handful of named numbers every `hop` samples,
//! made from the last `window`. What cannot be computed is missing (NaN): too much of the frame was, or nothing in it
//! varied. Rules and models read the numbers as they read channels.
//!
//! Always holds: one push gives at most one set of numbers; only building allocates; what a sensor sends never panics.

pub mod envelope;
pub mod frame;
pub mod heart;
pub mod spectrum;
pub mod statistics;

use envelope::{Envelope, EnvelopeConfig, EnvelopeError};
use frame::{FrameConfig, FrameError, Frames};
use heart::Heart;
use heart::beat::RateError;
use spectrum::{Band, Spectrum, SpectrumError};

/// What is computed from a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureKind {
    /// Level, spread, peaks, shape.
    Statistics,
    /// Power in bands.
    Spectrum {
        /// In hertz.
        bands: Vec<Band>,
    },
    /// Blows at multiples of a shaft's speed.
    Envelope(EnvelopeConfig),
    /// Beats of a heart.
    Heart,
}

/// A feature's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureConfig {
    /// What is computed.
    pub kind: FeatureKind,
    /// From which run of samples, how often.
    pub frame: FrameConfig,
}

/// Why a feature cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FeatureError {
    /// Its frames cannot be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its bands cannot be.
    #[error(transparent)]
    Spectrum(#[from] SpectrumError),
    /// Its band or its orders cannot be.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A heart cannot be heard at this rate.
    #[error(transparent)]
    Heart(#[from] RateError),
}

/// The feature of one channel.
#[derive(Debug, Clone)]
pub struct Feature {
    names: Vec<String>,
    out: Vec<f64>,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    Statistics(Frames),
    Spectrum(Frames, Box<Spectrum>),
    Envelope(Frames, Box<Envelope>),
    Heart { heart: Box<Heart>, config: FrameConfig, taken: usize, last_ms: Option<i64> },
}

impl FeatureKind {
    /// What its numbers are called.
    pub fn names(&self) -> Vec<String> {
        match self {
            FeatureKind::Statistics => statistics::NAMES.map(str::to_owned).to_vec(),
            FeatureKind::Spectrum { bands } => spectrum::names(bands.len()),
            FeatureKind::Envelope(config) => envelope::names(&config.orders),
            FeatureKind::Heart => heart::NAMES.map(str::to_owned).to_vec(),
        }
    }
}

impl Feature {
    /// A feature that has seen nothing.
    pub fn new(config: FeatureConfig) -> Result<Feature, FeatureError> {
        let frames = Frames::new(config.frame)?;
        let FrameConfig { len, rate_hz, .. } = config.frame;
        let names = config.kind.names();
        let by = match config.kind {
            FeatureKind::Statistics => By::Statistics(frames),
            FeatureKind::Spectrum { bands } => {
                By::Spectrum(frames, Box::new(Spectrum::new(len, rate_hz, &bands)?))
            }
            FeatureKind::Envelope(config) => {
                By::Envelope(frames, Box::new(Envelope::new(len, rate_hz, config)?))
            }
            FeatureKind::Heart => {
                let heart = Box::new(Heart::new(rate_hz, len)?);
                By::Heart { heart, config: config.frame, taken: 0, last_ms: None }
            }
        };
        Ok(Feature { out: vec![f64::NAN; names.len()], names, by })
    }

    /// What its numbers are called.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes one sample; gives the numbers that are due with it, in the order of [`Feature::names`]. What is not
    /// finite is missing.
    pub fn push(&mut self, t_ms: i64, value: f64) -> Option<&[f64]> {
        let Feature { out, by, .. } = self;
        match by {
            By::Statistics(frames) => {
                let rate_hz = frames.config().rate_hz;
                let frame = frames.push(t_ms, value)?;
                let mut numbers = [f64::NAN; statistics::NAMES.len()];
                if frame.sound {
                    statistics::measure(frame.values, rate_hz, &mut numbers);
                }
                out.copy_from_slice(&numbers);
            }
            By::Spectrum(frames, spectrum) => match frames.push(t_ms, value)? {
                frame if frame.sound => spectrum.measure(frame.values, out),
                _ => out.fill(f64::NAN),
            },
            By::Envelope(frames, envelope) => match frames.push(t_ms, value)? {
                frame if frame.sound => envelope.measure(frame.values, out),
                _ => out.fill(f64::NAN),
            },
            By::Heart { heart, config, taken, last_ms } => {
                let step_ms = last_ms.replace(t_ms).map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
                // A clock set back, or a second without a sample.
                if !(0..=1000).contains(&step_ms) {
                    heart.clear();
                }
                heart.push(value);
                *taken += 1;
                if *taken < config.hop {
                    return None;
                }
                *taken = 0;
                let mut numbers = [f64::NAN; heart::NAMES.len()];
                heart.measure(&mut numbers);
                out.copy_from_slice(&numbers);
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> Vec<FeatureKind> {
        let orders = vec![("outer".to_owned(), 3.0)];
        vec![
            FeatureKind::Statistics,
            FeatureKind::Spectrum { bands: vec![(0.0, 20.0), (20.0, 64.0)] },
            FeatureKind::Envelope(EnvelopeConfig { band: (20.0, 60.0), shaft_hz: 5.0, orders }),
            FeatureKind::Heart,
        ]
    }

    fn feature(kind: FeatureKind) -> Feature {
        Feature::new(FeatureConfig { kind, frame: FrameConfig { len: 128, hop: 32, rate_hz: 128.0 } })
            .unwrap()
    }

    #[test]
    fn numbers_come_every_hop_and_have_names() {
        for kind in kinds() {
            let mut feature = feature(kind.clone());
            let times: Vec<i64> = (0..1024)
                .filter(|i| feature.push(i * 1000 / 128, (*i as f64 * 0.7).sin()).is_some())
                .collect();
            assert!(
                times.windows(2).all(|pair| pair[1] - pair[0] == 32) && times.len() > 27,
                "{kind:?}: {times:?}"
            );
            assert_eq!(feature.names().len(), feature.out.len());
        }
    }

    #[test]
    fn a_frame_of_another_pace_is_missing() {
        for kind in kinds().into_iter().take(3) {
            let mut feature = feature(kind);
            let mut seen = 0;
            for i in 0..512 {
                if let Some(numbers) = feature.push(i * 12, (i as f64 * 0.7).sin()) {
                    assert!(numbers.iter().all(|x| x.is_nan()));
                    seen += 1;
                }
            }
            assert!(seen > 5);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever a sensor sends: no panic, and every number is finite or missing.
        #[test]
        fn no_input_breaks_it(
            samples in proptest::collection::vec((-40i64..60, prop_oneof![
                any::<f64>(), -1.0f64..1.0, Just(f64::NAN), Just(1e300), Just(-1e300), Just(0.0),
            ]), 200..400),
        ) {
            for kind in kinds() {
                let mut feature = feature(kind);
                let mut t_ms = 0;
                for (step_ms, value) in &samples {
                    t_ms += step_ms;
                    if let Some(numbers) = feature.push(t_ms, *value) {
                        prop_assert!(numbers.iter().all(|x| !x.is_infinite()));
                    }
                }
            }
        }
    }
}
