//! A source that plays a recording, a file of CSV or Parquet, as if it happened now.
//!
//! Times are the file's own. With `repeat` they go on from the end: the second round begins one interval after the
//! first ended. After a failure it goes on behind the last reading it gave.

use wire::world::WallMs;

use super::bring::{Source, SourceError};
use super::csv::Row;
use super::pace::Pace;
use super::queue::{Event, Inlet};
use super::recording::{RecordingError, RecordingReader};
use crate::flow::source::ReplayConfig;

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
        let mut reader = RecordingReader::open(&self.config.file, &self.config.csv)?;
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
        result.map_err(|error: RecordingError| error.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::source::Speed;
    use crate::source::csv::CsvOptions;
    use crate::source::queue::Outlet;
    use wire::world::System;

    fn replay(file: &std::path::Path, speed: Speed, repeat: bool) -> Replay {
        Replay::new(ReplayConfig { file: file.into(), csv: CsvOptions::default(), speed, repeat })
    }

    /// The times of the readings that have arrived.
    fn times(outlet: &Outlet) -> Vec<WallMs> {
        let events = std::iter::from_fn(|| outlet.next_now());
        let batches = events.filter_map(|arrival| match arrival.event {
            Event::Batch(batch) => Some(batch.t_ms),
            _ => None,
        });
        batches.flatten().collect()
    }

    #[test]
    fn after_a_failure_it_goes_on_behind_the_last_reading() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.csv");
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(System::new()));
        let mut replay = replay(&file, Speed::Max, false);
        let rows = |until: i64| (1..=until).map(|t_s| format!("{t_s},1\n")).collect::<String>();
        // The line that is too long lies behind the head, which is read before the first row is given.
        std::fs::write(&file, format!("t,a\n{}{}\n", rows(150), "1".repeat(2 << 20))).unwrap();
        assert!(replay.run(&mut inlet).is_err());
        assert_eq!(times(&outlet).last(), Some(&150_000));
        std::fs::write(&file, format!("t,a\n{}", rows(152))).unwrap();
        replay.run(&mut inlet).unwrap();
        assert_eq!(times(&outlet), [151_000, 152_000]);
    }

    #[test]
    fn rounds_go_on_in_time_and_end_when_the_node_stops() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.csv");
        std::fs::write(&file, "t,a\n10,1\n12,1\n13,1\n").unwrap();
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(System::new()));
        // A round of four seconds in four milliseconds.
        let mut replay = replay(&file, Speed::Times(1_000.0), true);
        let thread = std::thread::spawn(move || replay.run(&mut inlet).is_err());
        let mut seen = Vec::new();
        while seen.len() < 7 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            seen.extend(times(&outlet));
        }
        assert_eq!(seen[..7], [10, 12, 13, 14, 16, 17, 18].map(|t_s| t_s * 1_000));
        outlet.stopper().stop();
        assert!(thread.join().unwrap(), "stopped, not ended");
    }
}
