//! A node that somebody starts again when it dies: what it leaves out, and that it comes back when a person starts it.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use node::agent::{Running, Supervision, start_supervised};
use node::config::Config;
use node::journal::reader::Reader;
use node::source::BackOff;
use node::supervise::crumb;
use node::supervise::notify::NotifySettings;
use node::supervise::starts::Starts;
use wire::id::StreamName;
use wire::world::System;

const FLOW: &str = "[source.good]\ntype = \"simulated\"\nseed = 1\nrate_hz = 50.0\nhistory = \"1s\"\n\n\
    [source.bad]\ntype = \"simulated\"\nseed = 2\nrate_hz = 50.0\nhistory = \"1s\"\n";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = "[node]\nname = \"n\"\n[journal]\nmin_free_bytes = \"0\"\n";
    fs::write(dir.path().join("node.toml"), node).unwrap();
    fs::write(dir.path().join("flow.toml"), FLOW).unwrap();
    dir
}

fn run(dir: &Path, manager: NotifySettings) -> Running {
    let config = Config::load(&dir.join("node.toml")).unwrap();
    let supervision = Supervision { restarted: true, manager, machine: None };
    start_supervised(config, System::new(), BackOff::default(), supervision).unwrap()
}

/// Waits for something that must come.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come");
}

fn state(running: &Running, name: &str) -> String {
    let status = running.status();
    let source = status.sources.iter().find(|source| source.source.as_str() == name);
    source.map_or_else(String::new, |source| source.state.to_owned())
}

#[test]
fn a_source_that_the_node_dies_of_is_left_out_until_a_person_starts_it_again() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let died = || fs::write(data.join(crumb::FILE), format!("{:<128}", "source.bad")).unwrap();
    Starts { restless: 3, blamed: [("source.bad".to_owned(), 2)].into() }.save(&data).unwrap();
    died();
    let running = run(dir.path(), NotifySettings::default());
    until("the good source", || state(&running, "good") == "running");
    until("what is left out", || running.status().health.left_out.len() == 2);
    assert_eq!(state(&running, "bad"), "failed");
    let left_out = running.status().health.left_out;
    assert!(left_out[0].starts_with("models: ") && left_out[1].starts_with("source.bad: "), "{left_out:?}");
    running.stop().unwrap();
    let reader = Reader::open(&data).unwrap();
    let events = reader.records(&StreamName::new("events").unwrap(), 0, 1_000).unwrap();
    let told = |words: &str| events.iter().any(|(record, _)| record.body.get().contains(words));
    assert!(told("\"left_out\"") && told("the node died 3 times"), "it is in the journal");
    drop(reader);

    // It was told to end: everything has one more chance, and the next death counts.
    let running = run(dir.path(), NotifySettings::default());
    until("both sources", || state(&running, "good") == "running" && state(&running, "bad") == "running");
    assert!(running.status().health.left_out.is_empty());
    running.stop().unwrap();
    died();
    let running = run(dir.path(), NotifySettings::default());
    until("the bad source", || state(&running, "bad") == "failed");
    running.stop().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_hears_that_the_node_runs_and_goes_round() {
    let dir = folder();
    let socket = dir.path().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let manager = NotifySettings {
        socket: Some(socket.display().to_string()),
        watchdog: Some(Duration::from_millis(100)),
    };
    let running = run(dir.path(), manager);
    let hear = || {
        let mut words = [0; 256];
        let length = listener.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    let mut fed = 0;
    while fed < 3 {
        fed += u32::from(hear() == "WATCHDOG=1");
    }
    assert!(running.status().health.watchdog);
    running.stop().unwrap();
    let rest: Vec<String> =
        std::iter::from_fn(|| Some(hear()).filter(|words| words != "STOPPING=1")).collect();
    assert!(rest.iter().all(|words| words == "WATCHDOG=1" || words.starts_with("STATUS=")), "{rest:?}");
}
