//! Reports of a node that runs: written when a shift is over, by a language model only if it keeps to the numbers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::stand::{folder, records, run, until};

/// A source that speaks for half a minute, a rule that fires now and then, and shifts of two seconds.
fn flow(more: &str) -> String {
    format!(
        "[source.pump]\ntype = \"replay\"\nfile = \"pump.csv\"\nspeed = 20\nsummary = \"5s\"\n\
         [rule.high]\ninputs = [\"source.pump\"]\nwhen = \"pump.a > 8\"\n\
         [report.shift]\ntitle = \"The pump\"\nevery = \"2s\"\nnames = {{ \"pump.a\" = \"pressure (bar)\" }}\n{more}"
    )
}

fn station(more: &str) -> tempfile::TempDir {
    let dir = folder(&flow(more));
    let rows: String = (0..600).map(|n| format!("{n},{}\n", if n % 10 == 5 { 9 } else { 1 })).collect();
    fs::write(dir.path().join("pump.csv"), format!("t,a\n{rows}")).unwrap();
    dir
}

/// A server that is asked for chat completions: what it says, and what it was asked.
pub(crate) fn model(says: &'static str, end: &'static str) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(("content-length", number)) = line.to_lowercase().split_once(": ") {
                    length = number.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            asks.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let choice = json!({"message": {"role": "assistant", "content": says}, "finish_reason": end});
            let answer = json!({"choices": [choice]}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all((head + &answer).as_bytes());
        }
    });
    (url, asked)
}

/// Runs until there are three reports; gives them.
fn reports(dir: &std::path::Path, stream: &str) -> Vec<Value> {
    let node = run(dir);
    until("reports", || records(dir, stream).len() >= 3);
    node.stop().unwrap();
    records(dir, stream)
}

#[test]
fn each_shift_is_told() {
    let more = "[sink.people]\ntype = \"file\"\nfile = \"told.jsonl\"\nrecords = [\"report\"]\n";
    let dir = station(more);
    let told = reports(dir.path(), "reports");
    for pair in told.windows(2) {
        assert_eq!(pair[0]["to_ms"], pair[1]["from_ms"], "one shift after the other");
    }
    for report in &told {
        assert_eq!(report["writer"], "template");
        assert!(report["text"].as_str().unwrap().starts_with("The pump, 20"), "{report}");
    }
    // A shift may begin or end between a decision and the summary of its second.
    let is_full = |report: &&Value| {
        ["fired", "1 to 9, "].iter().all(|words| report["text"].as_str().unwrap().contains(words))
    };
    let full = told.iter().find(is_full).unwrap_or_else(|| panic!("{told:?}"));
    let text = full["text"].as_str().unwrap();
    assert!(
        text.contains("The rule high (warning) fired ") && text.contains("pressure (bar): 1 to 9, "),
        "{text}"
    );
    let figure = |of: &str, what: &str| {
        let figures = full["figures"].as_array().unwrap();
        let found = figures.iter().find(|figure| figure["of"] == of && figure["what"] == what);
        found.unwrap_or_else(|| panic!("{of} {what}: {figures:?}"))["value"].as_f64().unwrap()
    };
    assert_eq!((figure("pump.a", "min"), figure("pump.a", "max")), (1.0, 9.0));
    assert!(figure("rule.high", "fired") >= 1.0);
    let passed = fs::read_to_string(dir.path().join("told.jsonl")).unwrap();
    let passed: Value = serde_json::from_str(passed.lines().next().unwrap()).unwrap();
    assert_eq!((passed["kind"].as_str(), passed["part"].as_str()), (Some("report"), Some("report.shift")));

    // Another life tells no shift twice.
    let node = run(dir.path());
    until("another report", || records(dir.path(), "reports").len() > told.len());
    node.stop().unwrap();
    let mut ends: Vec<i64> =
        records(dir.path(), "reports").iter().map(|report| report["to_ms"].as_i64().unwrap()).collect();
    let count = ends.len();
    ends.dedup();
    assert_eq!(ends.len(), count);
}

#[test]
fn a_model_writes_what_it_was_given() {
    let check = |says: &'static str, end: &'static str, writer: &str, why: &str| {
        let (url, asked) = model(says, end);
        let dir = station(&format!("[report.shift.writer]\nurl = \"{url}\"\nmodel = \"tiny\"\n"));
        let told = reports(dir.path(), "reports");
        for report in &told {
            assert_eq!(report["writer"], writer, "{report}");
            assert!(report["why"].as_str().unwrap().contains(why), "{report}");
            let is_said = report["text"] == says;
            assert_eq!(is_said, writer == "model", "{report}");
        }
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0]["model"], "tiny");
        assert!(
            asked[0]["messages"][1]["content"].as_str().unwrap().starts_with("The pump, 20"),
            "{asked:?}"
        );
    };
    check("The pump is as it always is.", "stop", "model", "written by tiny");
    check("The rule fired 987654 times.", "stop", "template", "stated \"987654\"");
    check("The pump is as it", "length", "template", "did not come to an end");
}

#[test]
fn a_model_that_is_not_there() {
    let port = crate::stand::free_port();
    let dir =
        station(&format!("[report.shift.writer]\nurl = \"http://127.0.0.1:{port}/v1\"\nmodel = \"tiny\"\n"));
    let told = reports(dir.path(), "reports");
    assert!(told.iter().all(|report| report["writer"] == "template"), "{told:?}");
    assert!(told[0]["why"].as_str().unwrap().contains("cannot be asked"), "{told:?}");
}

#[test]
fn what_may_not_leave_is_not_told_outside() {
    let dir = station("");
    let node = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    let policy = "[policy]\nleaves = [\"audit\", \"event\"]\n";
    fs::write(dir.path().join("node.toml"), format!("{node}{policy}")).unwrap();
    let told = reports(dir.path(), "private.reports");
    assert!(
        told.iter().any(|report| report["text"].as_str().unwrap().contains("pressure (bar)")),
        "{told:?}"
    );
    let of_pump = |figure: &Value| figure["of"].as_str().unwrap().starts_with("pump.");
    let left = records(dir.path(), "reports");
    assert!(!left.iter().flat_map(|report| report["figures"].as_array().unwrap()).any(of_pump), "{left:?}");
}
