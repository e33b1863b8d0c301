//! The real world: the operating system's clocks and entropy.

#![expect(clippy::disallowed_methods, reason = "this is the one door to them")]

use std::time::{Instant, SystemTime};

use super::{Clock, Entropy, MonoNs, WallMs};

/// The machine's own clocks and randomness.
#[derive(Debug, Clone, Copy)]
pub struct System {
    start: Instant,
}

impl System {
    /// Monotonic time counts from here.
    pub fn new() -> System {
        System { start: Instant::now() }
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}

impl Clock for System {
    fn wall_ms(&self) -> WallMs {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn mono_ns(&self) -> MonoNs {
        // 2^64 ns are 584 years.
        self.start.elapsed().as_nanos() as u64
    }
}

impl Entropy for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Without entropy no id and no key is safe; the kernel gives it or the machine is not usable.
        getrandom::fill(bytes).expect("the operating system gives entropy");
    }
}
