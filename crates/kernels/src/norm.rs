//! Root-mean-square and layer normalisation of rows.

use crate::compute::Compute;
use crate::simd::{Body, Simd, load_part, store_part};

/// `out = x / √(mean(x²) + eps) · weight`, for each row of `weight.len()` numbers.
pub fn rms_norm(compute: &Compute, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    each_row(compute, x, weight.len(), out, |x, out| {
        compute.isa().run(RootMeanSquare { x, weight, eps, out });
    });
}

/// `out = (x − mean(x)) / √(variance(x) + eps) · weight + bias`, for each row of `weight.len()` numbers.
pub fn layer_norm(
    compute: &Compute,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert!(bias.is_none_or(|bias| bias.len() == weight.len()), "a bias for each weight");
    each_row(compute, x, weight.len(), out, |x, out| compute.isa().run(Layer { x, weight, bias, eps, out }));
}

/// Numbers below which waking threads costs more than it gives.
const WORTH_SHARING: usize = 1 << 15;

fn each_row(
    compute: &Compute,
    x: &[f32],
    len: usize,
    out: &mut [f32],
    norm: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    assert!(len > 0 && x.len() == out.len() && x.len().is_multiple_of(len), "rows of {len} in and out");
    if x.len() < WORTH_SHARING {
        x.chunks_exact(len).zip(out.chunks_exact_mut(len)).for_each(|(x, out)| norm(x, out));
    } else {
        compute.pool().rows(out, len, |row, out| norm(&x[row * len..][..len], out));
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

/// `out[i] = f(x[i], weight[i], i)` by sixteens.
#[inline(always)]
fn scale_by<S: Simd>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    f: impl Fn(S::F, S::F) -> S::F,
) {
    let ((chunks, rest), (weights, weight_rest)) = (x.as_chunks(), weight.as_chunks());
    let (outs, out_rest) = out.as_chunks_mut();
    for (i, ((x, w), out)) in chunks.iter().zip(weights).zip(outs).enumerate() {
        let mut y = f(simd.load(x), simd.load(w));
        if let Some(bias) = bias {
            y = simd.add(y, load_part(simd, &bias[i * 16..i * 16 + 16], 0.0));
        }
        simd.store(y, out);
    }
    if !rest.is_empty() {
        let mut y = f(load_part(simd, rest, 0.0), load_part(simd, weight_rest, 0.0));
        if let Some(bias) = bias {
            y = simd.add(y, load_part(simd, &bias[bias.len() - rest.len()..], 0.0));
        }
        store_part(simd, y, out_rest);
    }
}

struct RootMeanSquare<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Body for RootMeanSquare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let squares = total(simd, self.x, |x, sum| simd.mul_add(x, x, sum));
        let scale = simd.splat(1.0 / (squares / self.x.len() as f32 + self.eps).sqrt());
        scale_by(simd, self.x, self.weight, None, self.out, |x, w| simd.mul(simd.mul(x, scale), w));
    }
}

struct Layer<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Body for Layer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let len = self.x.len() as f32;
        let mean = simd.splat(total(simd, self.x, |x, sum| simd.add(x, sum)) / len);
        let squares = total(simd, self.x, |x, sum| {
            let x = simd.sub(x, mean);
            simd.mul_add(x, x, sum)
        });
        let scale = simd.splat(1.0 / (squares / len + self.eps).sqrt());
        scale_by(simd, self.x, self.weight, self.bias, self.out, |x, w| {
            simd.mul(simd.mul(simd.sub(x, mean), scale), w)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{layer_norm, rms_norm};
    use crate::compute::Compute;
    use crate::cpu::Isa;

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
                let (mut rms, mut layer) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                rms_norm(&compute, &x, &weight, 1e-5, &mut rms);
                layer_norm(&compute, &x, &weight, Some(&bias), 1e-5, &mut layer);
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
}
