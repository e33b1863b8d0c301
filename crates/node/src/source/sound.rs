//! A source of sound: a WAV file as if it were played now, or what a program prints, `arecord` for a microphone of this machine.
//!
//! Each sample is a reading, from -1 to 1, as evenly dated as features and networks want them. A program and not a library of ours,
//! for the reasons that [`super::pictures::camera`] has. A node keeps what it makes of sound, and not the sound: `raw` is false unless
//! the flow says otherwise.

pub mod pulse;
pub mod settings;
pub mod wav;

use std::path::Path;
use std::time::Duration;

use pulse::Pulse;
use settings::{From, SoundSettings};
use wav::Wav;

use super::bring::{Source, SourceError, wait_for};
use super::child::Program;
use super::queue::{Batch, Event, Inlet, SourceState};
use super::refusals::Refusals;
use crate::why::why;

/// Bytes taken from a program at a time.
const PIECE: usize = 1 << 13;
/// Samples handed over together.
const BATCH: usize = 512;

/// Listens.
pub struct Sound {
    settings: SoundSettings,
    refusals: Refusals,
}

impl Sound {
    /// A source.
    pub fn new(settings: SoundSettings) -> Sound {
        Sound { settings, refusals: Refusals::default() }
    }

    fn open(&self, inlet: &mut Inlet) -> Result<(), SourceError> {
        Ok(inlet.tell(Event::Opened { channels: self.settings.channels.clone() })?)
    }

    /// Plays a file.
    fn play(
        &self,
        file: &Path,
        times: Option<f64>,
        repeat: bool,
        inlet: &mut Inlet,
    ) -> Result<String, SourceError> {
        let outside =
            |error: wav::WavError| SourceError::Outside(format!("{}: {}", file.display(), why(&error)));
        let (mut begin_ms, begin_ns) = (inlet.clock().wall_ms(), inlet.clock().mono_ns());
        let mut opened = false;
        let mut played_ms = 0.0;
        loop {
            let mut wav = Wav::open(file, &self.settings).map_err(outside)?;
            if !std::mem::replace(&mut opened, true) {
                self.open(inlet)?;
            }
            let mut samples = 0u64;
            loop {
                let mut batch = Batch::default();
                let mut row = vec![0.0; self.settings.channels.len()];
                while batch.t_ms.len() < BATCH && wav.read(&mut row).map_err(outside)? {
                    let at_ms = samples as f64 * 1e3 / f64::from(self.settings.rate_hz);
                    batch.t_ms.push(begin_ms + at_ms as i64);
                    batch.values.extend_from_slice(&row);
                    samples += 1;
                }
                if batch.t_ms.is_empty() {
                    break;
                }
                if let Some(times) = times {
                    let end_ms = played_ms + samples as f64 * 1e3 / f64::from(self.settings.rate_hz);
                    let due_ns = end_ms * 1e6 / times;
                    let early_ns = due_ns - inlet.clock().mono_ns().saturating_sub(begin_ns) as f64;
                    if early_ns > 0.0 {
                        inlet.pause(Duration::from_secs_f64((early_ns / 1e9).min(86_400.0)))?;
                    }
                }
                inlet.send(batch)?;
            }
            if samples == 0 || !repeat {
                return Ok(format!("{samples} samples were played"));
            }
            let length_ms = samples as f64 * 1e3 / f64::from(self.settings.rate_hz);
            (begin_ms, played_ms) = (begin_ms + length_ms as i64, played_ms + length_ms);
        }
    }

    /// Listens to a program.
    async fn listen(
        &mut self,
        command: &[String],
        folder: &Path,
        silence: Duration,
        inlet: &mut Inlet,
    ) -> Result<String, SourceError> {
        let mut program = Program::start(command, folder)?;
        let reason = format!("`{}` runs", command.first().map_or("", String::as_str));
        inlet.tell(Event::State { state: SourceState::Waiting, reason })?;
        let ended = self.take(&mut program, silence, inlet).await;
        program.end().await;
        ended
    }

    async fn take(
        &mut self,
        program: &mut Program,
        silence: Duration,
        inlet: &mut Inlet,
    ) -> Result<String, SourceError> {
        let frame = 2 * self.settings.channels.len();
        let mut pulse = Pulse::new(f64::from(self.settings.rate_hz));
        let (mut room, mut held) = (vec![0; PIECE], Vec::new());
        let mut opened = false;
        loop {
            let bytes = program.read(&mut room, silence, inlet).await?;
            if !std::mem::replace(&mut opened, true) {
                self.open(inlet)?;
            }
            held.extend_from_slice(&room[..bytes]);
            let rest = held.split_off(held.len() / frame * frame);
            let whole = std::mem::replace(&mut held, rest);
            let samples = whole.len() / frame;
            if samples == 0 {
                continue;
            }
            let lost_ms = pulse.arrive(samples, inlet.clock().wall_ms());
            if lost_ms > 0 {
                let what = format!("{lost_ms} ms of sound");
                let why = "they were lost: nobody took them in time";
                self.refusals.refuse(&what, why, SourceState::Running, inlet)?;
            }
            let number = |bytes: &[u8]| f64::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32_768.0;
            for (at, piece) in whole.chunks(BATCH * frame).enumerate() {
                let samples = piece.len() / frame;
                let t_ms = (0..samples).map(|sample| pulse.t_ms(at * BATCH + sample)).collect();
                inlet.send(Batch { t_ms, values: piece.chunks_exact(2).map(number).collect() })?;
            }
        }
    }
}

impl Source for Sound {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        match self.settings.from.clone() {
            From::File { file, times, repeat } => self.play(&file, times, repeat, inlet),
            From::Program { command, folder, silence } => {
                wait_for(self.listen(&command, &folder, silence, inlet))
            }
        }
    }
}
