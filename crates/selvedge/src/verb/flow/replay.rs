//! `selvedge flow replay`: a recording through a flow, on its own clock.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use node::flow::rule::Standing;
use node::flow::{Flow, ReplayConfig, SourceKind, Speed};
use node::pipeline::Product;
use node::play::play;
use node::source::tally::Tally;
use serde::Serialize;
use wire::body::{Decision, RuleState};

use crate::recording::{DetectorSettings, LABELS, Recording, show_count, show_time};
use crate::truth::{Match, Row, compare};

/// Play a recording through a flow and print what its rules decide.
///
/// Time is what the recording says, so the same recording gives the same decisions every time, as fast as this machine
/// can. Without --flow, a detector and one rule that fires while it finds something. A flow in the place of the recording
/// (a file that ends in .toml) is played over the files that it names itself.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: Recording,

    /// The flow to play it through.
    #[arg(long, value_name = "FILE")]
    flow: Option<PathBuf>,

    /// Which source of the flow the recording stands for; needed if the flow has several.
    #[arg(long, value_name = "NAME", requires = "flow")]
    source: Option<String>,

    #[command(flatten)]
    settings: DetectorSettings,

    /// Judge the rules by the recording's truth column (--truth, or a column named anomaly, label, fault or truth).
    #[arg(long)]
    score: bool,

    /// Print the decisions as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    readings: u64,
    refused: Tally,
    decisions: Vec<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Match>,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let is_flow = args.flow.is_none() && args.recording.file.extension().is_some_and(|end| end == "toml");
    if args.score && args.recording.truth.is_none() && !is_flow {
        args.recording.truth = Some(find_truth(&args.recording)?);
    }
    let Args { recording, flow, source, settings, score, json } = args;
    let flow = match &flow {
        None if is_flow => {
            let flow = Flow::load(&recording.file)?;
            flow.check_files()?;
            flow
        }
        Some(file) => {
            let mut flow = Flow::load(file)?;
            put_in(&mut flow, &recording, source.as_deref())?;
            flow
        }
        None => recording.flow(&settings)?,
    };

    let mut out = std::io::stdout().lock();
    let mut decisions = Vec::new();
    let mut rows = Vec::new();
    let mut printed = Ok(());
    let report = play(&flow, 0, |played, pipeline, products| {
        for product in products {
            let Product::Decision(decision) = product else { continue };
            if json {
                decisions.push(decision.clone());
            } else if printed.is_ok() {
                printed = print(&mut out, decision);
            }
        }
        let learnt = pipeline.models().iter().all(node::model::Model::ready);
        if let Some((faulty, t_ms)) = played.and_then(|played| Some((played.truth?, played.t_ms)))
            && score
            && learnt
        {
            let called = pipeline.rules().iter().any(|rule| rule.standing() == Standing::Firing);
            rows.push(Row { t_ms, faulty, called });
        }
    })?;
    printed?;
    let all: u64 = report.sources.iter().map(|(_, readings, _)| readings).sum();
    let (_, _, refused) = report.sources.into_iter().next().context("the recording gave nothing")?;
    let readings = all;
    let score = score.then(|| compare(rows));
    if json {
        serde_json::to_writer_pretty(&mut out, &Outcome { readings, refused, decisions, score })?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "{} readings played", show_count(readings))?;
    if !refused.is_clean() {
        writeln!(out, "{refused}")?;
    }
    if let Some(score) = score {
        write!(out, "{score}")?;
    }
    Ok(())
}

/// Puts the recording in the place of one of the flow's sources.
fn put_in(flow: &mut Flow, recording: &Recording, source: Option<&str>) -> anyhow::Result<()> {
    let names: Vec<String> = flow.sources.iter().map(|source| source.name.to_string()).collect();
    let at = match source {
        Some(name) => names
            .iter()
            .position(|known| known == name)
            .with_context(|| format!("the flow has no source `{name}`, only {}", names.join(", ")))?,
        None if names.len() == 1 => 0,
        None => anyhow::bail!(
            "the flow has {} sources: name one of {} with --source",
            names.len(),
            names.join(", ")
        ),
    };
    let mut csv = recording.options();
    let source = &mut flow.sources[at];
    if csv.channels.is_none() {
        csv.channels.clone_from(&source.channels);
    }
    let file = recording.file.clone();
    source.kind = SourceKind::Replay(ReplayConfig { file, csv, speed: Speed::Max, repeat: false });
    Ok(())
}

/// A truth column among the recording's columns.
fn find_truth(recording: &Recording) -> anyhow::Result<String> {
    if node::source::csv::is_read_once(&recording.file) {
        anyhow::bail!(
            "{} can be read only once: name its truth column with --truth",
            recording.file.display()
        );
    }
    for name in &LABELS[..4] {
        let options =
            node::source::csv::CsvOptions { truth: Some((*name).to_owned()), ..recording.options() };
        if node::source::recording::RecordingReader::open(&recording.file, &options).is_ok() {
            return Ok((*name).to_owned());
        }
    }
    anyhow::bail!(
        "{} has no column named anomaly, label, fault or truth: name it with --truth",
        recording.file.display()
    )
}

fn print(out: &mut impl std::io::Write, decision: &Decision) -> std::io::Result<()> {
    let state = match decision.state {
        RuleState::Firing => "fires",
        RuleState::Cleared => "clears",
    };
    writeln!(
        out,
        "{}  {:<8}  {} {state}: {}",
        show_time(decision.at_ms),
        decision.severity.as_str(),
        decision.rule,
        decision.why,
    )
}
