//! The whole way: packed, approved, pushed, assigned; a node brings it, proves it, tries it, keeps it or goes back; the hub hears.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use hub::config::HubConfig;
use hub::server::{Hub, Running};
use lm::specimen::Specimen;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wire::world::{Clock as _, System};

use crate::stage::Stage;

/// The longest that anything may take.
const PATIENCE_NS: u64 = 120_000_000_000;

/// A stage with a repository that may assign, and a hub.
struct Plant {
    stage: Stage,
    runtime: Runtime,
    hub: Option<Running>,
    url: String,
}

/// A node that runs; it is ended when it is dropped.
struct Node {
    child: Child,
    models: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plant {
    fn new() -> Plant {
        let stage = Stage::packed();
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
        let keys = ["targets", "assigner", "snapshot", "timestamp"];
        stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = HubConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: stage.path("hub"),
            check_in_ms: 200,
            ..HubConfig::default()
        };
        let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
        let url = hub.url();
        Plant { stage, runtime, hub: Some(hub), url }
    }

    /// A release goes to the hub, approved and assigned to a node.
    fn release(&self, release: &str, package: &str) {
        self.release_to("pump-1", release, package);
    }

    fn release_to(&self, node: &str, release: &str, package: &str) {
        let stage = &self.stage;
        stage.run(&["push", package, "hub:tiny", "--hub", &self.url]).ok();
        stage.trust(&["add", "repo", package], &["targets", "snapshot", "timestamp"]).ok();
        let model = format!("tiny:{release}");
        stage.trust(&["assign", "repo", "--node", node, "--model", &model], &["assigner"]).ok();
        stage.run(&["trust", "push", "repo", "--hub", &self.url]).ok();
    }

    /// Another model as the next release; its answers are its own, unless told otherwise.
    fn pack_next(&self, release: &str, golden: Option<&str>) {
        let name = format!("next-{release}.gguf");
        let model = Specimen { width: 256, feed_forward: 512, seed: 8, ..Specimen::SMALL };
        model.write(&mut std::fs::File::create(self.stage.path(&name)).unwrap()).unwrap();
        let output = format!("tiny-{release}");
        let words = ["pack", &name, "--model", "tiny", "--release", release, "-o", &output];
        let golden = golden.map_or(["--golden-from", "prompts.txt"], |golden| ["--golden", golden]);
        self.stage.run(&[&words[..], &golden].concat()).ok();
    }

    fn node(&self, name: &str) -> Node {
        self.node_with(name, "")
    }

    /// A node with these lines more in `[packages]`.
    fn node_with(&self, name: &str, packages: &str) -> Node {
        let config = format!(
            "[node]\nname = \"{name}\"\ndata = \"{name}\"\n[hub]\nurl = \"{}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n\
             [packages]\nevery = \"1h\"\ntrial = \"1s\"\ntrial_answers = 2\nkeep_free = \"1MiB\"\n{packages}\
             [trust]\nroot = \"repo/metadata/1.root.json\"\n",
            self.url
        );
        self.stage.write(&format!("{name}.toml"), &config);
        self.stage.write("flow.toml", "[source.door]\ntype = \"http\"\n");
        self.start(name)
    }

    fn start(&self, name: &str) -> Node {
        let config = format!("{name}.toml");
        let mut command = self.stage.command(&["node", "--config", &config]);
        let log = std::fs::File::create(self.stage.path(&format!("{name}.log"))).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let models = line.split("language models ").nth(1).and_then(|rest| rest.split("/v1").next());
        let models = models.unwrap_or_else(|| panic!("{line}")).to_owned();
        Node { child, models }
    }

    fn slots(&self, name: &str) -> Value {
        let config = format!("{name}.toml");
        self.stage.run(&["slots", "--config", &config, "--json"]).json()
    }

    /// Asks the node's model again and again, until its slots are as they shall be. Gives them.
    fn until(&self, name: &str, node: &mut Node, done: impl Fn(&Value) -> bool) -> Value {
        let clock = System::new();
        loop {
            let slots = self.slots(name);
            let tiny = &slots["models"]["tiny"];
            if done(tiny) {
                return tiny.clone();
            }
            assert_eq!(node.child.try_wait().unwrap(), None, "{}", self.log(name));
            assert!(clock.mono_ns() < PATIENCE_NS, "{slots:#}\n{}", self.log(name));
            if tiny["is_loaded"] == true {
                node.ask(&self.runtime);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.stage.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// The results of installations that the hub knows, as model, release and outcome.
    fn outcomes(&self, name: &str) -> Vec<String> {
        let url = format!("{}/api/v1/records?node={name}&stream=installs", self.url);
        let page: Value = self.runtime.block_on(async {
            let answer = reqwest::get(url).await.unwrap();
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
        });
        let records = page["records"].as_array().unwrap_or_else(|| panic!("{page:#}"));
        let told = records.iter().map(|record| {
            let body = &record["body"];
            format!(
                "{} {} {}",
                body["model"].as_str().unwrap(),
                body["release"],
                body["outcome"].as_str().unwrap()
            )
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        told
    }
}

impl Node {
    /// Asks the model something, if it answers now.
    fn ask(&self, runtime: &Runtime) -> Option<Value> {
        let body = json!({ "model": "tiny", "prompt": "the heat", "max_tokens": 4, "temperature": 0 });
        runtime.block_on(async {
            let request = reqwest::Client::new().post(format!("{}/v1/completions", self.models));
            let answer = request
                .header("content-type", "application/json")
                .body(body.to_string())
                .send()
                .await
                .ok()?;
            answer.status().is_success().then_some(())?;
            serde_json::from_slice(&answer.bytes().await.ok()?).ok()
        })
    }

    /// Asks it to stop, and waits until it did.
    fn stop(mut self) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
    }
}

/// SIGTERM: a stop that is asked for.
fn terminate(child: &Child) {
    let status = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

fn current(slots: &Value) -> Option<u64> {
    slots["kept"]["current"]["release"].as_u64()
}

#[test]
fn from_files_to_a_node_and_back() {
    let plant = Plant::new();
    plant.release("7", "tiny");
    let mut node = plant.node("pump-1");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(7));
    assert_eq!(slots["kept"]["current"]["variant"], "f32", "the better one, since it fits: {slots:#}");
    let first = node.ask(&plant.runtime).unwrap();

    // The hub says with a check-in that there is something new.
    plant.pack_next("8", None);
    plant.release("8", "tiny-8");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(8));
    assert_eq!(slots["kept"]["previous"]["release"], 7);
    let second = node.ask(&plant.runtime).unwrap();
    assert_ne!(first["choices"][0]["text"], second["choices"][0]["text"], "another model answers");

    // A release that does not keep its own budget goes back before anybody asks it.
    plant.stage.run(&["export", "tiny-8", "--files", "plain"]).ok();
    let golden = std::fs::read_to_string(plant.stage.path("plain/f32/golden.json")).unwrap();
    let strict = golden.replace(r#""budget":{}"#, r#""budget":{"load_ms":0.000001}"#);
    assert_ne!(golden, strict);
    plant.stage.write("strict.json", &strict);
    plant.pack_next("9", Some("strict.json"));
    plant.release("9", "tiny-9");
    let slots = plant.until("pump-1", &mut node, |slots| {
        slots["kept"]["refused"].as_array().is_some_and(|refused| !refused.is_empty())
    });
    assert_eq!((current(&slots), &slots["kept"]["candidate"]), (Some(8), &Value::Null));
    let why = slots["kept"]["refused"][0]["why"].as_str().unwrap();
    assert!(why.contains("ms"), "{why}");

    // A person takes the one before back.
    let config = ["--config", "pump-1.toml"];
    let back = plant.stage.run(&[&["rollback", "tiny"][..], &config].concat()).ok();
    assert_eq!(back, "tiny 7 serves again\n");
    let slots =
        plant.until("pump-1", &mut node, |slots| slots["is_loaded"] == true && current(slots) == Some(7));
    assert_eq!(slots["kept"]["refused"].as_array().unwrap().len(), 2);
    let clock = System::new();
    let third = loop {
        if let Some(answer) = node.ask(&plant.runtime) {
            break answer;
        }
        assert!(clock.mono_ns() < PATIENCE_NS, "{}", plant.log("pump-1"));
    };
    assert_eq!(first["choices"][0]["text"], third["choices"][0]["text"], "the first model answers again");
    let shown = plant.stage.run(&[&["slots"][..], &config].concat()).ok();
    assert!(shown.contains("current") && shown.contains("serves, here since"), "{shown}");
    plant.stage.refused(&[&["rollback", "tiny"][..], &config].concat(), "no previous release to go back to");

    let expected = ["tiny 7 committed", "tiny 8 committed", "tiny 8 rolled_back", "tiny 9 refused"];
    let clock = System::new();
    while plant.outcomes("pump-1") != expected {
        assert!(clock.mono_ns() < PATIENCE_NS, "{:?}", plant.outcomes("pump-1"));
        std::thread::sleep(Duration::from_millis(100));
    }

    // A stop that was asked for is nobody's fault, and the next life goes on with the same model.
    node.stop();
    plant.stage.refused(&[&["slots"][..], &config].concat(), "no node with packages runs on");
    let mut node = plant.start("pump-1");
    let slots = plant.until("pump-1", &mut node, |slots| slots["is_loaded"] == true);
    assert_eq!(current(&slots), Some(7));
    node.stop();
}

#[test]
fn a_release_that_answers_otherwise_is_refused_beside_the_current_one() {
    let plant = Plant::new();
    plant.release("7", "tiny");
    let mut node = plant.node_with("pump-1", "shadow = 1.0\nshadow_answers = 3\n");
    plant.until("pump-1", &mut node, |slots| current(slots) == Some(7));
    // Another model.
    plant.pack_next("8", None);
    plant.release("8", "tiny-8");
    let slots = plant.until("pump-1", &mut node, |slots| !slots["kept"]["refused"][0].is_null());
    assert_eq!((current(&slots), &slots["is_loaded"]), (Some(7), &Value::Bool(true)), "{slots:#}");
    let why = slots["kept"]["refused"][0]["why"].as_str().unwrap();
    assert_eq!(why, "0 of 3 answers were those of the current model");
    // The same model.
    plant.stage.pack("9", "tiny-9").ok();
    plant.release("9", "tiny-9");
    let slots = plant.until("pump-1", &mut node, |slots| current(slots) == Some(9));
    let told = slots["told"].as_str().unwrap();
    assert_eq!(told, "release 9: 3 of 3 answers were those of the current model");
    node.stop();
    // What was asked stands in no log.
    assert!(!plant.log("pump-1").contains("the heat"));
}

#[test]
fn from_a_stick_without_a_hub() {
    let mut plant = Plant::new();
    plant.stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
    plant.stage.run(&["export", "tiny", "--usb", "stick.tar", "--with-trust", "repo"]).ok();
    let hub = plant.hub.take().unwrap();
    plant.runtime.block_on(hub.stop());
    let mut node = plant.node("pump-2");
    let config = ["--config", "pump-2.toml"];
    plant.stage.refused(
        &[&["install", "tiny"][..], &config].concat(),
        "the trusted targets list no release of tiny",
    );
    let ordered = plant.stage.run(&[&["install", "stick.tar"][..], &config].concat()).ok();
    assert!(ordered.contains("tiny 7 is ordered\n"), "{ordered}");
    plant.until("pump-2", &mut node, |slots| current(slots) == Some(7));
    // What a stick brings is believed no more than what a hub does.
    plant.pack_next("8", None);
    plant.stage.run(&["export", "tiny-8", "--usb", "unsigned.tar"]).ok();
    plant.stage.refused(&[&["install", "unsigned.tar"][..], &config].concat(), "list no tiny 8");
    let waited = plant.stage.run(&[&["install", "tiny:7", "--wait"][..], &config].concat()).ok();
    assert!(waited.ends_with("tiny 7 serves\n"), "{waited}");
    node.stop();
}

#[test]
fn sealed_weights_run_on_the_node_that_was_let_in() {
    let plant = Plant::new();
    let stage = &plant.stage;
    stage.run(&["trust", "key", "node", "pump-3"]).ok();
    stage.run(&["trust", "key", "node", "elsewhere"]).ok();
    stage.run(&["trust", "key", "new", "seal.age", "--kind", "content", "--work", "4"]).ok();
    let words = ["pack", "full.gguf", "--model", "tiny", "--release", "7", "-o", "sealed"];
    let golden = ["--golden-from", "prompts.txt", "--seal-key", "seal.age"];
    stage.run(&[&words[..], &golden, &["--seal-to", "elsewhere/keys/node.pub.json"]].concat()).ok();
    plant.release_to("pump-3", "7", "sealed");
    let mut node = plant.node("pump-3");
    let waits = plant.until("pump-3", &mut node, |slots| {
        slots["told"].as_str().is_some_and(|told| told.contains("selvedge grant"))
    });
    assert_eq!(waits["kept"]["candidate"]["phase"], "staged", "{waits:#}");
    // Whoever packed it lets the node in; a new life looks at once.
    let hub = ["--hub", plant.url.as_str()];
    let grant = ["grant", "sealed", "--to", "pump-3/keys/node.pub.json", "--key", "seal.age", "-o", "hub:"];
    stage.run(&[&grant[..], &hub].concat()).ok();
    node.stop();
    let mut node = plant.start("pump-3");
    plant.until("pump-3", &mut node, |slots| current(slots) == Some(7));
    assert!(node.ask(&plant.runtime).is_some());
    let blobs = std::fs::read_dir(stage.path("pump-3/packages/blobs/sha256")).unwrap();
    let is_plain = |path: &std::path::Path| std::fs::read(path).unwrap().starts_with(b"GGUF");
    assert!(blobs.map(|blob| blob.unwrap().path()).all(|path| !is_plain(&path)), "nothing plain on the disk");
    node.stop();
}
