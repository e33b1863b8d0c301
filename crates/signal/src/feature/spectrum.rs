//! How the power of a frame is spread over frequencies.
//!
//! The mean is taken off, a Hann window laid over it, and the Fourier transform squared: the modified periodogram
//! (Welch 1967), scaled so that the sum over all frequencies is the variance. A band's power is in the sensor's unit
//! squared, so that bands of different frames and rates can be compared.

use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex64;
use realfft::{RealFftPlanner, RealToComplex};

/// The most bands of one spectrum.
pub const MAX_BANDS: usize = 64;

/// A stretch of frequencies, in hertz: from the first, to below the second.
pub type Band = (f64, f64);

/// Measures frames of one length at one rate.
#[derive(Clone)]
pub struct Spectrum {
    rate_hz: f64,
    bands: Vec<Band>,
    hann: Hann,
    /// Power at each multiple of `rate_hz / len`. Shape: `[len / 2 + 1]`.
    power: Vec<f64>,
}

/// The one-sided periodogram under a Hann window; its buffers are its own.
#[derive(Clone)]
pub(super) struct Hann {
    fft: Arc<dyn RealToComplex<f64>>,
    /// Shape: `[len]`.
    window: Vec<f64>,
    windowed: Vec<f64>,
    transformed: Vec<Complex64>,
    scratch: Vec<Complex64>,
    /// 1 / (len · Σ window²).
    scale: f64,
}

/// Why a spectrum cannot have these bands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpectrumError {
    /// None, or too many.
    #[error("a spectrum has 1 to {MAX_BANDS} bands, not {found}")]
    Count {
        /// As configured.
        found: usize,
    },
    /// A band that holds no frequency of the signal.
    #[error(
        "a band goes up, from at least 0 Hz to at most {nyquist_hz} Hz (half the rate), not from {low} to {high}"
    )]
    Band {
        /// As configured.
        low: f64,
        /// As configured.
        high: f64,
        /// Half the rate.
        nyquist_hz: f64,
    },
    /// The frame is too short to tell the band from its neighbours.
    #[error(
        "the band from {low} to {high} Hz is narrower than the {step_hz} Hz that a frame of {len} can tell apart"
    )]
    Narrow {
        /// As configured.
        low: f64,
        /// As configured.
        high: f64,
        /// The distance of two frequencies.
        step_hz: f64,
        /// Samples of a frame.
        len: usize,
    },
}

impl Spectrum {
    /// For frames of `len` samples, `rate_hz` a second.
    pub fn new(len: usize, rate_hz: f64, bands: &[Band]) -> Result<Spectrum, SpectrumError> {
        if bands.is_empty() || bands.len() > MAX_BANDS {
            return Err(SpectrumError::Count { found: bands.len() });
        }
        bands.iter().try_for_each(|band| check_band(*band, len, rate_hz))?;
        let hann = Hann::new(len);
        Ok(Spectrum { rate_hz, bands: bands.to_vec(), power: vec![0.0; hann.bins()], hann })
    }

    /// Measures a frame. `frame`: `[len]`, finite; `out`: in the order of [`names`].
    ///
    /// `band_…`: the band's power, in the unit squared. `peak_hz`: the strongest frequency, drawn between bins by a
    /// parabola over the logs of its neighbours; `peak`: the amplitude of a sine there. `centroid_hz`: the mean frequency, weighted by
    /// power. The last three are missing (NaN) where nothing varies.
    pub fn measure(&mut self, frame: &[f64], out: &mut [f64]) {
        self.hann.measure(frame, &mut self.power);
        let step_hz = self.rate_hz / frame.len() as f64;
        let (bands, rest) = out.split_at_mut(self.bands.len());
        for ((low, high), out) in self.bands.iter().zip(bands) {
            let (first, end) = bins((*low, *high), step_hz, self.power.len());
            *out = self.power[first..end].iter().sum();
        }
        let total: f64 = self.power.iter().sum();
        let largest =
            (1..self.power.len()).max_by(|&a, &b| self.power[a].total_cmp(&self.power[b])).unwrap_or(0);
        if total <= 0.0 || largest == 0 {
            rest.fill(f64::NAN);
            return;
        }
        // A sine's power lies in the three bins of the Hann window's main lobe.
        let lobe: f64 =
            self.power[largest.saturating_sub(1)..(largest + 2).min(self.power.len())].iter().sum();
        let weighted: f64 = self.power.iter().enumerate().map(|(bin, power)| bin as f64 * power).sum();
        rest[0] = (largest as f64 + between(&self.power, largest)) * step_hz;
        rest[1] = (2.0 * lobe).sqrt();
        rest[2] = weighted / total * step_hz;
    }
}

/// What each number of a spectrum with so many bands is called: `band_1`…, then `peak_hz`, `peak`, `centroid_hz`.
pub fn names(bands: usize) -> Vec<String> {
    let bands = (1..=bands).map(|band| format!("band_{band}"));
    bands.chain(["peak_hz", "peak", "centroid_hz"].map(str::to_owned)).collect()
}

impl fmt::Debug for Spectrum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Spectrum")
            .field("rate_hz", &self.rate_hz)
            .field("bands", &self.bands)
            .finish_non_exhaustive()
    }
}

impl Hann {
    pub(super) fn new(len: usize) -> Hann {
        let fft = RealFftPlanner::new().plan_fft_forward(len);
        let turn = |i: usize| (i as f64 * std::f64::consts::TAU / len as f64).cos();
        // Periodic, as for a transform of the same length.
        let window: Vec<f64> = (0..len).map(|i| 0.5 - 0.5 * turn(i)).collect();
        let squares: f64 = window.iter().map(|w| w * w).sum();
        Hann {
            windowed: fft.make_input_vec(),
            transformed: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            scale: 1.0 / (len as f64 * squares),
            window,
            fft,
        }
    }

    /// Frequencies from 0 to half the rate.
    pub(super) fn bins(&self) -> usize {
        self.transformed.len()
    }

    /// The power at each frequency, in the unit squared: their sum is the variance under the window.
    pub(super) fn measure(&mut self, frame: &[f64], power: &mut [f64]) {
        let mean = frame.iter().sum::<f64>() / frame.len() as f64;
        for ((windowed, x), window) in self.windowed.iter_mut().zip(frame).zip(&self.window) {
            *windowed = (x - mean) * window;
        }
        self.fft
            .process_with_scratch(&mut self.windowed, &mut self.transformed, &mut self.scratch)
            .expect("the buffers are the plan's own");
        let last = self.transformed.len() - 1;
        let even = self.window.len().is_multiple_of(2);
        for (bin, (power, x)) in power.iter_mut().zip(&self.transformed).enumerate() {
            // Each frequency stands for its negative too; 0 and half the rate are their own.
            let sides = if bin == 0 || (bin == last && even) { 1.0 } else { 2.0 };
            *power = sides * self.scale * x.norm_sqr();
        }
    }
}

/// The first bin of a band, and the one behind its last.
pub(super) fn bins((low, high): Band, step_hz: f64, len: usize) -> (usize, usize) {
    let bin = |hz: f64| ((hz / step_hz).ceil() as usize).min(len);
    (bin(low), bin(high).max(bin(low)))
}

/// Whether frames of `len` samples tell anything of a band.
pub(super) fn check_band((low, high): Band, len: usize, rate_hz: f64) -> Result<(), SpectrumError> {
    let nyquist_hz = rate_hz / 2.0;
    // A last bin at half the rate belongs to the band that ends there.
    if !(low >= 0.0 && high > low && high <= nyquist_hz * (1.0 + 1e-9)) {
        return Err(SpectrumError::Band { low, high, nyquist_hz });
    }
    let step_hz = rate_hz / len as f64;
    let (first, end) = bins((low, high), step_hz, len / 2 + 1);
    if first == end {
        return Err(SpectrumError::Narrow { low, high, step_hz, len });
    }
    Ok(())
}

/// Where between its neighbours a peak really is, −0.5 to 0.5 bins: the top of a parabola through their logs.
fn between(power: &[f64], at: usize) -> f64 {
    let (Some(before), Some(after)) = (at.checked_sub(1).map(|i| power[i]), power.get(at + 1)) else {
        return 0.0;
    };
    let [a, b, c] = [before, power[at], *after].map(|x| x.max(1e-300).ln());
    let bend = a - 2.0 * b + c;
    if bend < 0.0 { (0.5 * (a - c) / bend).clamp(-0.5, 0.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(len: usize, rate_hz: f64, parts: &[(f64, f64)]) -> Vec<f64> {
        let at = |i: usize| {
            parts
                .iter()
                .map(|(hz, high)| high * (std::f64::consts::TAU * hz * i as f64 / rate_hz).sin())
                .sum::<f64>()
        };
        (0..len).map(at).collect()
    }

    fn measure(len: usize, rate_hz: f64, bands: &[Band], frame: &[f64]) -> Vec<f64> {
        let mut spectrum = Spectrum::new(len, rate_hz, bands).unwrap();
        let mut out = vec![0.0; names(bands.len()).len()];
        spectrum.measure(frame, &mut out);
        out
    }

    #[test]
    fn a_sine_is_found_where_it_is_with_its_power_and_its_amplitude() {
        let frame = sine(1000, 1000.0, &[(50.0, 2.0), (200.0, 0.5)]);
        let bands = [(0.0, 100.0), (100.0, 300.0), (300.0, 500.0)];
        let [low, middle, high, peak_hz, peak, _] = measure(1000, 1000.0, &bands, &frame)[..] else {
            panic!()
        };
        assert!(
            (low - 2.0).abs() < 1e-9 && (middle - 0.125).abs() < 1e-9 && high < 1e-9,
            "{low} {middle} {high}"
        );
        assert!((peak_hz - 50.0).abs() < 1e-6 && (peak - 2.0).abs() < 1e-6, "{peak_hz} {peak}");
        // Between two bins: the frequency within a twentieth of a bin.
        let between = measure(1000, 1000.0, &bands, &sine(1000, 1000.0, &[(50.37, 1.0)]));
        assert!((between[3] - 50.37).abs() < 0.05, "{}", between[3]);
    }

    #[test]
    fn nothing_that_varies_has_no_peak_and_odd_lengths_work() {
        let flat = measure(101, 10.0, &[(0.0, 5.0)], &[3.5; 101]);
        assert!(flat[0].abs() < 1e-20, "{flat:?}");
        let zero = measure(101, 10.0, &[(0.0, 5.0)], &[0.0; 101]);
        assert!(zero[1].is_nan() && zero[2].is_nan() && zero[3].is_nan());
        let frame = sine(101, 10.0, &[(1.0, 1.0)]);
        assert!((measure(101, 10.0, &[(0.0, 5.0)], &frame)[0] - 0.5).abs() < 0.02);
    }

    #[test]
    fn bands_that_cannot_be_are_refused() {
        for (len, bands, message) in [
            (100, &[][..], "1 to 64 bands"),
            (100, &[(5.0, 4.0)], "goes up"),
            (100, &[(0.0, 60.0)], "at most 50 Hz"),
            (100, &[(f64::NAN, 5.0)], "goes up"),
            (100, &[(10.1, 10.9)], "narrower"),
        ] {
            let error = Spectrum::new(len, 100.0, bands).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
