//! A world played from a seed: time stands still until it is moved, chance is a fixed sequence.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::{Clock, Entropy, MonoNs, WallMs};

/// 2026-01-01T00:00:00Z, where every simulation begins.
const START_MS: WallMs = 1_767_225_600_000;

/// A simulated world. Clones share the clock; each clone draws its own sequence from where it was cloned.
#[derive(Debug, Clone)]
pub struct Simulated {
    mono_ns: Arc<AtomicU64>,
    wall_offset_ms: Arc<AtomicI64>,
    state: u64,
}

impl Simulated {
    /// The same seed gives the same night.
    pub fn new(seed: u64) -> Simulated {
        Simulated {
            mono_ns: Arc::new(AtomicU64::new(0)),
            wall_offset_ms: Arc::new(AtomicI64::new(START_MS)),
            state: seed,
        }
    }

    /// Lets time pass.
    pub fn advance_ms(&self, ms: u64) {
        self.mono_ns.fetch_add(ms * 1_000_000, Relaxed);
    }

    /// Moves time forward to `mono_ns`; a time already past changes nothing.
    pub fn advance_to(&self, mono_ns: MonoNs) {
        self.mono_ns.fetch_max(mono_ns, Relaxed);
    }

    /// Somebody sets the wall clock, forward or back; monotonic time does not notice.
    pub fn set_wall_back_ms(&self, ms: i64) {
        self.wall_offset_ms.fetch_sub(ms, Relaxed);
    }
}

impl Clock for Simulated {
    fn wall_ms(&self) -> WallMs {
        self.wall_offset_ms.load(Relaxed) + (self.mono_ns() / 1_000_000) as i64
    }

    fn mono_ns(&self) -> MonoNs {
        self.mono_ns.load(Relaxed)
    }
}

impl Entropy for Simulated {
    /// SplitMix64 (Steele, Lea, Flood 2014): tiny, fast, and good enough to play dice with.
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_night() {
        let (mut a, mut b, mut c) = (Simulated::new(7), Simulated::new(7), Simulated::new(8));
        let draw = |world: &mut Simulated| (0..4).map(|_| world.unit()).collect::<Vec<_>>();
        let first = draw(&mut a);
        assert_eq!(first, draw(&mut b));
        assert_ne!(first, draw(&mut c));
        assert!(first.iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn monotonic_time_does_not_follow_the_wall_clock_back() {
        let world = Simulated::new(0);
        world.advance_ms(5_000);
        let (wall, mono) = (world.wall_ms(), world.mono_ns());
        world.set_wall_back_ms(60_000);
        assert_eq!(world.wall_ms(), wall - 60_000);
        assert_eq!(world.mono_ns(), mono);
    }
}
