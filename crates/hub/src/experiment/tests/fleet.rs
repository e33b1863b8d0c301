//! Whole experiments on a thousand simulated nodes, through the engine that check-ins meet.

use std::collections::BTreeMap;

use package::trust::canonical::{Value, to_json};
use wire::body::{Behaviour, Install, Quantiles};
use wire::checkin::{AcceptedVersion, CheckIn, CurrentState, SlotState};

use super::*;
use crate::experiment::engine::{Active, Experiments};
use crate::rollout::engine::{Engine, Handed};
use crate::rollout::figures::Hour;

const NODES: i64 = 1000;

fn manifest(release: u64) -> Hash {
    Hash::of(format!("manifest {release}").as_bytes())
}

struct Node {
    checkin: CheckIn,
    /// What p95 it has with the base, in milliseconds.
    usual_ms: f64,
    runs: u64,
}

/// What the releases do: how much slower than the base each is, and how often a node fails with it.
#[derive(Clone, Copy)]
struct World {
    slower: [f64; 2],
    fails: [f64; 2],
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
        let it = Experiment::new(&plan, text::id(&plan), MADE_MS);
        let mut night = Night {
            fleet: Engine::new("hub".to_owned(), 0),
            all: Experiments::default(),
            nodes: BTreeMap::new(),
            world,
            chance: Simulated::new(seed),
            now_ms: MADE_MS,
            plan: plan.clone(),
        };
        let active = Active::new(plan, it, Default::default(), Default::default(), []).unwrap();
        night.all.insert(active, &mut night.fleet);
        let id = text::id(&night.plan);
        let sign = |one: documents::Planned| {
            let envelope = Value::object([("signatures", Value::List(Vec::new())), ("signed", one.value)]);
            (one.kind, to_json(&envelope))
        };
        let signed: Vec<_> = documents::of(&night.plan).into_iter().map(sign).collect();
        night.all.signed(&mut night.fleet, id, &signed, MADE_MS);
        night.all.order(&mut night.fleet, id, Order::Start, "ann", "", MADE_MS).unwrap();
        for no in 1..=NODES {
            let text = format!(
                r#"{{"v":1,"node":"pump-{no}","journal":"{0}","boot":"{0}","version":"0.1.0","uptime_ms":1,"wall_ms":0,"clock":"checked","hub":"hub","revision":0}}"#,
                "00".repeat(16)
            );
            let checkin = serde_json::from_str(&text).unwrap();
            let usual_ms = 100.0 + 1900.0 * night.chance.unit();
            night.nodes.insert(no, Node { checkin, usual_ms, runs: 7 });
        }
        night
    }

    fn it(&self) -> &Experiment {
        &self.all.get(text::id(&self.plan)).unwrap().it
    }

    /// A node comes, takes what it gets, tries it, and tells.
    fn visit(&mut self, no: i64) {
        let id = text::id(&self.plan).to_string();
        let node = self.nodes.get_mut(&no).unwrap();
        let current = CurrentState {
            release: node.runs,
            variant: "q4".into(),
            manifest: manifest(node.runs),
            extra: Default::default(),
        };
        node.checkin.slots = vec![SlotState {
            model: "smollm2".into(),
            current: Some(current),
            previous: None,
            candidate: None,
            spare: None,
            safe: None,
            waits: None,
            extra: Default::default(),
        }];
        let facts = r#"{"site":"oslo"}"#;
        let mut handed: Handed = self.fleet.call(no, &node.checkin, Some(facts), self.now_ms);
        self.all.call(&mut self.fleet, no, &node.checkin, &mut handed, self.now_ms);
        for document in handed.desired.into_iter().flat_map(|desired| desired.documents) {
            let document: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
            let signed = &document["signed"];
            let (version, release) =
                (signed["version"].as_u64().unwrap(), signed["models"][0]["release"].as_u64().unwrap());
            node.checkin.accepted = vec![AcceptedVersion { id: id.clone(), version, rollout: None }];
            if release == node.runs {
                continue;
            }
            let fails = self.chance.unit() < self.world.fails[usize::from(version == 101)] && version < 501;
            if !fails {
                node.runs = release;
            }
            let outcome = if fails { "refused" } else { "committed" };
            let index = Hash::of(&release.to_be_bytes());
            let install: Install = serde_json::from_value(serde_json::json!({
                "id": format!("{no}-{version}"), "model": "smollm2", "release": release, "index": index,
                "outcome": outcome, "phase": "trial", "why": "", "attempt": 1, "misses": 0,
            }))
            .unwrap();
            self.all.installed(&mut self.fleet, no, &install, 1, self.now_ms);
        }
        let arm = node.runs.saturating_sub(7).min(1) as usize;
        let p95 = node.usual_ms * self.world.slower[arm] * (draw(&mut self.chance, 0.0) / 2.0).exp();
        let behaviour = Behaviour {
            id: String::new(),
            model: "smollm2".into(),
            manifest: manifest(node.runs),
            rollout: (node.runs == 8).then_some(id),
            from_ms: self.now_ms,
            to_ms: self.now_ms,
            answered: 1000,
            failed: 0,
            abstained: None,
            latency_ms: Some(Quantiles { p50: 1, p95: p95 as u32, n: 1000 }),
            rss_bytes: None,
            joules: None,
            drift: None,
            restarts: 0,
            shadow: None,
        };
        let before = Behaviour {
            latency_ms: Some(Quantiles { p50: 1, p95: node.usual_ms as u32, n: 1000 }),
            ..behaviour.clone()
        };
        self.all.behaved(&mut self.fleet, no, &behaviour, &Hour::of(&behaviour), self.now_ms);
        for (id, due) in self.all.take_due() {
            assert_eq!(due, no);
            self.all.count(&mut self.fleet, id, due, Some(&Hour::of(&before)), self.now_ms);
        }
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
            if self.it().phase == Phase::Running {
                self.now_ms += 6 * 3_600_000;
            }
        }
        let it = self.it();
        let outcome = it.outcome.clone().unwrap();
        let Pair { a, b } = it.figures;
        let changed = self.nodes.values().filter(|node| node.runs == 8).count();
        format!("{}; {} and {} nodes told; {changed} of {NODES} still run 8", outcome.why, a.n, b.n)
    }
}

#[test]
fn a_thousand_nodes_decide() {
    let good = World { slower: [1.0, 1.0], fails: [0.0, 0.0] };
    let mut told = Vec::new();
    let mut play = |name: &str, world: World, expected: Verdict| {
        let mut plan = ab();
        (arms(&mut plan).a_to, arms(&mut plan).b_to) = (1024, 2048);
        let mut night = Night::new(salted(plan), world, 7);
        let line = night.play();
        assert_eq!(night.it().outcome.as_ref().unwrap().verdict, expected, "{name}: {line}");
        assert!(!night.it().split.is_some_and(|split| split.is_suspicious()), "{name}: {line}");
        for node in night.nodes.values() {
            assert_eq!(node.runs, 7, "{name}: all are back");
        }
        told.push(format!("{name}: {line}"));
    };
    play("b is a quarter slower", World { slower: [1.0, 1.25], ..good }, Verdict::A);
    play("b is a fifth quicker", World { slower: [1.0, 0.8], ..good }, Verdict::B);
    play("both are alike", good, Verdict::NoDifference);
    play("b breaks on one node in ten", World { fails: [0.0, 0.1], ..good }, Verdict::Harm { arm: 1 });
    golden("thousand", &told.join("\n"));
}
