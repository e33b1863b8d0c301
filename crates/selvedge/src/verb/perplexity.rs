//! `selvedge perplexity`: how surprised a model is by a text.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::evaluate::{Cut, Perplexity, perplexity};
use lm::tokenizer::special::Special;
use serde_json::json;
use wire::world::{Clock as _, System};

use crate::amount::{show_number, show_time_ns};
use crate::engine::{Engine, Options};
use crate::progress;
use crate::recording::show_count;
use crate::speak::rate;

/// Measure how surprised a model is by a text: its perplexity.
///
/// The text is cut into windows of --context tokens, of which the second half counts, as llama.cpp's tool does: figures can
/// be compared with its own. With --documents each text between separators begins afresh, and every token counts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine.
    model: String,

    /// The text; `-` is what is piped in.
    file: PathBuf,

    #[command(flatten)]
    options: Options,

    /// The text is many, with this between them (`\n` is a line break): each is read from its own beginning.
    #[arg(long, value_name = "SEPARATOR")]
    documents: Option<String>,

    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// The window where nobody says otherwise: that of llama.cpp's tool.
pub(super) const WINDOW: usize = 512;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let text = read_text(&args.file)?;
    let clock = System::new();
    let engine = args.options.load(&args.model)?;
    engine.must_write()?;
    let trained = engine.model.network.shape().context.max(2);
    let window = args.options.context().unwrap_or(WINDOW).min(trained);
    let (texts, cut) = match args.documents.as_deref().map(unescape) {
        None => (vec![engine.model.tokenizer.encode(&text, Special::Plain)], Cut::Windows(window)),
        Some(separator) => (documents(&engine, &text, &separator)?, Cut::Documents),
    };
    let begun = clock.mono_ns();
    let found = measure(&engine, &texts, cut, "reading")?;
    let ns = clock.mono_ns() - begun;
    let read: usize = texts.iter().map(Vec::len).sum();
    let mut out = io::stdout().lock();
    if args.json {
        let record = json!({
            "model": engine.name, "quantisation": engine.model.facts.quantisation,
            "perplexity": found.perplexity, "error": found.error, "nll": found.nll, "tokens": found.tokens,
            "window": match cut { Cut::Windows(window) => Some(window), Cut::Documents => None },
            "documents": matches!(cut, Cut::Documents).then_some(texts.len()),
            "seconds": ns as f64 / 1e9,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(out, "{}", show(&found))?;
    let how = match cut {
        Cut::Windows(window) => {
            format!("windows of {} tokens, the second half of each counts", show_count(window as u64))
        }
        Cut::Documents => {
            format!("{} documents, each from its own beginning", show_count(texts.len() as u64))
        }
    };
    writeln!(out, "{how}")?;
    if let Some(rate) = rate(read, ns) {
        writeln!(out, "read in {}: {} tokens/s", show_time_ns(ns), show_number(rate))?;
    }
    Ok(())
}

/// `perplexity 4.1235 ± 0.0512 over 1 024 tokens (1.4166 nats each)`.
pub(super) fn show(found: &Perplexity) -> String {
    let Perplexity { nll, perplexity, error, tokens } = found;
    format!(
        "perplexity {perplexity:.4} ± {error:.4} over {} tokens ({nll:.4} nats each)",
        show_count(*tokens as u64)
    )
}

/// Measures, with the figure so far beside the bar.
pub(super) fn measure(
    engine: &Engine,
    texts: &[Vec<u32>],
    cut: Cut,
    what: &'static str,
) -> anyhow::Result<Perplexity> {
    if let Cut::Documents = cut
        && let Some(longest) = texts
            .iter()
            .map(Vec::len)
            .max()
            .filter(|longest| *longest >= engine.model.network.shape().context)
    {
        anyhow::bail!(
            "a document has {} tokens, and the model was trained for {}: measure in windows, or separate the text further",
            show_count(longest as u64),
            show_count(engine.model.network.shape().context as u64)
        );
    }
    let bar = progress::steps(texts.iter().map(Vec::len).sum::<usize>() as u64).with_prefix(what);
    let cache = engine.pages.format;
    let found =
        perplexity(&engine.model.network, texts, engine.begin(), cut, cache, &mut |done, total, so_far| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if so_far.tokens > 0 {
                bar.set_message(format!("{:.4}", so_far.perplexity));
            }
        });
    bar.finish_and_clear();
    Ok(found?)
}

fn documents(engine: &Engine, text: &str, separator: &str) -> anyhow::Result<Vec<Vec<u32>>> {
    anyhow::ensure!(!separator.is_empty(), "--documents needs what stands between the documents");
    let texts = text.split(separator).map(str::trim).filter(|text| !text.is_empty());
    Ok(texts.map(|text| engine.model.tokenizer.encode(text, Special::Plain)).collect())
}

/// `\n`, `\t` and `\\` as shells leave them.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    out
}

/// A text file; `-` is stdin.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).context("what was piped in cannot be read as text")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read as text", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn separators_are_read_as_shells_leave_them() {
        assert_eq!(super::unescape(r"a\n\t\\b"), "a\n\t\\b");
        assert_eq!(super::unescape("<|endoftext|>"), "<|endoftext|>");
    }
}
