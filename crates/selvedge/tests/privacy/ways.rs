//! Every way out of a node at once: the hub, each kind of sink, metrics, the log at its finest, an agent. Raw data with a canary in every place where
//! a word can stand comes in over a real broker and over HTTP, some of it in what cannot be read; then whatever went out is searched.
//!
//! With "events only" the canary is nowhere, in no form. With a policy that lets raw data leave it is on each of these ways, so the search can fail.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hub::config::HubConfig;
use hub::server::Hub;
use node::journal::reader::Reader;
use serde_json::{Value, json};
use wire::id::StreamName;
use wire::world::System;

use crate::forms::Forms;
use crate::stand::{contents, get, post, proxy, unpacked, wait};
use crate::wires::{Listener, Mosquitto, Taker, ask_as_an_agent, mosquitto};

/// With what each word begins that came with the data. Small letters alone: the name of a field of ours may have those.
const CANARY: &str = "zqcanary";

/// A value of a channel that no rule looks at.
const NUMBER: &str = "41.7281937";

/// All that our crates have to say.
const LOG: &str = "info,node=trace,wire=trace,signal=trace,package=trace,net=trace,selvedge=trace";

/// What left a node, by the way it took; and what stays on its machine.
struct Out {
    ways: Vec<(&'static str, String)>,
    here: Vec<(&'static str, String)>,
}

/// A node that is killed if it has not ended.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// The first post fails, the fourth is refused for good; both say what was sent.
fn now_and_then(number: usize) -> (&'static str, bool) {
    match number {
        0 => ("500 Internal Server Error", true),
        3 => ("422 Unprocessable Content", true),
        _ => ("200 OK", false),
    }
}

/// The first is refused for good, and said back.
fn not_at_first(number: usize) -> (&'static str, bool) {
    if number == 0 { ("400 Bad Request", true) } else { ("200 OK", false) }
}

fn flow(broker: &Mosquitto, hook: &Taker, collector: &Taker) -> String {
    let Mosquitto { port, .. } = broker;
    let records = "records = [\"decision\", \"inference\", \"summary\", \"readings\", \"part\", \"source\", \"act\", \"report\", \"start\"]\n\
                   from = \"beginning\"\n";
    format!(
        "[source.bed]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"ward/#\"]\nsummary = \"100ms\"\n\
         [source.bed.health]\nrange = {{ {CANARY}_temp = [0.0, 50.0] }}\n\
         [source.chair]\ntype = \"http\"\nsummary = \"100ms\"\n\
         [model.odd]\ntype = \"subspace\"\ninputs = [\"source.bed\"]\n\
         [rule.high]\ninputs = [\"source.bed\"]\nwhen = \"bed.{CANARY}_pulse > 100\"\nlabels = {{ class = \"{CANARY}label\" }}\n\
         [rule.sat]\ninputs = [\"source.chair\"]\nwhen = \"chair.{CANARY}_sat > 1\"\n\
         [actuator.valve]\ntype = \"simulated\"\nfile = \"valve\"\nwrite = true\nrate = \"100/s\"\nvalues = [\"open\", \"closed\"]\nsafe = \"closed\"\n\
         [report.shift]\nevery = \"1s\"\n\
         [sink.hook]\ntype = \"webhook\"\nurl = \"http://{}/alarms\"\n{records}\
         [sink.otel]\ntype = \"otlp\"\nurl = \"http://{}\"\n{records}\
         [sink.home]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\ndiscovery = \"homeassistant\"\n{records}\
         [sink.log]\ntype = \"file\"\nfile = \"records.jsonl\"\n{records}\
         [sink.out]\ntype = \"stdout\"\n{records}",
        hook.at, collector.at
    )
}

/// A reading of the bed.
fn reading(pulse: f64, temperature: f64) -> Vec<u8> {
    let number: Value = serde_json::from_str(NUMBER).unwrap();
    let reading = json!({
        format!("{CANARY}_pulse"): pulse,
        format!("{CANARY}_temp"): temperature,
        "spo": number,
        "note": format!("{CANARY}text"),
    });
    reading.to_string().into_bytes()
}

/// What comes in over the broker, after the first reading has said what the channels are.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut messages = Vec::new();
    for pulse in [60.0, 130.0, 61.0, 131.0, 60.0] {
        messages.push(("ward/bed", reading(pulse, 21.0)));
    }
    // A sensor that is not believed.
    messages.extend((0..6).map(|n| ("ward/bed", reading(60.0 + f64::from(n), 99.0))));
    // What cannot be read; the topic is a word of the data, too. The 1st and the 10th are told.
    let bad = [
        format!("{{\"{CANARY}malformed\": "),
        format!("{CANARY}malformed"),
        format!("\"{CANARY}value\""),
        format!("[\"{CANARY}value\"]"),
        json!({ format!("{CANARY}new"): 1.0 }).to_string(),
        json!({ format!("{CANARY}_pulse"): format!("{CANARY}value") }).to_string(),
    ];
    let bad = bad.iter().map(|text| text.as_bytes().to_vec());
    let broken = [&[0xff, 0xfe][..], CANARY.as_bytes(), &[0xc3][..]].concat();
    let bad: Vec<Vec<u8>> = bad.chain([broken, CANARY.repeat(40_000).into_bytes()]).collect();
    for _ in 0..2 {
        messages.extend(bad.iter().map(|payload| ("ward/zqcanarytopic", payload.clone())));
    }
    messages.push(("ward/bed", reading(62.0, 21.0)));
    messages
}

/// The bodies of a stream's records so far.
fn records(folder: &Path, stream: &str) -> Vec<Value> {
    let Ok(reader) = Reader::open(&folder.join("data")) else { return Vec::new() };
    let records = reader.records(&StreamName::new(stream).unwrap(), 0, 10_000).unwrap_or_default();
    records.iter().filter_map(|(record, _)| serde_json::from_str(record.body.get()).ok()).collect()
}

/// A person at the device asks for something; whether it was done.
fn act(folder: &Path, words: &[&str]) -> bool {
    let mut person = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    person.arg("act").args(words).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    person.status().unwrap().success()
}

/// Runs a node with all ways out under a policy; `None` where there is no broker.
fn play(policy: &str) -> Option<Out> {
    let broker = mosquitto()?;
    let listener = Listener::new(&broker, &["selvedge/#", "homeassistant/#"]);
    let (hook, collector) = (Taker::new(now_and_then), Taker::new(not_at_first));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HubConfig { listen, data: at("hub"), check_in_ms: 300, ..HubConfig::default() };
    let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
    let (by, wire) = proxy(hub.addr);
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!(
        "[node]\nname = \"ward\"\ndata = \"data\"\n[hub]\nurl = \"http://{by}\"\n[api]\nlisten = \"{api}\"\n\
         [journal]\nmin_free_bytes = \"0\"\n{policy}"
    );
    fs::write(at("node.toml"), settings).unwrap();
    fs::write(at("flow.toml"), flow(&broker, &hook, &collector)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["--log", LOG, "node"])
        .current_dir(folder.path())
        .stdout(File::create(at("out")).unwrap())
        .stderr(File::create(at("log")).unwrap())
        .spawn()
        .unwrap();
    let mut node = Node(child);
    wait("the node listens", || TcpStream::connect(api).is_ok());
    wait("the source listens", || {
        broker.publish(&[("ward/bed", reading(60.0, 20.0))]);
        let state: Value = serde_json::from_str(&get(api, "/v1/state")).unwrap();
        state["sources"][0]["readings"].as_u64() > Some(0)
    });
    broker.publish(&messages());
    for (second, sat) in [0.0, 2.0, 0.5].into_iter().enumerate() {
        let t_ms = 1_700_000_000_000_i64 + 1_000 * second as i64;
        let body = json!({"t_ms": t_ms, "values": {format!("{CANARY}_sat"): sat}}).to_string();
        post(api, "chair", "application/json", &body);
    }
    post(api, "chair", "application/json", &format!("{{\"{CANARY}malformed\": }}"));
    post(
        api,
        "chair",
        "text/plain",
        &format!("chair,name={CANARY}tag {CANARY}_sat=x,{CANARY}new=1 1700000010000000000"),
    );
    let (who, why) = (format!("{CANARY}who"), format!("{CANARY}why"));
    let asks = |to: &str| act(folder.path(), &["valve", to, "--who", &who, "--why", &why]);
    // After a start the rate is used up for a moment.
    wait("the valve may move", || asks("open"));
    assert!(!asks(&format!("{CANARY}asked")), "it is no setting of the valve");

    wait("rules have fired and cleared", || records(folder.path(), "decisions").len() >= 6);
    wait("askings are journalled", || records(folder.path(), "acts").len() >= 2);
    let is_faulty = |body: &Value| body["state"] == "faulty";
    wait("a sensor is not believed", || records(folder.path(), "events").iter().any(is_faulty));
    wait("a shift is told", || {
        ["reports", "private.reports"].iter().any(|stream| !records(folder.path(), stream).is_empty())
    });
    let metrics = get(api, "/metrics");
    let state = get(api, "/v1/state");
    let agent = cfg!(feature = "agents").then(|| ask_as_an_agent(folder.path(), LOG));
    wait("the hub has all that leaves", || {
        let Ok(reader) = Reader::open(&at("data")) else { return false };
        reader.positions().is_ok_and(|positions| positions.iter().all(|position| position.unsent() == 0))
    });
    // Its sinks pass on what waits before it ends.
    Command::new("/bin/kill").args(["-TERM", &node.0.id().to_string()]).status().unwrap();
    wait("the node ends", || node.0.try_wait().unwrap().is_some());
    let home = listener.until("selvedge/ward/availability offline");
    runtime.block_on(hub.stop());
    wait("connections have ended", || unpacked(&wire.lock().unwrap()).contains("\"decision\""));

    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    let mut ways = vec![
        ("the hub's wire", unpacked(&wire.lock().unwrap())),
        ("the hub's store", contents(&at("hub"))),
        ("the webhook", hook.taken()),
        ("the collector", collector.taken()),
        ("the broker", home),
        ("the metrics", metrics),
        ("the log", text("log")),
    ];
    ways.extend(agent.map(|agent| ("the agent", agent)));
    let here =
        vec![("the file", text("records.jsonl")), ("the standard output", text("out")), ("the state", state)];
    Some(Out { ways, here })
}

#[test]
fn events_only_lets_no_word_of_the_data_out_on_any_way() {
    let policy = format!(
        "[policy]\nleaves = \"events\"\n[policy.source.bed]\nleaves = \"events\"\nsubject = \"{CANARY}subject\"\n"
    );
    let Some(out) = play(&policy) else { return };
    let canary = Forms::of(CANARY);
    for (way, text) in &out.ways {
        assert!(text.contains("high") || *way == "the log", "decisions do leave by {way}: {text}");
        assert_eq!(canary.find(text), None, "{way} has a word of the data");
        assert!(!text.contains(NUMBER), "{way} has a reading");
    }
    // What stays is for the person at the device, in its own words.
    for (what, text) in &out.here {
        assert!(text.contains(CANARY) && text.contains(NUMBER), "{what}: {text}");
    }
}

#[test]
fn where_raw_data_may_leave_the_same_search_finds_it() {
    let Some(out) = play("[policy]\nleaves = \"everything\"\n") else { return };
    let canary = Forms::of(CANARY);
    for (way, text) in &out.ways {
        // Metrics have neither words nor readings, whatever may leave.
        let is_told = *way != "the metrics";
        assert_eq!(canary.find(text).is_some(), is_told, "{way}: {text}");
        // Nor does the log tell readings, unless a receiver says back what it was sent.
        if *way != "the log" {
            assert_eq!(text.contains(NUMBER), is_told, "{way}: {text}");
        }
    }
}
