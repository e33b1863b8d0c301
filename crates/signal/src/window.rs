//! Cuts the stream of readings into windows, the unit a model looks at.
//!
//! Stands between the source (gives readings) and the model (takes windows). A window holds at most `len` readings
//! and lasts at most `max_ms`, so that a slow source gets its windows out too. It never spans a gap longer than
//! `max_gap_ms`: there it is cut short, which is counted. Windows do not overlap. At most `len` readings are held.
//!
//! Time is the source's own. A reading slightly older than the one before it is late: dropped and counted. A step
//! back of more than `max_gap_ms` is a clock that was set: a gap like any other.

use serde::{Deserialize, Serialize};

use crate::reading::Reading;

/// The most cells (`len` × `channels`) a window may be configured to hold: 8 MiB of values.
pub const MAX_CELLS: usize = 1 << 20;

/// A run of readings, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Values per reading, at least 1.
    pub channels: usize,
    /// Shape: `[len]`, ascending; source time in milliseconds.
    pub t_ms: Vec<i64>,
    /// Shape: `[len, channels]`, row-major, in the sensor's own units; NaN marks a missing cell.
    pub values: Vec<f64>,
    /// Why it ends where it ends.
    pub cut: Cut,
}

/// What ended a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// It holds `len` readings.
    Full,
    /// It lasts as long as `max_ms` allows.
    Duration,
    /// The next reading came more than `max_gap_ms` later, or the clock was set back.
    Gap,
    /// Its owner asked for it.
    Flush,
}

/// The shape of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Values per reading.
    pub channels: usize,
    /// Readings of a full window.
    pub len: usize,
    /// The most time between a window's first and last reading; `None` cuts by count alone.
    #[serde(default)]
    pub max_ms: Option<i64>,
    /// The longest silence a window may span.
    pub max_gap_ms: i64,
}

/// Why a window cannot have this shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowConfigError {
    /// No room for a single value.
    #[error("a window needs at least one reading of one channel, not {len} of {channels}")]
    Empty {
        /// As configured.
        len: usize,
        /// As configured.
        channels: usize,
    },
    /// More than [`MAX_CELLS`].
    #[error("a window of {len} readings of {channels} channels exceeds {MAX_CELLS} cells")]
    TooLarge {
        /// As configured.
        len: usize,
        /// As configured.
        channels: usize,
    },
    /// A duration that is no duration.
    #[error("`{field}` must be above 0 ms, not {value_ms}")]
    NotPositive {
        /// The field's name.
        field: &'static str,
        /// As configured.
        value_ms: i64,
    },
}

/// What happened so far. Every reading pushed is in exactly one of `kept`, `late` and `misshapen`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Readings that went into windows.
    pub kept: u64,
    /// Readings dropped because they were older than their predecessor.
    pub late: u64,
    /// Readings dropped because their number of values was not `channels`.
    pub misshapen: u64,
    /// Windows given out.
    pub windows: u64,
    /// Windows cut short by a gap.
    pub gaps: u64,
}

/// Cuts one source's readings into windows.
#[derive(Debug, Clone)]
pub struct Windows {
    config: WindowConfig,
    t_ms: Vec<i64>,
    values: Vec<f64>,
    /// Source time of the last reading, also across windows.
    last_ms: Option<i64>,
    counts: Counts,
}

impl Windows {
    /// An empty state machine for one source.
    pub fn new(config: WindowConfig) -> Result<Windows, WindowConfigError> {
        let WindowConfig { channels, len, .. } = config;
        if channels == 0 || len == 0 {
            return Err(WindowConfigError::Empty { len, channels });
        }
        if len.checked_mul(channels).is_none_or(|cells| cells > MAX_CELLS) {
            return Err(WindowConfigError::TooLarge { len, channels });
        }
        for (field, value_ms) in [("max_ms", config.max_ms.unwrap_or(1)), ("max_gap_ms", config.max_gap_ms)] {
            if value_ms <= 0 {
                return Err(WindowConfigError::NotPositive { field, value_ms });
            }
        }
        Ok(Windows { config, t_ms: Vec::new(), values: Vec::new(), last_ms: None, counts: Counts::default() })
    }

    /// Takes one reading; gives the window that it completes, or that ends before it. Never both: a window of one
    /// reading is complete at once, so then nothing is waiting when a gap comes.
    pub fn push(&mut self, reading: &Reading) -> Option<Window> {
        if reading.values.len() != self.config.channels {
            self.counts.misshapen += 1;
            return None;
        }
        let ended = match self.last_ms.map(|last_ms| reading.t_ms.saturating_sub(last_ms)) {
            Some(step_ms) if step_ms.saturating_abs() > self.config.max_gap_ms => self.cut(Cut::Gap),
            Some(step_ms) if step_ms < 0 => {
                self.counts.late += 1;
                return None;
            }
            _ if self.lasts_too_long(reading.t_ms) => self.cut(Cut::Duration),
            _ => None,
        };
        self.last_ms = Some(reading.t_ms);
        self.t_ms.push(reading.t_ms);
        self.values.extend_from_slice(&reading.values);
        self.counts.kept += 1;
        if self.t_ms.len() == self.config.len { self.cut(Cut::Full) } else { ended }
    }

    /// Gives what is held once `max_ms` has passed since its first reading. `now_ms`: in the source's time.
    pub fn due(&mut self, now_ms: i64) -> Option<Window> {
        if self.deadline_ms().is_some_and(|deadline_ms| now_ms >= deadline_ms) {
            self.cut(Cut::Duration)
        } else {
            None
        }
    }

    /// The source time at which [`due`](Windows::due) will give a window; `None` when nothing waits.
    pub fn deadline_ms(&self) -> Option<i64> {
        Some(self.t_ms.first()?.saturating_add(self.config.max_ms?))
    }

    /// Gives what is held, if anything.
    pub fn flush(&mut self) -> Option<Window> {
        self.cut(Cut::Flush)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Readings waiting for their window: fewer than `len`.
    pub fn held(&self) -> usize {
        self.t_ms.len()
    }

    fn lasts_too_long(&self, t_ms: i64) -> bool {
        let first_ms = self.t_ms.first().copied().unwrap_or(t_ms);
        self.config.max_ms.is_some_and(|max_ms| t_ms.saturating_sub(first_ms) > max_ms)
    }

    fn cut(&mut self, cut: Cut) -> Option<Window> {
        if self.t_ms.is_empty() {
            return None;
        }
        self.counts.windows += 1;
        self.counts.gaps += u64::from(cut == Cut::Gap);
        Some(Window {
            channels: self.config.channels,
            t_ms: std::mem::take(&mut self.t_ms),
            values: std::mem::take(&mut self.values),
            cut,
        })
    }
}

impl Window {
    /// Readings in it, at least 1.
    pub fn len(&self) -> usize {
        self.t_ms.len()
    }

    /// Never true for a window that [`Windows`] gave.
    pub fn is_empty(&self) -> bool {
        self.t_ms.is_empty()
    }

    /// The readings' values, oldest first. Shape of each: `[channels]`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.channels.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds times, flushes, and gives each window as its cut and its times.
    fn check(max_ms: Option<i64>, times: &[i64], expected: &[(Cut, &[i64])]) -> Counts {
        let mut windows = Windows::new(WindowConfig { channels: 1, len: 3, max_ms, max_gap_ms: 10 }).unwrap();
        let mut given = Vec::new();
        for &t_ms in times {
            given.extend(windows.push(&Reading { t_ms, values: vec![t_ms as f64] }));
        }
        given.extend(windows.flush());
        let given: Vec<_> = given.iter().map(|window| (window.cut, window.t_ms.as_slice())).collect();
        assert_eq!(given, expected, "{times:?}");
        windows.counts()
    }

    #[test]
    fn cuts_where_it_should() {
        check(None, &[], &[]);
        check(None, &[0, 1, 2, 3], &[(Cut::Full, &[0, 1, 2]), (Cut::Flush, &[3])]);
        check(None, &[0, 10, 21, 22, 23], &[(Cut::Gap, &[0, 10]), (Cut::Full, &[21, 22, 23])]);
        check(
            Some(5),
            &[0, 5, 6, 12],
            &[(Cut::Duration, &[0, 5]), (Cut::Duration, &[6]), (Cut::Flush, &[12])],
        );
        check(None, &[i64::MIN, i64::MAX], &[(Cut::Gap, &[i64::MIN]), (Cut::Flush, &[i64::MAX])]);
    }

    #[test]
    fn late_readings_are_dropped_and_a_clock_set_back_is_a_gap() {
        let counts = check(None, &[100, 95, 100, 50], &[(Cut::Gap, &[100, 100]), (Cut::Flush, &[50])]);
        assert_eq!(counts, Counts { kept: 3, late: 1, misshapen: 0, windows: 2, gaps: 1 });
    }

    #[test]
    fn a_slow_source_gets_its_window_by_the_clock() {
        let config = WindowConfig { channels: 2, len: 100, max_ms: Some(1000), max_gap_ms: 5000 };
        let mut windows = Windows::new(config).unwrap();
        assert_eq!(windows.deadline_ms(), None);
        assert_eq!(windows.push(&Reading { t_ms: 7, values: vec![1.0] }), None);
        assert_eq!(windows.counts().misshapen, 1);
        windows.push(&Reading { t_ms: 500, values: vec![1.0, f64::NAN] });
        assert_eq!(windows.deadline_ms(), Some(1500));
        assert_eq!(windows.due(1499), None);
        let window = windows.due(1500).unwrap();
        assert_eq!((window.cut, window.len(), window.rows().len()), (Cut::Duration, 1, 1));
        assert_eq!(windows.due(9999), None);
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let good = WindowConfig { channels: 1, len: 1, max_ms: None, max_gap_ms: 1 };
        assert!(Windows::new(good).is_ok());
        for bad in [
            WindowConfig { channels: 0, ..good },
            WindowConfig { len: 0, ..good },
            WindowConfig { len: usize::MAX, channels: 2, ..good },
            WindowConfig { max_ms: Some(0), ..good },
            WindowConfig { max_gap_ms: -1, ..good },
        ] {
            assert!(Windows::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// Whatever the times: nothing is lost or doubled, no window is longer, lasts longer or spans a gap.
        #[test]
        fn windows_keep_their_promises(
            steps in proptest::collection::vec(-30i64..30, 0..200), len in 1usize..8, max_ms in 1i64..40,
        ) {
            let config = WindowConfig { channels: 1, len, max_ms: Some(max_ms), max_gap_ms: 15 };
            let mut windows = Windows::new(config).unwrap();
            let mut given = Vec::new();
            let mut t_ms = 0;
            for step in &steps {
                t_ms += step;
                given.extend(windows.push(&Reading { t_ms, values: vec![0.0] }));
                prop_assert!(windows.held() < len);
            }
            given.extend(windows.flush());
            let counts = windows.counts();
            prop_assert_eq!(counts.kept + counts.late, steps.len() as u64);
            prop_assert_eq!(counts.kept, given.iter().map(|window| window.len() as u64).sum::<u64>());
            prop_assert_eq!(counts.windows, given.len() as u64);
            for window in &given {
                prop_assert!(window.len() <= len && !window.is_empty());
                prop_assert!(window.t_ms[window.len() - 1] - window.t_ms[0] <= max_ms);
                prop_assert!(window.t_ms.windows(2).all(|pair| (0..=15).contains(&(pair[1] - pair[0]))));
            }
        }
    }
}
