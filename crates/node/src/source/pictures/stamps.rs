//! Which time a picture of a stream has, and whether we have fallen behind the stream.
//!
//! A stream's own clock counts from anywhere; now and then the camera says which time of day a count stands for (RTCP sender
//! reports). Until it does, a picture has the time of its arrival, set right by how far the camera's clock was ahead when it was
//! last known. Pure.

use wire::world::WallMs;

/// Pictures wait so long for the camera to say its time for the first time.
const PATIENCE_MS: i64 = 2_000;
/// We are behind when a picture comes so much later than the quickest did.
const BEHIND_MS: i64 = 2_000;
/// Two counts that lie further apart than their arrivals do, by this much, are of a clock that was set.
const SET_MS: i64 = 10_000;
/// NTP counts seconds from 1900, the rest of us from 1970.
const NTP_1970_S: u64 = 2_208_988_800;

/// Dates the pictures of a camera, over several calls.
#[derive(Debug, Default)]
pub struct Stamps {
    /// A count, and the time that it stands for: both in milliseconds.
    report: Option<(i64, WallMs)>,
    /// How far the camera's clock is ahead of ours, as far as is known.
    ahead_ms: Option<i64>,
    first_ms: Option<WallMs>,
}

impl Stamps {
    /// The camera was called anew: its counts begin anywhere.
    pub fn begin(&mut self) {
        (self.report, self.first_ms) = (None, None);
    }

    /// The camera says which time a count stands for.
    pub fn report(&mut self, count_ms: i64, ntp: u64) {
        let Some(seconds) = (ntp >> 32).checked_sub(NTP_1970_S) else { return };
        let ms = ((ntp & 0xffff_ffff) * 1_000) >> 32;
        self.report = Some((count_ms, (seconds * 1_000 + ms) as i64));
    }

    /// The camera's own time of a picture that arrived at `arrived_ms` by our clock; `None` while it may still say it.
    pub fn date(&mut self, count_ms: i64, arrived_ms: WallMs) -> Option<WallMs> {
        if let Some((reported_ms, time_ms)) = self.report {
            let own_ms = time_ms.saturating_add(count_ms.saturating_sub(reported_ms));
            self.ahead_ms = Some(own_ms.saturating_sub(arrived_ms));
            return Some(own_ms);
        }
        let first_ms = *self.first_ms.get_or_insert(arrived_ms);
        match self.ahead_ms {
            Some(ahead_ms) => Some(arrived_ms.saturating_add(ahead_ms)),
            None if arrived_ms.saturating_sub(first_ms).abs() < PATIENCE_MS => None,
            None => Some(arrived_ms),
        }
    }
}

/// Notices that pictures are older when they come than they need be.
#[derive(Debug, Default)]
pub struct Behind {
    /// The least that arrival and count lay apart, in microseconds.
    least_us: Option<i64>,
    /// The last count and arrival.
    last_ms: Option<(i64, i64)>,
}

impl Behind {
    /// Whether the picture of this count, which arrives now, comes late. Both in milliseconds.
    pub fn is_late(&mut self, count_ms: i64, now_ms: i64) -> bool {
        let apart_ms = now_ms.saturating_sub(count_ms);
        if let Some((count_before, now_before)) = self.last_ms.replace((count_ms, now_ms)) {
            let steps = (count_ms.saturating_sub(count_before), now_ms.saturating_sub(now_before));
            // A slow clock of the camera would look like being late, more and more: a thousandth of what passed is forgotten.
            self.least_us = self.least_us.map(|least_us| least_us.saturating_add(steps.1.max(0)));
            if steps.0 < 0 || steps.0.saturating_sub(steps.1) > SET_MS {
                self.least_us = None;
            }
        }
        let apart_us = apart_ms.saturating_mul(1_000);
        let least_us = self.least_us.map_or(apart_us, |least_us| least_us.min(apart_us));
        self.least_us = Some(least_us);
        apart_us.saturating_sub(least_us) > BEHIND_MS * 1_000
    }

    /// We are at the present again, whatever the count says.
    pub fn catch_up(&mut self) {
        self.least_us = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_says_its_time_or_has_ours() {
        let mut stamps = Stamps::default();
        let now = 1_769_853_600_000;
        assert_eq!((stamps.date(5_000, now), stamps.date(6_999, now + 1_999)), (None, None));
        assert_eq!(stamps.date(7_000, now + 2_000), Some(now + 2_000), "it does not say it");
        // Count 8000 was half a second after three seconds past `now`, by the camera's clock.
        let ntp = ((now as u64 / 1_000 + 3 + NTP_1970_S) << 32) | 1 << 31;
        stamps.report(8_000, ntp);
        assert_eq!(stamps.date(8_040, now + 3_100), Some(now + 3_540));
        stamps.begin();
        assert_eq!(stamps.date(77, now + 9_000), Some(now + 9_440), "as far ahead as before");
        // One that was never set.
        stamps.report(100, 12 << 32);
        assert_eq!(stamps.date(100, now + 9_500), Some(now + 9_940));
    }

    #[test]
    fn who_decodes_too_slowly_is_behind_and_a_clock_that_drifts_is_not() {
        let mut behind = Behind::default();
        let late: Vec<i64> = (0..200).filter(|at| behind.is_late(at * 40, at * 60)).collect();
        assert_eq!(late.first(), Some(&101), "20 ms more with each picture, but for what is forgotten");
        let mut behind = Behind::default();
        assert!((0..500_000).all(|at| !behind.is_late(at * 40, at * 40 + at / 500 + at % 7 * 100)));
        // A count that is set back or ahead begins anew.
        assert!(!behind.is_late(5, 20_000_100) && !behind.is_late(99_000_000, 20_000_140));
        assert!(!behind.is_late(99_000_040, 20_000_180) && behind.is_late(99_000_080, 20_003_000));
        behind.catch_up();
        assert!(!behind.is_late(99_000_120, 20_003_040));
    }
}
