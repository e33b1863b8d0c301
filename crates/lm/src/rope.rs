//! The angles of rotary positions: base, scaling and factors of each family.
//!
//! A [`Turner`] holds the waves of one rope, and gives cosine and sine of each at a position. Angles are computed in f64:
//! in f32 a position of 100 000 is off by up to 0.004 of a turn.

use crate::shape::{Rope, Scaling};

/// Factors by which waves are divided, from tensors of the file; each as long as half the rope's dims.
#[derive(Clone, Debug, Default)]
pub struct Factors {
    /// `rope_freqs.weight` (llama3), at any length.
    pub all: Option<Vec<f32>>,
    /// `rope_factors_short.weight` (phi3), for sequences within the original context.
    pub short: Option<Vec<f32>>,
    /// `rope_factors_long.weight` (phi3), for longer ones.
    pub long: Option<Vec<f32>>,
}

/// The waves of one rope.
#[derive(Clone, Debug)]
pub struct Turner {
    /// Radians per position, for each pair.
    short: Vec<f64>,
    /// The same for sequences that reach beyond `original`.
    long: Option<Vec<f64>>,
    original: usize,
    /// Multiplies cosine and sine.
    magnitude: f64,
}

impl Turner {
    /// The waves that a rope's base, scaling and factors make.
    pub fn new(rope: &Rope, factors: &Factors) -> Turner {
        let half = rope.dims / 2;
        let base = f64::from(rope.base);
        let plain: Vec<f64> = (0..half).map(|i| base.powf(-2.0 * i as f64 / rope.dims as f64)).collect();
        let divided = |factors: &Option<Vec<f32>>| -> Option<Vec<f64>> {
            let factors = factors.as_ref()?;
            Some(plain.iter().zip(factors).map(|(wave, factor)| wave / f64::from(*factor)).collect())
        };
        let mut turner = Turner { short: plain.clone(), long: None, original: usize::MAX, magnitude: 1.0 };
        if let Some(waves) = divided(&factors.all) {
            turner.short = waves;
        }
        match rope.scaling {
            Scaling::None | Scaling::Factors => {}
            Scaling::Linear { factor } => {
                turner.short.iter_mut().for_each(|wave| *wave /= f64::from(factor));
            }
            Scaling::Yarn { factor, original, beta_fast, beta_slow, attention } => {
                let factor = f64::from(factor);
                let ramp = yarn_ramp(rope.dims, base, original, f64::from(beta_fast), f64::from(beta_slow));
                for (wave, stretched) in turner.short.iter_mut().zip(ramp) {
                    *wave = *wave / factor * stretched + *wave * (1.0 - stretched);
                }
                // Peng et al. 2023, equation 22.
                turner.magnitude = f64::from(attention) * (1.0 + 0.1 * factor.ln());
            }
            Scaling::Long { original, attention } => {
                if let (Some(short), Some(long)) = (divided(&factors.short), divided(&factors.long)) {
                    turner.short = short;
                    turner.long = Some(long);
                    turner.original = original;
                    turner.magnitude = f64::from(attention);
                }
            }
        }
        turner
    }

    /// Pairs that turn.
    pub fn pairs(&self) -> usize {
        self.short.len()
    }

    /// Cosine and sine of each pair at `position`, for a sequence that will reach `reach` positions.
    pub fn turns(&self, position: usize, reach: usize, out: &mut [(f32, f32)]) {
        let waves = match &self.long {
            Some(long) if reach > self.original => long,
            _ => &self.short,
        };
        for (turn, wave) in out.iter_mut().zip(waves) {
            let (sin, cos) = (position as f64 * wave).sin_cos();
            *turn = ((cos * self.magnitude) as f32, (sin * self.magnitude) as f32);
        }
    }

    /// Whether a sequence that was begun for `one` reach can go on, or be shared, under `other`: they turn alike.
    pub fn alike(&self, one: usize, other: usize) -> bool {
        self.long.is_none() || (one > self.original) == (other > self.original)
    }
}

/// How far each wave is stretched, 0 (kept) to 1 (in full): YaRN's ramp between the pairs that turn `beta_fast` and
/// `beta_slow` times within the original context.
fn yarn_ramp(
    dims: usize,
    base: f64,
    original: usize,
    beta_fast: f64,
    beta_slow: f64,
) -> impl Iterator<Item = f64> {
    let pair_that_turns = |times: f64| {
        dims as f64 * (original as f64 / (times * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
    };
    let low = pair_that_turns(beta_fast).floor().max(0.0);
    let high = pair_that_turns(beta_slow).ceil().min(dims as f64 - 1.0);
    let span = if high > low { high - low } else { 0.001 };
    (0..dims / 2).map(move |i| ((i as f64 - low) / span).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use kernels::rope::Pairing;

    use super::*;

    fn rope(scaling: Scaling) -> Rope {
        Rope { dims: 8, base: 10_000.0, pairing: Pairing::Halves, scaling }
    }

    fn angles(turner: &Turner, position: usize, reach: usize) -> Vec<f64> {
        let mut turns = vec![(0.0, 0.0); turner.pairs()];
        turner.turns(position, reach, &mut turns);
        turns.iter().map(|(cos, sin)| f64::from(*sin).atan2(f64::from(*cos))).collect()
    }

    fn check(scaling: Scaling, factors: &Factors, reach: usize, expected: [f64; 4]) {
        let turner = Turner::new(&rope(scaling), factors);
        for (angle, expected) in angles(&turner, 1, reach).iter().zip(expected) {
            assert!((angle - expected).abs() < 1e-7, "{angle} is not {expected}");
        }
    }

    #[test]
    fn waves_are_stretched_as_the_scaling_says() {
        let none = Factors::default();
        check(Scaling::None, &none, 10, [1.0, 0.1, 0.01, 0.001]);
        check(Scaling::Linear { factor: 4.0 }, &none, 10, [0.25, 0.025, 0.0025, 0.00025]);
        let all = Factors { all: Some(vec![1.0, 2.0, 4.0, 8.0]), ..Factors::default() };
        check(Scaling::Factors, &all, 10, [1.0, 0.05, 0.0025, 0.000_125]);
        let both = Factors { short: Some(vec![1.0; 4]), long: Some(vec![2.0; 4]), all: None };
        let long = Scaling::Long { original: 10, attention: 1.5 };
        check(long.clone(), &both, 10, [1.0, 0.1, 0.01, 0.001]);
        check(long, &both, 11, [0.5, 0.05, 0.005, 0.0005]);
    }

    #[test]
    fn yarn_keeps_short_waves_and_stretches_long_ones() {
        let yarn =
            Scaling::Yarn { factor: 4.0, original: 1024, beta_fast: 32.0, beta_slow: 1.0, attention: 1.0 };
        let turner = Turner::new(&rope(yarn), &Factors::default());
        let angles = angles(&turner, 1, 10);
        assert!((angles[0] - 1.0).abs() < 1e-7);
        assert!((angles[3] - 0.001 / 4.0).abs() < 1e-7);
        let mut turns = vec![(0.0, 0.0); 4];
        turner.turns(0, 10, &mut turns);
        assert!((f64::from(turns[0].0) - (1.0 + 0.1 * 4f64.ln())).abs() < 1e-7);
    }
}
