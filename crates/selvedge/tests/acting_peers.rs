//! Actuators behind a broker and behind Modbus, with the real program: when the node is killed the guard brings them back, and when the
//! guard is killed with it, the broker does.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use node::act::device::face::Device;
use node::flow::Flow;
use node::mqtt::broker::{Broker, Version};
use node::mqtt::{Event, Link, Session};
use tempfile::TempDir;
use wire::body::act::Setting;

/// A process of a test, which ends with it.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come");
}

/// A broker on a free port; `None`, and a word, where there is none.
fn mosquitto(dir: &Path) -> Option<(Ends, u16)> {
    let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
    let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
        eprintln!("skipped: there is no mosquitto on this machine");
        return None;
    };
    let port = free_port();
    let conf = dir.join("mosquitto.conf");
    std::fs::write(&conf, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let quiet = || Stdio::null();
    let child = Command::new(program).arg("-c").arg(conf).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    wait("the broker", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some((Ends(child), port))
}

/// A device of pymodbus on a free port; `None`, and a word, where there is none.
fn pymodbus() -> Option<(Ends, u16)> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python)
        .args(["-c", "import pymodbus.simulator, serial"])
        .stderr(Stdio::null())
        .status();
    if !has.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {} has no pymodbus", python.display());
        return None;
    }
    let port = free_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/tests/plant/device.py");
    let child =
        Command::new(python).arg(script).args(["tcp", &port.to_string()]).stdout(Stdio::null()).spawn();
    let child = Ends(child.unwrap());
    wait("the device", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some((child, port))
}

/// A valve behind a broker, which does what it is told and says what it is: the orders it had.
fn valve(port: u16) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (tells, up) = (Arc::clone(&told), Arc::new(Mutex::new(false)));
    let is_up = Arc::clone(&up);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let host = "127.0.0.1".to_owned();
            let broker =
                Broker { host, port, version: Version::V5, tls: None, user: None, password_file: None };
            let mut link = Link::open(&broker, "the-valve", Session::Clean, None).unwrap();
            while let Ok(event) = link.next().await {
                match event {
                    Event::Connected { .. } => link.subscribe(&["valve/set".to_owned()], 0).unwrap(),
                    Event::Subscribed { .. } => *is_up.lock().unwrap() = true,
                    Event::Message(message) => {
                        tells.lock().unwrap().push(String::from_utf8(message.payload.to_vec()).unwrap());
                        link.publish("valve/state".into(), message.payload.to_vec(), false).await.unwrap();
                    }
                    Event::Other => {}
                }
            }
        });
    });
    wait("the valve", || *up.lock().unwrap());
    told
}

/// A node with a valve behind a broker and a pump behind Modbus.
struct House {
    folder: TempDir,
    node: Child,
    told: Arc<Mutex<Vec<String>>>,
    pump: Box<dyn Device>,
    _peers: [Ends; 2],
}

impl House {
    fn new() -> Option<House> {
        let folder = tempfile::tempdir().unwrap();
        let (broker, mqtt) = mosquitto(folder.path())?;
        let (device, modbus) = pymodbus()?;
        let told = valve(mqtt);
        std::fs::write(folder.path().join("node.toml"), "[node]\nname = \"n\"\ndata = \"data\"\n").unwrap();
        let flow = format!(
            "[source.pump]\ntype = \"http\"\n\
             [actuator.valve]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{mqtt}\"\ntopic = \"valve/set\"\n\
             read_topic = \"valve/state\"\nvalues = [\"open\", \"closed\"]\nsafe = \"closed\"\nwrite = true\ndry_run = false\nrate = \"100/s\"\n\
             [actuator.pump]\ntype = \"modbus-tcp\"\naddress = \"127.0.0.1:{modbus}\"\nregister = \"u16@130*0.1\"\n\
             range = [0, 100]\nsafe = 0\nwrite = true\ndry_run = false\nrate = \"100/s\"\n"
        );
        std::fs::write(folder.path().join("flow.toml"), &flow).unwrap();
        let flow = Flow::parse("flow.toml".as_ref(), flow.into()).unwrap();
        let pump = &flow.actuators[1];
        let pump = node::act::device::open(&pump.driver, &pump.limits.allowed, &pump.limits.safe).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let node = Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .args(["--log", "warn", "node"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let house = House { folder, node, told, pump, _peers: [broker, device] };
        wait("the node takes what it is asked", || house.act(&["ls"]).status.success());
        Some(house)
    }

    fn act(&self, words: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_selvedge");
        Command::new(program).arg("act").args(words).current_dir(self.folder.path()).output().unwrap()
    }

    /// Sets both away from their safe settings.
    fn open(&mut self) {
        for (actuator, to) in [("valve", "open"), ("pump", "41.5")] {
            let mut said = String::new();
            wait("it is set", || {
                // Who asks too often is not heard, and a rate begins used up.
                sleep(Duration::from_millis(300));
                let output = self.act(&["--why", "a test", "--for", "10m", "--who", "kim", actuator, to]);
                said = String::from_utf8_lossy(&output.stdout).into_owned();
                output.status.success()
            });
            assert!(said.contains(&format!("it says {to}")), "{said}");
        }
        assert_eq!(
            (self.valve(), self.pump.read().unwrap()),
            ("open".to_owned(), Some(Setting::Number(41.5)))
        );
    }

    fn valve(&self) -> String {
        self.told.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Asked to end, so that its guard ends before the folder does.
        if self.node.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(Command::new("kill").arg(self.node.id().to_string()).status());
        }
        drop(self.node.wait());
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// The guard: the only child of the node.
fn guard_of(node: u32) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{node}/task")).unwrap();
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    children.collect::<String>().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_node_that_is_killed() {
    let Some(mut house) = House::new() else { return };
    house.open();
    kill(house.node.id());
    wait("the valve", || house.valve() == "closed");
    wait("the pump", || house.pump.read().unwrap() == Some(Setting::Number(0.0)));
}

#[test]
fn a_guard_that_is_killed_with_its_node() {
    let Some(mut house) = House::new() else { return };
    house.open();
    // The node first stands still, so that it starts no other guard.
    let node = house.node.id();
    let guard = guard_of(node);
    assert!(Command::new("kill").args(["-STOP", &node.to_string()]).status().unwrap().success());
    kill(guard);
    wait("the will", || house.valve() == "closed");
    // Nobody is left who could tell the pump: that is what a watchdog in the device is for.
    assert_eq!(house.pump.read().unwrap(), Some(Setting::Number(41.5)));
    kill(node);
}
