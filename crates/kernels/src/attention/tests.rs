//! Attention against its definition in f64, and against itself: on every path, alone, in batches, shared out.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::attention::{Attention, Sequence, attend};
use crate::compute::Compute;
use crate::cpu::Isa;
use crate::page::{CacheFormat, PAGE, Page, PageShape};

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2001) as f32 / 1000.0 - 1.0
    };
    (0..8).for_each(|_| {
        next();
    });
    (0..len).map(|_| next()).collect()
}

/// Pages with `len` positions in layer 1 of 2.
fn pages(attention: &Attention, format: CacheFormat, len: usize) -> Vec<Arc<Page>> {
    let (kv_heads, head_dim) = (attention.kv_heads, attention.head_dim);
    let shape = PageShape { layers: 2, kv_heads, head_dim, format };
    let mut pages: Vec<Page> = (0..len.div_ceil(PAGE)).map(|_| Page::new(shape)).collect();
    let (keys, values) = (numbers(len * kv_heads * head_dim, 3), numbers(len * kv_heads * head_dim, 4));
    for (i, (keys, values)) in
        keys.chunks(kv_heads * head_dim).zip(values.chunks(kv_heads * head_dim)).enumerate()
    {
        pages[i / PAGE].write(1, i % PAGE, keys, values);
    }
    pages.into_iter().map(Arc::new).collect()
}

/// The definition: all scores of a query, their softmax, the weighted sum, in f64, over what the pages hold.
fn expected(a: &Attention, queries: &[f32], first: usize, len: usize, pages: &[Arc<Page>]) -> Vec<f64> {
    let kv_width = a.kv_heads * a.head_dim;
    let (mut keys, mut values) = (vec![0.0; len * kv_width], vec![0.0; len * kv_width]);
    for i in 0..len {
        pages[i / PAGE].read_keys(1, i % PAGE, &mut keys[i * kv_width..][..kv_width]);
        pages[i / PAGE].read_values(1, i % PAGE, &mut values[i * kv_width..][..kv_width]);
    }
    let mut out = Vec::new();
    for (row, query) in queries.chunks(a.head_dim).enumerate() {
        let (position, kv_head) = (first + row / a.heads, row % a.heads / (a.heads / a.kv_heads));
        let sees = |i: usize| (!a.causal || i <= position) && a.window.is_none_or(|w| i + w > position);
        let seen: Vec<usize> = (0..len).filter(|i| sees(*i)).collect();
        let at = |all: &[f32], i: usize, d: usize| f64::from(all[i * kv_width + kv_head * a.head_dim + d]);
        let score = |i: &usize| {
            let s: f64 = (0..a.head_dim).map(|d| f64::from(query[d]) * at(&keys, *i, d)).sum();
            let s = s * f64::from(a.scale);
            a.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
        };
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for d in 0..a.head_dim {
            out.push(seen.iter().zip(&weights).map(|(i, w)| w * at(&values, *i, d)).sum::<f64>() / sum);
        }
    }
    out
}

fn attended(
    compute: &Compute,
    a: &Attention,
    queries: &[f32],
    first: usize,
    len: usize,
    pages: &[Arc<Page>],
) -> Vec<f32> {
    let mut out = vec![f32::NAN; queries.len()];
    attend(compute, a, &mut [Sequence { queries, first, len, pages, layer: 1, out: &mut out }]);
    out
}

fn compute(isa: Isa, threads: usize) -> Compute {
    Compute::new(isa, NonZeroUsize::new(threads).unwrap())
}

#[test]
fn results_are_those_of_the_definition_on_every_path() {
    let plain = Attention {
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        scale: 0.7,
        softcap: None,
        window: None,
        causal: true,
    };
    let cases = [
        (plain.clone(), 0, 37),
        (plain.clone(), 1000, 1),
        (plain.clone(), 500, 30),
        (Attention { head_dim: 8, ..plain.clone() }, 3, 70),
        (Attention { head_dim: 80, heads: 7, kv_heads: 1, ..plain.clone() }, 20, 9),
        (Attention { window: Some(40), ..plain.clone() }, 600, 50),
        (Attention { window: Some(1), ..plain.clone() }, 31, 3),
        (Attention { softcap: Some(2.5), ..plain.clone() }, 10, 33),
        (Attention { causal: false, heads: 6, ..plain.clone() }, 0, 61),
    ];
    for (a, first, tokens) in cases {
        for format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8_0] {
            if format == CacheFormat::Q8_0 && a.head_dim % 32 != 0 {
                continue;
            }
            let pages = pages(&a, format, first + tokens);
            let queries = numbers(tokens * a.heads * a.head_dim, 5);
            let wanted = expected(&a, &queries, first, first + tokens, &pages);
            let mut scalar = None;
            for isa in Isa::all_here() {
                let out = attended(&compute(isa, 2), &a, &queries, first, first + tokens, &pages);
                for (i, (out, wanted)) in out.iter().zip(&wanted).enumerate() {
                    assert!(
                        (f64::from(*out) - wanted).abs() < 1e-5,
                        "{isa} {format:?} {a:?} {first} {i}: {out} {wanted}"
                    );
                }
                assert_eq!(scalar.get_or_insert_with(|| out.clone()), &out, "{isa} {format:?} {a:?}");
            }
        }
    }
}

#[test]
fn a_query_gets_the_same_bits_alone_in_a_batch_and_shared_out() {
    for (heads, kv_heads) in [(2, 1), (8, 2)] {
        let a = Attention {
            heads,
            kv_heads,
            head_dim: 16,
            scale: 0.3,
            softcap: None,
            window: None,
            causal: true,
        };
        let (first, tokens) = (1500, 40);
        let held = pages(&a, CacheFormat::F16, first + tokens);
        let queries = numbers(tokens * heads * 16, 9);
        let together = attended(&compute(Isa::best(), 1), &a, &queries, first, first + tokens, &held);
        for threads in [1, 2, 5] {
            let compute = compute(Isa::best(), threads);
            assert_eq!(attended(&compute, &a, &queries, first, first + tokens, &held), together);
            for token in [0, 17, 39] {
                let range = token * heads * 16..(token + 1) * heads * 16;
                let (at, query) = (first + token, &queries[range.clone()]);
                assert_eq!(
                    attended(&compute, &a, query, at, at + 1, &held),
                    together[range],
                    "{threads} {token}"
                );
            }
        }
        // Two sequences that share pages, of different lengths, in one call.
        let (mut x, mut y) = (vec![0.0; 3 * heads * 16], vec![0.0; heads * 16]);
        attend(
            &compute(Isa::best(), 3),
            &a,
            &mut [
                Sequence {
                    queries: &queries[..x.len()],
                    first,
                    len: first + 3,
                    pages: &held,
                    layer: 1,
                    out: &mut x,
                },
                Sequence {
                    queries: &queries[5 * y.len()..6 * y.len()],
                    first: first + 5,
                    len: first + 6,
                    pages: &held,
                    layer: 1,
                    out: &mut y,
                },
            ],
        );
        assert_eq!((&x[..], &y[..]), (&together[..x.len()], &together[5 * heads * 16..6 * heads * 16]));
    }
}
