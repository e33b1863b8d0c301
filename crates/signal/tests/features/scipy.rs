//! Statistics, spectra and envelopes of random frames, computed again by numpy and scipy.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use signal::feature::envelope::EnvelopeConfig;
use signal::feature::frame::FrameConfig;
use signal::feature::{Feature, FeatureConfig, FeatureKind};

/// A number from −1 to 1 that looks like chance.
fn noise(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Frames of all kinds: noise, sines, blows, lines, far from zero and near, of even and of odd length.
fn frames() -> Vec<(f64, Vec<f64>)> {
    let mut frames = Vec::new();
    for (at, len) in [64, 101, 500, 1000, 1024, 2047].into_iter().enumerate() {
        let at = at as u64;
        let rate = 10f64.powi(at as i32 % 4) * 10.0;
        let turn = std::f64::consts::TAU / len as f64;
        let noisy = move |i: usize| noise(at * 10_000 + i as u64);
        frames.push((rate, (0..len).map(noisy).collect()));
        frames.push((rate, (0..len).map(|i| 1e4 + noisy(i) + 0.01 * i as f64).collect()));
        frames.push((rate, (0..len).map(|i| 3.0 * (7.3 * turn * i as f64).sin() + 0.1 * noisy(i)).collect()));
        frames.push((rate, (0..len).map(|i| 0.1 * noisy(i) + if i % 23 == 0 { 2.0 } else { 0.0 }).collect()));
        frames.push((rate, (0..len).map(|i| 1e-6 * noisy(i)).collect()));
    }
    frames
}

fn measure(kind: FeatureKind, rate_hz: f64, frame: &[f64]) -> Vec<f64> {
    let config = FeatureConfig { kind, frame: FrameConfig { len: frame.len(), hop: frame.len(), rate_hz } };
    let mut feature = Feature::new(config).unwrap();
    let mut numbers = None;
    for (i, value) in frame.iter().enumerate() {
        numbers = feature.push((i as f64 * 1e3 / rate_hz).round() as i64, *value).map(<[f64]>::to_vec);
    }
    numbers.expect("the last sample completes the frame")
}

fn near(what: &str, ours: f64, theirs: &Value, of: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-9 * of.max(theirs.abs()), "{what}: {ours}, scipy has {theirs}");
}

#[test]
fn scipy_computes_the_same() {
    let python = std::env::var("SELVEDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import scipy"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: {python} does not have scipy (set SELVEDGE_PYTHON)");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features/oracle.py");
    let mut child =
        Command::new(&python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut compared = 0;
    for (rate, frame) in frames() {
        let bands = vec![(0.0, rate / 8.0), (rate / 8.0, rate / 4.0), (rate / 4.0, rate * 0.45)];
        let ringing = (rate / 8.0, rate * 0.4);
        let question = json!({ "rate": rate, "frame": frame, "bands": bands, "ringing": ringing });
        writeln!(ask, "{question}").unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();

        let largest = frame.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        let ours = measure(FeatureKind::Statistics, rate, &frame);
        for (at, name) in signal::feature::statistics::NAMES.into_iter().enumerate() {
            // Moments of what lies far from zero lose digits in both.
            let of = if name == "slope" { largest * rate } else { largest };
            near(name, ours[at], &answer["statistics"][at], if at == 8 || at == 9 { 1e3 } else { of });
        }
        let ours = measure(FeatureKind::Spectrum { bands: bands.clone() }, rate, &frame);
        for (at, ours) in ours[..3].iter().enumerate() {
            near(&format!("band {at}"), *ours, &answer["bands"][at], 1e-6 * largest * largest);
        }
        near("centroid", ours[5], &answer["centroid"], rate);

        let len = frame.len() as f64;
        let shaft_hz = 10.0 * rate / len;
        let config = EnvelopeConfig { band: ringing, shaft_hz, orders: vec![("one".into(), 1.0)] };
        let ours = measure(FeatureKind::Envelope(config), rate, &frame);
        near("rms of the band", ours[1], &answer["rms"], largest);
        near("kurtosis of the band", ours[2], &answer["kurtosis"], 1e3);
        compared += 1;
    }
    drop(ask);
    assert!(child.wait().unwrap().success());
    println!("{compared} frames");
    assert_eq!(compared, 30);
}
