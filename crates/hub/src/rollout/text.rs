//! A plan as JSON that has exactly one form, so that its hash is its name; as words for people; and how two differ.
//!
//! The JSON is that of signed documents: names sorted, integers only, compact. What is read is checked whole, and must be
//! the very bytes that would be written: two plans that mean the same are the same plan.

use std::fmt;

use package::trust::canonical::{Value, to_json};
use package::trust::hex::{from_hex, to_hex};
use package::trust::metadata::FormError;
use package::trust::time::format_utc;
use package::trust::window::When;
use wire::hash::Hash;
use wire::id::NodeId;

use crate::rollout::fields::{
    self, BadField, Fields, list, number, read_plan, read_target, salt_of, target_value, word,
};
use crate::rollout::plan::{
    BadPlan, Compare, Disruption, FORM, Gate, Lane, Plan, PlanId, RING, Rate, Target, Then, Wave, Worse,
};

/// Bytes that are no plan of a rollout.
pub type NoPlan = fields::NoPlan<BadPlan>;

/// The salt of a plan, of which waves are no part: they are chosen by the lots that it draws.
pub fn salt(plan: &Plan) -> [u8; 8] {
    salt_of(to_value(plan), &["waves"])
}

/// The one form of a plan.
pub fn write(plan: &Plan) -> Vec<u8> {
    to_json(&to_value(plan))
}

/// The name of a plan, and of its rollout.
pub fn id(plan: &Plan) -> PlanId {
    PlanId::of(&Hash::of(&write(plan)))
}

/// The id of the documents for the named nodes: they need not stand in any small ring, so they have their own line of
/// versions.
pub fn canary_id(id: PlanId, plan: &Plan) -> PlanId {
    debug_assert_eq!(id, self::id(plan));
    let whole = Hash::of(&write(plan));
    PlanId::of(&Hash::of(&[whole.as_bytes().as_slice(), b"canary"].concat()))
}

/// Reads and checks a plan. White space and order of names do not matter; what is unknown does.
pub fn read(bytes: &[u8]) -> Result<Plan, NoPlan> {
    read_plan(bytes, of_value, Plan::check, |plan| [plan.salt, salt(plan)])
}

fn to_value(plan: &Plan) -> Value {
    let compare = |one: &Compare| {
        Value::object([
            ("metric", one.metric.as_str().into()),
            ("min_effect_ppm", number(one.min_effect_ppm)),
            ("optional", one.optional.into()),
            ("worse", word(one.worse)),
        ])
    };
    let wave = |wave: &Wave| {
        let gate = &wave.gate;
        let gate = Value::object([
            ("alpha_ppm", number(gate.alpha_ppm)),
            ("compare", list(&gate.compare, compare)),
            ("max_failed", number(gate.max_failed)),
            ("max_unknown", number(gate.max_unknown)),
            ("min_reports", number(gate.min_reports)),
            ("p0_ppm", number(gate.p0_ppm)),
            ("patience_s", number(gate.patience_s)),
            ("soak_s", number(gate.soak_s)),
            ("success_ppm", number(gate.success_ppm)),
            ("then", word(gate.then)),
        ]);
        Value::object([("gate", gate), ("to", number(wave.to))])
    };
    let budget = |one: &Disruption| {
        Value::object([("by", one.by.as_str().into()), ("max_unavailable", number(one.max_unavailable))])
    };
    let rate = Value::object([
        ("bytes_per_s", number(plan.rate.bytes_per_s)),
        ("nodes_per_min", number(plan.rate.nodes_per_min)),
    ]);
    Value::object([
        ("allow_rollback", plan.allow_rollback.into()),
        ("approvals", number(plan.approvals)),
        ("budget", list(&plan.budget, budget)),
        ("canary", list(&plan.canary, |node| node.as_str().into())),
        ("created", format_utc(plan.created_ms).into()),
        ("created_by", plan.created_by.as_str().into()),
        ("form", number(FORM)),
        ("group", plan.group.as_str().into()),
        ("hold_out_percent", number(plan.hold_out_percent)),
        ("lane", word(plan.lane)),
        ("note", plan.note.as_str().into()),
        ("rate", rate),
        ("revert", list(&plan.revert, target_value)),
        ("revert_on_stop", plan.revert_on_stop.into()),
        ("salt", to_hex(&plan.salt).into()),
        ("targets_version", number(plan.targets_version)),
        ("valid_s", number(plan.valid_s)),
        ("waves", list(&plan.waves, wave)),
        ("what", list(&plan.what, target_value)),
        ("when", plan.when.as_ref().map_or(Value::Null, When::to_value)),
    ])
}

fn of_value(value: &Value) -> Result<Plan, BadField> {
    let names = [
        "allow_rollback",
        "approvals",
        "budget",
        "canary",
        "created",
        "created_by",
        "form",
        "group",
        "hold_out_percent",
        "lane",
        "note",
        "rate",
        "revert",
        "revert_on_stop",
        "salt",
        "targets_version",
        "valid_s",
        "waves",
        "what",
        "when",
    ];
    let plan = Fields::of(value, String::new(), &names)?;
    if plan.number::<u64>("form")? != FORM {
        return Err(plan.wrong("form", "1, the form that this version reads"));
    }
    let canary = |value: &Value, path: String| {
        let name = value.as_text().and_then(|name| NodeId::new(name).ok());
        name.ok_or(BadField { field: path, expected: "a node's name" })
    };
    let budget = |value: &'_ Value, path| {
        let one = Fields::of(value, path, &["by", "max_unavailable"])?;
        let by = one.text("by")?;
        if by.is_empty() || by.len() > 128 {
            return Err(one.wrong("by", "a label"));
        }
        Ok(Disruption { by: by.to_owned(), max_unavailable: one.number("max_unavailable")? })
    };
    let rate = Fields::of(plan.get("rate")?, "rate".to_owned(), &["bytes_per_s", "nodes_per_min"])?;
    let when = match plan.get("when")? {
        Value::Null => None,
        when => Some(read_when(when)?),
    };
    let salt = from_hex(plan.text("salt")?).and_then(|salt| salt.try_into().ok());
    Ok(Plan {
        what: plan.list("what", 8, read_target)?,
        revert: plan.list("revert", 8, read_target)?,
        group: plan.text("group")?.to_owned(),
        canary: plan.list("canary", 64, canary)?,
        waves: plan.list("waves", 16, read_wave)?,
        hold_out_percent: plan.number("hold_out_percent")?,
        budget: plan.list("budget", 8, budget)?,
        rate: Rate { bytes_per_s: rate.number("bytes_per_s")?, nodes_per_min: rate.number("nodes_per_min")? },
        when,
        lane: plan.word::<Lane>("lane", "normal or emergency")?,
        valid_s: plan.number("valid_s")?,
        revert_on_stop: plan.truth("revert_on_stop")?,
        approvals: plan.number("approvals")?,
        allow_rollback: plan.truth("allow_rollback")?,
        created_by: plan.text("created_by")?.to_owned(),
        created_ms: plan.time("created")?,
        note: plan.text("note")?.to_owned(),
        targets_version: plan.number("targets_version")?,
        salt: salt.ok_or_else(|| plan.wrong("salt", "16 hexadecimal digits"))?,
    })
}

fn read_wave(value: &Value, path: String) -> Result<Wave, BadField> {
    let wave = Fields::of(value, path, &["gate", "to"])?;
    let names = [
        "alpha_ppm",
        "compare",
        "max_failed",
        "max_unknown",
        "min_reports",
        "p0_ppm",
        "patience_s",
        "soak_s",
        "success_ppm",
        "then",
    ];
    let gate = Fields::of(wave.get("gate")?, format!("{}.gate", wave.path), &names)?;
    let compare = |value: &'_ Value, path| {
        let one = Fields::of(value, path, &["metric", "min_effect_ppm", "optional", "worse"])?;
        Ok(Compare {
            metric: one.text("metric")?.to_owned(),
            min_effect_ppm: one.number("min_effect_ppm")?,
            optional: one.truth("optional")?,
            worse: one.word::<Worse>("worse", "up or down")?,
        })
    };
    let gate = Gate {
        min_reports: gate.number("min_reports")?,
        success_ppm: gate.number("success_ppm")?,
        max_failed: gate.number("max_failed")?,
        max_unknown: gate.number("max_unknown")?,
        soak_s: gate.number("soak_s")?,
        patience_s: gate.number("patience_s")?,
        p0_ppm: gate.number("p0_ppm")?,
        compare: gate.list("compare", 16, compare)?,
        alpha_ppm: gate.number("alpha_ppm")?,
        then: gate.word::<Then>("then", "continue or wait")?,
    };
    Ok(Wave { to: wave.number("to")?, gate })
}

fn read_when(value: &Value) -> Result<When, BadField> {
    When::read(value).map_err(|error| match error {
        FormError::Field { field, expected } => BadField { field: format!("when.{field}"), expected },
        _ => BadField { field: "when".to_owned(), expected: "days, from, to, and by if need be" },
    })
}

/// A share of the ring, in per cent with one digit.
fn percent(to: u16) -> String {
    format!("{:.1} %", f64::from(to) * 100.0 / f64::from(RING))
}

/// A while, in words.
pub fn span(seconds: u32) -> String {
    match seconds {
        0 => "0".to_owned(),
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

fn targets(targets: &[Target]) -> String {
    let one = |target: &Target| {
        let variant = target.variant.as_ref().map(|variant| format!(", variant {variant}"));
        format!("{} release {}{}", target.model, target.release, variant.unwrap_or_default())
    };
    let all: Vec<String> = targets.iter().map(one).collect();
    if all.is_empty() { "nothing: a stop stops where it is".to_owned() } else { all.join(" and ") }
}

/// A gate in one line.
fn gate(gate: &Gate) -> String {
    let mut parts = vec![format!("{} answers", gate.min_reports)];
    match gate.max_failed {
        0 => parts.push("stops at the 1st failure".to_owned()),
        u32::MAX => {}
        most => parts.push(format!("stops above {most} failures")),
    }
    parts.push(format!("success >= {} %", f64::from(gate.success_ppm) / 1e4));
    for one in &gate.compare {
        let way = if one.worse == Worse::Up { "higher" } else { "lower" };
        let optional = if one.optional { ", if told" } else { "" };
        let effect = f64::from(one.min_effect_ppm) / 1e4;
        parts.push(format!("{} not {effect} % {way} than the hold-out{optional}", one.metric));
    }
    if gate.alpha_ppm > 0 {
        parts.push(format!("wrong alarms {} %", f64::from(gate.alpha_ppm) / 1e4));
    }
    parts.push(format!("at most {} silent after {}", gate.max_unknown, span(gate.patience_s)));
    parts.push(span(gate.soak_s));
    if gate.then == Then::Wait {
        parts.push("then waits for a person".to_owned());
    }
    parts.join("; ")
}

/// A plan as named lines, in a fixed order: what people read, and what two plans are compared by.
fn lines(plan: &Plan) -> Vec<(String, String)> {
    let line = |name: &str, text: String| (name.to_owned(), text);
    let mut lines = vec![line("what", targets(&plan.what)), line("to", plan.group.clone())];
    lines.push(line("back to", targets(&plan.revert)));
    if !plan.canary.is_empty() {
        let names: Vec<&str> = plan.canary.iter().map(NodeId::as_str).collect();
        lines.push(line("canary", names.join(", ")));
    }
    for (at, wave) in plan.waves.iter().enumerate() {
        lines.push(line(
            &format!("wave {}", at + 1),
            format!("{} of nodes, ring ..{}", percent(wave.to), wave.to),
        ));
        lines.push(line(&format!("wave {} gate", at + 1), gate(&wave.gate)));
    }
    for one in &plan.budget {
        lines.push(line("budget", format!("at most {} away for each {}", one.max_unavailable, one.by)));
    }
    if plan.rate.nodes_per_min > 0 {
        lines.push(line("rate", format!("{} nodes a minute", plan.rate.nodes_per_min)));
    }
    if plan.rate.bytes_per_s > 0 {
        lines.push(line("bytes", format!("{} a second", plan.rate.bytes_per_s)));
    }
    if let Some(when) = &plan.when {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days = when.days.iter().filter_map(|day| DAYS.get(usize::from(*day).checked_sub(1)?).copied());
        let days: Vec<&str> = days.collect();
        let at = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let by = when.by_ms.map(|by| format!(", from {} at any time", format_utc(by))).unwrap_or_default();
        lines.push(line(
            "when",
            format!("{} {} to {}{by}", days.join(" "), at(when.from_min), at(when.to_min)),
        ));
    }
    if plan.lane == Lane::Emergency {
        lines.push(line("lane", "emergency: others wait for it".to_owned()));
    }
    let stop =
        if plan.revert_on_stop && !plan.revert.is_empty() { "all go back" } else { "a person is asked" };
    lines.push(line("at a stop", stop.to_owned()));
    if plan.approvals > 0 {
        lines.push(line("approvals", format!("{} beside {}", plan.approvals, plan.created_by)));
    }
    if plan.allow_rollback {
        lines.push(line("rollback", "allowed: nodes with newer releases go to this one".to_owned()));
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

/// What is another in the second plan, line by line; empty if they say the same.
pub fn diff(old: &Plan, new: &Plan) -> String {
    use std::fmt::Write as _;
    let (old, new) = (lines(old), lines(new));
    let mut text = String::new();
    for (name, line) in old.iter().filter(|line| !new.contains(line)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- {name}: {line}");
        for (_, line) in new.iter().filter(|(other, _)| other == name) {
            let _ = writeln!(text, "+ {name}: {line}");
        }
    }
    for (name, line) in new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name)) {
        let _ = writeln!(text, "+ {name}: {line}");
    }
    text
}
