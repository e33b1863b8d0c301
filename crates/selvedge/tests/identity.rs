//! A node's identity from end to end: a real hub and a real node, each with a clock of its own that the test sets.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::server::Hub;
use node::agent;
use node::config::Config;
use node::identity::enrol::{Comer, EnrolError, Way, enrol};
use node::identity::files::Files;
use node::judged::Judged;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wire::facts::Facts;
use wire::id::NodeId;
use wire::identity::Code;
use wire::world::{Clock, Entropy, MonoNs, System, WallMs};

const HOUR_MS: i64 = 3_600_000;

/// This machine's world with a wall clock that somebody sets.
#[derive(Clone)]
struct Skewed {
    system: System,
    ahead_ms: Arc<AtomicI64>,
}

impl Skewed {
    fn new() -> Skewed {
        Skewed { system: System::new(), ahead_ms: Arc::new(AtomicI64::new(0)) }
    }

    fn set(&self, ms: WallMs) {
        self.ahead_ms.store(ms - self.system.wall_ms(), Relaxed);
    }

    fn pass(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Relaxed);
    }
}

impl Clock for Skewed {
    fn wall_ms(&self) -> WallMs {
        self.system.wall_ms() + self.ahead_ms.load(Relaxed)
    }

    fn mono_ns(&self) -> MonoNs {
        self.system.mono_ns()
    }
}

impl Entropy for Skewed {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.system.fill(bytes);
    }
}

/// A hub whose nodes' certificates count for a day, and a node beside it.
struct Stand {
    runtime: Runtime,
    folder: tempfile::TempDir,
    hub: Option<hub::server::Running>,
    nodes: SocketAddr,
    hub_world: Skewed,
    node_world: Skewed,
    check_in_ms: u64,
}

impl Stand {
    fn new() -> Stand {
        Stand::asked_every(200)
    }

    fn asked_every(check_in_ms: u64) -> Stand {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let mut stand = Stand {
            runtime: runtime.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            hub: None,
            nodes: "127.0.0.1:0".parse().unwrap(),
            hub_world: Skewed::new(),
            node_world: Skewed::new(),
            check_in_ms,
        };
        stand.start_hub();
        stand
    }

    fn start_hub(&mut self) {
        let mut config = HubConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: self.folder.path().join("hub"),
            check_in_ms: self.check_in_ms,
            ..HubConfig::default()
        };
        config.identity.node_days = 1;
        config.nodes = Some(NodesConfig { listen: self.nodes, names: Vec::new(), connections_max: 64 });
        let hub = self.runtime.block_on(Hub::start(config, self.hub_world.clone())).unwrap();
        self.nodes = hub.nodes_addr.unwrap();
        self.hub = Some(hub);
    }

    fn stop_hub(&mut self) {
        self.runtime.block_on(self.hub.take().unwrap().stop());
    }

    fn nodes_url(&self) -> String {
        format!("https://{}", self.nodes)
    }

    /// Asks the hub as its first admin.
    fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let token = std::fs::read_to_string(self.folder.path().join("hub/first-admin.token")).unwrap();
        let url = format!("{}{path}", self.hub.as_ref().unwrap().url());
        self.runtime.block_on(async {
            let request = reqwest::Client::new().request(method, url).bearer_auth(token.trim());
            let request = match body {
                Some(body) => request.header("content-type", "application/json").body(body.to_string()),
                None => request,
            };
            let text = request.send().await.unwrap().text().await.unwrap();
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        })
    }

    fn node_file(&self) -> PathBuf {
        self.node_file_with("")
    }

    /// `more`: further lines of `[hub]`.
    fn node_file_with(&self, more: &str) -> PathBuf {
        let folder = self.folder.path().join("node");
        std::fs::create_dir_all(&folder).unwrap();
        let url = self.nodes_url();
        let node = format!("[node]\nname = \"pump-7\"\ndata = \"data\"\n\n[hub]\nurl = \"{url}\"\n{more}");
        let flow = "[source.pump]\ntype = \"simulated\"\nseed = 1\nrate_hz = 5.0\nhistory = \"2m\"\n\n\
             [rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.temperature_c > -40.0\"\n";
        std::fs::write(folder.join("flow.toml"), flow).unwrap();
        std::fs::write(folder.join("node.toml"), node).unwrap();
        folder.join("node.toml")
    }

    fn config(&self) -> Config {
        Config::load(&self.node_file()).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("node/data")
    }

    fn enrol(&self, data: &Path, code: &str) -> Result<(), EnrolError> {
        let code = Code::parse(code).unwrap();
        let name = NodeId::new("pump-7").unwrap();
        let mut world = self.node_world.clone();
        let judged = Judged::new(world.clone(), 0);
        let (files, url, facts) = (Files::of(data), self.nodes_url(), Facts::default());
        let comer = Comer { files: &files, url: &url, name: &name, facts: &facts, judged, via: None };
        let way = Way::Code(code);
        let done = enrol(&comer, &way, &mut world, |_| ());
        self.runtime.block_on(done).map(|_| ())
    }

    fn start_node(&self) -> agent::Running {
        agent::start(self.config(), self.node_world.clone()).unwrap()
    }

    /// Waits until the node has checked in at this hub's time or later.
    fn await_check_in(&self, node: &agent::Running, what: &str) {
        let since_ms = self.hub_world.wall_ms();
        self.until(node, what, |stand| {
            let row = stand.ask(reqwest::Method::GET, "/api/v1/nodes/pump-7", None);
            row["last_seen_ms"].as_i64().is_some_and(|at_ms| at_ms >= since_ms)
        });
    }

    fn until(&self, node: &agent::Running, what: &str, holds: impl Fn(&Stand) -> bool) {
        let began_ns = self.node_world.mono_ns();
        while !holds(self) {
            let trouble = node.status().uplink.and_then(|uplink| uplink.trouble);
            let row = self.ask(reqwest::Method::GET, "/api/v1/nodes/pump-7", None);
            let waited_ns = self.node_world.mono_ns() - began_ns;
            assert!(waited_ns < 90_000_000_000, "{what}: trouble {trouble:?}, {row}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn keys(&self) -> usize {
        let keys = self.ask(reqwest::Method::GET, "/api/v1/keys?node=pump-7", None);
        keys.as_array().unwrap().len()
    }
}

#[test]
fn a_node_lives_with_its_certificate() {
    let mut stand = Stand::new();
    // Not in yet: it says so, and does not start without what its settings promise.
    let error = agent::start(stand.config(), stand.node_world.clone()).err().unwrap().to_string();
    assert!(error.contains("selvedge node enrol"), "{error}");

    let made = stand.ask(reqwest::Method::POST, "/api/v1/enrolments", Some(json!({ "name": "pump-7" })));
    let code = made["code"].as_str().unwrap();
    // Another hub's code does not open this one: the node sees that before it says anything.
    let mut other = Skewed::new();
    let elsewhere = Code::draw(&mut other, false, b"another authority").to_string();
    assert!(matches!(stand.enrol(&stand.data(), &elsewhere), Err(EnrolError::Call(_))));
    // A device fresh out of its box, in 1970.
    stand.node_world.set(0);
    stand.enrol(&stand.data(), code).unwrap();
    stand.node_world.set(stand.hub_world.wall_ms());
    assert!(matches!(stand.enrol(&stand.data(), code), Err(EnrolError::Already { .. })));
    let thief = stand.folder.path().join("thief");
    assert!(matches!(stand.enrol(&thief, code), Err(EnrolError::Call(_))), "a code counts once");

    let node = stand.start_node();
    stand.await_check_in(&node, "the first check-in");
    stand.until(&node, "records", |stand| {
        let records = stand.ask(reqwest::Method::GET, "/api/v1/records?node=pump-7", None);
        records["records"].as_array().is_some_and(|records| !records.is_empty())
    });
    node.stop().unwrap();
    assert_eq!(stand.keys(), 1);

    // Later than two thirds of its life: it has another key soon.
    stand.hub_world.pass(17 * HOUR_MS);
    stand.node_world.pass(17 * HOUR_MS);
    let node = stand.start_node();
    stand.until(&node, "renewal", |stand| stand.keys() == 2);
    stand.await_check_in(&node, "after renewal");
    node.stop().unwrap();

    // Off for a month: the certificate has run out, and the node comes back by itself.
    stand.hub_world.pass(30 * 24 * HOUR_MS);
    stand.node_world.pass(30 * 24 * HOUR_MS);
    let node = stand.start_node();
    stand.await_check_in(&node, "after a month");
    assert_eq!(stand.keys(), 3);
    node.stop().unwrap();

    // A hub with a certificate made a day later, and a node whose battery is empty: it believes to be in 1970.
    stand.stop_hub();
    stand.hub_world.pass(12 * HOUR_MS);
    stand.start_hub();
    stand.node_world.set(0);
    let node = stand.start_node();
    stand.await_check_in(&node, "from 1970");
    node.stop().unwrap();

    // And one that believes to be in 2099.
    stand.node_world.set(4_070_908_800_000);
    let node = stand.start_node();
    stand.await_check_in(&node, "from 2099");

    // Denied: the hub hears nothing of it any more, and it works on.
    let denied =
        stand.ask(reqwest::Method::POST, "/api/v1/denied", Some(json!({ "node": "pump-7", "why": "lost" })));
    assert_eq!(denied["keys"].as_u64(), Some(stand.keys() as u64));
    stand.until(&node, "trouble", |_| {
        node.status().uplink.and_then(|uplink| uplink.trouble).is_some_and(|why| why.contains("denied"))
    });
    let readings =
        |node: &agent::Running| node.status().sources.iter().map(|source| source.readings).sum::<u64>();
    let before = readings(&node);
    stand.until(&node, "readings go on", |_| readings(&node) > before);
    node.stop().unwrap();
    stand.stop_hub();
}

#[test]
fn a_node_that_waits_for_news_comes_at_once() {
    // Nobody comes by itself while this test has patience: what comes was called.
    let stand = Stand::asked_every(3_600_000);
    let made = stand.ask(reqwest::Method::POST, "/api/v1/enrolments", Some(json!({ "name": "pump-7" })));
    stand.enrol(&stand.data(), made["code"].as_str().unwrap()).unwrap();
    let node = stand.start_node();
    let metric = |name: &str| {
        let text = stand.ask(reqwest::Method::GET, "/metrics", None).as_str().unwrap().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or(0.0_f64)
    };
    stand.until(&node, "the held call", |_| metric("hub_waits_held") > 0.0);
    for (line, word) in ["2", "3"].into_iter().zip(["once", "and once more"]) {
        let before = metric("hub_checkins_total");
        let labels = json!({ "set": { "line": line } });
        stand.ask(reqwest::Method::PUT, "/api/v1/nodes/pump-7/labels", Some(labels));
        stand.until(&node, word, |_| metric("hub_checkins_total") > before);
        stand.until(&node, "it waits again", |_| metric("hub_waits_held") > 0.0);
    }
    // A call that is cut loses nothing: the node's next check-in tells what there is.
    node.stop().unwrap();
    let mut stand = stand;
    stand.stop_hub();
}

#[test]
fn a_node_comes_in_by_itself_when_somebody_admits_it() {
    let mut stand = Stand::new();
    let made = stand.ask(
        reqwest::Method::POST,
        "/api/v1/enrolments",
        Some(json!({ "uses": 5, "pattern": "pump-*", "labels": { "site": "oslo" } })),
    );
    let file = stand.node_file_with("code_file = \"code\"\n");
    let code = file.with_file_name("code");
    let start = |stand: &Stand| agent::start(Config::load(&file).unwrap(), stand.node_world.clone());
    let error = start(&stand).err().unwrap();
    assert!(error.to_string().contains("code"), "{error}");
    std::fs::write(&code, made["code"].as_str().unwrap()).unwrap();

    // The hub is away when the device is switched on: what it does without one, it does.
    stand.stop_hub();
    let node = start(&stand).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let readings = node.status().sources.iter().map(|source| source.readings).sum::<u64>();
    assert!(readings > 0, "it works before it is in");
    stand.start_hub();
    let waiting = || stand.ask(reqwest::Method::GET, "/api/v1/tickets", None);
    let began_ns = stand.node_world.mono_ns();
    while waiting().as_array().is_none_or(Vec::is_empty) {
        assert!(stand.node_world.mono_ns() - began_ns < 60_000_000_000, "it asks to come in");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(code.exists(), "not in yet");
    let waiting = waiting();
    assert_eq!((&waiting[0]["node"], &waiting[0]["facts"]["os"]), (&json!("pump-7"), &json!("linux")));
    let admit = format!("/api/v1/tickets/{}/admit", waiting[0]["id"].as_str().unwrap());
    stand.ask(reqwest::Method::POST, &admit, Some(json!({})));
    stand.await_check_in(&node, "the first check-in");
    stand.until(&node, "a code that was used is nobody's any more", |_| !code.exists());
    stand.until(&node, "labels", |stand| {
        let facts = stand.ask(reqwest::Method::GET, "/api/v1/nodes/pump-7/facts", None);
        facts["facts"]["label.site"] == "oslo"
    });
    node.stop().unwrap();

    // From then on it starts without, and shows the key that was admitted.
    let node = start(&stand).unwrap();
    stand.await_check_in(&node, "another start");
    assert_eq!(stand.keys(), 1);
    let keys = stand.ask(reqwest::Method::GET, "/api/v1/keys?node=pump-7", None);
    assert_eq!(keys[0]["id"], waiting[0]["key"]);
    node.stop().unwrap();
    stand.stop_hub();
}
