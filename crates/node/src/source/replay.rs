//! A source that plays a CSV file as if it happened now.
//!
//! Times are the file's own. With `repeat` they go on from the end: the second round begins one interval after the
//! first ended. After a failure it goes on behind the last reading it gave.

use wire::world::WallMs;

use super::bring::{Source, SourceError};
use super::csv::{CsvError, CsvReader, Row};
use super::pace::Pace;
use super::queue::{Event, Inlet};
use crate::flow::part::ReplayConfig;

/// A file being played.
pub struct Replay {
    config: ReplayConfig,
    /// The time of the last reading given, as given.
    last_ms: Option<WallMs>,
    /// Added to the file's times, one round after another.
    shift_ms: i64,
    /// Rows and cells refused in rounds before this one.
    refused: u64,
}

impl Replay {
    /// From the file's begin.
    pub fn new(config: ReplayConfig) -> Replay {
        Replay { config, last_ms: None, shift_ms: 0, refused: 0 }
    }

    /// Plays the file once. The times of its first and last row, and the last interval.
    fn round(
        &mut self,
        pace: &mut Pace,
        inlet: &mut Inlet,
    ) -> Result<Option<(WallMs, WallMs, i64)>, SourceError> {
        let mut reader = CsvReader::open(&self.config.file, &self.config.csv)?;
        inlet.tell(Event::Opened { channels: reader.channels().to_vec() })?;
        let mut row = Row::default();
        let mut seen: Option<(WallMs, WallMs, i64)> = None;
        let result = loop {
            match reader.read_row(&mut row) {
                Ok(true) => {}
                Ok(false) => break Ok(seen),
                Err(error) => break Err(error),
            }
            seen = Some(match seen {
                None => (row.t_ms, row.t_ms, 1_000),
                Some((first, last, _)) => (first, row.t_ms, row.t_ms.saturating_sub(last)),
            });
            let t_ms = row.t_ms.saturating_add(self.shift_ms);
            if self.last_ms.is_some_and(|last_ms| t_ms <= last_ms) {
                continue;
            }
            inlet.set_refused(self.refused + reader.tally().refused());
            pace.push(t_ms, &row.values, inlet)?;
            self.last_ms = Some(t_ms);
        };
        inlet.set_refused(self.refused + reader.tally().refused());
        pace.flush(inlet)?;
        self.refused += reader.tally().refused();
        result.map_err(|error: CsvError| error.into())
    }
}

impl Source for Replay {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let mut pace = Pace::new(self.config.speed);
        loop {
            let round = self.round(&mut pace, inlet)?;
            let Some((first_ms, last_ms, interval_ms)) = round.filter(|_| self.config.repeat) else {
                return Ok(format!("{} was played to its end", self.config.file.display()));
            };
            let length_ms = last_ms.saturating_sub(first_ms).saturating_add(interval_ms);
            self.shift_ms = self.shift_ms.saturating_add(length_ms.max(1));
        }
    }
}
