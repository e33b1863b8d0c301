//! `selvedge detect`: what is odd in a recording?

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use node::config::quantity::show_duration;
use node::pipeline::Product;
use node::play::play;
use node::source::csv::is_read_once;
use node::source::recording::RecordingReader;
use node::source::tally::Tally;
use serde::Serialize;
use wire::body::{Episode, Share};

use crate::plot::{Plot, Strip, svg};
use crate::recording::{DetectorSettings, LABELS, Recording, show_count, show_share, show_time};
use crate::truth::{Match, Row, compare};

/// Find what is odd in a recording.
///
/// The detector reads the file once, from its beginning, and never looks ahead: what it finds here it would have found
/// on the day.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: Recording,

    #[command(flatten)]
    settings: DetectorSettings,

    /// Print the anomalies as JSON.
    #[arg(long)]
    json: bool,

    /// Draw the recording and its anomalies into this file: .svg, or .png where this build has it.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    file: PathBuf,
    channels: Vec<String>,
    readings: u64,
    refused: Tally,
    /// Readings after which the detector judged.
    judged_after: u64,
    anomalies: Vec<Anomaly>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<Match>,
}

#[derive(Serialize)]
struct Anomaly {
    from_ms: i64,
    /// Absent if it lasts to the end of the recording.
    to_ms: Option<i64>,
    /// The highest; 1 is the detector's threshold.
    score: f64,
    probability: Option<f64>,
    channels: Vec<Share>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { recording, settings, json, plot } = args;
    if !is_read_once(&recording.file) {
        // First, because a file that cannot be read is no problem of the flow around it.
        RecordingReader::open(&recording.file, &recording.options())?;
    }
    let (findings, picture) = find(recording, settings, plot.is_some())?;
    if let Some(file) = plot {
        crate::plot::write(file, &svg(&picture))
            .with_context(|| format!("the plot {} cannot be written", file.display()))?;
    }
    let mut out = std::io::stdout().lock();
    if *json {
        serde_json::to_writer_pretty(&mut out, &findings)?;
        writeln!(out)?;
    } else {
        print(&mut out, &findings)?;
    }
    Ok(())
}

/// Plays the recording through the detector. The plot holds every reading, so it is only filled when it is wanted.
fn find(recording: &Recording, settings: &DetectorSettings, draw: bool) -> anyhow::Result<(Findings, Plot)> {
    let flow = recording.flow(settings)?;
    let mut plot = Plot {
        title: recording.file.file_name().unwrap_or_default().to_string_lossy().into(),
        ..Plot::default()
    };
    let mut anomalies: Vec<Anomaly> = Vec::new();
    let (mut rows, mut channels): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut judged_after, mut taken) = (None, 0);
    let mut known_since = None;
    let report = play(&flow, 0, |played, pipeline, products| {
        let verdict = pipeline.verdict(0);
        for product in products {
            let Product::Inference(found) = product else { continue };
            let anomaly = Anomaly {
                from_ms: found.since_ms,
                to_ms: (found.state == Episode::Ends).then_some(found.at_ms),
                score: found.score,
                probability: found.probability,
                channels: found.channels.clone(),
            };
            match anomalies.last_mut().filter(|last| last.to_ms.is_none()) {
                // The end of an anomaly knows its length and its highest score; its beginning knew the channels.
                Some(open) => {
                    let channels = std::mem::take(&mut open.channels);
                    *open = Anomaly { channels, ..anomaly };
                }
                None => anomalies.push(anomaly),
            }
        }
        let Some(played) = played else { return };
        if taken == 0 {
            channels = pipeline.channels(0).unwrap_or_default().to_vec();
            let strip = |name: &String| Strip { name: name.clone(), values: Vec::new() };
            plot.channels = channels.iter().map(strip).collect();
        }
        taken += 1;
        if judged_after.is_none() && verdict.score.is_finite() {
            judged_after = Some(taken);
        }
        if let Some(faulty) = played.truth {
            if judged_after.is_some() {
                rows.push(Row { t_ms: played.t_ms, faulty, called: verdict.score >= 1.0 });
            }
            match (faulty, known_since) {
                (true, None) => known_since = Some(played.t_ms),
                (false, Some(since)) => {
                    plot.truth.push((since, played.t_ms));
                    known_since = None;
                }
                _ => {}
            }
        }
        if draw {
            plot.t_ms.push(played.t_ms);
            plot.probability.push(verdict.probability);
            for (strip, value) in plot.channels.iter_mut().zip(played.values) {
                strip.values.push(*value);
            }
        }
    })?;
    let end = plot.t_ms.last().copied().unwrap_or(0);
    plot.truth.extend(known_since.map(|since| (since, end)));
    plot.anomalies = anomalies.iter().map(|found| (found.from_ms, found.to_ms.unwrap_or(end))).collect();
    let (_, readings, refused) = report.sources.into_iter().next().context("the recording gave nothing")?;
    let truth = recording.truth.is_some().then(|| compare(rows));
    let file = recording.file.clone();
    let judged_after = judged_after.unwrap_or(readings);
    Ok((Findings { file, channels, readings, refused, judged_after, anomalies, truth }, plot))
}

fn print(out: &mut impl std::io::Write, findings: &Findings) -> std::io::Result<()> {
    let Findings { file, channels, readings, refused, judged_after, anomalies, truth } = findings;
    writeln!(
        out,
        "{}: {} readings of {} ({}), judged after {}",
        file.display(),
        show_count(*readings),
        if channels.len() == 1 { "1 channel".into() } else { format!("{} channels", channels.len()) },
        channels.join(", "),
        show_count(*judged_after),
    )?;
    if !refused.is_clean() {
        writeln!(out, "{refused}")?;
    }
    let label = channels.iter().find(|channel| LABELS.contains(&channel.as_str()));
    if let Some(label) = label.filter(|_| truth.is_none()) {
        writeln!(
            out,
            "`{label}` was looked at as a channel; if it says which rows are faulty: --truth {label}"
        )?;
    }
    if anomalies.is_empty() {
        writeln!(out, "\nnothing odd")?;
    } else {
        writeln!(
            out,
            "\n{:<23}  {:>10}  {:>7}  {:>8}  channels",
            "from (UTC)", "lasted", "score", "probable"
        )?;
    }
    for found in anomalies {
        let lasted =
            found.to_ms.map_or_else(|| "to the end".to_owned(), |to| show_duration(to - found.from_ms));
        let probability = found.probability.map_or_else(|| "–".to_owned(), show_share);
        let shares: Vec<String> = found
            .channels
            .iter()
            .filter(|share| share.share >= 0.1)
            .take(3)
            .map(|share| format!("{} {:.0} %", share.channel, share.share * 100.0))
            .collect();
        writeln!(
            out,
            "{:<23}  {lasted:>10}  {:>7.2}  {probability:>8}  {}",
            show_time(found.from_ms),
            found.score,
            shares.join(", ")
        )?;
    }
    if let Some(truth) = truth {
        writeln!(out)?;
        write!(out, "{truth}")?;
    }
    Ok(())
}
