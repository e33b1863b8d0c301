//! The numbers of a tensor on their way from one type to another, a row at a time.
//!
//! Stands between `safetensors` and the GGUF writer. Nothing larger than a row is held. Where source and target are the
//! same and nothing is added, the bytes go through untouched.

use std::io::{self, Write};

use half::{bf16, f16};
use kernels::format::Format;

use super::safetensors::Dtype;

/// A tensor as rows, and what happens to them.
pub struct Rows<'a> {
    /// The numbers in their source type.
    pub bytes: &'a [u8],
    /// The source type; one that [`Dtype::bytes`] knows.
    pub dtype: &'a Dtype,
    /// Numbers in a row.
    pub columns: usize,
    /// How many rows are taken.
    pub rows: usize,
    /// Added to each number.
    pub plus: f32,
}

impl Rows<'_> {
    /// Writes the rows in another type; `from(row)` is the source row that becomes `row`.
    pub fn write(
        &self,
        target: Format,
        from: impl Fn(usize) -> usize,
        sink: &mut dyn Write,
    ) -> io::Result<()> {
        let width = self.dtype.bytes().expect("unknown types were refused before") as usize;
        let source = |row: usize| {
            let start = from(row) * self.columns * width;
            &self.bytes[start..start + self.columns * width]
        };
        let same = matches!(
            (self.dtype, target),
            (Dtype::F32, Format::F32) | (Dtype::F16, Format::F16) | (Dtype::Bf16, Format::BF16)
        );
        if same && self.plus == 0.0 {
            return (0..self.rows).try_for_each(|row| sink.write_all(source(row)));
        }
        let mut numbers = vec![0.0_f32; self.columns];
        let row_bytes = target.row_bytes(self.columns).expect("the writer has checked the columns");
        let mut out = vec![0; row_bytes];
        for row in 0..self.rows {
            decode(source(row), self.dtype, &mut numbers);
            if self.plus != 0.0 {
                numbers.iter_mut().for_each(|number| *number += self.plus);
            }
            let encoded = target.encode(&numbers, None, &mut out);
            encoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            sink.write_all(&out)?;
        }
        Ok(())
    }
}

fn decode(bytes: &[u8], dtype: &Dtype, out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            let (chunks, _) = bytes.as_chunks::<4>();
            out.iter_mut().zip(chunks).for_each(|(out, chunk)| *out = f32::from_le_bytes(*chunk));
        }
        Dtype::F16 => {
            let (chunks, _) = bytes.as_chunks::<2>();
            out.iter_mut().zip(chunks).for_each(|(out, chunk)| *out = f16::from_le_bytes(*chunk).to_f32());
        }
        Dtype::Bf16 => {
            let (chunks, _) = bytes.as_chunks::<2>();
            out.iter_mut().zip(chunks).for_each(|(out, chunk)| *out = bf16::from_le_bytes(*chunk).to_f32());
        }
        Dtype::Other(_) => unreachable!("unknown types were refused before"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: &Rows, target: Format, from: impl Fn(usize) -> usize) -> Vec<u8> {
        let mut out = Vec::new();
        rows.write(target, from, &mut out).unwrap();
        out
    }

    #[test]
    fn rows_are_converted_moved_and_shifted() {
        let values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let single: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let half: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let brain: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        let sources = [(Dtype::F32, &single), (Dtype::F16, &half), (Dtype::Bf16, &brain)];
        for (dtype, bytes) in &sources {
            let rows = Rows { bytes, dtype, columns: 2, rows: 3, plus: 0.0 };
            for (target, expected) in [(Format::F32, &single), (Format::F16, &half), (Format::BF16, &brain)] {
                assert_eq!(&written(&rows, target, |row| row), expected, "{dtype} to {}", target.name());
            }
            let turned: Vec<u8> =
                [5.0_f32, 6.0, 3.0, 4.0, 1.0, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(written(&rows, Format::F32, |row| 2 - row), turned);
            let shifted: Vec<u8> = values.iter().flat_map(|value| (value + 1.0).to_le_bytes()).collect();
            let rows = Rows { plus: 1.0, ..rows };
            assert_eq!(written(&rows, Format::F32, |row| row), shifted);
        }
    }
}
