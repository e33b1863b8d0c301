//! Cost of the detector: microseconds a sample and bytes of state, learning and learnt.
//!
//! `cargo bench -p signal`. The goal is 20 µs and 64 kB at 8 channels and lag 10.

use std::hint::black_box;
use std::time::Instant;

use signal::detector::{Config, Detector};

/// Channels that share two rhythms, with noise.
fn sample(i: u64, channels: usize) -> Vec<f64> {
    let noise = |k: u64| (k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
    let t = i as f64;
    (0..channels)
        .map(|c| (t * 0.11).sin() + c as f64 * (t * 0.031).cos() + noise(i * channels as u64 + c as u64))
        .collect()
}

/// Mean time of a step over these samples, in microseconds.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time(detector: &mut Detector, samples: &[Vec<f64>]) -> f64 {
    let start = Instant::now();
    for sample in samples {
        black_box(detector.step(black_box(sample)));
    }
    start.elapsed().as_secs_f64() * 1e6 / samples.len() as f64
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("channels  learning  bytes  last learning step       learnt  bytes");
    for channels in [1, 2, 8, 16, 32] {
        let config = Config::new(channels);
        let learn = config.learn as usize;
        let samples: Vec<Vec<f64>> = (0..learn as u64 + 20_000).map(|i| sample(i, channels)).collect();
        let mut detector = Detector::new(config)?;
        let learning = time(&mut detector, &samples[..learn - 1]);
        let learning_bytes = detector.state_bytes();
        let last = time(&mut detector, &samples[learn - 1..learn]);
        let learnt = time(&mut detector, &samples[learn..]);
        println!(
            "{channels:>8} {learning:>6.2} µs {learning_bytes:>6} {:>16.2} ms {learnt:>9.2} µs {:>6}",
            last / 1e3,
            detector.state_bytes()
        );
    }
    Ok(())
}
