//! A weight matrix: rows of blocks as in its file, or interleaved for the kernels.
//!
//! The bytes are shared, not copied: a matrix and its views hold the file's memory alive. Rows cost nothing to load and are
//! interleaved anew whenever they are multiplied; a matrix that was interleaved for good is read as fast as memory allows.

use std::ops::Range;

use bytes::Bytes;

use crate::compute::Compute;
use crate::cpu::Isa;
use crate::format::Format;
use crate::interleave::{self, Interleave, Interleaved, LANES, Layout, Strips};
use crate::simd::Rows;

/// The weights of a linear layer: `y[rows] = W[rows, cols] x[cols]`.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Bytes,
    /// How strips lie, if they were interleaved; otherwise the bytes are as in the file.
    interleaved: Option<Strips>,
}

/// Why bytes are not a matrix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// A matrix has at least one row and one column.
    #[error("a matrix of {rows} × {cols} has no numbers")]
    Empty {
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// The columns do not fill whole blocks.
    #[error("{cols} columns are not a multiple of {block}, the length of a block of {}", format.name())]
    Ragged {
        /// The blocks' format.
        format: Format,
        /// The columns asked for.
        cols: usize,
        /// Numbers in a block.
        block: usize,
    },
    /// There are more or fewer bytes than the numbers need.
    #[error("{rows} × {cols} numbers of {} do not lie in {found} bytes", format.name())]
    WrongSize {
        /// The blocks' format.
        format: Format,
        /// The rows asked for.
        rows: usize,
        /// The columns asked for.
        cols: usize,
        /// The bytes given.
        found: usize,
    },
}

impl Matrix {
    /// `rows` × `cols` numbers, row-major, in the blocks of `format`.
    pub fn new(format: Format, rows: usize, cols: usize, bytes: Bytes) -> Result<Matrix, MatrixError> {
        if rows == 0 || cols == 0 {
            return Err(MatrixError::Empty { rows, cols });
        }
        let block = format.block_len();
        if !cols.is_multiple_of(block) {
            return Err(MatrixError::Ragged { format, cols, block });
        }
        match format.row_bytes(cols) {
            Some(row_bytes) if row_bytes.checked_mul(rows) == Some(bytes.len()) => {
                Ok(Matrix { format, rows, cols, row_bytes, bytes, interleaved: None })
            }
            _ => Err(MatrixError::WrongSize { format, rows, cols, found: bytes.len() }),
        }
    }

    /// Outputs of the layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of the layer.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the numbers lie.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All rows, as they lie in memory.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// One row, as in the file.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// Bytes that the matrix takes interleaved, a multiple of 64; `None` where it stays as it is: floats, and what is
    /// interleaved already.
    pub fn interleaved_bytes(&self) -> Option<usize> {
        let strips = Strips::of(self.format, self.row_bytes).filter(|_| self.interleaved.is_none())?;
        strips.bytes.checked_mul(self.rows.div_ceil(LANES))
    }

    /// Writes the matrix interleaved; `out`: [`Matrix::interleaved_bytes`].
    ///
    /// # Panics
    /// If `out` is of another length.
    pub fn interleave(&self, compute: &Compute, out: &mut [u8]) {
        assert_eq!(Some(out.len()), self.interleaved_bytes(), "the bytes of an interleaved matrix");
        let Some(Strips { layout, bytes, .. }) = Strips::of(self.format, self.row_bytes) else { return };
        compute.pool().rows(out, bytes, |strip, out| {
            self.interleave_strip(compute.isa(), layout, LANES * strip, out);
        });
    }

    /// The same matrix on bytes that [`Matrix::interleave`] wrote.
    ///
    /// # Panics
    /// If there are more or fewer.
    #[must_use]
    pub fn with_interleaved(&self, bytes: Bytes) -> Matrix {
        assert_eq!(Some(bytes.len()), self.interleaved_bytes(), "the bytes of an interleaved matrix");
        Matrix { bytes, interleaved: Strips::of(self.format, self.row_bytes), ..*self }
    }

    fn interleave_strip(&self, isa: Isa, layout: Layout, first: usize, out: &mut [u8]) {
        let (start, whole) = (first * self.row_bytes, LANES * self.row_bytes);
        let mut padded = Vec::new();
        let bytes = if first + LANES <= self.rows {
            &self.bytes[start..start + whole]
        } else {
            // Rows of zeros below the last one.
            padded.extend_from_slice(&self.bytes[start..]);
            padded.resize(whole, 0);
            &padded
        };
        isa.run(Interleave { layout, rows: Rows::new(bytes), out });
    }

    /// The strip of sixteen rows from `first` on, a multiple of sixteen; interleaved in `spare` if it is not already.
    ///
    /// # Panics
    /// If the matrix is of floats.
    #[inline]
    pub(crate) fn strip<'a>(&'a self, isa: Isa, first: usize, spare: &'a mut Vec<u8>) -> Interleaved<'a> {
        let Some(strips) = self.interleaved else {
            let strips = Strips::of(self.format, self.row_bytes).expect("floats have no strips");
            spare.resize(strips.bytes, 0);
            self.interleave_strip(isa, strips.layout, first, spare);
            return Interleaved::new(strips, spare);
        };
        Interleaved::new(strips, &self.bytes[first / LANES * strips.bytes..][..strips.bytes])
    }

    /// Multiplies one row out: `out`: `[cols]`.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let Some(strips) = self.interleaved else { return self.format.decode(self.row(row), out) };
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row of {} numbers", self.cols);
        let strip = Interleaved::new(strips, &self.bytes[row / LANES * strips.bytes..][..strips.bytes]);
        let mut block = [0; interleave::LARGEST_BLOCK];
        let block = &mut block[..self.format.block_bytes()];
        for (at, out) in out.chunks_exact_mut(self.format.block_len()).enumerate() {
            strip.block(at, row % LANES, block);
            self.format.decode(block, out);
        }
    }

    /// Some of the rows as a matrix of their own, on the same memory: for tensors that a file has fused.
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the last row, or the matrix is interleaved.
    pub fn rows_range(&self, rows: Range<usize>) -> Matrix {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(self.interleaved.is_none(), "interleaved rows have no views");
        let bytes = self.bytes.slice(rows.start * self.row_bytes..rows.end * self.row_bytes);
        Matrix { rows: rows.len(), bytes, ..*self }
    }

    /// The path that a multiplication takes, for logs: `avx512-q4_k`.
    pub fn kernel_name(&self, isa: Isa) -> String {
        format!("{isa}-{}", self.format.name().to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Matrix, MatrixError};
    use crate::format::Format;

    #[test]
    fn only_bytes_that_fit_are_a_matrix() {
        let zeros = |n: usize| Bytes::from(vec![0; n]);
        let format = Format::Q4_0;
        assert!(Matrix::new(format, 3, 64, zeros(3 * 2 * 18)).is_ok());
        for (rows, cols, bytes, expected) in [
            (0, 64, 0, MatrixError::Empty { rows: 0, cols: 64 }),
            (3, 65, 108, MatrixError::Ragged { format, cols: 65, block: 32 }),
            (3, 64, 107, MatrixError::WrongSize { format, rows: 3, cols: 64, found: 107 }),
            (usize::MAX, 64, 36, MatrixError::WrongSize { format, rows: usize::MAX, cols: 64, found: 36 }),
        ] {
            assert_eq!(Matrix::new(format, rows, cols, zeros(bytes)).err(), Some(expected));
        }
    }

    #[test]
    fn a_view_shows_its_rows() {
        let bytes: Vec<u8> = (0..12_u16).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let matrix = Matrix::new(Format::F32, 4, 3, Bytes::from(bytes)).unwrap();
        let view = matrix.rows_range(1..3).rows_range(1..2);
        let mut row = [0.0; 3];
        view.decode_row(0, &mut row);
        assert_eq!((view.rows(), row), (1, [6.0, 7.0, 8.0]));
    }
}
