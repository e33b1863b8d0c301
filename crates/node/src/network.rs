//! A network in a flow: windows of a source's readings go in, and what it answers becomes fields on the board.
//!
//! Stands where a detector stands. It sees a window when `window` readings came without a gap and without a missing value, and
//! then again after each `hop`; in between its last answer stands. A gap begins another stream: what the network carries from
//! step to step starts at zero. Of a source of pictures it looks at one picture at a time, at each `hop`-th; boxes may be followed
//! from picture to picture and counted where they cross lines ([`crate::crossing`]). A network that fails gives nothing, is loaded again after 1 s, and waits twice as long after each
//! further failure, up to 5 minutes. The rest of the flow goes on meanwhile.
//!
//! Its bytes are a file's, or those of the [release](releases) that serves: when another one does, it is loaded at the next
//! reading, and until it is, the one before goes on. What becomes of a release is told to the slots, which send back one that is
//! no good.
//!
//! Pure but for its file, which is read when its source opens and after each failure: whoever mends the file mends the network.

pub mod releases;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::after::{Answer, Field};
use net::before::{Fill, Window};
use net::network::{LoadError, Network, Options, RunError};
use net::picture::Picture;
use net::recipe::{Recipe, RecipeError};
use net::runtime::Kind;
use net::stage::{Material, Stage, StepError};
use package::name::ModelName;
use wire::body::ModelRef;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{MonoNs, WallMs};

use self::releases::{Given, Releases, Told};
use crate::crossing::{Counter, Line};
use crate::why::why;

/// The largest file of a network in a flow, in bytes.
pub(crate) const FILE_MAX_BYTES: u64 = 512 << 20;
/// The first wait after a failure.
const RETRY_FIRST_NS: MonoNs = 1_000_000_000;
/// The longest.
const RETRY_LAST_NS: MonoNs = 300_000_000_000;
/// How often answers of a release are told of: enough for a trial, and no flood.
const TELL_EVERY_NS: MonoNs = 100_000_000;

/// Where the bytes of a network come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An ONNX file.
    File(PathBuf),
    /// The release that serves under this name.
    Release(ModelName),
}

/// What a flow says of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Its name.
    pub name: PartName,
    /// The source it looks at: its place in the flow's sources.
    pub source: usize,
    /// Where its bytes come from.
    pub from: Origin,
    /// Readings that it looks at together.
    pub window: usize,
    /// Readings from one look to the next.
    pub hop: usize,
    /// A longer silence begins another stream.
    pub max_gap_ms: i64,
    /// What stands before and after it; of a release, if this says nothing, what its package says.
    pub recipe: Recipe,
    /// The runtime; `None`: the default of this build.
    pub runtime: Option<Kind>,
    /// Whether its source gives pictures.
    pub pictures: bool,
    /// Where its boxes are counted.
    pub lines: Vec<Line>,
    /// Whether each look is recorded, and not only changes.
    pub record_each: bool,
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
    /// None has come yet, or it went.
    #[error("no release of `{model}` serves here: `[packages]` in node.toml brings those that are assigned")]
    NoRelease {
        /// The model.
        model: ModelName,
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
    /// It looks at pictures, and its source gives none.
    #[error(
        "it looks at pictures, and its source gives numbers: give it a source of type \"images\", \"rtsp\" or \"camera\""
    )]
    Blind,
    /// It looks at pictures, and shall look at several together.
    #[error("it looks at one picture at a time: leave out `window`")]
    Several,
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
    /// Whether it looks at pictures.
    sees: bool,
    counter: Counter,
    /// Whether something crossed a line at the last look.
    crossed: bool,
    last_ms: Option<WallMs>,
    retry_at_ns: MonoNs,
    wait_ns: MonoNs,
    releases: Releases,
    /// The releases' turn when they were last looked at.
    turn: u64,
    /// The release that is loaded.
    given: Option<Arc<Given>>,
    /// When an answer was last told of.
    told_ns: Option<MonoNs>,
}

impl Watcher {
    /// A network that does not know its channels yet.
    pub fn new(config: NetworkConfig) -> Watcher {
        Watcher {
            counter: Counter::new(config.lines.clone()),
            sees: false,
            crossed: false,
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
            releases: Releases::default(),
            turn: 0,
            given: None,
            told_ns: None,
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

    /// Whether it looks at pictures; known once it is loaded.
    pub fn sees(&self) -> bool {
        self.sees
    }

    /// Whether the last look is to be recorded, though it says what was said before.
    pub fn is_worth_a_record(&self) -> bool {
        self.config.record_each || self.crossed
    }

    /// Which network this is, for records.
    pub fn model(&self) -> ModelRef {
        let runtime = self.stage.as_ref().map_or("none", |stage| stage.network().kind().word());
        let NetworkConfig { name, window, hop, .. } = &self.config;
        let release =
            self.given.as_ref().map_or(String::new(), |given| format!(" release={}", given.release));
        let variant = match self.sees {
            true => format!("network {runtime} pictures hop={hop}{release}"),
            false => format!("network {runtime} window={window} hop={hop}{release}"),
        };
        ModelRef { name: name.clone(), variant, digest: self.digest }
    }

    /// If it comes as a release, it comes from there.
    pub fn join(&mut self, releases: Releases) {
        self.releases = releases;
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

    /// Takes a picture, and the numbers that were measured of it: those are what a network of windows looks at.
    pub fn see(&mut self, t_ms: WallMs, picture: &Picture, values: &[f64], now_ns: MonoNs) -> Option<Change> {
        let turned = self.turn_to(now_ns);
        if turned.is_some() {
            return turned;
        }
        if !self.sees {
            return self.step(t_ms, values, now_ns);
        }
        let step_ms = self.last_ms.replace(t_ms).map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
        let broke_off = step_ms > self.config.max_gap_ms || step_ms < 0;
        let had_answer = broke_off && self.has_looked;
        if broke_off {
            self.forget();
        }
        if self.stage.is_none() {
            return self.retry(now_ns).or_else(|| had_answer.then_some(Change::Forgot));
        }
        self.since += 1;
        if self.has_looked && self.since < self.config.hop {
            return had_answer.then_some(Change::Forgot);
        }
        self.since = 0;
        self.has_looked = true;
        let change = self.look(&Material { picture: Some(picture), ..Material::default() }, now_ns);
        Some(match change {
            Change::Answered(mut answer) => {
                self.crossed = self.counter.step(t_ms, &answer.boxes);
                let counts = self.counter.fields();
                answer.fields.extend(counts.map(|(name, count)| (name, Field::Number(count))));
                Change::Answered(answer)
            }
            other => other,
        })
    }

    /// Takes a reading; a missing value is NaN.
    pub fn step(&mut self, t_ms: WallMs, values: &[f64], now_ns: MonoNs) -> Option<Change> {
        let turned = self.turn_to(now_ns);
        if turned.is_some() {
            return turned;
        }
        if self.sees {
            // Only a rehearsal gives numbers without their picture.
            return None;
        }
        let step_ms = self.last_ms.replace(t_ms).map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
        let is_whole = values.iter().all(|value| value.is_finite());
        let broke_off = step_ms > self.config.max_gap_ms || step_ms < 0 || !is_whole;
        let had_answer = broke_off && self.has_looked;
        if broke_off {
            self.forget();
        }
        if self.stage.is_none() {
            return self.retry(now_ns).or_else(|| had_answer.then_some(Change::Forgot));
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
        let values = std::mem::take(&mut self.values);
        let values: Vec<f32> = values.into();
        let window = Window { values: &values, channels: self.channels };
        let change = self.look(&Material { window: Some(window), ..Material::default() }, now_ns);
        // A failure has begun another stream.
        if self.has_looked {
            self.values = values.into();
        }
        Some(change)
    }

    /// It broke down while it worked: it is loaded again later.
    pub fn fall(&mut self, now_ns: MonoNs) {
        // Not asked to begin anew: nobody knows how it was left.
        self.stage = None;
        self.forget();
        self.postpone(now_ns);
    }

    /// Loads it, if it is time to try that again.
    fn retry(&mut self, now_ns: MonoNs) -> Option<Change> {
        let waits_for_release = match &self.config.from {
            Origin::File(_) => false,
            Origin::Release(model) => self.releases.get(model).is_none(),
        };
        if now_ns < self.retry_at_ns || waits_for_release {
            return None;
        }
        Some(match self.load() {
            Ok(()) => Change::Ready,
            Err(error) => {
                self.postpone(now_ns);
                Change::Failed(why(&error))
            }
        })
    }

    fn look(&mut self, material: &Material<'_>, now_ns: MonoNs) -> Change {
        let stage = self.stage.as_mut().expect("it was asked before");
        match stage.step(material) {
            Ok(answer) => {
                self.wait_ns = RETRY_FIRST_NS;
                Change::Answered(answer)
            }
            Err(error) => {
                let is_lasting =
                    !matches!(error, StepError::Lost { .. } | StepError::Run(RunError::TooLarge { .. }));
                let reason = why(&error);
                self.forget();
                self.tell(if is_lasting {
                    Told::Broke(reason.clone())
                } else {
                    Told::Answered { ms: 0, ok: false }
                });
                if is_lasting {
                    self.stage = None;
                    self.postpone(now_ns);
                }
                Change::Failed(reason)
            }
        }
    }

    /// Takes the release that serves now, if it is another; `None`: nothing is different, or what is new is no good and what was
    /// there goes on.
    fn turn_to(&mut self, now_ns: MonoNs) -> Option<Change> {
        let Origin::Release(model) = &self.config.from else { return None };
        let turn = self.releases.turn();
        if turn == std::mem::replace(&mut self.turn, turn) {
            return None;
        }
        let serves = self.releases.get(model).map(|given| given.manifest);
        if serves == self.given.as_ref().map(|given| given.manifest) {
            return None;
        }
        if serves.is_none() {
            let gone = NetworkError::NoRelease { model: model.clone() };
            (self.stage, self.given) = (None, None);
            self.forget();
            return Some(Change::Failed(why(&gone)));
        }
        self.wait_ns = RETRY_FIRST_NS;
        match self.load() {
            Ok(()) => {
                self.forget();
                Some(Change::Ready)
            }
            Err(_) if self.stage.is_some() => None,
            Err(error) => {
                self.postpone(now_ns);
                Some(Change::Failed(why(&error)))
            }
        }
    }

    /// It looked at a window, from `begun_ns` to `now_ns`. What comes as a release has that told, ten times a second at most.
    pub fn answered(&mut self, begun_ns: MonoNs, now_ns: MonoNs) {
        let is_due = self.told_ns.is_none_or(|told_ns| now_ns.saturating_sub(told_ns) >= TELL_EVERY_NS);
        if self.given.is_some() && is_due {
            self.told_ns = Some(now_ns);
            let ms = now_ns.saturating_sub(begun_ns).div_ceil(1_000_000);
            self.tell(Told::Answered { ms: u32::try_from(ms).unwrap_or(u32::MAX), ok: true });
        }
    }

    /// Tells what became of the release that is loaded, if one is.
    fn tell(&self, told: Told) {
        if let (Origin::Release(model), Some(given)) = (&self.config.from, &self.given) {
            self.releases.tell(model, given.manifest, told);
        }
    }

    fn load(&mut self) -> Result<(), NetworkError> {
        match self.config.from.clone() {
            Origin::File(file) => {
                let bytes = read(&file)?;
                self.take(self.staged(&bytes, self.config.recipe.clone())?);
                self.digest = Some(Hash::of(&bytes));
            }
            Origin::Release(model) => {
                let given =
                    self.releases.get(&model).ok_or(NetworkError::NoRelease { model: model.clone() })?;
                let own = Some(&self.config.recipe).filter(|recipe| **recipe != Recipe::default());
                let staged = self.staged((*given.bytes).as_ref(), own.unwrap_or(&given.recipe).clone());
                let staged = staged.inspect_err(|error| {
                    self.releases.tell(&model, given.manifest, Told::Broke(why(error)));
                });
                self.take(staged?);
                self.digest = Some(given.weights.hash());
                self.given = Some(given);
            }
        }
        Ok(())
    }

    /// It computes with this from now on.
    fn take(&mut self, stage: Stage) {
        self.sees = looks_at_pictures(&stage);
        self.stage = Some(stage);
    }

    /// A network of these bytes that can look at windows or pictures of its source.
    fn staged(&self, bytes: &[u8], recipe: Recipe) -> Result<Stage, NetworkError> {
        let options =
            Options { runtime: self.config.runtime, file_bytes_max: FILE_MAX_BYTES, ..Options::default() };
        let network = Network::load(bytes, &options)?;
        let mut stage = Stage::new(network, recipe)?;
        let sees = looks_at_pictures(&stage);
        if sees && !self.config.pictures {
            return Err(NetworkError::Blind);
        }
        if sees && self.config.window > 1 {
            return Err(NetworkError::Several);
        }
        // A look at nothing: what does not fit is found out here, and a network is compiled for its window before the first one.
        let nothing = vec![0.0; self.config.window * self.channels];
        let window = Window { values: &nothing, channels: self.channels };
        let black = Picture::new(8, 8, vec![0; 3 * 8 * 8]).expect("a small picture is one");
        let material = match sees {
            true => Material { picture: Some(&black), ..Material::default() },
            false => Material { window: Some(window), ..Material::default() },
        };
        match stage.step(&material) {
            Ok(_) | Err(StepError::Lost { .. }) => stage.begin()?,
            Err(error) => return Err(error.into()),
        }
        Ok(stage)
    }

    /// Another stream begins.
    fn forget(&mut self) {
        self.values.clear();
        self.since = 0;
        self.has_looked = false;
        self.crossed = false;
        self.counter.lose();
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

/// Whether a network is filled with pictures.
fn looks_at_pictures(stage: &Stage) -> bool {
    stage.recipe().inputs.values().any(|fill| matches!(fill, Fill::Picture(_)))
}

#[cfg(test)]
mod tests {
    use net::after::Field;
    use net::specimen::{Size, constant, model, node, value};
    use package::digest::Digest;

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
            from: Origin::File(file),
            window: 2,
            hop: 3,
            max_gap_ms: 10_000,
            recipe: Recipe::default(),
            runtime: None,
            pictures: false,
            lines: Vec::new(),
            record_each: false,
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
        let Origin::File(file) = &watcher.config().from else { unreachable!("it was made so") };
        std::fs::write(file, summing()).unwrap();
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

    /// As [`summing`], of so many channels, each times ten.
    fn given(release: u64, channels: u64) -> Given {
        let weights = vec![10.0; channels as usize];
        let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[channels, 1], &weights)];
        let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
        let bytes = model(&parts, &[port("x", channels)], &[port("y", 1)]);
        let (manifest, weights) = (Digest::of(&release.to_le_bytes()), Digest::of(&bytes));
        Given { release, manifest, weights, bytes: Box::new(bytes), recipe: Recipe::default() }
    }

    #[test]
    fn a_release_takes_the_place_of_the_one_before_unless_it_does_not_fit() {
        let (mut watcher, _folder) = watcher(&summing());
        let sum = ModelName::new("sum").unwrap();
        let from = Origin::Release(sum.clone());
        watcher.config = NetworkConfig { from, hop: 1, ..watcher.config };
        let releases = Releases::default();
        watcher.join(releases.clone());
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        releases.tell_to(Box::new(move |_, manifest, told| hears.lock().unwrap().push((manifest, told))));
        let error = watcher.open(2, 0).unwrap_err().to_string();
        assert!(error.contains("no release of `sum` serves here"), "{error}");
        let mut t = 0;
        let mut step = |watcher: &mut Watcher| {
            t += 1;
            watcher.step(t * 1000, &[1.0, 1.0], t as u64 * S)
        };
        assert_eq!(step(&mut watcher), None);
        releases.give(&sum, given(1, 4));
        assert_eq!(step(&mut watcher), Some(Change::Ready));
        assert!(watcher.model().variant.ends_with(" release=1"), "{:?}", watcher.model());
        assert_eq!([said(step(&mut watcher)), said(step(&mut watcher))], [None, Some(40.0)]);
        watcher.answered(0, 1);
        // One that takes three windows' worth of channels is told of, and the one before goes on.
        releases.give(&sum, given(2, 6));
        assert_eq!(said(step(&mut watcher)), Some(40.0));
        releases.give(&sum, given(1, 4));
        assert_eq!(said(step(&mut watcher)), Some(40.0));
        releases.give(&sum, given(3, 4));
        assert_eq!(step(&mut watcher), Some(Change::Ready));
        releases.take_back(&sum);
        assert!(matches!(step(&mut watcher), Some(Change::Failed(_))));
        assert_eq!([step(&mut watcher), step(&mut watcher)], [None, None]);
        let told = told.lock().unwrap();
        let of = |release: u64| Digest::of(&release.to_le_bytes());
        assert_eq!(told[0], (of(1), Told::Answered { ms: 1, ok: true }));
        assert!(
            matches!(&told[1], (broken, Told::Broke(why)) if *broken == of(2) && why.contains("takes 6")),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}
