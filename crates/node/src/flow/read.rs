//! Reads the parts of a flow, each by itself. What one part says of another is checked in `check`.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeValue};
use wire::body::Severity;
use wire::id::PartName;

use super::part::{ReplayConfig, SimulatedConfig, SourceConfig, SourceKind, Speed};
use super::source::{lines, modbus, mqtt};
use crate::config::condition::{self, Condition};
use crate::config::part::{Part, Placed};
use crate::config::problem::{Problems, did_you_mean};
use crate::config::quantity::duration_ms;
use crate::source::csv::{CsvOptions, MAX_COLUMNS};
use crate::source::pump;

/// The parts as read, before they know one another.
#[derive(Default)]
pub(super) struct Drafts {
    pub(super) sources: Vec<Named<SourceConfig>>,
    pub(super) models: Vec<Named<ModelDraft>>,
    pub(super) rules: Vec<Named<RuleDraft>>,
    /// Parts that stand in the file but could not be read: what speaks of them is not wrong for that.
    pub(super) broken: Vec<String>,
}

impl Drafts {
    /// What can be named as `source.pump`, those that could not be read too.
    pub(super) fn paths(&self) -> Vec<String> {
        let sources = self.sources.iter().map(|part| format!("source.{}", part.name));
        let models = self.models.iter().map(|part| format!("model.{}", part.name));
        let rules = self.rules.iter().map(|part| format!("rule.{}", part.name));
        sources.chain(models).chain(rules).chain(self.broken.iter().cloned()).collect()
    }

    /// Parts read.
    pub(super) fn len(&self) -> usize {
        self.sources.len() + self.models.len() + self.rules.len()
    }
}

/// A part with the place of its name.
pub(super) struct Named<T> {
    pub(super) part: T,
    pub(super) name: PartName,
    pub(super) span: Range<usize>,
}

pub(super) struct ModelDraft {
    pub(super) inputs: Vec<Placed<String>>,
    pub(super) lag: usize,
    pub(super) learn: u64,
    pub(super) refractory: u64,
    pub(super) calm: u64,
    pub(super) lag_span: Range<usize>,
}

pub(super) struct RuleDraft {
    pub(super) inputs: Vec<Placed<String>>,
    pub(super) when: Placed<String>,
    pub(super) condition: Condition,
    /// Where the field stands in the file.
    pub(super) field_span: Range<usize>,
    pub(super) for_ms: i64,
    pub(super) clear_after_ms: i64,
    pub(super) severity: Severity,
}

/// A part's name can stand in a condition, so it is a word: `pump_2`, not `pump-2`.
pub(super) fn part_name(name: &str, span: &Range<usize>, problems: &mut Problems) -> Option<PartName> {
    let word = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if let (true, Ok(name)) = (word, PartName::new(name)) {
        return Some(name);
    }
    let mut mended: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
        .take(64)
        .collect();
    if !mended.starts_with(|c: char| c.is_ascii_lowercase()) {
        mended.insert(0, 'p');
    }
    let message = format!(
        "the name {name:?} cannot be used: a name begins with a letter and has at most 64 of a-z, 0-9 and _"
    );
    problems.add_with_help(span.clone(), message, format!("write `{mended}`"));
    None
}

pub(super) fn source(name: PartName, folder: &Path, mut part: Part<'_, '_>) -> Option<Named<SourceConfig>> {
    const KINDS: [&str; 8] =
        ["replay", "http", "mqtt", "modbus-tcp", "modbus-rtu", "exec", "serial", "simulated"];
    let kind = part.require::<String>("type", "\"replay\"")?;
    let span = part.span.clone();
    let summary = part.take_text_or("summary", "1s", |text| positive(duration_ms(text)?));
    let max_gap = part.take_text_or("max_gap", "1m", |text| positive(duration_ms(text)?));
    let mut channels = part.take::<Vec<String>>("channels");
    if let Some(Placed { value, span }) = &channels
        && let Some(message) = bad_channels(value)
    {
        part.problem(span.clone(), message, "give each channel once, by its name in the data");
        channels = None;
    }
    let mut channels = channels.map(|placed| placed.value);
    let kind = match kind.value.as_str() {
        "replay" => SourceKind::Replay(replay(folder, channels.clone(), &mut part)?),
        "http" => SourceKind::Http,
        "mqtt" => SourceKind::Mqtt(mqtt::read(folder, &mut channels, &mut part)?),
        "modbus-tcp" => SourceKind::Modbus(modbus::read(false, &mut channels, &mut part)?),
        "modbus-rtu" => SourceKind::Modbus(modbus::read(true, &mut channels, &mut part)?),
        "exec" => SourceKind::Exec(lines::exec(folder, &mut channels, &mut part)?),
        "serial" => SourceKind::Serial(lines::serial(&mut channels, &mut part)?),
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
            SourceKind::Simulated(simulated(&mut part))
        }
        other => {
            let help = did_you_mean(other, KINDS);
            part.problem(kind.span, format!("there is no source of type {other:?}"), help);
            // What else stands there belongs to a type we do not know.
            return None;
        }
    };
    part.finish();
    let config = SourceConfig {
        name: name.clone(),
        kind,
        channels,
        summary_ms: summary.value,
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

pub(super) fn model(name: PartName, mut part: Part<'_, '_>) -> Option<Named<ModelDraft>> {
    let kind = part.require::<String>("type", "\"subspace\"")?;
    let span = part.span.clone();
    if kind.value != "subspace" {
        let help = did_you_mean(&kind.value, ["subspace"]);
        part.problem(kind.span, format!("there is no model of type {:?}", kind.value), help);
        return None;
    }
    let inputs = inputs(&mut part);
    let defaults = signal::detector::Config::new(1);
    let lag = part.take_or("lag", defaults.lag, &defaults.lag.to_string());
    let learn = part.take_or("learn", defaults.learn, &defaults.learn.to_string());
    let refractory = part.take_or("refractory", defaults.refractory, &defaults.refractory.to_string());
    let calm = part.take_or("calm", 20, "20");
    if lag.value == 0 {
        part.problem(lag.span.clone(), "`lag` must be at least 1", "write `lag = 10`");
    }
    if learn.value < (2 * lag.value as u64).max(defaults.warm_up) {
        let help = format!("write `learn = {}`", defaults.learn.max(2 * lag.value as u64));
        let message = format!("`learn` must be at least twice the lag, and at least {}", defaults.warm_up);
        part.problem(learn.span, message, help);
    }
    if calm.value == 0 {
        part.problem(calm.span, "`calm` must be at least 1", "write `calm = 20`");
    }
    part.finish();
    let draft = ModelDraft {
        inputs,
        lag: lag.value,
        learn: learn.value,
        refractory: refractory.value,
        calm: calm.value,
        lag_span: lag.span,
    };
    Some(Named { part: draft, name, span })
}

pub(super) fn rule(name: PartName, mut part: Part<'_, '_>) -> Option<Named<RuleDraft>> {
    let span = part.span.clone();
    let inputs = inputs(&mut part);
    let when = part.require::<String>("when", "\"pump.temperature > 80.0\"");
    let for_ms = part.take_text_or("for", "0s", duration_ms).value;
    let clear_after_ms = part.take_text_or("clear_after", "0s", duration_ms).value;
    let severity = part.take_text_or("severity", "warning", read_severity).value;
    let read = when.and_then(|when| match condition::parse(&when.value) {
        Ok(condition) => {
            let field_span = inside(&part, &when, &condition.field_span);
            Some((when, condition, field_span))
        }
        Err(bad) => {
            let at = inside(&part, &when, &bad.span);
            part.problem(at, format!("`when` of `{}`: {}", part.path, bad.message), bad.help);
            None
        }
    });
    part.finish();
    let (when, condition, field_span) = read?;
    let draft = RuleDraft { inputs, when, condition, field_span, for_ms, clear_after_ms, severity };
    Some(Named { part: draft, name, span })
}

fn read_severity(word: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter()
        .find(|severity| severity.as_str() == word)
        .ok_or_else(|| format!("there is no {word:?} ({})", did_you_mean(word, all.map(Severity::as_str))))
}

/// Where a part of a string's value stands in the file: exact for a plain string, otherwise the whole string.
fn inside(part: &Part<'_, '_>, string: &Placed<String>, within: &Range<usize>) -> Range<usize> {
    let written = part.text_at(&string.span);
    if written.get(1..written.len().saturating_sub(1)) == Some(string.value.as_str()) {
        let begin = string.span.start + 1;
        begin + within.start..begin + within.end
    } else {
        string.span.clone()
    }
}

pub(super) fn inputs(part: &mut Part<'_, '_>) -> Vec<Placed<String>> {
    if !part.has("inputs") {
        let (span, message) = (part.span.clone(), format!("`{}` has no `inputs`", part.path));
        part.problem(span, message, "add `inputs = [\"source.…\"]`: a flow says what feeds what");
        return Vec::new();
    }
    let Some(value) = part.take_raw("inputs") else { return Vec::new() };
    let span = value.span();
    let strings = |array: DeArray<'_>| -> Option<Vec<Placed<String>>> {
        array
            .into_iter()
            .map(|item: Spanned<DeValue<'_>>| {
                let span = item.span();
                Some(Placed { value: item.get_ref().as_str()?.to_owned(), span })
            })
            .collect()
    };
    let read = match value.into_inner() {
        DeValue::Array(array) => strings(array),
        _ => None,
    };
    match read {
        Some(inputs) if !inputs.is_empty() => inputs,
        _ => {
            let message = format!("`inputs` of `{}` must be a list of parts", part.path);
            part.problem(span, message, "write `inputs = [\"source.pump\"]`");
            Vec::new()
        }
    }
}

fn positive(ms: i64) -> Result<i64, String> {
    if ms > 0 { Ok(ms) } else { Err("must be longer than nothing".to_owned()) }
}
