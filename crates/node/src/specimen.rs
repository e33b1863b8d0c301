//! Machines, hearts, farms, shops, shelves and roads that do not exist: streams made from a seed whose truth is known, for
//! examples, tests and
//! benches. Pure: a seed gives the same stream every time.
//!
//! Their numbers are drawn from published physics and physiology, not fitted to a recording: what a detector reaches
//! on them says how it does on such plants, not on a certain one.

pub mod bearing;
pub mod farm;
pub mod heart;
pub mod plant;
pub mod road;
pub mod shelf;
pub mod sight;
pub mod till;

use std::io::Write;

use wire::world::{Entropy, Simulated, WallMs};

/// One reading, with the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When, milliseconds since 1970 UTC.
    pub t_ms: WallMs,
    /// Shape: `[channels]`; NaN where there is no value.
    pub values: Vec<f64>,
    /// What is wrong, if anything.
    pub wrong: Option<&'static str>,
}

/// Writes samples as CSV: `time`, the channels, and a column `truth` with what is wrong.
pub fn write_csv(
    channels: &[&str],
    samples: impl IntoIterator<Item = Sample>,
    to: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(to, "time,{},truth", channels.join(","))?;
    for Sample { t_ms, values, wrong } in samples {
        write!(to, "{t_ms}")?;
        for value in values {
            if value.is_nan() { write!(to, ",")? } else { write!(to, ",{value:.5}")? }
        }
        writeln!(to, ",{}", u8::from(wrong.is_some()))?;
    }
    Ok(())
}

/// A standard normal number (Box and Muller 1958).
fn gauss(chance: &mut Simulated) -> f64 {
    let radius = (-2.0 * (1.0 - chance.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.unit()).cos()
}

/// A value that wanders and is drawn back to zero (Ornstein–Uhlenbeck) with spread 1; `rate`: the step over the memory.
fn wander(chance: &mut Simulated, value: f64, rate: f64) -> f64 {
    value * (1.0 - rate) + (2.0 * rate).sqrt() * gauss(chance)
}
