//! Activations times a weight matrix: the work that a model is made of.

use std::sync::OnceLock;

use crate::compute::Compute;
use crate::matrix::Matrix;
use crate::quantised::Quantised;

/// Rows of activations, `[tokens, cols]`, and what the kernels make of them, kept for the next matrix with the same input.
#[derive(Debug)]
pub struct Input<'a> {
    values: &'a [f32],
    cols: usize,
    quantised: OnceLock<Quantised>,
}

impl<'a> Input<'a> {
    /// `values`: `[tokens, cols]`, row-major.
    pub fn new(values: &'a [f32], cols: usize) -> Input<'a> {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "rows of {cols} in {}", values.len());
        Input { values, cols, quantised: OnceLock::new() }
    }

    /// How many rows.
    pub fn tokens(&self) -> usize {
        self.values.len() / self.cols
    }
}

/// `out[t, r] = Σ weights[r, c] · input[t, c]`; `out`: `[tokens, weights.rows()]`, overwritten.
pub fn matmul(compute: &Compute, weights: &Matrix, input: &Input<'_>, out: &mut [f32]) {
    let (tokens, rows, cols) = (input.tokens(), weights.rows(), weights.cols());
    assert_eq!(input.cols, cols, "the input is as wide as the matrix");
    assert_eq!(out.len(), tokens * rows, "{tokens} × {rows} results");
    if !weights.format().is_quantised() {
        compute.pool().columns(out, rows, 8, |mut tile| {
            let mut w = vec![0.0; cols];
            let first = tile.columns().start;
            for row in tile.columns() {
                weights.decode_row(row, &mut w);
                for (token, x) in input.values.chunks_exact(cols).enumerate() {
                    tile.row(token)[row - first] = w.iter().zip(x).map(|(w, x)| w * x).sum();
                }
            }
        });
        return;
    }
    let x = input.quantised.get_or_init(|| Quantised::new(input.values, cols));
    compute.pool().columns(out, rows, 8, |mut tile| {
        let first = tile.columns().start;
        for row in tile.columns() {
            for token in 0..tokens {
                tile.row(token)[row - first] = weights.format().dot(weights.row(row), x.row(token));
            }
        }
    });
}
