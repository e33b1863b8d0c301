//! `selvedge bench`: measures what this program is steered by, on this machine.

use std::io::Write as _;
use std::path::PathBuf;

use crate::nab;

/// Measure how good and how fast this program is on this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Detect(Detect),
}

/// Score the anomaly detector on a benchmark.
///
/// The Numenta Anomaly Benchmark (NAB): the first 15 % of each file is probation, an alarm inside a labelled window
/// counts the more the earlier it comes, one threshold per profile serves all files. The detector runs strictly
/// causally, with its default settings: it is never told a file's range or length.
#[derive(clap::Args)]
pub(crate) struct Detect {
    /// A folder with NAB's `data`, `labels/combined_windows.json` and `profiles.json` (or `config/profiles.json`).
    #[arg(long, value_name = "DIR")]
    nab: PathBuf,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,

    /// Print what was found and missed in each file.
    #[arg(long, conflicts_with = "json")]
    files: bool,
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    let Verb::Detect(Detect { nab: dir, json, files }) = verb;
    let report = nab::run(&dir)?;
    let mut out = std::io::stdout().lock();
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
