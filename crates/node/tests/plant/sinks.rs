//! Records on their way to files, web addresses and brokers: each at least once, whatever happens to either end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::broker::mosquitto;
use crate::stand::{folder, records, run, until};

/// A source whose value is 9 in each tenth reading, and a rule that fires there: two decisions for each.
fn flow(rows: usize, sinks: &str) -> (String, String) {
    let flow = format!(
        "[source.pump]\ntype = \"replay\"\nfile = \"pump.csv\"\nspeed = 20\n\
         [rule.high]\ninputs = [\"source.pump\"]\nwhen = \"pump.a > 8\"\n{sinks}"
    );
    let rows: String = (0..rows).map(|n| format!("{n},{}\n", if n % 10 == 5 { 9 } else { 1 })).collect();
    (flow, format!("t,a\n{rows}"))
}

fn station(rows: usize, sinks: &str) -> tempfile::TempDir {
    let (flow, rows) = flow(rows, sinks);
    let dir = folder(&flow);
    fs::write(dir.path().join("pump.csv"), rows).unwrap();
    dir
}

fn ids(lines: &str) -> Vec<String> {
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    lines.lines().map(id).collect()
}

fn all_lines(dir: &Path) -> String {
    let mut all = String::new();
    for number in (1..10).rev() {
        all.push_str(&fs::read_to_string(dir.join(format!("out/alarms.jsonl.{number}"))).unwrap_or_default());
    }
    all + &fs::read_to_string(dir.join("out/alarms.jsonl")).unwrap_or_default()
}

#[test]
fn a_file_gets_each_decision_over_restarts() {
    let sinks = "[sink.log]\ntype = \"file\"\nfile = \"out/alarms.jsonl\"\nmax_bytes = \"4KiB\"\nkeep = 9\n\
        records = [\"decision\"]\ninputs = [\"rule.*\"]\n";
    let dir = station(100, sinks);
    for _ in 0..2 {
        let node = run(dir.path());
        until("the end of the file", || node.sources_ended());
        node.stop().unwrap();
    }
    let decisions = records(dir.path(), "decisions").len();
    assert_eq!(decisions, 40);
    let ids = ids(&all_lines(dir.path()));
    assert_eq!(ids.len(), decisions, "a clean stop passes nothing on twice");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), decisions);
    assert!(dir.path().join("out/alarms.jsonl.1").exists(), "it was rotated");
    let line: Value = serde_json::from_str(all_lines(dir.path()).lines().next().unwrap()).unwrap();
    assert_eq!((line["part"].as_str(), line["node"].as_str()), (Some("rule.high"), Some("oslo-7")));
    assert_eq!(line["body"]["state"], "firing");
}

/// A receiver that fails now and then: what it has taken, by id, and how often.
struct Receiver {
    url: String,
    taken: Arc<Mutex<BTreeMap<String, usize>>>,
    down: Arc<AtomicBool>,
}

fn receiver() -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alarms", listener.local_addr().unwrap());
    let (taken, down) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
    let (takes, is_down) = (Arc::clone(&taken), Arc::clone(&down));
    std::thread::spawn(move || {
        let mut asked = 0;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            // One connection may bring several posts.
            loop {
                let (mut length, mut key, mut line) = (0, String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some((name, value)) = line.split_once(':') {
                        match name.to_lowercase().as_str() {
                            "content-length" => length = value.trim().parse().unwrap(),
                            "idempotency-key" => key = value.trim().to_owned(),
                            _ => {}
                        }
                    }
                    line.clear();
                }
                if key.is_empty() {
                    break;
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    break;
                }
                let body: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(body["id"], key.as_str());
                asked += 1;
                let answer = match asked {
                    _ if is_down.load(Relaxed) => "503 Service Unavailable",
                    // The 7th is refused for good, each 3rd fails, each 5th is taken and the answer is lost.
                    7 => "422 Unprocessable Content",
                    asked if asked % 3 == 0 => "500 Internal Server Error",
                    asked => {
                        *takes.lock().unwrap().entry(key).or_insert(0) += 1;
                        if asked % 5 == 0 {
                            break;
                        }
                        "204 No Content"
                    }
                };
                let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    Receiver { url, taken, down }
}

#[test]
fn a_web_address_that_fails_gets_each_decision() {
    let receiver = receiver();
    let sinks =
        format!("[sink.ops]\ntype = \"webhook\"\nurl = \"{}\"\nrecords = [\"decision\"]\n", receiver.url);
    let dir = station(200, &sinks);
    let node = run(dir.path());
    until("the first", || receiver.taken.lock().unwrap().len() >= 5);
    receiver.down.store(true, Relaxed);
    until("the end of the file", || node.sources_ended());
    until("the failure", || node.status().sinks[0].state == "failed");
    assert!(node.status().sinks[0].reason.contains("503"), "{}", node.status().sinks[0].reason);
    // The node is not held up by it.
    node.stop().unwrap();
    receiver.down.store(false, Relaxed);
    let node = run(dir.path());
    until("the end of the file", || node.sources_ended());
    // One is refused for good.
    until("the rest", || receiver.taken.lock().unwrap().len() + 1 == records(dir.path(), "decisions").len());
    node.stop().unwrap();
    let decisions = records(dir.path(), "decisions").len();
    let taken = receiver.taken.lock().unwrap();
    assert_eq!(taken.len(), decisions - 1);
    let twice = taken.values().filter(|count| **count > 1).count();
    eprintln!("webhook: {decisions} decisions, {} taken, {twice} of them twice", taken.len());
}

#[test]
fn what_the_data_policy_keeps_in_goes_to_no_sink_that_sends() {
    let receiver = receiver();
    let sinks = format!(
        "[sink.ops]\ntype = \"webhook\"\nurl = \"{}\"\nrecords = [\"readings\", \"decision\"]\n\
         [sink.log]\ntype = \"file\"\nfile = \"out/alarms.jsonl\"\nrecords = [\"readings\"]\n",
        receiver.url
    );
    let dir = station(100, &sinks);
    let node = run(dir.path());
    until("the end of the file", || node.sources_ended());
    let decisions = records(dir.path(), "decisions").len();
    // One is refused for good.
    until("the decisions", || receiver.taken.lock().unwrap().len() + 1 >= decisions);
    node.stop().unwrap();
    let taken = receiver.taken.lock().unwrap();
    assert!(taken.keys().all(|id| !id.contains("-readings.")), "{taken:?}");
    // What stays on this machine is another matter.
    assert!(ids(&all_lines(dir.path())).iter().any(|id| id.contains("-readings.pump-")));
}

#[test]
fn a_broker_and_home_assistant_hear_of_it() {
    let Some(mut broker) = mosquitto(false) else { return };
    let sinks = format!(
        "[sink.home]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{}\"\ndiscovery = \"homeassistant\"\n",
        broker.port
    );
    let dir = station(200, &sinks);
    let node = run(dir.path());
    let came = broker.listen("#", |came| {
        came.iter().any(|(topic, payload)| topic == "selvedge/oslo-7/rule/high/state" && payload == "ON")
            && came.iter().any(|(topic, _)| topic == "selvedge/oslo-7/source/pump/state")
            && came.iter().any(|(topic, _)| topic == "selvedge/oslo-7/decision/rule/high")
    });
    let topics: BTreeMap<&str, &str> =
        came.iter().map(|(topic, payload)| (topic.as_str(), payload.as_str())).collect();
    assert_eq!(topics["selvedge/oslo-7/availability"], "online");
    // What Home Assistant's page on discovery asks for.
    let rule: Value =
        serde_json::from_str(topics["homeassistant/binary_sensor/selvedge_oslo-7/rule_high/config"]).unwrap();
    let sensor: Value =
        serde_json::from_str(topics["homeassistant/sensor/selvedge_oslo-7/source_pump_a/config"]).unwrap();
    for config in [&rule, &sensor] {
        assert!(config["unique_id"].is_string() && config["name"].is_string());
        assert!(config["device"]["identifiers"][0].is_string() && config["origin"]["name"].is_string());
        assert_eq!(config["availability_topic"], "selvedge/oslo-7/availability");
    }
    assert_eq!((rule["payload_on"].as_str(), rule["device_class"].as_str()), (Some("ON"), Some("problem")));
    assert_eq!(sensor["value_template"], "{{ value_json['a'] }}");
    assert!(topics.contains_key(sensor["state_topic"].as_str().unwrap()));

    // The broker goes away; what happens meanwhile reaches it later.
    broker.stop();
    until("the failure", || node.status().sinks[0].state == "failed");
    broker.start();
    until("the end of the file", || node.sources_ended());
    until("the connection", || node.status().sinks[0].state == "running");
    node.stop().unwrap();
    let left = broker.listen("selvedge/oslo-7/availability", |came| !came.is_empty());
    assert_eq!(left[0].1, "offline");
}
