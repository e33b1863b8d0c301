//! Cost of a tokenizer: milliseconds to load, megabytes of text a second, and a megabyte of one character.
//!
//! `cargo bench -p lm --bench tokenizer`, with the shared data at hand or `SELVEDGE_SHARED_DATA` set. The goal is 60 ms
//! for 152 000 tokens, and no text that takes longer than its length deserves.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lm::gguf::Gguf;
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;

/// Time in milliseconds that this thread has had a processor, where Linux tells; neighbours then do not count.
fn now_ms(begun: &Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns: Option<f64> = told.and_then(|told| told.split(' ').next()?.parse().ok());
    ns.map_or_else(|| begun.elapsed().as_secs_f64() * 1e3, |ns| ns / 1e6)
}

/// The result, and the best time of `times`, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time<T>(times: usize, mut work: impl FnMut() -> T) -> (T, f64) {
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    let mut result = None;
    for _ in 0..times {
        let start = now_ms(&begun);
        result = Some(black_box(work()));
        best = best.min(now_ms(&begun) - start);
    }
    (result.expect("it ran at least once"), best)
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(data.join("text/tinyshakespeare.txt")) else {
        println!("skipped: tokenizer: no shared data");
        return Ok(());
    };
    let more = std::env::var_os("SELVEDGE_VOCABULARIES").map(PathBuf::from);
    let folders = [Some(data.join("vocab-gguf")), more].into_iter().flatten();
    let mut files = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder)? {
            files.push(entry?.path());
        }
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    files.sort();
    println!(
        "{:>28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "tokens", "read ms", "load ms", "MB/s", "again", "worst ms/MB"
    );
    for file in files {
        let (gguf, read_ms) = time(3, || Gguf::open(&file));
        let gguf = gguf?;
        let (tokenizer, load_ms) = time(5, || Tokenizer::from_metadata(gguf.metadata()));
        let Ok(tokenizer) = tokenizer else {
            continue;
        };
        // First with no word known, then with all.
        let (_, first_ms) = time(1, || tokenizer.encode(&text, Special::Parse));
        let (_, again_ms) = time(3, || tokenizer.encode(&text, Special::Parse));
        let worst =
            ["a", " ", "\n", "1", "'", "é", "中", "🦙", "<", "a ", "\u{301}", "<|im_start|>"].map(|unit| {
                let text = unit.repeat((1 << 20) / unit.len());
                (time(1, || tokenizer.encode(&text, Special::Parse)).1, unit)
            });
        let (worst_ms, unit) = worst.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        println!(
            "{:>28} {:>8} {read_ms:>8.1} {load_ms:>8.1} {:>8.1} {:>8.1} {worst_ms:>8.0} {unit:?}",
            file.file_stem().unwrap_or_default().to_string_lossy(),
            tokenizer.vocabulary_size(),
            text.len() as f64 / 1e3 / first_ms,
            text.len() as f64 / 1e3 / again_ms,
        );
    }
    Ok(())
}
