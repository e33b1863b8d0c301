//! Root-mean-square and layer normalisation of rows, with what is added before and the rounding that follows.

use crate::compute::Compute;
use crate::matmul::Input;
use crate::matmul::packed::{Make, Rows};
use crate::simd::{Simd, load_part, store_part};

/// How rows of `weight.len()` numbers are brought to one size.
#[derive(Clone, Copy, Debug)]
pub enum Norm<'a> {
    /// `x / √(mean(x²) + eps) · weight`.
    Rms {
        /// As wide as a row.
        weight: &'a [f32],
        /// Keeps the division from zero.
        eps: f32,
    },
    /// `(x − mean(x)) / √(variance(x) + eps) · weight + bias`.
    Layer {
        /// As wide as a row.
        weight: &'a [f32],
        /// The same, where there is one.
        bias: Option<&'a [f32]>,
        /// Keeps the division from zero.
        eps: f32,
    },
}

impl Norm<'_> {
    /// `x = norm(x)`, for each row.
    pub fn apply(&self, compute: &Compute, x: &mut [f32]) {
        let cols = self.checked(x);
        Rows { cols, rows: x, beside: &mut [] }.make(compute, &Alone(self));
    }

    fn checked(&self, x: &[f32]) -> usize {
        let (Norm::Rms { weight, .. } | Norm::Layer { weight, .. }) = self;
        let cols = weight.len();
        assert!(cols > 0 && x.len().is_multiple_of(cols), "rows of {cols} in {}", x.len());
        if let Norm::Layer { bias: Some(bias), .. } = self {
            assert_eq!(bias.len(), cols, "a bias for each weight");
        }
        cols
    }

    /// One row, in place.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, x: &mut [f32]) {
        let len = x.len() as f32;
        match *self {
            Norm::Rms { weight, eps } => {
                let squares = total(simd, x, |x, sum| simd.mul_add(x, x, sum));
                let scale = simd.splat(1.0 / (squares / len + eps).sqrt());
                scale_by(simd, x, weight, None, |x, w| simd.mul(simd.mul(x, scale), w));
            }
            Norm::Layer { weight, bias, eps } => {
                let mean = simd.splat(total(simd, x, |x, sum| simd.add(x, sum)) / len);
                let squares =
                    total(simd, x, |x, sum| simd.mul_add(simd.sub(x, mean), simd.sub(x, mean), sum));
                let scale = simd.splat(1.0 / (squares / len + eps).sqrt());
                scale_by(simd, x, weight, bias, |x, w| simd.mul(simd.mul(simd.sub(x, mean), scale), w));
            }
        }
    }
}

/// `x += added`, then `input = norm(x)`; all `[tokens, cols]`. Nothing is added if `added` is empty, and `input = x` without
/// a norm.
pub fn add_norm(
    compute: &Compute,
    x: &mut [f32],
    cols: usize,
    added: &[f32],
    norm: Option<Norm<'_>>,
    input: &mut Input,
) {
    assert!(added.is_empty() || added.len() == x.len(), "as much to add as there is");
    assert!(norm.is_none_or(|norm| norm.checked(x) == cols), "a weight for each column");
    input.begin(x.len() / cols, cols);
    input.make(compute, x, &AddNorm { added, norm });
}

/// A norm and nothing else.
struct Alone<'a>(&'a Norm<'a>);

impl Make for Alone<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, _: usize, row: &mut [f32], _: &mut [f32]) {
        self.0.row(simd, row);
    }
}

/// See [`add_norm`].
struct AddNorm<'a> {
    added: &'a [f32],
    norm: Option<Norm<'a>>,
}

impl Make for AddNorm<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, index: usize, row: &mut [f32], x: &mut [f32]) {
        if self.added.is_empty() {
            row.copy_from_slice(x);
        } else {
            add(simd, x, &self.added[index * x.len()..][..x.len()], row);
        }
        if let Some(norm) = &self.norm {
            norm.row(simd, row);
        }
    }
}

/// `out = x += added`.
#[inline(always)]
fn add<S: Simd>(simd: S, x: &mut [f32], added: &[f32], out: &mut [f32]) {
    let (xs, x_rest) = x.as_chunks_mut();
    let (adds, add_rest) = added.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut();
    for ((x, added), out) in xs.iter_mut().zip(adds).zip(outs) {
        let sum = simd.add(simd.load(x), simd.load(added));
        simd.store(sum, x);
        simd.store(sum, out);
    }
    for ((x, added), out) in x_rest.iter_mut().zip(add_rest).zip(out_rest) {
        *x += added;
        *out = *x;
    }
}

/// Σ f(x), sixteen partial sums side by side.
#[inline(always)]
fn total<S: Simd>(simd: S, x: &[f32], f: impl Fn(S::F, S::F) -> S::F) -> f32 {
    let mut sum = simd.splat(0.0);
    let (chunks, rest) = x.as_chunks();
    for chunk in chunks {
        sum = f(simd.load(chunk), sum);
    }
    let mut total = simd.sum(sum);
    if !rest.is_empty() {
        let mut lanes = [0.0; 16];
        simd.store(f(load_part(simd, rest, 0.0), simd.splat(0.0)), &mut lanes);
        total += lanes[..rest.len()].iter().sum::<f32>();
    }
    total
}

/// `x[i] = f(x[i], weight[i]) + bias[i]` by sixteens.
#[inline(always)]
fn scale_by<S: Simd>(
    simd: S,
    x: &mut [f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    f: impl Fn(S::F, S::F) -> S::F,
) {
    let ((chunks, rest), (weights, weight_rest)) = (x.as_chunks_mut(), weight.as_chunks());
    for (i, (x, w)) in chunks.iter_mut().zip(weights).enumerate() {
        let mut y = f(simd.load(x), simd.load(w));
        if let Some(bias) = bias {
            y = simd.add(y, load_part(simd, &bias[i * 16..i * 16 + 16], 0.0));
        }
        simd.store(y, x);
    }
    if !rest.is_empty() {
        let mut y = f(load_part(simd, rest, 0.0), load_part(simd, weight_rest, 0.0));
        if let Some(bias) = bias {
            y = simd.add(y, load_part(simd, &bias[bias.len() - rest.len()..], 0.0));
        }
        store_part(simd, y, rest);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{Norm, add_norm};
    use crate::compute::Compute;
    use crate::cpu::Isa;
    use crate::format::Format;
    use crate::matmul::{Input, matmul};
    use crate::matrix::Matrix;

    fn row(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 20.0 - 2.0).collect()
    }

    /// Both norms of a row as f64 arithmetic has them.
    fn expected(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> (Vec<f64>, Vec<f64>) {
        let (n, eps) = (x.len() as f64, f64::from(eps));
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let mean = x.iter().sum::<f64>() / n;
        let square = x.iter().map(|x| x * x).sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let each = |f: &dyn Fn(f64, f64, f64) -> f64| {
            (0..x.len()).map(|i| f(x[i], f64::from(weight[i]), f64::from(bias[i]))).collect()
        };
        (
            each(&|x, w, _| x / (square + eps).sqrt() * w),
            each(&|x, w, b| (x - mean) / (variance + eps).sqrt() * w + b),
        )
    }

    #[test]
    fn rows_are_normalised_as_in_f64_and_alike_on_every_path() {
        for len in [1, 7, 16, 33, 64, 576] {
            let rows = if len == 576 { 70 } else { 3 };
            let (weight, bias) = (row(len, 5), row(len, 6));
            let x: Vec<f32> = (0..rows).flat_map(|r| row(len, r)).collect();
            let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
            for isa in Isa::all_here() {
                let compute = Compute::new(isa, NonZeroUsize::new(2).unwrap());
                let (mut rms, mut layer) = (x.clone(), x.clone());
                Norm::Rms { weight: &weight, eps: 1e-5 }.apply(&compute, &mut rms);
                Norm::Layer { weight: &weight, bias: Some(&bias), eps: 1e-5 }.apply(&compute, &mut layer);
                for (r, x) in x.chunks(len).enumerate() {
                    let (want_rms, want_layer) = expected(x, &weight, &bias, 1e-5);
                    for i in 0..len {
                        assert!(
                            (f64::from(rms[r * len + i]) - want_rms[i]).abs() < 1e-5,
                            "rms {isa} {len} {i}"
                        );
                        assert!(
                            (f64::from(layer[r * len + i]) - want_layer[i]).abs() < 2e-5,
                            "layer {isa} {len} {i}"
                        );
                    }
                }
                let (first_rms, first_layer) = first.get_or_insert((rms.clone(), layer.clone()));
                assert_eq!((&*first_rms, &*first_layer), (&rms, &layer), "{isa} differs from scalar");
            }
        }
    }

    #[test]
    fn added_normed_and_rounded_in_one_step_is_the_same_as_one_by_one() {
        for (isa, rows) in Isa::all_here().into_iter().flat_map(|isa| [(isa, 1), (isa, 3), (isa, 500)]) {
            let compute = Compute::new(isa, NonZeroUsize::new(2).unwrap());
            let (len, weight) = (96, row(96, 5));
            let norm = Norm::Rms { weight: &weight, eps: 1e-5 };
            let mut bytes = vec![0; 16 * len / 32 * 34];
            Format::Q8_0.encode(&row(16 * len, 9), None, &mut bytes).unwrap();
            let matrix = Matrix::new(Format::Q8_0, 16, len, bytes.into()).unwrap();
            let mut input = Input::default();
            for turn in 0..3 {
                let (start, added) = (row(rows * len, turn), row(rows * len, turn + 20));
                let mut x = start.clone();
                add_norm(&compute, &mut x, len, &added, Some(norm), &mut input);
                let sum: Vec<f32> = start.iter().zip(&added).map(|(x, added)| x + added).collect();
                let mut normed = sum.clone();
                norm.apply(&compute, &mut normed);
                let (mut one, mut other) = (vec![0.0; rows * 16], vec![0.0; rows * 16]);
                matmul(&compute, &matrix, &input, &mut one);
                matmul(&compute, &matrix, &Input::new(&normed, len), &mut other);
                assert_eq!((&x, input.rows(), one), (&sum, &*normed, other), "{isa} {rows} {turn}");
            }
        }
    }
}
