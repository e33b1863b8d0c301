//! A whole node: sources, pipeline, journal, local API, stop and start again.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use node::agent::reload::Reloaded;
use node::agent::{Running, start, start_with};
use node::config::Config;
use node::journal::reader::Reader;
use node::source::BackOff;
use serde_json::Value;
use tempfile::TempDir;
use wire::id::StreamName;
use wire::world::System;

const QUICK: BackOff = BackOff { first: Duration::from_millis(10), longest: Duration::from_millis(20) };

/// A folder with a node's files; the API listens on a free port.
fn folder(flow: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = "[node]\nname = \"n\"\n[api]\nlisten = \"127.0.0.1:0\"\n[journal]\nmin_free_bytes = \"0\"\n";
    fs::write(dir.path().join("node.toml"), node).unwrap();
    fs::write(dir.path().join("flow.toml"), flow).unwrap();
    dir
}

fn config(dir: &Path) -> Config {
    Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn run(dir: &Path) -> Running {
    start_with(config(dir), System::new(), QUICK).unwrap()
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

/// The bodies of a stream's records.
fn records(dir: &Path, stream: &str) -> Vec<Value> {
    let reader = Reader::open(&dir.join("data")).unwrap();
    let records = reader.records(&StreamName::new(stream).unwrap(), 0, 100_000).unwrap();
    records.iter().map(|(record, _)| serde_json::from_str(record.body.get()).unwrap()).collect()
}

/// One request, answered with status, headers and body.
fn ask(addr: SocketAddr, request: &str, body: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    // An answer may come while we still send; a reset after it is no matter.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).unwrap_or("0").parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn post(addr: SocketAddr, path: &str, kind: &str, body: &str) -> (u16, String) {
    let head = format!(
        "POST {path} HTTP/1.1\nHost: localhost\nConnection: close\nContent-Type: {kind}\nContent-Length: {}\n\n",
        body.len()
    );
    let (status, _, body) = ask(addr, &head, body.as_bytes());
    (status, body)
}

fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) =
        ask(addr, &format!("GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n"), b"");
    (status, body)
}

const REPLAY: &str = "[source.pump]\ntype = \"replay\"\nfile = \"pump.csv\"\nspeed = \"max\"\n\
    [rule.high]\ninputs = [\"source.pump\"]\nwhen = \"pump.a > 8\"\nfor = \"2s\"\n";

#[test]
fn a_file_is_played_into_the_journal() {
    let dir = folder(REPLAY);
    let rows: String =
        (0..1_000).map(|n| format!("{n},{}\n", if (500..510).contains(&n) { 9 } else { 1 })).collect();
    fs::write(dir.path().join("pump.csv"), format!("t,a\n{rows}2,1\n")).unwrap();
    let node = run(dir.path());
    until("the end of the file", || node.sources_ended());
    node.stop().unwrap();

    let decisions = records(dir.path(), "decisions");
    let told: Vec<_> =
        decisions.iter().map(|d| (d["state"].as_str().unwrap(), d["at_ms"].as_i64().unwrap())).collect();
    assert_eq!(told, [("firing", 502_000), ("cleared", 510_000)]);
    let raw = records(dir.path(), "readings.pump");
    assert_eq!(raw.iter().map(|body| body["t_ms"].as_array().unwrap().len()).sum::<usize>(), 1_000);
    assert_eq!(records(dir.path(), "summary.pump").len(), 1_000);
    let events = records(dir.path(), "events");
    let last = events.last().unwrap();
    assert_eq!(
        (last["state"].as_str(), last["readings"].as_u64(), last["refused"].as_u64()),
        (Some("ended"), Some(1_000), Some(1))
    );
    let audit = records(dir.path(), "audit");
    assert_eq!((audit.len(), audit[0]["clean"].is_null()), (1, true));
}

#[test]
fn a_firing_rule_survives_a_restart_and_is_not_told_twice() {
    let http = "[source.s]\ntype = \"http\"\nchannels = [\"a\"]\n[rule.high]\ninputs = [\"source.s\"]\nwhen = \"s.a > 8\"\n";
    let dir = folder(http);
    let reading = |node: &Running, t_ms: i64, a: i64| {
        let body = format!("{{\"t_ms\":{t_ms},\"values\":{{\"a\":{a}}}}}");
        assert_eq!(post(node.api_addr().unwrap(), "/v1/readings/s", "application/json", &body).0, 202);
    };
    let node = run(dir.path());
    reading(&node, 1_000, 9);
    node.stop().unwrap();
    let node = run(dir.path());
    reading(&node, 2_000, 9);
    reading(&node, 3_000, 1);
    reading(&node, 4_000, 9);
    node.stop().unwrap();
    let told = |dir: &Path| {
        let decisions = records(dir, "decisions");
        decisions
            .iter()
            .map(|d| (d["state"].as_str().unwrap().to_owned(), d["at_ms"].as_i64().unwrap()))
            .collect::<Vec<_>>()
    };
    let expected =
        [("firing", 1_000), ("cleared", 3_000), ("firing", 4_000)].map(|(state, at)| (state.to_owned(), at));
    assert_eq!(told(dir.path()), expected);
    assert_eq!(records(dir.path(), "audit")[1]["clean"], true);

    // A rule that is gone is cleared.
    fs::write(dir.path().join("flow.toml"), http.replace("rule.high", "rule.other")).unwrap();
    run(dir.path()).stop().unwrap();
    let last = records(dir.path(), "decisions").pop().unwrap();
    assert_eq!(
        (last["state"].as_str(), last["why"].as_str()),
        (Some("cleared"), Some("the rule is no longer in the flow"))
    );
}

#[test]
fn what_a_model_learnt_survives_a_restart_and_damage_does_not_stop_the_node() {
    let flow = "[source.pump]\ntype = \"simulated\"\nspeed = \"max\"\n[model.m]\ntype = \"subspace\"\ninputs = [\"source.pump\"]\nlearn = 1800\n";
    let dir = folder(flow);
    let ready = |node: &Running| node.status().models.first().is_some_and(|model| model.state == "ready");
    let node = run(dir.path());
    until("the model's learning", || ready(&node));
    node.stop().unwrap();
    let stored = dir.path().join("data/models/m.json");
    let length = fs::metadata(&stored).unwrap().len();
    let node = run(dir.path());
    until("the model's return", || ready(&node));
    node.stop().unwrap();
    let returned = |dir: &Path| {
        let events = records(dir, "events");
        events
            .iter()
            .filter(|event| event["part"] == "model.m")
            .map(|event| event["reason"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(
        returned(dir.path()).iter().any(|reason| reason.starts_with("it learnt from ")),
        "{:?}",
        returned(dir.path())
    );

    fs::File::options().write(true).open(&stored).unwrap().set_len(length / 2).unwrap();
    let node = run(dir.path());
    until("the model's learning anew", || ready(&node));
    node.stop().unwrap();
    assert!(
        returned(dir.path())
            .iter()
            .any(|reason| reason.contains("damaged") && reason.contains("learns anew"))
    );
}

#[test]
fn a_source_that_fails_is_tried_again_and_the_rest_goes_on() {
    let flow = format!("{REPLAY}[source.live]\ntype = \"http\"\n");
    let dir = folder(&flow);
    let node = run(dir.path());
    let addr = node.api_addr().unwrap();
    until("the failure", || node.status().sources.iter().any(|source| source.state == "failed"));
    assert_eq!(post(addr, "/v1/readings/live", "application/json", r#"{"values":{"x":1}}"#).0, 202);
    fs::write(dir.path().join("pump.csv"), "t,a\n1,1\n2,1\n").unwrap();
    until("the second try", || node.status().sources[0].state == "ended");
    until("the live reading", || node.status().sources[1].readings == 1);
    assert!(!node.sources_ended());
    node.stop().unwrap();
    let events = records(dir.path(), "events");
    let states: Vec<_> =
        events.iter().filter(|e| e["source"] == "pump").map(|e| e["state"].as_str().unwrap()).collect();
    assert!(states.starts_with(&["failed"]) && states.ends_with(&["running", "ended"]), "{states:?}");
    let failed = events[0]["reason"].as_str().unwrap();
    assert!(
        failed.contains("pump.csv: cannot be read: ") && failed.contains("tried again in 0.01 s"),
        "{failed}"
    );
}

#[test]
fn the_local_api() {
    let dir =
        folder("[source.s]\ntype = \"http\"\n[rule.high]\ninputs = [\"source.s\"]\nwhen = \"s.a > 8\"\n");
    let node = run(dir.path());
    let addr = node.api_addr().unwrap();
    let check = |path: &str, kind: &str, body: &str, status: u16, part: &str| {
        let (found, answer) = post(addr, path, kind, body);
        assert!(found == status && answer.contains(part), "{found} {answer}");
    };
    let (json, text) = ("application/json", "text/plain");
    check(
        "/v1/readings/s",
        json,
        r#"[{"t_ms":1000,"values":{"a":1}},{"t_ms":2000,"values":{"a":2}}]"#,
        202,
        "\"taken\":2",
    );
    check("/v1/readings/s?precision=s", text, "m a=9 3\n", 202, "\"taken\":1");
    check(
        "/v1/readings/s",
        text,
        "m b=9 3\n",
        422,
        "no channel `b` in this source (known: `a`); nothing of it was taken",
    );
    check("/v1/readings/s?precision=h", text, "m a=9 3\n", 400, "ns, us, ms or s");
    check("/v1/readings/s", "image/png", "x", 415, "content_type");
    check("/v1/readings/t", json, "{}", 404, "(known: `s`)");
    check("/v1/readings/s", json, "{", 422, "EOF");
    check("/v2", json, "{", 404, "not_found");
    assert_eq!(get(addr, "/v1/readings/s").0, 405);
    assert_eq!(get(addr, "/health"), (200, r#"{"status":"ok"}"#.to_owned()));
    until("the decision", || node.status().rules.first().is_some_and(|rule| rule.state == "firing"));
    let (status, state) = get(addr, "/v1/state");
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (status, &state["node"], &state["sources"][0]["values"]["a"]),
        (200, &"n".into(), &9.0.into())
    );

    // A body that says it has 100 MB is refused before it is sent, one that does not say at 4 MiB.
    let head = "POST /v1/readings/s HTTP/1.1\nHost: localhost\nContent-Type: application/json\n";
    let (status, head_back, body) = ask(addr, &format!("{head}Content-Length: 100000000\n\n"), b"{");
    assert!(
        status == 413 && head_back.contains("connection: close") && body.contains("too_large"),
        "{status} {body}"
    );
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    let (status, ..) =
        ask(addr, &format!("{head}Transfer-Encoding: chunked\n\n"), chunk.repeat(5).as_bytes());
    assert!(status == 413 || status == 0, "{status}");
    let (status, _, body) =
        ask(addr, "GET /v1/state HTTP/1.1\nHost: evil.example\nConnection: close\n\n", b"");
    assert!(status == 403 && body.contains("unknown_host"), "{status} {body}");
    node.stop().unwrap();
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let dir = folder(REPLAY);
    let first = run(dir.path());
    let again = start(config(dir.path()), System::new()).map(|_| ()).unwrap_err();
    assert!(
        node::why::why(&again).contains("another process uses the journal"),
        "{}",
        node::why::why(&again)
    );
    let addr = first.api_addr().unwrap();
    let node_toml = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    let taken = node_toml.replace("127.0.0.1:0", &addr.to_string());
    fs::write(dir.path().join("node.toml"), format!("{taken}[hub]\nurl = \"http://hub\"\n")).unwrap();
    let again = start(config(dir.path()), System::new()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(again, format!("the local API cannot listen on {addr}"));
    first.stop().unwrap();
}

#[test]
fn a_hub_that_is_away_and_a_caller_that_stays_hold_nobody_up() {
    let dir = folder("[source.s]\ntype = \"http\"\n");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node_toml = dir.path().join("node.toml");
    let text = fs::read_to_string(&node_toml).unwrap();
    fs::write(&node_toml, format!("{text}[hub]\nurl = \"http://{closed}\"\n")).unwrap();
    let node = run(dir.path());
    let mut silent = TcpStream::connect(node.api_addr().unwrap()).unwrap();
    silent
        .write_all(b"POST /v1/readings/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    until("word of the hub", || node.status().uplink.is_some_and(|uplink| uplink.trouble.is_some()));
    assert_eq!(
        post(node.api_addr().unwrap(), "/v1/readings/s", "application/json", r#"{"values":{"x":1}}"#).0,
        202
    );
    let (done, stopped) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(node.stop().is_ok()));
    assert_eq!(stopped.recv_timeout(Duration::from_secs(20)), Ok(true));
    let events = records(dir.path(), "events");
    assert!(events.iter().any(|event| event["part"] == "uplink" && event["state"] == "failed"), "{events:?}");
    assert_eq!(records(dir.path(), "readings.s").len(), 1);
}

#[test]
fn callers_that_only_hold_connections_keep_nobody_out() {
    let dir = folder("[source.s]\ntype = \"http\"\n");
    let node = run(dir.path());
    let addr = node.api_addr().unwrap();
    let beginnings: [&[u8]; 3] = [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"];
    let silent: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(addr).unwrap();
            // Who is closed for another hears of it here, or later.
            let _ = stream.write_all(beginnings[n % 3]);
            stream
        })
        .collect();
    let began = std::sync::mpsc::channel();
    std::thread::spawn(move || began.0.send(get(addr, "/health").0));
    assert_eq!(began.1.recv_timeout(Duration::from_secs(5)), Ok(200));
    // All but a few dozen of them have been closed.
    let open = || {
        let still_open = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let mut answer = [0; 4_096];
            loop {
                match stream.read(&mut answer) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        };
        silent.iter().filter(|stream| still_open(stream)).count()
    };
    until("the end of most connections", || open() <= 64);
    assert!(open() > 32, "no more than needed are closed: {}", open());
    node.stop().unwrap();
}

#[cfg(unix)]
#[test]
fn a_journal_damaged_at_work_is_told_in_the_new_one() {
    let dir =
        folder("[source.s]\ntype = \"http\"\n[rule.high]\ninputs = [\"source.s\"]\nwhen = \"s.a > 8\"\n");
    let node = run(dir.path());
    let reading = |t_ms: i64, a: i64| {
        let body = format!("{{\"t_ms\":{t_ms},\"values\":{{\"a\":{a}}}}}");
        assert_eq!(post(node.api_addr().unwrap(), "/v1/readings/s", "application/json", &body).0, 202);
    };
    reading(1_000, 9);
    until("the decision", || node.status().decided.count == 1);
    // Its pages are written over, in the file and, by another connection's commit, out of the node's cache.
    let path = dir.path().join("data/journal.sqlite");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xaa; length - 4_096], 4_096).unwrap();
    other.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(other);
    reading(2_000, 1);
    until("the second decision", || node.status().decided.count == 2);
    node.stop().unwrap();
    let events = records(dir.path(), "events");
    let told = events.iter().find(|event| event["part"] == "journal").unwrap();
    assert!(
        told["state"] == "failed" && told["reason"].as_str().unwrap().contains("journal.damaged-1"),
        "{told}"
    );
    assert_eq!(records(dir.path(), "decisions").last().unwrap()["state"], "cleared");
}

#[test]
fn a_changed_flow_is_taken_without_losing_what_did_not_change() {
    const FLOW: &str = "[params]\nlimit = 8\n[source.s]\ntype = \"http\"\nchannels = [\"a\", \"b\"]\n\
        [model.m]\ntype = \"subspace\"\ninputs = [\"source.s\"]\nlag = 1\nlearn = 40\n\
        [rule.high]\ninputs = [\"source.s\"]\nwhen = \"s.a > ${params.limit}\"\n\
        [rule.low]\ninputs = [\"source.s\"]\nwhen = \"s.b < -8\"\n";
    let dir = folder(FLOW);
    let node = run(dir.path());
    let post_all = |source: &str, from: i64, count: i64, a: f64| {
        let rows: Vec<String> = (from..from + count)
            .map(|n| {
                let wave = (n as f64 * 1.3).sin();
                format!(
                    "{{\"t_ms\":{},\"values\":{{\"a\":{},\"b\":{}}}}}",
                    n * 1_000,
                    a + wave,
                    -9.0 + wave / 2.0
                )
            })
            .collect();
        let body = format!("[{}]", rows.join(","));
        post(node.api_addr().unwrap(), &format!("/v1/readings/{source}"), "application/json", &body)
    };
    let rule = |name: &str| {
        let rules = node.status().rules;
        rules.iter().find(|rule| rule.rule.as_str() == name).map(|rule| rule.state)
    };
    assert_eq!(post_all("s", 0, 60, 20.0).0, 202);
    until("the model", || node.status().models.first().is_some_and(|model| model.readings == 60));
    until("the rules", || rule("high") == Some("firing") && rule("low") == Some("firing"));
    assert_eq!(node.reload(), Reloaded::Same);

    // A bad one changes nothing.
    let write = |text: &str| fs::write(dir.path().join("flow.toml"), text).unwrap();
    write(&FLOW.replace("s.b <", "s.c <"));
    let Reloaded::Refused(reason) = node.reload() else { panic!("it was taken") };
    assert!(reason.contains("has no channel `c`") && reason.contains("goes on"), "{reason}");
    assert_eq!(node.status().flow_problem.as_ref(), Some(&reason));
    assert_eq!(post_all("s", 60, 10, 20.0).0, 202);

    // A good one: another source, a rule less, a rule more.
    let (without, _) = FLOW.split_once("[rule.low]").unwrap();
    write(&format!(
        "{without}[source.t]\ntype = \"http\"\n[rule.both]\ninputs = [\"source.s\", \"source.t\"]\n\
         when = \"s.a > 8 && t.a > 8\"\n"
    ));
    // A file that changed since the last look may still be being written.
    assert_eq!(node.look_at_flow(), None);
    assert_eq!(node.look_at_flow(), Some(Reloaded::Taken));
    assert_eq!(node.look_at_flow(), None);
    until("the new flow", || rule("both").is_some() && rule("low").is_none());
    let status = node.status();
    assert_eq!((rule("high"), status.flow_problem), (Some("firing"), None));
    assert_eq!((status.models[0].state, status.models[0].readings), ("ready", 70));
    assert_eq!(status.sources[0].readings, 70, "the source went on");
    assert_eq!(post_all("s", 70, 1, 20.0).0, 202);
    assert_eq!(post_all("t", 70, 1, 20.0).0, 202);
    until("the new rule", || rule("both") == Some("firing"));
    node.stop().unwrap();

    let decisions = records(dir.path(), "decisions");
    let told: Vec<String> = decisions
        .iter()
        .map(|it| format!("{} {}", it["rule"].as_str().unwrap(), it["state"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["high firing", "low firing", "low cleared", "both firing"], "{decisions:#?}");
    assert_eq!(decisions[2]["why"], "the rule is no longer in the flow");
    let events = records(dir.path(), "events");
    let of_flow: Vec<&str> = events
        .iter()
        .filter(|event| event["part"] == "flow")
        .map(|event| event["state"].as_str().unwrap())
        .collect();
    assert_eq!(of_flow, ["failed", "ready"]);
}
