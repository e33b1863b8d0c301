//! A release beside what runs on a thousand simulated nodes, through the engine that check-ins meet.

use std::collections::BTreeMap;

use package::trust::canonical::{Value, to_json};
use wire::body::{Behaviour, Install, Shadow as Told};
use wire::checkin::{AcceptedVersion, CandidateState, CheckIn, CurrentState, SlotState};

use super::*;
use crate::experiment::engine::{Active, Experiments};
use crate::rollout::engine::{Engine, Handed};
use crate::rollout::figures::Hour;

const NODES: i64 = 1000;

/// What the release does beside what runs.
#[derive(Clone, Copy)]
struct World {
    /// On these shares of nodes answers part with these chances.
    parts: [(f64, f64); 2],
    /// On this share of nodes it breaks.
    breaks: f64,
}

struct Node {
    checkin: CheckIn,
    chance: f64,
    is_beside: bool,
    compared: u64,
    ends: bool,
}

struct Night {
    fleet: Engine,
    all: Experiments,
    nodes: BTreeMap<i64, Node>,
    plan: Plan,
    world: World,
    chance: Simulated,
    now_ms: WallMs,
}

impl Night {
    fn new(plan: Plan, world: World, seed: u64) -> Night {
        let mut fleet = Engine::new("hub".to_owned(), 0);
        let (mut all, mut chance) = (Experiments::default(), Simulated::new(seed));
        let id = text::id(&plan);
        let it = Experiment::new(&plan, id, MADE_MS);
        all.insert(
            Active::new(plan.clone(), it, Default::default(), Default::default(), []).unwrap(),
            &mut fleet,
        );
        let sign = |one: documents::Planned| {
            let envelope = Value::object([("signatures", Value::List(Vec::new())), ("signed", one.value)]);
            (one.kind, to_json(&envelope))
        };
        let signed: Vec<_> = documents::of(&plan).into_iter().map(sign).collect();
        all.signed(&mut fleet, id, &signed, MADE_MS);
        all.order(&mut fleet, id, Order::Start, "ann", "", MADE_MS).unwrap();
        let node = |no: i64| {
            let text = format!(
                r#"{{"v":1,"node":"pump-{no}","journal":"{0}","boot":"{0}","version":"0.1.0","uptime_ms":1,"wall_ms":0,"clock":"checked","hub":"hub","revision":0}}"#,
                "00".repeat(16)
            );
            let [(first, low), (_, high)] = world.parts;
            let chance = if chance.unit() < first { low } else { high };
            let checkin = serde_json::from_str(&text).unwrap();
            (no, Node { checkin, chance, is_beside: false, compared: 0, ends: false })
        };
        let nodes = (1..=NODES).map(node).collect();
        Night { fleet, all, nodes, plan, world, chance, now_ms: MADE_MS }
    }

    fn it(&self) -> &Experiment {
        &self.all.get(text::id(&self.plan)).unwrap().it
    }

    fn installed(&mut self, no: i64, outcome: &str) {
        let install: Install = serde_json::from_value(serde_json::json!({
            "id": format!("{no}-{outcome}"), "model": "smollm2", "release": 8,
            "index": Hash::of(&8u64.to_be_bytes()), "outcome": outcome, "phase": "shadow", "why": "",
            "attempt": 1, "misses": 0, "rollout": text::id(&self.plan).to_string(),
        }))
        .unwrap();
        self.all.installed(&mut self.fleet, no, &install, 1, self.now_ms);
    }

    /// A node comes, does as it is told, and tells what it compared in ten minutes.
    fn visit(&mut self, no: i64) {
        let id = text::id(&self.plan).to_string();
        let node = self.nodes.get_mut(&no).unwrap();
        let extra = serde_json::Map::new;
        let current =
            CurrentState { release: 7, variant: "q4".into(), manifest: Hash::of(b"7"), extra: extra() };
        let candidate = node.is_beside.then(|| CandidateState {
            release: 8,
            phase: "shadow".into(),
            misses: 0,
            extra: extra(),
        });
        let (model, current) = ("smollm2".into(), Some(current));
        let (previous, safe, waits) = (None, None, None);
        node.checkin.slots =
            vec![SlotState { model, current, previous, candidate, spare: None, safe, waits, extra: extra() }];
        // One in ten is of a version that does not know the word.
        let facts = if no % 10 == 0 { r#"{"site":"oslo"}"# } else { r#"{"site":"oslo","can":["shadow"]}"# };
        let mut handed: Handed = self.fleet.call(no, &node.checkin, Some(facts), self.now_ms);
        self.all.call(&mut self.fleet, no, &node.checkin, &mut handed, self.now_ms);
        for document in handed.desired.into_iter().flat_map(|desired| desired.documents) {
            let document: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
            let version = document["signed"]["version"].as_u64().unwrap();
            assert!(no % 10 > 0, "an old node is offered nothing");
            let node = self.nodes.get_mut(&no).unwrap();
            node.checkin.accepted = vec![AcceptedVersion { id: id.clone(), version, rollout: None }];
            if version == 501 {
                assert_eq!(document["signed"]["models"], serde_json::json!([]));
                node.is_beside = false;
            } else if self.chance.unit() < self.world.breaks {
                self.installed(no, "refused");
            } else {
                node.is_beside = true;
                self.installed(no, "beside");
            }
        }
        let node = self.nodes.get_mut(&no).unwrap();
        if !node.is_beside || node.ends {
            return;
        }
        let compared = 25.min(500 - node.compared);
        let agreed = (0..compared).filter(|_| self.chance.unit() >= node.chance).count() as u64;
        node.compared += compared;
        node.ends = node.compared == 500;
        node.is_beside = !node.ends;
        let shadow = Told { compared, agreed, skipped: 3, experiment: Some(id), ..Told::default() };
        let behaviour: Behaviour = serde_json::from_value(serde_json::json!({
            "id": format!("{no}-{}", node.compared), "model": "smollm2", "manifest": Hash::of(b"7"),
            "from_ms": self.now_ms, "to_ms": self.now_ms, "answered": 250, "failed": 0, "shadow": shadow,
        }))
        .unwrap();
        self.all.behaved(&mut self.fleet, no, &behaviour, &Hour::of(&behaviour), self.now_ms);
    }

    /// All nodes come, again and again, until it is over.
    fn play(&mut self) -> String {
        while self.it().phase != Phase::Ended {
            for no in 1..=NODES {
                self.now_ms += 600;
                self.visit(no);
            }
            self.all.tick(&mut self.fleet, self.now_ms);
            assert!(self.now_ms < MADE_MS + 40 * 86_400_000);
        }
        let it = self.it();
        let left = self.nodes.values().filter(|node| node.is_beside).count();
        let (nodes, why) = (it.shadow.nodes, &it.outcome.as_ref().unwrap().why);
        format!("{why}; {} answers of {nodes} nodes; {left} still have it", it.shadow.all.compared)
    }
}

#[test]
fn a_thousand_nodes_watch() {
    let mut told = Vec::new();
    let mut play = |name: &str, parts, breaks, expected: Verdict| {
        let mut night = Night::new(beside(), World { parts, breaks }, 7);
        let line = night.play();
        assert_eq!(night.it().outcome.as_ref().unwrap().verdict, expected, "{name}: {line}");
        assert!(night.nodes.values().all(|node| !node.is_beside), "{name}: {line}");
        told.push(format!("{name}: {line}"));
    };
    play("it parts in one of a hundred", [(1.0, 0.01), (0.0, 0.0)], 0.0, Verdict::Agrees);
    play("in a fifth on one node in ten", [(0.9, 0.01), (0.1, 0.2)], 0.0, Verdict::Agrees);
    play("in a quarter everywhere", [(1.0, 0.25), (0.0, 0.0)], 0.0, Verdict::Parts);
    play("as often as it may", [(1.0, 0.05), (0.0, 0.0)], 0.0, Verdict::Undecided);
    play("it breaks on every other node", [(1.0, 0.01), (0.0, 0.0)], 0.5, Verdict::Harmful);
    golden("shadow-thousand", &told.join("\n"));
}
