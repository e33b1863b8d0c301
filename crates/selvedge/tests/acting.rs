//! Actuators with the real program: when the node is killed, hangs, or stops, its devices go back to their safe settings by
//! themselves.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
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

/// Far below the lease of half a minute, and far above what it takes on a machine with nothing else to do: tens of milliseconds.
/// What it took is printed.
const BACK: Duration = Duration::from_secs(10);

/// A valve behind a server: `PUT` sets it, `GET` tells.
struct Valve {
    address: SocketAddr,
    state: Arc<Mutex<String>>,
}

impl Valve {
    fn open() -> Valve {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(Mutex::new("open".to_owned())));
        let held = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, held) = (stream.unwrap(), Arc::clone(&held));
                std::thread::spawn(move || {
                    let mut from = BufReader::new(stream.try_clone().unwrap());
                    loop {
                        let (mut first, mut length) = (String::new(), 0);
                        if from.read_line(&mut first).unwrap_or(0) == 0 {
                            return;
                        }
                        loop {
                            let mut line = String::new();
                            from.read_line(&mut line).unwrap();
                            if let Some(number) = line.to_lowercase().strip_prefix("content-length:") {
                                length = number.trim().parse().unwrap();
                            }
                            if line.trim().is_empty() {
                                break;
                            }
                        }
                        let mut body = vec![0; length];
                        from.read_exact(&mut body).unwrap();
                        if first.starts_with("PUT") {
                            let told: Value = serde_json::from_slice(&body).unwrap();
                            *held.lock().unwrap() = told["state"].as_str().unwrap().to_owned();
                        }
                        let answer = json!({"now": {"state": *held.lock().unwrap()}}).to_string();
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                        stream.write_all((head + &answer).as_bytes()).unwrap();
                    }
                });
            }
        });
        Valve { address, state }
    }

    fn is(&self) -> String {
        self.state.lock().unwrap().clone()
    }
}

/// A node with three actuators: a file, a program, a server.
struct House {
    folder: TempDir,
    valve: Valve,
    node: Child,
}

impl House {
    fn new(lease: &str, dry_run: bool) -> House {
        let (folder, valve) = (tempfile::tempdir().unwrap(), Valve::open());
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("node.toml", "[node]\nname = \"n\"\ndata = \"data\"\n");
        write(
            "set.sh",
            &format!("printf '%s' \"$1\" > '{0}.new' && mv '{0}.new' '{0}'\n", at("program").display()),
        );
        let common = format!("write = true\ndry_run = {dry_run}\nlease = \"{lease}\"\nrate = \"100/s\"");
        let words = "values = [\"open\", \"closed\"]\nsafe = \"closed\"";
        write(
            "flow.toml",
            &format!(
                "[source.pump]\ntype = \"http\"\n\
                 [actuator.file]\ntype = \"simulated\"\nfile = \"file\"\n{words}\n{common}\n\
                 [actuator.program]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"{}\", \"{{value}}\"]\n\
                 read = [\"/bin/cat\", \"{}\"]\nrange = [0, 100]\nsafe = 0\n{common}\n\
                 [actuator.server]\ntype = \"http\"\nurl = \"http://{}/valve\"\nbody = '{{\"state\": {{value}}}}'\n\
                 read_url = \"http://{}/valve\"\npointer = \"/now/state\"\n{words}\n{common}\n",
                at("set.sh").display(),
                at("program").display(),
                valve.address,
                valve.address,
            ),
        );
        let node = start(folder.path());
        let house = House { folder, valve, node };
        wait("the node takes what it is asked", PATIENCE, || house.act(&["ls"]).status.success());
        house
    }

    fn act(&self, words: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_selvedge");
        Command::new(program).arg("act").args(words).current_dir(self.folder.path()).output().unwrap()
    }

    /// Sets all three away from their safe settings.
    fn open(&self) {
        for (actuator, to) in [("file", "open"), ("program", "40"), ("server", "open")] {
            let set = ["--why", "a test", "--for", "10m", "--who", "kim", actuator, to];
            let mut told = String::new();
            wait("it is set", PATIENCE, || {
                // Who asks too often is not heard.
                sleep(Duration::from_millis(200));
                let output = self.act(&set);
                told = String::from_utf8_lossy(&output.stdout).into_owned();
                output.status.success()
            });
            assert!(told.contains(&format!("it says {to}")), "{told}");
        }
        assert_eq!(self.is(), ["open", "40", "open"]);
    }

    fn is(&self) -> [String; 3] {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        [read("file").trim().to_owned(), read("program"), self.valve.is()]
    }

    fn is_safe(&self) -> bool {
        self.is() == ["closed", "0", "closed"]
    }

    /// What the journal says of acts: who, what, how it came out.
    fn acts(&self) -> Vec<[String; 4]> {
        let Ok(reader) = Reader::open(&self.folder.path().join("data")) else { return Vec::new() };
        assert!(verify(&reader).unwrap().iter().all(|stream| stream.broken.is_none()));
        let records = reader.records(&StreamName::new("acts").unwrap(), 0, 1_000).unwrap();
        let field = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        records
            .iter()
            .map(|(record, _)| {
                let body: Value = serde_json::from_str(record.body.get()).unwrap();
                [&body["actuator"], &body["who"]["kind"], &body["asked"], &body["outcome"]].map(field)
            })
            .collect()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("/bin/kill").args([name, &self.node.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Asked to end, so that its guard ends before the folder does.
        let id = self.node.id().to_string();
        if self.node.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(Command::new("/bin/kill").args(["-TERM", &id]).status());
        }
        drop(self.node.wait());
    }
}

fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["--log", "warn", "node"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until something is so; gives how long it took.
fn wait(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let clock = System::new();
    let begun_ns = clock.mono_ns();
    loop {
        let took = Duration::from_nanos(clock.mono_ns() - begun_ns);
        if is_so() {
            return took;
        }
        assert!(took < patience, "after {} s not yet: {what}", patience.as_secs_f64());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_node_that_is_killed_leaves_nothing_open() {
    let mut house = House::new("30s", false);
    house.open();
    house.node.kill().unwrap();
    let took = wait("the devices are back", BACK, || house.is_safe());
    println!("back after the kill in {} ms", took.as_millis());
    // The next life finds them safe, and may set them again.
    house.node.wait().unwrap();
    house.node = start(house.folder.path());
    house.open();
    house.signal("-TERM");
    house.node.wait().unwrap();
    assert!(house.is_safe(), "a node that stops waits for its guard: {:?}", house.is());
    let acts = house.acts();
    let count = |wanted: [&str; 4]| acts.iter().filter(|act| **act == wanted.map(str::to_owned)).count();
    assert_eq!(count(["file", "person", "open", "done"]), 2, "{acts:?}");
    assert_eq!(count(["program", "person", "40.0", "done"]), 2, "{acts:?}");
    assert!(
        count(["server", "node", "closed", "done"]) >= 3,
        "twice at the begin, once at the end: {acts:?}"
    );
}

#[test]
fn a_node_that_hangs_loses_its_lease() {
    let house = House::new("5s", false);
    house.open();
    house.signal("-STOP");
    let took = wait("the devices are back", Duration::from_secs(5) + BACK, || house.is_safe());
    println!("back after the hang in {} ms", took.as_millis());
    assert!(took > Duration::from_millis(1_000), "a lease is not a moment: {took:?}");
    house.signal("-CONT");
    // What was asked before does not come true behind anybody's back.
    wait("the journal tells of it", PATIENCE, || {
        house
            .acts()
            .iter()
            .any(|[actuator, who, _, outcome]| actuator == "file" && who == "person" && outcome == "over")
    });
    assert!(house.is_safe());
    house.open();
}

#[test]
fn a_guard_that_is_killed_is_replaced() {
    let house = House::new("30s", false);
    house.open();
    let guard = || -> Option<u32> {
        let children = format!("/proc/{0}/task", house.node.id());
        let tasks = std::fs::read_dir(children).ok()?;
        let pids = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        let pids: Vec<u32> = pids
            .flat_map(|pids| pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        pids.into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0guard"))
        })
    };
    let first = guard().unwrap();
    Command::new("/bin/kill").args(["-KILL", &first.to_string()]).status().unwrap();
    wait("a new guard brings the devices back", PATIENCE, || house.is_safe());
    wait("there is another", PATIENCE, || guard().is_some_and(|pid| pid != first));
    house.open();
}

#[test]
fn a_dry_run_moves_nothing() {
    let house = House::new("30s", true);
    let mut told = String::new();
    wait("it is set", PATIENCE, || {
        sleep(Duration::from_millis(200));
        let output = house.act(&["file", "open", "--why", "a test"]);
        told = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    assert!(told.contains("would be set to open"), "{told}");
    assert_eq!(house.is()[..2], ["", ""]);
    assert_eq!(house.valve.is(), "open", "as it was before anybody came");
    wait("the journal tells of it", PATIENCE, || {
        house.acts().iter().any(|act| *act == ["file", "person", "open", "dry"].map(str::to_owned))
    });
    let refused = house.act(&["file", "ajar", "--why", "a test"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not among its values"), "{refused:?}");
}

/// Readings come in, a rule fires, the valve closes; it opens again when the rule clears, when the interlock fails, and when nothing
/// comes any more.
#[test]
fn a_rule_holds_a_valve_while_it_fires() {
    let folder = tempfile::tempdir().unwrap();
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("node.toml", format!("[node]\nname = \"n\"\n[api]\nlisten = \"{api}\"\n"));
    write(
        "flow.toml",
        "[source.pump]\ntype = \"http\"\n[rule.leak]\ninputs = [\"source.pump\"]\nwhen = \"pump.flow > 40\"\n\
         then = { file = \"closed\" }\n[actuator.file]\ntype = \"simulated\"\nfile = \"file\"\n\
         values = [\"open\", \"closed\"]\nsafe = \"open\"\nwrite = true\ndry_run = false\nrate = \"100/s\"\n\
         lease = \"4s\"\ninterlock = \"pump.pressure < 3.0\"\n"
            .to_owned(),
    );
    let valve = Valve::open();
    let house = House { node: start(folder.path()), folder, valve };
    let clock = System::new();
    let post = |flow: f64, pressure: Option<f64>| {
        let mut values = json!({"flow": flow});
        if let Some(pressure) = pressure {
            values["pressure"] = json!(pressure);
        }
        let body = json!({"t_ms": clock.wall_ms(), "values": values}).to_string();
        let Ok(mut stream) = std::net::TcpStream::connect(api) else { return };
        let head = format!(
            "POST /v1/readings/pump HTTP/1.1\r\nhost: {api}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        drop(stream.write_all((head + &body).as_bytes()));
        drop(stream.read_to_string(&mut String::new()));
        sleep(Duration::from_millis(50));
    };
    let until = |what: &str, is: &str, flow: f64, pressure: Option<f64>| {
        wait(what, PATIENCE, || {
            post(flow, pressure);
            house.is()[0] == is
        });
    };
    until("it begins safe", "open", 10.0, Some(1.0));
    until("the rule fires", "closed", 50.0, Some(1.0));
    until("the rule clears", "open", 10.0, Some(1.0));
    until("it fires again", "closed", 50.0, Some(1.0));
    until("the interlock fails", "open", 50.0, Some(5.0));
    until("the interlock holds again", "closed", 50.0, Some(1.0));
    wait("nothing is heard any more", PATIENCE, || house.is()[0] == "open");
    wait("the journal tells", PATIENCE, || {
        let acts = house.acts();
        let is = |who: &str, outcome: &str| acts.iter().any(|act| act[1] == who && act[3] == outcome);
        is("rule", "done") && is("rule", "over") && is("rule", "waits") && is("node", "done")
    });
}

/// What a stranger says to a guard ends it with a word, and with the devices as they were.
#[test]
fn a_guard_is_for_nobodys_hands() {
    let mut guard = Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .arg("guard")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    guard.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = guard.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by a node"), "{output:?}");
}
