//! Runs a flow over its files without a journal, threads or waiting: time is what the files say, so the same files
//! give the same products every time. For `flow replay`, for `detect`, and for tests.
//!
//! All sources of the flow are played once, merged by time. A simulated source ends after a number of readings; a folder of
//! pictures is played by the times of its files, a file of sound from the time of its own. What comes from outside brings nothing.

pub mod rehearse;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use wire::world::{Simulated, WallMs};

use crate::flow::Flow;
use crate::flow::source::{SourceConfig, SourceKind};
use crate::pipeline::{OpenError, Pipeline, Product};
use crate::source::csv::Row;
use crate::source::frame::{Frame, channels};
use crate::source::pictures::folder::Recorded;
use crate::source::pump::{CHANNELS, Pump};
use crate::source::queue::Batch;
use crate::source::recording::{RecordingError, RecordingReader};
use crate::source::simulated::pump_config;
use crate::source::sound::settings::{From as SoundFrom, SoundSettings};
use crate::source::sound::wav::{Wav, WavError};
use crate::source::tally::Tally;

/// The most readings that are read before their turn, for networks that look at several things in one run.
const AHEAD_READINGS: usize = 1 << 14;
/// And of pictures, until they have so many bytes.
const AHEAD_BYTES: usize = 64 << 20;

/// Why a flow cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// A file gives no readings.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A source cannot be opened.
    #[error("`source.{source_name}` cannot be opened")]
    Open {
        /// The source.
        source_name: String,
        /// Why.
        source: OpenError,
    },
    /// A folder of pictures, or a file of sound, cannot be opened.
    #[error("{} cannot be read", place.display())]
    Place {
        /// Which.
        place: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file gives no sound.
    #[error("{} gives no sound", file.display())]
    Sound {
        /// The file.
        file: PathBuf,
        /// Why.
        source: WavError,
    },
    /// No source of the flow can be played.
    #[error(
        "the flow has no source that can be played: only `replay`, `simulated`, `images` and `sound` of a file can"
    )]
    NothingToPlay,
}

/// One reading that was played.
#[derive(Debug, Clone, Copy)]
pub struct Played<'a> {
    /// The source's place in the flow.
    pub source: usize,
    /// Its time.
    pub t_ms: WallMs,
    /// Shape: `[channels]`.
    pub values: &'a [f64],
    /// Whether it is an anomaly in truth, where the source knows.
    pub truth: Option<bool>,
}

/// What was played.
#[derive(Debug, Clone, Default)]
pub struct PlayReport {
    /// Per source of the flow: its name, its readings, and what was refused.
    pub sources: Vec<(String, u64, Tally)>,
}

/// One source being played.
struct Player<'a> {
    source: usize,
    config: &'a SourceConfig,
    from: From,
    /// What is played next.
    next: Next,
    /// What was read before its turn, and follows.
    coming: VecDeque<Next>,
    /// What was found after that: its end, or why it cannot be read on.
    then: Option<Result<bool, PlayError>>,
}

/// A reading before it is played.
#[derive(Default)]
struct Next {
    row: Row,
    /// The picture that the row was measured of.
    frame: Option<Arc<Frame>>,
}

enum From {
    File(Box<RecordingReader>),
    Pump { pump: Box<Pump>, left: u64 },
    Pictures(Recorded),
    Sound { wav: Box<Wav>, settings: SoundSettings, begin_ms: WallMs, samples: u64 },
}

impl From {
    /// Reads the next reading into `next`, which holds the one before it; `false` at the end.
    fn read(&mut self, next: &mut Next) -> Result<bool, PlayError> {
        let row = &mut next.row;
        match self {
            From::File(reader) => Ok(reader.read_row(row)?),
            From::Pictures(pictures) => {
                let Some(frame) = pictures.next() else { return Ok(false) };
                let (line, values) = (row.line + 1, frame.row().to_vec());
                *row = Row { line, t_ms: frame.t_ms, values, truth: None };
                next.frame = Some(Arc::new(frame));
                Ok(true)
            }
            From::Sound { wav, settings, begin_ms, samples } => {
                row.values.resize(settings.channels.len(), 0.0);
                let read = wav.read(&mut row.values);
                let file = || match &settings.from {
                    SoundFrom::File { file, .. } => file.clone(),
                    SoundFrom::Program { .. } => PathBuf::new(),
                };
                if !read.map_err(|source| PlayError::Sound { file: file(), source })? {
                    return Ok(false);
                }
                let at_ms = *samples as f64 * 1e3 / f64::from(settings.rate_hz);
                row.t_ms = *begin_ms + at_ms as WallMs;
                row.line += 1;
                *samples += 1;
                Ok(true)
            }
            From::Pump { left: 0, .. } => Ok(false),
            From::Pump { pump, left } => {
                *left -= 1;
                let sample = pump.next();
                let (line, values) = (row.line + 1, sample.values.to_vec());
                *row = Row { line, t_ms: sample.t_ms, values, truth: Some(sample.fault.is_some()) };
                Ok(true)
            }
        }
    }
}

impl Player<'_> {
    /// Goes on to the next reading; `false` at the end.
    fn advance(&mut self) -> Result<bool, PlayError> {
        if let Some(next) = self.coming.pop_front() {
            self.next = next;
            return Ok(true);
        }
        self.then.take().unwrap_or_else(|| self.from.read(&mut self.next))
    }

    /// Reads on until so much is known of what is coming, if there is so much.
    fn look_ahead(&mut self, most: usize) {
        let bytes = |next: &Next| next.frame.as_ref().map_or(0, |frame| frame.picture.rgb().len());
        let has_pictures = self.next.frame.is_some();
        let mut held: usize = if has_pictures { self.coming.iter().map(bytes).sum() } else { 0 };
        while self.then.is_none() && self.coming.len() < most.min(AHEAD_READINGS) && held < AHEAD_BYTES {
            let line = self.coming.back().unwrap_or(&self.next).row.line;
            let mut next = Next { row: Row { line, ..Row::default() }, frame: None };
            match self.from.read(&mut next) {
                Ok(true) => {
                    held += bytes(&next);
                    self.coming.push_back(next);
                }
                ended => self.then = Some(ended),
            }
        }
    }

    /// Tells the networks what is coming, if they want to know.
    fn foretell(&mut self, pipeline: &mut Pipeline, world: &Simulated, out: &mut Vec<Product>) {
        let most = pipeline.foresight(self.source);
        if most == 0 {
            return;
        }
        self.look_ahead(most);
        let waiting = || std::iter::once(&self.next).chain(&self.coming);
        if self.next.frame.is_some() {
            let frames: Vec<Arc<Frame>> = waiting().filter_map(|next| next.frame.clone()).collect();
            pipeline.foresee_pictures(self.source, &frames, world, out);
        } else {
            let rows = waiting().map(|next| (next.row.t_ms, next.row.values.as_slice()));
            pipeline.foresee(self.source, 1, rows, world, out);
        }
    }
}

/// Plays `flow`. After each reading `see` gets it, the pipeline as it then is, and what came of the reading; at the end
/// it gets once more, without a reading, what still waited. `simulated_readings`: how many of each simulated source.
pub fn play(
    flow: &Flow,
    simulated_readings: u64,
    mut see: impl FnMut(Option<Played<'_>>, &Pipeline, &[Product]),
) -> Result<PlayReport, PlayError> {
    let world = Simulated::new(0);
    let mut pipeline = Pipeline::new(flow);
    let mut out = Vec::new();
    let mut players = Vec::new();
    for (source, config) in flow.sources.iter().enumerate() {
        let (from, channels) = match &config.kind {
            SourceKind::Replay(replay) => {
                let reader = RecordingReader::open(&replay.file, &replay.csv)?;
                let channels = reader.channels().to_vec();
                (From::File(Box::new(reader)), channels)
            }
            SourceKind::Simulated(simulated) => {
                use wire::world::Clock as _;
                let pump = Box::new(Pump::new(simulated.seed, pump_config(simulated), world.wall_ms()));
                (From::Pump { pump, left: simulated_readings }, CHANNELS.map(str::to_owned).to_vec())
            }
            // What comes from outside cannot be played.
            SourceKind::Http
            | SourceKind::Mqtt(_)
            | SourceKind::Modbus(_)
            | SourceKind::Opcua(_)
            | SourceKind::Exec(_)
            | SourceKind::Serial(_)
            | SourceKind::Rtsp(_)
            | SourceKind::Camera(_)
            | SourceKind::Sound(SoundSettings { from: SoundFrom::Program { .. }, .. }) => continue,
            SourceKind::Images(settings) => {
                let place = || settings.folder.clone();
                let pictures =
                    Recorded::open(settings).map_err(|source| PlayError::Place { place: place(), source })?;
                (From::Pictures(pictures), channels())
            }
            SourceKind::Sound(settings @ SoundSettings { from: SoundFrom::File { file, .. }, .. }) => {
                let changed = std::fs::metadata(file).and_then(|data| data.modified());
                let changed = changed.map_err(|source| PlayError::Place { place: file.clone(), source })?;
                let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                let wav = Wav::open(file, settings)
                    .map_err(|source| PlayError::Sound { file: file.clone(), source })?;
                let (wav, begin_ms) = (Box::new(wav), since.as_millis() as WallMs);
                (
                    From::Sound { wav, settings: settings.clone(), begin_ms, samples: 0 },
                    settings.channels.clone(),
                )
            }
        };
        pipeline
            .open(source, &channels, &mut out)
            .map_err(|error| PlayError::Open { source_name: config.name.to_string(), source: error })?;
        let (next, coming) = (Next::default(), VecDeque::new());
        let mut player = Player { source, config, from, next, coming, then: None };
        if player.advance()? {
            players.push(player);
        }
    }
    if players.is_empty() {
        return Err(PlayError::NothingToPlay);
    }

    let mut report = PlayReport::default();
    let mut batch = Batch::default();
    // At most 64 sources: looking at each for the oldest reading is quick enough.
    while let Some(next) =
        (0..players.len()).min_by_key(|at| (players[*at].next.row.t_ms, players[*at].source))
    {
        let player = &mut players[next];
        player.foretell(&mut pipeline, &world, &mut out);
        let row = &mut player.next.row;
        batch.t_ms.clear();
        batch.t_ms.push(row.t_ms);
        std::mem::swap(&mut batch.values, &mut row.values);
        let (t_ms, truth) = (row.t_ms, row.truth);
        match &player.next.frame {
            Some(frame) => pipeline.see(player.source, frame, &world, &mut out),
            None => pipeline.step(player.source, &batch, 0, &world, &mut out),
        }
        let values = batch.values.as_slice();
        see(Some(Played { source: player.source, t_ms, values, truth }), &pipeline, &out);
        out.clear();
        std::mem::swap(&mut batch.values, &mut player.next.row.values);
        if !player.advance()? {
            let player = players.remove(next);
            let tally = match player.from {
                From::File(reader) => reader.tally().clone(),
                From::Pump { .. } | From::Pictures(_) | From::Sound { .. } => {
                    Tally { rows: player.next.row.line, ..Tally::default() }
                }
            };
            let (readings, _late) = pipeline.counts(player.source);
            report.sources.push((player.config.name.to_string(), readings, tally));
        }
    }
    pipeline.flush(&mut out);
    see(None, &pipeline, &out);
    Ok(report)
}
