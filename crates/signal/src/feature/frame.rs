//! Cuts one channel into overlapping frames, the unit a feature is computed from.
//!
//! Unlike a window, which is cut once for the models and never overlaps, a frame holds evenly sampled values of one
//! channel: as many as `len`, and a new one every `hop`. A missing value is held; a frame of which too much was held,
//! or whose readings did not come at the rate they should, is given as not sound, and nothing is computed from it.
//!
//! Always holds: at most `len` samples are kept; only building allocates.

/// The most samples of a frame: five seconds at 12 kHz, 1 MiB of values and times.
pub const MAX_LEN: usize = 1 << 16;
/// The most frames that a sample may belong to: what a feature costs stays in proportion to its input.
pub const MAX_OVERLAP: usize = 64;
/// The share of a frame that may have been held.
const MAX_HELD: f64 = 0.1;
/// How far the time that a frame took may be from what its rate says.
const PACE_TOLERANCE: f64 = 0.1;

/// The shape of the frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameConfig {
    /// Samples of a frame, at least 2.
    pub len: usize,
    /// Samples from the begin of one frame to the begin of the next.
    pub hop: usize,
    /// Samples a second.
    pub rate_hz: f64,
}

/// Why frames cannot have this shape.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Too short or too long.
    #[error("a frame has 2 to {MAX_LEN} samples, not {len}")]
    Len {
        /// As configured.
        len: usize,
    },
    /// It would stand still, or cost too much.
    #[error("a new frame of {len} samples must begin every {} or more, not every {hop}", least_hop(*len))]
    Hop {
        /// As configured.
        len: usize,
        /// As configured.
        hop: usize,
    },
    /// A rate that is none.
    #[error("a rate is above 0 and at most a million a second, not {rate_hz}")]
    Rate {
        /// As configured.
        rate_hz: f64,
    },
}

/// Samples of one channel, oldest first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame<'a> {
    /// Shape: `[len]`, in the sensor's own unit, finite.
    pub values: &'a [f64],
    /// Whether enough of it was measured, at the pace that was declared.
    pub sound: bool,
}

/// Cuts one channel into frames.
#[derive(Debug, Clone)]
pub struct Frames {
    config: FrameConfig,
    values: Vec<f64>,
    t_ms: Vec<i64>,
    held: Vec<bool>,
    /// Samples to leave out before the next frame begins, where frames do not touch.
    skip: usize,
    last: Option<f64>,
}

impl FrameConfig {
    fn check(&self) -> Result<(), FrameError> {
        let FrameConfig { len, hop, rate_hz } = *self;
        if !(2..=MAX_LEN).contains(&len) {
            return Err(FrameError::Len { len });
        }
        if hop < least_hop(len) {
            return Err(FrameError::Hop { len, hop });
        }
        if !(rate_hz > 0.0 && rate_hz <= 1e6) {
            return Err(FrameError::Rate { rate_hz });
        }
        Ok(())
    }

    /// The time between the first and the last sample of a frame.
    fn lasts_ms(&self) -> f64 {
        (self.len - 1) as f64 / self.rate_hz * 1e3
    }
}

fn least_hop(len: usize) -> usize {
    len.div_ceil(MAX_OVERLAP).max(1)
}

impl Frames {
    /// Nothing held yet.
    pub fn new(config: FrameConfig) -> Result<Frames, FrameError> {
        config.check()?;
        Ok(Frames {
            values: Vec::with_capacity(config.len),
            t_ms: Vec::with_capacity(config.len),
            held: Vec::with_capacity(config.len),
            skip: 0,
            last: None,
            config,
        })
    }

    /// Their shape.
    pub fn config(&self) -> FrameConfig {
        self.config
    }

    /// Takes one sample; gives the frame that it completes. What is not finite is missing. A clock that steps back, or
    /// a silence as long as a frame, begins anew.
    pub fn push(&mut self, t_ms: i64, value: f64) -> Option<Frame<'_>> {
        let FrameConfig { len, hop, .. } = self.config;
        if self.values.len() == len {
            let gone = hop.min(len);
            self.drop_oldest(gone);
            self.skip = hop - gone;
        }
        if let Some(&last_ms) = self.t_ms.last() {
            let step_ms = t_ms.saturating_sub(last_ms);
            if step_ms < 0 || step_ms as f64 > self.config.lasts_ms().max(1.0) {
                self.clear();
            }
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let measured = value.is_finite();
        // Before anything was measured there is nothing to hold.
        let value = if measured { value.clamp(-1e60, 1e60) } else { self.last? };
        self.last = Some(value);
        self.values.push(value);
        self.t_ms.push(t_ms);
        self.held.push(!measured);
        (self.values.len() == len).then(|| Frame { values: &self.values, sound: self.sound() })
    }

    fn drop_oldest(&mut self, count: usize) {
        let left = self.values.len() - count;
        self.values.copy_within(count.., 0);
        self.values.truncate(left);
        self.t_ms.copy_within(count.., 0);
        self.t_ms.truncate(left);
        self.held.copy_within(count.., 0);
        self.held.truncate(left);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.t_ms.clear();
        self.held.clear();
        self.skip = 0;
        self.last = None;
    }

    fn sound(&self) -> bool {
        let held = self.held.iter().filter(|held| **held).count();
        let took_ms = match (self.t_ms.first(), self.t_ms.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first) as f64,
            _ => 0.0,
        };
        let should_ms = self.config.lasts_ms();
        // Times are whole milliseconds: both ends may be off by one.
        (took_ms - should_ms).abs() <= PACE_TOLERANCE * should_ms + 2.0
            && held as f64 <= MAX_HELD * self.values.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds samples of 10 Hz and gives the first value of each frame, negative where the frame is not sound.
    fn check(len: usize, hop: usize, samples: &[(i64, f64)], expected: &[f64]) {
        let mut frames = Frames::new(FrameConfig { len, hop, rate_hz: 10.0 }).unwrap();
        let mut given = Vec::new();
        for &(t_ms, value) in samples {
            if let Some(frame) = frames.push(t_ms, value) {
                assert_eq!(frame.values.len(), len);
                given.push(if frame.sound { frame.values[0] } else { -frame.values[0] });
            }
        }
        assert_eq!(given, expected);
    }

    fn even(range: std::ops::Range<i64>) -> Vec<(i64, f64)> {
        range.map(|i| (i * 100, i as f64)).collect()
    }

    #[test]
    fn frames_overlap_touch_or_leave_room_between_them() {
        check(4, 2, &even(1..11), &[1.0, 3.0, 5.0, 7.0]);
        check(4, 4, &even(1..11), &[1.0, 5.0]);
        check(3, 5, &even(1..14), &[1.0, 6.0, 11.0]);
    }

    #[test]
    fn what_is_missing_is_held_and_too_much_of_it_is_not_sound() {
        let mut samples = even(1..61);
        samples[4].1 = f64::NAN;
        check(20, 20, &samples, &[1.0, 21.0, 41.0]);
        for sample in &mut samples[22..26] {
            sample.1 = f64::INFINITY;
        }
        check(20, 20, &samples, &[1.0, -21.0, 41.0]);
        check(2, 1, &[(0, f64::NAN), (100, 1.0), (200, 2.0)], &[1.0]);
    }

    #[test]
    fn a_silence_or_a_clock_set_back_begins_anew_and_another_pace_is_not_sound() {
        let mut samples = even(1..6);
        samples.extend(even(100..108));
        samples.extend(even(50..56));
        check(4, 4, &samples, &[1.0, 100.0, 104.0, 50.0]);
        let slow: Vec<_> = (1..21).map(|i| (i * 130, i as f64)).collect();
        check(10, 10, &slow, &[-1.0, -11.0]);
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let good = FrameConfig { len: 128, hop: 2, rate_hz: 1.0 };
        assert!(Frames::new(good).is_ok());
        for bad in [
            FrameConfig { len: 1, ..good },
            FrameConfig { len: MAX_LEN + 1, hop: MAX_LEN, ..good },
            FrameConfig { hop: 1, ..good },
            FrameConfig { hop: 0, ..good },
            FrameConfig { rate_hz: f64::NAN, ..good },
            FrameConfig { rate_hz: 0.0, ..good },
        ] {
            assert!(Frames::new(bad).is_err(), "{bad:?}");
        }
    }
}
