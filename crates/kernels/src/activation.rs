//! The non-linear steps of a feed-forward block: SiLU, GELU and their gated forms, with the rounding
//! that follows. All in place.
//!
//! Errors against f64, tested over −30 … 30: below 4e-7 of the result's size plus 1e-30 for SiLU and both GELUs' positive
//! half; in the far negative tail the exponent's rounding grows with x², bounded by 1e-5 of the (then tiny) result.

use crate::compute::Compute;
use crate::matmul::Input;
use crate::matmul::packed::Make;
use crate::simd::{Simd, exp, load_part, store_part};

/// What stands between the two halves of a feed-forward block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    /// SiLU: `x · σ(x)`.
    Silu,
    /// GELU in its tanh form: `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// GELU as it is defined: `x/2 · (1 + erf(x / √2))`.
    GeluErf,
}

/// `x = curve(x)` for the rows that were begun in `input`, or `x = curve(x) · up` where there is a gate.
pub fn bend(compute: &Compute, curve: Curve, input: &mut Input, up: Option<&[f32]>) {
    assert!(up.is_none_or(|up| up.len() == input.rows().len()), "as many to multiply with");
    input.make(compute, &mut [], &Bend { curve, up });
}

struct Bend<'a> {
    curve: Curve,
    up: Option<&'a [f32]>,
}

impl Make for Bend<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, index: usize, row: &mut [f32], _: &mut [f32]) {
        let up = self.up.map(|up| &up[index * row.len()..][..row.len()]);
        let (chunks, rest) = row.as_chunks_mut();
        let (up, up_rest) = up.map_or((None, None), |up| {
            let (chunks, rest) = up.as_chunks();
            (Some(chunks), Some(rest))
        });
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let mut y = self.curve.bend(simd, simd.load(chunk));
            if let Some(up) = up {
                y = simd.mul(y, simd.load(&up[i]));
            }
            simd.store(y, chunk);
        }
        if !rest.is_empty() {
            let mut y = self.curve.bend(simd, load_part(simd, rest, 0.0));
            if let Some(up) = up_rest {
                y = simd.mul(y, load_part(simd, up, 0.0));
            }
            store_part(simd, y, rest);
        }
    }
}

impl Curve {
    /// Sixteen numbers. No closure: it would be compiled without this path's instructions, a call for each operation.
    #[inline(always)]
    fn bend<S: Simd>(self, simd: S, x: S::F) -> S::F {
        match self {
            Curve::Silu => over_one_plus_exp(simd, x, simd.mul(x, simd.splat(-1.0))),
            Curve::GeluTanh => {
                // (1 + tanh y) / 2 = 1 / (1 + e⁻²ʸ)
                let inner = simd.mul(simd.mul_add(simd.mul(x, x), simd.splat(0.044_715), simd.splat(1.0)), x);
                over_one_plus_exp(simd, x, simd.mul(inner, simd.splat(-1.595_769_2)))
            }
            Curve::GeluErf => gelu_by_erf(simd, x),
        }
    }
}

/// `x / (1 + eʸ)`.
#[inline(always)]
fn over_one_plus_exp<S: Simd>(simd: S, x: S::F, y: S::F) -> S::F {
    simd.div(x, simd.add(simd.splat(1.0), exp(simd, y)))
}

/// erfc(z) ≈ t e^(−z² + P(t)), t = 1 / (1 + z/2), for z ≥ 0: Press et al., Numerical Recipes, 6.2 (relative error < 1.2e-7).
#[inline(always)]
fn gelu_by_erf<S: Simd>(simd: S, x: S::F) -> S::F {
    let z = simd.mul(simd.abs(x), simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = simd.div(simd.splat(1.0), simd.mul_add(z, simd.splat(0.5), simd.splat(1.0)));
    let mut p = simd.splat(0.170_872_77);
    for c in [
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = simd.mul_add(p, t, simd.splat(c));
    }
    let square = simd.mul(z, z);
    let erfc = simd.mul(t, exp(simd, simd.sub(p, square)));
    let share = simd.mul(erfc, simd.splat(0.5));
    let zero = simd.splat(0.0);
    simd.mul(x, simd.if_less(x, zero, share, simd.sub(simd.splat(1.0), share)))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{Curve, bend};
    use crate::compute::Compute;
    use crate::cpu::Isa;
    use crate::matmul::Input;

    /// 1 − erf(x): by the series of erf near zero, by the continued fraction of erfc elsewhere.
    fn erfc(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc(-x);
        }
        let root = std::f64::consts::PI.sqrt();
        if x < 2.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * 2.0 / root;
        }
        let fraction = (1..120).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
        (-x * x).exp() / root / fraction
    }

    fn bent(compute: &Compute, curve: Curve, x: &[f32], up: Option<&[f32]>) -> Vec<f32> {
        let mut input = Input::new(x, x.len());
        bend(compute, curve, &mut input, up);
        input.rows().to_vec()
    }

    type Case = (Curve, fn(f64) -> f64);

    const CURVES: [Case; 3] = [
        (Curve::Silu, |x| x / (1.0 + (-x).exp())),
        (Curve::GeluTanh, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }),
        (Curve::GeluErf, |x| 0.5 * x * erfc(-x / 2.0_f64.sqrt())),
    ];

    #[test]
    fn curves_are_those_of_f64_and_alike_on_every_path() {
        let x: Vec<f32> = (0..60_001).map(|i| i as f32 / 1000.0 - 30.0).collect();
        for (curve, expected) in CURVES {
            let mut first = None;
            for isa in Isa::all_here() {
                let compute = Compute::new(isa, NonZeroUsize::new(2).unwrap());
                let y = bent(&compute, curve, &x, None);
                for (x, y) in x.iter().zip(&y) {
                    let wanted = expected(f64::from(*x));
                    let bound = 6e-7 * wanted.abs()
                        + 4e-7 * f64::from(x.abs().min(6.0)) * f64::from(x.is_sign_negative());
                    let error = (f64::from(*y) - wanted).abs();
                    assert!(error <= bound + 1e-30, "{curve:?}({x}) = {y}, not {wanted} ({isa}): {error:e}");
                }
                assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "{curve:?} on {isa}");
            }
        }
    }

    #[test]
    fn the_gated_forms_multiply() {
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        let x: Vec<f32> = (0..37).map(|i| i as f32 / 3.0 - 6.0).collect();
        let up: Vec<f32> = (0..37).map(|i| 2.0 - i as f32 / 7.0).collect();
        for (curve, _) in CURVES {
            let (a, b) = (bent(&compute, curve, &x, Some(&up)), bent(&compute, curve, &x, None));
            assert!(a.iter().zip(b.iter().zip(&up)).all(|(a, (b, up))| *a == b * up));
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        for (curve, _) in CURVES {
            let x = bent(&compute, curve, &[f32::NAN, f32::INFINITY, -100.0, f32::MAX], None);
            assert!(
                x[0].is_nan() && x[1] == f32::INFINITY && x[2].abs() < 1e-30 && x[3] == f32::MAX,
                "{curve:?}: {x:?}"
            );
        }
    }
}
