//! A source that listens to a server of asyncua: what is told arrives, over open and sealed lines; who is not trusted is refused by name.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use node::flow::{Flow, SourceKind};
use node::source::bring::{Source as _, SourceError};
use node::source::opcua::client::Opcua;
use node::source::queue::{ALLOWANCE_CELLS, Batch, Event, Outlet};
use tempfile::TempDir;
use wire::world::System;

use crate::stand::{folder, free_port, reasons, records, run, until, values};

/// A server of asyncua, until it is dropped.
struct Server {
    child: Child,
    port: u16,
    /// Where its certificate is.
    dir: TempDir,
    /// SHA-256 of that.
    digest: String,
    /// After so long without a word a session ends; `None`: as the client asks.
    session_ms: Option<u32>,
}

impl Server {
    /// Starts one; `None`, and a word, where there is no asyncua.
    fn start() -> Option<Server> {
        Server::start_with(None)
    }

    fn start_with(session_ms: Option<u32>) -> Option<Server> {
        let python = python()?;
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let (child, digest) = Server::spawn(&python, port, dir.path(), session_ms);
        Some(Server { child, port, dir, digest, session_ms })
    }

    fn spawn(python: &Path, port: u16, dir: &Path, session_ms: Option<u32>) -> (Child, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plant/opcua.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(port.to_string())
            .arg(dir)
            .args(session_ms.map(|ms| ms.to_string()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut digest = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut digest).unwrap();
        assert!(!digest.is_empty(), "the server did not start");
        (child, digest.trim().to_owned())
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The same one again, at the same place.
    fn again(&mut self) {
        (self.child, self.digest) =
            Server::spawn(&python().unwrap(), self.port, self.dir.path(), self.session_ms);
    }

    /// Lets it hang, or go on: `STOP`, `CONT`; end its sessions, or its connections: `USR1`, `USR2`.
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn flow(&self, rest: &str) -> String {
        format!(
            "[source.plc]\ntype = \"opcua\"\nendpoint = \"opc.tcp://127.0.0.1:{}\"\nevery = \"100ms\"\ntimeout = \"20s\"\n{rest}\n",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The Python that has the peers, if it has this one.
fn python() -> Option<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python)
        .args(["-c", "import asyncua"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: {} has no asyncua", python.display());
    }
    has.then_some(python)
}

const NODES: &str = "nodes = { pressure = \"ns=2;s=Pump.Pressure\", flow = \"ns=2;s=Pump.Flow\", level = \"ns=2;s=Pump.Level\", \
    total = \"ns=2;s=Pump.Total\", on = \"ns=2;s=Pump.On\", clock = \"ns=2;s=Pump.Clock\" }";

/// Times and values of a channel, reading by reading.
fn dated(dir: &Path, channel: &str) -> Vec<(i64, f64)> {
    let times = records(dir, "readings.plc").into_iter().flat_map(|body| {
        body["t_ms"].as_array().unwrap().iter().map(|t_ms| t_ms.as_i64().unwrap()).collect::<Vec<_>>()
    });
    times.zip(values(dir, "plc", channel)).collect()
}

fn check_constants(dir: &Path) {
    let expected = [
        ("pressure", 1.5),
        ("flow", 20.25),
        ("level", -15.0),
        ("total", 9_007_199_254_740_992.0),
        ("on", 1.0),
    ];
    for (channel, expected) in expected {
        let found = values(dir, "plc", channel);
        assert!(found.len() >= 10 && found.iter().all(|value| *value == expected), "{channel}: {found:?}");
    }
}

#[test]
fn an_open_line_and_a_server_that_goes_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let dir = folder(&server.flow(&format!("security = \"none\"\n{NODES}")));
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 60);
    server.stop();
    until("the failure", || node.status().sources[0].state == "failed");
    let before = node.status().sources[0].readings;
    server.again();
    until("more readings", || node.status().sources[0].readings >= before + 60);
    node.stop().unwrap();
    check_constants(dir.path());
    let dated = dated(dir.path(), "clock");
    assert!(dated.windows(2).all(|pair| pair[0].0 < pair[1].0), "time goes on");
    // A clock's value is the time that its source gave it.
    let own: Vec<i64> = dated.iter().map(|(_, value)| *value as i64).collect();
    let ticks: Vec<(i64, i64)> = dated.iter().zip(&own).map(|((t_ms, _), own)| (*t_ms, *own)).collect();
    let fresh: Vec<&(i64, i64)> =
        ticks.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| &pair[1]).collect();
    assert!(fresh.len() >= 100, "{}", fresh.len());
    // On a machine that is busy the server ticks late, and its queue may run over while the node waits for its turn.
    let most = |count: usize| count * 10 >= fresh.len() * 9;
    assert!(most(fresh.iter().filter(|(t_ms, own)| t_ms == own).count()), "{fresh:?}");
    assert!(fresh.iter().all(|(t_ms, own)| (t_ms - own).abs() < 5_000), "{fresh:?}");
    assert!(most(fresh.windows(2).filter(|pair| pair[1].1 - pair[0].1 == 50).count()), "{fresh:?}");
}

#[test]
fn a_server_that_hangs_is_called_anew() {
    let Some(server) = Server::start() else { return };
    let dir = folder(&server.flow(&format!("security = \"none\"\nsilence = \"1s\"\n{NODES}")));
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 20);
    server.signal("STOP");
    until("the failure", || node.status().sources[0].state == "failed");
    let before = node.status().sources[0].readings;
    server.signal("CONT");
    until("more readings", || node.status().sources[0].readings >= before + 20);
    node.stop().unwrap();
    check_constants(dir.path());
    let told = reasons(dir.path());
    assert!(told.contains("the server said nothing for 1 s"), "{told}");
}

/// A source that listens to the server's clock, and in the node's place somebody who takes readings or does not.
struct Desk {
    outlet: Outlet,
    /// Tries again after each failure; gives what they were.
    source: JoinHandle<Vec<String>>,
    /// The clock, reading by reading.
    clocks: Vec<i64>,
    refused: u64,
    _dir: TempDir,
}

impl Desk {
    fn open(server: &Server) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let text =
            server.flow("security = \"none\"\nsilence = \"2s\"\nnodes = { clock = \"ns=2;s=Pump.Clock\" }");
        let flow = Flow::parse(&dir.path().join("flow.toml"), text.into());
        let flow = flow.unwrap_or_else(|problems| panic!("{problems}"));
        let SourceKind::Opcua(settings) = &flow.sources[0].kind else { panic!("another source") };
        let mut source = Opcua::new(settings.clone(), "oslo-7", "plc", &dir.path().join("opcua"));
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(System::new()));
        let source = std::thread::spawn(move || {
            let mut told = Vec::new();
            loop {
                match source.run(&mut inlet) {
                    Err(SourceError::Stopped(_)) => return told,
                    Err(error) => told.push(error.to_string()),
                    Ok(end) => panic!("it ended: {end}"),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Desk { outlet, source, clocks: Vec::new(), refused: 0, _dir: dir }
    }

    /// Takes so many readings more.
    fn take(&mut self, readings: usize) {
        let enough = self.clocks.len() + readings;
        while self.clocks.len() < enough {
            let arrival = self.outlet.next(Duration::from_secs(60)).expect("a reading within a minute");
            self.outlet.done(&arrival);
            self.refused = self.refused.max(arrival.refused);
            if let Event::Batch(batch) = arrival.event {
                self.clocks.extend(batch.values.iter().map(|value| *value as i64));
            }
        }
    }

    /// Leaves no room for so long.
    fn fill(&mut self, time: Duration) {
        let mut other = self.outlet.inlet(0, Box::new(System::new()));
        let all = || Batch { t_ms: vec![0; ALLOWANCE_CELLS], values: Vec::new() };
        while other.offer(all()).is_err() {
            self.take(1);
        }
        std::thread::sleep(time);
    }

    /// Ends it: what failed, how many of the clock's steps are missing, and how often the server said that it had dropped values. Each hole
    /// was told, one way or the other.
    fn stop(self) -> (Vec<String>, usize, u64) {
        self.outlet.stopper().stop();
        let told = self.source.join().unwrap();
        assert!(self.clocks.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", self.clocks);
        let holes: Vec<i64> =
            self.clocks.windows(2).map(|pair| pair[1] - pair[0]).filter(|step_ms| *step_ms > 50).collect();
        let ways = told.len() + self.refused as usize;
        assert!(holes.len() <= ways, "{holes:?} ms are missing; {} were refused; {told:?}", self.refused);
        (told, holes.len(), self.refused)
    }
}

#[test]
fn what_a_full_node_does_not_take_waits_at_the_server_which_says_what_it_dropped() {
    let Some(server) = Server::start() else { return };
    let mut desk = Desk::open(&server);
    desk.take(40);
    // Far more than fits into the server's queue, and longer than a server may be silent.
    desk.fill(Duration::from_secs(5));
    desk.take(80);
    let (told, holes, refused) = desk.stop();
    assert!(told.is_empty(), "nobody listened, so nobody was silent: {told:?}");
    assert!(holes >= 1 && refused >= 1, "{holes} holes, {refused} refused");
}

#[test]
fn a_session_that_ended_while_the_node_was_full_is_told_and_opened_anew() {
    let Some(server) = Server::start_with(Some(3_000)) else { return };
    let mut desk = Desk::open(&server);
    desk.take(40);
    desk.fill(Duration::from_secs(7));
    desk.take(120);
    let (told, ..) = desk.stop();
    assert!(!told.is_empty(), "the session was over");
}

#[test]
fn sessions_and_connections_that_the_server_ends_are_opened_anew_and_no_hole_is_silent() {
    let Some(server) = Server::start() else { return };
    let mut desk = Desk::open(&server);
    desk.take(40);
    server.signal("USR1");
    desk.take(80);
    server.signal("USR2");
    desk.take(80);
    let (told, ..) = desk.stop();
    assert!(told.len() >= 2, "{told:?}");
    assert!(told.iter().any(|why| why.contains("the connection was lost")), "{told:?}");
}

#[test]
fn what_is_not_good_or_no_number_is_missing_and_counted() {
    let Some(server) = Server::start() else { return };
    let nodes = "nodes = { broken = \"ns=2;s=Pump.Broken\", shaky = \"ns=2;s=Pump.Shaky\", name = \"ns=2;s=Pump.Name\", \
        gone = \"ns=2;s=Pump.Gone\", folder = \"i=85\", pressure = \"ns=2;s=Pump.Pressure\", creep = \"ns=2;s=Pump.Creep\" }";
    let dir = folder(&server.flow(&format!("security = \"none\"\ndeadband = 0.05\n{nodes}")));
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 20);
    let refused = node.status().sources[0].refused;
    node.stop().unwrap();
    assert_eq!(refused, 5, "{}", reasons(dir.path()));
    for channel in ["broken", "shaky", "name", "gone", "folder"] {
        let found = values(dir.path(), "plc", channel);
        assert!(!found.is_empty() && found.iter().all(|value| value.is_nan()), "{channel}: {found:?}");
    }
    assert!(values(dir.path(), "plc", "pressure").iter().all(|value| *value == 1.5));
    let creep = values(dir.path(), "plc", "creep");
    assert!(creep.windows(2).all(|pair| pair[0] <= pair[1]) && creep.first() < creep.last(), "{creep:?}");
    let told = reasons(dir.path());
    assert!(told.contains("\"gone\": the server does not give ns=2;s=Pump.Gone: BadNodeIdUnknown"), "{told}");
}

#[test]
fn a_server_without_any_of_the_nodes_is_a_failure() {
    let Some(server) = Server::start() else { return };
    let dir = folder(&server.flow("security = \"none\"\nnodes = { gone = \"ns=2;s=Pump.Gone\" }"));
    let node = run(dir.path());
    until("the failure", || node.status().sources[0].state == "failed");
    node.stop().unwrap();
    let told = reasons(dir.path());
    let expected = "gives none of the nodes; of `gone` (ns=2;s=Pump.Gone) it says BadNodeIdUnknown";
    assert!(told.contains(expected), "{told}");
}

/// Runs a flow until the source has so many readings; gives the folder of the node.
fn listen(flow: &str, password: &str) -> TempDir {
    let dir = folder(flow);
    std::fs::write(dir.path().join("plc.password"), password).unwrap();
    let node = run(dir.path());
    until("readings", || node.status().sources[0].readings >= 10);
    node.stop().unwrap();
    dir
}

/// Runs a flow until the source has failed; gives why, and the node's folder.
fn fail(flow: &str, password: &str) -> (String, TempDir) {
    let dir = folder(flow);
    std::fs::write(dir.path().join("plc.password"), password).unwrap();
    let node = run(dir.path());
    until("the failure", || node.status().sources[0].state == "failed");
    node.stop().unwrap();
    (reasons(dir.path()), dir)
}

const USER: &str = "user = \"reader\"\npassword_file = \"plc.password\"";

#[test]
fn a_sealed_line_with_a_password() {
    let Some(server) = Server::start() else { return };
    let digest = &server.digest;
    let dir = listen(&server.flow(&format!("server_digest = \"{digest}\"\n{USER}\n{NODES}")), "swordfish\n");
    check_constants(dir.path());
    let own = std::fs::read(dir.path().join("data/opcua/own/cert.der")).unwrap();
    // The node is known by its certificate: it is the same after a restart, for other algorithms, and with the server's as a file.
    let file = server.dir.path().join("server.der");
    for (security, policy) in [
        ("sign-and-encrypt", "Aes256_Sha256_RsaPss"),
        ("sign-and-encrypt", "Aes128_Sha256_RsaOaep"),
        ("sign", "Basic256Sha256"),
    ] {
        let flow = server.flow(&format!(
            "security = \"{security}\"\npolicy = \"{policy}\"\nserver_certificate = \"{}\"\n{USER}\n{NODES}",
            file.display()
        ));
        std::fs::write(dir.path().join("flow.toml"), flow).unwrap();
        let before = values(dir.path(), "plc", "on").len() as u64;
        let node = run(dir.path());
        until("readings", || node.status().sources[0].readings >= 10);
        node.stop().unwrap();
        assert!(values(dir.path(), "plc", "on").len() as u64 >= before + 10, "{policy}");
        assert_eq!(std::fs::read(dir.path().join("data/opcua/own/cert.der")).unwrap(), own);
    }
    check_constants(dir.path());
}

#[test]
fn a_server_that_is_not_trusted_is_refused_with_its_digest() {
    let Some(server) = Server::start() else { return };
    let digest = &server.digest;
    let (told, _dir) = fail(&server.flow(NODES), "");
    assert!(told.contains(&format!("write `server_digest = \"{digest}\"`")), "{told}");
    let other = "0".repeat(64);
    let (told, _dir) = fail(&server.flow(&format!("server_digest = \"{other}\"\n{NODES}")), "");
    assert!(told.contains("another certificate than the flow trusts"), "{told}");
    assert!(told.contains(digest) && told.contains(&other), "{told}");
}

#[test]
fn a_wrong_password_and_an_offer_that_is_not_there() {
    let Some(server) = Server::start() else { return };
    let pinned = format!("server_digest = \"{}\"\n{NODES}", server.digest);
    let (told, dir) = fail(&server.flow(&format!("{USER}\n{pinned}")), "guess");
    assert!(told.contains("refuses `reader` with this password"), "{told}");
    assert!(!told.contains("guess") && dir.path().join("data/opcua/own/cert.der").exists());
    let flow = format!("security = \"sign\"\npolicy = \"Aes256_Sha256_RsaPss\"\n{pinned}");
    let (told, _dir) = fail(&server.flow(&flow), "");
    let expected = "does not offer \"sign\" by Aes256_Sha256_RsaPss: it offers ";
    assert!(told.contains(expected) && told.contains("\"sign\" by Basic256Sha256"), "{told}");
}

const WORDS: &str = "[source.plc]\ntype = \"opcua\"\nendpoint = \"opc.tcp://10.0.0.7\"\nuser = \"reader\"\npassword_file = \"secret\"\n\
    server_digest = \"AA\"\nnodes = { pressure = \"ns=2;s=Pump.Pressure\" }\n";

#[test]
fn what_a_flow_says_wrongly_is_said() {
    let words = WORDS.replace("\"AA\"", &format!("\"{}\"", "AA:".repeat(31) + "AA"));
    let flow = Flow::parse(Path::new("flow.toml"), words.as_str().into());
    let flow = flow.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(flow.sources[0].interval_ms, Some(1_000.0));
    assert_eq!(flow.sources[0].channels.as_deref().unwrap(), ["pressure"]);
    let shown = format!("{:?}", flow.sources[0].kind);
    assert!(shown.contains("opc.tcp://10.0.0.7:4840"), "{shown}");
    for (change, to, why) in [
        ("endpoint = \"opc.tcp://10.0.0.7\"\n", "", "has no `endpoint`"),
        ("opc.tcp://", "http://", "must begin with opc.tcp://"),
        ("opc.tcp://10.0.0.7", "opc.tcp://me:secret@10.0.0.7", "settings of their own"),
        ("opc.tcp://10.0.0.7", "opc.tcp://10.0.0.7:no", "is no port"),
        ("opc.tcp://10.0.0.7", "opc.tcp://", "it has no host"),
        ("nodes = { pressure = \"ns=2;s=Pump.Pressure\" }", "", "has no `nodes`"),
        ("ns=2;s=Pump.Pressure", "Pump.Pressure", "is no id of a node"),
        ("nodes = ", "channels = [\"a\"]\nnodes = ", "names its channels twice"),
        ("user = \"reader\"\n", "", "a password and no user"),
        ("password_file = \"secret\"\n", "", "a user and no password"),
        ("user = ", "policy = \"Basic256\"\nuser = ", "is deprecated"),
        ("user = ", "policy = \"Basic128Rsa15\"\nuser = ", "is deprecated"),
        ("user = ", "security = \"some\"\nuser = ", "there is no \"some\""),
        ("user = ", "security = \"none\"\nuser = ", "a password would go over an open line"),
        ("user = ", "security = \"none\"\nuser = ", "no certificate looked at"),
        ("user = ", "server_certificate = \"plc.der\"\nuser = ", "named twice"),
        ("AA:", "AA", "64 hexadecimal digits"),
        ("user = ", "deadband = 0.0\nuser = ", "must be above 0"),
        ("user = ", "every = \"1ms\"\nuser = ", "is not from 0.01 s"),
        ("user = ", "timeout = \"1ms\"\nuser = ", "from 100 ms"),
        ("user = ", "broker = \"x\"\nuser = ", "has no setting `broker`"),
    ] {
        let changed = words.replacen(change, to, 1);
        assert_ne!(changed, words, "{change}");
        let changed = if change == "AA:" { WORDS.to_owned() } else { changed };
        let problems = Flow::parse(Path::new("flow.toml"), changed.as_str().into()).unwrap_err().to_string();
        assert!(problems.contains(why), "{change} to {to}: {problems}");
    }
}
