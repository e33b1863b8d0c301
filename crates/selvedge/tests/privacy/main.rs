//! With the policy "events only", nothing that came with the data is found on the wire, in the node's log, or in the hub's store; nor on any
//! other way out ([`ways`]). The same plant with plain words shows that the search finds what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod forms;
mod stand;
mod ways;
mod wires;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use hub::config::HubConfig;
use hub::server::Hub;
use node::journal::reader::Reader;
use node::journal::verify::verify;
use serde_json::{Value, json};
use wire::id::StreamName;
use wire::world::System;

use crate::stand::{contents, post, proxy, unpacked, wait};

/// What must not be found. It stands in names of channels, in what cannot be read, and in tags.
const CANARY: &str = "canary9731";

/// Runs a plant with a policy; gives what was on the wire, in the log, in the hub's store, and the plant's folder.
fn play(policy: &str) -> (String, String, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HubConfig { listen, data: at("hub"), check_in_ms: 300, ..HubConfig::default() };
    let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
    let (by, seen) = proxy(hub.addr);
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(
        at("node.toml"),
        format!(
            "[node]\nname = \"ward\"\ndata = \"data\"\n[hub]\nurl = \"http://{by}\"\n[api]\nlisten = \"{api}\"\n{policy}"
        ),
    )
    .unwrap();
    std::fs::write(
        at("flow.toml"),
        format!(
            "[source.bed]\ntype = \"http\"\nsummary = \"100ms\"\n[rule.high]\ninputs = [\"source.bed\"]\n\
             when = \"bed.{CANARY}_pulse > 100\"\n[model.odd]\ntype = \"subspace\"\ninputs = [\"source.bed\"]\n"
        ),
    )
    .unwrap();
    let mut node = Command::new(env!("CARGO_BIN_EXE_selvedge"))
        .args(["--log", "debug", "node"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(at("log")).unwrap())
        .spawn()
        .unwrap();
    wait("the node listens", || TcpStream::connect(api).is_ok());
    for (n, pulse) in [60.0, 70.0, 130.0, 60.0, 131.0, 61.0].into_iter().enumerate() {
        let values = json!({format!("{CANARY}_pulse"): pulse, "spo2": 97.0});
        let t_ms = 1_700_000_000_000_i64 + 1_000 * n as i64;
        post(api, "bed", "application/json", &json!({"t_ms": t_ms, "values": values}).to_string());
    }
    // What cannot be read, and tags.
    post(api, "bed", "application/json", &format!("{{\"{CANARY}\": }}"));
    post(api, "bed", "text/plain", &format!("bed,name={CANARY} {CANARY}_pulse=1,spo2=x 1700000010000000000"));
    let decided = || {
        let Ok(reader) = Reader::open(&at("data")) else { return 0 };
        reader.records(&StreamName::new("decisions").unwrap(), 0, 10).map_or(0, |records| records.len())
    };
    wait("rules have fired and cleared", || decided() >= 4);
    wait("the hub has all that leaves", || {
        let reader = Reader::open(&at("data")).unwrap();
        reader.positions().unwrap().iter().all(|position| position.unsent() == 0)
    });
    Command::new("/bin/kill").args(["-TERM", &node.id().to_string()]).status().unwrap();
    node.wait().unwrap();
    runtime.block_on(hub.stop());
    let wire = wait_for_wire(&seen);
    (wire, std::fs::read_to_string(at("log")).unwrap(), contents(&at("hub")), folder)
}

/// Connections are kept when they end.
fn wait_for_wire(seen: &Mutex<Vec<u8>>) -> String {
    wait("connections have ended", || unpacked(&seen.lock().unwrap()).contains("\"decision\""));
    unpacked(&seen.lock().unwrap())
}

#[test]
fn events_only_says_no_word_of_the_data() {
    let (wire, log, store, folder) = play(
        "[policy]\nleaves = \"events\"\n[policy.source.bed]\nleaves = \"events\"\nsubject = \"patient-17\"\n",
    );
    for (what, text) in [("the wire", &wire), ("the log", &log), ("the hub's store", &store)] {
        assert!(!text.is_empty(), "{what} is empty");
        for word in [CANARY, "patient-17", "spo2"] {
            let at = text.find(word);
            let around = at.map(|at| {
                &text[text.floor_char_boundary(at.saturating_sub(200))
                    ..text.ceil_char_boundary((at + 60).min(text.len()))]
            });
            assert_eq!(around, None, "{word} is in {what}");
        }
    }
    assert!(wire.contains("\"high\"") && store.contains("high"), "decisions do leave");
    explained_and_erased(folder.path());
}

/// Who the records are about gets an answer, and is forgotten; the chain stays whole.
fn explained_and_erased(folder: &Path) {
    let privacy = |words: &[&str]| {
        let program = env!("CARGO_BIN_EXE_selvedge");
        let output = Command::new(program).arg("privacy").args(words).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = privacy(&["explain", "patient-17"]);
    assert!(told.contains("high firing") && told.contains("decided by  a rule alone"), "{told}");
    assert!(told.contains(CANARY), "the person may know what the hub may not: {told}");
    assert!(privacy(&["explain", "patient-18"]).contains("no record speaks of them"));
    let lines = privacy(&["explain", "patient-17", "--json"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let pseudonym = first["body"]["subject"].as_str().unwrap().to_owned();
    assert!(privacy(&["erase", "patient-17", "--why", "asked"]).contains("nothing was done"));
    let erased = privacy(&["erase", "patient-17", "--why", "asked", "--yes"]);
    assert!(!erased.starts_with("0 "), "{erased}");
    assert!(privacy(&["explain", "patient-17"]).contains("nothing was decided"));
    let reader = Reader::open(&folder.join("data")).unwrap();
    let checks = verify(&reader).unwrap();
    assert!(checks.iter().all(|stream| stream.broken.is_none()), "{checks:?}");
    assert!(checks.iter().map(|stream| stream.erased).sum::<u64>() >= 4, "{checks:?}");
    // Only the record of the erasure still names the pseudonym.
    let database = std::fs::read(folder.join("data/journal.sqlite")).unwrap();
    assert_eq!(String::from_utf8_lossy(&database).matches(&pseudonym).count(), 1);
}

#[test]
fn plain_words_are_found_by_the_same_search() {
    let (wire, log, store, _folder) = play("[policy]\nleaves = \"features\"\n");
    for (what, text) in [("the wire", wire), ("the log", log), ("the hub's store", store)] {
        assert!(text.contains(CANARY), "{what}");
    }
}
