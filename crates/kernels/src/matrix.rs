//! A weight matrix as it lies in its file: rows of blocks.
//!
//! The bytes are shared, not copied: a matrix and its views hold the file's memory alive. They are opaque to callers, so that
//! a layout that suits a processor better can come without them noticing.

use std::ops::Range;

use bytes::Bytes;

use crate::cpu::Isa;
use crate::format::Format;

/// The weights of a linear layer: `y[rows] = W[rows, cols] x[cols]`.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Bytes,
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
                Ok(Matrix { format, rows, cols, row_bytes, bytes })
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

    /// All rows, as in the file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// One row, as in the file.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// The bytes of sixteen rows from `first` on; where there are fewer, in `padding`, with rows of zeros behind them.
    pub(crate) fn sixteen_rows<'a>(&'a self, first: usize, padding: &'a mut Vec<u8>) -> &'a [u8] {
        let (start, whole) = (first * self.row_bytes, 16 * self.row_bytes);
        if first + 16 <= self.rows {
            return &self.bytes[start..start + whole];
        }
        padding.extend_from_slice(&self.bytes[start..]);
        padding.resize(whole, 0);
        padding
    }

    /// Multiplies one row out: `out`: `[cols]`.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.format.decode(self.row(row), out);
    }

    /// Some of the rows as a matrix of their own, on the same memory: for tensors that a file has fused.
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the last row.
    pub fn rows_range(&self, rows: Range<usize>) -> Matrix {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
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
