//! Activations times a weight matrix: the work that a model is made of.
//!
//! Quantised weights meet quantised activations: integer sums for each 32 columns, added up in f32
//! ([`Format::dot`](crate::format::Format::dot) is the definition, to the bit). F32, F16 and BF16 are multiplied in f32. The
//! order of additions in a result depends on the number of columns alone: the same bits on every path, on any number of
//! threads, for a token alone or among others.

use std::hint::black_box;
use std::sync::OnceLock;

use crate::compute::Compute;
use crate::cpu::Isa;
use crate::matmul::packed::{Finished, Make, Packed, Rows};
use crate::matrix::Matrix;
use crate::simd::{Body, Simd};

mod blocks;
mod floats;
mod multiply;
pub(crate) mod packed;

/// Rows of activations, `[tokens, cols]`, and what the kernels make of them, kept for the next matrix with the same input.
///
/// To be filled again and again: its memory stays. Rows that steps such as [`Norm`](crate::norm::Norm) finish are rounded
/// to int8 right then, if that was wanted of the rows before.
#[derive(Debug, Default)]
pub struct Input {
    rows: Vec<f32>,
    cols: usize,
    /// For paths of few registers, and of many: their tiles differ.
    packed: [OnceLock<Packed>; 2],
    /// What the rows before were packed in.
    spare: Option<Packed>,
}

impl Input {
    /// `values`: `[tokens, cols]`, row-major.
    pub fn new(values: &[f32], cols: usize) -> Input {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "rows of {cols} in {}", values.len());
        let mut input = Input::default();
        input.begin(values.len() / cols, cols).copy_from_slice(values);
        input
    }

    /// Room for new rows, `[tokens, cols]`, which hold anything.
    pub fn begin(&mut self, tokens: usize, cols: usize) -> &mut [f32] {
        assert!(cols > 0, "rows of something");
        for packed in &mut self.packed {
            self.spare = packed.take().or(self.spare.take());
        }
        self.cols = cols;
        self.rows.resize(tokens * cols, 0.0);
        &mut self.rows
    }

    /// Says that the new rows are written. What comes later than this is right too, but slower.
    pub fn finish(&mut self, compute: &Compute) {
        self.make(compute, &mut [], &Finished);
    }

    /// Finishes the rows that were begun; `beside`: `[tokens, any]`, what changes with them.
    pub(crate) fn make(&mut self, compute: &Compute, beside: &mut [f32], make: &impl Make) {
        let largest = self.largest(compute);
        let rows = Rows { cols: self.cols, rows: &mut self.rows, beside };
        match self.spare.take() {
            Some(mut packed) => {
                packed.fill(compute, rows, largest, make);
                self.packed[usize::from(has_many_registers(compute.isa()))] = OnceLock::from(packed);
            }
            None => rows.make(compute, make),
        }
    }

    /// The numbers, `[tokens, cols]`.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// How many rows.
    pub fn tokens(&self) -> usize {
        self.rows.len().checked_div(self.cols).unwrap_or(0)
    }

    /// Numbers in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The most tokens of a tile.
    fn largest(&self, compute: &Compute) -> usize {
        match self.tokens() <= blocks::FEW {
            true => blocks::FEW,
            false => blocks::largest_tile(has_many_registers(compute.isa())),
        }
    }

    fn packed(&self, compute: &Compute) -> &Packed {
        self.packed[usize::from(has_many_registers(compute.isa()))].get_or_init(|| {
            let mut packed = Packed::default();
            // Copied, as whoever fills may write; only the first rows of an input get here.
            let mut rows = self.rows.clone();
            let rows = Rows { cols: self.cols, rows: &mut rows, beside: &mut [] };
            packed.fill(compute, rows, self.largest(compute), &Finished);
            packed
        })
    }
}

/// `out[t, r] = Σ weights[r, c] · input[t, c]`; `out`: `[tokens, weights.rows()]`, overwritten.
///
/// # Panics
/// If input, weights and output do not fit each other.
pub fn matmul(compute: &Compute, weights: &Matrix, input: &Input, out: &mut [f32]) {
    matmul_each(compute, input, &mut [(weights, out)]);
}

/// [`matmul`] for several matrices that meet the same input: quantised ones are one piece of work for the threads, who then
/// wait for each other once rather than once a matrix. The same bits as one by one.
///
/// # Panics
/// Like [`matmul`].
pub fn matmul_each(compute: &Compute, input: &Input, products: &mut [(&Matrix, &mut [f32])]) {
    let tokens = input.tokens();
    for (weights, out) in products.iter() {
        assert_eq!(input.cols, weights.cols(), "the input is as wide as the matrix");
        assert_eq!(out.len(), tokens * weights.rows(), "{tokens} × {} results", weights.rows());
    }
    if tokens == 0 {
        return;
    }
    if products.iter().all(|(weights, _)| weights.format().is_quantised()) {
        blocks::matmul(compute, input.packed(compute), tokens, products);
        return;
    }
    for (weights, out) in products {
        if weights.format().is_quantised() {
            blocks::matmul(compute, input.packed(compute), tokens, &mut [(*weights, &mut **out)]);
        } else {
            floats::matmul(compute, weights, &input.rows, out);
        }
    }
}

/// Does nothing but this path's int8 products, from registers, and tells how many operations (multiplications and additions)
/// that was: timed, it is the peak that a multiplication of matrices can be compared with.
pub fn integer_peak(isa: Isa, rounds: usize) -> usize {
    struct Peak(usize);
    impl Body for Peak {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> usize {
            let (weights, x) = (black_box([3; 64]), black_box(0x0102_0304));
            let weights = simd.load_i(&weights);
            let mut sums = [simd.splat_i(0); 12];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = simd.dot8::<false>(*sum, weights, weights, x, x);
                }
            }
            for sum in sums {
                let mut bytes = [0; 64];
                simd.store_i(sum, &mut bytes);
                black_box(bytes);
            }
            // Each of the twelve is two products of 64 bytes.
            self.0 * 12 * 2 * 64 * 2
        }
    }
    isa.run(Peak(rounds))
}

fn has_many_registers(isa: Isa) -> bool {
    struct Ask;
    impl Body for Ask {
        type Output = bool;

        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> bool {
            S::MANY_REGISTERS
        }
    }
    isa.run(Ask)
}

#[cfg(test)]
mod tests;
