//! The time by which certificates are judged: this machine's wall clock, set right in memory by what the hub signed.
//!
//! Never the system's clock: other programs own that. Never below the floor: this node had a certificate then, so it is later.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::sync::Notify;
use wire::world::{Clock, WallMs};

/// What time it probably is.
pub struct Judged {
    clock: Mutex<Box<dyn Clock>>,
    offset_ms: AtomicI64,
    floor_ms: AtomicI64,
    doubted: AtomicBool,
    bell: Notify,
}

impl Judged {
    /// The wall clock, but no earlier than `floor_ms`.
    pub fn new(clock: impl Clock + 'static, floor_ms: WallMs) -> Arc<Judged> {
        Arc::new(Judged {
            clock: Mutex::new(Box::new(clock)),
            offset_ms: AtomicI64::new(0),
            floor_ms: AtomicI64::new(floor_ms),
            doubted: AtomicBool::new(false),
            bell: Notify::new(),
        })
    }

    fn wall_ms(&self) -> WallMs {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).wall_ms()
    }

    /// Now.
    pub fn now_ms(&self) -> WallMs {
        self.wall_ms().saturating_add(self.offset_ms.load(Relaxed)).max(self.floor_ms.load(Relaxed))
    }

    /// The hub has said, and signed, that it is `hub_ms` now.
    pub fn set(&self, hub_ms: WallMs) {
        self.offset_ms.store(hub_ms.saturating_sub(self.wall_ms()), Relaxed);
        self.doubted.store(false, Relaxed);
    }

    /// A certificate was made at that time, so it is later.
    pub fn raise(&self, floor_ms: WallMs) {
        self.floor_ms.fetch_max(floor_ms, Relaxed);
    }

    /// The hub's certificate fails for its dates only: either they or this time are wrong.
    pub fn doubt(&self) {
        self.doubted.store(true, Relaxed);
        self.bell.notify_one();
    }

    /// Whether somebody has doubted it since it was set.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Relaxed)
    }

    /// Waits until somebody doubts it.
    pub async fn doubted(&self) {
        self.bell.notified().await;
    }
}

impl std::fmt::Debug for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judged").field("now_ms", &self.now_ms()).finish_non_exhaustive()
    }
}

impl TimeProvider for Judged {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.now_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn the_floor_and_what_the_hub_says() {
        let world = Simulated::new(1);
        let now_ms = world.wall_ms();
        let judged = Judged::new(world.clone(), now_ms - 5);
        assert_eq!(judged.now_ms(), now_ms);
        world.set_wall_back_ms(now_ms);
        assert_eq!(judged.now_ms(), now_ms - 5, "1970 is not believed");
        judged.doubt();
        assert!(judged.is_doubted());
        judged.set(now_ms + 1000);
        assert!(!judged.is_doubted());
        world.advance_ms(10);
        assert_eq!(judged.now_ms(), now_ms + 1010);
        judged.set(0);
        assert_eq!(judged.now_ms(), now_ms - 5);
        judged.raise(now_ms);
        assert_eq!(judged.now_ms(), now_ms);
    }
}
