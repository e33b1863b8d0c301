//! With the policy "events only", nothing that came with the data is found on the wire, in the node's log, or in the hub's store.
//! The same plant with plain words shows that the search finds what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use hub::config::HubConfig;
use hub::server::Hub;
use node::journal::reader::Reader;
use node::journal::verify::verify;
use serde_json::{Value, json};
use wire::id::StreamName;
use wire::world::{Clock as _, System};

/// What must not be found. It stands in names of channels, in what cannot be read, and in tags.
const CANARY: &str = "canary9731";

const PATIENCE: Duration = Duration::from_secs(90);

/// Passes bytes on to the hub, and keeps them.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&seen);
    let pass = |mut from: TcpStream, mut to: TcpStream, kept: Arc<Mutex<Vec<u8>>>| {
        std::thread::spawn(move || {
            let mut one = Vec::new();
            let mut bytes = [0; 16 << 10];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                one.extend_from_slice(&bytes[..count]);
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(std::net::Shutdown::Both));
            kept.lock().unwrap().extend_from_slice(&one);
        });
    };
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect(to).unwrap());
            pass(from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&kept));
            pass(to, from, Arc::clone(&kept));
        }
    });
    (address, seen)
}

/// What was said, with batches unpacked: a batch is compressed, and a word in it would be found by nobody.
fn unpacked(bytes: &[u8]) -> String {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for at in bytes.windows(4).enumerate().filter(|(_, it)| *it == MAGIC).map(|(at, _)| at) {
        let mut batch = Vec::new();
        let mut frame = zstd::stream::read::Decoder::new(&bytes[at..]).unwrap().single_frame();
        drop(frame.read_to_end(&mut batch));
        text.push_str(&String::from_utf8_lossy(&batch));
    }
    text
}

/// Everything in the files of a folder.
fn contents(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&contents(&path)),
            false => text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default())),
        }
    }
    text
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = System::new();
    let begun_ns = clock.mono_ns();
    while !is_so() {
        assert!(clock.mono_ns() - begun_ns < PATIENCE.as_nanos() as u64, "not yet: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn post(at: SocketAddr, content_type: &str, body: &str) {
    let mut stream = TcpStream::connect(at).unwrap();
    let head = format!(
        "POST /v1/readings/bed HTTP/1.1\r\nhost: {at}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
}

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
        post(api, "application/json", &json!({"t_ms": t_ms, "values": values}).to_string());
    }
    // What cannot be read, and tags.
    post(api, "application/json", &format!("{{\"{CANARY}\": }}"));
    post(api, "text/plain", &format!("bed,name={CANARY} {CANARY}_pulse=1,spo2=x 1700000010000000000"));
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
