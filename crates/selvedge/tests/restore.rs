//! A hub whose database is put back to a backup while a rollout goes on: nothing is downgraded, nobody is told anything, and once
//! a person believes the nodes it goes on where they are. The real binary on both sides.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where")]

#[allow(dead_code, reason = "it is another test's as well")]
#[path = "packages/plant.rs"]
mod plant;
#[allow(dead_code, reason = "it is another test's as well")]
#[path = "packages/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use hub::rollout::offer::place;
use hub::rollout::plan::{Gate, Plan, Then, Wave};
use hub::rollout::text;
use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{Node, PATIENCE_NS, Plant, current, terminate};
use crate::stage::Stage;

const FLEET: [&str; 3] = ["pump-1", "pump-2", "pump-3"];

/// A hub as a process of its own, and three nodes.
struct House {
    plant: Plant,
    hub: Option<Child>,
    port: u16,
    nodes: BTreeMap<&'static str, Node>,
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(hub) = &mut self.hub {
            // It may have ended already.
            let _ = hub.kill();
            let _ = hub.wait();
        }
    }
}

impl House {
    fn new() -> House {
        let stage = Stage::packed();
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
        let keys = ["targets", "assigner", "snapshot", "timestamp"];
        stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        stage.write(
            "hub.toml",
            &format!("listen = \"127.0.0.1:{port}\"\ndata = \"hub\"\ncheck_in_ms = 200\n"),
        );
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let plant = Plant { stage, runtime, hub: None, url: format!("http://127.0.0.1:{port}") };
        let mut house = House { plant, hub: None, port, nodes: BTreeMap::new() };
        house.start_hub();
        let (stage, url) = (&house.plant.stage, &house.plant.url);
        stage.run(&["push", "tiny", "hub:tiny", "--hub", url]).ok();
        stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
        stage.run(&["trust", "push", "repo", "--hub", url]).ok();
        house.nodes = FLEET.iter().map(|name| (*name, house.plant.node(name))).collect();
        house
            .until("three nodes", |house| house.get("/api/v1/nodes")["nodes"].as_array().unwrap().len() == 3);
        house
    }

    fn start_hub(&mut self) {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.plant.stage.path("hub.log"));
        let log = log.unwrap();
        let mut command = self.plant.stage.command(&["hub", "--config", "hub.toml"]);
        self.hub = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let clock = System::new();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(clock.mono_ns() < PATIENCE_NS, "{}", self.plant.log("hub"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop_hub(&mut self) {
        let mut hub = self.hub.take().unwrap();
        terminate(&hub);
        assert!(hub.wait().unwrap().success(), "{}", self.plant.log("hub"));
    }

    /// The verb with the hub's address.
    fn verb(&self, words: &[&str]) -> String {
        self.plant.stage.run(&[words, &["--hub", &self.plant.url]].concat()).ok()
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.plant.url);
        let text =
            self.plant.runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() });
        serde_json::from_str(&text).unwrap()
    }

    fn recovery(&self) -> Value {
        serde_json::from_str(&self.verb(&["hub", "adopt", "--plan", "--json"])).unwrap()
    }

    fn show(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// Asks all models again and again, until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&House) -> bool) {
        let clock = System::new();
        while !holds(self) {
            let rollouts = || self.get("/api/v1/rollouts");
            let logs = || format!("{}\n{}", self.plant.log("hub"), self.plant.log("pump-2"));
            assert!(clock.mono_ns() < PATIENCE_NS, "{what}: {:#}\n{}", rollouts(), logs());
            for (name, node) in &mut self.nodes {
                assert_eq!(node.child.try_wait().unwrap(), None, "{}", self.plant.log(name));
                node.ask(&self.plant.runtime);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Until a rollout stands there.
    fn stands(&mut self, id: &str, phase: &str, wave: u64, what: &str) -> Value {
        self.until(what, |house| {
            let view = house.show(id);
            view["phase"] == phase && view["wave"] == wave
        });
        self.show(id)
    }

    /// The nodes that run the release.
    fn running(&self) -> Vec<&'static str> {
        let runs = |name: &&&str| current(&self.plant.slots(name)["models"]["tiny"]) == Some(7);
        FLEET.iter().filter(runs).copied().collect()
    }

    /// A rollout with one node in each of three waves, behind gates that wait for a word, and nobody in the fourth.
    fn roll_out(&self) -> String {
        self.verb(&["rollout", "new", "tiny:7", "--where", "all", "--soak", "0", "--no-revert"]);
        let file = self.plant.stage.path("plan.json");
        let mut plan: Plan = text::read(&std::fs::read(&file).unwrap()).unwrap();
        let mut places = FLEET.map(|name| place(&plan, name));
        places.sort_unstable();
        assert!(
            places[0] < places[1] && places[1] < places[2] && places[2] < 2047,
            "{places:?}: luck of the draw"
        );
        let gate = |min_reports, then| Gate { min_reports, soak_s: 0, then, ..Gate::of_first_wave() };
        let rings = places.map(|place| place + 1);
        plan.waves = vec![
            Wave { to: rings[0], gate: gate(1, Then::Wait) },
            Wave { to: rings[1], gate: gate(1, Then::Continue) },
            Wave { to: rings[2], gate: gate(1, Then::Wait) },
            Wave { to: 2048, gate: gate(0, Then::Continue) },
        ];
        std::fs::write(&file, text::write(&plan)).unwrap();
        let id = text::id(&plan).to_string();
        self.verb(&["rollout", "create", "plan.json"]);
        self.verb(&["rollout", "sign", &id, "--yes", "--key", "keys/assigner.age"]);
        self.verb(&["rollout", "start", &id]);
        id
    }
}

/// Copies the database of a hub that is stopped, and nothing else of its folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
        // What is not there stands in the database itself.
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[test]
fn a_restored_hub_downgrades_nobody_and_goes_on_where_its_nodes_are() {
    let mut house = House::new();
    let id = house.roll_out();
    house.stands(&id, "held", 1, "the first wave");
    assert_eq!(house.running().len(), 1);
    house.stop_hub();
    let folder = house.plant.stage.path("");
    copy(&folder.join("hub"), &folder.join("backup"));

    // On to the third wave; the hub starts once more, and publishes its log.
    house.start_hub();
    house.verb(&["rollout", "resume", &id]);
    house.stands(&id, "held", 3, "the third wave");
    assert_eq!(house.running(), FLEET);
    house.stop_hub();
    house.start_hub();
    let verify = ["audit", "verify", "--key", "hub/audit.pub", "--node", "pump-2", "--json"];
    house.until("nodes to see the log", |house| {
        let text = std::fs::read_to_string(house.plant.stage.path("pump-2/hub.json")).unwrap();
        text.contains("checkpoints") && {
            let found: Value = serde_json::from_str(&house.verb(&verify)).unwrap();
            found["witnessed"] == found["size"]
        }
    });

    house.stop_hub();
    copy(&folder.join("backup"), &folder.join("hub"));
    house.start_hub();
    house.until("two nodes are ahead", |house| house.recovery()["count"] == 2);
    let paused = house.stands(&id, "paused", 1, "the rollout waits");
    assert!(paused["needs"].to_string().contains("know more than this hub"), "{paused}");
    house.plant.stage.refused(&["rollout", "resume", &id, "--hub", &house.plant.url], "hub adopt --plan");
    // What was published of the log is back, and nodes that saw it agree.
    let found: Value = serde_json::from_str(&house.verb(&verify)).unwrap();
    assert_eq!(found["ok"], true, "{found}");
    let alerts = house.get("/api/v1/alerts?state=firing");
    let alerts: Vec<&Value> =
        alerts["alerts"].as_array().unwrap().iter().filter(|it| it["rule"] == "hub-behind").collect();
    assert_eq!((alerts.len(), &alerts[0]["count"]), (1, &Value::from(2)), "{alerts:?}");
    assert_eq!(house.running(), FLEET, "nothing is downgraded");

    let view = house.recovery();
    let raised = &view["rollouts"][0];
    assert_eq!((raised["wave"].as_u64(), raised["wave_after"].as_u64()), (Some(1), Some(3)), "{view:#}");
    assert!(view["lost"]["count"].as_u64() > Some(0), "{view:#}");
    let shown = house.verb(&["hub", "adopt", "--plan"]);
    assert!(shown.contains("paused in wave 1 becomes running in wave 3"), "{shown}");
    let done = house.verb(&["hub", "adopt", "--yes", "--why", "another disk"]);
    assert!(done.contains("2 nodes are believed, 1 rollouts raised"), "{done}");
    assert!(house.verb(&["hub", "adopt", "--yes"]).contains("nothing to adopt"));

    let held = house.stands(&id, "held", 3, "it stands where it stood");
    assert_eq!(held["members"]["succeeded"], 3, "their records came again: {held:#}");
    house.verb(&["rollout", "resume", &id]);
    house.stands(&id, "done", 4, "it goes on");
    assert_eq!(house.running(), FLEET);
    let log = house.get("/api/v1/audit?limit=200").to_string();
    for act in ["log.resume", "rollout.conflict", "hub.adopt", "rollout.adopt", "another disk"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    std::mem::take(&mut house.nodes).into_values().for_each(Node::stop);
    house.stop_hub();
}
