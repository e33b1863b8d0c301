//! Every format on every path against its definition, to the bit.

use std::num::NonZeroUsize;

use bytes::Bytes;

use crate::compute::Compute;
use crate::cpu::Isa;
use crate::format::Format;
use crate::matmul::{Input, matmul, matmul_each};
use crate::matrix::Matrix;
use crate::quantised::Quantised;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Random blocks whose scales are numbers of a sensible size: random codes, and halves of small exponent where scales lie.
fn weights(format: Format, rows: usize, cols: usize, random: &mut Random) -> Matrix {
    let len = format.row_bytes(cols).unwrap() * rows;
    let mut bytes: Vec<u8> = (0..len).map(|_| (random.next() >> 32) as u8).collect();
    let halves: &[usize] = match format {
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Q6K => &[208],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        _ => &[0],
    };
    let block = format.block_bytes();
    for bytes in bytes.chunks_exact_mut(block) {
        let value = random.float();
        match format {
            Format::F32 => bytes.copy_from_slice(&value.to_le_bytes()),
            Format::F16 => bytes.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            Format::BF16 => bytes.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            Format::Q8K => bytes[..4].copy_from_slice(&value.to_le_bytes()),
            _ => {
                for at in halves {
                    let half = half::f16::from_f32(random.float() / 8.0);
                    bytes[*at..at + 2].copy_from_slice(&half.to_le_bytes());
                }
            }
        }
    }
    Matrix::new(format, rows, cols, Bytes::from(bytes)).unwrap()
}

/// What a result should be: the format's own dot product, or f64 arithmetic for floats.
fn expected(weights: &Matrix, values: &[f32], out: &mut Vec<f32>) {
    let quantised = Quantised::new(values, weights.cols());
    let mut decoded = vec![0.0; weights.cols()];
    for (token, x) in values.chunks_exact(weights.cols()).enumerate() {
        for row in 0..weights.rows() {
            out.push(if weights.format().is_quantised() {
                weights.format().dot(weights.row(row), quantised.row(token))
            } else {
                weights.decode_row(row, &mut decoded);
                decoded.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32
            });
        }
    }
}

/// The same matrix, interleaved for good.
fn interleaved(weights: &Matrix, compute: &Compute) -> Option<Matrix> {
    let mut bytes = vec![0; weights.interleaved_bytes()?];
    weights.interleave(compute, &mut bytes);
    Some(weights.with_interleaved(Bytes::from(bytes)))
}

/// Multiplies on every path and number of threads, rows and interleaved; all must give the same bits. Gives them.
fn on_every_path(weights: &Matrix, values: &[f32]) -> Vec<f32> {
    let input = Input::new(values, weights.cols());
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::all_here() {
        for threads in [1, 3] {
            let compute = Compute::new(isa, NonZeroUsize::new(threads).unwrap());
            for weights in [Some(weights.clone()), interleaved(weights, &compute)].into_iter().flatten() {
                let mut out = vec![f32::NAN; input.tokens() * weights.rows()];
                matmul(&compute, &weights, &input, &mut out);
                let first = first.get_or_insert_with(|| out.clone());
                let same = first.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same,
                    "{} {threads} threads, {:?}",
                    weights.kernel_name(isa),
                    (weights.rows(), weights.cols(), input.tokens())
                );
            }
        }
    }
    first.unwrap()
}

#[test]
fn every_format_on_every_path_is_the_definition_and_a_token_alone_is_the_same() {
    let mut random = Random(7);
    for format in Format::ALL {
        let block = format.block_len();
        for (rows, blocks, tokens) in
            [(1, 1, 1), (16, 2, 2), (17, 3, 5), (35, 1, 40), (5, 9, 3), (64, 2, 13), (33, 1, 4), (20, 5, 27)]
        {
            let cols = if block == 1 { [1, 16, 47, 128][blocks % 4] } else { block * blocks };
            let weights = weights(format, rows, cols, &mut random);
            let values: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
            let together = on_every_path(&weights, &values);
            let mut wanted = Vec::new();
            expected(&weights, &values, &mut wanted);
            let scale = (cols as f32).sqrt();
            for (i, (a, b)) in together.iter().zip(&wanted).enumerate() {
                let fits = if format.is_quantised() { a == b } else { (a - b).abs() < 2e-6 * scale };
                assert!(fits, "{} {rows} × {cols}, {tokens} tokens, result {i}: {a} {b}", format.name());
            }
            for token in [0, tokens - 1] {
                let alone = on_every_path(&weights, &values[token * cols..][..cols]);
                assert_eq!(alone, together[token * rows..][..rows], "{} token {token}", format.name());
            }
        }
    }
}

#[test]
fn long_rows_of_floats_pass_in_pieces() {
    let mut random = Random(17);
    for format in [Format::F16, Format::BF16, Format::F32] {
        for cols in [1025, 2048, 2049, 2500] {
            let (rows, tokens) = (6, 7);
            let weights = weights(format, rows, cols, &mut random);
            let values: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
            let together = on_every_path(&weights, &values);
            for token in 0..tokens {
                let alone = on_every_path(&weights, &values[token * cols..][..cols]);
                assert_eq!(alone, together[token * rows..][..rows], "{} {cols} columns", format.name());
            }
        }
    }
}

#[test]
fn the_extremes_of_every_code_do_not_overflow() {
    for format in Format::ALL.into_iter().filter(|format| format.is_quantised()) {
        for byte in [0x00, 0xff, 0x80, 0x7f] {
            let cols = format.block_len();
            let mut bytes = vec![byte; format.row_bytes(cols).unwrap() * 16];
            // Scales of ones and minus ones are what these bytes are not: put 1.0 wherever a scale may lie.
            let halves: &[usize] = match format {
                Format::Q2K => &[80, 82],
                Format::Q3K => &[108],
                Format::Q6K => &[208],
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
                _ => &[0],
            };
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in halves {
                    block[*at..at + 2].copy_from_slice(&[0, 0x3c]);
                }
                if format == Format::Q8K {
                    block[..4].copy_from_slice(&1.0_f32.to_le_bytes());
                }
            }
            let weights = Matrix::new(format, 16, cols, Bytes::from(bytes)).unwrap();
            for sign in [1.0, -1.0] {
                let values = vec![sign; cols * 5];
                let mut wanted = Vec::new();
                expected(&weights, &values, &mut wanted);
                assert_eq!(on_every_path(&weights, &values), wanted, "{} {byte:#x} {sign}", format.name());
            }
        }
    }
}

#[test]
fn one_input_serves_matrices_of_all_formats() {
    let mut random = Random(11);
    let values: Vec<f32> = (0..20 * 256).map(|_| random.float()).collect();
    let shared = Input::new(&values, 256);
    let compute = Compute::new(Isa::best(), NonZeroUsize::new(2).unwrap());
    for format in Format::ALL {
        let weights = weights(format, 40, 256, &mut random);
        let (mut a, mut b) = (vec![0.0; 20 * 40], vec![0.0; 20 * 40]);
        matmul(&compute, &weights, &shared, &mut a);
        matmul(&compute, &weights, &Input::new(&values, 256), &mut b);
        assert_eq!(a, b, "{}", format.name());
    }
}

#[test]
fn rows_of_an_interleaved_matrix_are_those_of_the_file() {
    let mut random = Random(13);
    let compute = Compute::new(Isa::best(), NonZeroUsize::new(2).unwrap());
    for format in Format::ALL {
        let cols = 2 * format.block_len().max(16);
        let weights = weights(format, 19, cols, &mut random);
        let Some(interleaved) = interleaved(&weights, &compute) else { continue };
        let (mut a, mut b) = (vec![0.0; cols], vec![0.0; cols]);
        for row in [0, 7, 15, 16, 18] {
            weights.decode_row(row, &mut a);
            interleaved.decode_row(row, &mut b);
            assert_eq!(a, b, "{} row {row}", format.name());
        }
        assert_eq!(interleaved.interleaved_bytes(), None);
    }
}

#[test]
fn matrices_multiplied_together_are_the_same_as_one_by_one() {
    let mut random = Random(13);
    for (formats, rows) in [
        (&[Format::Q4K, Format::Q4K, Format::Q6K][..], &[64, 16, 17][..]),
        (&[Format::Q4_0, Format::Q8_0], &[5, 300]),
        (&[Format::Q4_0, Format::F16, Format::Q5_0], &[33, 20, 48]),
        (&[Format::BF16, Format::F32], &[7, 40]),
    ] {
        let matrices: Vec<Matrix> = formats
            .iter()
            .zip(rows)
            .map(|(format, rows)| weights(*format, *rows, 256, &mut random))
            .collect();
        for tokens in [1, 4, 29] {
            let values: Vec<f32> = (0..tokens * 256).map(|_| random.float()).collect();
            let wanted: Vec<Vec<f32>> =
                matrices.iter().map(|matrix| on_every_path(matrix, &values)).collect();
            for threads in [1, 3] {
                let compute = Compute::new(Isa::best(), NonZeroUsize::new(threads).unwrap());
                let mut outs: Vec<Vec<f32>> = wanted.iter().map(|out| vec![f32::NAN; out.len()]).collect();
                let mut products: Vec<_> = matrices
                    .iter()
                    .zip(&mut outs)
                    .map(|(matrix, out)| (matrix, out.as_mut_slice()))
                    .collect();
                matmul_each(&compute, &Input::new(&values, 256), &mut products);
                assert_eq!(outs, wanted, "{formats:?}, {tokens} tokens, {threads} threads");
            }
        }
    }
}
