//! `selvedge bench detect`: how good the anomaly detector is, on a public benchmark.

use std::io::Write as _;
use std::path::PathBuf;

use crate::nab;

/// Score the anomaly detector on a benchmark.
///
/// The Numenta Anomaly Benchmark (NAB): the first 15 % of each file is probation, an alarm inside a labelled window
/// counts the more the earlier it comes, one threshold per profile serves all files. The detector runs strictly
/// causally, with its default settings: it is never told a file's range or length.
#[derive(clap::Args)]
pub(crate) struct Args {
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

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { nab: dir, json, files } = args;
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
