//! How fast a model of 135 million numbers in F16 is compressed, and in how much memory.
//!
//! `cargo bench -p forge [-- FILE]`: `FILE` is where the F16 model is kept, so that llama.cpp can be asked to compress the
//! same (`tests/peers/compress.py SOURCE --quantise FILE OUT TYPE`). Speeds count bytes of F16 read.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures and says what it measured"
)]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use forge::compress::{Options, compress};
use forge::mix::Mix;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use lm::gguf::Gguf;
use lm::specimen::Specimen;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let kept = std::env::args().nth(1).filter(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let from = kept.unwrap_or_else(|| folder.path().join("model.gguf"));
    if !from.exists() {
        let specimen = Specimen { format: Format::F16, output_format: Format::F16, ..Specimen::M135 };
        specimen.write(&mut BufWriter::new(File::create(&from)?))?;
    }
    let model = Gguf::open(&from)?;
    let to = folder.path().join("compressed.gguf");
    let compute = Compute::new(Isa::best(), NonZeroUsize::new(2).ok_or("two is not zero")?);
    for mix in [Mix::Q8_0, Mix::Q4_0, Mix::Q4KM, Mix::Q6K] {
        let begun = Instant::now();
        let done =
            compress(&compute, &model, &to, &Options { mix, importance: None, again: false }, &mut |_| ())?;
        let seconds = begun.elapsed().as_secs_f64();
        let megabytes = done.bytes_before as f64 / 1e6;
        println!("{}: {seconds:.3} s, {:.0} MB/s", mix.name().0, megabytes / seconds);
    }
    // Of Linux alone. What is mapped of the model counts as resident, but can go whenever memory is short.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("RssAnon"))
        .for_each(|line| println!("{line}"));
    Ok(())
}
