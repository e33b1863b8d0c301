//! A picture on its way from a source to the networks that look at it, with the numbers that were measured of it.
//!
//! A picture is a reading: its numbers pass through health, features, models and rules as those of any other source do. The picture
//! itself is seen by networks alone. It is in no record, and is forgotten once they have looked; records hold its digest.

use net::picture::Picture;
use wire::hash::Hash;
use wire::world::{MonoNs, WallMs};

/// What is measured of each picture; the last is how many pictures were dropped since the one before.
pub const CHANNELS: [&str; 5] = ["brightness", "contrast", "sharpness", "change", "dropped"];

/// A picture, and what was measured of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// When it was taken.
    pub t_ms: WallMs,
    /// When it came in, by the node's monotonic clock.
    pub arrived_ns: MonoNs,
    /// Pictures that came after the one before, and were not looked at.
    pub dropped: u64,
    /// The picture.
    pub picture: Picture,
    /// Of its file; of a video's picture, of its pixels: red, green and blue, row by row.
    pub digest: Hash,
    /// Shape: `[brightness, contrast, sharpness, change]`.
    measured: [f64; 4],
}

impl Frame {
    /// A picture with what was measured of it.
    pub fn new(t_ms: WallMs, measured: [f64; 4], picture: Picture, digest: Hash) -> Frame {
        Frame { t_ms, arrived_ns: 0, dropped: 0, picture, digest, measured }
    }

    /// Its numbers. Shape: that of [`CHANNELS`].
    pub fn row(&self) -> [f64; 5] {
        let [brightness, contrast, sharpness, change] = self.measured;
        [brightness, contrast, sharpness, change, self.dropped as f64]
    }
}

/// The channels as a source tells them.
pub fn channels() -> Vec<String> {
    CHANNELS.map(str::to_owned).to_vec()
}
