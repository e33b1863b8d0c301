//! `selvedge quantize`: makes a model smaller, and measures what that cost.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::compress::{CompressError, Compressed, Options as Compression, compress};
use forge::evaluate::{Cut, Perplexity};
use forge::importance::Importance;
use forge::mix::{MIXES, Mix};
use kernels::page::CacheFormat;
use lm::gguf::write::partial;
use lm::model::Model;
use lm::tokenizer::special::Special;
use serde_json::json;
use std::sync::Arc;

use super::perplexity::{WINDOW, measure, read_text, show};
use crate::amount::{show_bytes, show_number};
use crate::complaint::Usage;
use crate::engine::{Engine, Threads, open_path};
use crate::interrupt::Interrupt;
use crate::models::Models;
use crate::progress;

/// Make a model smaller: fewer bits for each weight.
///
/// Q4_K_M is what most people want: about 4.8 bits for each weight. Q8_0 loses almost nothing, Q5_K_M little. An importance
/// matrix (`selvedge imatrix`) makes all of them better, and costs nothing when the model runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: a .gguf file in F16, BF16 or F32, or the name of one on this machine.
    input: String,

    /// The file to write.
    output: PathBuf,

    /// F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_0, Q5_1, Q4_K_M, Q4_K_S, Q4_0, Q4_1, IQ4_NL, IQ4_XS, Q3_K_L,
    /// Q3_K_M, Q3_K_S or Q2_K.
    #[arg(value_name = "TYPE", value_parser = parse_mix)]
    mix: Mix,

    #[command(flatten)]
    models: Models,

    #[command(flatten)]
    threads: Threads,

    /// Weigh errors by which inputs matter, as this file says.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    /// Measure the perplexity before and after on this text.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,

    /// Take a model that was made smaller before, although one error is added to another.
    #[arg(long)]
    allow_requantize: bool,

    /// Replace the file to write.
    #[arg(long)]
    force: bool,

    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_mix(word: &str) -> Result<Mix, String> {
    Mix::from_name(word).ok_or_else(|| {
        let names: Vec<&str> = MIXES.iter().map(|(name, ..)| *name).collect();
        let lower = word.to_lowercase();
        let near = names.iter().min_by_key(|name| strsim::levenshtein(&name.to_lowercase(), &lower));
        let near = near.filter(|name| strsim::levenshtein(&name.to_lowercase(), &lower) <= 2);
        let near = near.map_or_else(String::new, |name| format!("did you mean {name}? "));
        format!("{near}It is one of {}", names.join(", "))
    })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let located = args.models.locate(&args.input)?;
    let (from, to) = (&located.path, &args.output);
    if to.exists() {
        if std::fs::canonicalize(to).ok() == std::fs::canonicalize(from).ok() {
            return Err(Usage(format!("{} cannot be both read and written", to.display())).into());
        }
        if !args.force {
            anyhow::bail!("{} is there already; --force replaces it", to.display());
        }
    }
    // All that is asked for is looked at before the long work begins.
    let text = args.text.as_deref().map(read_text).transpose()?;
    let importance = args
        .imatrix
        .as_deref()
        .map(|path| Importance::open(path).with_context(|| format!("{} cannot be used", path.display())));
    let importance = importance.transpose()?;
    let file = open_path(from)?;
    let compute = args.threads.compute()?;
    let before = match &text {
        Some(text) => Some(surprise(args, from, &located.name, text, "before")?),
        None => None,
    };
    if let Some(partial) = partial(to) {
        Interrupt::listen()?.remove(partial)?;
    }
    let bar = progress::steps(1).with_prefix(format!("to {}", args.mix.name().0));
    let options =
        Compression { mix: args.mix, importance: importance.as_ref(), again: args.allow_requantize };
    let done = compress(&compute, &file, to, &options, &mut |at| {
        bar.set_length(at.total.max(1));
        bar.set_position(at.done);
        bar.set_message(at.tensor.to_owned());
    });
    bar.finish_and_clear();
    let done = done.map_err(|error| match error {
        CompressError::Compressed { name, format } => anyhow::anyhow!(
            "{} was made smaller before ({name} is {format}), and that error would be added to the new one: \
             start from F16, BF16 or F32, or say --allow-requantize",
            located.name
        ),
        error => anyhow::Error::from(error).context(format!("{} cannot be made smaller", located.name)),
    })?;
    let after = match &text {
        Some(text) => Some(surprise(args, to, &located.name, text, "after")?),
        None => None,
    };
    tell(args, &done, before.as_ref().zip(after.as_ref()))
}

/// Perplexity of a file on a text.
fn surprise(
    args: &Args,
    path: &Path,
    name: &str,
    text: &str,
    what: &'static str,
) -> anyhow::Result<Perplexity> {
    let file = open_path(path)?;
    let model = Model::load(&file, args.threads.compute()?);
    let model = model.with_context(|| format!("{} cannot be loaded", path.display()))?;
    let pages = model.network.page_shape(CacheFormat::F16)?;
    let context = model.network.shape().context.max(2);
    let engine =
        Engine { name: name.to_owned(), file, model: Arc::new(model), adapter: None, context, pages };
    engine.must_write()?;
    let tokens = vec![engine.model.tokenizer.encode(text, Special::Plain)];
    measure(&engine, &tokens, Cut::Windows(WINDOW.min(context)), what)
}

fn tell(args: &Args, done: &Compressed, measured: Option<(&Perplexity, &Perplexity)>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let bits = |bytes: u64| bytes as f64 * 8.0 / done.parameters.max(1) as f64;
    if args.json {
        let record = json!({
            "output": args.output, "type": args.mix.name().0, "parameters": done.parameters,
            "bytes_before": done.bytes_before, "bytes_after": done.bytes_after,
            "bits_before": bits(done.bytes_before), "bits_after": bits(done.bytes_after),
            "tensors": done.tensors.iter().map(|(format, count)| json!({ "format": format, "count": count })).collect::<Vec<_>>(),
            "without_importance": done.without_importance,
            "perplexity_before": measured.map(|(before, _)| before),
            "perplexity_after": measured.map(|(_, after)| after),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{}: {} → {} ({:.0} %), {} → {} bits a weight",
        args.output.display(),
        show_bytes(done.bytes_before),
        show_bytes(done.bytes_after),
        done.bytes_after as f64 / done.bytes_before.max(1) as f64 * 100.0,
        show_number(bits(done.bytes_before)),
        show_number(bits(done.bytes_after)),
    )?;
    let tensors: Vec<String> =
        done.tensors.iter().map(|(format, count)| format!("{count} {format}")).collect();
    writeln!(out, "tensors: {}", tensors.join(", "))?;
    if done.without_importance > 0 {
        let count = done.without_importance;
        let (tensors, were) = if count == 1 { ("tensor", "was") } else { ("tensors", "were") };
        writeln!(
            out,
            "note: the importance matrix says nothing of {count} {tensors}, which {were} taken as they are"
        )?;
    }
    match measured {
        Some((before, after)) => {
            let more = (after.perplexity / before.perplexity - 1.0) * 100.0;
            writeln!(out, "before: {}", show(before))?;
            writeln!(out, "after:  {}, {more:+.2} %", show(after))?;
        }
        None => writeln!(out, "perplexity was not measured: --text FILE measures it before and after")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_or_proposed() {
        assert_eq!(parse_mix("q4_k_m"), Ok(Mix::Q4KM));
        assert!(parse_mix("Q4KM").unwrap_err().starts_with("did you mean Q4_K_M? It is one of F32"));
        assert!(parse_mix("nothing").unwrap_err().starts_with("It is one of"));
    }
}
