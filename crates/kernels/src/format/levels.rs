//! The sixteen levels of IQ4_NL and IQ4_XS, denser around zero, where weights are; and the search for a scale on them.

use crate::format::search::{DUST, LANES, farthest};

/// ggml's `kvalues_iq4nl`, ascending.
pub const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The level of a code below 16.
#[inline(always)]
pub(crate) fn level(code: u8) -> i8 {
    LEVELS[usize::from(code & 15)]
}

/// Where the nearest level changes: half-way between neighbours. A number right there goes to the upper one.
const BETWEEN: [f32; 15] = {
    let mut between = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        between[i] = (LEVELS[i] as f32 + LEVELS[i + 1] as f32) / 2.0;
        i += 1;
    }
    between
};

/// The code of the nearest level.
#[inline(always)]
pub(crate) fn nearest_code(x: f32) -> u8 {
    BETWEEN.iter().map(|between| u8::from(x >= *between)).sum()
}

/// [`level`] of [`nearest_code`], as a float: each bound that is passed adds the way to the next level.
#[inline(always)]
fn nearest_level(x: f32) -> f32 {
    let mut nearest = f32::from(LEVELS[0]);
    for (between, levels) in BETWEEN.iter().zip(LEVELS.windows(2)) {
        nearest += if x >= *between { f32::from(levels[1]) - f32::from(levels[0]) } else { 0.0 };
    }
    nearest
}

/// The scale with which the nearest levels lose least, weighing each squared error: the best of sixteen, in ggml's order.
pub(crate) fn scale<const N: usize>(x: &[f32; N], weights: &[f32; N]) -> f32 {
    let farthest = farthest(x);
    if farthest.abs() < DUST {
        return 0.0;
    }
    let lowest = f32::from(LEVELS[0]);
    // First the number farthest from zero on the lowest level's opposite, then on the lowest level itself and around.
    let tried = |candidate| match candidate {
        0 => 1.0 / (-farthest / lowest),
        _ => (candidate as f32 - 8.0 + lowest) / farthest,
    };
    let (mut scale, mut best) = (0.0, 0.0);
    for batch in 0..16 / LANES {
        let (levels_x, levels_levels) =
            sums(x, weights, &std::array::from_fn(|lane| tried(batch * LANES + lane)));
        for (lane, (levels_x, levels_levels)) in levels_x.into_iter().zip(levels_levels).enumerate() {
            if batch == 0 && lane == 0 {
                scale = if levels_levels > 0.0 { levels_x / levels_levels } else { 0.0 };
                best = scale * levels_x;
            } else if levels_levels > 0.0 && levels_x * levels_x > best * levels_levels {
                scale = levels_x / levels_levels;
                best = scale * levels_x;
            }
        }
    }
    scale
}

/// For each candidate the weighted sums of level · x and level · level. Not inlined, so that its lanes stay together.
#[inline(never)]
fn sums<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    inverses: &[f32; LANES],
) -> ([f32; LANES], [f32; LANES]) {
    let (mut levels_x, mut levels_levels) = ([0.0; LANES], [0.0; LANES]);
    for (x, weight) in x.iter().zip(weights) {
        for lane in 0..LANES {
            let level = nearest_level(inverses[lane] * x);
            levels_x[lane] += weight * level * x;
            levels_levels[lane] += weight * level * level;
        }
    }
    (levels_x, levels_levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_their_own_nearest() {
        for (code, level) in LEVELS.into_iter().enumerate() {
            assert_eq!(usize::from(nearest_code(f32::from(level))), code);
        }
        for (x, code) in [(-1e9, 0), (1e9, 15), (-4.5, 8), (-4.51, 7), (7.0, 9), (6.99, 8)] {
            assert_eq!(nearest_code(x), code, "{x}");
            assert_eq!(nearest_level(x), f32::from(LEVELS[usize::from(code)]), "{x}");
        }
    }
}
