//! Streams of numbers: from single readings to windows, and from samples to a verdict on each.
//!
//! Pure: no IO, no clock, no chance. Every type here is a state machine that its owner feeds; memory is bounded by
//! its configuration, and what a sensor sends (gaps, missing cells, infinities, a clock stepping back) never panics.
//!
//! The map, in reading order:
//! - [`reading`]: one timestamped sample of a source.
//! - [`window`]: cuts readings into windows, the unit a model looks at.
//! - [`calibrate`]: how rare a score is among those seen before.
//! - [`surprise`]: novelty of values and levels, and jumps: what just happened is unlike the stream's own past.
//! - [`mewma`]: averages of all channels together, and their restlessness: the state is unlike the one learnt.
//! - [`detector`]: the one anomaly detector, made of the three above.
//! - [`health`]: whether a channel's sensor can be believed.
//! - [`feature`]: numbers that say more of a channel than its samples: spectra, envelopes, heart beats.

#![forbid(unsafe_code)]

pub mod calibrate;
pub mod detector;
pub mod feature;
pub mod health;
pub mod mewma;
pub mod reading;
pub mod surprise;
pub mod window;
