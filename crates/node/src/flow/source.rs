//! `[source.x]`: where readings come from.

pub(super) mod lines;
mod modbus;
mod mqtt;
mod opcua;
mod payload;
mod pictures;
mod sound;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wire::id::PartName;

use super::health;
use super::part::{Named, positive};
use crate::config::part::{Part, Placed};
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;
use crate::health::HealthSettings;
use crate::source::csv::{CsvOptions, MAX_COLUMNS};
use crate::source::exec::ExecSettings;
use crate::source::frame;
use crate::source::modbus::ModbusSettings;
use crate::source::modbus::line::Line;
use crate::source::mqtt::settings::MqttSettings;
use crate::source::opcua::settings::OpcuaSettings;
use crate::source::pictures::settings::{CameraSettings, ImagesSettings, RtspSettings};
use crate::source::pump;
use crate::source::serial::SerialSettings;
use crate::source::sound::settings::SoundSettings;

/// Where readings come from.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name.
    pub name: PartName,
    /// How it is read.
    pub kind: SourceKind,
    /// Its channels, if they are declared or known beforehand; otherwise the source names them when it opens.
    pub channels: Option<Vec<String>>,
    /// The usual time between two readings, if it is declared or known: how much there will be is worked out by it.
    pub interval_ms: Option<f64>,
    /// What is looked for in its sensors; `None`: nothing.
    pub health: Option<HealthSettings>,
    /// Time between two summaries, by the source's clock.
    pub summary_ms: i64,
    /// Whether the journal keeps its readings as they came. Never pictures: only what was measured of them.
    pub raw: bool,
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
    /// A server of OPC UA is listened to.
    Opcua(OpcuaSettings),
    /// A program prints lines.
    Exec(ExecSettings),
    /// Lines come over a serial line.
    Serial(SerialSettings),
    /// Pictures come into a folder.
    Images(ImagesSettings),
    /// A camera streams video.
    Rtsp(RtspSettings),
    /// A program prints pictures.
    Camera(CameraSettings),
    /// A file or a program gives sound.
    Sound(SoundSettings),
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
            SourceKind::Opcua(_) => "opcua",
            SourceKind::Exec(_) => "exec",
            SourceKind::Serial(_) => "serial",
            SourceKind::Images(_) => "images",
            SourceKind::Rtsp(_) => "rtsp",
            SourceKind::Camera(_) => "camera",
            SourceKind::Sound(_) => "sound",
        }
    }

    /// Whether it gives pictures.
    pub fn has_pictures(&self) -> bool {
        matches!(self, SourceKind::Images(_) | SourceKind::Rtsp(_) | SourceKind::Camera(_))
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

/// Reads one.
pub(super) fn read(name: PartName, folder: &Path, mut part: Part<'_, '_>) -> Option<Named<SourceConfig>> {
    const KINDS: [&str; 13] = [
        "replay",
        "http",
        "mqtt",
        "modbus-tcp",
        "modbus-rtu",
        "opcua",
        "exec",
        "serial",
        "images",
        "rtsp",
        "camera",
        "sound",
        "simulated",
    ];
    let kind = part.require::<String>("type", "\"replay\"")?;
    let span = part.span.clone();
    let summary = part.take_text_or("summary", "1s", |text| positive(duration_ms(text)?));
    let max_gap = part.take_text_or("max_gap", "1m", |text| positive(duration_ms(text)?));
    let interval = part.take_text("interval", |text| positive(duration_ms(text)?));
    let mut interval_ms = interval.map(|placed| placed.value as f64);
    let mut channels = part.take::<Vec<String>>("channels");
    if let Some(Placed { value, span }) = &channels
        && let Some(message) = bad_channels(value)
    {
        part.problem(span.clone(), message, "give each channel once, by its name in the data");
        channels = None;
    }
    let mut channels = channels.map(|placed| placed.value);
    if let ("images" | "rtsp" | "camera", Some(_)) = (kind.value.as_str(), &channels) {
        let help = "take out `channels`: brightness, contrast, sharpness, change and dropped are measured of each picture";
        part.problem(span.clone(), "a source of pictures has channels of its own", help);
    }
    let is_sound = kind.value == "sound";
    let raw = part.take_or("raw", !is_sound, if is_sound { "false" } else { "true" });
    let kind = match kind.value.as_str() {
        "replay" => SourceKind::Replay(replay(folder, channels.clone(), &mut part)?),
        "http" => SourceKind::Http,
        "mqtt" => SourceKind::Mqtt(mqtt::read(folder, &mut channels, &mut part)?),
        "modbus-tcp" => SourceKind::Modbus(modbus::read(false, &mut channels, &mut part)?),
        "modbus-rtu" => SourceKind::Modbus(modbus::read(true, &mut channels, &mut part)?),
        "opcua" => {
            let opcua = opcua::read(folder, &mut channels, &mut part)?;
            // It tells at each interval, whether anything changed or not.
            interval_ms = interval_ms.or(Some(opcua.every.as_secs_f64() * 1e3));
            SourceKind::Opcua(opcua)
        }
        "exec" => SourceKind::Exec(lines::exec(folder, &mut channels, &mut part)?),
        "serial" => SourceKind::Serial(lines::serial(&mut channels, &mut part)?),
        "images" => SourceKind::Images(pictures::images(folder, &mut part)?),
        "rtsp" => SourceKind::Rtsp(pictures::rtsp(folder, &mut part)?),
        "camera" => SourceKind::Camera(pictures::camera(folder, &mut part)?),
        "sound" => {
            let times = match part.has("file").then(|| speed(&mut part)) {
                Some(Speed::Times(times)) => Some(times),
                Some(Speed::Max) | None => None,
            };
            let sound = sound::read(folder, &mut channels, times, &mut part)?;
            interval_ms = Some(1e3 / f64::from(sound.rate_hz));
            SourceKind::Sound(sound)
        }
        "simulated" => {
            let known = pump::CHANNELS.map(str::to_owned).to_vec();
            if channels.is_some() {
                part.problem(
                    span.clone(),
                    "a simulated source has channels of its own",
                    "take out `channels`",
                );
            }
            channels = Some(known);
            let simulated = simulated(&mut part);
            interval_ms = Some(1e3 / simulated.rate_hz);
            SourceKind::Simulated(simulated)
        }
        other => {
            let help = did_you_mean(other, KINDS);
            part.problem(kind.span, format!("there is no source of type {other:?}"), help);
            // What else stands there belongs to a type we do not know.
            return None;
        }
    };
    if kind.has_pictures() {
        channels = Some(frame::channels());
    }
    let health = health::read(&mut part);
    part.finish();
    let config = SourceConfig {
        name: name.clone(),
        kind,
        channels,
        health,
        interval_ms,
        summary_ms: summary.value,
        raw: raw.value,
        max_gap_ms: max_gap.value,
        span: span.clone(),
    };
    Some(Named { part: config, name, span })
}

fn bad_channels(channels: &[String]) -> Option<String> {
    if channels.is_empty() || channels.len() > MAX_COLUMNS {
        return Some(format!("a source has 1 to {MAX_COLUMNS} channels, not {}", channels.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    let double = channels.iter().find(|name| !seen.insert(name.as_str()))?;
    Some(format!("the channel `{double}` is listed twice"))
}

fn replay(folder: &Path, channels: Option<Vec<String>>, part: &mut Part<'_, '_>) -> Option<ReplayConfig> {
    let file = part.require::<String>("file", "\"readings.csv\"");
    let time = part.take::<String>("time").map(|placed| placed.value);
    let truth = part.take::<String>("truth").map(|placed| placed.value);
    let exclude = part.take_or("exclude", Vec::new(), "[]").value;
    let speed = speed(part);
    let repeat = part.take_or("repeat", false, "false").value;
    let csv = CsvOptions { time, channels, truth, exclude };
    Some(ReplayConfig { file: folder.join(file?.value), csv, speed, repeat })
}

fn simulated(part: &mut Part<'_, '_>) -> SimulatedConfig {
    let seed = part.take_or("seed", 1, "1").value;
    let rate = part.take_or("rate_hz", 5.0, "5.0");
    if !(rate.value > 0.0 && rate.value <= 1e6) {
        part.problem(rate.span, "`rate_hz` must be above 0 and at most a million", "write `rate_hz = 5.0`");
    }
    let quiet_ms = part.take_text_or("quiet", "7m", duration_ms).value;
    let fault_every_ms = part
        .take_text_or("fault_every", "2m", |text| match text {
            "never" => Ok(None),
            text => positive(duration_ms(text)?).map(Some),
        })
        .value;
    let history_ms = part.take_text_or("history", "0s", duration_ms).value;
    let speed = speed(part);
    SimulatedConfig { seed, rate_hz: rate.value, quiet_ms, fault_every_ms, history_ms, speed }
}

fn speed(part: &mut Part<'_, '_>) -> Speed {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number above 0, or \"max\"")]
    enum Written {
        Times(f64),
        Word(String),
    }
    let Placed { value, span } = part.take_or("speed", Written::Times(1.0), "1.0");
    match value {
        Written::Times(times) if times > 0.0 && times.is_finite() => return Speed::Times(times),
        Written::Word(word) if word == "max" => return Speed::Max,
        _ => part.problem(span, "`speed` must be a number above 0, or \"max\"", "write `speed = 1.0`"),
    }
    Speed::Max
}
