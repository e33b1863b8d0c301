//! `selvedge bench detect`: how good the anomaly detector is, on a public benchmark and on a plant of our own.

use std::io::Write as _;
use std::path::PathBuf;

use crate::{nab, plant};

/// Score the anomaly detector on a benchmark.
///
/// The Numenta Anomaly Benchmark (NAB): the first 15 % of each file is probation, an alarm inside a labelled window
/// counts the more the earlier it comes, one threshold per profile serves all files. The detector runs strictly
/// causally, with its default settings: it is never told a file's range or length.
///
/// The plant: runs of a simulated water loop with eight sensors that break in eleven ways, made from a seed. Scored
/// reading by reading; the runs that count were not used for choosing anything.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Args {
    /// A folder with NAB's `data`, `labels/combined_windows.json` and `profiles.json` (or `config/profiles.json`).
    #[arg(long, value_name = "DIR", group = "what")]
    nab: Option<PathBuf>,

    /// Play runs of the plant.
    #[arg(long, group = "what")]
    plant: bool,

    /// What the plant's runs are made from.
    #[arg(long, default_value_t = 7, conflicts_with = "nab")]
    seed: u64,

    /// Runs held out; as many others are for choosing a threshold, and as many stay well.
    #[arg(long, default_value_t = 220, conflicts_with = "nab", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,

    /// Print what was found and missed in each file.
    #[arg(long, conflicts_with_all = ["json", "plant"])]
    files: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { nab: dir, plant: _, seed, runs, json, files } = args;
    let mut out = std::io::stdout().lock();
    let Some(dir) = dir else {
        let report = plant::run(seed, runs as usize)?;
        if json {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        } else {
            write!(out, "{report}")?;
        }
        return Ok(());
    };
    let report = nab::run(&dir)?;
    if json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    if files {
        for profile in report.profiles.iter().filter(|profile| profile.profile == "standard") {
            writeln!(out, "{:<58} {:>5} {:>6} {:>12}", "file", "found", "missed", "false alarms")?;
            for file in &profile.files {
                let nab::FileReport { file, detected, missed, false_positives } = file;
                writeln!(out, "{file:<58} {detected:>5} {missed:>6} {false_positives:>12}")?;
            }
            writeln!(out)?;
        }
    }
    write!(out, "{report}")?;
    Ok(())
}
