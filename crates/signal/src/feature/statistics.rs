//! What a frame is like as a heap of numbers: level, spread, peaks and the shape of their distribution.
//!
//! Crest and kurtosis are the classic early signs of a damaged bearing: short blows lift the peaks long before they
//! lift the mean power (Dyer and Stewart, "Detection of rolling element bearing damage by statistical vibration
//! analysis", 1978).

/// What each number is called, in the order of [`measure`].
pub const NAMES: [&str; 12] = [
    "mean",
    "rms",
    "std",
    "min",
    "max",
    "peak",
    "peak_to_peak",
    "crest",
    "skewness",
    "kurtosis",
    "slope",
    "roughness",
];

/// Measures a frame. `frame`: `[len]`, at least 2, finite; `out`: in the order of [`NAMES`].
///
/// All in the sensor's unit, but: crest, skewness and kurtosis have none (a normal distribution has kurtosis 3), the
/// slope of the least-squares line is in units a second. `std` divides by `len`; `peak` is the largest magnitude;
/// `roughness` is the root mean square of the steps from sample to sample. A frame without any spread has no shape:
/// its skewness and kurtosis are missing (NaN), as is the crest of a frame of zeros.
pub fn measure(frame: &[f64], rate_hz: f64, out: &mut [f64; NAMES.len()]) {
    let n = frame.len() as f64;
    let mean = frame.iter().sum::<f64>() / n;
    let (mut min, mut max, mut squares) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
    let (mut m2, mut m3, mut m4, mut tilt) = (0.0, 0.0, 0.0, 0.0);
    let middle = (n - 1.0) / 2.0;
    for (i, &x) in frame.iter().enumerate() {
        min = min.min(x);
        max = max.max(x);
        squares += x * x;
        let off = x - mean;
        m2 += off * off;
        m3 += off * off * off;
        m4 += off * off * off * off;
        tilt += off * (i as f64 - middle);
    }
    let steps: f64 = frame.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    let (rms, variance, peak) = ((squares / n).sqrt(), m2 / n, min.abs().max(max.abs()));
    let std = variance.sqrt();
    // Rounding alone gives a constant a spread of some 1e-16 of itself.
    let spread = std > 1e-12 * peak;
    let shape = |moment: f64, power: i32| if spread { moment / n / std.powi(power) } else { f64::NAN };
    *out = [
        mean,
        rms,
        std,
        min,
        max,
        peak,
        max - min,
        if rms > 0.0 { peak / rms } else { f64::NAN },
        shape(m3, 3),
        shape(m4, 4),
        // The sum of the squares of the distances from the middle is n(n² − 1)/12.
        tilt / (n * (n * n - 1.0) / 12.0) * rate_hz,
        (steps / (n - 1.0)).sqrt(),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &[f64], expected: &[(&str, f64)]) {
        let mut out = [0.0; NAMES.len()];
        measure(frame, 10.0, &mut out);
        for (name, value) in expected {
            let found = out[NAMES.iter().position(|known| known == name).unwrap()];
            let same = (found - value).abs() < 1e-9 || (found.is_nan() && value.is_nan());
            assert!(same, "{name} is {found}, not {value}");
        }
    }

    #[test]
    fn closed_forms() {
        let sine: Vec<f64> =
            (0..1000).map(|i| 3.0 * (i as f64 * std::f64::consts::TAU / 100.0).sin()).collect();
        let root = 0.5f64.sqrt();
        check(
            &sine,
            &[
                ("mean", 0.0),
                ("rms", 3.0 * root),
                ("crest", 1.0 / root),
                ("skewness", 0.0),
                ("kurtosis", 1.5),
            ],
        );
        let line: Vec<f64> = (0..50).map(|i| 7.0 - 0.25 * f64::from(i)).collect();
        check(
            &line,
            &[("slope", -2.5), ("roughness", 0.25), ("max", 7.0), ("peak_to_peak", 12.25), ("peak", 7.0)],
        );
        check(&[5.0; 8], &[("std", 0.0), ("crest", 1.0), ("kurtosis", f64::NAN), ("slope", 0.0)]);
        check(&[0.0; 8], &[("rms", 0.0), ("crest", f64::NAN), ("skewness", f64::NAN)]);
        check(&[0.1; 7], &[("kurtosis", f64::NAN)]);
        check(
            &[0.0, 0.0, 0.0, 4.0],
            &[("mean", 1.0), ("skewness", 6.0 / 3f64.powf(1.5)), ("kurtosis", 21.0 / 9.0)],
        );
    }
}
