//! Speed of attention at depth: the share of the FMA peak that a prompt reaches, and bytes a second that an answer reads.
//!
//! `cargo bench -p kernels --bench attention [-- DEPTH …]`; `KERNELS_ISA` forces a path. Peak and reading speed are measured
//! in the same run.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use kernels::attention::{Attention, Sequence, attend, float_peak};
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::{CacheFormat, PAGE, Page, PageShape};
use kernels::pool::cores::default_threads;
use kernels::roofline::{Field, Pages};

/// Tokens of a prompt that go through at once.
const STEP: usize = 512;

/// Layers of a cache: enough that it does not stay in a cache of the processor.
const LAYERS: usize = 16;

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

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect()
}

/// Pages that hold `len` positions of all layers.
fn pages(shape: PageShape, len: usize) -> Vec<Arc<Page>> {
    let width = shape.kv_heads * shape.head_dim;
    let all = numbers(width + 1000);
    let page = |_| {
        let mut page = Page::new(shape);
        for (layer, slot) in (0..shape.layers).flat_map(|layer| (0..PAGE).map(move |slot| (layer, slot))) {
            let numbers = &all[(layer * PAGE + slot) % 1000..][..width];
            page.write(layer, slot, numbers, numbers);
        }
        Arc::new(page)
    };
    (0..len.div_ceil(PAGE)).map(page).collect()
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = Isa::from_environment()?;
    let wanted: Vec<usize> = std::env::args().skip(1).filter_map(|depth| depth.parse().ok()).collect();
    let depths = if wanted.is_empty() { vec![512, 8192] } else { wanted };
    for threads in (1..=default_threads().get()).map_while(NonZeroUsize::new) {
        let compute = Compute::new(isa, threads);
        let seconds = fastest(threads.get(), 5, || {
            compute.pool().run(threads.get(), &|_| {
                black_box(float_peak(isa, 200_000));
            });
        });
        let peak = (threads.get() * float_peak(isa, 200_000)) as f64 / seconds / 1e9;
        let field = Field::new(256 << 20, Pages::Small)?;
        let seconds = fastest(threads.get(), 3, || {
            black_box(field.read(&compute));
        });
        let read = field.bytes() as f64 / seconds / 1e9;
        println!("\n{isa}, {threads} threads; f32 peak {peak:.0} GFLOPS; reading {read:.1} GB/s");
        println!("{:>12} {:>6} {:>6} {:>12} {:>12}", "heads", "cache", "depth", "prompt", "answer");
        for (heads, kv_heads, head_dim) in [(9, 3, 64), (14, 2, 64), (32, 8, 64), (16, 8, 128)] {
            for format in [CacheFormat::F16, CacheFormat::Q8_0] {
                for &depth in &depths {
                    let shape = PageShape { layers: LAYERS, kv_heads, head_dim, format };
                    let pages = pages(shape, depth + STEP);
                    let attention = Attention {
                        heads,
                        kv_heads,
                        head_dim,
                        scale: 0.125,
                        softcap: None,
                        window: None,
                        causal: true,
                    };
                    let queries = numbers(STEP * heads * head_dim);
                    let mut out = vec![0.0; queries.len()];
                    let mut ask = |tokens: usize, layer: usize| {
                        let len = tokens * heads * head_dim;
                        let (queries, out) = (&queries[..len], &mut out[..len]);
                        let len = depth + tokens;
                        let sequence = Sequence { queries, first: depth, len, pages: &pages, layer, out };
                        attend(&compute, &attention, &mut [sequence]);
                    };
                    let seconds = fastest(threads.get(), 2, || ask(STEP, 0));
                    let seen = (STEP * depth + STEP * (STEP + 1) / 2) as f64;
                    let flops = 4.0 * seen * (heads * head_dim) as f64 / seconds / 1e9;
                    let seconds = fastest(threads.get(), 3, || (0..LAYERS).for_each(|layer| ask(1, layer)));
                    let bytes = shape.bytes() as f64 * (depth + 1) as f64 / PAGE as f64 / seconds / 1e9;
                    println!(
                        "{:>12} {:>6} {depth:6} {flops:5.0} = {:2.0} % {bytes:5.1} = {:2.0} %",
                        format!("{heads}/{kv_heads} × {head_dim}"),
                        if format == CacheFormat::F16 { "f16" } else { "q8_0" },
                        100.0 * flops / peak,
                        100.0 * bytes / read,
                    );
                }
            }
        }
    }
    Ok(())
}
