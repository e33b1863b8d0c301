//! Writes a model of a real shape with random weights, to measure speed and memory with:
//! `cargo run --release -p lm --example specimen -- SHAPE FORMAT FILE`, of the shapes 135m, 0.5b, 1b and 3b.
//!
//! With F16 it is what `selvedge quantize` makes the mixes of. Speed does not depend on what weights say.

#![allow(clippy::print_stderr, reason = "a program for people")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use kernels::format::Format;
use lm::specimen::Specimen;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = match &args[..] {
        [shape, format, file] => specimen(shape).zip(Format::from_name(format)).map(|of| (of, file)),
        _ => None,
    };
    let Some(((shape, format), file)) = wanted else {
        eprintln!("usage: specimen 135m|0.5b|1b|3b FORMAT FILE, with a format such as f16, q4_0 or q8_0");
        return ExitCode::from(2);
    };
    // As llama.cpp keeps the output of such a file: finer than the rest, and never finer than what it is made of.
    let output_format = match format {
        Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 => format,
        _ if shape.width % 256 == 0 => Format::Q6K,
        _ => Format::Q8_0,
    };
    match write(&Specimen { format, output_format, ..shape }, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{file} cannot be written: {why}");
            ExitCode::FAILURE
        }
    }
}

fn specimen(shape: &str) -> Option<Specimen> {
    match shape {
        "135m" => Some(Specimen::M135),
        "0.5b" => Some(Specimen::M500),
        "1b" => Some(Specimen::B1),
        "3b" => Some(Specimen::B3),
        _ => None,
    }
}

fn write(specimen: &Specimen, file: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    specimen.write(&mut out)?;
    out.flush()?;
    Ok(())
}
