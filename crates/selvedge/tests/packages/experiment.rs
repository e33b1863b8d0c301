//! Two releases beside each other on real nodes: the real binary on both sides, and real keys.

use std::collections::BTreeMap;
use std::time::Duration;

use lm::specimen::Specimen;
use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{Node, PATIENCE_NS, Plant, current};

const FLEET: [&str; 4] = ["pump-1", "pump-2", "pump-3", "pump-4"];

impl Plant {
    pub(crate) fn experiment(&self, words: &[&str]) -> String {
        self.stage.run(&[&["experiment"], words, &["--hub", &self.url]].concat()).ok()
    }

    pub(crate) fn stands(&self, id: &str) -> Value {
        serde_json::from_str(&self.experiment(&["show", id, "--json"])).unwrap()
    }

    /// Asks all nodes' models until the experiment is as it shall be.
    fn look(&self, id: &str, nodes: &BTreeMap<&str, Node>, done: impl Fn(&Value) -> bool) -> Value {
        let clock = System::new();
        loop {
            let view = self.stands(id);
            if done(&view) {
                return view;
            }
            assert!(clock.mono_ns() < PATIENCE_NS, "{view:#}\n{}", self.log(FLEET[0]));
            nodes.values().for_each(|node| drop(node.ask(&self.runtime)));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn releases(&self) -> Vec<Option<u64>> {
        FLEET.iter().map(|name| current(&self.slots(name)["models"]["tiny"])).collect()
    }
}

#[test]
fn two_releases_run_beside_each_other_and_all_go_back() {
    let plant = Plant::new();
    plant.approve("tiny");
    let all = ["assign", "repo", "--ring", "0..2048", "--model", "tiny:7"];
    plant.stage.trust(&all, &["assigner"]).ok();
    plant.stage.run(&["trust", "push", "repo", "--hub", &plant.url]).ok();
    plant.pack_next("8", None);
    plant.approve("tiny-8");
    // A model that takes more memory, by construction.
    let model = Specimen { width: 512, feed_forward: 2048, seed: 9, ..Specimen::SMALL };
    model.write(&mut std::fs::File::create(plant.stage.path("wide.gguf")).unwrap()).unwrap();
    let words = ["pack", "wide.gguf", "--model", "tiny", "--release", "9", "-o", "tiny-9"];
    plant.stage.run(&[&words[..], &["--golden-from", "prompts.txt"]].concat()).ok();
    plant.approve("tiny-9");
    let nodes: BTreeMap<&str, Node> = FLEET.iter().map(|name| (*name, plant.node(name))).collect();
    let clock = System::new();
    while !plant.knows(4) || plant.releases().iter().any(|release| *release != Some(7)) {
        assert!(clock.mono_ns() < PATIENCE_NS, "{:?}\n{}", plant.releases(), plant.log(FLEET[0]));
        nodes.values().for_each(|node| drop(node.ask(&plant.runtime)));
        std::thread::sleep(Duration::from_millis(100));
    }

    // The lot is another for each plan: one that draws two nodes into either arm.
    let drawn = (0..64).any(|note| {
        let note = format!("draw {note}");
        let words = ["new", "tiny:8", "tiny:9", "--where", "all", "--metric", "rss_bytes", "--answers", "1"];
        let more = ["--against", "others", "--base", "tiny:7", "--for", "3600", "--note", &note, "--json"];
        let made: Value = serde_json::from_str(&plant.experiment(&[&words[..], &more].concat())).unwrap();
        assert_eq!(made["problems"], Value::Array(Vec::new()));
        made["arms"] == serde_json::json!([2, 2])
    });
    assert!(drawn);
    let created = plant.experiment(&["create", "experiment.json"]);
    let id = created.split("experiment ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    assert_eq!(plant.stands(id)["phase"], "draft");
    let signed = plant.experiment(&["sign", &id[..8], "--yes", "--key", "keys/assigner.age"]);
    assert!(signed.contains("is ready"), "{signed}");
    plant.experiment(&["start", id, "--why", "which takes less?"]);

    let arm = |view: &Value, at: usize, name: &str| view["arms"][at][name].clone();
    let told = plant.look(id, &nodes, |view| {
        (0..2).all(|at| arm(view, at, "members")["succeeded"] == 2 && arm(view, at, "figures") == 2)
    });
    let mut running = plant.releases();
    running.sort_unstable();
    assert_eq!(running, [Some(8), Some(8), Some(9), Some(9)]);
    let mean = |at: usize| arm(&told, at, "mean").as_f64().unwrap();
    assert!(mean(1) > mean(0), "{told:#}");
    assert_eq!(told["phase"], "running");
    assert!(told["interval"].is_null(), "four nodes say nothing: {told:#}");

    plant.experiment(&["stop", id, "--why", "seen enough"]);
    let ended = plant.look(id, &nodes, |view| view["phase"] == "ended");
    assert_eq!(ended["verdict"], "stopped");
    assert_eq!(plant.releases(), [Some(7); 4]);
    let page = plant.get(&format!("/experiments/{id}"));
    for words in ["tiny 8 or 9", "Arm a", "2 figures", "class=\"compared\"", "seen enough", "pump-3"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(plant.get("/experiments").contains(&format!("/experiments/{id}")));
    let listed = plant.experiment(&["ls"]);
    assert!(listed.contains("tiny:8 and tiny:9") && listed.contains("ended"), "{listed}");
    let log = plant.audit();
    for act in ["experiment.create", "experiment.sign", "experiment.start", "experiment.stop", "seen enough"]
    {
        assert!(log.contains(act), "{act}: {log}");
    }
    nodes.into_values().for_each(Node::stop);
}
