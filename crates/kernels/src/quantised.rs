//! Activations as the int8 kernels want them: 32 numbers share a scale, and the sums that minima need are kept.
//!
//! Stands between the f32 rows that a layer is given and the integer dot products with its quantised weights. A row is
//! padded with zeros to whole blocks of 32, so that a kernel never sees a tail. [`quantise_row`] is the definition;
//! a faster path fills the same fields through [`Quantised::rows_mut`].

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
#[derive(Debug)]
pub struct RowMut<'a> {
    /// Codes, `[padded]`.
    pub q: &'a mut [i8],
    /// Scales, `[padded / 32]`.
    pub d: &'a mut [f32],
    /// Sums of 16 codes each, `[padded / 16]`.
    pub sums: &'a mut [i16],
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
            quantise_row(values, row);
        }
    }

    /// Room for `rows` × `cols`, contents unspecified, for a faster path to fill through [`Quantised::rows_mut`].
    pub fn resize(&mut self, rows: usize, cols: usize) {
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

    /// All rows, to be filled; disjoint, so that threads can share them out.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = RowMut<'_>> {
        // `max(1)`: a Quantised without columns has no rows either, and chunks of nothing are not allowed.
        let padded = self.padded.max(SHARED);
        self.q
            .chunks_exact_mut(padded)
            .zip(self.d.chunks_exact_mut(padded / SHARED))
            .zip(self.sums.chunks_exact_mut(padded / SUMMED))
            .map(|((q, d), sums)| RowMut { q, d, sums })
    }
}

/// The definition: per 32 numbers `d = max|x| / 127` and `q = round(x · 127 / max|x|)`, ties to even.
///
/// Numbers so small that `127 / max|x|` overflows become zero; a NaN among the 32 makes their scale NaN and an infinity
/// makes it infinite with codes of zero, so that neither can pass for a number further on.
#[inline(always)]
pub fn quantise_row(values: &[f32], row: RowMut<'_>) {
    let RowMut { q, d, sums } = row;
    assert!(
        q.len() == values.len().next_multiple_of(SHARED),
        "{} codes for {} numbers",
        q.len(),
        values.len()
    );
    assert!(d.len() == q.len() / SHARED && sums.len() == q.len() / SUMMED, "scales and sums fit the codes");
    for (((values, q), d), sums) in values
        .chunks(SHARED)
        .zip(q.chunks_exact_mut(SHARED))
        .zip(d)
        .zip(sums.chunks_exact_mut(SHARED / SUMMED))
    {
        // The bits of positive floats are ordered like the floats, with infinity and then NaN at the top: an integer
        // maximum cannot lose a NaN, which a float maximum would.
        let largest = f32::from_bits(values.iter().fold(0, |top, x| top.max(x.to_bits() & 0x7fff_ffff)));
        let inverse = TOP / largest;
        let usable = inverse > 0.0 && inverse < f32::INFINITY;
        *d = if usable || !largest.is_finite() { largest / TOP } else { 0.0 };
        let inverse = if usable { inverse } else { 0.0 };
        let mut codes = [0; SHARED];
        for (code, x) in codes.iter_mut().zip(values) {
            *code = round(x * inverse);
        }
        for (q, code) in q.iter_mut().zip(codes) {
            *q = code as i8;
        }
        for (sum, codes) in sums.iter_mut().zip(codes.chunks_exact(SUMMED)) {
            *sum = codes.iter().sum::<i32>() as i16;
        }
    }
}

/// Nearest integer, ties to even, for |x| ≤ 2²²; 0 for NaN. 1.5·2²³ leaves no room for a fraction, so the addition rounds.
#[inline(always)]
fn round(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
