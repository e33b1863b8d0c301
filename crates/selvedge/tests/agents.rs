//! Agents with the real program: a client that nobody here wrote (the Python package `mcp`) starts `selvedge mcp` beside a node, looks,
//! is refused, and sets what it may, within the envelope, behind people, and in the journal as what it is.

#![cfg(all(target_os = "linux", feature = "agents"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use node::journal::reader::Reader;
use node::journal::verify::verify;
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::id::StreamName;
use wire::world::{Clock as _, System};

/// How long the node may take to begin, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Far below the lease of half a minute.
const BACK: Duration = Duration::from_secs(10);

/// The Python that has the package; `None`, and a word, where none has.
fn python() -> Option<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python).args(["-c", "from mcp import Client"]).stderr(Stdio::null()).status();
    if has.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {} has no mcp", python.display());
    None
}

/// A node with four actuators, files all of them, of which agents may ask for three.
struct House {
    folder: TempDir,
    api: SocketAddr,
    node: Child,
}

impl House {
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("node.toml", format!("[node]\nname = \"n\"\ndata = \"data\"\n[api]\nlisten = \"{api}\"\n"));
        let actuator = |name: &str, more: &str| {
            format!(
                "[actuator.{name}]\ntype = \"simulated\"\nfile = \"{name}\"\nwrite = true\ndry_run = false\n\
                 rate = \"100/s\"\nlease = \"30s\"\n{more}\n"
            )
        };
        let words = "values = [\"open\", \"closed\"]\nsafe = \"closed\"";
        let flow = [
            "[source.pump]\ntype = \"http\"\n[rule.leak]\ninputs = [\"source.pump\"]\nwhen = \"pump.flow > 40\"\n"
                .to_owned(),
            actuator("valve", &format!("{words}\nagents = true")),
            actuator("fan", "range = [0, 100]\nunit = \"%\"\nsafe = 0\nagents = true"),
            actuator("gate", words),
            actuator("lamp", &format!("{words}\nagents = true")),
        ];
        write("flow.toml", flow.concat());
        let node = Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .args(["--log", "warn", "node"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let house = House { folder, api, node };
        wait("the node takes what it is asked", PATIENCE, || house.act(&["ls"]).status.success());
        house
    }

    /// A person asks.
    fn act(&self, words: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_selvedge");
        Command::new(program).arg("act").args(words).current_dir(self.folder.path()).output().unwrap()
    }

    fn is(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default().trim().to_owned()
    }

    /// A reading comes in.
    fn post(&self, flow: f64) {
        let body = json!({ "t_ms": System::new().wall_ms(), "values": { "flow": flow } }).to_string();
        let Ok(mut stream) = std::net::TcpStream::connect(self.api) else { return };
        let head = format!(
            "POST /v1/readings/pump HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.api,
            body.len()
        );
        drop(stream.write_all((head + &body).as_bytes()));
        drop(stream.read_to_string(&mut String::new()));
    }

    /// What the journal says of acts: which actuator, who, for what, and what came of it.
    fn acts(&self) -> Vec<[String; 5]> {
        let Ok(reader) = Reader::open(&self.folder.path().join("data")) else { return Vec::new() };
        assert!(verify(&reader).unwrap().iter().all(|stream| stream.broken.is_none()));
        let records = reader.records(&StreamName::new("acts").unwrap(), 0, 1_000).unwrap();
        let field = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        records
            .iter()
            .map(|(record, _)| {
                let body: Value = serde_json::from_str(record.body.get()).unwrap();
                let (who, what) = (&body["who"], &body["asked"]);
                [&body["actuator"], &who["kind"], &who["name"], what, &body["outcome"]].map(field)
            })
            .collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Asked to end, so that its guard ends before the folder does.
        if self.node.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(Command::new("/bin/kill").args(["-TERM", &self.node.id().to_string()]).status());
        }
        drop(self.node.wait());
    }
}

/// A client, and the server that it started.
struct Agent {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// What the server says of itself.
    card: Value,
}

impl Agent {
    fn start(python: &Path, house: &House, mode: &str, words: &[&str]) -> Agent {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/ask.py");
        let mut child = Command::new(python)
            .args([script, mode, env!("CARGO_BIN_EXE_selvedge"), "mcp"])
            .args(words)
            .current_dir(house.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut agent = Agent { child, to, from, card: Value::Null };
        agent.card = agent.hear();
        agent
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let question = json!({ "tool": tool, "arguments": arguments });
        writeln!(self.to.as_mut().unwrap(), "{question}").unwrap();
        self.hear()
    }

    /// Calls a tool that answers.
    fn told(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments);
        assert_eq!(answer["error"], false, "{tool}: {answer}");
        answer["told"].clone()
    }

    /// Calls a tool that refuses; gives why.
    fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        assert_eq!(answer["error"], true, "{tool}: {answer}");
        answer["text"].as_str().unwrap().to_owned()
    }

    fn tools(&self) -> Vec<&str> {
        self.card["tools"].as_object().unwrap().keys().map(String::as_str).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.to.take());
        drop(self.child.wait());
    }
}

fn wait(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let clock = System::new();
    let begun_ns = clock.mono_ns();
    while !is_so() {
        let took = Duration::from_nanos(clock.mono_ns() - begun_ns);
        assert!(took < patience, "after {} s not yet: {what}", patience.as_secs());
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn an_agent_looks_and_changes_nothing() {
    let Some(python) = python() else { return };
    let house = House::new();
    let mut agent = Agent::start(&python, &house, "legacy", &[]);
    assert_eq!(agent.card["server"], "selvedge");
    assert!(agent.card["instructions"].as_str().unwrap().contains("change nothing"), "{}", agent.card);
    let mut tools = agent.tools();
    tools.sort_unstable();
    assert_eq!(tools, ["actuators", "decisions", "state", "why"]);
    for (name, tool) in agent.card["tools"].as_object().unwrap() {
        assert_eq!((&tool["reads"], &tool["destroys"]), (&json!(true), &json!(false)), "{name}");
        assert!(tool["gives"]["properties"].is_object(), "{name}");
    }
    // How it is, what it decided, and why.
    assert_eq!(agent.told("state", json!({}))["node"], "n");
    wait("the rule fires", PATIENCE, || {
        house.post(50.0);
        !agent.told("decisions", json!({}))["decisions"].as_array().unwrap().is_empty()
    });
    let decisions = agent.told("decisions", json!({ "count": 1, "rule": "leak" }));
    let decision = decisions["decisions"][0].clone();
    assert_eq!((&decision["rule"], &decision["state"]), (&json!("leak"), &json!("firing")));
    assert_eq!(agent.told("decisions", json!({ "rule": "other" }))["decisions"], json!([]));
    let why = agent.told("why", json!({ "seq": decision["seq"] }));
    assert!(why["in_words"].as_str().unwrap().contains("pump.flow > 40"), "{why}");
    assert_eq!(why["record"]["value"], 50.0);
    assert!(agent.refused("why", json!({ "seq": 999_999 })).contains("no record 999999"));
    assert!(agent.refused("decisions", json!({ "count": 1_000 })).contains("from 1 to 100"));
    // What could be set, and that it may not.
    let told = agent.told("actuators", json!({}));
    let actuators = told["actuators"].as_array().unwrap();
    assert_eq!(actuators.len(), 4);
    assert!(actuators.iter().all(|one| one["you_may_ask"] == false), "{told}");
    let fan = actuators.iter().find(|one| one["actuator"] == "fan").unwrap();
    assert_eq!((&fan["range"], &fan["unit"]), (&json!([0.0, 100.0]), &json!("%")));
    for tool in ["act", "release"] {
        let answer = agent.call(tool, json!({ "actuator": "valve", "to": "open", "why": "a test" }));
        assert!(answer["unknown"].as_str().is_some_and(|text| text.contains("no such tool")), "{answer}");
    }
    assert_eq!(house.is("valve"), "closed");
    assert!(house.acts().iter().all(|act| act[1] != "agent"), "{:?}", house.acts());
    // Without the readings as they are.
    let blind = Agent::start(&python, &house, "legacy", &["--without-state"]);
    assert!(!blind.tools().contains(&"state"));
}

#[test]
fn an_agent_acts_within_the_envelope_and_behind_people() {
    let Some(python) = python() else { return };
    let mut house = House::new();
    let words = ["--may-act", "valve,fan,gate", "--as", "night-watch"];
    let mut agent = Agent::start(&python, &house, "auto", &words);
    assert!(agent.tools().contains(&"act") && agent.tools().contains(&"release"), "{:?}", agent.tools());
    let tool = &agent.card["tools"]["act"];
    assert_eq!((&tool["reads"], &tool["destroys"]), (&json!(false), &json!(true)));
    assert_eq!(tool["takes"]["properties"]["actuator"]["enum"], json!(["valve", "fan", "gate"]));
    let set = |actuator: &str, to: Value| json!({ "actuator": actuator, "to": to, "why": "a test" });
    let mut told = Value::Null;
    wait("it is set", PATIENCE, || {
        // Who asks too often is not heard.
        sleep(Duration::from_millis(800));
        told = agent.call("act", set("valve", json!("open")));
        told["error"] == false
    });
    let told = &told["told"];
    assert_eq!((&told["outcome"], &told["receipt"]["read"]), (&json!("done"), &json!("open")), "{told}");
    assert_eq!(house.is("valve"), "open");
    // A number written as a word is a number where the actuator takes numbers.
    assert_eq!(agent.told("act", set("fan", json!("40")))["to"], 40.0);
    assert_eq!(house.is("fan"), "40");
    // Outside of the envelope.
    assert!(agent.refused("act", set("valve", json!("ajar"))).contains("not among its values"));
    assert!(agent.refused("act", set("fan", json!(101))).contains("outside its range"));
    let long = json!({ "actuator": "valve", "to": "open", "for": "2h", "why": "a test" });
    assert!(agent.refused("act", long).contains("at most 30 s"));
    let silent = json!({ "actuator": "valve", "to": "open", "why": " " });
    assert!(agent.refused("act", silent).contains("say `why`"));
    // What its owner did not let agents ask for: by the flow, and by the command line.
    assert!(agent.refused("act", set("gate", json!("open"))).contains("agents = true"));
    assert!(agent.refused("act", set("lamp", json!("open"))).contains("and nothing else"));
    assert_eq!((house.is("gate").as_str(), house.is("lamp").as_str()), ("closed", "closed"));
    // A person's word goes before its own.
    let person = house.act(&["valve", "closed", "--for", "10m", "--who", "kim", "--why", "a leak"]);
    assert!(person.status.success(), "{person:?}");
    assert_eq!(house.is("valve"), "closed");
    assert!(agent.refused("act", set("valve", json!("open"))).contains("the word of person kim stands"));
    let shown = agent.told("actuators", json!({}))["actuators"].clone();
    assert_eq!(shown[0]["held_by"], "person kim", "{shown}");
    assert!(
        agent.refused("release", json!({ "actuator": "valve" })).contains("no word of agent night-watch")
    );
    assert!(house.act(&["release", "valve", "--who", "kim"]).status.success());
    // It takes its own back.
    assert_eq!(agent.told("release", json!({ "actuator": "fan" }))["outcome"], "over");
    wait("the fan is back", BACK, || house.is("fan") == "0");
    // All of it stands in the journal, as an agent's.
    agent.told("act", set("valve", json!("open")));
    let wanted = [
        ["valve", "open", "done"],
        ["valve", "open", "over"],
        ["valve", "open", "refused"],
        ["valve", "ajar", "refused"],
        ["fan", "40.0", "done"],
        ["fan", "101.0", "refused"],
        ["fan", "40.0", "over"],
        ["gate", "open", "refused"],
    ];
    wait("the journal tells", PATIENCE, || {
        let acts = house.acts();
        wanted.iter().all(|&[actuator, to, outcome]| {
            acts.iter().any(|act| *act == [actuator, "agent", "night-watch", to, outcome].map(str::to_owned))
        })
    });
    let acts = house.acts();
    assert!(acts.iter().all(|act| act[1] != "person" || act[2] == "kim"), "{acts:?}");
    assert!(acts.iter().all(|act| act[0] != "lamp" || act[1] == "node"), "it was not even asked: {acts:?}");
    let of_an_agent = acts.iter().position(|act| act[1] == "agent").unwrap();
    let told = agent.told("why", json!({ "seq": of_an_agent + 1, "stream": "acts" }));
    assert!(told["in_words"].as_str().unwrap().contains("agent night-watch"), "{told}");
    // The node dies: its word dies with it.
    assert_eq!(house.is("valve"), "open");
    house.node.kill().unwrap();
    wait("the valve is back", BACK, || house.is("valve") == "closed");
    assert!(agent.refused("act", set("valve", json!("open"))).contains("no node with actuators runs"));
    assert!(agent.refused("state", json!({})).contains("is it running?"));
    // What it decided can still be looked up.
    agent.told("decisions", json!({}));
}

/// What is no protocol, or has no end, ends with a word, and not with the machine's memory.
#[test]
fn what_is_no_protocol_ends_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("node.toml"), "[node]\nname = \"n\"\n").unwrap();
    std::fs::write(folder.path().join("flow.toml"), "[source.pump]\ntype = \"http\"\n").unwrap();
    let endless = vec![b'x'; 4 << 20];
    for words in
        [&b""[..], b"hello\n", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n", &endless[..]]
    {
        let mut server = Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .arg("mcp")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may be gone before it has heard all.
        drop(server.stdin.take().unwrap().write_all(words));
        let output = server.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("Model Context Protocol"), "{said}");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    }
}
