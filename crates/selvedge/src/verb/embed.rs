//! `selvedge embed`: texts to vectors, and how alike they are.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use lm::embed::embed;
use lm::forward::Scratch;
use lm::shape::Pooling;
use lm::tokenizer::special::Special;
use serde_json::json;

use crate::complaint::Usage;
use crate::engine::{Engine, Options};
use crate::progress;
use crate::recording::show_count;
use crate::table::{Side, Table};

/// Turn texts into vectors of length 1, whose product says how alike they are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine; best an encoder.
    model: String,

    /// The texts; without them each line that is piped in.
    text: Vec<String>,

    #[command(flatten)]
    options: Options,

    /// How the states of a text's tokens become one vector: mean, first or last; without it as the model says.
    #[arg(long, value_name = "HOW", value_parser = parse_pooling)]
    pooling: Option<Pooling>,

    /// Print how alike the texts are instead: their cosines.
    #[arg(long)]
    similarity: bool,

    /// Print cosines as JSON too; vectors always are.
    #[arg(long)]
    json: bool,
}

/// Tokens that go through the model at once.
const STEP_TOKENS: usize = 1_024;

fn parse_pooling(word: &str) -> Result<Pooling, String> {
    match word {
        "mean" => Ok(Pooling::Mean),
        "first" | "cls" => Ok(Pooling::First),
        "last" => Ok(Pooling::Last),
        _ => Err("it is mean, first or last".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let texts = texts(args)?;
    let engine = args.options.load(&args.model)?;
    let Some(pooling) = args.pooling.or(engine.model.network.shape().pooling) else {
        let why = format!(
            "{} writes text and was not made for embeddings; --pooling mean or last gives some all the same",
            engine.name
        );
        return Err(Usage(why).into());
    };
    let (vectors, counts) = vectors(&engine, &texts, pooling)?;
    let mut out = io::stdout().lock();
    if args.similarity {
        return Ok(similarity(&mut out, &texts, &vectors, args.json)?);
    }
    writeln!(out, "[")?;
    for (at, ((text, vector), tokens)) in texts.iter().zip(&vectors).zip(counts).enumerate() {
        let comma = if at + 1 < texts.len() { "," } else { "" };
        let record = json!({ "text": text, "tokens": tokens, "embedding": vector });
        writeln!(out, "{record}{comma}")?;
    }
    writeln!(out, "]")?;
    Ok(())
}

fn texts(args: &Args) -> anyhow::Result<Vec<String>> {
    if !args.text.is_empty() {
        return Ok(args.text.clone());
    }
    if io::stdin().is_terminal() {
        return Err(Usage("there is no text: give some, or pipe lines in".into()).into());
    }
    let lines: Result<Vec<String>, _> = io::stdin().lock().lines().collect();
    let mut lines = lines.context("what was piped in cannot be read as text")?;
    lines.retain(|line| !line.trim().is_empty());
    if lines.is_empty() {
        return Err(Usage("there is no text: every line that was piped in is empty".into()).into());
    }
    Ok(lines)
}

/// The vectors, and how many tokens each text has. A text that is too long is refused rather than cut.
fn vectors(
    engine: &Engine,
    texts: &[String],
    pooling: Pooling,
) -> anyhow::Result<(Vec<Vec<f32>>, Vec<usize>)> {
    let mut tokens = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let read = engine.model.tokenizer.encode_for_model(text, Special::Plain);
        if read.is_empty() {
            anyhow::bail!("text {} is empty", at + 1);
        }
        if read.len() > engine.context {
            anyhow::bail!(
                "text {} has {} tokens, and the model takes {}: cut it into parts",
                at + 1,
                show_count(read.len() as u64),
                show_count(engine.context as u64)
            );
        }
        tokens.push(read);
    }
    let counts = tokens.iter().map(Vec::len).collect();
    let bar = progress::steps(texts.len() as u64).with_prefix("embedding");
    let (mut scratch, mut vectors) = (Scratch::default(), Vec::with_capacity(texts.len()));
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let mut sum = 0;
        let fit = rest.iter().take_while(|tokens| {
            sum += tokens.len();
            sum <= STEP_TOKENS
        });
        let (step, later) = rest.split_at(fit.count().max(1));
        vectors.extend(embed(&engine.model.network, &mut scratch, step, pooling)?);
        rest = later;
        bar.set_position(vectors.len() as u64);
    }
    bar.finish_and_clear();
    Ok((vectors, counts))
}

fn similarity(
    out: &mut impl io::Write,
    texts: &[String],
    vectors: &[Vec<f32>],
    as_json: bool,
) -> io::Result<()> {
    let cosine =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosines: Vec<Vec<f64>> =
        vectors.iter().map(|one| vectors.iter().map(|other| cosine(one, other)).collect()).collect();
    if as_json {
        return writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&json!({ "texts": texts, "cosines": cosines }))?
        );
    }
    let mut table = Table::plain(vec![Side::Right; 1 + texts.len()].into_iter().chain([Side::Left]));
    let numbers = (1..=texts.len()).map(|at| at.to_string());
    table.row([String::new()].into_iter().chain(numbers));
    for (at, (text, row)) in texts.iter().zip(&cosines).enumerate() {
        let shown: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let cells = row.iter().map(|cosine| format!("{cosine:.3}"));
        table.row([(at + 1).to_string()].into_iter().chain(cells).chain([shown]));
    }
    write!(out, "{table}")
}
