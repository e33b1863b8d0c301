//! A network in a flow: windows of a source's readings go in, and what it answers becomes fields on the board.
//!
//! Stands where a detector stands. It sees a window when `window` readings came without a gap and without a missing value, and
//! then again after each `hop`; in between its last answer stands. A gap begins another stream: what the network carries from
//! step to step starts at zero. A network that fails gives nothing, is loaded again after 1 s, and waits twice as long after each
//! further failure, up to 5 minutes. The rest of the flow goes on meanwhile.
//!
//! Pure but for its file, which is read when its source opens and after each failure: whoever mends the file mends the network.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use net::after::Answer;
use net::before::Window;
use net::network::{LoadError, Network, Options, RunError};
use net::recipe::{Recipe, RecipeError};
use net::runtime::Kind;
use net::stage::{Material, Stage, StepError};
use wire::body::ModelRef;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{MonoNs, WallMs};

use crate::why::why;

/// The largest file of a network in a flow, in bytes.
const FILE_MAX_BYTES: u64 = 512 << 20;
/// The first wait after a failure.
const RETRY_FIRST_NS: MonoNs = 1_000_000_000;
/// The longest.
const RETRY_LAST_NS: MonoNs = 300_000_000_000;

/// What a flow says of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Its name.
    pub name: PartName,
    /// The source it looks at: its place in the flow's sources.
    pub source: usize,
    /// The ONNX file.
    pub file: PathBuf,
    /// Readings that it looks at together.
    pub window: usize,
    /// Readings from one look to the next.
    pub hop: usize,
    /// A longer silence begins another stream.
    pub max_gap_ms: i64,
    /// What stands before and after it.
    pub recipe: Recipe,
    /// The runtime; `None`: the default of this build.
    pub runtime: Option<Kind>,
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Its file cannot be read.
    #[error("{} cannot be read", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than a network may be.
    #[error("{} has {bytes} bytes, more than the {FILE_MAX_BYTES} of a network in a flow", file.display())]
    Large {
        /// The file.
        file: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// The runtime does not take it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What stands around it does not fit it.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// It cannot look at windows of its source.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Reads the bytes of a network.
fn read(file: &Path) -> Result<Vec<u8>, NetworkError> {
    let unreadable = |source| NetworkError::File { file: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > FILE_MAX_BYTES {
        return Err(NetworkError::Large { file: file.to_owned(), bytes });
    }
    std::fs::read(file).map_err(unreadable)
}

/// What a reading brought about.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// It looked at a window.
    Answered(Answer),
    /// It works again, or for the first time.
    Ready,
    /// It failed, and is tried again later.
    Failed(String),
    /// Its last answer no longer stands: the stream broke off.
    Forgot,
}

/// A network at its place in a flow.
#[derive(Debug)]
pub struct Watcher {
    config: NetworkConfig,
    channels: usize,
    stage: Option<Stage>,
    /// Of the file that was loaded last.
    digest: Option<Hash>,
    /// The last readings, oldest first; shape: `[≤ window, channels]`.
    values: VecDeque<f32>,
    /// Readings since the last look.
    since: usize,
    has_looked: bool,
    last_ms: Option<WallMs>,
    retry_at_ns: MonoNs,
    wait_ns: MonoNs,
}

impl Watcher {
    /// A network that does not know its channels yet.
    pub fn new(config: NetworkConfig) -> Watcher {
        Watcher {
            config,
            channels: 0,
            stage: None,
            digest: None,
            values: VecDeque::new(),
            since: 0,
            has_looked: false,
            last_ms: None,
            retry_at_ns: 0,
            wait_ns: RETRY_FIRST_NS,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Whether its source is open.
    pub fn is_open(&self) -> bool {
        self.channels > 0
    }

    /// Its source has other channels from now on.
    pub fn close(&mut self) {
        self.channels = 0;
        self.stage = None;
    }

    /// Whether it can look at windows.
    pub fn is_ready(&self) -> bool {
        self.stage.is_some()
    }

    /// Which network this is, for records.
    pub fn model(&self) -> ModelRef {
        let runtime = self.stage.as_ref().map_or("none", |stage| stage.network().kind().word());
        let NetworkConfig { name, window, hop, .. } = &self.config;
        let variant = format!("network {runtime} window={window} hop={hop}");
        ModelRef { name: name.clone(), variant, digest: self.digest }
    }

    /// Its source opens with so many channels. If it cannot be loaded it is tried again later.
    pub fn open(&mut self, channels: usize, now_ns: MonoNs) -> Result<(), NetworkError> {
        self.channels = channels;
        self.forget();
        self.load().inspect_err(|_| self.postpone(now_ns))
    }

    /// It stands at another place of another flow now, and says and does the same.
    pub fn moved(&mut self, config: NetworkConfig) {
        self.config = config;
    }

    /// Takes a reading; a missing value is NaN.
    pub fn step(&mut self, t_ms: WallMs, values: &[f64], now_ns: MonoNs) -> Option<Change> {
        let step_ms = self.last_ms.replace(t_ms).map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
        let is_whole = values.iter().all(|value| value.is_finite());
        let broke_off = step_ms > self.config.max_gap_ms || step_ms < 0 || !is_whole;
        let had_answer = broke_off && self.has_looked;
        if broke_off {
            self.forget();
        }
        if self.stage.is_none() {
            if now_ns < self.retry_at_ns {
                return had_answer.then_some(Change::Forgot);
            }
            return Some(match self.load() {
                Ok(()) => Change::Ready,
                Err(error) => {
                    self.postpone(now_ns);
                    Change::Failed(why(&error))
                }
            });
        }
        if !is_whole {
            return had_answer.then_some(Change::Forgot);
        }
        let held = self.config.window * self.channels;
        self.values.extend(values.iter().map(|value| *value as f32));
        while self.values.len() > held {
            self.values.drain(..self.channels);
        }
        self.since += 1;
        let is_due = !self.has_looked || self.since >= self.config.hop;
        if self.values.len() < held || !is_due {
            return had_answer.then_some(Change::Forgot);
        }
        self.since = 0;
        self.has_looked = true;
        Some(self.look(now_ns))
    }

    fn look(&mut self, now_ns: MonoNs) -> Change {
        let stage = self.stage.as_mut().expect("it was asked before");
        let window = Window { values: self.values.make_contiguous(), channels: self.channels };
        match stage.step(&Material { window: Some(window), ..Material::default() }) {
            Ok(answer) => {
                self.wait_ns = RETRY_FIRST_NS;
                Change::Answered(answer)
            }
            Err(error) => {
                let is_lasting =
                    !matches!(error, StepError::Lost { .. } | StepError::Run(RunError::TooLarge { .. }));
                let reason = why(&error);
                self.forget();
                if is_lasting {
                    self.stage = None;
                    self.postpone(now_ns);
                }
                Change::Failed(reason)
            }
        }
    }

    fn load(&mut self) -> Result<(), NetworkError> {
        let bytes = read(&self.config.file)?;
        let options =
            Options { runtime: self.config.runtime, file_bytes_max: FILE_MAX_BYTES, ..Options::default() };
        let network = Network::load(&bytes, &options)?;
        let mut stage = Stage::new(network, self.config.recipe.clone())?;
        // A look at nothing: what does not fit is found out here, and a network is compiled for its window before the first one.
        let nothing = vec![0.0; self.config.window * self.channels];
        let window = Window { values: &nothing, channels: self.channels };
        match stage.step(&Material { window: Some(window), ..Material::default() }) {
            Ok(_) | Err(StepError::Lost { .. }) => stage.begin()?,
            Err(error) => return Err(error.into()),
        }
        self.stage = Some(stage);
        self.digest = Some(Hash::of(&bytes));
        Ok(())
    }

    /// Another stream begins.
    fn forget(&mut self) {
        self.values.clear();
        self.since = 0;
        self.has_looked = false;
        if let Some(stage) = &mut self.stage
            && stage.begin().is_err()
        {
            self.stage = None;
        }
    }

    fn postpone(&mut self, now_ns: MonoNs) {
        self.retry_at_ns = now_ns.saturating_add(self.wait_ns);
        self.wait_ns = self.wait_ns.saturating_mul(2).min(RETRY_LAST_NS);
    }
}

#[cfg(test)]
mod tests {
    use net::after::Field;
    use net::specimen::{Size, constant, model, node, value};

    use super::*;

    const S: MonoNs = 1_000_000_000;

    /// `y = x w` over windows of two readings of two channels: the sum of all of them.
    fn summing() -> Vec<u8> {
        let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[4, 1], &[1.0; 4])];
        let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
        model(&parts, &[port("x", 4)], &[port("y", 1)])
    }

    /// With a file of these bytes, in a folder that lives as long as it is held.
    fn watcher(bytes: &[u8]) -> (Watcher, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sum.onnx");
        std::fs::write(&file, bytes).unwrap();
        let watcher = Watcher::new(NetworkConfig {
            name: PartName::new("sum").unwrap(),
            source: 0,
            file,
            window: 2,
            hop: 3,
            max_gap_ms: 10_000,
            recipe: Recipe::default(),
            runtime: None,
        });
        (watcher, folder)
    }

    fn said(change: Option<Change>) -> Option<f64> {
        match change? {
            Change::Answered(answer) => match answer.fields[0].1 {
                Field::Number(number) => Some(number),
                Field::Word(_) => None,
            },
            Change::Forgot => Some(f64::NEG_INFINITY),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_looks_at_whole_windows_a_hop_apart() {
        let (mut watcher, _folder) = watcher(&summing());
        watcher.open(2, 0).unwrap();
        let mut step = |t_ms: i64, value: f64| said(watcher.step(t_ms * 1000, &[value, 1.0], 0));
        let told: Vec<_> = (0..9).map(|t| step(t, t as f64)).collect();
        assert_eq!(told, [None, Some(3.0), None, None, Some(9.0), None, None, Some(15.0), None]);
        // A missing value, a silence and a step back each begin another stream.
        let forgot = Some(f64::NEG_INFINITY);
        assert_eq!([step(9, f64::NAN), step(10, 1.0), step(11, 2.0)], [forgot, None, Some(5.0)]);
        assert_eq!([step(40, 3.0), step(41, 4.0)], [forgot, Some(9.0)]);
        assert_eq!([step(40, 5.0), step(41, 6.0)], [forgot, Some(13.0)]);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let (mut watcher, _folder) = watcher(b"no network");
        assert!(watcher.open(2, 0).is_err());
        let mut failures = Vec::new();
        for second in 0..40 {
            match watcher.step(second as i64 * 1000, &[1.0, 1.0], second * S) {
                None => {}
                Some(Change::Failed(reason)) => failures.push((second, reason)),
                Some(other) => panic!("{other:?}"),
            }
        }
        let times: Vec<u64> = failures.iter().map(|(second, _)| *second).collect();
        assert_eq!(times, [1, 3, 7, 15, 31]);
        assert!(failures[0].1.contains("no ONNX file"), "{failures:?}");
        // Whole bytes, and it is back by itself.
        std::fs::write(&watcher.config().file, summing()).unwrap();
        assert_eq!(watcher.step(63_000, &[1.0, 1.0], 63 * S), Some(Change::Ready));
        assert_eq!(watcher.model().digest, Some(Hash::of(&summing())));
    }

    #[test]
    fn a_window_that_does_not_fit_is_found_out_when_the_source_opens() {
        let (mut watcher, _folder) = watcher(&summing());
        let error = watcher.open(3, 0).unwrap_err();
        assert_eq!(error.to_string(), "`x` takes 4 numbers, and the window has 6");
        assert!(!watcher.is_ready());
        assert_eq!(watcher.step(0, &[1.0; 3], 0), None);
        assert!(matches!(watcher.step(1, &[1.0; 3], S), Some(Change::Failed(_))));
    }
}
