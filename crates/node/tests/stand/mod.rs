//! What tests of whole nodes stand on: a node in a folder, and looks into its journal.
#![allow(dead_code, reason = "each test uses its part of this")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use node::agent::{Running, start_with};
use node::config::Config;
use node::journal::reader::Reader;
use node::source::BackOff;
use node::status::SourceStatus;
use serde_json::Value;
use tempfile::TempDir;
use wire::id::StreamName;
use wire::world::System;

/// Failures are tried again at once.
pub(crate) const QUICK: BackOff =
    BackOff { first: Duration::from_millis(50), longest: Duration::from_millis(200) };

/// A folder with a node's files.
pub(crate) fn folder(flow: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = "[node]\nname = \"oslo-7\"\n[journal]\nmin_free_bytes = \"0\"\n";
    fs::write(dir.path().join("node.toml"), node).unwrap();
    fs::write(dir.path().join("flow.toml"), flow).unwrap();
    dir
}

/// Starts it, and waits until it says how its sources are.
pub(crate) fn run(dir: &Path) -> Running {
    let config = Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let node = start_with(config, System::new(), QUICK).unwrap();
    until("the first status", || !node.status().sources.is_empty());
    node
}

/// Waits up to a minute for something that must come.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not come");
}

/// How the only source is.
pub(crate) fn source(node: &Running) -> SourceStatus {
    node.status().sources.into_iter().next().unwrap()
}

/// The bodies of a stream's records; none if there is no journal yet.
pub(crate) fn records(dir: &Path, stream: &str) -> Vec<Value> {
    let Ok(reader) = Reader::open(&dir.join("data")) else { return Vec::new() };
    let records = reader.records(&StreamName::new(stream).unwrap(), 0, 1_000_000).unwrap();
    records.iter().map(|(record, _)| serde_json::from_str(record.body.get()).unwrap()).collect()
}

/// All values of a channel of a source, as they were journalled; NaN where there was none.
pub(crate) fn values(dir: &Path, source: &str, channel: &str) -> Vec<f64> {
    let mut values = Vec::new();
    for body in records(dir, &format!("readings.{source}")) {
        let channels = body["channels"].as_array().unwrap();
        let at = channels.iter().position(|name| name == channel).unwrap();
        let column = body["values"][at].as_array().unwrap();
        values.extend(column.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)));
    }
    values
}

/// What the sources have told of themselves.
pub(crate) fn reasons(dir: &Path) -> String {
    let told = records(dir, "events");
    told.iter().filter_map(|body| body["reason"].as_str()).collect::<Vec<_>>().join("\n")
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
