//! Reads the actuators of a flow: what they are, and the envelope that nobody leaves.

mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use wire::body::act::{Setting, WORD_MAX_BYTES};
use wire::id::PartName;

use self::reach::{KINDS, driver};
use super::names::Book;
use super::part::{Named, inside};
use super::source::{SourceConfig, SourceKind};
use super::within::within;
use crate::act::device::Driver;
use crate::act::device::modbus::Modbus;
use crate::act::limits::{Allowed, Limits, Rate, WORDS_MAX, slew_per_s};
use crate::act::reins::Then;
use crate::board::Kind;
use crate::config::part::{Part, Placed};
use crate::config::problem::{Problems, did_you_mean};
use crate::expression::Expression;
use crate::source::modbus::ModbusSettings;
use crate::source::modbus::line::Line;

/// An actuator as declared.
#[derive(Debug, Clone)]
pub struct ActuatorConfig {
    /// Its name.
    pub name: PartName,
    /// How it is reached.
    pub driver: Driver,
    /// Its envelope.
    pub limits: Limits,
    /// The unit of its numbers.
    pub unit: Option<String>,
    /// It may only leave its safe setting while this condition holds.
    pub interlock: Option<Interlock>,
    /// It only says what it would do.
    pub dry_run: bool,
    /// Whether it is asked what it is set to, each time.
    pub confirm: bool,
    /// How long it may take until it says so.
    pub settle_ms: u64,
}

/// A condition that keeps an actuator in its safe setting while it does not hold.
#[derive(Debug, Clone)]
pub struct Interlock {
    /// The condition.
    pub when: Expression,
    /// Sources, by their place in the flow, at whose readings it is judged.
    pub sources: BTreeSet<usize>,
}

/// An actuator before the names in its interlock mean anything.
pub(super) struct ActuatorDraft {
    config: ActuatorConfig,
    interlock: Option<Placed<String>>,
}

/// What a rule asks of an actuator, before it is known whether there is such a one.
pub(super) struct ThenDraft {
    rule: PartName,
    actuator: String,
    to: Setting,
    hold_ms: u64,
    span: Range<usize>,
}

impl ThenDraft {
    /// The path of the actuator.
    pub(super) fn path(&self) -> String {
        format!("actuator.{}", self.actuator)
    }
}

/// Reads `[actuator.x]`; relative paths in it are relative to `folder`.
pub(super) fn read(name: PartName, folder: &Path, mut part: Part<'_, '_>) -> Option<Named<ActuatorDraft>> {
    let span = part.span.clone();
    let kind = part.require::<String>("type", "\"simulated\"")?;
    let write = part.take_or("write", false, "false");
    if !write.value {
        let message = format!("`{}` may not be written to: an actuator that cannot act is none", part.path);
        part.problem(write.span, message, "write `write = true`, or take the actuator out");
    }
    let (allowed, unit) = allowed(&mut part)?;
    let safe = part.require::<Setting>("safe", "\"closed\"");
    if let Some(Placed { value, span }) = &safe
        && let Err(why) = allowed.check(value)
    {
        let (message, help) = (format!("`safe` of `{}`: {why}", part.path), "give one of its own settings");
        part.problem(span.clone(), message, help);
    }
    let rate = part.take_text_or("rate", "30/min", Rate::parse).value;
    let slew = part.take_text("slew", slew_per_s);
    let tolerance = part.take::<f64>("tolerance");
    let is_number = matches!(allowed, Allowed::Range { .. });
    let misplaced =
        [("slew", slew.as_ref().map(|it| &it.span)), ("tolerance", tolerance.as_ref().map(|it| &it.span))];
    for (key, span) in misplaced {
        if let Some(span) = span.filter(|_| !is_number) {
            let message = format!("`{key}` is for numbers, and `{}` is set to words", part.path);
            part.problem(span.clone(), message, "give it a `range`, or take this out");
        }
    }
    if let Some(Placed { value, span }) = &tolerance
        && !(*value >= 0.0 && value.is_finite())
    {
        part.problem(span.clone(), "`tolerance` is 0 or more", "write `tolerance = 0.5`");
    }
    let interlock = part.take::<String>("interlock");
    let lease_ms = part.take_text_or("lease", "30s", |text| within(text, 1_000, 86_400_000)).value;
    let longest_ms = part.take_text_or("longest", "1h", |text| within(text, 1_000, 31_536_000_000)).value;
    let dry_run = part.take_or("dry_run", true, "true").value;
    let agents = part.take_or("agents", false, "false").value;
    if !KINDS.contains(&kind.value.as_str()) {
        let message = format!("there is no actuator of type {:?}", kind.value);
        part.problem(kind.span, message, did_you_mean(&kind.value, KINDS));
        // What else stands there belongs to a type we do not know.
        return None;
    }
    let driver = driver(&kind.value, folder, &allowed, &mut part);
    let reads = driver.as_ref().is_some_and(Driver::reads);
    let confirm = part.take_or("confirm", reads, if reads { "true" } else { "false" });
    if confirm.value && !reads && driver.is_some() {
        let message = format!("`{}` cannot be asked what it is set to, so it confirms nothing", part.path);
        part.problem(
            confirm.span,
            message,
            "say how it is read (`read`, `read_url`, `read_topic`), or leave `confirm` out",
        );
    }
    let settle_ms = part.take_text_or("settle", "0s", |text| within(text, 0, 5_000)).value;
    part.finish();
    let coarseness = driver.as_ref().map_or(1e-9, |driver| driver.coarseness(&allowed));
    let limits = Limits {
        allowed,
        safe: safe?.value,
        rate,
        slew_per_s: slew.map(|placed| placed.value),
        interlocked: interlock.is_some(),
        lease_ms,
        longest_ms,
        tolerance: tolerance.map_or(coarseness, |placed| placed.value),
        agents,
    };
    let (driver, confirm) = (driver?, confirm.value);
    let config = ActuatorConfig {
        name: name.clone(),
        driver,
        limits,
        unit,
        interlock: None,
        dry_run,
        confirm,
        settle_ms,
    };
    Some(Named { part: ActuatorDraft { config, interlock }, name, span })
}

/// Complains of a serial line on which a source speaks, too: it has one master.
pub(super) fn refuse_shared_lines(
    drafts: &[Named<ActuatorDraft>],
    sources: &[Named<SourceConfig>],
    problems: &mut Problems,
) {
    for Named { part, name, span } in drafts {
        let Driver::Modbus(Modbus { line: Line::Rtu(port), .. }) = &part.config.driver else { continue };
        let speaks = |kind: &SourceKind| match kind {
            SourceKind::Modbus(ModbusSettings { line: Line::Rtu(other), .. }) => other.device == port.device,
            SourceKind::Serial(serial) => serial.port.device == port.device,
            _ => false,
        };
        if let Some(source) = sources.iter().find(|source| speaks(&source.part.kind)) {
            let device = port.device.display();
            let message = format!("`source.{}` and `actuator.{name}` both speak on {device}", source.name);
            let help =
                "a serial line has one master: give each a line, or put a gateway to Modbus TCP before it";
            problems.add_with_help(span.clone(), message, help);
        }
    }
}

/// Gives the names in interlocks their meaning: they may speak of every part. `None` after a problem.
pub(super) fn check(
    drafts: Vec<Named<ActuatorDraft>>,
    book: &Book,
    problems: &mut Problems,
) -> Option<Vec<ActuatorConfig>> {
    let mut sound = true;
    let mut configs = Vec::new();
    for Named { part: ActuatorDraft { mut config, interlock }, .. } in drafts {
        if let Some(text) = interlock {
            let scope = book.scope(book.parts.keys().map(String::as_str));
            match Expression::parse(&text.value, Kind::Bool, &scope) {
                Ok(when) => {
                    let used = scope.used();
                    let parts = book.parts.values().flatten().filter(|known| used.contains(&known.at));
                    let sources: BTreeSet<usize> = parts.flat_map(|known| known.steps.clone()).collect();
                    config.interlock = Some(Interlock { when, sources });
                }
                Err(bad) => {
                    sound = false;
                    if !scope.broken() {
                        let message = format!("`interlock` of `actuator.{}`: {}", config.name, bad.message);
                        problems.add_with_help(inside(problems, &text, &bad.span), message, bad.help);
                    }
                }
            }
        }
        configs.push(config);
    }
    sound.then_some(configs)
}

/// Reads what a rule asks while it fires: `then = { valve = "closed" }`, and `hold`.
pub(super) fn read_then(rule: &PartName, part: &mut Part<'_, '_>) -> Vec<ThenDraft> {
    let then = part.take::<BTreeMap<String, Setting>>("then");
    let hold_ms = part.take_text_or("hold", "0s", |text| within(text, 0, 86_400_000)).value;
    let Some(Placed { value, span }) = then else { return Vec::new() };
    let draft = |(actuator, to)| ThenDraft { rule: rule.clone(), actuator, to, hold_ms, span: span.clone() };
    value.into_iter().map(draft).collect()
}

/// Finds the actuators that rules ask for.
pub(super) fn check_thens(
    drafts: Vec<ThenDraft>,
    actuators: &[ActuatorConfig],
    problems: &mut Problems,
) -> Vec<Then> {
    let mut thens = Vec::new();
    for ThenDraft { rule, actuator, to, hold_ms, span } in drafts {
        let names = || actuators.iter().map(|config| config.name.as_str());
        match names().position(|name| name == actuator) {
            None => {
                let message =
                    format!("`rule.{rule}` would set `actuator.{actuator}`, which the flow has not");
                problems.add_with_help(span, message, did_you_mean(&actuator, names()));
            }
            Some(at) => match actuators[at].limits.allowed.check(&to) {
                Ok(()) => thens.push(Then { rule, actuator: at, to, hold_ms }),
                Err(why) => {
                    let message = format!("`rule.{rule}` would set `actuator.{actuator}` to {to}: {why}");
                    problems.add_with_help(span, message, "give one of its settings");
                }
            },
        }
    }
    thens
}

/// `values` or `range`, and the unit.
fn allowed(part: &mut Part<'_, '_>) -> Option<(Allowed, Option<String>)> {
    let words = part.take::<Vec<String>>("values");
    let range = part.take::<[f64; 2]>("range");
    let unit = part.take::<String>("unit").map(|placed| placed.value);
    match (words, range) {
        (Some(Placed { value, span }), None) => {
            let mut seen = std::collections::BTreeSet::new();
            let is_good = |word: &String| {
                !word.is_empty() && word.len() <= WORD_MAX_BYTES && !word.contains(char::is_control)
            };
            if !(2..=WORDS_MAX).contains(&value.len())
                || !value.iter().all(|word| is_good(word) && seen.insert(word.clone()))
            {
                let message = format!("`values` of `{}` must be 2 to {WORDS_MAX} different words", part.path);
                part.problem(span, message, "write `values = [\"open\", \"closed\"]`");
                return None;
            }
            Some((Allowed::Words(value), unit))
        }
        (None, Some(Placed { value: [min, max], span })) => {
            if !(min < max && min.is_finite() && max.is_finite()) {
                let message =
                    format!("`range` of `{}` must be two numbers, the smaller one first", part.path);
                part.problem(span, message, "write `range = [0, 100]`");
                return None;
            }
            Some((Allowed::Range { min, max }, unit))
        }
        (Some(_), Some(Placed { span, .. })) => {
            let message = format!("`{}` has `values` and `range`", part.path);
            part.problem(span, message, "an actuator is set to words or to numbers: take one out");
            None
        }
        (None, None) => {
            let (span, message) =
                (part.span.clone(), format!("`{}` does not say what it is set to", part.path));
            part.problem(span, message, "add `values = [\"open\", \"closed\"]` or `range = [0, 100]`");
            None
        }
    }
}

/// The most actuators of one flow.
pub(super) const ACTUATORS_MAX: usize = 64;
