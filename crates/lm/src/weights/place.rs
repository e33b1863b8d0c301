//! Where weights lie: in the file, or interleaved in memory of their own, one copy either way.
//!
//! Interleaved weights are read at the speed of memory, and lie in huge pages where the system has them, which a map of a
//! file does not. What was read from the file is given back at once, some megabytes at a time, so that no two copies of the
//! model stand in memory.

use std::collections::HashMap;

use bytes::Bytes;
use kernels::compute::Compute;
use kernels::matrix::Matrix;
use memmap2::MmapMut;

use crate::gguf::Gguf;
use crate::weights::Weights;

/// What is read of the file before its memory is given back: the most that stands in memory twice.
const PIECE_BYTES: usize = 8 << 20;

/// A matrix by where it lies in the file.
type Place = (usize, usize);

fn place(matrix: &Matrix) -> Place {
    (matrix.bytes().as_ptr() as usize, matrix.bytes().len())
}

impl Weights {
    /// Interleaves all quantised matrices that are multiplied. An embedding that only rows are taken of stays in the file.
    /// Where the system has no memory for it all stay there.
    pub(crate) fn interleave(&mut self, file: &Gguf, compute: &Compute) {
        // Matrices that two linears share are there once.
        let mut wanted: Vec<Matrix> = Vec::new();
        let mut seen = HashMap::new();
        for linear in self.linears() {
            if linear.weight.interleaved_bytes().is_some() {
                seen.entry(place(&linear.weight)).or_insert_with(|| {
                    wanted.push(linear.weight.clone());
                    wanted.len() - 1
                });
            }
        }
        let lengths: Vec<usize> = wanted.iter().filter_map(Matrix::interleaved_bytes).collect();
        let total = lengths.iter().fold(0_usize, |sum, length| sum.saturating_add(*length));
        let Some(mut memory) = huge(total) else { return };
        let mut rest = &mut memory[..];
        for (matrix, length) in wanted.iter().zip(&lengths) {
            let (mut out, others) = std::mem::take(&mut rest).split_at_mut(*length);
            rest = others;
            let step = (PIECE_BYTES * matrix.rows() / length).next_multiple_of(16);
            for first in (0..matrix.rows()).step_by(step) {
                let piece = matrix.rows_range(first..(first + step).min(matrix.rows()));
                let (here, behind) = out.split_at_mut(piece.interleaved_bytes().unwrap_or(0));
                out = behind;
                piece.interleave(compute, here);
                file.done_with(piece.bytes());
            }
        }
        let memory = Bytes::from_owner(memory);
        let mut from = 0;
        let made = wanted.iter().zip(&lengths).map(|(matrix, length)| {
            let bytes = memory.slice(from..from + length);
            from += length;
            matrix.with_interleaved(bytes)
        });
        let made: Vec<Matrix> = made.collect();
        let replace = |matrix: &mut Matrix| {
            if let Some(index) = seen.get(&place(matrix)) {
                *matrix = made[*index].clone();
            }
        };
        replace(&mut self.token_embedding);
        self.linears_mut().for_each(|linear| replace(&mut linear.weight));
    }
}

/// Zeroed memory in huge pages, where there are any; `None` where there is not so much, or nothing is wanted.
fn huge(bytes: usize) -> Option<MmapMut> {
    if bytes == 0 {
        return None;
    }
    let memory = MmapMut::map_anon(bytes);
    let memory = memory.inspect_err(|error| tracing::warn!(%error, bytes, "weights stay in the file"));
    let memory = memory.ok()?;
    #[cfg(target_os = "linux")]
    if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, "the system has no huge pages");
    }
    Some(memory)
}
