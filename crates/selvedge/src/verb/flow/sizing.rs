//! What a flow will take, worked out before it runs: memory of its detectors and networks, bytes of the journal in a day.
//!
//! A network of a file is loaded once to see what it takes, and refused if it cannot look at its source; of one that comes as a release it is told what was measured when the node
//! proved it, or what its package declares.
//!
//! Records are made of made-up readings with five digits and measured; what depends on a source whose pace or channels
//! nobody has declared is unknown, and said to be.

use std::io::Write;
use std::path::Path;

use node::config::problem::ConfigErrors;
use node::flow::{Flow, SourceConfig};
use node::network::measured::{Measured, measure};
use node::network::{NetworkConfig, NetworkError, Origin};
use node::pipeline::Product;
use package::name::ModelName;
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
    /// What a detector holds, or a network takes.
    memory_bytes: Option<u64>,
    /// How that is known of a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_is: Option<Known>,
    /// Of a network of a file: the file, which it needs at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
}

/// How the memory of a network is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Known {
    /// It was loaded.
    Measured,
    /// Its package says so.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "there are no packages"))]
    Declared,
}

/// Works it out, unless a network cannot be loaded for what it looks at. `data`: the data folder of the node whose flow it is, if it
/// is known.
pub(super) fn size(flow: &Flow, data: Option<&Path>) -> Result<Size, ConfigErrors> {
    let sources = flow.sources.iter().map(source).collect();
    let model = |model: &node::flow::ModelConfig| {
        let channels = match model.feature {
            Some(feature) => Some(flow.features[feature].names().len()),
            None => flow.sources[model.source].channels.as_ref().map(Vec::len),
        };
        let detector = channels.and_then(|channels| Detector::new(model.detector(channels)).ok());
        let memory_bytes = detector.map(|detector| detector.state_bytes() as u64);
        ModelSize { model: model.name.to_string(), memory_bytes, memory_is: None, file_bytes: None }
    };
    let mut models: Vec<ModelSize> = flow.models.iter().map(model).collect();
    // All are held until the last was looked at.
    let mut held = Vec::new();
    for network in &flow.networks {
        let source = &flow.sources[network.source];
        let channels = source.channels.as_ref().map(Vec::len);
        let size = of_network(network, channels, data, &mut held);
        models.push(size.map_err(|error| flow.refuse_network(network, &error))?);
    }
    Ok(Size { sources, models })
}

fn of_network(
    network: &NetworkConfig,
    channels: Option<usize>,
    data: Option<&Path>,
    held: &mut Vec<Measured>,
) -> Result<ModelSize, NetworkError> {
    let mut size =
        ModelSize { model: network.name.to_string(), memory_bytes: None, memory_is: None, file_bytes: None };
    match &network.from {
        Origin::File(file) => {
            // One that looks at pictures needs no channels.
            let channels = channels.or(network.pictures.then_some(0));
            let measured = match channels.map(|channels| measure(network, channels)) {
                Some(Err(error)) if !error.is_of_this_machine() => return Err(error),
                measured => measured.and_then(Result::ok),
            };
            size.memory_bytes = measured.as_ref().and_then(|measured| measured.grown_bytes);
            size.memory_is = size.memory_bytes.map(|_| Known::Measured);
            size.file_bytes = std::fs::metadata(file).ok().map(|file| file.len());
            held.extend(measured);
        }
        Origin::Release(model) => {
            if let Some((known, bytes)) = data.and_then(|data| of_release(data, model)) {
                (size.memory_bytes, size.memory_is) = (Some(bytes), Some(known));
            }
        }
    }
    Ok(size)
}

/// What the release that serves on the node takes.
#[cfg(feature = "packages")]
fn of_release(data: &Path, model: &ModelName) -> Option<(Known, u64)> {
    use node::install::known::{Memory, memory_of};
    Some(match memory_of(data, model)? {
        Memory::Measured(bytes) => (Known::Measured, bytes),
        Memory::Declared(bytes) => (Known::Declared, bytes),
    })
}

/// There are no releases.
#[cfg(not(feature = "packages"))]
fn of_release(_data: &Path, _model: &ModelName) -> Option<(Known, u64)> {
    None
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
                let memory = match (it.memory_bytes, it.memory_is, it.file_bytes) {
                    (None, _, Some(file)) => format!("more than {}", show_bytes(file)),
                    (Some(_), Some(Known::Measured), _) => format!("{}, measured", bytes(it.memory_bytes)),
                    (Some(_), Some(Known::Declared), _) => format!("{}, declared", bytes(it.memory_bytes)),
                    _ => bytes(it.memory_bytes),
                };
                table.row([it.model.clone(), memory]);
            }
            write!(out, "\n{table}")?;
        }
        if self.sources.iter().any(|source| source.raw_bytes_a_day.is_none()) {
            let lacks = |what: fn(&SourceSize) -> bool| self.sources.iter().any(what);
            let mut mend = Vec::new();
            if lacks(|source| source.channels.is_none()) {
                mend.push("`channels`");
            }
            if lacks(|source| source.readings_a_day.is_none()) {
                mend.push("`interval`, the usual time between two readings");
            }
            writeln!(out, "\nunknown: declare {}", mend.join(", and "))?;
        }
        Ok(())
    }
}
