//! Cost of what stands before the detector: health, microseconds a reading; features, microseconds a sample.
//!
//! `cargo bench -p signal --bench stations`.

use std::hint::black_box;
use std::time::Instant;

use signal::feature::envelope::EnvelopeConfig;
use signal::feature::frame::FrameConfig;
use signal::feature::{Feature, FeatureConfig, FeatureKind};
use signal::health::{Health, HealthConfig};

/// Channels that share two rhythms, with noise.
fn sample(i: u64, channels: usize) -> Vec<f64> {
    let noise = |k: u64| (k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
    let t = i as f64;
    (0..channels)
        .map(|c| (t * 0.11).sin() + c as f64 * (t * 0.031).cos() + noise(i * channels as u64 + c as u64))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for channels in [1, 5, 8, 32] {
        let samples: Vec<Vec<f64>> = (0..100_000).map(|i| sample(i, channels)).collect();
        let mut health = Health::new(HealthConfig::default(), channels)?;
        let start = Instant::now();
        let mut values = vec![0.0; channels];
        for (i, sample) in samples.iter().enumerate() {
            values.copy_from_slice(sample);
            black_box(health.step(i as i64 * 100, black_box(&mut values)));
        }
        let us = start.elapsed().as_secs_f64() * 1e6 / samples.len() as f64;
        println!("health, {channels:>2} channels {us:>8.3} µs a reading");
    }
    let orders = vec![("outer".to_owned(), 3.585), ("inner".to_owned(), 5.415)];
    let envelope = EnvelopeConfig { band: (2000.0, 4000.0), shaft_hz: 29.95, orders };
    for (what, kind, rate_hz, len) in [
        ("statistics", FeatureKind::Statistics, 12_000.0, 12_000),
        (
            "spectrum",
            FeatureKind::Spectrum { bands: vec![(0.0, 3000.0), (3000.0, 6000.0)] },
            12_000.0,
            12_000,
        ),
        ("envelope", FeatureKind::Envelope(envelope), 12_000.0, 12_000),
        ("heart", FeatureKind::Heart, 250.0, 2_500),
    ] {
        let frame = FrameConfig { len, hop: len / 2, rate_hz };
        let mut feature = Feature::new(FeatureConfig { kind, frame })?;
        let values: Vec<f64> = (0..240_000).map(|i| sample(i, 1)[0]).collect();
        let start = Instant::now();
        for (i, value) in values.iter().enumerate() {
            black_box(feature.push((i as f64 * 1e3 / rate_hz) as i64, black_box(*value)));
        }
        let us = start.elapsed().as_secs_f64() * 1e6 / values.len() as f64;
        println!("{what:<10} {us:>8.3} µs a sample, frames of {len} that overlap by half");
    }
    Ok(())
}
