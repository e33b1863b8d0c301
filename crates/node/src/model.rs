//! A model: takes each reading of one source, gives a verdict on it, and says when an anomaly begins and ends.
//!
//! Wraps `signal`'s detector. An anomaly begins with the detector's alarm (at most one in each refractory period) and
//! ends after `calm` readings in a row that are not anomalous, so that a flickering score does not become a hundred
//! events. While a model learns it says nothing: its score and probability are missing, not zero.
//!
//! What it has learnt outlives the process: [`Model::store`] gives it as JSON, [`Model::bind`] takes it back. A stored
//! state of other settings, other channels, or damaged, is not used: the model learns anew, and says why.

use serde::{Deserialize, Serialize};
use signal::detector::{Config, ConfigError, Detector};
use wire::body::{Episode, ModelRef, Share};
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::WallMs;

use crate::flow::model::ModelConfig;

/// The most channels named with an anomaly.
const MAX_SHARES: usize = 16;
/// The form of stored states; others are not read. Form 1 held a detector that looked back at whole samples.
const STORED_FORM: u32 = 2;

/// What a model makes of one reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// At least 0; 1 is the model's threshold. NaN while it learns.
    pub score: f64,
    /// How rare such a score is, in `0.0..1.0`; NaN while that is not known.
    pub probability: f64,
}

impl Verdict {
    /// Nothing to say.
    pub const NONE: Verdict = Verdict { score: f64::NAN, probability: f64::NAN };
}

/// A change that the reading brought about.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An anomaly begins or ends.
    Episode(Anomaly),
    /// The model has learnt and judges from now on.
    Ready,
}

/// One end of an anomaly.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// Which end.
    pub state: Episode,
    /// When it began.
    pub since_ms: WallMs,
    /// The highest score so far.
    pub score: f64,
    /// The probability that goes with it.
    pub probability: Option<f64>,
    /// Which channels drove it, at its highest.
    pub channels: Vec<Share>,
}

/// One model of a flow.
#[derive(Debug, Clone)]
pub struct Model {
    config: ModelConfig,
    bound: Option<Bound>,
    verdict: Verdict,
}

/// A model that knows its channels.
#[derive(Debug, Clone)]
struct Bound {
    channels: Vec<String>,
    detector: Detector,
    running: Option<Running>,
    /// Of the state as it was last stored, or when learning ended.
    digest: Option<Hash>,
}

/// An anomaly that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Running {
    since_ms: WallMs,
    score: f64,
    probability: Option<f64>,
    channels: Vec<Share>,
    /// Readings without anomaly since the last one.
    calm: u64,
}

/// A learnt state on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    form: u32,
    model: PartName,
    channels: Vec<String>,
    running: Option<Running>,
    detector: Detector,
}

/// As much of a stored state as every form has.
#[derive(Debug, Deserialize)]
struct Formed {
    form: u32,
}

/// Why a stored state is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It cannot be read.
    #[error("the stored state is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Another version wrote it.
    #[error("the stored state has form {found}, this version reads {STORED_FORM}")]
    Form {
        /// As found.
        found: u32,
    },
    /// It is of a model with another name.
    #[error("the stored state is of model `{found}`")]
    Model {
        /// As found.
        found: PartName,
    },
    /// The source has other channels now.
    #[error("the stored state was learnt from other channels")]
    Channels,
    /// The flow asks for another detector now.
    #[error("the stored state was learnt with other settings")]
    Settings,
}

impl Model {
    /// A model that does not know its channels yet.
    pub fn new(config: ModelConfig) -> Model {
        Model { config, bound: None, verdict: Verdict::NONE }
    }

    /// Its settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Goes on from what it was in another flow, with the same settings.
    pub fn take_over(&mut self, other: Model) {
        (self.bound, self.verdict) = (other.bound, other.verdict);
    }

    /// Whether it knows these channels already.
    pub fn knows(&self, channels: &[String]) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.channels == channels)
    }

    /// Gives it its channels, and what it had learnt if `stored` is that. A model bound to the same channels already
    /// stays as it is. The inner error says why a stored state was not used; the model learns anew then.
    pub fn bind(
        &mut self,
        channels: &[String],
        stored: Option<&[u8]>,
    ) -> Result<Result<(), StoredError>, ConfigError> {
        if self.bound.as_ref().is_some_and(|bound| bound.channels == channels) {
            return Ok(Ok(()));
        }
        self.bound = None;
        self.verdict = Verdict::NONE;
        let config = self.config.detector(channels.len());
        let fresh = Detector::new(config.clone())?;
        let (detector, running, digest, problem) =
            match stored.map(|stored| self.read(stored, channels, &config)) {
                Some(Ok((detector, running, digest))) => (detector, running, Some(digest), None),
                Some(Err(error)) => (fresh, None, None, Some(error)),
                None => (fresh, None, None, None),
            };
        self.bound = Some(Bound { channels: channels.to_vec(), detector, running, digest });
        Ok(problem.map_or(Ok(()), Err))
    }

    fn read(
        &self,
        stored: &[u8],
        channels: &[String],
        config: &Config,
    ) -> Result<(Detector, Option<Running>, Hash), StoredError> {
        let Formed { form } = serde_json::from_slice(stored).map_err(StoredError::Damaged)?;
        if form != STORED_FORM {
            return Err(StoredError::Form { found: form });
        }
        let Stored { form: _, model, channels: learnt_from, running, detector } =
            serde_json::from_slice(stored).map_err(StoredError::Damaged)?;
        if model != self.config.name {
            return Err(StoredError::Model { found: model });
        }
        if learnt_from != channels {
            return Err(StoredError::Channels);
        }
        if detector.config() != config {
            return Err(StoredError::Settings);
        }
        Ok((detector, running, Hash::of(stored)))
    }

    /// What it has learnt, to be given to [`Model::bind`] after a restart; `None` before it is bound. Its digest is
    /// the model's digest in records from now on.
    pub fn store(&mut self) -> Option<Vec<u8>> {
        let bound = self.bound.as_mut()?;
        let stored = Stored {
            form: STORED_FORM,
            model: self.config.name.clone(),
            channels: bound.channels.clone(),
            running: bound.running.clone(),
            detector: bound.detector.clone(),
        };
        // Numbers, strings and lists.
        let bytes = serde_json::to_vec(&stored).expect("a learnt state is plain data");
        bound.digest = Some(Hash::of(&bytes));
        Some(bytes)
    }

    /// Judges one reading of its source. `values`: `[channels]`.
    pub fn step(&mut self, t_ms: WallMs, values: &[f64]) -> Option<Change> {
        let Some(bound) = &mut self.bound else { return None };
        let was_ready = ready(&self.config, &bound.detector);
        let score = bound.detector.step(values);
        if !ready(&self.config, &bound.detector) {
            return None;
        }
        self.verdict = Verdict { score: score.raw, probability: score.probability.unwrap_or(f64::NAN) };
        let mut change = None;
        match &mut bound.running {
            None if score.alarm => {
                let running = Running {
                    since_ms: t_ms,
                    score: score.raw,
                    probability: score.probability,
                    channels: shares(&bound.channels, &bound.detector),
                    calm: 0,
                };
                change = Some(Change::Episode(running.end(Episode::Begins)));
                bound.running = Some(running);
            }
            None => {}
            Some(running) => {
                if score.raw > running.score {
                    running.score = score.raw;
                    running.probability = score.probability;
                    running.channels = shares(&bound.channels, &bound.detector);
                }
                running.calm = if score.anomalous { 0 } else { running.calm + 1 };
                if running.calm >= self.config.calm {
                    change = Some(Change::Episode(running.end(Episode::Ends)));
                    bound.running = None;
                }
            }
        }
        if !was_ready {
            self.store();
            return Some(Change::Ready);
        }
        change
    }

    /// Says nothing of a reading: what it watches cannot be believed.
    pub fn rest(&mut self) {
        self.verdict = Verdict::NONE;
    }

    /// It broke down: whatever it held is forgotten, until [`Model::bind`] gives it its channels again.
    pub fn fall(&mut self) {
        (self.bound, self.verdict) = (None, Verdict::NONE);
    }

    /// What it made of the last reading.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether it judges.
    pub fn ready(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| ready(&self.config, &bound.detector))
    }

    /// Readings it has seen in its life.
    pub fn samples(&self) -> u64 {
        self.bound.as_ref().map_or(0, |bound| bound.detector.counts().samples)
    }

    /// When the anomaly that is going on began.
    pub fn anomaly_since_ms(&self) -> Option<WallMs> {
        Some(self.bound.as_ref()?.running.as_ref()?.since_ms)
    }

    /// Which model this is, exactly.
    pub fn reference(&self) -> ModelRef {
        let digest = self.bound.as_ref().and_then(|bound| bound.digest);
        ModelRef { name: self.config.name.clone(), variant: self.config.variant(), digest }
    }
}

impl Running {
    fn end(&self, state: Episode) -> Anomaly {
        let Running { since_ms, score, probability, channels, .. } = self.clone();
        Anomaly { state, since_ms, score, probability, channels }
    }
}

fn ready(config: &ModelConfig, detector: &Detector) -> bool {
    detector.learnt() && detector.counts().samples > config.learn
}

fn shares(channels: &[String], detector: &Detector) -> Vec<Share> {
    let parts = detector.contributions();
    let named = parts.iter().take(MAX_SHARES).filter_map(|part| {
        let share = (part.share * 1e4).round() / 1e4;
        Some(Share { channel: channels.get(part.channel)?.clone(), share }).filter(|share| share.share > 0.0)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    fn model(learn: u64) -> Model {
        let text = format!(
            "[source.a]\ntype = \"http\"\nchannels = [\"x\", \"y\"]\n[model.m]\ntype = \"subspace\"\n\
             inputs = [\"source.a\"]\nlag = 2\nlearn = {learn}\ncalm = 5\n"
        );
        Model::new(Flow::parse("flow.toml".as_ref(), text.into()).unwrap().models[0].clone())
    }

    fn channels() -> Vec<String> {
        vec!["x".into(), "y".into()]
    }

    /// Two channels that move together, with a little noise.
    fn normal(at: u64) -> [f64; 2] {
        let t = at as f64;
        [(t * 0.3).sin() + 0.02 * (t * 7.7).sin(), (t * 0.3).sin() + 0.02 * (t * 9.1).cos()]
    }

    #[test]
    fn it_learns_in_silence_then_tells_both_ends_of_an_anomaly() {
        let mut model = model(300);
        model.bind(&channels(), None).unwrap().unwrap();
        let mut told = Vec::new();
        for at in 0..1_000 {
            let [x, y] = normal(at);
            let broken = (600..660).contains(&at);
            let change = model.step(at as i64, &[x, if broken { y + 5.0 } else { y }]);
            assert_eq!(model.verdict().score.is_nan(), at < 300, "at {at}");
            told.extend(change.map(|change| (at, change)));
        }
        let [(ready_at, Change::Ready), (begin_at, Change::Episode(begin)), (end_at, Change::Episode(end))] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!(*ready_at, 300);
        assert!((600..605).contains(begin_at), "{begin_at}");
        assert_eq!((begin.state, end.state), (Episode::Begins, Episode::Ends));
        assert_eq!((begin.since_ms, end.since_ms), (*begin_at as i64, *begin_at as i64));
        assert!(*end_at >= 665 && end.score >= begin.score && begin.score >= 1.0);
        assert!(!begin.channels.is_empty());
    }

    #[test]
    fn what_it_learnt_outlives_the_process() {
        let mut first = model(300);
        first.bind(&channels(), None).unwrap().unwrap();
        for at in 0..400 {
            first.step(at, &normal(at as u64));
        }
        let stored = first.store().unwrap();
        let mut second = model(300);
        second.bind(&channels(), Some(&stored)).unwrap().unwrap();
        assert!(second.ready());
        assert_eq!(second.reference(), first.reference());
        for at in 400..500 {
            assert_eq!(first.step(at, &normal(at as u64)), second.step(at, &normal(at as u64)));
            assert_eq!(first.verdict(), second.verdict());
        }
    }

    #[test]
    fn a_state_that_is_not_its_own_is_not_used() {
        let mut learnt = model(300);
        learnt.bind(&channels(), None).unwrap().unwrap();
        let stored = learnt.store().unwrap();
        let check = |learn: u64, channels: &[String], stored: &[u8], expected: &str| {
            let mut model = model(learn);
            let problem = model.bind(channels, Some(stored)).unwrap().unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(model.samples(), 0);
        };
        check(301, &channels(), &stored, "other settings");
        check(300, &["y".into(), "x".into()], &stored, "other channels");
        check(300, &channels(), &stored[..stored.len() / 2], "damaged");
        check(300, &channels(), b"", "damaged");
        let other = String::from_utf8(stored.clone()).unwrap().replace("\"form\":2", "\"form\":9");
        check(300, &channels(), other.as_bytes(), "form 9");
    }
}
