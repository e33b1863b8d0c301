//! A stage with a repository, a hub, and nodes: real processes, told what to do only by what is signed.

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
pub(crate) const PATIENCE_NS: u64 = 120_000_000_000;

/// A stage with a repository that may assign, and a hub.
pub(crate) struct Plant {
    pub(crate) stage: Stage,
    pub(crate) runtime: Runtime,
    pub(crate) hub: Option<Running>,
    pub(crate) url: String,
}

/// A node that runs; it is ended when it is dropped.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) models: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plant {
    pub(crate) fn new() -> Plant {
        Plant::asked_every(200)
    }

    /// Nodes check in at this pace, in milliseconds, unless the hub calls them.
    pub(crate) fn asked_every(check_in_ms: u64) -> Plant {
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
            check_in_ms,
            ..HubConfig::default()
        };
        let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
        let url = hub.url();
        Plant { stage, runtime, hub: Some(hub), url }
    }

    /// A release goes to the hub, approved and assigned to a node.
    pub(crate) fn release(&self, release: &str, package: &str) {
        self.release_to("pump-1", release, package);
    }

    pub(crate) fn release_to(&self, node: &str, release: &str, package: &str) {
        let stage = &self.stage;
        stage.run(&["push", package, "hub:tiny", "--hub", &self.url]).ok();
        stage.trust(&["add", "repo", package], &["targets", "snapshot", "timestamp"]).ok();
        let model = format!("tiny:{release}");
        stage.trust(&["assign", "repo", "--node", node, "--model", &model], &["assigner"]).ok();
        stage.run(&["trust", "push", "repo", "--hub", &self.url]).ok();
    }

    /// Another model as the next release; its answers are its own, unless told otherwise.
    pub(crate) fn pack_next(&self, release: &str, golden: Option<&str>) {
        let name = format!("next-{release}.gguf");
        let model = Specimen { width: 256, feed_forward: 512, seed: 8, ..Specimen::SMALL };
        model.write(&mut std::fs::File::create(self.stage.path(&name)).unwrap()).unwrap();
        let output = format!("tiny-{release}");
        let words = ["pack", &name, "--model", "tiny", "--release", release, "-o", &output];
        let golden = golden.map_or(["--golden-from", "prompts.txt"], |golden| ["--golden", golden]);
        self.stage.run(&[&words[..], &golden].concat()).ok();
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.node_with(name, "")
    }

    /// A node with these lines more in `[packages]`.
    pub(crate) fn node_with(&self, name: &str, packages: &str) -> Node {
        self.node_of(name, packages, "[source.door]\ntype = \"http\"\n")
    }

    /// The same with this flow.
    pub(crate) fn node_of(&self, name: &str, packages: &str, flow: &str) -> Node {
        self.write_node(name, packages, flow);
        self.start(name)
    }

    /// The same, in which no language model can answer.
    pub(crate) fn node_without_server(&self, name: &str, packages: &str, flow: &str) -> Node {
        self.write_node(name, packages, flow);
        let config = std::fs::read_to_string(self.stage.path(&format!("{name}.toml"))).unwrap();
        let (before, after) = config.split_once("[serve]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        self.stage.write(&format!("{name}.toml"), &format!("{before}{after}"));
        self.start(name)
    }

    /// The settings of one, with this flow.
    pub(crate) fn write_node(&self, name: &str, packages: &str, flow: &str) {
        let config = format!(
            "[node]\nname = \"{name}\"\ndata = \"{name}\"\n[hub]\nurl = \"{}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n\
             [packages]\nevery = \"1h\"\ntrial = \"1s\"\ntrial_answers = 2\nkeep_free = \"1MiB\"\n{packages}\
             [trust]\nroot = \"repo/metadata/1.root.json\"\n",
            self.url
        );
        self.stage.write(&format!("{name}.toml"), &config);
        self.stage.write("flow.toml", flow);
    }

    pub(crate) fn start(&self, name: &str) -> Node {
        self.start_with(name, &[])
    }

    /// Starts it with these words more.
    pub(crate) fn start_with(&self, name: &str, more: &[&str]) -> Node {
        let config = format!("{name}.toml");
        let mut command = self.stage.command(&[&["node", "--config", &config][..], more].concat());
        let log = std::fs::File::create(self.stage.path(&format!("{name}.log"))).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let models = line.split("language models ").nth(1).and_then(|rest| rest.split("/v1").next());
        // A node without a server says nothing of it.
        let models = models.unwrap_or_default().to_owned();
        Node { child, models }
    }

    pub(crate) fn slots(&self, name: &str) -> Value {
        let config = format!("{name}.toml");
        self.stage.run(&["slots", "--config", &config, "--json"]).json()
    }

    /// Asks the node's model again and again, until its slots are as they shall be. Gives them.
    pub(crate) fn until(&self, name: &str, node: &mut Node, done: impl Fn(&Value) -> bool) -> Value {
        self.until_of("tiny", name, node, done)
    }

    /// The same of a model with this name; only `tiny` is asked.
    pub(crate) fn until_of(
        &self,
        model: &str,
        name: &str,
        node: &mut Node,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let clock = System::new();
        loop {
            let slots = self.slots(name);
            let its = &slots["models"][model];
            if done(its) {
                return its.clone();
            }
            assert_eq!(node.child.try_wait().unwrap(), None, "{}", self.log(name));
            assert!(clock.mono_ns() < PATIENCE_NS, "{slots:#}\n{}", self.log(name));
            if model == "tiny" && its["is_loaded"] == true {
                node.ask(&self.runtime);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.stage.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until something is as it shall be.
    #[track_caller]
    pub(crate) fn wait(&self, done: impl Fn() -> bool) {
        let clock = System::new();
        while !done() {
            assert!(clock.mono_ns() < PATIENCE_NS, "{}", self.log("pump-1"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The bodies of a stream's records that the hub has, the newest first.
    pub(crate) fn records(&self, name: &str, stream: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/records?node={name}&stream={stream}", self.url);
        let page: Value = self.runtime.block_on(async {
            let answer = reqwest::get(url).await.unwrap();
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
        });
        let records = page["records"].as_array().unwrap_or_else(|| panic!("{page:#}"));
        records.iter().map(|record| record["body"].clone()).collect()
    }

    /// The results of installations that the hub knows, as model, release and outcome.
    pub(crate) fn outcomes(&self, name: &str) -> Vec<String> {
        let told = self.records(name, "installs").into_iter().map(|body| {
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
    pub(crate) fn ask(&self, runtime: &Runtime) -> Option<Value> {
        self.ask_for(runtime, "the heat")
    }

    /// The same, in these words.
    pub(crate) fn ask_for(&self, runtime: &Runtime, prompt: &str) -> Option<Value> {
        let body = json!({ "model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0 });
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
    pub(crate) fn stop(mut self) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
    }
}

/// SIGTERM: a stop that is asked for.
pub(crate) fn terminate(child: &Child) {
    let status = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

pub(crate) fn current(slots: &Value) -> Option<u64> {
    slots["kept"]["current"]["release"].as_u64()
}
