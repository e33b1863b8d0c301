//! Speed of the multiplications: billions of operations a second with many tokens, bytes a second with one.
//!
//! `cargo bench -p kernels --bench matmul [-- FORMAT …]`; `KERNELS_ISA` forces a path. With many tokens the share of the int8
//! peak is told, which is measured here, in the same run; with one token, what else the machine reads in that time.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use bytes::Bytes;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use kernels::matmul::{Input, integer_peak, matmul};
use kernels::matrix::Matrix;
use kernels::pool::cores::default_threads;

/// Seconds of the fastest of some runs: other work on the machine only ever adds. On one thread, those that the thread had
/// the processor, so that what others do in between does not count.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn fastest(threads: usize, runs: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let (start, own) = (Instant::now(), own_seconds());
        work();
        let seconds = if threads == 1 { own_seconds() - own } else { start.elapsed().as_secs_f64() };
        best = best.min(seconds);
    }
    best
}

/// Seconds that this thread has had a processor.
fn own_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Bytes that look random; f16 scales among them are made small and finite.
fn weights(format: Format, rows: usize, cols: usize) -> Option<Matrix> {
    let mut state = 88_172_645_463_325_252_u64;
    let bytes = (0..format.row_bytes(cols)? * rows).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x2f
    });
    Matrix::new(format, rows, cols, Bytes::from(bytes.collect::<Vec<u8>>())).ok()
}

/// The matrix as it lies in a loaded model.
fn loaded(compute: &Compute, matrix: &Matrix) -> Matrix {
    let Some(len) = matrix.interleaved_bytes() else { return matrix.clone() };
    let mut bytes = vec![0; len];
    matrix.interleave(compute, &mut bytes);
    matrix.with_interleaved(Bytes::from(bytes))
}

/// Billions of int8 operations a second when nothing but those instructions is done.
fn peak_gops(compute: &Compute) -> f64 {
    let threads = compute.pool().threads();
    let seconds = fastest(threads, 5, || {
        compute.pool().run(threads, &|_| {
            black_box(integer_peak(compute.isa(), 200_000));
        });
    });
    (threads * integer_peak(compute.isa(), 200_000)) as f64 / seconds / 1e9
}

/// Bytes a second that summing a large buffer reads.
fn read_speed(compute: &Compute, buffer: &[u64]) -> f64 {
    let (piece, threads) = (1 << 13, compute.pool().threads());
    let seconds = fastest(threads, 5, || {
        compute.pool().run(buffer.len() / piece, &|i| {
            let sum = buffer[i * piece..][..piece].iter().fold(0_u64, |sum, x| sum.wrapping_add(*x));
            black_box(sum);
        });
    });
    size_of_val(buffer) as f64 / seconds / 1e9
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = Isa::from_environment()?;
    let wanted: Vec<Format> = std::env::args().skip(1).filter_map(|name| Format::from_name(&name)).collect();
    let formats = if wanted.is_empty() { Format::ALL.to_vec() } else { wanted };
    // Larger than the third cache, so that one token reads from memory.
    let buffer: Vec<u64> = (0..16 << 20).collect();
    for threads in (1..=default_threads().get()).map_while(NonZeroUsize::new) {
        let compute = Compute::new(isa, threads);
        let peak = peak_gops(&compute);
        println!(
            "\n{isa}, {threads} threads; int8 peak {:.0} GOPS; reading {:.1} GB/s",
            peak,
            read_speed(&compute, &buffer)
        );
        println!(
            "{:8} {:>13} {:>9} {:>6}   {:>9} {:>9} {:>9} {:>9}",
            "format", "rows × cols", "GOPS@504", "peak", "GOPS@32", "GOPS@4", "GB/s@1", "cached@1"
        );
        for format in formats.iter().copied() {
            for (rows, cols) in [(2048, 2048), (8192, 2048), (2048, 8192)] {
                let Some(in_rows) = weights(format, rows, cols) else { continue };
                let matrix = loaded(&compute, &in_rows);
                let values: Vec<f32> =
                    (0..504 * cols).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect();
                let mut out = vec![0.0; 504 * rows];
                let mut gops = |tokens: usize| {
                    let values = &values[..tokens * cols];
                    // Filled again and again, as a model does: its memory is there from the second time on.
                    let mut input = Input::default();
                    let seconds = fastest(threads.get(), if tokens > 100 { 4 } else { 8 }, || {
                        input.begin(tokens, cols).copy_from_slice(values);
                        input.finish(&compute);
                        matmul(&compute, &matrix, &input, &mut out[..tokens * rows]);
                    });
                    2.0 * (tokens * rows * cols) as f64 / seconds / 1e9
                };
                let (many, some, few) = (gops(504), gops(32), gops(4));
                // Copies enough to fill 200 MB, one after the other: each comes from memory. Then one that stays in a cache.
                let copies: Vec<Matrix> =
                    (0..(200 << 20) / matrix.bytes().len()).map(|_| loaded(&compute, &in_rows)).collect();
                let (x, y) = (&values[..cols], &mut vec![0.0; rows]);
                let seconds = fastest(threads.get(), 3, || {
                    copies.iter().for_each(|copy| matmul(&compute, copy, &Input::new(x, cols), y));
                });
                let memory = (copies.len() * matrix.bytes().len()) as f64 / seconds / 1e9;
                let small = loaded(&compute, &in_rows.rows_range(0..256));
                let seconds = fastest(threads.get(), 9, || {
                    (0..20).for_each(|_| matmul(&compute, &small, &Input::new(x, cols), &mut y[..256]));
                });
                let cached = (20 * small.bytes().len()) as f64 / seconds / 1e9;
                let share = format!("{:.0} %", 100.0 * many / peak);
                println!(
                    "{:8} {:>13} {many:9.0} {share:>6}   {some:9.0} {few:9.0} {memory:9.1} {cached:9.1}",
                    format.name(),
                    format!("{rows} × {cols}")
                );
            }
        }
    }
    Ok(())
}
