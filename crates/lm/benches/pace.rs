//! Says how fast a model reads and writes here, for who changes the engine:
//! `cargo bench -p lm --bench pace -- FILE [PROMPT [ANSWER [THREADS [CACHE [TIMES]]]]]`.
//!
//! Less than `selvedge bench`, and built in a fraction of the time. On one thread its own processor time counts, so that
//! what others do on the machine counts little; the fastest of some runs is told, as others only ever add. A path of the
//! instructions is forced by `KERNELS_ISA`. With `perf record` before it, it shows where the time goes: build it with
//! `CARGO_PROFILE_BENCH_STRIP=none CARGO_PROFILE_BENCH_DEBUG=line-tables-only`.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::forward::{Part, Scratch, Wanted};
use lm::model::Model;
use lm::sample::{Sampler, Settings};
use rustix::time::{ClockId, clock_gettime};

/// Tokens that go through the model at once.
const STEP: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a word of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let file = args.first().ok_or("usage: pace FILE [PROMPT [ANSWER [THREADS [CACHE [TIMES]]]]]")?;
    let number = |at: usize, otherwise: usize| args.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (prompt, answer, times) = (number(1, 512)?, number(2, 128)?, number(5, 3)?);
    let threads = NonZeroUsize::new(number(3, 1)?).ok_or("at least one thread")?;
    let cache = match args.get(4).map(String::as_str) {
        None | Some("f16") => CacheFormat::F16,
        Some("q8_0") => CacheFormat::Q8_0,
        Some("f32") => CacheFormat::F32,
        Some(other) => return Err(format!("a cache is f16, q8_0 or f32, not {other}").into()),
    };
    let compute = Arc::new(Compute::new(Isa::from_environment()?, threads));
    let model = Model::open(Path::new(file), compute)?;
    let network = &model.network;
    let (pages, vocabulary) = (network.page_shape(cache)?, network.shape().vocabulary);
    let mut scratch = Scratch::default();
    let tokens: Vec<u32> = (0..prompt).map(|i| (i as u64 * 7919 % vocabulary as u64) as u32).collect();
    let (mut reading, mut at_depth, mut writing) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..times {
        let mut cache = network.sequence(pages, prompt + answer + 1);
        let mut sampler = Sampler::new(Settings { temperature: 0.0, ..Settings::default() }, &[]);
        let mut logits = Vec::new();
        let begun = Stopwatch::start(threads);
        let mut last = begun;
        for piece in tokens.chunks(STEP) {
            last = Stopwatch::start(threads);
            let part = Part { tokens: piece, cache: &mut cache, adapter: None, wanted: Wanted::Last };
            logits = network.step(&mut scratch, &mut [part])?;
        }
        reading = reading.min(begun.seconds());
        at_depth = at_depth.min(last.seconds());
        let begun = Stopwatch::start(threads);
        for _ in 0..answer {
            let token = sampler.choose(&mut logits, |_| {}, 0)?.token;
            scratch.keep(logits);
            let part = Part { tokens: &[token], cache: &mut cache, adapter: None, wanted: Wanted::Last };
            logits = network.step(&mut scratch, &mut [part])?;
        }
        writing = writing.min(begun.seconds());
    }
    println!(
        "{threads} threads: reads {:.1} tokens/s ({prompt}), the last {:.1}, writes {:.1} tokens/s ({answer})",
        prompt as f64 / reading,
        tokens.chunks(STEP).last().map_or(0, <[u32]>::len) as f64 / at_depth,
        answer as f64 / writing
    );
    Ok(())
}

/// What a piece of work takes: of this thread alone where it is the only one, by the clock on the wall otherwise.
#[derive(Clone, Copy)]
struct Stopwatch {
    wall: Instant,
    own: Option<f64>,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "it measures time")]
    fn start(threads: NonZeroUsize) -> Stopwatch {
        Stopwatch { wall: Instant::now(), own: (threads.get() == 1).then(own_seconds) }
    }

    fn seconds(&self) -> f64 {
        self.own.map_or_else(|| self.wall.elapsed().as_secs_f64(), |begun| own_seconds() - begun)
    }
}

/// Seconds that this thread has had a processor.
fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
