//! Scores to probabilities.

use crate::cpu::Isa;
use crate::simd::{Body, Simd, exp, load_part, store_part};

/// `x[i] = e^(x[i] − m) / Σ e^(x[j] − m)` in place, m being the largest. Where all are −∞, all become 0.
pub fn softmax(x: &mut [f32]) {
    Isa::best().run(Softmax { x });
}

/// `ln Σ e^x[i]`, without overflow; −∞ for nothing.
pub fn log_sum_exp(x: &[f32]) -> f32 {
    Isa::best().run(LogSumExp { x })
}

/// The largest number; −∞ for nothing. What is no number counts as nothing.
pub fn highest(x: &[f32]) -> f32 {
    Isa::best().run(Highest { x })
}

/// How scores lie to each other, as the probabilities that [`softmax`] makes of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// `ln Σ e^x[i]`
    pub log_sum: f32,
    /// The two largest scores; −∞ where there is none.
    pub largest: [f32; 2],
    /// `−Σ p[i] ln p[i]`, in nats.
    pub entropy: f32,
}

/// How scores lie to each other.
pub fn spread(x: &[f32]) -> Spread {
    Isa::best().run(Spreads { x })
}

/// The largest number.
#[inline(always)]
fn largest<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let low = simd.splat(f32::NEG_INFINITY);
    let (chunks, rest) = x.as_chunks();
    let mut most = low;
    for chunk in chunks {
        most = simd.max(simd.load(chunk), most);
    }
    simd.largest(simd.max(load_part(simd, rest, f32::NEG_INFINITY), most))
}

struct Softmax<'a> {
    x: &'a mut [f32],
}

impl Body for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let most = largest(simd, self.x);
        if most == f32::NEG_INFINITY {
            self.x.fill(0.0);
            return;
        }
        let most = simd.splat(most);
        let mut sum = simd.splat(0.0);
        let (chunks, rest) = self.x.as_chunks_mut();
        for chunk in chunks.iter_mut() {
            let y = exp(simd, simd.sub(simd.load(chunk), most));
            sum = simd.add(sum, y);
            simd.store(y, chunk);
        }
        let y = exp(simd, simd.sub(load_part(simd, rest, f32::NEG_INFINITY), most));
        let scale = simd.splat(1.0 / simd.sum(simd.add(sum, y)));
        for chunk in chunks {
            simd.store(simd.mul(simd.load(chunk), scale), chunk);
        }
        store_part(simd, simd.mul(y, scale), rest);
    }
}

struct LogSumExp<'a> {
    x: &'a [f32],
}

impl Body for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let most = largest(simd, self.x);
        if most == f32::NEG_INFINITY {
            return most;
        }
        let m = simd.splat(most);
        let (chunks, rest) = self.x.as_chunks();
        let mut sum = simd.splat(0.0);
        for chunk in chunks {
            sum = simd.add(sum, exp(simd, simd.sub(simd.load(chunk), m)));
        }
        let last = exp(simd, simd.sub(load_part(simd, rest, f32::NEG_INFINITY), m));
        most + simd.sum(simd.add(sum, last)).ln()
    }
}

struct Highest<'a> {
    x: &'a [f32],
}

impl Body for Highest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        largest(simd, self.x)
    }
}

/// Numbers that are summed in lanes before the sums go on in f64, as a vocabulary has up to a quarter of a million.
const BLOCK: usize = 4096;
/// What lies so far below the largest score has no part: e^-100 is less than any f32 times another.
const BELOW: f32 = -100.0;

struct Spreads<'a> {
    x: &'a [f32],
}

impl Body for Spreads<'_> {
    type Output = Spread;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Spread {
        let low = simd.splat(f32::NEG_INFINITY);
        let (mut first, mut second) = (low, low);
        let (chunks, rest) = self.x.as_chunks();
        for chunk in chunks {
            (first, second) = meet(simd, (first, second), simd.load(chunk));
        }
        (first, second) = meet(simd, (first, second), load_part(simd, rest, f32::NEG_INFINITY));
        let mut lanes = [[0.0; 16]; 2];
        simd.store(first, &mut lanes[0]);
        simd.store(second, &mut lanes[1]);
        let mut largest = [f32::NEG_INFINITY; 2];
        for x in lanes.as_flattened() {
            largest = [x.max(largest[0]), x.min(largest[0]).max(largest[1])];
        }
        let most = largest[0];
        if most == f32::NEG_INFINITY {
            return Spread { log_sum: most, largest, entropy: 0.0 };
        }
        let most_all = simd.splat(most);
        // Of e^d and d e^d, d being how far below the largest a score lies.
        let (mut sum, mut weighted) = (0.0, 0.0);
        for block in self.x.chunks(BLOCK) {
            let mut sums = [simd.splat(0.0); 2];
            let (chunks, rest) = block.as_chunks();
            for chunk in chunks {
                sums = weigh(simd, sums, simd.load(chunk), most_all);
            }
            sums = weigh(simd, sums, load_part(simd, rest, f32::NEG_INFINITY), most_all);
            sum += f64::from(simd.sum(sums[0]));
            weighted += f64::from(simd.sum(sums[1]));
        }
        let log_sum = (f64::from(most) + sum.ln()) as f32;
        Spread { log_sum, largest, entropy: (sum.ln() - weighted / sum).max(0.0) as f32 }
    }
}

/// The two largest of each lane, one number more.
#[inline(always)]
fn meet<S: Simd>(simd: S, (first, second): (S::F, S::F), x: S::F) -> (S::F, S::F) {
    (simd.max(x, first), simd.max(simd.min(x, first), second))
}

/// Adds e^d and d e^d to their sums, d being how far `x` lies below `most`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, [sum, weighted]: [S::F; 2], x: S::F, most: S::F) -> [S::F; 2] {
    let d = simd.max(simd.sub(x, most), simd.splat(BELOW));
    let y = exp(simd, d);
    [simd.add(sum, y), simd.mul_add(y, d, weighted)]
}

#[cfg(test)]
mod tests {
    use super::{Highest, LogSumExp, Softmax, Spread, Spreads, highest, log_sum_exp, softmax, spread};
    use crate::cpu::Isa;
    use crate::simd::{Body, Simd, exp};

    struct Exp([f32; 16]);

    impl Body for Exp {
        type Output = [f32; 16];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> [f32; 16] {
            let mut out = [0.0; 16];
            simd.store(exp(simd, simd.load(&self.0)), &mut out);
            out
        }
    }

    #[test]
    fn exp_is_within_its_bound_and_alike_on_every_path() {
        let mut worst: f64 = 0.0;
        for i in -86_590..88_700 {
            let x = std::array::from_fn(|lane| (i as f32 + lane as f32 / 16.0) / 1000.0);
            let scalar = Isa::from_name("scalar").unwrap().run(Exp(x));
            if i % 16 == 0 {
                for isa in Isa::all_here() {
                    assert_eq!(isa.run(Exp(x)), scalar, "{isa}");
                }
            }
            for lane in 0..16 {
                let wanted = f64::from(x[lane]).exp();
                worst = worst.max(((f64::from(scalar[lane]) - wanted) / wanted).abs());
            }
        }
        assert!(worst < 2e-7, "{worst:e}");
        let mut edges = [
            0.0,
            f32::NEG_INFINITY,
            f32::INFINITY,
            -1000.0,
            1000.0,
            f32::NAN,
            88.8,
            -87.4,
            1e-30,
            -1e-30,
            1.0,
            -1.0,
            2.0,
            3.0,
            4.0,
            5.0,
        ];
        edges = Isa::best().run(Exp(edges));
        assert_eq!(edges[..5], [1.0, 0.0, f32::INFINITY, 0.0, f32::INFINITY]);
        assert!(
            edges[6] == f32::INFINITY && edges[7] == 0.0 && edges[8] == 1.0 && edges[9] == 1.0,
            "{edges:?}"
        );
    }

    #[test]
    fn probabilities_sum_to_one_and_are_those_of_f64() {
        for len in [1, 2, 15, 16, 17, 100, 4097] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 1000) as f32 / 25.0 - 20.0).collect();
            let total: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
            assert!((f64::from(log_sum_exp(&x)) - total.ln()).abs() < 1e-5);
            let mut y = x.clone();
            softmax(&mut y);
            for (x, y) in x.iter().zip(&y) {
                let wanted = f64::from(*x).exp() / total;
                assert!((f64::from(*y) - wanted).abs() <= 1e-5 * wanted, "{len}: {y} {wanted}");
            }
            for isa in Isa::all_here() {
                let mut other = x.clone();
                isa.run(Softmax { x: &mut other });
                assert_eq!(other, y, "{isa}");
                assert_eq!(isa.run(LogSumExp { x: &x }), log_sum_exp(&x), "{isa}");
            }
        }
    }

    #[test]
    fn the_spread_is_that_of_f64_and_alike_on_every_path() {
        for len in [1, 2, 15, 16, 17, 100, 4096, 4097, 50_000] {
            for scale in [0.0, 0.1, 25.0] {
                let mut x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 * scale).collect();
                x[len / 2] = if len > 2 { f32::NEG_INFINITY } else { 1.0 };
                let found = spread(&x);
                let total: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
                let p = x.iter().map(|x| f64::from(*x).exp() / total).filter(|p| *p > 0.0);
                let entropy: f64 = p.map(|p| -p * p.ln()).sum();
                assert!((f64::from(found.log_sum) - total.ln()).abs() < 2e-6 * total.ln().abs().max(1.0));
                assert!(
                    (f64::from(found.entropy) - entropy).abs() < 1e-5 * entropy.max(1.0),
                    "{found:?} {entropy}"
                );
                for isa in Isa::all_here() {
                    assert_eq!(isa.run(Spreads { x: &x }), found, "{isa}");
                    assert_eq!(isa.run(Highest { x: &x }), found.largest[0], "{isa}");
                }
                x.sort_by(|a, b| b.total_cmp(a));
                let second = x.get(1).copied().unwrap_or(f32::NEG_INFINITY);
                assert_eq!(found.largest, [x[0], second]);
            }
        }
        let nothing = Spread { log_sum: f32::NEG_INFINITY, largest: [f32::NEG_INFINITY; 2], entropy: 0.0 };
        assert_eq!((spread(&[]), spread(&[f32::NEG_INFINITY; 3])), (nothing, nothing));
        assert_eq!(highest(&[1.0, f32::NAN, 2.0, f32::NAN]), 2.0);
    }

    #[test]
    fn impossible_scores_get_nothing() {
        let mut x = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
        softmax(&mut x);
        assert_eq!(x, [0.0, 0.5, 0.0, 0.5]);
        let mut none = [f32::NEG_INFINITY; 3];
        assert_eq!((log_sum_exp(&none), log_sum_exp(&[])), (f32::NEG_INFINITY, f32::NEG_INFINITY));
        softmax(&mut none);
        assert_eq!(none, [0.0; 3]);
    }
}
