//! Time and chance. The only door to the machine's clocks and randomness: everything else takes a [`World`], so a
//! whole fleet can be played again from one seed.

mod simulated;
mod system;

pub use simulated::Simulated;
pub use system::System;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z. Shown to people and used to draw charts; never to order records.
pub type WallMs = i64;

/// Nanoseconds since this process began. Never goes back; comparable within one boot only.
pub type MonoNs = u64;

/// How far a wall time can be trusted. A node without a battery-backed clock wakes up in 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockQuality {
    /// Nobody has confirmed the clock since this boot.
    #[default]
    Unchecked,
    /// The hub's time agreed with ours within a few seconds.
    Checked,
    /// The hub's time disagreed: the wall time is wrong, the monotonic time still orders records.
    Off,
}

impl ClockQuality {
    /// The word used in encodings and on screens. The set is closed: the word is part of what a record's hash covers.
    pub fn as_str(self) -> &'static str {
        match self {
            ClockQuality::Unchecked => "unchecked",
            ClockQuality::Checked => "checked",
            ClockQuality::Off => "off",
        }
    }

    /// The inverse of [`ClockQuality::as_str`].
    pub fn parse(word: &str) -> Option<ClockQuality> {
        let all = [ClockQuality::Unchecked, ClockQuality::Checked, ClockQuality::Off];
        all.into_iter().find(|quality| quality.as_str() == word)
    }
}

/// What time it is.
pub trait Clock: Send {
    /// The wall clock, which people may set back.
    fn wall_ms(&self) -> WallMs;
    /// The monotonic clock, which nobody can.
    fn mono_ns(&self) -> MonoNs;
}

/// Where chance comes from.
pub trait Entropy: Send {
    /// Fills `bytes` with randomness.
    fn fill(&mut self, bytes: &mut [u8]);

    /// A number in `0.0..1.0`, with 53 random bits.
    fn unit(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Both at once.
pub trait World: Clock + Entropy {}

impl<T: Clock + Entropy> World for T {}
