//! Rotary position embedding: turns pairs of a head's numbers by an angle that grows with the position.

use crate::compute::Compute;
use crate::matmul::packed::{Make, Rows};
use crate::simd::Simd;

/// Which two numbers of a head are turned together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pairing {
    /// `x[2i]` and `x[2i + 1]`: llama as GGUF stores it.
    Interleaved,
    /// `x[i]` and `x[i + n/2]`, n numbers being turned: NeoX, and most families since.
    Halves,
}

/// Turns every head of `rows: [tokens, width]` by its token's angles: of each `head` numbers the first `2 * pairs`, each pair
/// by its (cosine, sine) in `turns: [tokens, pairs]`; the rest stays.
pub fn turn(
    compute: &Compute,
    pairing: Pairing,
    turns: &[(f32, f32)],
    head: usize,
    rows: &mut [f32],
    width: usize,
) {
    let Some(pairs) = turns.len().checked_div(rows.len() / width) else { return };
    assert!(2 * pairs <= head && width.is_multiple_of(head), "{pairs} pairs in heads of {head}");
    Rows { cols: width, rows, beside: &mut [] }.make(compute, &Turn { pairing, turns, pairs, head });
}

struct Turn<'a> {
    pairing: Pairing,
    turns: &'a [(f32, f32)],
    pairs: usize,
    head: usize,
}

impl Make for Turn<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, _: S, index: usize, row: &mut [f32], _: &mut [f32]) {
        let turns = &self.turns[index * self.pairs..][..self.pairs];
        for head in row.chunks_exact_mut(self.head) {
            rotate(head, turns, self.pairing);
        }
    }
}

/// One head. In plain Rust, which the compiler makes vectors of: no two operations of it are one.
#[inline(always)]
fn rotate(head: &mut [f32], turns: &[(f32, f32)], pairing: Pairing) {
    let head = &mut head[..2 * turns.len()];
    match pairing {
        Pairing::Interleaved => {
            for ([a, b], (cos, sin)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
        Pairing::Halves => {
            let (low, high) = head.split_at_mut(turns.len());
            for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pairing, rotate};

    #[test]
    fn pairs_are_those_of_the_pairing_and_the_rest_stays() {
        let quarter = (0.0, 1.0);
        for (pairing, expected) in [
            (Pairing::Interleaved, [-2.0, 1.0, -4.0, 3.0, 5.0]),
            (Pairing::Halves, [-3.0, -4.0, 1.0, 2.0, 5.0]),
        ] {
            let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
            rotate(&mut head, &[quarter; 2], pairing);
            assert_eq!(head, expected, "{pairing:?}");
        }
    }

    #[test]
    fn lengths_are_kept_and_turning_back_undoes() {
        let turns: Vec<(f32, f32)> =
            (0..8).map(|i| (i as f32 * 0.7).sin_cos()).map(|(s, c)| (c, s)).collect();
        let back: Vec<(f32, f32)> = turns.iter().map(|(c, s)| (*c, -s)).collect();
        for pairing in [Pairing::Interleaved, Pairing::Halves] {
            let start: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
            let mut head = start.clone();
            rotate(&mut head, &turns, pairing);
            let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
            assert!((length(&head) - length(&start)).abs() < 1e-3);
            rotate(&mut head, &back, pairing);
            assert!(head.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
