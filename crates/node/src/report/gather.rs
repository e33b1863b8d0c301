//! The records of a shift to its figures. Pure: whatever gives records in their order can be told of.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use wire::body::act::{Act, Outcome};
use wire::body::report::Figure;
use wire::body::{Decision, Episode, Inference, PartChange, RuleState, Summary};
use wire::world::WallMs;

use super::ReportConfig;
use super::shift::Shift;

/// The most names of a kind that are remembered; what comes above is not told.
const NAMES_MAX: usize = 1_000;

/// What was gathered of a shift.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    shift: Shift,
    /// Readings, by source.
    pub sources: BTreeMap<String, u64>,
    /// By the path of the channel.
    pub channels: BTreeMap<String, Spread>,
    /// By name.
    pub rules: BTreeMap<String, Fired>,
    /// Anomalies that began, by model.
    pub models: BTreeMap<String, u64>,
    /// By actuator, and what it was set to.
    pub actuators: BTreeMap<(String, String), Acts>,
    /// Sensors that were not believed, by path, with the first reason.
    pub faulty: BTreeMap<String, String>,
}

/// The values of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their sum, and how many they are.
    sum: f64,
    /// Readings that had a value.
    pub count: u64,
    /// Readings that had none, or none that could be believed.
    pub missing: u64,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq)]
pub struct Fired {
    /// How bad it is.
    pub severity: &'static str,
    /// How often it began to fire.
    pub times: u64,
    /// How long it fired, in all.
    pub ms: i64,
    /// Since when it fires, while it does.
    since_ms: Option<WallMs>,
    /// It still fired at the end.
    pub still: bool,
}

/// What came of what an actuator was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acts {
    /// It was set.
    pub done: u64,
    /// It would have been, but for a dry run.
    pub dry: u64,
    /// It was refused.
    pub refused: u64,
    /// The device did not take it.
    pub failed: u64,
}

impl Spread {
    /// The mean of the values that were there; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What is remembered under a name, unless there are too many.
fn at<K: Ord, V>(map: &mut BTreeMap<K, V>, name: K, new: impl FnOnce() -> V) -> Option<&mut V> {
    let has_room = map.len() < NAMES_MAX || map.contains_key(&name);
    has_room.then(|| map.entry(name).or_insert_with(new))
}

impl Gathered {
    /// Of a shift in which nothing has happened.
    pub fn new(shift: Shift) -> Gathered {
        Gathered {
            shift,
            sources: BTreeMap::new(),
            channels: BTreeMap::new(),
            rules: BTreeMap::new(),
            models: BTreeMap::new(),
            actuators: BTreeMap::new(),
            faulty: BTreeMap::new(),
        }
    }

    /// Takes a record into account. What cannot be read, as the policy may have it, is left out.
    pub fn take(&mut self, kind: &str, body: &RawValue, config: &ReportConfig) {
        let text = body.get();
        match kind {
            "summary" => {
                if let Ok(summary) = serde_json::from_str::<Summary>(text)
                    && config.tells_of(&format!("source.{}", summary.source))
                {
                    self.summary(&summary, config);
                }
            }
            "decision" => {
                if let Ok(decision) = serde_json::from_str::<Decision>(text)
                    && config.tells_of(&format!("rule.{}", decision.rule))
                {
                    self.decision(&decision);
                }
            }
            "inference" => {
                if let Ok(Inference { model, state: Episode::Begins, .. }) = serde_json::from_str(text)
                    && config.tells_of(&format!("model.{}", model.name))
                    && let Some(begun) = at(&mut self.models, model.name.to_string(), || 0)
                {
                    *begun += 1;
                }
            }
            "act" => {
                if let Ok(act) = serde_json::from_str::<Act>(text)
                    && config.tells_of(&format!("actuator.{}", act.actuator))
                {
                    self.act(&act);
                }
            }
            "part" => {
                if let Ok(PartChange { part, state, reason }) = serde_json::from_str(text)
                    && state == "faulty"
                    && config.tells_of(&part)
                {
                    at(&mut self.faulty, part, || reason);
                }
            }
            _ => {}
        }
    }

    fn summary(&mut self, summary: &Summary, config: &ReportConfig) {
        if let Some(readings) = at(&mut self.sources, summary.source.to_string(), || 0) {
            *readings += summary.count;
        }
        for channel in &summary.channels {
            let path = format!("{}.{}", summary.source, channel.channel);
            if !config.names.is_empty() && !config.names.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let none =
                || Spread { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, count: 0, missing: 0 };
            let Some(spread) = at(&mut self.channels, path, none) else { continue };
            spread.missing += channel.missing;
            let count = summary.count.saturating_sub(channel.missing);
            if count > 0 && channel.mean.is_finite() {
                spread.min = spread.min.min(channel.min);
                spread.max = spread.max.max(channel.max);
                spread.sum += channel.mean * count as f64;
                spread.count += count;
            }
        }
    }

    fn decision(&mut self, decision: &Decision) {
        let begin_ms = self.shift.from_ms;
        let severity = decision.severity.as_str();
        let none = || Fired { severity, times: 0, ms: 0, since_ms: None, still: false };
        let is_new = !self.rules.contains_key(decision.rule.as_str());
        let Some(fired) = at(&mut self.rules, decision.rule.to_string(), none) else { return };
        match decision.state {
            RuleState::Firing => {
                // One that lasts is told again.
                if fired.since_ms.is_none() {
                    fired.times += 1;
                    fired.since_ms = Some(decision.at_ms);
                }
            }
            RuleState::Cleared => {
                // Of one that fired before the shift this is the first that is heard.
                let since_ms = fired.since_ms.take().or(is_new.then_some(begin_ms));
                fired.ms += since_ms.map_or(0, |since_ms| decision.at_ms.saturating_sub(since_ms).max(0));
            }
        }
    }

    /// A decision of before the shift: a rule that fired then fires from the begin on.
    pub fn carry(&mut self, body: &RawValue, config: &ReportConfig) {
        let Ok(decision) = serde_json::from_str::<Decision>(body.get()) else { return };
        if !config.tells_of(&format!("rule.{}", decision.rule)) {
            return;
        }
        let (name, since_ms) = (decision.rule.to_string(), Some(self.shift.from_ms));
        if decision.state == RuleState::Cleared {
            self.rules.remove(&name);
            return;
        }
        let severity = decision.severity.as_str();
        at(&mut self.rules, name, || Fired { severity, times: 0, ms: 0, since_ms, still: false });
    }

    fn act(&mut self, act: &Act) {
        let Some(acts) =
            at(&mut self.actuators, (act.actuator.to_string(), act.asked.to_string()), Acts::default)
        else {
            return;
        };
        match act.outcome {
            Outcome::Done => acts.done += 1,
            Outcome::Dry => acts.dry += 1,
            Outcome::Refused => acts.refused += 1 + act.untold,
            Outcome::Failed => acts.failed += 1,
            // It gets its turn, or had it.
            Outcome::Waits | Outcome::Over => {}
        }
    }

    /// The shift is over: what still fires fired until now.
    pub fn close(&mut self) {
        for fired in self.rules.values_mut() {
            if let Some(since_ms) = fired.since_ms.take() {
                fired.ms += self.shift.to_ms.saturating_sub(since_ms).max(0);
                fired.still = true;
            }
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
            && self.rules.is_empty()
            && self.models.is_empty()
            && self.actuators.is_empty()
            && self.faulty.is_empty()
    }

    /// The shift.
    pub fn shift(&self) -> Shift {
        self.shift
    }

    /// All of it as numbers, for the record.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |of: &str, what: &str, value: f64| {
            if value.is_finite() {
                figures.push(Figure { of: of.to_owned(), what: what.to_owned(), value });
            }
        };
        for (source, readings) in &self.sources {
            add(&format!("source.{source}"), "readings", *readings as f64);
        }
        for (path, spread) in &self.channels {
            add(path, "min", spread.min);
            add(path, "max", spread.max);
            add(path, "mean", spread.mean().unwrap_or(f64::NAN));
            add(path, "missing", spread.missing as f64);
        }
        for (rule, fired) in &self.rules {
            add(&format!("rule.{rule}"), "fired", fired.times as f64);
            add(&format!("rule.{rule}"), "seconds", fired.ms as f64 / 1e3);
        }
        for (model, begun) in &self.models {
            add(&format!("model.{model}"), "anomalies", *begun as f64);
        }
        for ((actuator, to), acts) in &self.actuators {
            let of = format!("actuator.{actuator}.{to}");
            for (what, count) in
                [("done", acts.done), ("dry", acts.dry), ("refused", acts.refused), ("failed", acts.failed)]
            {
                add(&of, what, count as f64);
            }
        }
        figures
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::shift::Shifts;
    use serde_json::{Value, json};
    use wire::id::PartName;

    /// 2026-01-31 06:00 UTC.
    pub(in crate::report) const FROM: i64 = 1_769_839_200_000;

    pub(in crate::report) fn config() -> ReportConfig {
        ReportConfig {
            name: PartName::new("shift").unwrap(),
            title: "The farm".into(),
            shifts: Shifts { every_ms: 8 * 3_600_000, begins_ms: 6 * 3_600_000, offset_s: 0 },
            inputs: Vec::new(),
            names: vec![("farm.north".into(), "soil moisture in the north (%)".into())],
            writer: None,
        }
    }

    fn decision(rule: &str, state: &str, at_min: i64) -> Value {
        json!({"rule": rule, "state": state, "severity": "warning", "source": "farm", "since_ms": FROM,
            "at_ms": FROM + at_min * 60_000, "when": "x", "value": 1, "input": "0".repeat(64), "ran": "rule",
            "why": "so", "latency_us": 1})
    }

    /// What a morning brought.
    pub(in crate::report) fn morning(config: &ReportConfig) -> Gathered {
        let mut gathered = Gathered::new(config.shifts.last(FROM + 8 * 3_600_000));
        let mut take = |kind: &str, body: Value| {
            let body = RawValue::from_string(body.to_string()).unwrap();
            gathered.take(kind, &body, config);
        };
        let summary = |north: [f64; 3], missing: u64| {
            json!({"source": "farm", "from_ms": FROM, "to_ms": FROM, "count": 10, "channels": [
                {"channel": "north", "min": north[0], "mean": north[1], "max": north[2], "missing": missing},
                {"channel": "battery", "min": 3.0, "mean": 3.0, "max": 3.0},
            ]})
        };
        take("summary", summary([20.0, 24.0, 30.0], 0));
        take("summary", summary([18.5, 20.0, 22.0], 5));
        take(
            "summary",
            json!({"source": "farm", "from_ms": 0, "to_ms": 0, "count": 2, "channels": [
            {"channel": "north", "min": null, "mean": null, "max": null, "missing": 2}]}),
        );
        take("decision", decision("old", "cleared", 15));
        take("decision", decision("dry", "firing", 60));
        take("decision", decision("dry", "firing", 70));
        take("decision", decision("dry", "cleared", 90));
        take("decision", decision("dry", "firing", 420));
        let act = |outcome: &str, untold: u64| {
            json!({"actuator": "valve", "who": {"kind": "rule", "name": "dry"}, "asked": "open",
                "outcome": outcome, "why": "so", "untold": untold})
        };
        take("act", act("done", 0));
        take("act", act("waits", 0));
        take("act", act("refused", 2));
        take("part", json!({"part": "source.farm.south", "state": "faulty", "reason": "stuck at 12"}));
        take("decision", json!("no decision"));
        take("note", json!({}));
        gathered.close();
        gathered
    }

    #[test]
    fn what_a_morning_brought() {
        let gathered = morning(&config());
        assert_eq!(gathered.sources["farm"], 22);
        let north = gathered.channels["farm.north"];
        assert_eq!((north.min, north.max, north.count, north.missing), (18.5, 30.0, 15, 7));
        assert!((north.mean().unwrap() - (240.0 + 100.0) / 15.0).abs() < 1e-9);
        assert!(!gathered.channels.contains_key("farm.battery"), "it has no name for people");
        let dry = &gathered.rules["dry"];
        assert_eq!((dry.times, dry.ms, dry.still), (2, 90 * 60_000, true));
        let old = &gathered.rules["old"];
        assert_eq!((old.times, old.ms, old.still), (0, 15 * 60_000, false), "it fired from the begin on");
        assert_eq!(
            gathered.actuators[&("valve".to_owned(), "open".to_owned())],
            Acts { done: 1, refused: 3, ..Acts::default() }
        );
        assert_eq!(gathered.faulty["source.farm.south"], "stuck at 12");
        // One that has fired for days, of which nothing was said today.
        let config = config();
        let mut gathered = Gathered::new(config.shifts.last(FROM + 8 * 3_600_000));
        for (rule, state) in [("dry", "firing"), ("old", "firing"), ("old", "cleared")] {
            let body = decision(rule, state, -3_000);
            gathered.carry(&RawValue::from_string(body.to_string()).unwrap(), &config);
        }
        gathered.close();
        assert_eq!(gathered.rules.keys().collect::<Vec<_>>(), ["dry"]);
        let dry = &gathered.rules["dry"];
        assert_eq!((dry.times, dry.ms, dry.still), (0, 8 * 3_600_000, true));
        let only = ReportConfig { inputs: vec!["rule.o*".into()], ..config };
        let gathered = morning(&only);
        assert_eq!(gathered.rules.keys().collect::<Vec<_>>(), ["old"]);
        assert!(gathered.sources.is_empty() && gathered.actuators.is_empty());
    }
}
