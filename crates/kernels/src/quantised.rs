//! Activations as the int8 kernels want them: 32 numbers share a scale, and the sums that minima need are kept.
//!
//! Stands between the f32 rows that a layer is given and the integer dot products with its quantised weights. A row is
//! padded with zeros to whole blocks of 32, so that a kernel never sees a tail. `quantise` is the definition.

use crate::cpu::Isa;
use crate::simd::{Body, Simd};

/// Numbers that share one scale.
pub const SHARED: usize = 32;

/// Numbers behind one entry of `sums`: the finest group that a weight format gives a minimum of its own.
pub const SUMMED: usize = 16;

/// The largest code; -128 is not used, so that a kernel may negate.
const TOP: f32 = 127.0;

/// Rows of activations in int8: `x[r, i] ≈ d[r, i / 32] * q[r, i]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantised {
    rows: usize,
    cols: usize,
    padded: usize,
    /// Shape `[rows, padded]`.
    q: Vec<i8>,
    /// Shape `[rows, padded / 32]`.
    d: Vec<f32>,
    /// Shape `[rows, padded / 16]`.
    sums: Vec<i16>,
}

/// One row of [`Quantised`], `padded` being the columns rounded up to a multiple of 32.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Codes in -127..=127, `[padded]`; zero behind the last column.
    pub q: &'a [i8],
    /// Scales, `[padded / 32]`, never negative; NaN where the 32 numbers held NaN.
    pub d: &'a [f32],
    /// Sums of 16 codes each, `[padded / 16]`.
    pub sums: &'a [i16],
}

/// One row to be filled; shapes as in [`Row`].
struct RowMut<'a> {
    q: &'a mut [i8],
    d: &'a mut [f32],
    sums: &'a mut [i16],
}

impl Quantised {
    /// `values`: `[rows, cols]`, row-major.
    pub fn new(values: &[f32], cols: usize) -> Quantised {
        let mut quantised = Quantised::default();
        quantised.fill(values, cols);
        quantised
    }

    /// Like [`Quantised::new`], in the memory that is already here.
    pub fn fill(&mut self, values: &[f32], cols: usize) {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "{} numbers in rows of {cols}", values.len());
        self.resize(values.len() / cols, cols);
        for (row, values) in self.rows_mut().zip(values.chunks_exact(cols)) {
            Isa::best().run(Fill { values, row });
        }
    }

    /// Room for `rows` × `cols`, contents unspecified.
    fn resize(&mut self, rows: usize, cols: usize) {
        self.rows = rows;
        self.cols = cols;
        self.padded = cols.next_multiple_of(SHARED);
        self.q.resize(rows * self.padded, 0);
        self.d.resize(rows * self.padded / SHARED, 0.0);
        self.sums.resize(rows * self.padded / SUMMED, 0);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row, without the padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Numbers in a row, with the padding: a multiple of 32.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Row `index`.
    #[inline]
    pub fn row(&self, index: usize) -> Row<'_> {
        let (scales, groups) = (self.padded / SHARED, self.padded / SUMMED);
        Row {
            q: &self.q[index * self.padded..][..self.padded],
            d: &self.d[index * scales..][..scales],
            sums: &self.sums[index * groups..][..groups],
        }
    }

    /// All rows, to be filled.
    fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = RowMut<'_>> {
        // `max(1)`: a Quantised without columns has no rows either, and chunks of nothing are not allowed.
        let padded = self.padded.max(SHARED);
        self.q
            .chunks_exact_mut(padded)
            .zip(self.d.chunks_exact_mut(padded / SHARED))
            .zip(self.sums.chunks_exact_mut(padded / SUMMED))
            .map(|((q, d), sums)| RowMut { q, d, sums })
    }
}

/// The last numbers of a row, fewer than 32, and zeros; none if there are none.
#[inline(always)]
pub(crate) fn padded(rest: &[f32]) -> Option<[f32; SHARED]> {
    if rest.is_empty() {
        return None;
    }
    let mut last = [0.0; SHARED];
    last[..rest.len()].copy_from_slice(rest);
    Some(last)
}

/// 32 numbers as they are kept.
pub(crate) struct Rounded {
    pub(crate) q: [i8; SHARED],
    pub(crate) d: f32,
    pub(crate) sums: [i16; SHARED / SUMMED],
}

/// Per 32 numbers `d = max|x| / 127` and `q = round(x · 127 / max|x|)`, ties to even.
///
/// Numbers so small that `127 / max|x|` overflows become zero; a NaN among the 32 makes their scale NaN and an infinity
/// makes it infinite with codes of zero, so that neither can pass for a number further on.
#[inline(always)]
pub(crate) fn quantise<S: Simd>(simd: S, values: &[f32; SHARED]) -> Rounded {
    // The bits of positive floats are ordered like the floats, with infinity and then NaN at the top: an integer
    // maximum cannot lose a NaN, which a float maximum would. By halves, which a compiler makes vectors of.
    let mut tops = [0; 16];
    for i in 0..16 {
        tops[i] = size(values[i]).max(size(values[i + 16]));
    }
    for i in 0..8 {
        tops[i] = tops[i].max(tops[i + 8]);
    }
    for i in 0..4 {
        tops[i] = tops[i].max(tops[i + 4]);
    }
    let largest = f32::from_bits(tops[0].max(tops[1]).max(tops[2].max(tops[3])));
    let inverse = TOP / largest;
    if !(inverse > 0.0 && inverse < f32::INFINITY) {
        let d = if largest.is_finite() { 0.0 } else { largest / TOP };
        return Rounded { q: [0; SHARED], d, sums: [0; SHARED / SUMMED] };
    }
    let mut rounded = Rounded { q: [0; SHARED], d: largest / TOP, sums: [0; SHARED / SUMMED] };
    let (inverse, magic) = (simd.splat(inverse), simd.splat(MAGIC));
    let (values, q) = (values.as_chunks().0, rounded.q.as_chunks_mut().0);
    for half in 0..SHARED / SUMMED {
        let scaled = simd.mul(simd.load(&values[half]), inverse);
        let codes = simd.sub(simd.add(scaled, magic), magic);
        simd.narrow_i8(codes, &mut q[half]);
        rounded.sums[half] = simd.sum(codes) as i16;
    }
    rounded
}

/// The bits without the sign.
#[inline(always)]
fn size(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// 1.5·2²³ leaves no room for a fraction: adding it rounds to the nearest integer, ties to even.
const MAGIC: f32 = 12_582_912.0;

/// Rounds a row of a [`Quantised`].
struct Fill<'a> {
    values: &'a [f32],
    row: RowMut<'a>,
}

impl Body for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fill { values, row: RowMut { q, d, sums } } = self;
        let (q, sums) = (q.as_chunks_mut::<SHARED>().0, sums.as_chunks_mut().0);
        let (whole, rest) = values.as_chunks();
        for (index, values) in whole.iter().enumerate() {
            let rounded = quantise(simd, values);
            (q[index], d[index], sums[index]) = (rounded.q, rounded.d, rounded.sums);
        }
        if let Some(values) = padded(rest) {
            let (index, rounded) = (whole.len(), quantise(simd, &values));
            (q[index], d[index], sums[index]) = (rounded.q, rounded.d, rounded.sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_rounded_alike_on_every_path() {
        let mut values: Vec<f32> = (0..200).map(|i| ((i * 7919) % 2003) as f32 / 300.0 - 3.0).collect();
        values[70] = f32::NAN;
        values[101] = f32::NEG_INFINITY;
        values[128..160].fill(1e-42);
        let rounded = |isa: Isa| {
            let mut one = Quantised::default();
            one.resize(1, values.len());
            one.rows_mut().for_each(|row| isa.run(Fill { values: &values, row }));
            // As bits: NaN is no other NaN's equal.
            (one.q, one.d.iter().map(|d| d.to_bits()).collect::<Vec<_>>(), one.sums)
        };
        let scalar = rounded(Isa::from_name("scalar").unwrap());
        Isa::all_here().into_iter().for_each(|isa| assert_eq!(rounded(isa), scalar, "{isa}"));
    }

    fn quantise_one(values: &[f32]) -> Quantised {
        Quantised::new(values, values.len())
    }

    #[test]
    fn the_largest_number_gets_the_largest_code() {
        let quantised = quantise_one(&[0.0, 2.54, -1.27, 0.01]);
        let row = quantised.row(0);
        assert_eq!(row.q[..5], [0, 127, -64, 0, 0]);
        assert_eq!(row.d, [2.54 / 127.0]);
        assert_eq!(row.sums, [63, 0]);
        assert_eq!((quantised.rows(), quantised.cols(), quantised.padded()), (1, 4, 32));
    }

    #[test]
    fn what_is_no_number_does_not_pass_for_one() {
        for (bad, wanted) in
            [(f32::NAN, "NaN"), (-f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "inf")]
        {
            let mut values = [1.0; 64];
            values[40] = bad;
            let quantised = quantise_one(&values);
            assert_eq!(quantised.row(0).d[0], 1.0 / 127.0, "the block without it is untouched");
            assert_eq!(quantised.row(0).d[1].to_string(), wanted);
            assert_eq!(quantised.row(0).q[32..], [0; 32]);
        }
    }

    #[test]
    fn dust_becomes_zero() {
        for dust in [0.0, -0.0, 1e-45, 3.0e-37] {
            let quantised = quantise_one(&[dust; 32]);
            assert_eq!((quantised.row(0).d[0], quantised.row(0).q), (0.0, &[0; 32][..]), "{dust}");
        }
    }

    #[test]
    fn rows_do_not_touch() {
        let values: Vec<f32> = (0..3 * 40).map(|i| i as f32 - 60.0).collect();
        let together = Quantised::new(&values, 40);
        for (index, values) in values.chunks_exact(40).enumerate() {
            let alone = quantise_one(values);
            assert_eq!(together.row(index).q, alone.row(0).q);
            assert_eq!(together.row(index).d, alone.row(0).d);
            assert_eq!(together.row(index).sums, alone.row(0).sums);
        }
    }

    proptest! {
        #[test]
        fn errors_stay_within_half_a_step(values in proptest::collection::vec(-1e3f32..1e3, 1..200)) {
            let quantised = quantise_one(&values);
            let row = quantised.row(0);
            for (index, x) in values.iter().enumerate() {
                let d = row.d[index / SHARED];
                let error = (f32::from(row.q[index]) * d - x).abs();
                // Half a step, and the rounding of d and of the product.
                prop_assert!(error <= d * 0.500_1, "{x} became {} steps of {d}", row.q[index]);
            }
            for (sum, q) in row.sums.iter().zip(row.q.chunks_exact(SUMMED)) {
                prop_assert_eq!(i32::from(*sum), q.iter().map(|q| i32::from(*q)).sum::<i32>());
            }
        }
    }
}
