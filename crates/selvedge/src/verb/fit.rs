//! `selvedge fit`: which of these files, or which variant of a package, this machine can run, and how fast.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use forge::fit::{Fit, Verdict, fit};
use lm::model::LoadError;
use serde::Serialize;
use wire::world::System;

use crate::amount::{show_bytes, show_number, show_parameters};
use crate::engine::{CacheType, Threads, parse_tokens};
use crate::models::Models;
use crate::progress;
use crate::recording::show_count;
use crate::speed::{Plan, Speed, measure};
use crate::table::{Side, Table};
use lm::memory::machine::Memory;

pub(super) mod explain;

/// Say which of these models this machine can run, best first.
///
/// What a model needs is its weights, keys and values for a whole context, and room to compute. The best is the one with
/// the most parameters that fits, and of those the one with the most bits.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// .gguf files, or names of models on this machine.
    #[arg(required_unless_present = "explain")]
    model: Vec<String>,

    /// Say of each variant of a package, a folder or a .tar, why a node on this machine would take it or not.
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["model", "context", "cache_type", "measure", "threads"])]
    explain: Option<PathBuf>,

    /// Of a package: the release, such as smollm2:7; without it the only one there is.
    #[arg(long, value_name = "NAME:NUMBER", requires = "explain")]
    release: Option<String>,

    /// Tokens of prompt and answer together; without it 2048, or what a model was trained for if that is less.
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    context: Option<usize>,

    /// The memory there is, such as 8GB or 512MiB; without it what this machine, or the container around, has.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,

    /// How keys and values are kept: f32, f16 or q8_0.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,

    /// Load each that fits, and measure how fast it is.
    #[arg(long)]
    measure: bool,

    #[command(flatten)]
    threads: Threads,

    #[command(flatten)]
    models: Models,

    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// The context where nobody says otherwise.
const CONTEXT: usize = 2_048;

/// What is measured of each: enough to see which is faster.
const MEASURED: (usize, usize, usize) = (128, 32, 3);

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    fit: Fit,
    /// Where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<Speed>,
}

pub(super) fn parse_bytes(word: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("", 1.0),
        ("B", 1.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("KIB", 1024.0),
        ("MIB", 1_048_576.0),
        ("GIB", 1_073_741_824.0),
    ];
    let word = word.trim();
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = (&word[..end], word[end..].trim().to_ascii_uppercase());
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let bytes = bytes.filter(|bytes| (1.0..1e18).contains(bytes));
    bytes.map(|bytes| bytes as u64).ok_or_else(|| "it reads like 8GB, 512MiB or 4000000000".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(package) = &args.explain {
        return explain::run(package, args.release.as_deref(), args.memory, args.json);
    }
    let here = Memory::of_this_machine();
    let available = args.memory.or(here.map(|memory| memory.bytes));
    let available =
        available.context("the system does not tell how much memory there is: say it with --memory")?;
    let located: Result<Vec<_>, _> = args.model.iter().map(|model| args.models.locate(model)).collect();
    let located = located?;
    let judged = located.into_iter().flat_map(|model| {
        let name = model.name;
        judge(args, model.path, available).into_iter().map(move |fit| Row {
            name: name.clone(),
            fit,
            speed: None,
        })
    });
    let mut rows: Vec<Row> = judged.collect();
    rows.sort_by_key(rank);
    if args.measure {
        measure_all(args, &mut rows)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    print(&mut out, args, &rows, available, here)?;
    Ok(())
}

/// At the context that was asked for, or at one that suits the model.
fn judge(args: &Args, path: PathBuf, available: u64) -> Vec<Fit> {
    let files = [path];
    let at = |context| fit(&files, available, context, args.cache_type.0);
    let found = at(args.context.unwrap_or(CONTEXT));
    match found.first().map(|fit| &fit.verdict) {
        Some(Verdict::ContextTooLong { context }) if args.context.is_none() => {
            at(usize::try_from(*context).unwrap_or(CONTEXT))
        }
        _ => found,
    }
}

/// Those that fit first; of them those with more parameters, then those with more bits for each.
fn rank(row: &Row) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let place = match row.fit.verdict {
        Verdict::Fits { .. } => 0,
        Verdict::TooLarge { .. } => 1,
        Verdict::ContextTooLong { .. } => 2,
        Verdict::Unsupported { .. } => 3,
    };
    let (parameters, bytes) = row.fit.facts.as_ref().map_or((0, 0), |facts| (facts.parameters, facts.bytes));
    (place, Reverse(parameters), Reverse(bytes), row.name.clone())
}

fn measure_all(args: &Args, rows: &mut [Row]) -> anyhow::Result<()> {
    let (prompt, answer, repetitions) = MEASURED;
    let plan = Plan { prompt, answer, repetitions, cache: args.cache_type.0 };
    let clock = System::new();
    let fitting = rows.iter().filter(|row| matches!(row.fit.verdict, Verdict::Fits { .. })).count();
    let bar = progress::steps((fitting * repetitions * 2) as u64).with_prefix("measuring");
    for row in rows.iter_mut().filter(|row| matches!(row.fit.verdict, Verdict::Fits { .. })) {
        bar.set_message(row.name.clone());
        match measure(&row.fit.path, args.threads.count(), &plan, &clock, &mut || bar.inc(1)) {
            Ok((_, speed)) => row.speed = Some(speed),
            // What its metadata promised its tensors do not keep.
            Err(error) if error.downcast_ref::<LoadError>().is_some() => {
                row.fit.verdict = Verdict::Unsupported { why: error.root_cause().to_string() };
            }
            Err(error) => return Err(error),
        }
    }
    bar.finish_and_clear();
    rows.sort_by_key(rank);
    Ok(())
}

fn print(
    out: &mut impl Write,
    args: &Args,
    rows: &[Row],
    available: u64,
    here: Option<Memory>,
) -> io::Result<()> {
    let whose = match (args.memory, here) {
        (Some(_), _) => "the memory that was named",
        (None, Some(Memory { limited: true, .. })) => "the limit of the container around",
        _ => "the memory of this machine",
    };
    let context = match args.context {
        Some(context) => show_count(context as u64),
        None => format!("{}, or what a model was trained for", show_count(CONTEXT as u64)),
    };
    writeln!(out, "{}: {whose}; context {context}\n", show_bytes(available))?;
    let mut names = vec![
        ("", Side::Left),
        ("parameters", Side::Right),
        ("quantisation", Side::Left),
        ("needs", Side::Right),
    ];
    if args.measure {
        names.extend([("prompt", Side::Right), ("answer", Side::Right)]);
    }
    names.push(("", Side::Left));
    let mut table = Table::plain(names.iter().map(|(_, side)| *side)).indented(2);
    table.row(names.iter().map(|(name, _)| *name));
    for row in rows {
        let facts = row.fit.facts.as_ref();
        let none = || "–".to_owned();
        let mut cells = vec![
            row.name.clone(),
            facts.map_or_else(none, |facts| show_parameters(facts.parameters)),
            facts.map_or_else(none, |facts| facts.quantisation.clone()),
            row.fit.needed_bytes.map_or_else(none, show_bytes),
        ];
        if args.measure {
            let speed = row.speed.as_ref();
            let show = |median: f64| format!("{} tokens/s", show_number(median));
            cells.push(speed.map_or_else(none, |speed| show(speed.prompt.median)));
            cells.push(
                speed.and_then(|speed| speed.answer.as_ref()).map_or_else(none, |rates| show(rates.median)),
            );
        }
        cells.push(match &row.fit.verdict {
            Verdict::Fits { spare_bytes } => format!("fits, {} to spare", show_bytes(*spare_bytes)),
            Verdict::TooLarge { missing_bytes } => {
                format!("does not fit: {} are missing", show_bytes(*missing_bytes))
            }
            Verdict::ContextTooLong { context } => {
                format!("was trained for {} tokens only", show_count(*context))
            }
            Verdict::Unsupported { why } => format!("cannot run here: {why}"),
        });
        table.row(cells);
    }
    write!(out, "{table}")?;
    let best = rows.first().filter(|row| matches!(row.fit.verdict, Verdict::Fits { .. }));
    match (best, rows.len()) {
        (None, _) => writeln!(
            out,
            "\nnone of them fits: try a shorter --context, --cache-type q8_0, or fewer bits (`selvedge quantize`)"
        )?,
        (Some(_), 1) => {}
        (Some(best), _) => writeln!(out, "\nbest: {}, the most parameters and bits that fit", best.name)?,
    }
    let needs_now =
        best.and_then(|best| best.fit.needed_bytes).zip(here.and_then(|memory| memory.free_bytes));
    if let Some((needed, free)) = needs_now.filter(|(needed, free)| args.memory.is_none() && needed > free) {
        writeln!(
            out,
            "note: of the memory {} are free now, and it needs {}: other programs would have to make room",
            show_bytes(free),
            show_bytes(needed)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        assert_eq!(parse_bytes("8GB"), Ok(8_000_000_000));
        assert_eq!(parse_bytes("512 MiB"), Ok(536_870_912));
        assert_eq!(parse_bytes("1.5gb"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("4000000000"), Ok(4_000_000_000));
        for wrong in ["", "GB", "8 parsecs", "-1", "0", "1e9"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
