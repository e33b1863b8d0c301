//! A network in a flow: windows of a source's readings go in, and what it answers becomes fields on the board.
//!
//! Stands where a detector stands. It sees a window when `window` readings came without a gap and without a missing value, and
//! then again after each `hop`; in between its last answer stands. A gap begins another stream: what the network carries from
//! step to step starts at zero. Of a source of pictures it looks at one picture at a time, at each `hop`-th; boxes may be followed
//! from picture to picture and counted where they cross lines ([`crate::crossing`]). A network that fails gives nothing, is loaded again after 1 s, and waits twice as long after each
//! further failure, up to 5 minutes. The rest of the flow goes on meanwhile.
//!
//! If its recipe says so, it is asked ahead for several looks in one run, where what makes them due waits already; what it says of
//! each, and when, is the same.
//!
//! Its bytes are a file's, or those of the [release](releases) that serves: when another one does, it is loaded at the next
//! reading, and until it is, the one before goes on. What becomes of a release is told to the slots, which send back one that is
//! no good.
//!
//! Pure but for its file, which is read when its source opens and after each failure: whoever mends the file mends the network.

mod ahead;
pub mod fit;
pub mod measured;
pub mod releases;
mod stream;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::after::{Answer, Field};
use net::before::{Fill, Window};
use net::graph;
use net::network::{LoadError, Network, Options, RunError};
use net::picture::Picture;
use net::recipe::{Recipe, RecipeError};
use net::runtime::Kind;
use net::stage::{Material, Stage, StepError};
use package::contract::Net;
use package::name::ModelName;
use wire::body::ModelRef;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{Clock, MonoNs, WallMs};

use self::ahead::{Ahead, Foreseen, Seen};
use self::fit::{Gives, Misfit};
use self::releases::{Given, Releases, Told};
use self::stream::{Pace, Stream};
use crate::crossing::{Counter, Line};
use crate::source::frame::Frame;
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
    /// Where the flow's text says what it looks at.
    pub span: Range<usize>,
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
    /// Its source gives something else than it takes.
    #[error("{}", .0.told())]
    Misfit(Misfit),
}

impl NetworkError {
    /// Whether it is this machine that lacks something, which the one where the flow runs may have: the file, or the runtime.
    pub fn is_of_this_machine(&self) -> bool {
        matches!(self, NetworkError::File { .. } | NetworkError::Load(LoadError::NoRuntime { .. }))
    }
}

impl NetworkConfig {
    /// What its flow gives it, by a source with so many channels, if that is known.
    pub fn gives(&self, channels: Option<usize>) -> Gives {
        Gives { pictures: self.pictures, window: self.window, channels }
    }

    /// Whether the network of a file fits what the flow gives it, as far as the file says it: nothing is loaded.
    pub fn check_file(&self, channels: Option<usize>) -> Result<(), NetworkError> {
        let Origin::File(file) = &self.from else { return Ok(()) };
        let net = graph::read(&read(file)?).map_err(LoadError::from)?.net;
        self.fits(self.recipe.clone().completed(&net), &net, channels)
    }

    /// Whether a network with its completed recipe, if there is one, does.
    fn fits(
        &self,
        recipe: Result<Recipe, RecipeError>,
        net: &Net,
        channels: Option<usize>,
    ) -> Result<(), NetworkError> {
        let gives = self.gives(channels);
        match recipe {
            Ok(recipe) => gives.fits(&recipe, net).map_err(NetworkError::Misfit),
            Err(RecipeError::Open { port }) => Err(NetworkError::Misfit(gives.open(port))),
            Err(error) => Err(error.into()),
        }
    }
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
    stream: Stream,
    /// What it was asked for before it was due.
    ahead: Ahead,
    /// The share that the last look had of the run that it was foreseen in; 0: it was a look of its own.
    lent_ns: MonoNs,
    /// Whether it looks at pictures.
    sees: bool,
    counter: Counter,
    /// Whether something crossed a line at the last look.
    crossed: bool,
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
            stream: Stream::default(),
            ahead: Ahead::default(),
            lent_ns: 0,
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

    /// Takes a picture, and the numbers that were measured of it, as far as they are believed: those are what a network of windows
    /// looks at.
    pub fn see(&mut self, frame: &Frame, values: &[f64], now_ns: MonoNs) -> Option<Change> {
        let turned = self.turn_to(now_ns);
        if turned.is_some() {
            return turned;
        }
        if !self.sees {
            return self.step(frame.t_ms, values, now_ns);
        }
        let pace = self.pace();
        let broke_off = self.stream.breaks_off(frame.t_ms, pace);
        let had_answer = broke_off && self.stream.has_looked();
        if broke_off {
            self.forget();
        }
        if self.stage.is_none() {
            return self.retry(now_ns).or_else(|| had_answer.then_some(Change::Forgot));
        }
        if !self.stream.take(&[], pace) {
            return had_answer.then_some(Change::Forgot);
        }
        let material = Material { picture: Some(&frame.picture), ..Material::default() };
        let change = self.look(&material, || Seen::Picture(frame.digest), now_ns);
        Some(match change {
            Change::Answered(mut answer) => {
                self.crossed = self.counter.step(frame.t_ms, &answer.boxes);
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
        let pace = self.pace();
        let is_whole = is_whole(values);
        let broke_off = self.stream.breaks_off(t_ms, pace) || !is_whole;
        let had_answer = broke_off && self.stream.has_looked();
        if broke_off {
            self.forget();
        }
        if self.stage.is_none() {
            return self.retry(now_ns).or_else(|| had_answer.then_some(Change::Forgot));
        }
        if !is_whole || !self.stream.take(values, pace) {
            return had_answer.then_some(Change::Forgot);
        }
        let values = self.stream.window();
        let window = Window { values: &values, channels: self.channels };
        let material = Material { window: Some(window), ..Material::default() };
        Some(self.look(&material, || Seen::window(&values), now_ns))
    }

    /// How many readings or pictures, from the next one on, are worth knowing beforehand; 0: each is looked at when it comes.
    pub fn foresight(&self) -> usize {
        let NetworkConfig { window, hop, .. } = &self.config;
        let batch = self.stage.as_ref().and_then(|stage| stage.recipe().batch).unwrap_or(1);
        if batch < 2 { 0 } else { batch.saturating_mul(*hop).saturating_add(*window) }
    }

    /// Asks for looks that are coming, if several can be asked for together and the first of them is due within the next `first`
    /// readings. `coming`: readings that wait, in their order. Whatever comes instead, each look has the answer that it has alone.
    pub fn foresee<'a>(
        &mut self,
        first: usize,
        coming: impl Iterator<Item = (WallMs, &'a [f64])>,
        clock: &dyn Clock,
    ) {
        if self.sees || !self.may_foresee() {
            return;
        }
        let (pace, mut stream) = (self.pace(), self.stream.clone());
        let mut windows: Vec<Vec<f32>> = Vec::new();
        for (at, (t_ms, values)) in coming.enumerate() {
            if at >= first && windows.is_empty() {
                break;
            }
            // It may be late, and refused: what follows is then another window.
            if stream.is_before(t_ms) {
                break;
            }
            let is_whole = is_whole(values);
            if stream.breaks_off(t_ms, pace) || !is_whole {
                stream.forget();
            }
            if is_whole && stream.take(values, pace) {
                windows.push(stream.window());
                if self.is_full(windows.len()) {
                    break;
                }
            }
        }
        let seen = windows.iter().map(|values| Seen::window(values)).collect();
        let channels = self.channels;
        let windows = windows.iter().map(|values| Window { values, channels });
        let materials: Vec<Material<'_>> =
            windows.map(|window| Material { window: Some(window), ..Material::default() }).collect();
        self.ask_ahead(&materials, seen, clock);
    }

    /// The same of pictures that wait, of which the first is looked at next.
    pub fn foresee_pictures(&mut self, coming: &[Arc<Frame>], clock: &dyn Clock) {
        if !self.sees || !self.may_foresee() {
            return;
        }
        let (pace, mut stream) = (self.pace(), self.stream.clone());
        let mut due: Vec<&Frame> = Vec::new();
        for frame in coming {
            if stream.is_before(frame.t_ms) {
                break;
            }
            if stream.breaks_off(frame.t_ms, pace) {
                stream.forget();
            }
            if stream.take(&[], pace) {
                due.push(frame);
            }
            if due.is_empty() || self.is_full(due.len()) {
                break;
            }
        }
        let seen = due.iter().map(|frame| Seen::Picture(frame.digest)).collect();
        let materials: Vec<Material<'_>> = due
            .iter()
            .map(|frame| Material { picture: Some(&frame.picture), ..Material::default() })
            .collect();
        self.ask_ahead(&materials, seen, clock);
    }

    /// Whether it works and stays what it is, and nothing is foreseen whose turn has not come.
    fn may_foresee(&self) -> bool {
        let stays = match &self.config.from {
            Origin::File(_) => true,
            Origin::Release(_) => self.turn == self.releases.turn(),
        };
        stays && self.foresight() > 0 && self.ahead.is_empty()
    }

    /// Whether so many looks are as many as one run takes.
    fn is_full(&self, looks: usize) -> bool {
        let batch = self.stage.as_ref().and_then(|stage| stage.recipe().batch);
        batch.is_none_or(|batch| looks >= batch)
    }

    /// Asks for the first of these, as many as are best asked for together.
    fn ask_ahead(&mut self, materials: &[Material<'_>], seen: Vec<Seen>, clock: &dyn Clock) {
        let Some(stage) = &mut self.stage else { return };
        let count = stage.together(materials.len());
        if count < 2 {
            return;
        }
        let begun_ns = clock.mono_ns();
        let answers = stage.steps(&materials[..count]);
        let took_ns = clock.mono_ns().saturating_sub(begun_ns) / count as u64;
        for (seen, answer) in seen.into_iter().zip(answers) {
            // What failed fails again when it is due, and is told then.
            let Ok(answer) = answer else { return };
            self.ahead.push(Foreseen { seen, answer, took_ns });
        }
    }

    fn pace(&self) -> Pace {
        let NetworkConfig { window, hop, max_gap_ms, .. } = self.config;
        let held = if self.sees { 0 } else { window * self.channels };
        Pace { held, channels: self.channels, hop, max_gap_ms }
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

    /// Looks, or has looked ahead.
    fn look(&mut self, material: &Material<'_>, seen: impl FnOnce() -> Seen, now_ns: MonoNs) -> Change {
        let stage = self.stage.as_mut().expect("it was asked before");
        let foreseen = self.ahead.take(seen);
        self.lent_ns = foreseen.as_ref().map_or(0, |foreseen| foreseen.took_ns);
        match foreseen.map_or_else(|| stage.step(material), |foreseen| Ok(foreseen.answer)) {
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
            let ms = (now_ns.saturating_sub(begun_ns) + self.lent_ns).div_ceil(1_000_000);
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
        self.ahead.forget();
        self.sees = looks_at_pictures(&stage);
        self.stage = Some(stage);
    }

    /// A network of these bytes that can look at windows or pictures of its source.
    fn staged(&self, bytes: &[u8], recipe: Recipe) -> Result<Stage, NetworkError> {
        let options =
            Options { runtime: self.config.runtime, file_bytes_max: FILE_MAX_BYTES, ..Options::default() };
        let network = Network::load(bytes, &options)?;
        self.config.fits(recipe.clone().completed(network.net()), network.net(), Some(self.channels))?;
        let mut stage = Stage::new(network, recipe)?;
        let sees = looks_at_pictures(&stage);
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
        // Beside nothing, something: what a network weighs together is found out here.
        let ramp: Vec<f32> = (0..nothing.len()).map(|at| (at as f32 * 0.37).sin().abs()).collect();
        let stripes = (0..3 * 8 * 8).map(|at: usize| (at * 37 % 256) as u8).collect();
        let striped = Picture::new(8, 8, stripes).expect("a small picture is one");
        let something = match sees {
            true => Material { picture: Some(&striped), ..Material::default() },
            false => Material {
                window: Some(Window { values: &ramp, channels: self.channels }),
                ..Material::default()
            },
        };
        stage.prove(&[material, something])?;
        Ok(stage)
    }

    /// Another stream begins.
    fn forget(&mut self) {
        self.stream.forget();
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

/// Whether no value is missing.
fn is_whole(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Whether a network is filled with pictures.
fn looks_at_pictures(stage: &Stage) -> bool {
    stage.recipe().inputs.values().any(|fill| matches!(fill, Fill::Picture(_)))
}

#[cfg(test)]
mod tests;
