//! Records on their way to a collector of OpenTelemetry, which reads them by the protocol's own definitions and is not always well.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::stand::{folder, free_port, records, run, until};

struct Collector {
    child: Child,
    port: u16,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one; `None`, and a word, where there is no such Python.
fn collector() -> Option<Collector> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/bin/python");
    let python = std::env::var_os("SELVEDGE_PYTHON").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let has = Command::new(&python)
        .args(["-c", "import opentelemetry.proto.collector.logs.v1.logs_service_pb2"])
        .stderr(Stdio::null())
        .status();
    if !has.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {} has no opentelemetry-proto", python.display());
        return None;
    }
    let port = free_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plant/collector.py");
    let child = Command::new(python).arg(script).arg(port.to_string()).spawn().unwrap();
    let collector = Collector { child, port };
    until("the collector", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(collector)
}

impl Collector {
    fn seen(&self) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"GET /seen HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

#[test]
fn a_collector_gets_each_decision_and_each_number() {
    let Some(collector) = collector() else { return };
    let flow = format!(
        "[source.pump]\ntype = \"replay\"\nfile = \"pump.csv\"\nspeed = 50\nsummary = \"10s\"\n\
         [rule.high]\ninputs = [\"source.pump\"]\nwhen = \"pump.a > 8\"\n\
         [sink.otel]\ntype = \"otlp\"\nurl = \"http://127.0.0.1:{}\"\nrecords = [\"decision\", \"summary\", \"readings\"]\n\
         from = \"beginning\"\n",
        collector.port
    );
    let rows: String = (0..600).map(|n| format!("{n},{},{n}\n", if n % 10 == 5 { 9 } else { 1 })).collect();
    let dir = folder(&flow);
    fs::write(dir.path().join("pump.csv"), format!("t,a,b\n{rows}")).unwrap();
    // Raw readings stay unless the policy lets them out.
    let policy =
        fs::read_to_string(dir.path().join("node.toml")).unwrap() + "[policy]\nleaves = \"everything\"\n";
    fs::write(dir.path().join("node.toml"), policy).unwrap();
    let node = run(dir.path());
    until("the end of the file", || node.sources_ended());
    // One of 120 is left out for good.
    until("the decisions", || collector.seen()["logs"].as_array().unwrap().len() >= 119);
    until("the readings", || {
        let points = collector.seen();
        let readings =
            points["points"].as_array().unwrap().iter().filter(|point| point["name"] == "selvedge.reading");
        readings.count() >= 1_200
    });
    until("it is well again", || node.status().sinks[0].state == "running");
    node.stop().unwrap();

    let seen = collector.seen();
    assert_eq!(seen["refused"], serde_json::json!([]), "what the protocol's own parser says");
    assert!(seen["too_large"].as_u64().unwrap() > 0, "some were sent in halves: {}", seen["requests"]);
    assert_eq!(seen["resource"]["service.name"], "selvedge");
    assert_eq!(seen["resource"]["service.instance.id"], "oslo-7");
    let logs = seen["logs"].as_array().unwrap();
    let mut ids: Vec<&str> = logs.iter().map(|log| log["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), logs.len()), (119, 119), "each once, although some requests failed");
    let decisions = records(dir.path(), "decisions");
    for log in logs {
        assert_eq!(log["event"], "selvedge.decision");
        let seq: usize = log["id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
        let decision = &decisions[seq - 1];
        assert_eq!(log["body"]["state"]["stringValue"], decision["state"]);
        assert_eq!(log["t"].as_i64().unwrap() / 1_000_000, decision["at_ms"].as_i64().unwrap());
        let severity = if decision["state"] == "firing" { 13 } else { 9 };
        assert_eq!(log["severity"], severity);
        assert!(log["observed"].as_u64().unwrap() > 0);
    }
    let points = seen["points"].as_array().unwrap();
    let mut of_b: Vec<f64> = points
        .iter()
        .filter(|point| point["name"] == "selvedge.reading" && point["of"]["channel"] == "b")
        .map(|point| point["value"].as_f64().unwrap())
        .collect();
    of_b.sort_by(f64::total_cmp);
    of_b.dedup();
    assert_eq!(of_b, (0..600).map(f64::from).collect::<Vec<_>>());
    for name in ["selvedge.channel.mean", "selvedge.rule.firing", "selvedge.rule.value", "selvedge.latency"] {
        assert!(points.iter().any(|point| point["name"] == name), "{name}");
    }
}
