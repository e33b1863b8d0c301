//! Finds the scale (and minimum) with which a group of numbers loses least when its codes are rounded.
//!
//! Each search tries a fixed list of scales around the obvious one and keeps the best, in exactly the order and with the
//! f32 roundings of ggml's quantiser, so that encoders built on it write the same bytes as llama.cpp. What is ours is how:
//! [`LANES`] candidates go through the numbers side by side, each summing in its own lane, so that the order within a
//! candidate stays the same while the processor works on all of them.
//!
//! All numbers are finite and at most 1e9 in size, weights at most 1e29: `encode` has seen to it.

/// Groups whose largest number is below this are written as zeros: ggml's bound.
pub(crate) const DUST: f32 = 1e-15;

/// Candidates that are tried side by side. Eight f32 fill one AVX or two SSE registers.
pub(crate) const LANES: usize = 8;

/// 1.5·2²³: an f32 of this size has no room for a fraction, so adding it rounds to the nearest integer, ties to even.
const NO_FRACTION: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for |x| ≤ 2²². Beyond, some integer, the same one as ggml's.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    ((x + NO_FRACTION).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

/// [`nearest`] as a float and between two bounds, in the form that becomes three instructions.
#[inline(always)]
fn nearest_within(x: f32, lowest: f32, highest: f32) -> f32 {
    let rounded = x + NO_FRACTION - NO_FRACTION;
    let bounded = if rounded > lowest { rounded } else { lowest };
    if bounded < highest { bounded } else { highest }
}

/// The number farthest from zero, the first of equals; 0 if all are.
#[inline]
pub(crate) fn farthest(x: &[f32]) -> f32 {
    // The bits of positive floats are ordered like the floats, and an integer maximum vectorises.
    let size = |x: &f32| (x.to_bits() & 0x7fff_ffff) as i32;
    let largest = x.iter().fold(0, |largest, x| largest.max(size(x)));
    let first = || x.iter().find(|x| size(x) == largest).copied().unwrap_or(0.0);
    if largest == 0 { 0.0 } else { first() }
}

/// Fits `x ≈ scale · (code − top)` with codes in `0..2·top`, weighing each squared error, and returns the scale.
///
/// The number farthest from zero is given the code 0 or one near it: that end of the range reaches one step farther.
pub(crate) fn symmetric<const N: usize>(
    top: f32,
    x: &[f32; N],
    weights: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    /// The obvious scale, 9 to 1 steps of a tenth below it, and as many above; the rest fills the lanes.
    const OFFSETS: [[f32; LANES]; 3] = [
        [0.0, -9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0],
        [-2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [7.0, 8.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0],
    ];
    let farthest = farthest(x);
    if farthest.abs() < DUST {
        codes.fill(0);
        return 0.0;
    }
    let (lowest, highest) = (-top, top - 1.0);
    let (mut inverse, mut scale, mut best) = (-top / farthest, 0.0, f32::NEG_INFINITY);
    for (batch, offsets) in OFFSETS.iter().enumerate() {
        let inverses = offsets.map(|offset| -(top + 0.1 * offset) / farthest);
        let (codes_x, codes_codes) = symmetric_sums(x, weights, &inverses, lowest, highest);
        for lane in 0..LANES {
            let (codes_x, codes_codes) = (codes_x[lane], codes_codes[lane]);
            if batch == 0 && lane == 0 {
                scale = if codes_codes == 0.0 { 0.0 } else { codes_x / codes_codes };
                best = scale * codes_x;
            } else if codes_codes > 0.0 && codes_x * codes_x > best * codes_codes {
                inverse = inverses[lane];
                scale = codes_x / codes_codes;
                best = scale * codes_x;
            }
        }
    }
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (nearest_within(inverse * x, lowest, highest) + top) as u8;
    }
    scale
}

/// For each candidate the weighted sums of code · x and code · code.
///
/// Not inlined, so that what the candidates are used for afterwards, one by one, does not take their lanes apart: inlined,
/// the search takes three times as long.
#[inline(never)]
fn symmetric_sums<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    inverses: &[f32; LANES],
    lowest: f32,
    highest: f32,
) -> ([f32; LANES], [f32; LANES]) {
    let (mut codes_x, mut codes_codes) = ([0.0; LANES], [0.0; LANES]);
    for (x, weight) in x.iter().zip(weights) {
        let weighted = weight * x;
        for lane in 0..LANES {
            let code = nearest_within(inverses[lane] * x, lowest, highest);
            codes_x[lane] += weighted * code;
            codes_codes[lane] += weight * code * code;
        }
    }
    (codes_x, codes_codes)
}

/// The scales that [`affine`] tries: `(top + first + step·k) / range` for `k` in `0..=count`.
pub(crate) struct Steps {
    pub(crate) first: f32,
    pub(crate) step: f32,
    pub(crate) count: usize,
    /// Weighs absolute errors instead of squared ones.
    pub(crate) absolute: bool,
}

/// The steps of every format when columns have an importance.
pub(crate) const WEIGHTED: Steps = Steps { first: -0.9, step: 0.05, count: 36, absolute: false };

/// What [`affine`] found: `x ≈ scale · code − minimum`.
pub(crate) struct Affine {
    pub(crate) scale: f32,
    /// Not negative.
    pub(crate) minimum: f32,
}

/// Fits `x ≈ scale · code − minimum` with codes in `0..=top`, weighing each error.
///
/// A better fit moves the minimum from which later candidates are measured, so a batch is only good up to the first
/// candidate that wins; those behind it are tried again from there. A search has about five winners.
pub(crate) fn affine<const N: usize>(
    top: f32,
    x: &[f32; N],
    weights: &[f32; N],
    steps: &Steps,
    codes: &mut [u8; N],
) -> Affine {
    let (mut lowest, mut highest) = (x[0], x[0]);
    let (mut weight_sum, mut x_sum) = (0.0, 0.0);
    for (x, weight) in x.iter().zip(weights) {
        lowest = if *x < lowest { *x } else { lowest };
        highest = if *x > highest { *x } else { highest };
        weight_sum += weight;
        x_sum += weight * x;
    }
    // Zero is always among the values, so that the minimum is not negative.
    lowest = if lowest > 0.0 { 0.0 } else { lowest };
    if highest <= lowest {
        codes.fill(0);
        return Affine { scale: 0.0, minimum: -lowest };
    }

    let mut origin = lowest;
    let mut inverse = top / (highest - origin);
    let mut fit = Affine { scale: 1.0 / inverse, minimum: -lowest };
    let mut best_error = 0.0;
    for (x, weight) in x.iter().zip(weights) {
        let code = nearest_within(inverse * (x - origin), 0.0, top);
        best_error += weight * error(fit.scale * code + lowest - x, steps.absolute);
    }

    let mut next = 0;
    while next <= steps.count {
        let batch = Batch::run(next, origin, highest, top, (x, weights), (weight_sum, x_sum), steps);
        let ahead = (steps.count + 1 - next).min(LANES);
        let winner =
            (0..ahead).find(|lane| batch.determinant[*lane] > 0.0 && batch.error[*lane] < best_error);
        if let Some(lane) = winner {
            inverse = batch.inverse[lane];
            lowest = origin;
            best_error = batch.error[lane];
            fit = Affine { scale: batch.scale[lane], minimum: -batch.lowest[lane] };
            origin = batch.lowest[lane];
        }
        next += winner.map_or(ahead, |lane| lane + 1);
    }
    for (code, x) in codes.iter_mut().zip(x) {
        *code = nearest_within(inverse * (x - lowest), 0.0, top) as u8;
    }
    fit
}

/// [`LANES`] candidates of [`affine`], each with the scale and lowest value that fit its codes best.
struct Batch {
    inverse: [f32; LANES],
    scale: [f32; LANES],
    lowest: [f32; LANES],
    error: [f32; LANES],
    /// Of the fit's two equations; not positive where they have no solution.
    determinant: [f32; LANES],
}

impl Batch {
    /// Tries the candidates from number `next` on, measured from `origin`.
    fn run<const N: usize>(
        next: usize,
        origin: f32,
        highest: f32,
        top: f32,
        (x, weights): (&[f32; N], &[f32; N]),
        (weight_sum, x_sum): (f32, f32),
        steps: &Steps,
    ) -> Batch {
        let tried = |lane| (steps.first + steps.step * (next + lane) as f32 + top) / (highest - origin);
        let inverse = std::array::from_fn(tried);
        let mut codes = [[0.0; LANES]; N];
        let sums = affine_sums(x, weights, &inverse, origin, top, &mut codes);
        let (mut scale, mut lowest, mut determinant) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (code, square, product) = (sums.code[lane], sums.square[lane], sums.product[lane]);
            let d = weight_sum * square - code * code;
            let at = (square * x_sum - code * product) / d;
            let free = (weight_sum * product - x_sum * code) / d;
            determinant[lane] = d;
            lowest[lane] = if at > 0.0 { 0.0 } else { at };
            scale[lane] = if at > 0.0 { product / square } else { free };
        }
        let error = affine_errors(x, weights, &codes, &scale, &lowest, steps.absolute);
        Batch { inverse, scale, lowest, error, determinant }
    }
}

/// For each candidate the weighted sums of code, code · code and code · x.
struct Sums {
    code: [f32; LANES],
    square: [f32; LANES],
    product: [f32; LANES],
}

/// The codes of each candidate, measured from `origin`, and their sums. Not inlined for the reason of [`symmetric_sums`].
#[inline(never)]
fn affine_sums<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    inverse: &[f32; LANES],
    origin: f32,
    top: f32,
    codes: &mut [[f32; LANES]; N],
) -> Sums {
    let (mut code_sum, mut square_sum, mut product_sum) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ((x, weight), codes) in x.iter().zip(weights).zip(codes) {
        let above = x - origin;
        for lane in 0..LANES {
            let code = nearest_within(inverse[lane] * above, 0.0, top);
            codes[lane] = code;
            code_sum[lane] += weight * code;
            square_sum[lane] += weight * code * code;
            product_sum[lane] += weight * code * x;
        }
    }
    Sums { code: code_sum, square: square_sum, product: product_sum }
}

/// The weighted error of each candidate. Not inlined for the reason of [`symmetric_sums`].
#[inline(never)]
fn affine_errors<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    codes: &[[f32; LANES]; N],
    scale: &[f32; LANES],
    lowest: &[f32; LANES],
    absolute: bool,
) -> [f32; LANES] {
    let mut errors = [0.0; LANES];
    for ((x, weight), codes) in x.iter().zip(weights).zip(codes) {
        for lane in 0..LANES {
            errors[lane] += weight * error(scale[lane] * codes[lane] + lowest[lane] - x, absolute);
        }
    }
    errors
}

#[inline(always)]
fn error(difference: f32, absolute: bool) -> f32 {
    if absolute { difference.abs() } else { difference * difference }
}

/// Fits `x ≈ scale · code` for numbers that are not negative, with codes in `0..=top`, and returns the scale: first the
/// best of nine scales, then codes are moved one by one as long as that helps.
pub(crate) fn positive<const N: usize>(
    top: i32,
    x: &[f32; N],
    weights: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    let largest = x.iter().fold(0.0, |largest: f32, x| if *x > largest { *x } else { largest });
    if largest < DUST {
        codes.fill(0);
        return 0.0;
    }
    let mut inverse = top as f32 / largest;
    let mut best_error = f32::INFINITY;
    for offset in [0.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0] {
        let tried = (0.1 * offset + top as f32) / largest;
        let scale = 1.0 / tried;
        let mut error = 0.0;
        for (x, weight) in x.iter().zip(weights) {
            let difference = x - scale * nearest(tried * x).min(top) as f32;
            error += weight * difference * difference;
        }
        if error < best_error {
            best_error = error;
            inverse = tried;
        }
    }
    let (mut codes_x, mut codes_codes) = (0.0, 0.0);
    for ((code, x), weight) in codes.iter_mut().zip(x).zip(weights) {
        *code = nearest(inverse * x).clamp(0, top) as u8;
        let new = f32::from(*code);
        codes_x += weight * x * new;
        codes_codes += weight * new * new;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((code, x), weight) in codes.iter_mut().zip(x).zip(weights) {
            let old = f32::from(*code);
            let mut without_x = codes_x - weight * x * old;
            let mut without_codes = codes_codes - weight * old * old;
            if without_x <= 0.0 || without_codes <= 0.0 {
                continue;
            }
            let moved = nearest(x * without_codes / without_x).clamp(0, top) as u8;
            if moved == *code {
                continue;
            }
            let new = f32::from(moved);
            without_x += weight * x * new;
            without_codes += weight * new * new;
            if without_x * without_x * codes_codes > codes_x * codes_x * without_codes {
                *code = moved;
                (codes_x, codes_codes) = (without_x, without_codes);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if codes_codes > 0.0 { codes_x / codes_codes } else { 0.0 }
}

/// Fits `x ≈ scale · (code − top)` with codes in `0..2·top`, weighing each error by the number's square, and returns the
/// scale: from the obvious codes on, codes are moved one by one as long as that helps. What Q3_K does without importance.
pub(crate) fn descend<const N: usize>(top: i32, x: &[f32; N], codes: &mut [u8; N]) -> f32 {
    let farthest = farthest(x);
    if farthest.abs() < DUST {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -top as f32 / farthest;
    let mut signed = [0; N];
    let (mut codes_x, mut codes_codes) = (0.0, 0.0);
    for (code, x) in signed.iter_mut().zip(x) {
        *code = nearest(inverse * x).clamp(-top, top - 1);
        let (weight, new) = (x * x, *code as f32);
        codes_x += weight * x * new;
        codes_codes += weight * new * new;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (code, x) in signed.iter_mut().zip(x) {
            let (weight, old) = (x * x, *code as f32);
            let mut without_x = codes_x - weight * x * old;
            if without_x <= 0.0 {
                continue;
            }
            let mut without_codes = codes_codes - weight * old * old;
            let moved = nearest(x * without_codes / without_x).clamp(-top, top - 1);
            if moved == *code {
                continue;
            }
            let new = moved as f32;
            without_x += weight * x * new;
            without_codes += weight * new * new;
            if without_codes > 0.0 && without_x * without_x * codes_codes > codes_x * codes_x * without_codes
            {
                *code = moved;
                (codes_x, codes_codes) = (without_x, without_codes);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for (code, signed) in codes.iter_mut().zip(signed) {
        *code = (signed + top) as u8;
    }
    if codes_codes > 0.0 { codes_x / codes_codes } else { 0.0 }
}
