//! What a flow will take, worked out before it runs: memory of its detectors, bytes of the journal in a day.
//!
//! Records are made of made-up readings with five digits and measured; what depends on a source whose pace or channels
//! nobody has declared is unknown, and said to be.

use std::io::Write;

use node::flow::{Flow, SourceConfig};
use node::network::{NetworkConfig, Origin};
use node::pipeline::Product;
use serde::Serialize;
use signal::detector::Detector;
use wire::body::{ChannelSummary, Readings, Summary, Values};

use crate::amount::show_bytes;
use crate::table::{Side, Table};

const DAY_MS: f64 = 86_400_000.0;
/// Readings in one raw record, and the longest that they wait for one another.
const BLOCK_READINGS: f64 = 256.0;
const BLOCK_MS: f64 = 1_000.0;

/// What a flow will take.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    sources: Vec<SourceSize>,
    models: Vec<ModelSize>,
}

#[derive(Debug, Serialize)]
struct SourceSize {
    source: String,
    channels: Option<usize>,
    readings_a_day: Option<u64>,
    /// Of the records' bodies; what the database adds is not in it.
    raw_bytes_a_day: Option<u64>,
    summary_bytes_a_day: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ModelSize {
    model: String,
    /// What a detector holds. What a runtime needs for a network is known when it runs.
    memory_bytes: Option<u64>,
    /// Of a network: its file, which it needs at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
}

/// Works it out.
pub(super) fn size(flow: &Flow) -> Size {
    let sources = flow.sources.iter().map(source).collect();
    let model = |model: &node::flow::ModelConfig| {
        let channels = match model.feature {
            Some(feature) => Some(flow.features[feature].names().len()),
            None => flow.sources[model.source].channels.as_ref().map(Vec::len),
        };
        let detector = channels.and_then(|channels| Detector::new(model.detector(channels)).ok());
        let memory_bytes = detector.map(|detector| detector.state_bytes() as u64);
        ModelSize { model: model.name.to_string(), memory_bytes, file_bytes: None }
    };
    let network = |network: &NetworkConfig| {
        let file_bytes = match &network.from {
            Origin::File(file) => std::fs::metadata(file).ok().map(|file| file.len()),
            // It is not here yet.
            Origin::Release(_) => None,
        };
        ModelSize { model: network.name.to_string(), memory_bytes: None, file_bytes }
    };
    let models = flow.models.iter().map(model).chain(flow.networks.iter().map(network));
    Size { sources, models: models.collect() }
}

fn source(config: &SourceConfig) -> SourceSize {
    let interval_ms = config.interval_ms;
    let names = config.channels.as_deref();
    let readings = interval_ms.map(|interval_ms| DAY_MS / interval_ms);
    let of_both = interval_ms.zip(names);
    let raw = of_both.map(|(interval_ms, names)| {
        let in_block = (BLOCK_MS / interval_ms).clamp(1.0, BLOCK_READINGS).floor();
        raw_bytes(config, names, in_block as usize) as f64 / in_block * DAY_MS / interval_ms
    });
    let summary = of_both.map(|(interval_ms, names)| {
        summary_bytes(config, names) as f64 * DAY_MS / interval_ms.max(config.summary_ms as f64)
    });
    SourceSize {
        source: config.name.to_string(),
        channels: names.map(<[String]>::len),
        readings_a_day: readings.map(|readings| readings.round() as u64),
        raw_bytes_a_day: raw
            .filter(|_| config.raw)
            .or((!config.raw).then_some(0.0))
            .map(|bytes| bytes.round() as u64),
        summary_bytes_a_day: summary.map(|bytes| bytes.round() as u64),
    }
}

/// A day of today, as long as all of its century.
const T_MS: i64 = 1_700_000_000_000;

fn raw_bytes(config: &SourceConfig, channels: &[String], readings: usize) -> usize {
    let column = Values((0..readings).map(|at| 10.011 + (at % 89) as f64).collect());
    let body = Readings {
        source: config.name.clone(),
        channels: channels.to_vec(),
        t_ms: (0..readings as i64).map(|at| T_MS + at).collect(),
        values: vec![column; channels.len()],
    };
    Product::Readings(body).draft().body.get().len()
}

fn summary_bytes(config: &SourceConfig, channels: &[String]) -> usize {
    let channel = |name: &String| ChannelSummary {
        channel: name.clone(),
        min: 10.011,
        // A mean has all the digits that it can have.
        mean: 50.0 + 1.0 / 3.0,
        max: 98.011,
        missing: 0,
        isolated: 0,
    };
    let body = Summary {
        source: config.name.clone(),
        from_ms: T_MS,
        to_ms: T_MS,
        count: 100,
        channels: channels.iter().map(channel).collect(),
        models: Vec::new(),
    };
    Product::Summary(body).draft().body.get().len()
}

impl Size {
    /// For people.
    pub(super) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        const UNKNOWN: &str = "unknown";
        let bytes = |bytes: Option<u64>| bytes.map_or(UNKNOWN.to_owned(), show_bytes);
        let mut table = Table::new([
            ("source", Side::Left),
            ("channels", Side::Right),
            ("readings a day", Side::Right),
            ("raw a day", Side::Right),
            ("summaries a day", Side::Right),
        ]);
        for it in &self.sources {
            table.row([
                it.source.clone(),
                it.channels.map_or(UNKNOWN.to_owned(), |count| count.to_string()),
                it.readings_a_day.map_or(UNKNOWN.to_owned(), |count| count.to_string()),
                bytes(it.raw_bytes_a_day),
                bytes(it.summary_bytes_a_day),
            ]);
        }
        write!(out, "\n{table}")?;
        if !self.models.is_empty() {
            let mut table = Table::new([("model", Side::Left), ("memory", Side::Right)]);
            for it in &self.models {
                let memory = match it.file_bytes {
                    Some(file) if it.memory_bytes.is_none() => format!("more than {}", show_bytes(file)),
                    _ => bytes(it.memory_bytes),
                };
                table.row([it.model.clone(), memory]);
            }
            write!(out, "\n{table}")?;
        }
        if self.sources.iter().any(|source| source.raw_bytes_a_day.is_none()) {
            let mend = "unknown: declare `channels`, and `interval`, the usual time between two readings";
            writeln!(out, "\n{mend}")?;
        }
        Ok(())
    }
}
