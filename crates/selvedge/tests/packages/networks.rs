//! A network as a release: packed with its recipe and golden set, rolled out, proven, asked by a flow, and sent back by it.

use net::specimen::{Size, constant, model, node, value};
use serde_json::Value;

use crate::plant::{Plant, current};

const FLOW: &str = r#"
[source.line]
type = "exec"
command = ["sh", "-c", "while sleep 0.02; do echo 1,2; done"]
payload = "columns"
channels = ["a", "b"]

[model.sum]
type = "network"
inputs = ["source.line"]
release = "sum"

[rule.high]
inputs = ["model.sum"]
when = "sum.total > 10"
"#;

const RECIPE: &str = "[[answers]]\nas = \"numbers\"\noutput = \"y\"\nnames = [\"total\"]\n";

/// `y = x w`.
fn weighing(weights: &[f32]) -> Vec<u8> {
    let wide = weights.len() as u64;
    let parts = [node("MatMul", &["x", "w"], &["y"], &[]), constant("w", &[wide, 1], weights)];
    let port = |name, wide| value(name, 1, &[Size::Is(1), Size::Is(wide)]);
    model(&parts, &[port("x", wide)], &[port("y", 1)])
}

struct Nets(Plant);

impl Nets {
    /// A release goes to the hub, approved and assigned, with a golden set of its own if none is named.
    fn release(&self, release: &str, weights: &[f32], golden: &[&str]) {
        let Plant { stage, url, .. } = &self.0;
        let file = format!("sum-{release}.onnx");
        std::fs::write(stage.path(&file), weighing(weights)).unwrap();
        let package = format!("sum-{release}");
        let words =
            ["pack", &file, "--model", "sum", "--release", release, "--recipe", "sum.toml", "-o", &package];
        stage.run(&[&words[..], golden].concat()).ok();
        stage.run(&["push", &package, "hub:sum", "--hub", url]).ok();
        stage.trust(&["add", "repo", &package], &["targets", "snapshot", "timestamp"]).ok();
        let model = format!("sum:{release}");
        stage.trust(&["assign", "repo", "--node", "pump-1", "--model", &model], &["assigner"]).ok();
        stage.run(&["trust", "push", "repo", "--hub", url]).ok();
    }

    /// The decisions that the hub knows, the newest first, as state and the network's release.
    fn decisions(&self) -> Vec<String> {
        let told = self.0.records("pump-1", "decisions").into_iter().map(|body| {
            let variant = body["model"]["variant"].as_str().unwrap_or("no network").to_owned();
            format!("{} {}", body["state"].as_str().unwrap(), variant.rsplit(' ').next().unwrap())
        });
        told.collect()
    }
}

fn refusal(slots: &Value, release: u64) -> Option<String> {
    let refused = slots["kept"]["refused"].as_array()?;
    let of_release = |it: &&Value| it["why"].as_str().is_some() && refused.len() as u64 >= release;
    Some(refused.iter().rev().find(of_release)?["why"].as_str()?.to_owned())
}

#[test]
fn a_network_comes_as_a_release_and_goes_back_when_the_flow_cannot_use_it() {
    let plant = Plant::new();
    let stage = &plant.stage;
    stage.write("sum.toml", RECIPE);
    stage.write(
        "inputs.jsonl",
        "{\"x\": {\"shape\": [1, 2], \"f32\": [0.5, 2]}}\n{\"x\": {\"shape\": [1, 2], \"f32\": [-3, 1]}}\n",
    );
    let own = ["--golden-from", "inputs.jsonl"];
    let nets = Nets(plant);
    let plant = &nets.0;
    nets.release("1", &[1.0, 1.0], &own);
    let shown = plant.stage.run(&["inspect", "sum-1"]).ok();
    assert!(shown.contains("net") && shown.contains("golden"), "{shown}");

    let mut node = plant.node_without_server("pump-1", "", FLOW);
    let until = |node: &mut _, done: &dyn Fn(&Value) -> bool| plant.until_of("sum", "pump-1", node, done);
    until(&mut node, &|slots| current(slots) == Some(1));
    let checked = plant.stage.run(&["flow", "check", "--config", "pump-1.toml"]).ok();
    assert!(checked.contains("B, measured"), "{checked}");
    let shown = plant.stage.run(&["slots", "--config", "pump-1.toml"]).ok();
    assert!(shown.contains(", takes "), "{shown}");

    // The next one says more, and the rule fires by it.
    nets.release("2", &[10.0, 10.0], &own);
    until(&mut node, &|slots| current(slots) == Some(2));
    plant.wait(|| nets.decisions().first().is_some_and(|newest| newest == "firing release=2"));

    // One that does not answer as its maker's did is never asked by the flow.
    plant.stage.run(&["export", "sum-2", "--files", "plain"]).ok();
    let golden = std::fs::read_to_string(plant.stage.path("plain/f32/golden.json")).unwrap();
    let other = golden.replace("25.0", "26.0");
    assert_ne!(golden, other, "{golden}");
    plant.stage.write("other.json", &other);
    let refused =
        ["pack", "sum-2.onnx", "--model", "sum", "--release", "3", "-o", "x", "--golden", "other.json"];
    let wrong = plant.stage.run(&refused);
    assert!(wrong.code == Some(1) && wrong.err.contains("does not give the golden answers"), "{}", wrong.err);
    let strict = golden.replace(r#""budget":{}"#, r#""budget":{"rss_bytes":4096}"#);
    assert_ne!(golden, strict);
    plant.stage.write("strict.json", &strict);
    nets.release("3", &[10.0, 10.0], &["--golden", "strict.json"]);
    let slots = until(&mut node, &|slots| refusal(slots, 1).is_some());
    assert!(refusal(&slots, 1).unwrap().contains("bytes of memory"), "{slots:#}");
    assert_eq!(current(&slots), Some(2));

    // One that is whole and proven, and takes three channels where there are two: the flow says so, and the one before goes on.
    nets.release("4", &[1.0, 1.0, 1.0], &[]);
    let slots = until(&mut node, &|slots| refusal(slots, 2).is_some());
    assert!(refusal(&slots, 2).unwrap().contains("takes 3 numbers"), "{slots:#}");
    assert_eq!(current(&slots), Some(2));
    assert!(nets.decisions().iter().all(|said| said != "cleared release=4"), "{:?}", nets.decisions());

    // A person takes the first one back, and the rule clears.
    plant.stage.run(&["rollback", "sum", "--config", "pump-1.toml"]).ok();
    plant.wait(|| nets.decisions().first().is_some_and(|newest| newest == "cleared release=1"));
    let expected =
        ["sum 1 committed", "sum 2 committed", "sum 2 rolled_back", "sum 3 refused", "sum 4 refused"];
    plant.wait(|| plant.outcomes("pump-1") == expected);

    // A language model has nowhere to answer here.
    plant.release("7", "tiny");
    let slots = plant.until_of("tiny", "pump-1", &mut node, |slots| !slots["kept"]["unfit"].is_null());
    assert!(slots["kept"]["unfit"][1].as_str().unwrap().contains("is of the kind lm"), "{slots:#}");
    node.stop();
}
