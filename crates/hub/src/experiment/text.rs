//! A plan as JSON that has exactly one form, so that its hash is its name; and as words for people.

use std::fmt;

use package::trust::canonical::{Value, to_json};
use package::trust::hex::{from_hex, to_hex};
use package::trust::metadata::FormError;
use package::trust::shadow::Limits;
use package::trust::time::format_utc;
use wire::hash::Hash;

use crate::experiment::plan::{
    Against, Arm, Arms, AtEnd, BadPlan, Better, Bound, FORM, Harm, Measure, Plan, Shadow, What,
};
use crate::rollout::fields::{
    self, BadField, Fields, number, read_plan, read_target, salt_of, target_value, word,
};
use crate::rollout::plan::{PlanId, RING, Rate, Target};
use crate::rollout::text::span;

/// Bytes that are no plan of an experiment.
pub type NoPlan = fields::NoPlan<BadPlan>;

/// The salt of a plan.
pub fn salt(plan: &Plan) -> [u8; 8] {
    salt_of(to_value(plan), &[])
}

/// The one form of a plan.
pub fn write(plan: &Plan) -> Vec<u8> {
    to_json(&to_value(plan))
}

/// The name of a plan, and of its experiment.
pub fn id(plan: &Plan) -> PlanId {
    PlanId::of(&Hash::of(&write(plan)))
}

/// Reads and checks a plan. White space and order of names do not matter; what is unknown does.
pub fn read(bytes: &[u8]) -> Result<Plan, NoPlan> {
    read_plan(bytes, of_value, Plan::check, |plan| [plan.salt, salt(plan)])
}

fn to_value(plan: &Plan) -> Value {
    let harm = Value::object([
        ("alpha_ppm", number(plan.harm.alpha_ppm)),
        ("max_failed", number(plan.harm.max_failed)),
        ("p0_ppm", number(plan.harm.p0_ppm)),
    ]);
    let rate = Value::object([
        ("bytes_per_s", number(plan.rate.bytes_per_s)),
        ("nodes_per_min", number(plan.rate.nodes_per_min)),
    ]);
    let mut value = Value::object([
        ("allow_rollback", plan.allow_rollback.into()),
        ("created", format_utc(plan.created_ms).into()),
        ("created_by", plan.created_by.as_str().into()),
        ("for_s", number(plan.for_s)),
        ("form", number(FORM)),
        ("group", plan.group.as_str().into()),
        ("harm", harm),
        ("note", plan.note.as_str().into()),
        ("rate", rate),
        ("salt", to_hex(&plan.salt).into()),
        ("targets_version", number(plan.targets_version)),
        ("valid_s", number(plan.valid_s)),
    ]);
    if let Some(fields) = value.as_object_mut() {
        let more = what_fields(&plan.what);
        fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    value
}

/// The fields that say what is compared.
fn what_fields(what: &What) -> Vec<(&'static str, Value)> {
    match what {
        What::Arms(arms) => {
            let measure = &arms.measure;
            let measure = Value::object([
                ("against", word(measure.against)),
                ("alpha_ppm", number(measure.alpha_ppm)),
                ("answers", number(measure.answers)),
                ("better", word(measure.better)),
                ("metric", measure.metric.as_str().into()),
                ("min_effect_ppm", number(measure.min_effect_ppm)),
            ]);
            vec![
                ("a", target_value(&arms.a)),
                ("a_to", number(arms.a_to)),
                ("at_end", word(arms.at_end)),
                ("b", target_value(&arms.b)),
                ("b_to", number(arms.b_to)),
                ("base", target_value(&arms.base)),
                ("kind", OF_ARMS.into()),
                ("measure", measure),
            ]
        }
        What::Shadow(shadow) => {
            let mut bound = Value::object([
                ("alpha_ppm", number(shadow.bound.alpha_ppm)),
                ("answers", number(shadow.bound.answers)),
                ("max_ppm", number(shadow.bound.max_ppm)),
            ]);
            // Plans of before there was a least number have no such field, and keep their ids.
            if let Some(fields) = bound.as_object_mut().filter(|_| shadow.bound.nodes != 1) {
                fields.insert("nodes".to_owned(), number(shadow.bound.nodes));
            }
            vec![
                ("bound", bound),
                ("kind", OF_SHADOW.into()),
                ("limits", shadow.limits.to_value()),
                ("release", target_value(&shadow.release)),
                ("to", number(shadow.to)),
            ]
        }
    }
}

/// What `kind` says of a plan with two arms, and of one with a release beside what runs.
const OF_ARMS: &str = "experiment";
const OF_SHADOW: &str = "shadow";

/// The names of the fields that every plan has, and of those that say what is compared.
const NAMES: [&str; 13] = [
    "allow_rollback",
    "created",
    "created_by",
    "for_s",
    "form",
    "group",
    "harm",
    "kind",
    "note",
    "rate",
    "salt",
    "targets_version",
    "valid_s",
];
const ARMS_NAMES: [&str; 7] = ["a", "a_to", "at_end", "b", "b_to", "base", "measure"];
const SHADOW_NAMES: [&str; 4] = ["bound", "limits", "release", "to"];

fn of_value(value: &Value) -> Result<Plan, BadField> {
    let is_shadow = value.get("kind").and_then(Value::as_text) == Some(OF_SHADOW);
    let more: &[&str] = if is_shadow { &SHADOW_NAMES } else { &ARMS_NAMES };
    let plan = Fields::of(value, String::new(), &[&NAMES, more].concat())?;
    if plan.number::<u64>("form")? != FORM {
        return Err(plan.wrong("form", "1, the form that this version reads"));
    }
    if !is_shadow && plan.text("kind")? != OF_ARMS {
        return Err(plan.wrong("kind", "experiment or shadow"));
    }
    let harm = Fields::of(plan.get("harm")?, "harm".to_owned(), &["alpha_ppm", "max_failed", "p0_ppm"])?;
    let rate = Fields::of(plan.get("rate")?, "rate".to_owned(), &["bytes_per_s", "nodes_per_min"])?;
    let salt = from_hex(plan.text("salt")?).and_then(|salt| salt.try_into().ok());
    Ok(Plan {
        what: if is_shadow { What::Shadow(read_shadow(&plan)?) } else { What::Arms(read_arms(&plan)?) },
        group: plan.text("group")?.to_owned(),
        for_s: plan.number("for_s")?,
        harm: Harm {
            max_failed: harm.number("max_failed")?,
            p0_ppm: harm.number("p0_ppm")?,
            alpha_ppm: harm.number("alpha_ppm")?,
        },
        rate: Rate { bytes_per_s: rate.number("bytes_per_s")?, nodes_per_min: rate.number("nodes_per_min")? },
        allow_rollback: plan.truth("allow_rollback")?,
        valid_s: plan.number("valid_s")?,
        created_by: plan.text("created_by")?.to_owned(),
        created_ms: plan.time("created")?,
        note: plan.text("note")?.to_owned(),
        targets_version: plan.number("targets_version")?,
        salt: salt.ok_or_else(|| plan.wrong("salt", "16 hexadecimal digits"))?,
    })
}

fn read_arms(plan: &Fields<'_>) -> Result<Arms, BadField> {
    let names = ["against", "alpha_ppm", "answers", "better", "metric", "min_effect_ppm"];
    let measure = Fields::of(plan.get("measure")?, "measure".to_owned(), &names)?;
    Ok(Arms {
        a: read_target(plan.get("a")?, "a".to_owned())?,
        b: read_target(plan.get("b")?, "b".to_owned())?,
        a_to: plan.number("a_to")?,
        b_to: plan.number("b_to")?,
        measure: Measure {
            metric: measure.text("metric")?.to_owned(),
            better: measure.word::<Better>("better", "up or down")?,
            min_effect_ppm: measure.number("min_effect_ppm")?,
            answers: measure.number("answers")?,
            alpha_ppm: measure.number("alpha_ppm")?,
            against: measure.word::<Against>("against", "itself or others")?,
        },
        at_end: plan.word::<AtEnd>("at_end", "back or stay")?,
        base: read_target(plan.get("base")?, "base".to_owned())?,
    })
}

fn read_shadow(plan: &Fields<'_>) -> Result<Shadow, BadField> {
    let names = ["alpha_ppm", "answers", "max_ppm", "nodes"];
    let bound = Fields::of(plan.get("bound")?, "bound".to_owned(), &names)?;
    let limits = Limits::read(plan.get("limits")?).map_err(|error| match error {
        FormError::Field { field, expected } => BadField { field: format!("limits.{field}"), expected },
        _ => plan.wrong("limits", "the limits that this version knows"),
    });
    Ok(Shadow {
        release: read_target(plan.get("release")?, "release".to_owned())?,
        to: plan.number("to")?,
        limits: limits?,
        bound: Bound {
            max_ppm: bound.number("max_ppm")?,
            answers: bound.number("answers")?,
            nodes: if bound.value.get("nodes").is_some() { bound.number("nodes")? } else { 1 },
            alpha_ppm: bound.number("alpha_ppm")?,
        },
    })
}

fn release(target: &Target) -> String {
    let variant = target.variant.as_ref().map(|variant| format!(", variant {variant}"));
    format!("{} release {}{}", target.model, target.release, variant.unwrap_or_default())
}

/// A part of the ring, in per cent with one digit.
fn percent(from: u16, to: u16) -> String {
    format!("{:.1} %", f64::from(to.saturating_sub(from)) * 100.0 / f64::from(RING))
}

/// Parts of a million as per cent, without zeros behind the last digit.
pub fn ppm(parts: u32) -> String {
    format!("{} %", f64::from(parts) / 1e4)
}

/// How small a difference is too small to matter, in words.
pub fn effect(measure: &Measure) -> String {
    match measure.is_ratio() {
        true => ppm(measure.min_effect_ppm),
        false => format!("{}", f64::from(measure.min_effect_ppm) / 1e6),
    }
}

fn line(name: &str, text: String) -> (String, String) {
    (name.to_owned(), text)
}

/// What two arms run, and what decides between them.
fn arms_lines(plan: &Plan, arms: &Arms, lines: &mut Vec<(String, String)>) {
    let arm = |arm: &Arm<'_>| {
        let ring = format!("{} of nodes, ring {}..{}", percent(arm.from, arm.to), arm.from, arm.to);
        (format!("arm {}", plan.arm_name(arm.at)), format!("{}, on {ring}", release(arm.target)))
    };
    let measure = &arms.measure;
    let way = if measure.better == Better::Down { "lower" } else { "higher" };
    lines.extend(plan.arms().iter().map(arm));
    lines.push(line("among", plan.group.clone()));
    lines.push(line("better", format!("{} that is {way} by {}", measure.metric, effect(measure))));
    let against = match measure.against {
        Against::Itself => "against itself on the last day before",
        Against::Others => "as it is",
    };
    let requests = if measure.answers == 1 { "request" } else { "requests" };
    lines.push(line("figure", format!("of a node after {} {requests}, {against}", measure.answers)));
    let alpha = ppm(measure.alpha_ppm);
    lines.push(line("decides", format!("after every node; wrong in at most {alpha} of experiments")));
}

/// What answers beside what runs, what that may cost, and what decides.
fn shadow_lines(plan: &Plan, shadow: &Shadow, lines: &mut Vec<(String, String)>) {
    let Shadow { release: which, to, limits, bound } = shadow;
    let ring = format!("{} of nodes, ring 0..{to}", percent(0, *to));
    lines.push(line("shadow", format!("{}, beside what runs, on {ring}", release(which))));
    lines.push(line("among", plan.group.clone()));
    lines.push(line(
        "answers",
        format!(
            "{} of those that can be compared, of a node {} at most",
            ppm(limits.share_ppm),
            limits.answers
        ),
    ));
    lines.push(line("core", format!("{} of one core's time in a minute", ppm(limits.core_ppm))));
    if let Some(joules) = limits.joules {
        lines.push(line("energy", format!("{joules} J in a minute, where nodes measure it")));
    }
    if let Some(bytes) = limits.memory_bytes {
        lines.push(line("memory", format!("{bytes} bytes")));
    }
    lines.push(line("agrees", format!("if less than {} of answers part", ppm(bound.max_ppm))));
    let alpha = ppm(bound.alpha_ppm);
    lines.push(line("decides", format!("after every report; wrong in at most {alpha} of experiments")));
    lines.push(line("rests on", bound.spread()));
    lines.push(line("enough", format!("{} answers of all nodes", bound.answers)));
}

/// A plan as named lines, in a fixed order.
fn lines(plan: &Plan) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    match &plan.what {
        What::Arms(arms) => arms_lines(plan, arms, &mut lines),
        What::Shadow(shadow) => shadow_lines(plan, shadow, &mut lines),
    }
    let harm = &plan.harm;
    let mut stops = Vec::new();
    if harm.max_failed < u32::MAX {
        let most = harm.max_failed.saturating_add(1);
        let of = if plan.two().is_some() { " of an arm" } else { "" };
        stops.push(format!("{most} failing {}{of}", if most == 1 { "node" } else { "nodes" }));
    }
    if harm.alpha_ppm > 0 {
        stops.push(format!("more than {} failing, wrong alarms {}", ppm(harm.p0_ppm), ppm(harm.alpha_ppm)));
    }
    if !stops.is_empty() {
        lines.push(line("stops at", stops.join(", or ")));
    }
    lines.push(line("until", format!("{} after its start at the latest", span(plan.for_s))));
    let end = match (plan.two(), plan.stays()) {
        (_, true) => "nodes keep what they have",
        (Some(_), false) => "all go back",
        (None, false) => "it goes from all nodes; what runs stays",
    };
    lines.push(line("then", end.to_owned()));
    if let Some(arms) = plan.two() {
        lines.push(line("back to", release(&arms.base)));
    }
    if plan.rate.nodes_per_min > 0 {
        lines.push(line("rate", format!("{} nodes a minute", plan.rate.nodes_per_min)));
    }
    if plan.rate.bytes_per_s > 0 {
        lines.push(line("bytes", format!("{} a second", plan.rate.bytes_per_s)));
    }
    if plan.allow_rollback {
        lines.push(line("rollback", "allowed: nodes with newer releases go to these".to_owned()));
    }
    lines.push(line("valid", format!("{}, until {}", span(plan.valid_s), format_utc(plan.expires_ms()))));
    lines.push(line("made", format!("{} by {}", format_utc(plan.created_ms), plan.created_by)));
    if !plan.note.is_empty() {
        lines.push(line("note", plan.note.clone()));
    }
    lines
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = lines(self);
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (at, (name, text)) in lines.iter().enumerate() {
            // What people wrote may not pretend to be a line of ours.
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let end = if at + 1 == lines.len() { "" } else { "\n" };
            write!(f, "{name:width$}  {text}{end}")?;
        }
        Ok(())
    }
}
