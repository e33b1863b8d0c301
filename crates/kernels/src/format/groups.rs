//! How Q2_K, Q4_K and Q5_K choose their numbers: groups with a scale and a minimum each, these in turn with a scale each.

use crate::format::encode::{Importance, put_half, square_sum, sum, weigh};
use crate::format::search::{Steps, WEIGHTED, affine, nearest, positive};

/// In what the three differ.
pub(crate) struct Spec {
    /// The largest code of a number.
    pub(crate) top: i32,
    /// The largest code of a scale or minimum.
    pub(crate) scale_top: i32,
    /// The candidates where no importance is known.
    pub(crate) steps: Steps,
    /// A number's weight there, from its size and the root of its group's mean square.
    pub(crate) weight: fn(size: f32, group_root: f32) -> f32,
    /// With importance, the block's mean square counts so many times in a weight.
    pub(crate) spread: f32,
    /// Where the two f16 lie.
    pub(crate) d: usize,
    pub(crate) dmin: usize,
}

/// The codes of a block.
pub(crate) struct Codes<const GROUPS: usize> {
    pub(crate) scales: [u8; GROUPS],
    pub(crate) minima: [u8; GROUPS],
    pub(crate) numbers: [u8; 256],
}

/// Chooses all codes of a block and writes its `d` and `dmin`. `GROUPS` groups of `LEN` make `values`: `[256]`.
pub(crate) fn choose<const GROUPS: usize, const LEN: usize>(
    spec: &Spec,
    values: &[f32],
    importance: Option<Importance<'_>>,
    out: &mut [u8],
) -> Codes<GROUPS> {
    let groups = values.as_chunks::<LEN>().0;
    let mut codes = Codes { scales: [0; GROUPS], minima: [0; GROUPS], numbers: [0; 256] };
    let (mut scales, mut minima, mut weights) = ([0.0; GROUPS], [0.0; GROUPS], [0.0; GROUPS]);
    let spread = spec.spread * square_sum(values) / 256.0;
    let top = spec.top as f32;
    for (g, (x, numbers)) in groups.iter().zip(codes.numbers.as_chunks_mut().0).enumerate() {
        let (each, steps) = match importance {
            Some(importance) => (weigh(x, &importance.columns[g * LEN..], spread), &WEIGHTED),
            None => {
                let root = (square_sum(x) / LEN as f32).sqrt();
                (x.map(|x| (spec.weight)(x.abs(), root)), &spec.steps)
            }
        };
        let fit = affine(top, x, &each, steps, numbers);
        (scales[g], minima[g], weights[g]) = (fit.scale, fit.minimum, sum(&each));
    }

    let (d, dmin) = if importance.is_some() {
        (
            positive(spec.scale_top, &scales, &weights, &mut codes.scales),
            positive(spec.scale_top, &minima, &weights, &mut codes.minima),
        )
    } else {
        (
            spread_out(spec.scale_top, &scales, &mut codes.scales),
            spread_out(spec.scale_top, &minima, &mut codes.minima),
        )
    };
    let (d, dmin) = (put_half(out, spec.d, d), put_half(out, spec.dmin, dmin));

    // Once more, for the scales and minima that will be read back. Where the scale became zero, any codes do; these are
    // the ones that the search left.
    for (g, (x, numbers)) in groups.iter().zip(codes.numbers.as_chunks_mut::<LEN>().0).enumerate() {
        let (scale, minimum) = (d * f32::from(codes.scales[g]), dmin * f32::from(codes.minima[g]));
        if scale != 0.0 {
            for (code, x) in numbers.iter_mut().zip(x) {
                *code = nearest((x + minimum) / scale).clamp(0, spec.top) as u8;
            }
        }
    }
    codes
}

/// Gives the largest number the largest code, and the others what follows; returns the step.
fn spread_out(top: i32, x: &[f32], codes: &mut [u8]) -> f32 {
    let largest = x.iter().fold(0.0, |largest: f32, x| if *x > largest { *x } else { largest });
    if largest > 0.0 {
        let inverse = top as f32 / largest;
        for (code, x) in codes.iter_mut().zip(x) {
            *code = nearest(inverse * x).clamp(0, top) as u8;
        }
    }
    largest / top as f32
}
