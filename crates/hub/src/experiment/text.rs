//! A plan as JSON that has exactly one form, so that its hash is its name; and as words for people.

use std::fmt;

use package::trust::canonical::{StrictError, Value, parse, to_json};
use package::trust::hex::{from_hex, to_hex};
use package::trust::time::format_utc;
use wire::hash::Hash;

use crate::experiment::plan::{Against, Arm, AtEnd, BadPlan, Better, FORM, Harm, Measure, Plan};
use crate::rollout::fields::{BadField, Fields, number, read_target, target_value, word};
use crate::rollout::plan::{PlanId, RING, Rate, Target};
use crate::rollout::text::{BYTES_MAX, span};

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
pub enum NoPlan {
    /// Too long.
    #[error("the plan has {bytes} bytes, at most {BYTES_MAX} are read")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Not the JSON of signed documents.
    #[error("the plan is not strict JSON")]
    Json(#[from] StrictError),
    /// A field that is missing, too much, or wrong.
    #[error(transparent)]
    Field(#[from] BadField),
    /// A plan that cannot be.
    #[error("the plan cannot be followed")]
    Plan(#[from] BadPlan),
    /// The salt of another plan.
    #[error("the salt does not follow from the plan: it must be {salt}")]
    Salt {
        /// What it must be.
        salt: String,
    },
}

/// The salt of a plan: the first 8 bytes of SHA-256 over it without its salt.
pub fn salt(plan: &Plan) -> [u8; 8] {
    let mut value = to_value(plan);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("salt");
    }
    let mut salt = [0; 8];
    salt.copy_from_slice(&Hash::of(&to_json(&value)).as_bytes()[..8]);
    salt
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
    if bytes.len() > BYTES_MAX {
        return Err(NoPlan::TooLong { bytes: bytes.len() });
    }
    let plan = of_value(&parse(bytes)?)?;
    plan.check()?;
    let salt = salt(&plan);
    if salt != plan.salt {
        return Err(NoPlan::Salt { salt: to_hex(&salt) });
    }
    Ok(plan)
}

fn to_value(plan: &Plan) -> Value {
    let measure = &plan.measure;
    let measure = Value::object([
        ("against", word(measure.against)),
        ("alpha_ppm", number(measure.alpha_ppm)),
        ("answers", number(measure.answers)),
        ("better", word(measure.better)),
        ("metric", measure.metric.as_str().into()),
        ("min_effect_ppm", number(measure.min_effect_ppm)),
    ]);
    let harm = Value::object([
        ("alpha_ppm", number(plan.harm.alpha_ppm)),
        ("max_failed", number(plan.harm.max_failed)),
        ("p0_ppm", number(plan.harm.p0_ppm)),
    ]);
    let rate = Value::object([
        ("bytes_per_s", number(plan.rate.bytes_per_s)),
        ("nodes_per_min", number(plan.rate.nodes_per_min)),
    ]);
    Value::object([
        ("a", target_value(&plan.a)),
        ("a_to", number(plan.a_to)),
        ("allow_rollback", plan.allow_rollback.into()),
        ("at_end", word(plan.at_end)),
        ("b", target_value(&plan.b)),
        ("b_to", number(plan.b_to)),
        ("base", target_value(&plan.base)),
        ("created", format_utc(plan.created_ms).into()),
        ("created_by", plan.created_by.as_str().into()),
        ("for_s", number(plan.for_s)),
        ("form", number(FORM)),
        ("group", plan.group.as_str().into()),
        ("harm", harm),
        ("kind", "experiment".into()),
        ("measure", measure),
        ("note", plan.note.as_str().into()),
        ("rate", rate),
        ("salt", to_hex(&plan.salt).into()),
        ("targets_version", number(plan.targets_version)),
        ("valid_s", number(plan.valid_s)),
    ])
}

fn of_value(value: &Value) -> Result<Plan, BadField> {
    let names = [
        "a",
        "a_to",
        "allow_rollback",
        "at_end",
        "b",
        "b_to",
        "base",
        "created",
        "created_by",
        "for_s",
        "form",
        "group",
        "harm",
        "kind",
        "measure",
        "note",
        "rate",
        "salt",
        "targets_version",
        "valid_s",
    ];
    let plan = Fields::of(value, String::new(), &names)?;
    if plan.number::<u64>("form")? != FORM {
        return Err(plan.wrong("form", "1, the form that this version reads"));
    }
    if plan.text("kind")? != "experiment" {
        return Err(plan.wrong("kind", "experiment"));
    }
    let harm = Fields::of(plan.get("harm")?, "harm".to_owned(), &["alpha_ppm", "max_failed", "p0_ppm"])?;
    let rate = Fields::of(plan.get("rate")?, "rate".to_owned(), &["bytes_per_s", "nodes_per_min"])?;
    let salt = from_hex(plan.text("salt")?).and_then(|salt| salt.try_into().ok());
    let names = ["against", "alpha_ppm", "answers", "better", "metric", "min_effect_ppm"];
    let measure = Fields::of(plan.get("measure")?, "measure".to_owned(), &names)?;
    Ok(Plan {
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

/// A plan as named lines, in a fixed order.
fn lines(plan: &Plan) -> Vec<(String, String)> {
    let line = |name: &str, text: String| (name.to_owned(), text);
    let mut lines = Vec::new();
    let arm = |arm: &Arm<'_>| {
        let ring = format!("{} of nodes, ring {}..{}", percent(arm.from, arm.to), arm.from, arm.to);
        (format!("arm {}", arm.name()), format!("{}, on {ring}", release(arm.target)))
    };
    let measure = &plan.measure;
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
    let harm = &plan.harm;
    let mut stops = Vec::new();
    if harm.max_failed < u32::MAX {
        let most = harm.max_failed.saturating_add(1);
        stops.push(format!("{most} failing {} of an arm", if most == 1 { "node" } else { "nodes" }));
    }
    if harm.alpha_ppm > 0 {
        stops.push(format!("more than {} failing, wrong alarms {}", ppm(harm.p0_ppm), ppm(harm.alpha_ppm)));
    }
    if !stops.is_empty() {
        lines.push(line("stops at", stops.join(", or ")));
    }
    lines.push(line("until", format!("{} after its start at the latest", span(plan.for_s))));
    let end = if plan.at_end == AtEnd::Stay {
        "nodes keep what they have".to_owned()
    } else {
        "all go back".to_owned()
    };
    lines.push(line("then", end));
    lines.push(line("back to", release(&plan.base)));
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
