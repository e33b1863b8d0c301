//! A night in the field: a hub and three nodes in namespaces of their own, the real binary, real certificates, and between them a
//! forwarder that loses, delays and cuts. The third node knows no way to the hub but a relay, a fourth node that stands in between.
//! Cables are pulled, the hub and the relay are killed, clocks stand in 1970 and two years ahead, certificates run out while nodes are
//! off. All of them come back by themselves.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where")]

mod net;
mod part;
#[allow(dead_code, reason = "it is another test's as well")]
#[path = "../packages/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::Duration;

use hub::rollout::offer::place;
use hub::rollout::plan::{Gate, Plan, Then, Wave};
use hub::rollout::text;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::net::{Missing, NODES, Net};
use crate::part::Forwarder;
use crate::stage::Stage;

/// The longest that anything may take.
const PATIENCE_NS: u64 = 90_000_000_000;
/// Where Debian puts the library that turns a process's clock.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The hub's own address: the relay alone has a way there.
const HUB: &str = "https://10.77.0.2:8421";
/// The nodes that are looked at; the relay is one beside them.
const PUMPS: &str = "name LIKE 'pump-%'";

struct Field {
    stage: Stage,
    net: Net,
    forwarder: Forwarder,
    hub: Option<Child>,
    /// The node through which the last one goes.
    relay: Option<Child>,
    nodes: BTreeMap<usize, Child>,
    faketime: &'static str,
}

impl Drop for Field {
    fn drop(&mut self) {
        for child in self.hub.iter_mut().chain(&mut self.relay).chain(self.nodes.values_mut()) {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Field {
    /// `None`, with a line that says why, where there can be none.
    fn new() -> Option<Field> {
        let faketime = FAKETIME.into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(faketime) = faketime else {
            println!("skipped: there is no libfaketime (Debian's faketime), so no clock can be turned");
            return None;
        };
        let net = match Net::new() {
            Ok(net) => net,
            Err(Missing(why)) => {
                println!("skipped: no network namespaces: {why}");
                return None;
            }
        };
        let stage = Stage::packed();
        let forwarder = Forwarder::start(&net);
        Some(Field { stage, net, forwarder, hub: None, relay: None, nodes: BTreeMap::new(), faketime })
    }

    /// The binary in a room, in the stage's folder. `clock`: as faketime says it; empty: right.
    fn command(&self, room: &str, clock: &str, words: &[&str]) -> Command {
        let mut command = self.net.command(room, env!("CARGO_BIN_EXE_selvedge"));
        command.args(words).current_dir(self.stage.path(""));
        command.env("SELVEDGE_PASSPHRASE_FILE", "pass").env("NO_COLOR", "1");
        command.env("SELVEDGE_MODELS", self.stage.path("shelf"));
        if !clock.is_empty() {
            command.env("LD_PRELOAD", self.faketime).env("FAKETIME", clock);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    /// A verb in the hub's room, by its first admin.
    fn verb(&self, words: &[&str]) -> String {
        let hub = ["--hub", "http://127.0.0.1:8420", "--token-file", "hub/first-admin.token"];
        let ran = self.command("hub", "", &[words, &hub].concat()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{words:?}: {out}{err}\n{}", self.log("hub"));
        out.into_owned()
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.stage.path(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{name}:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    fn logged(&self, name: &str, mut command: Command) -> Child {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.stage.path(&format!("{name}.log")));
        let file = file.unwrap();
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        command.spawn().unwrap()
    }

    fn start_hub(&mut self, clock: &str) {
        let names: Vec<String> = (1..=NODES).map(|node| format!("\"10.77.{node}.1\"")).collect();
        let config = format!(
            "listen = \"127.0.0.1:8420\"\ndata = \"hub\"\ncheck_in_ms = 500\n\
             [nodes]\nlisten = \"10.77.0.2:8421\"\nnames = [{}]\n[identity]\nnode_days = 1\n",
            names.join(", ")
        );
        self.stage.write("hub.toml", &config);
        let command = self.command("hub", clock, &["hub", "--config", "hub.toml"]);
        self.hub = Some(self.logged("hub", command));
        self.until("the hub answers", |field| {
            let words =
                ["rollout", "ls", "--hub", "http://127.0.0.1:8420", "--token-file", "hub/first-admin.token"];
            field.command("hub", "", &words).output().unwrap().status.success()
        });
    }

    /// Kills the hub: no word of goodbye.
    fn kill_hub(&mut self) {
        let mut hub = self.hub.take().unwrap();
        hub.kill().unwrap();
        hub.wait().unwrap();
    }

    fn enrol(&self, node: usize) {
        let name = format!("pump-{node}");
        // There is no way to the hub's own address but through the relay.
        let (url, via) = match node {
            NODES => {
                let relay = format!("http://10.77.{node}.1:7444");
                (HUB.to_owned(), format!("via = \"{relay}\"\nrelay_token_file = \"relay.token\"\n"))
            }
            node => (format!("https://10.77.{node}.1:8421"), String::new()),
        };
        let config = format!(
            "[node]\nname = \"{name}\"\ndata = \"{name}\"\n[hub]\nurl = \"{url}\"\n{via}\
             [serve]\nlisten = \"127.0.0.1:0\"\n[packages]\nevery = \"1h\"\ntrial = \"1s\"\ntrial_answers = 0\n\
             keep_free = \"1MiB\"\n[trust]\nroot = \"repo/metadata/1.root.json\"\n"
        );
        self.come_in(&format!("n{node}"), &name, &url, &config);
    }

    /// A node in a room comes in at the hub by a code.
    fn come_in(&self, room: &str, name: &str, url: &str, config: &str) {
        self.stage.write(&format!("{name}.toml"), config);
        let asked = format!("{{\"name\":\"{name}\"}}");
        let made = part::ask(&self.net, &self.stage.path(""), "POST", "/api/v1/enrolments", &asked);
        let made: Value = serde_json::from_str(&made).unwrap();
        let (code, file) = (made["code"].as_str().unwrap(), format!("{name}.toml"));
        let words = ["node", "enrol", "--hub", url, "--code", code, "--config", &file];
        let ran = self.command(room, "", &words).output().unwrap();
        assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stderr), self.log("hub"));
    }

    fn enrol_relay(&self) {
        self.stage.write("relay.token", "what-nodes-behind-show");
        let config = format!(
            "[node]\nname = \"relay-1\"\ndata = \"relay-1\"\n[hub]\nurl = \"{HUB}\"\n\
             [relay]\nlisten = \"10.77.{NODES}.1:7444\"\ntoken_file = \"relay.token\"\nkeep_free = \"1MiB\"\n"
        );
        self.come_in("relay", "relay-1", HUB, &config);
    }

    fn start_relay(&mut self) {
        let command = self.command("relay", "", &["node", "--config", "relay-1.toml"]);
        self.relay = Some(self.logged("relay-1", command));
    }

    /// Kills the relay: no word of goodbye.
    fn kill_relay(&mut self) {
        let mut relay = self.relay.take().unwrap();
        relay.kill().unwrap();
        relay.wait().unwrap();
    }

    fn start_node(&mut self, node: usize, clock: &str) {
        let config = format!("pump-{node}.toml");
        let command = self.command(&format!("n{node}"), clock, &["node", "--config", &config]);
        let child = self.logged(&format!("pump-{node}"), command);
        self.nodes.insert(node, child);
    }

    /// The hub's own store, as it is now: one number.
    fn number(&self, sql: &str) -> i64 {
        let path = self.stage.path("hub/hub.sqlite");
        let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        store.busy_timeout(Duration::from_secs(5)).unwrap();
        store.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).unwrap().unwrap_or(0)
    }

    /// Until something holds; a node that ends in the meantime is a failure.
    fn until(&mut self, what: &str, holds: impl Fn(&Field) -> bool) {
        let clock = System::new();
        while !holds(self) {
            let logs =
                || ["hub", "relay-1", "pump-1", "pump-2", "pump-3"].map(|name| self.log(name)).join("\n");
            let seen = || {
                let path = self.stage.path("hub/hub.sqlite");
                let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
                let mut rows =
                    store.prepare("SELECT name, checked_in_ms, last_seen_ms, clock FROM nodes").unwrap();
                let row = |row: &rusqlite::Row<'_>| {
                    let cells = (row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
                    Ok(format!("{cells:?} {:?}", row.get::<_, Option<String>>(3)?))
                };
                rows.query_map([], row).unwrap().map(Result::unwrap).collect::<Vec<_>>().join("\n")
            };
            assert!(clock.mono_ns() < PATIENCE_NS, "{what}: {}\n{}", seen(), logs());
            for child in self.nodes.values_mut() {
                assert_eq!(child.try_wait().unwrap(), None, "{what}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{what}: after {} ms", clock.mono_ns() / 1_000_000);
    }

    /// Until every node has checked in once more, twice for each, so that the second came after the first was answered.
    fn all_back(&mut self, what: &str) {
        for _ in 0..2 {
            let seen = self.number("SELECT MAX(last_record) FROM turn");
            let since = self.number(&format!("SELECT MAX(checked_in_ms) FROM nodes WHERE {PUMPS}"));
            self.until(what, |field| {
                let sql = format!("SELECT COUNT(*) FROM nodes WHERE {PUMPS} AND checked_in_ms > {since}");
                field.number(&sql) == NODES as i64 && field.number("SELECT MAX(last_record) FROM turn") > seen
            });
        }
    }

    /// Until the hub has what every node last said that it had written, without a hole.
    fn whole(&mut self, what: &str) {
        let mut said: Vec<(String, String, i64)> = Vec::new();
        for node in 1..=NODES {
            let path = self.stage.path("hub/hub.sqlite");
            let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let sql = format!("SELECT checkin FROM nodes WHERE name = 'pump-{node}'");
            let text: String = store.query_row(&sql, [], |row| row.get(0)).unwrap();
            let checkin: Value = serde_json::from_str(&text).unwrap();
            for stream in checkin["streams"].as_array().unwrap() {
                let name = stream["stream"].as_str().unwrap().to_owned();
                said.push((format!("pump-{node}"), name, stream["last"].as_i64().unwrap()));
            }
        }
        assert!(said.iter().map(|(_, _, last)| last).sum::<i64>() > 0, "{said:?}");
        self.until(what, |field| {
            said.iter().filter(|(_, _, last)| *last > 0).all(|(node, stream, last)| {
                let sql = format!(
                    "SELECT MAX(s.seq) FROM streams s JOIN nodes n ON n.id = s.node WHERE n.name = '{node}' AND \
                     s.name = '{stream}'"
                );
                field.number(&sql) >= *last
            })
        });
        let holes = "SELECT COUNT(*) FROM streams s WHERE s.seq <> (SELECT COUNT(*) FROM records r WHERE r.stream = s.id)";
        assert_eq!((self.number(holes), self.number("SELECT COUNT(*) FROM gaps")), (0, 0), "{what}");
        assert_eq!(
            self.number("SELECT COUNT(*) - COUNT(DISTINCT node) FROM journals"),
            0,
            "no journal forked"
        );
    }

    fn show(&self, id: &str) -> Value {
        let text = self.verb(&["rollout", "show", id, "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["rollout"].clone()
    }

    /// A release that somebody approves.
    fn approve(&self) {
        let stage = &self.stage;
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
        let keys = ["targets", "assigner", "snapshot", "timestamp"];
        stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
        stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
    }

    /// A rollout of it begins, one node after the other, and waits for a word after the first: its id, and the nodes in their order.
    fn roll_out(&self) -> (String, Vec<usize>) {
        self.verb(&[
            "rollout",
            "new",
            "tiny:7",
            "--where",
            "name ~ \"pump-*\"",
            "--soak",
            "0",
            "--no-revert",
        ]);
        let file = self.stage.path("plan.json");
        let mut plan: Plan = text::read(&std::fs::read(&file).unwrap()).unwrap();
        let mut order: Vec<(u16, usize)> =
            (1..=NODES).map(|node| (place(&plan, &format!("pump-{node}")), node)).collect();
        order.sort_unstable();
        assert!(order[0].0 < order[1].0 && order[1].0 < order[2].0, "{order:?}: luck of the draw");
        let gate = |then| Gate { min_reports: 1, soak_s: 0, then, ..Gate::of_first_wave() };
        let rings = [order[0].0 + 1, order[1].0 + 1, 2048];
        let thens = [Then::Wait, Then::Continue, Then::Continue];
        plan.waves = rings.into_iter().zip(thens).map(|(to, then)| Wave { to, gate: gate(then) }).collect();
        std::fs::write(&file, text::write(&plan)).unwrap();
        let id = text::id(&plan).to_string();
        self.verb(&["rollout", "create", "plan.json"]);
        self.verb(&["rollout", "sign", &id, "--yes", "--key", "keys/assigner.age"]);
        self.verb(&["rollout", "start", &id]);
        (id, order.into_iter().map(|(_, node)| node).collect())
    }
}

#[test]
fn nodes_come_back_by_themselves() {
    let Some(mut field) = Field::new() else { return };
    field.approve();
    field.start_hub("");
    println!("{}", field.net.disturb());
    field.forwarder.say("weather 40 60");
    field.verb(&["push", "tiny", "hub:tiny"]);
    field.verb(&["trust", "push", "repo"]);
    let flow = "[source.pump]\ntype = \"simulated\"\nseed = 1\nrate_hz = 5.0\nhistory = \"2m\"\n\n\
         [rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.temperature_c > -40.0\"\n";
    field.stage.write("flow.toml", flow);
    field.enrol_relay();
    field.start_relay();
    field.until("the relay answers", |field| field.log("relay-1").contains("relay http://"));
    for node in 1..=NODES {
        field.enrol(node);
    }
    for node in 1..=NODES {
        field.start_node(node, "");
    }
    field.until("all are in", |field| {
        let sql = format!("SELECT COUNT(*) FROM nodes WHERE {PUMPS} AND checked_in_ms IS NOT NULL");
        field.number(&sql) == NODES as i64
    });
    let (id, order) = field.roll_out();

    // In the middle of it: connections break, end halfway, the cables are out for a while, and the hub is killed.
    field.forwarder.say("half");
    std::thread::sleep(Duration::from_secs(1));
    field.forwarder.say("break");
    field.net.plug(false);
    field.kill_hub();
    field.kill_relay();
    std::thread::sleep(Duration::from_secs(3));
    field.start_hub("");
    std::thread::sleep(Duration::from_secs(2));
    field.net.plug(true);
    std::thread::sleep(Duration::from_secs(2));
    field.start_relay();
    field.all_back("after the cut");
    field.whole("records after the cut");
    field.until("the rollout goes on", |field| field.show(&id)["members"]["succeeded"] == 1);

    // Off for two days, longer than certificates count; one wakes up in 1970, one two years ahead.
    for (node, mut child) in std::mem::take(&mut field.nodes) {
        if node == 1 {
            child.kill().unwrap();
        } else {
            let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(asked.unwrap().success());
        }
        child.wait().unwrap();
    }
    field.kill_hub();
    field.start_hub("+2d");
    for (node, clock) in order.iter().zip(["@1970-01-02 00:00:00", "+2d", "+2y"]) {
        field.start_node(*node, clock);
    }
    let renewed = format!(
        "SELECT COUNT(*) FROM (SELECT k.node FROM keys k JOIN nodes n ON n.id = k.node WHERE {PUMPS} GROUP BY k.node \
         HAVING COUNT(*) >= 2) AS twice"
    );
    field.until("certificates are renewed", |field| field.number(&renewed) == NODES as i64);
    field.all_back("with clocks in 1970 and two years ahead");
    field.whole("records after all of it");
    let right = order[1];
    let clocks = format!(
        "SELECT COUNT(*) FROM nodes WHERE {PUMPS} AND clock = CASE name WHEN 'pump-{right}' THEN 'checked' ELSE 'off' END"
    );
    field.until("clocks are judged", |field| field.number(&clocks) == NODES as i64);

    // The rollout goes on, or says what it waits for.
    field.until("the rollout stands", |field| field.show(&id)["phase"] == "held");
    field.verb(&["rollout", "resume", &id]);
    field.until("a node whose clock is right gets it", |field| {
        field.show(&id)["members"]["succeeded"].as_u64() >= Some(2)
    });
    let view = field.show(&id);
    println!("{}: {}", view["phase"], view["needs"]);
    assert!(
        view["phase"] == "done" || view["needs"].as_array().is_some_and(|needs| !needs.is_empty()),
        "{view:#}"
    );
}
