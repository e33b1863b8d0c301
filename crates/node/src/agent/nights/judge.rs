//! Holds what an onlooker saw against what the plant did, and every outage against what the journal says: by the definition of
//! [docs/healing.md](../../../../docs/healing.md), and by nothing that the node computes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use wire::id::{BootId, JournalId, StreamName};

use super::plant::{CHANNELS, Plant};
use super::stand::RULES;
use crate::journal::reader::Reader;

/// What an onlooker sees of the rules in one second: what each says, and when it was last judged by its own clock.
pub(super) struct Seen {
    pub(super) at_s: u64,
    pub(super) rules: [Option<(bool, i64)>; 3],
}

/// The first minute is the node's first start.
const BEGIN_S: u64 = 60;

/// What is known of one rule.
#[derive(Debug, Default, Clone)]
struct Course {
    /// What it says.
    says: bool,
    judged_ms: Option<i64>,
    judged_s: u64,
    /// Seconds that counted, and those in which only one answer was right.
    seconds: u64,
    telling: u64,
    /// Seconds without a decision: from and until.
    outages: Vec<(u64, u64)>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Judge {
    rules: [Course; 3],
}

impl Judge {
    /// Takes a second.
    pub(super) fn see(&mut self, plant: &Plant, seen: &Seen) {
        for ((course, rule), (_, channel, reaction_s)) in self.rules.iter_mut().zip(seen.rules).zip(RULES) {
            if let Some((says, judged_ms)) = rule {
                course.says = says;
                if course.judged_ms.replace(judged_ms) != Some(judged_ms) {
                    course.judged_s = seen.at_s;
                }
            }
            if seen.at_s < BEGIN_S {
                continue;
            }
            let bad = plant.bad_seconds(channel, seen.at_s - reaction_s, seen.at_s + 1);
            // What the plant did at some moment not longer ago than the reaction time.
            let (fires, is_quiet) = (bad > 0, bad < reaction_s + 1);
            let is_right = if course.says { fires } else { is_quiet };
            let is_alive = seen.at_s - course.judged_s <= reaction_s;
            course.seconds += 1;
            course.telling += u64::from(!fires || !is_quiet);
            if !(is_right && is_alive) {
                match course.outages.last_mut() {
                    Some((_, until_s)) if *until_s == seen.at_s => *until_s += 1,
                    _ => course.outages.push((seen.at_s, seen.at_s + 1)),
                }
            }
        }
    }

    /// The share of seconds with a decision, of the worst rule.
    pub(super) fn availability(&self) -> f64 {
        let share = |course: &Course| {
            let out: u64 = course.outages.iter().map(|(from_s, until_s)| until_s - from_s).sum();
            1.0 - out as f64 / course.seconds as f64
        };
        self.rules.iter().map(share).fold(1.0, f64::min)
    }

    /// How many seconds were looked at, of all rules, and the share in which only one answer was right.
    pub(super) fn looked(&self) -> (u64, f64) {
        let seconds: u64 = self.rules.iter().map(|course| course.seconds).sum();
        let telling: u64 = self.rules.iter().map(|course| course.telling).sum();
        (seconds, telling as f64 / seconds as f64)
    }

    /// All outages: the rule, from, until.
    pub(super) fn outages(&self) -> Vec<(&'static str, u64, u64)> {
        let named = self.rules.iter().zip(RULES);
        named
            .flat_map(|(course, (name, ..))| {
                course.outages.iter().map(move |(from, until)| (name, *from, *until))
            })
            .collect()
    }

    /// Outages, or parts of them, that no record explains.
    pub(super) fn unexplained(&self, tail: &Tail) -> Vec<String> {
        let mut found = Vec::new();
        for (course, (name, channel, reaction_s)) in self.rules.iter().zip(RULES) {
            let told = tail.explanations(name, channel, reaction_s);
            for (from_s, until_s) in &course.outages {
                let dark: Vec<u64> = (*from_s..*until_s)
                    .filter(|at_s| !told.iter().any(|(from, until)| (*from..=*until).contains(at_s)))
                    .collect();
                if let (Some(first), Some(last)) = (dark.first(), dark.last()) {
                    found.push(format!(
                        "{name}: no decision from {from_s} to {until_s}, and nothing says why from {first} to {last}"
                    ));
                }
            }
        }
        found
    }
}

/// A record, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) at_s: u64,
    pub(super) kind: String,
    pub(super) body: Value,
}

/// The records of all lives, read now and then as a hub would.
#[derive(Debug, Default)]
pub(super) struct Tail {
    read: BTreeMap<(JournalId, &'static str), u64>,
    pub(super) told: Vec<Told>,
}

impl Tail {
    /// Reads on.
    pub(super) fn read(&mut self, data: &Path, boots: &BTreeMap<BootId, u64>) {
        // One that was just damaged is set aside when the node next writes.
        let Ok(reader) = Reader::open(data) else { return };
        let Ok(journal) = reader.journal() else { return };
        for name in ["audit", "events", "decisions"] {
            let after = self.read.entry((journal, name)).or_default();
            let stream = StreamName::new(name).unwrap();
            while let Ok(records) = reader.records(&stream, *after, 500) {
                let Some((last, _)) = records.last() else { break };
                *after = last.seq;
                for (record, _) in records {
                    let at_s =
                        boots.get(&record.boot).map_or(0, |base_s| base_s + record.mono_ns / 1_000_000_000);
                    let body = serde_json::from_str(record.body.get()).unwrap();
                    self.told.push(Told { at_s, kind: record.kind.as_str().to_owned(), body });
                }
            }
        }
    }

    /// Notes when a life that ended wrote last.
    pub(super) fn last_words(&mut self, data: &Path, boots: &BTreeMap<BootId, u64>) {
        let Ok(reader) = Reader::open(data) else { return };
        for source in super::day::SOURCES {
            let stream = StreamName::new(&format!("readings.{source}")).unwrap();
            for (record, _) in reader.latest(&stream, 1).unwrap_or_default() {
                let at_s = boots[&record.boot] + record.mono_ns / 1_000_000_000;
                self.told.push(Told { at_s, kind: "readings".to_owned(), body: Value::Null });
            }
        }
    }

    /// The same without what rules say of themselves.
    pub(super) fn silenced(mut self) -> Tail {
        self.told.retain(|told| !told.body["part"].as_str().is_some_and(|part| part.starts_with("rule.")));
        self
    }

    /// From when to when the records say that a rule has no decision, or may have a wrong one.
    fn explanations(&self, rule: &str, channel: usize, reaction_s: u64) -> Vec<(u64, u64)> {
        let mut told: Vec<&Told> = self.told.iter().collect();
        told.sort_by_key(|told| told.at_s);
        let mut spans = Vec::new();
        let part = format!("rule.{rule}");
        let sensor = format!(".{}", CHANNELS[channel]);
        let mut unable: Option<u64> = None;
        let mut faulty: BTreeMap<String, u64> = BTreeMap::new();
        let mut before_s = 0;
        for told in told {
            let text = |key: &str| told.body[key].as_str().unwrap_or_default();
            match told.kind.as_str() {
                "start" if told.at_s > 0 => {
                    // Between the last word of the life before and the first of this one nobody decides.
                    spans.push((before_s, told.at_s + 60));
                    spans.extend(unable.take().map(|from_s| (from_s, told.at_s)));
                }
                "part" if text("part") == part && text("state") == "unable" => {
                    let words = text("reason").strip_prefix("not judged for ").unwrap_or_default();
                    let silent_s: u64 = words.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    // It must be said before the reaction time is over.
                    if silent_s <= reaction_s {
                        unable = Some(told.at_s - silent_s);
                    }
                }
                "part" if text("part") == part => {
                    // What it says then may need its wait.
                    spans.extend(unable.take().map(|from_s| (from_s, told.at_s + reaction_s)));
                }
                "part" if text("part").starts_with("source.") && text("part").ends_with(&sensor) => {
                    match text("state") {
                        "faulty" => {
                            faulty.entry(text("part").to_owned()).or_insert(told.at_s);
                        }
                        // What it said before it was found out was wrong, too.
                        "well" => spans.extend(
                            faulty
                                .remove(text("part"))
                                .map(|from_s| (from_s.saturating_sub(120), told.at_s + reaction_s)),
                        ),
                        _ => {}
                    }
                }
                _ => {}
            }
            before_s = told.at_s;
        }
        spans.extend(unable.map(|from_s| (from_s, u64::MAX)));
        spans.extend(faulty.into_values().map(|from_s| (from_s.saturating_sub(120), u64::MAX)));
        spans
    }
}
