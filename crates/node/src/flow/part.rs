//! The parts of a flow once they are checked: sources, models, rules.

use std::ops::Range;
use std::path::PathBuf;

use signal::detector::Config;
use wire::body::Severity;
use wire::id::PartName;

use crate::config::condition::Condition;
use crate::source::csv::CsvOptions;
use crate::source::exec::ExecSettings;
use crate::source::modbus::{Line, ModbusSettings};
use crate::source::mqtt::settings::MqttSettings;
use crate::source::serial::SerialSettings;

/// Where readings come from.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name.
    pub name: PartName,
    /// How it is read.
    pub kind: SourceKind,
    /// Its channels, if they are declared or known beforehand; otherwise the source names them when it opens.
    pub channels: Option<Vec<String>>,
    /// Time between two summaries, by the source's clock.
    pub summary_ms: i64,
    /// Where its name stands in the file.
    pub(super) span: Range<usize>,
    /// A step back in time of at most this much is a late reading, which is refused; a longer one is a clock that was
    /// set. A block of raw readings never spans a longer silence.
    pub max_gap_ms: i64,
}

/// How a source is read.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A file is played as if it happened now.
    Replay(ReplayConfig),
    /// Whoever has readings posts them to the local API.
    Http,
    /// A pump station that does not exist.
    Simulated(SimulatedConfig),
    /// A broker of MQTT is listened to.
    Mqtt(MqttSettings),
    /// A device is asked for its registers.
    Modbus(ModbusSettings),
    /// A program prints lines.
    Exec(ExecSettings),
    /// Lines come over a serial line.
    Serial(SerialSettings),
}

impl SourceKind {
    /// The word for it in a flow.
    pub fn as_str(&self) -> &'static str {
        match self {
            SourceKind::Replay(_) => "replay",
            SourceKind::Http => "http",
            SourceKind::Simulated(_) => "simulated",
            SourceKind::Mqtt(_) => "mqtt",
            SourceKind::Modbus(ModbusSettings { line: Line::Tcp { .. }, .. }) => "modbus-tcp",
            SourceKind::Modbus(ModbusSettings { line: Line::Rtu(_), .. }) => "modbus-rtu",
            SourceKind::Exec(_) => "exec",
            SourceKind::Serial(_) => "serial",
        }
    }
}

/// A file to play.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The file.
    pub file: PathBuf,
    /// How to read it.
    pub csv: CsvOptions,
    /// How fast.
    pub speed: Speed,
    /// Begin again at its end, with times that go on.
    pub repeat: bool,
}

/// A simulated pump station.
#[derive(Debug, Clone)]
pub struct SimulatedConfig {
    /// The same seed gives the same afternoon.
    pub seed: u64,
    /// Readings a second, by the source's clock.
    pub rate_hz: f64,
    /// No fault before.
    pub quiet_ms: i64,
    /// Mean time between two faults; `None`: it never breaks.
    pub fault_every_ms: Option<i64>,
    /// How long it has been running when it is first run: readings of that past are given at once.
    pub history_ms: i64,
    /// How fast it is played.
    pub speed: Speed,
}

/// How fast recorded or simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as the clock; above 0.
    Times(f64),
    /// As fast as the node takes it.
    Max,
}

/// A detector that watches one source.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Its name.
    pub name: PartName,
    /// The source it watches: its place in the flow's sources.
    pub source: usize,
    /// Readings it looks at together.
    pub lag: usize,
    /// Readings it learns from before it judges.
    pub learn: u64,
    /// Readings after the begin of an anomaly before another can begin.
    pub refractory: u64,
    /// Readings in a row without anomaly that end one.
    pub calm: u64,
    /// Where its lag stands in the file.
    pub(super) lag_span: Range<usize>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct RuleConfig {
    /// Its name.
    pub name: PartName,
    /// The condition as written.
    pub when: String,
    /// The condition as understood.
    pub condition: Condition,
    /// What it is judged on.
    pub target: Target,
    /// How long the condition must hold before the rule fires.
    pub for_ms: i64,
    /// How long it must fail before the rule clears.
    pub clear_after_ms: i64,
    /// How bad it is when the rule fires.
    pub severity: Severity,
    /// Where the channel of its condition stands in the file.
    pub(super) field_span: Range<usize>,
}

/// What a condition's left-hand side means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A channel of a source, by the source's place in the flow's sources. The channel is looked up when the source opens.
    Channel {
        /// The source.
        source: usize,
        /// The channel's name.
        channel: String,
    },
    /// The probability a model gives, by its place in the flow's models.
    Probability {
        /// The model.
        model: usize,
    },
    /// The score a model gives.
    Score {
        /// The model.
        model: usize,
    },
}

impl ModelConfig {
    /// The detector's settings for a source of so many channels.
    pub fn detector(&self, channels: usize) -> Config {
        Config { lag: self.lag, learn: self.learn, refractory: self.refractory, ..Config::new(channels) }
    }

    /// Which build of the model this is, for records.
    pub fn variant(&self) -> String {
        format!("subspace lag={} learn={}", self.lag, self.learn)
    }
}
