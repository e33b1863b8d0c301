//! A release goes through a fleet in waves, and a bad one stops itself: the real binary on both sides, and real keys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{Node, PATIENCE_NS, Plant, current};

const FLEET: [&str; 3] = ["pump-1", "pump-2", "pump-3"];

/// Nodes that check in once in a minute say within this what has changed: they may after five seconds.
const NEWS_NS: u64 = 30_000_000_000;

impl Plant {
    /// A release is pushed and approved, and assigned to nobody.
    pub(crate) fn approve(&self, package: &str) {
        self.stage.run(&["push", package, "hub:tiny", "--hub", &self.url]).ok();
        self.stage.trust(&["add", "repo", package], &["targets", "snapshot", "timestamp"]).ok();
        self.stage.run(&["trust", "push", "repo", "--hub", &self.url]).ok();
    }

    fn rollout(&self, words: &[&str]) -> String {
        self.stage.run(&[&["rollout"], words, &["--hub", &self.url]].concat()).ok()
    }

    /// Plans, creates, signs and starts a rollout of a release to all. Gives its id.
    fn roll_out(&self, release: &str, more: &[&str]) -> String {
        let planned = self.rollout(&[&["new", release, "--where", "all", "--soak", "0"], more].concat());
        assert!(planned.contains("3 of 3 nodes"), "{planned}");
        let created = self.rollout(&["create", "plan.json"]);
        let id = created
            .split("rollout ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap()
            .to_owned();
        assert_eq!(self.show(&id)["phase"], "draft");
        let signed = self.rollout(&["sign", &id[..8], "--yes", "--key", "keys/assigner.age"]);
        assert!(signed.contains("is ready"), "{signed}");
        let started = self.rollout(&["start", &id, "--why", "tested on the bench"]);
        assert!(started.contains("is running"), "{started}");
        id
    }

    fn show(&self, id: &str) -> Value {
        let text = self.rollout(&["show", id, "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["rollout"].clone()
    }

    /// Asks all nodes' models until the rollout is as it shall be.
    fn watch(&self, id: &str, nodes: &mut BTreeMap<&str, Node>, done: impl Fn(&Value) -> bool) -> Value {
        let clock = System::new();
        loop {
            let view = self.show(id);
            if done(&view) {
                return view;
            }
            assert!(clock.mono_ns() < PATIENCE_NS, "{view:#}\n{}", self.log(FLEET[0]));
            for (name, node) in &mut *nodes {
                assert_eq!(node.child.try_wait().unwrap(), None, "{}", self.log(name));
                node.ask(&self.runtime);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many nodes run this release.
    fn running(&self, release: u64) -> usize {
        FLEET.iter().filter(|name| current(&self.slots(name)["models"]["tiny"]) == Some(release)).count()
    }
}

#[test]
fn a_good_release_reaches_all_and_a_bad_one_stops_at_the_first() {
    // A step that waited for a check-in that nobody called for would take a minute.
    let plant = Plant::asked_every(60_000);
    plant.approve("tiny");
    let mut nodes: BTreeMap<&str, Node> = FLEET.iter().map(|name| (*name, plant.node(name))).collect();
    let clock = System::new();
    while plant.rollout(&["ls"]).is_empty() || !plant.knows(3) {
        assert!(clock.mono_ns() < PATIENCE_NS);
        std::thread::sleep(Duration::from_millis(100));
    }

    let id = plant.roll_out("tiny:7", &["--no-revert"]);
    // Three nodes prove little: a person looks at the first before the others change.
    let held = plant.watch(&id, &mut nodes, |view| view["phase"] == "held");
    assert_eq!((held["members"]["succeeded"].as_u64(), plant.running(7)), (Some(1), 1), "{held:#}");
    plant.rollout(&["resume", &id]);
    let done = plant.watch(&id, &mut nodes, |view| view["phase"] == "done");
    assert_eq!((done["members"]["succeeded"].as_u64(), plant.running(7)), (Some(3), 3), "{done:#}");

    // A release that does not keep its own budget: the first node refuses it, and no other is offered it.
    plant.stage.run(&["export", "tiny", "--files", "plain"]).ok();
    let golden = std::fs::read_to_string(plant.stage.path("plain/f32/golden.json")).unwrap();
    let strict = golden.replace(r#""budget":{}"#, r#""budget":{"load_ms":0.000001}"#);
    assert_ne!(golden, strict);
    plant.stage.write("strict.json", &strict);
    plant
        .stage
        .run(&[
            "pack",
            "full.gguf",
            "--model",
            "tiny",
            "--release",
            "8",
            "-o",
            "tiny-8",
            "--golden",
            "strict.json",
        ])
        .ok();
    plant.approve("tiny-8");
    // What the nodes run by now they say by themselves, long before the minute is over: so the way back need not be said.
    let told = clock.mono_ns();
    while !FLEET.iter().all(|name| plant.knows_release(name) == Some(7)) {
        assert!(clock.mono_ns() - told < NEWS_NS, "{}", plant.get("/api/v1/nodes/pump-1"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let bad = plant.roll_out("tiny:8", &[]);
    let stopped = plant.watch(&bad, &mut nodes, |view| view["phase"] == "reverted");
    assert_eq!(
        stopped["members"]["failed"].as_u64().unwrap_or(0) + stopped["members"]["back"].as_u64().unwrap_or(0),
        1,
        "{stopped:#}"
    );
    assert_eq!((plant.running(7), plant.running(8)), (3, 0));
    assert_eq!(
        FLEET
            .iter()
            .map(|name| plant.outcomes(name))
            .filter(|told| told.iter().any(|it| it == "tiny 8 refused"))
            .count(),
        1
    );

    // Everything that was done stands in the log, with who and why.
    let log = plant.audit();
    for act in ["rollout.create", "rollout.sign", "rollout.start"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    assert!(log.contains("tested on the bench"), "{log}");
    nodes.into_values().for_each(Node::stop);
}

impl Plant {
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("{}{path}", self.url);
        self.runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
    }

    /// Whether so many nodes have checked in.
    pub(crate) fn knows(&self, nodes: usize) -> bool {
        let page: Value = serde_json::from_str(&self.get("/api/v1/nodes")).unwrap();
        page["nodes"].as_array().is_some_and(|all| all.len() == nodes)
    }

    /// The release that a node runs, as far as the hub knows.
    fn knows_release(&self, node: &str) -> Option<u64> {
        let told: Value = serde_json::from_str(&self.get(&format!("/api/v1/nodes/{node}"))).unwrap();
        told["releases"]["tiny"].as_u64()
    }

    pub(crate) fn audit(&self) -> String {
        self.get("/api/v1/audit?limit=200")
    }
}
