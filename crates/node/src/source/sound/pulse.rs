//! Dates samples that come in pieces: evenly, as they were taken, and yet by our clock.
//!
//! No two clocks agree: a sound card that says 16000 samples a second gives a few more or fewer. So the beginning is moved a little
//! with each piece, toward when the piece arrived. A piece that comes much later than it should had others before it that were lost:
//! then time jumps. Pure.

use wire::world::WallMs;

/// A piece that is so much later than expected follows on others that were lost.
const LOST_MS: f64 = 500.0;
/// What part of the difference is made good with each piece.
const SLEW: f64 = 1.0 / 64.0;

/// Dates samples.
#[derive(Debug)]
pub struct Pulse {
    sample_ms: f64,
    /// When the first sample of the piece was taken.
    piece_ms: f64,
    /// When the one after the piece will be; `None` before the first piece.
    next_ms: Option<f64>,
}

impl Pulse {
    /// For so many samples a second.
    pub fn new(rate_hz: f64) -> Pulse {
        Pulse { sample_ms: 1e3 / rate_hz, piece_ms: 0.0, next_ms: None }
    }

    /// A piece of so many samples is here now. Gives how many milliseconds were lost before it.
    pub fn arrive(&mut self, samples: usize, now_ms: WallMs) -> i64 {
        let length_ms = samples as f64 * self.sample_ms;
        let taken_ms = now_ms as f64 - length_ms;
        let Some(next_ms) = self.next_ms else {
            (self.piece_ms, self.next_ms) = (taken_ms, Some(now_ms as f64));
            return 0;
        };
        let late_ms = taken_ms - next_ms;
        let lost_ms = if late_ms.abs() > LOST_MS { late_ms } else { 0.0 };
        // Never so far back that a sample would come before the one before it.
        let moved_ms = if lost_ms == 0.0 { (late_ms * SLEW).max(-length_ms / 2.0) } else { lost_ms };
        self.piece_ms = next_ms + moved_ms.max(0.0);
        self.next_ms = Some(next_ms + moved_ms + length_ms);
        if lost_ms < 0.0 {
            // Our clock was set back: so are the samples.
            self.piece_ms = next_ms + lost_ms;
        }
        lost_ms.max(0.0) as i64
    }

    /// When a sample of the piece was taken.
    pub fn t_ms(&self, sample: usize) -> WallMs {
        (self.piece_ms + sample as f64 * self.sample_ms) as WallMs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 100 ms at 1 kHz from a card that gives `rate` for our 1000; each comes up to `jitter` late. The times of all samples.
    fn dated(pieces: usize, rate: f64, jitter_ms: i64) -> (Vec<WallMs>, i64) {
        let mut pulse = Pulse::new(1_000.0);
        let (mut times, mut lost) = (Vec::new(), 0);
        for piece in 1..=pieces {
            let now_ms = (piece as f64 * 100.0 * 1_000.0 / rate) as i64 + piece as i64 * 37 % (jitter_ms + 1);
            lost += pulse.arrive(100, now_ms);
            times.extend((0..100).map(|sample| pulse.t_ms(sample)));
        }
        (times, lost)
    }

    #[test]
    fn samples_are_even_and_follow_our_clock() {
        for rate in [1_000.0, 1_000.5, 999.5] {
            let (times, lost) = dated(36_000, rate, 80);
            assert_eq!(lost, 0);
            assert!(times.windows(2).all(|pair| (0..=4).contains(&(pair[1] - pair[0]))), "{rate}");
            let end_ms = 3_600_000.0 * 1_000.0 / rate;
            let off_ms = (*times.last().unwrap() as f64 - end_ms).abs();
            assert!(off_ms < 100.0, "{rate}: {off_ms} ms off after an hour");
        }
    }

    #[test]
    fn what_was_lost_is_told_and_time_goes_on_after_it() {
        let mut pulse = Pulse::new(1_000.0);
        assert_eq!((pulse.arrive(100, 1_000), pulse.t_ms(0), pulse.t_ms(99)), (0, 900, 999));
        assert_eq!((pulse.arrive(100, 4_100), pulse.t_ms(0)), (3_000, 4_000));
        assert_eq!((pulse.arrive(100, 4_200), pulse.t_ms(0)), (0, 4_100));
        assert_eq!((pulse.arrive(100, 2_000), pulse.t_ms(0)), (0, 1_900), "the clock was set back");
    }
}
