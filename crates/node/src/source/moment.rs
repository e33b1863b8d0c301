//! Which time a reading gets: the device's own, if it can be believed, or that of its arrival.
//!
//! Devices without a battery wake up in 1970, and set clocks wrong by hours. A reading dated by such a clock would look late to
//! everything after it, or make everything after it look late.

use wire::world::WallMs;

/// A device may have kept what it measured for so long.
const OLDEST_MS: i64 = 30 * 86_400_000;
/// A device's clock may be ahead by so much.
const AHEAD_MS: i64 = 5 * 60_000;
/// A clock that shows less has never been set: 2020.
const SET_MS: WallMs = 1_577_836_800_000;

/// The time of a reading, and whether the device's own was not believed.
pub(super) fn moment(device_ms: Option<WallMs>, arrived_ms: WallMs) -> (WallMs, bool) {
    let Some(device_ms) = device_ms else { return (arrived_ms, false) };
    let believed = if arrived_ms < SET_MS {
        // Our own clock is the worse one, unless neither was ever set.
        device_ms >= SET_MS
    } else {
        (arrived_ms - OLDEST_MS..=arrived_ms + AHEAD_MS).contains(&device_ms)
    };
    if believed { (device_ms, false) } else { (arrived_ms, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let now = 1_769_853_600_000;
        assert_eq!(moment(None, now), (now, false));
        assert_eq!(moment(Some(now - 5_000), now), (now - 5_000, false));
        assert_eq!(moment(Some(now + 60_000), now), (now + 60_000, false));
        assert_eq!(moment(Some(now + 3_600_000), now), (now, true));
        assert_eq!(moment(Some(12_000), now), (now, true));
        assert_eq!(moment(Some(now), 9_000), (now, false));
        assert_eq!(moment(Some(12_000), 9_000), (9_000, true));
        assert_eq!(moment(Some(i64::MAX), now), (now, true));
        assert_eq!(moment(Some(i64::MIN), now), (now, true));
    }
}
