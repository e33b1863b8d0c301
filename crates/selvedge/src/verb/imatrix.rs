//! `selvedge imatrix`: measures on a text which inputs of a model matter, for `quantize --imatrix`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forge::importance::Importance;
use lm::tokenizer::special::Special;

use super::perplexity::{WINDOW, read_text};
use crate::engine::Options;
use crate::progress;
use crate::recording::show_count;

/// Measure which inputs of a model matter, for `quantize --imatrix`.
///
/// Take a text like those that the model will be used for, 100 000 tokens or so, and the model in F16, BF16 or F32. The file
/// is llama.cpp's GGUF form, which its tools read too.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine.
    model: String,

    /// The text; `-` is what is piped in.
    file: PathBuf,

    /// Where the matrix is written.
    #[arg(short, long, value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,

    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let text = read_text(&args.file)?;
    let engine = args.options.load(&args.model)?;
    engine.must_write()?;
    let trained = engine.model.network.shape().context.max(1);
    let window = args.options.context().unwrap_or(WINDOW).min(trained);
    let tokens = engine.model.tokenizer.encode(&text, Special::Plain);
    let bar = progress::steps(0).with_prefix("measuring");
    let measured =
        Importance::measure(&engine.model.network, &tokens, engine.begin(), window, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
    bar.finish_and_clear();
    let mut measured = measured?;
    measured.source = engine.name.clone();
    measured.datasets = vec![args.file.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    measured.write(&args.output)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "wrote {}: {} matrices, {} pieces of {} tokens",
        args.output.display(),
        measured.len(),
        show_count(measured.chunks.into()),
        show_count(window as u64)
    )?;
    writeln!(out, "use it with `selvedge quantize --imatrix {}`", args.output.display())?;
    Ok(())
}
