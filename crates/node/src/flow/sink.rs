//! `[sink.x]`: where records go besides the hub.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::id::PartName;

use super::broker::{broker, client_id};
use crate::config::part::{Part, Placed};
use crate::config::problem::{Problems, did_you_mean};
use crate::config::quantity::{duration_ms, size_bytes};
use crate::sink::choose::Choice;
use crate::sink::cursor::From;
use crate::sink::file::FileSettings;
use crate::sink::mqtt::{MqttSinkSettings, TOPIC};
use crate::sink::otlp::OtlpSettings;
use crate::sink::webhook::WebhookSettings;
use crate::sink::{SinkConfig, SinkKind};

const KINDS: [&str; 5] = ["mqtt", "webhook", "otlp", "file", "stdout"];
/// What is passed on if nothing is said.
const RECORDS: [&str; 2] = ["decision", "inference"];

/// What a sink says of parts of the flow, for whoever knows them all.
pub(super) struct SinkDraft {
    pub(super) config: SinkConfig,
    /// As written, without the stars.
    pub(super) inputs: Vec<Placed<String>>,
}

/// Reads one.
pub(super) fn read(name: PartName, folder: &Path, mut part: Part<'_, '_>) -> Option<SinkDraft> {
    let kind = part.require::<String>("type", "\"mqtt\"")?;
    if !KINDS.contains(&kind.value.as_str()) {
        let help = did_you_mean(&kind.value, KINDS);
        part.problem(kind.span, format!("there is no sink of type {:?}", kind.value), help);
        return None;
    }
    let inputs = if part.has("inputs") { super::part::inputs(&mut part) } else { Vec::new() };
    let from = part.take_text_or("from", "now", |text| match text {
        "now" => Ok(From::Now),
        "beginning" => Ok(From::Beginning),
        other => Err(did_you_mean(other, ["now", "beginning"])),
    });
    let settings = match kind.value.as_str() {
        "mqtt" => mqtt(folder, &mut part).map(SinkKind::Mqtt),
        "webhook" => webhook(folder, &mut part).map(SinkKind::Webhook),
        "otlp" => otlp(folder, &mut part).map(SinkKind::Otlp),
        "file" => file(folder, &mut part).map(SinkKind::File),
        _ => Some(SinkKind::Stdout),
    };
    let mut kinds = RECORDS.map(str::to_owned).to_vec();
    if matches!(
        &settings,
        Some(SinkKind::Mqtt(MqttSinkSettings { discovery: Some(_), .. }) | SinkKind::Otlp(_))
    ) {
        // What channels say comes with summaries.
        kinds.push("summary".to_owned());
    }
    let kinds = part.take_or("records", kinds.clone(), &format!("{kinds:?}"));
    if kinds.value.is_empty() {
        let message = format!("`{}` passes nothing on", part.path);
        part.problem(kinds.span, message, "write `records = [\"decision\"]`");
    }
    part.finish();
    let choice =
        Choice { kinds: kinds.value, inputs: inputs.iter().map(|input| input.value.clone()).collect() };
    let config = SinkConfig { name, choice, from: from.value, kind: settings? };
    Some(SinkDraft { config, inputs })
}

/// The most sinks of one flow.
const MAX_SINKS: usize = 64;

/// What a sink can speak of.
pub(super) struct Known {
    /// `source.pump`, `rule.hot` ….
    pub(super) parts: Vec<String>,
    /// The rules' names.
    pub(super) rules: Vec<String>,
}

/// Joins the sinks with the parts that they speak of.
pub(super) fn join(sinks: Vec<SinkDraft>, known: &Known, problems: &mut Problems) -> Vec<SinkConfig> {
    if sinks.len() > MAX_SINKS {
        problems.add(0..0, format!("the flow has {} sinks, the most is {MAX_SINKS}", sinks.len()));
    }
    let mut joined = Vec::new();
    for SinkDraft { mut config, inputs } in sinks {
        for Placed { value: input, span } in inputs {
            let found = match input.strip_suffix('*') {
                Some(begin) => ["source.", "model.", "rule.", "actuator.", "report."]
                    .iter()
                    .any(|kind| begin.starts_with(kind)),
                None => known.parts.contains(&input),
            };
            if !found {
                let help = did_you_mean(&input, known.parts.iter().map(String::as_str));
                problems.add_with_help(span, format!("there is no `{input}` to pass on"), help);
            }
        }
        if let SinkKind::Mqtt(settings) = &mut config.kind {
            settings.rules.clone_from(&known.rules);
        }
        joined.push(config);
    }
    joined
}

fn mqtt(folder: &Path, part: &mut Part<'_, '_>) -> Option<MqttSinkSettings> {
    let broker = broker(folder, part);
    let client_id = client_id(part);
    let topic = part.take_text_or("topic", TOPIC, |text| {
        let filled = ["{node}", "{kind}", "{part}", "{stream}"]
            .iter()
            .fold(text.to_owned(), |topic, place| topic.replace(place, "x"));
        if filled.contains(['{', '}']) {
            return Err("knows {node}, {kind}, {part} and {stream}".to_owned());
        }
        let good = !filled.is_empty() && filled.len() <= 256 && !filled.contains(['+', '#', '\0']);
        if good { Ok(text.to_owned()) } else { Err("is no topic that can be published to".to_owned()) }
    });
    let retain = part.take_or("retain", false, "false").value;
    let discovery = part.take_text("discovery", |text| {
        let good = !text.is_empty() && text.len() <= 64 && !text.contains(['+', '#', '\0']);
        if good { Ok(text.to_owned()) } else { Err("must be a prefix like \"homeassistant\"".to_owned()) }
    });
    let discovery = discovery.map(|placed| placed.value);
    let (topic, rules) = (topic.value, Vec::new());
    Some(MqttSinkSettings { broker: broker?, client_id, topic, retain, discovery, rules })
}

fn webhook(folder: &Path, part: &mut Part<'_, '_>) -> Option<WebhookSettings> {
    let url = address("https://example.org/alarms", part);
    let (token_file, timeout) = (token_file(folder, part), timeout(part));
    Some(WebhookSettings { url: url?, token_file, timeout })
}

fn otlp(folder: &Path, part: &mut Part<'_, '_>) -> Option<OtlpSettings> {
    let url = address("http://localhost:4318", part);
    let (token_file, timeout) = (token_file(folder, part), timeout(part));
    Some(OtlpSettings { url: url?, token_file, timeout })
}

/// Reads `url`.
fn address(example: &str, part: &mut Part<'_, '_>) -> Option<String> {
    let url = part.require::<String>("url", &format!("{example:?}"))?;
    let is_address = reqwest::Url::parse(&url.value).is_ok_and(|url| {
        ["http", "https"].contains(&url.scheme()) && url.has_host() && url.username().is_empty()
    });
    if !is_address {
        let message = format!("`url` of `{}` is no address of the web", part.path);
        let help = format!("write {example:?}; a token goes into `token_file`");
        part.problem(url.span.clone(), message, help);
    }
    Some(url.value)
}

fn token_file(folder: &Path, part: &mut Part<'_, '_>) -> Option<PathBuf> {
    part.take::<String>("token_file").map(|placed| folder.join(placed.value))
}

fn timeout(part: &mut Part<'_, '_>) -> Duration {
    let timeout = part.take_text_or("timeout", "10s", |text| {
        let ms = duration_ms(text)?;
        if (1..=300_000).contains(&ms) {
            Ok(Duration::from_millis(ms as u64))
        } else {
            Err("must be from 1 ms to 5 m".to_owned())
        }
    });
    timeout.value
}

fn file(folder: &Path, part: &mut Part<'_, '_>) -> Option<FileSettings> {
    let path = part.require::<String>("file", "\"alarms.jsonl\"");
    let max_bytes = part.take_text_or("max_bytes", "16MiB", |text| {
        let bytes = size_bytes(text)?;
        if bytes >= 4_096 { Ok(bytes) } else { Err("must be at least 4 KiB".to_owned()) }
    });
    let keep = part.take_or("keep", 4u32, "4");
    if keep.value > 1_000 {
        part.problem(keep.span, "`keep` is at most 1000", "write `keep = 4`");
    }
    Some(FileSettings { path: folder.join(path?.value), max_bytes: max_bytes.value, keep: keep.value })
}
