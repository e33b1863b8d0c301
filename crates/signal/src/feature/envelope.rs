//! Which blows a machine hides in its noise: the envelope spectrum, for bearings and gears.
//!
//! A damaged spot of a bearing strikes at a fixed multiple of the shaft's speed, its *order*, and each blow makes the
//! housing ring at frequencies far higher. So the frame is cut down to such a ringing band, its envelope taken (the
//! magnitude of the analytic signal), and the spectrum of the envelope shows the rhythm of the blows: high-frequency
//! resonance demodulation (McFadden and Smith 1984; Randall and Antoni, "Rolling element bearing diagnostics, a
//! tutorial", 2011). Band and Hilbert transform are one step: a Fourier transform, of which only the positive
//! frequencies inside the band are transformed back.
//!
//! For each order the largest amplitude near its first three multiples is divided by the median amplitude around
//! them; the geometric mean of the three is how far the blows stand out of the background. Noise has 1.5 to 6.
//!
//! On recordings of a test bench at 12 kHz (1 s frames, 2 to 4 kHz): healthy at most 4, damaged inner race 10 to 37,
//! damaged outer race 76 to 89, each at its own order; a damaged ball is not found, as others report of the same
//! recordings (Smith and Randall 2015).

use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex64;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::spectrum::{Band, Hann, SpectrumError, bins, check_band};

/// The most orders watched.
pub const MAX_ORDERS: usize = 16;
/// Multiples of an order that are looked at; fewer where the frequencies end.
const HARMONICS: usize = 3;
/// How far from its place a peak may be: a bearing slips by a percent or two.
const SLIP: f64 = 0.02;
/// The background reaches so far to both sides, as a share of the order's frequency.
const AROUND: f64 = 0.35;

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvelopeConfig {
    /// The ringing band.
    pub band: Band,
    /// Turns of the shaft a second.
    pub shaft_hz: f64,
    /// Multiples of the shaft's speed, with the names of what strikes so often.
    pub orders: Vec<(String, f64)>,
}

/// Measures frames of one length at one rate.
#[derive(Clone)]
pub struct Envelope {
    config: EnvelopeConfig,
    rate_hz: f64,
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    frame: Vec<f64>,
    transformed: Vec<Complex64>,
    /// The band, and the band turned by a quarter.
    parts: [Vec<Complex64>; 2],
    filtered: [Vec<f64>; 2],
    scratch: Vec<Complex64>,
    hann: Hann,
    amplitudes: Vec<f64>,
    sorted: Vec<f64>,
}

/// Why nothing can be found this way.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// The ringing band cannot be.
    #[error(transparent)]
    Band(#[from] SpectrumError),
    /// None, or too many.
    #[error("1 to {MAX_ORDERS} orders can be watched, not {found}")]
    Count {
        /// As configured.
        found: usize,
    },
    /// A speed that is none.
    #[error("the shaft must turn: its speed is above 0 Hz, not {shaft_hz}")]
    Shaft {
        /// As configured.
        shaft_hz: f64,
    },
    /// Too slow for the frame, or too fast for the rate.
    #[error("`{name}` strikes {hz:.3} times a second: a frame tells {least_hz:.3} to {most_hz:.3} apart")]
    Order {
        /// As configured.
        name: String,
        /// The order times the shaft's speed.
        hz: f64,
        /// Eight frequencies of the spectrum.
        least_hz: f64,
        /// Half the rate, less the search.
        most_hz: f64,
    },
}

impl Envelope {
    /// For frames of `len` samples, `rate_hz` a second.
    pub fn new(len: usize, rate_hz: f64, config: EnvelopeConfig) -> Result<Envelope, EnvelopeError> {
        check_band(config.band, len, rate_hz)?;
        let EnvelopeConfig { shaft_hz, orders, .. } = &config;
        if orders.is_empty() || orders.len() > MAX_ORDERS {
            return Err(EnvelopeError::Count { found: orders.len() });
        }
        if !(*shaft_hz > 0.0 && shaft_hz.is_finite()) {
            return Err(EnvelopeError::Shaft { shaft_hz: *shaft_hz });
        }
        let (least_hz, most_hz) = (8.0 * rate_hz / len as f64, rate_hz / 2.0 / (1.0 + AROUND));
        for (name, order) in orders {
            let hz = order * shaft_hz;
            if !(hz >= least_hz && hz <= most_hz) {
                return Err(EnvelopeError::Order { name: name.clone(), hz, least_hz, most_hz });
            }
        }
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(len), planner.plan_fft_inverse(len));
        let hann = Hann::new(len);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Ok(Envelope {
            rate_hz,
            frame: forward.make_input_vec(),
            transformed: forward.make_output_vec(),
            parts: [inverse.make_input_vec(), inverse.make_input_vec()],
            filtered: [inverse.make_output_vec(), inverse.make_output_vec()],
            scratch: vec![Complex64::default(); scratch],
            amplitudes: vec![0.0; hann.bins()],
            sorted: Vec::with_capacity(hann.bins()),
            config,
            forward,
            inverse,
            hann,
        })
    }

    /// Measures a frame. `frame`: `[len]`, finite; `out`: in the order of [`names`].
    ///
    /// Each order: how many times the background its blows are, no unit. `rms` of the band, in the sensor's unit;
    /// `kurtosis` of the band, 3 for noise without blows. Orders and kurtosis are missing (NaN) where the band is empty.
    pub fn measure(&mut self, frame: &[f64], out: &mut [f64]) {
        self.demodulate(frame);
        let n = frame.len() as f64;
        let [band, envelope] = &mut self.filtered;
        let (mut m2, mut m4) = (0.0, 0.0);
        for x in band.iter() {
            m2 += x * x;
            m4 += x * x * x * x;
        }
        for (x, turned) in band.iter().zip(envelope.iter_mut()) {
            *turned = x.hypot(*turned);
        }
        let (orders, rest) = out.split_at_mut(self.config.orders.len());
        rest[0] = (m2 / n).sqrt();
        let largest = frame.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        if rest[0] <= 1e-12 * largest {
            orders.fill(f64::NAN);
            rest[1] = f64::NAN;
            return;
        }
        rest[1] = m4 * n / (m2 * m2);
        self.hann.measure(envelope, &mut self.amplitudes);
        self.amplitudes.iter_mut().for_each(|power| *power = power.sqrt());
        let step_hz = self.rate_hz / n;
        for (at, out) in orders.iter_mut().enumerate() {
            let hz = self.config.orders[at].1 * self.config.shaft_hz;
            *out = self.stands_out(hz, step_hz);
        }
    }

    /// The band of the frame, and the same turned by a quarter, into `filtered`.
    fn demodulate(&mut self, frame: &[f64]) {
        let (own, len) = ("the buffers are the plan's own", frame.len() as f64);
        self.frame.copy_from_slice(frame);
        self.forward
            .process_with_scratch(
                &mut self.frame,
                &mut self.transformed,
                &mut self.scratch[..self.forward.get_scratch_len()],
            )
            .expect(own);
        let last = self.transformed.len() - 1;
        let (first, end) = bins(self.config.band, self.rate_hz / len, last);
        // Neither 0 nor half the rate can be turned.
        let (first, end) = (first.max(1), end.max(1));
        let [band, turned] = &mut self.parts;
        band.fill(Complex64::default());
        turned.fill(Complex64::default());
        for bin in first..end {
            let x = self.transformed[bin] / len;
            band[bin] = x;
            turned[bin] = Complex64::new(x.im, -x.re);
        }
        for (part, filtered) in self.parts.iter_mut().zip(&mut self.filtered) {
            let scratch = &mut self.scratch[..self.inverse.get_scratch_len()];
            self.inverse.process_with_scratch(part, filtered, scratch).expect(own);
        }
    }

    /// How far the multiples of `hz` stand out of what is around them.
    fn stands_out(&mut self, hz: f64, step_hz: f64) -> f64 {
        let bins = self.amplitudes.len();
        let (mut logs, mut seen) = (0.0, 0);
        for harmonic in 1..=HARMONICS {
            let centre = harmonic as f64 * hz;
            let reach = (SLIP * centre).max(1.5 * step_hz);
            if centre + reach + AROUND * hz >= step_hz * (bins - 1) as f64 {
                break;
            }
            let near =
                |from: f64, to: f64| ((from / step_hz).ceil() as usize).max(1)..(to / step_hz) as usize + 1;
            let peak =
                self.amplitudes[near(centre - reach, centre + reach)].iter().fold(0.0f64, |a, b| a.max(*b));
            let around = near(centre - AROUND * hz, centre + AROUND * hz);
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.amplitudes[around]);
            let middle = self.sorted.len() / 2;
            let (_, median, _) = self.sorted.select_nth_unstable_by(middle, f64::total_cmp);
            logs += (peak.max(1e-300) / median.max(1e-300)).ln();
            seen += 1;
        }
        if seen == 0 { f64::NAN } else { (logs / f64::from(seen)).exp() }
    }
}

/// What each number is called: the names of the orders, then `rms` and `kurtosis`.
pub fn names(orders: &[(String, f64)]) -> Vec<String> {
    let orders = orders.iter().map(|(name, _)| name.clone());
    orders.chain(["rms", "kurtosis"].map(str::to_owned)).collect()
}

impl fmt::Debug for Envelope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Envelope")
            .field("config", &self.config)
            .field("rate_hz", &self.rate_hz)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that looks like chance, −1 to 1.
    fn noise(i: u64) -> f64 {
        let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A second at 8 kHz: noise, the shaft's own hum, and blows that ring at 2.5 kHz, `strikes` times a second.
    fn machine(strikes: f64, seed: u64) -> Vec<f64> {
        let rate = 8000.0;
        (0..8000)
            .map(|i| {
                let t = f64::from(i) / rate;
                let since = if strikes > 0.0 { (t * strikes).fract() / strikes } else { 1.0 };
                let blow = (-since * 800.0).exp() * (std::f64::consts::TAU * 2500.0 * since).sin();
                (std::f64::consts::TAU * 25.0 * t).sin() + 1.5 * blow + 0.4 * noise(seed + i as u64)
            })
            .collect()
    }

    fn config() -> EnvelopeConfig {
        let orders = vec![("outer".into(), 3.585), ("inner".into(), 5.415)];
        EnvelopeConfig { band: (1500.0, 3500.0), shaft_hz: 25.0, orders }
    }

    #[test]
    fn each_fault_is_found_at_its_own_order_and_noise_at_none() {
        let mut envelope = Envelope::new(8000, 8000.0, config()).unwrap();
        assert_eq!(names(&config().orders), ["outer", "inner", "rms", "kurtosis"]);
        let mut out = [0.0; 4];
        for seed in 0..20 {
            envelope.measure(&machine(0.0, seed * 1_000_000), &mut out);
            assert!(out[0] < 7.0 && out[1] < 7.0, "{out:?}");
            envelope.measure(&machine(3.585 * 25.0, seed * 1_000_000), &mut out);
            assert!(out[0] > 10.0 && out[1] < 7.0, "{out:?}");
            envelope.measure(&machine(5.415 * 25.0 * 1.01, seed * 1_000_000), &mut out);
            assert!(out[1] > 10.0 && out[0] < 7.0 && out[3] > 3.0, "{out:?}");
        }
    }

    #[test]
    fn the_envelope_of_a_modulated_tone_is_its_modulation() {
        let mut envelope = Envelope::new(8000, 8000.0, config()).unwrap();
        let turn = std::f64::consts::TAU / 8000.0;
        let tone: Vec<f64> = (0..8000)
            .map(|i| (2.0 + (turn * 90.0 * f64::from(i)).cos()) * (turn * 2500.0 * f64::from(i)).sin())
            .collect();
        envelope.measure(&tone, &mut [0.0; 4]);
        for (i, x) in envelope.filtered[1].iter().enumerate() {
            assert!((x - (2.0 + (turn * 90.0 * i as f64).cos())).abs() < 1e-9, "{i}: {x}");
        }
    }

    #[test]
    fn a_silent_band_says_nothing() {
        let mut envelope = Envelope::new(8000, 8000.0, config()).unwrap();
        let mut out = [0.0; 4];
        envelope.measure(&[4.2; 8000], &mut out);
        assert!(out[0].is_nan() && out[3].is_nan() && out[2] < 1e-9, "{out:?}");
    }

    #[test]
    fn what_cannot_be_found_is_refused() {
        let order = |order: f64| EnvelopeConfig { orders: vec![("cage".into(), order)], ..config() };
        for (config, message) in [
            (EnvelopeConfig { band: (3500.0, 5000.0), ..config() }, "half the rate"),
            (EnvelopeConfig { orders: Vec::new(), ..config() }, "1 to 16 orders"),
            (EnvelopeConfig { shaft_hz: 0.0, ..config() }, "must turn"),
            (order(0.1), "strikes 2.500 times a second"),
            (order(400.0), "strikes 10000.000"),
            (order(f64::NAN), "strikes NaN"),
        ] {
            let error = Envelope::new(8000, 8000.0, config).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
