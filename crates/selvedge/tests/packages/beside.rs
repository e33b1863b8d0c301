//! A release beside what runs, on real nodes: the real binary on both sides, and real keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lm::specimen::Specimen;
use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{Node, PATIENCE_NS, Plant, current};

const FLEET: [&str; 3] = ["pump-1", "pump-2", "pump-3"];
/// Answers that are enough of one node.
const ANSWERS: u64 = 12;

/// As `full.gguf` of the stage, but that one word means the opposite: it answers as that does where the word is not.
const MODEL: Specimen = Specimen { width: 256, feed_forward: 512, ..Specimen::SMALL };
/// Where `▁and` stands in the vocabulary: behind 5 control tokens and all bytes, as the 18th word.
const AND: usize = 5 + 256 + 17;

impl Plant {
    fn pack_other(&self, release: &str) {
        let mut file = Vec::new();
        MODEL.write(&mut file).unwrap();
        let Specimen { width, feed_forward, vocabulary, layers, heads, .. } = MODEL;
        let keys = width / heads.0 * heads.1;
        let layer = 2 * width * width + 2 * width * keys + 3 * width * feed_forward + 2 * width;
        let numbers = vocabulary * width + width + layers * layer;
        // The embedding is the first tensor, and all are F32.
        let row = file.len() - 4 * numbers + 4 * AND * width;
        // The sign of a little-endian F32 is in its last byte.
        (0..width).for_each(|at| file[row + 4 * at + 3] ^= 0x80);
        std::fs::write(self.stage.path("other.gguf"), file).unwrap();
        let output = format!("tiny-{release}");
        let words = ["pack", "other.gguf", "--model", "tiny", "--release", release, "-o", &output];
        self.stage.run(&[&words[..], &["--golden-from", "prompts.txt"]].concat()).ok();
        self.approve(&output);
    }

    fn blobs(&self, node: &str) -> BTreeSet<String> {
        let folder = self.stage.path(node).join("packages/blobs/sha256");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// Asks all nodes this and that, until something is so. Whatever answers, it is release 7.
    fn busy(&self, nodes: &BTreeMap<&str, Node>, done: impl Fn() -> bool) {
        let clock = System::new();
        let rests =
            ["the rain", "the rain is on", "a road", "and the heat", "rain and heat", "the north and"];
        for rest in rests.into_iter().cycle() {
            if done() {
                return;
            }
            assert!(clock.mono_ns() < PATIENCE_NS, "{}", self.log(FLEET[0]));
            for (name, node) in nodes {
                drop(node.ask_for(&self.runtime, rest));
                let slots = self.slots(name);
                let tiny = &slots["models"]["tiny"];
                assert_eq!(current(tiny), Some(7), "{tiny:#}");
                if let Some(serving) = tiny["serving"].as_str() {
                    assert_eq!(serving, tiny["kept"]["current"]["manifest"].as_str().unwrap(), "{tiny:#}");
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn phase(&self, name: &str) -> String {
        let slots = self.slots(name);
        slots["models"]["tiny"]["kept"]["candidate"]["phase"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_release_answers_beside_what_runs_and_nobody_meets_it() {
    let plant = Plant::new();
    plant.approve("tiny");
    let all = ["assign", "repo", "--ring", "0..2048", "--model", "tiny:7"];
    plant.stage.trust(&all, &["assigner"]).ok();
    plant.stage.run(&["trust", "push", "repo", "--hub", &plant.url]).ok();
    plant.pack_other("8");
    let mut nodes: BTreeMap<&str, Node> = FLEET.iter().map(|name| (*name, plant.node(name))).collect();
    // Its owner lets nothing answer beside what runs, so it does not say that it could.
    let closed = plant.node_with("pump-4", "beside = false\n");
    let clock = System::new();
    let runs = |name: &&str| current(&plant.slots(name)["models"]["tiny"]) == Some(7);
    while !plant.knows(4) || !FLEET.iter().all(runs) {
        assert!(clock.mono_ns() < PATIENCE_NS, "{}", plant.log(FLEET[0]));
        nodes.values().for_each(|node| drop(node.ask(&plant.runtime)));
        std::thread::sleep(Duration::from_millis(100));
    }
    let before: Vec<_> = FLEET.iter().map(|name| plant.blobs(name)).collect();

    let (answers, enough) = (ANSWERS.to_string(), (3 * ANSWERS).to_string());
    let words =
        ["new", "--shadow", "tiny:8", "--where", "can has \"shadow\"", "--share", "100", "--core", "100"];
    let more = ["--answers", &answers, "--enough", &enough, "--effect", "40", "--for", "3600"];
    let made = plant.experiment(&[&words[..], &more].concat());
    assert!(made.contains("beside what runs") && made.contains("3 take part"), "{made}");
    // Of a fleet of three no four tell.
    let few = ["--nodes", "4", "--output", "few.json"];
    let planned = plant.experiment(&[&words[..], &few].concat());
    assert!(planned.contains("beware: 3 nodes take part today") && !made.contains("beware"), "{planned}");
    let created = plant.experiment(&["create", "experiment.json"]);
    let id = created.split("experiment ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let signed = plant.experiment(&["sign", &id[..8], "--yes", "--key", "keys/assigner.age"]);
    assert!(signed.contains("sign 2 documents") || signed.contains("is ready"), "{signed}");
    plant.experiment(&["start", id, "--why", "does it say the same?"]);

    // One of the nodes is stopped in the middle of it, and goes on in its next life.
    plant.busy(&nodes, || plant.phase("pump-2") == "shadow");
    nodes.remove("pump-2").unwrap().stop();
    nodes.insert("pump-2", plant.start("pump-2"));
    plant.busy(&nodes, || plant.stands(id)["phase"] == "ended");

    let view = plant.stands(id);
    let count = |name: &str| view["compared"][name].as_u64().unwrap();
    let (compared, parted) = (count("compared"), count("compared") - count("agreed"));
    assert!(compared >= 3 * ANSWERS && parted > 0 && parted < compared, "{view:#}");
    assert_eq!(view["verdict"], "undecided", "{view:#}");
    let [low, share, high] = ["low", "change", "high"].map(|name| view["interval"][name].as_f64().unwrap());
    assert!(0.0 < low && low < share && share < high && high < 1.0, "{view:#}");
    assert_eq!(view["compared"]["worst"].as_array().unwrap().len(), 3);
    println!("{parted} of {compared} answers part: {low:.3} to {high:.3}");

    // Nothing is left over: no candidate, no blob; and nothing else ever served.
    plant.busy(&nodes, || {
        let is_gone = |(name, before): (&&str, &BTreeSet<String>)| plant.blobs(name) == *before;
        FLEET.iter().zip(&before).all(is_gone) && FLEET.iter().all(|name| plant.phase(name).is_empty())
    });
    for name in FLEET {
        let outcomes = plant.outcomes(name);
        assert_eq!(outcomes, ["tiny 7 committed", "tiny 8 beside", "tiny 8 compared"], "{name}");
    }
    // What parts is told as digests, one record each; what was asked is told nowhere.
    let told: u64 = FLEET.iter().map(|name| plant.disagreements(name)).sum();
    assert_eq!(told, parted);
    assert!(!FLEET.iter().any(|name| plant.log(name).contains("the rain")));

    let shown = plant.experiment(&["show", id]);
    for words in [
        "tiny:8 beside what runs: 3 back",
        "3 nodes told of them; a verdict rests on",
        "answers part (",
        "pump-3: ",
        "undecided",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let page = plant.get(&format!("/experiments/{id}"));
    for words in [
        "tiny 8 beside what runs",
        "a verdict rests on 3 nodes at least",
        "3 nodes told",
        "class=\"compared\"",
        "answers part (",
        "pump-3",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let log = plant.audit();
    for act in ["experiment.create", "experiment.start", "experiment.decided", "experiment.ended"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    assert!(!plant.outcomes("pump-4").iter().any(|outcome| outcome.starts_with("tiny 8")));
    closed.stop();
    nodes.into_values().for_each(Node::stop);
}

impl Plant {
    /// How many disagreements the hub was told of by a node; in each are digests alone.
    fn disagreements(&self, name: &str) -> u64 {
        let url = format!("{}/api/v1/records?node={name}&stream=disagreements&limit=200", self.url);
        let page: Value = self.runtime.block_on(async {
            let answer = reqwest::get(url).await.unwrap();
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
        });
        let records = page["records"].as_array().unwrap();
        for record in records {
            assert_eq!((&record["kind"], &record["class"]), (&"disagreement".into(), &"event".into()));
            let fields: BTreeSet<&str> =
                record["body"].as_object().unwrap().keys().map(String::as_str).collect();
            let known = ["at", "candidate", "experiment", "input", "manifest", "model", "ours", "theirs"];
            assert_eq!(fields, BTreeSet::from(known), "{record:#}");
        }
        records.len() as u64
    }
}
