//! Runs a flow over its files without a journal, threads or waiting: time is what the files say, so the same files
//! give the same products every time. For `flow replay`, for `detect`, and for tests.
//!
//! All sources of the flow are played once, merged by time. A simulated source ends after a number of readings; a folder of
//! pictures is played by the times of its files, a file of sound from the time of its own. What comes from outside brings nothing.

pub mod rehearse;

use std::path::PathBuf;
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
    row: Row,
    /// The picture that the row was measured of.
    frame: Option<Frame>,
}

enum From {
    File(Box<RecordingReader>),
    Pump { pump: Box<Pump>, left: u64 },
    Pictures(Recorded),
    Sound { wav: Box<Wav>, settings: SoundSettings, begin_ms: WallMs, samples: u64 },
}

impl Player<'_> {
    /// Reads the next reading into `row`; `false` at the end.
    fn advance(&mut self) -> Result<bool, PlayError> {
        match &mut self.from {
            From::File(reader) => Ok(reader.read_row(&mut self.row)?),
            From::Pictures(pictures) => {
                self.frame = pictures.next();
                let Some(frame) = &self.frame else { return Ok(false) };
                let (line, values) = (self.row.line + 1, frame.row().to_vec());
                self.row = Row { line, t_ms: frame.t_ms, values, truth: None };
                Ok(true)
            }
            From::Sound { wav, settings, begin_ms, samples } => {
                self.row.values.resize(settings.channels.len(), 0.0);
                let read = wav.read(&mut self.row.values);
                let file = || match &settings.from {
                    SoundFrom::File { file, .. } => file.clone(),
                    SoundFrom::Program { .. } => PathBuf::new(),
                };
                if !read.map_err(|source| PlayError::Sound { file: file(), source })? {
                    return Ok(false);
                }
                let at_ms = *samples as f64 * 1e3 / f64::from(settings.rate_hz);
                self.row.t_ms = *begin_ms + at_ms as WallMs;
                self.row.line += 1;
                *samples += 1;
                Ok(true)
            }
            From::Pump { left: 0, .. } => Ok(false),
            From::Pump { pump, left } => {
                *left -= 1;
                let sample = pump.next();
                let line = self.row.line + 1;
                self.row = Row {
                    line,
                    t_ms: sample.t_ms,
                    values: sample.values.to_vec(),
                    truth: Some(sample.fault.is_some()),
                };
                Ok(true)
            }
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
        let mut player = Player { source, config, from, row: Row::default(), frame: None };
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
    while let Some(next) = (0..players.len()).min_by_key(|at| (players[*at].row.t_ms, players[*at].source)) {
        let player = &mut players[next];
        batch.t_ms.clear();
        batch.t_ms.push(player.row.t_ms);
        std::mem::swap(&mut batch.values, &mut player.row.values);
        match &player.frame {
            Some(frame) => pipeline.see(player.source, frame, &world, &mut out),
            None => pipeline.step(player.source, &batch, 0, &world, &mut out),
        }
        let (t_ms, values, truth) = (player.row.t_ms, batch.values.as_slice(), player.row.truth);
        see(Some(Played { source: player.source, t_ms, values, truth }), &pipeline, &out);
        out.clear();
        std::mem::swap(&mut batch.values, &mut player.row.values);
        if !player.advance()? {
            let player = players.remove(next);
            let tally = match player.from {
                From::File(reader) => reader.tally().clone(),
                From::Pump { .. } | From::Pictures(_) | From::Sound { .. } => {
                    Tally { rows: player.row.line, ..Tally::default() }
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
