//! `[rule.x]`: a condition, how long it must hold, and what is told when it does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wire::body::Severity;
use wire::id::PartName;

use super::part::{Named, inputs, inside, positive};
use crate::board::{Kind, Slot};
use crate::config::part::{Part, Placed};
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;
use crate::expression::Expression;

/// What a rule gives.
pub(super) const GIVES: [(&str, Kind); 1] = [("firing", Kind::Bool)];
/// The most labels of a rule.
const MAX_LABELS: usize = 32;
/// The longest name or value of a label, in bytes.
const LABEL_MAX_BYTES: usize = 256;

/// A rule.
#[derive(Debug, Clone)]
pub struct RuleConfig {
    /// Its name.
    pub name: PartName,
    /// When it fires.
    pub when: Expression,
    /// When it clears; absent: when `when` fails.
    pub clear_when: Option<Expression>,
    /// How long the condition must hold before the rule fires.
    pub for_ms: i64,
    /// How long it must fail, or `clear_when` must hold, before the rule clears.
    pub clear_after_ms: i64,
    /// How bad it is when the rule fires.
    pub severity: Severity,
    /// Rules, by their place in the flow, while any of which fires this one does not begin to.
    pub inhibit_by: Vec<usize>,
    /// No second record that it fires within this time of the last.
    pub dedup_ms: i64,
    /// What answers while a model cannot.
    pub floor: Option<Floor>,
    /// A value of that age is missing; absent: ten usual intervals of its source, at least a minute.
    pub stale_after_ms: Option<i64>,
    /// What is told with each decision.
    pub labels: BTreeMap<String, String>,
    /// Sources, by their place in the flow, at whose readings it is judged.
    pub sources: BTreeSet<usize>,
    /// The readings a decision is made from: how many of which source.
    pub reads: BTreeMap<usize, usize>,
    /// Where the fields it speaks of stand in the file.
    pub(super) places: Vec<(Slot, Range<usize>)>,
}

impl RuleConfig {
    /// What its conditions read.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.places.iter().map(|(slot, _)| *slot)
    }
}

/// The rule that answers while a model has nothing to say, or is not sure.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The condition that is judged then.
    pub when: Expression,
    /// Below this confidence a model is not sure.
    pub below: Option<f64>,
    /// The models `when` of the rule speaks of.
    pub models: Vec<FloorModel>,
}

/// A model that a floor stands in for.
#[derive(Debug, Clone)]
pub struct FloorModel {
    /// Its name.
    pub name: String,
    /// Its values that the rule speaks of: one missing, and the floor answers.
    pub values: Vec<Slot>,
    /// Where its confidence stands, if it matters.
    pub confidence: Option<Slot>,
}

/// Where a rule stands, for screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The condition fails.
    Quiet,
    /// The condition holds, not yet for long enough, or the rule is held back.
    Pending,
    /// It fires.
    Firing,
}

impl Standing {
    /// The word for screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Quiet => "quiet",
            Standing::Pending => "pending",
            Standing::Firing => "firing",
        }
    }
}

/// A rule before its names mean anything.
pub(super) struct RuleDraft {
    pub(super) inputs: Vec<Placed<String>>,
    pub(super) when: Placed<String>,
    pub(super) clear_when: Option<Placed<String>>,
    pub(super) for_ms: i64,
    pub(super) clear_after_ms: i64,
    pub(super) severity: Severity,
    pub(super) inhibit_by: Vec<Placed<String>>,
    pub(super) dedup_ms: i64,
    pub(super) floor: Option<Placed<String>>,
    pub(super) floor_below: Option<Placed<f64>>,
    pub(super) stale_after_ms: Option<i64>,
    pub(super) labels: BTreeMap<String, String>,
}

/// Reads one.
pub(super) fn read(name: PartName, mut part: Part<'_, '_>) -> Option<Named<RuleDraft>> {
    let span = part.span.clone();
    let inputs = inputs(&mut part);
    part.require_key("when", "\"pump.temperature > 80.0\"");
    let when = condition(&mut part, "when");
    let clear_when = condition(&mut part, "clear_when");
    let for_ms = part.take_text_or("for", "0s", duration_ms).value;
    let clear_after_ms = part.take_text_or("clear_after", "0s", duration_ms).value;
    let severity = part.take_text_or("severity", "warning", read_severity).value;
    let inhibit_by = others(&mut part);
    let dedup_ms = part.take_text_or("dedup", "0s", duration_ms).value;
    let has_floor = part.has("floor");
    let floor = condition(&mut part, "floor");
    let floor_below = part.take::<f64>("floor_below");
    if let Some(Placed { value, span }) = &floor_below {
        if !(*value > 0.0 && *value <= 1.0) {
            let message = "`floor_below` is a confidence: above 0 and at most 1";
            part.problem(span.clone(), message, "write `floor_below = 0.6`");
        }
        if !has_floor {
            let message = "`floor_below` says when the floor answers, and there is no `floor`";
            part.problem(span.clone(), message, "add `floor = \"pump.temperature > 90.0\"`");
        }
    }
    let stale_after_ms =
        part.take_text("stale_after", |text| positive(duration_ms(text)?)).map(|placed| placed.value);
    let labels = labels(&mut part);
    part.finish();
    let draft = RuleDraft {
        inputs,
        when: when?,
        clear_when,
        for_ms,
        clear_after_ms,
        severity,
        inhibit_by,
        dedup_ms,
        floor,
        floor_below,
        stale_after_ms,
        labels,
    };
    Some(Named { part: draft, name, span })
}

/// A condition whose words are in order; what its names mean is seen later.
fn condition(part: &mut Part<'_, '_>, key: &'static str) -> Option<Placed<String>> {
    let text = part.take::<String>(key)?;
    match Expression::syntax(&text.value) {
        Ok(()) => Some(text),
        Err(bad) => {
            let at = inside(part.problems(), &text, &bad.span);
            let message = format!("`{key}` of `{}`: {}", part.path, bad.message);
            part.problem(at, message, bad.help);
            None
        }
    }
}

/// `inhibit_by`: paths of rules.
fn others(part: &mut Part<'_, '_>) -> Vec<Placed<String>> {
    let Some(Placed { value, span }) = part.take::<Vec<String>>("inhibit_by") else { return Vec::new() };
    value.into_iter().map(|value| Placed { value, span: span.clone() }).collect()
}

fn labels(part: &mut Part<'_, '_>) -> BTreeMap<String, String> {
    let Some(Placed { value, span }) = part.take::<BTreeMap<String, String>>("labels") else {
        return BTreeMap::new();
    };
    let long = |text: &String| text.len() > LABEL_MAX_BYTES;
    if value.len() > MAX_LABELS || value.iter().any(|(name, value)| long(name) || long(value)) {
        let message = format!("a rule has at most {MAX_LABELS} labels of {LABEL_MAX_BYTES} bytes each");
        part.problem(span, message, "write `labels = { team = \"night\" }`");
    }
    value
}

fn read_severity(word: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter()
        .find(|severity| severity.as_str() == word)
        .ok_or_else(|| format!("there is no {word:?} ({})", did_you_mean(word, all.map(Severity::as_str))))
}
