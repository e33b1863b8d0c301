//! A node and a hub that hands documents out in its answers to check-ins: what is signed for this node is taken once and
//! reaches the slots, nothing else does, and another life of the node knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use node::agent::{self, Running};
use node::config::Config;
use package::name::ModelName;
use package::trust::assignment::{Assignment, Ordered, Ring, Selector, Subject, draft, seal};
use package::trust::author::{self, Delegation, Plan};
use package::trust::metadata::{Head, RoleName};
use wire::checkin::{CheckIn, CheckInAnswer, Desired, Document};
use wire::hash::Hash;
use wire::select;
use wire::world::{Clock as _, System, WallMs};

use crate::trust::{DAY_MS, Files, TARGET, holders, key};

const ASSIGNER: u8 = 10;
const ID: &str = "9f3c9f3c9f3c9f3c9f3c9f3c9f3c9f3c";

/// A hub: what it publishes, what it hands out, and what it was told.
#[derive(Default)]
struct Hub {
    files: Files,
    desired: Desired,
    said: Vec<CheckIn>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Hub>>;

fn lock(hub: &Shared) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap()
}

async fn answer(State(hub): State<Shared>, uri: Uri, body: Bytes) -> Response {
    let mut hub = lock(&hub);
    let path = uri.path().to_owned();
    if path == "/api/v1/checkin" {
        hub.said.push(serde_json::from_slice(&body).unwrap());
        let (hub_ms, desired) = (System::new().wall_ms(), Some(hub.desired.clone()));
        let hub = Some("a-hub".to_owned());
        let answer = CheckInAnswer { v: 1, hub_ms, next_ms: 1, hub, desired, ..CheckInAnswer::default() };
        return axum::Json(answer).into_response();
    }
    if path == "/api/v1/assignments" {
        return r#"{"assignments":[],"next_after":null}"#.into_response();
    }
    let found = path.strip_prefix("/tuf/metadata/").and_then(|file| hub.files.get(file).cloned());
    hub.asked.push(path);
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

/// What the hub publishes: one release of a model, and somebody who assigns.
fn published(now_ms: WallMs) -> Files {
    let plan = Plan {
        root: holders(1, 365),
        targets: holders(2, 365),
        snapshot: holders(3, 30),
        timestamp: holders(4, 7),
    };
    let mut author = author::Repository::init(&plan, now_ms).unwrap();
    author.sign(&RoleName::root(), &key(1)).unwrap();
    let (name, paths) = ("assignments".to_owned(), vec!["assignments/*".to_owned()]);
    let to = Delegation { name, holders: holders(ASSIGNER, 365), paths, terminating: true };
    author.delegate(&RoleName::targets(), &to, now_ms).unwrap();
    author.add_target(&RoleName::targets(), TARGET, (3, Hash::of(b"one")), None, now_ms).unwrap();
    author.sign(&RoleName::targets(), &key(2)).unwrap();
    author.sign(&RoleName::delegated("assignments").unwrap(), &key(ASSIGNER)).unwrap();
    let published = author.publish(&[&key(3), &key(4)], now_ms).unwrap();
    published.files.into_iter().map(|(file, bytes)| (file.as_str().to_owned(), bytes)).collect()
}

/// A document of a rollout of the one release.
fn document(now_ms: WallMs, id: &str, version: u64, selector: Selector) -> Document {
    let ordered = Ordered {
        model: ModelName::new("tiny").unwrap(),
        release: 1,
        index: Hash::of(b"one"),
        size: 3,
        variant: None,
        allow_rollback: false,
        forgive: false,
        shadow: None,
    };
    let assignment = Assignment {
        head: Head { version, expires_ms: now_ms + 30 * DAY_MS, signed_at_ms: None },
        id: id.to_owned(),
        subject: Subject::Selector(selector),
        issued_ms: now_ms - 60_000,
        not_before_ms: now_ms - 60_000,
        rollout: Some(id.to_owned()),
        models: vec![ordered],
        targets_version: 1,
        when: None,
    };
    Document::from_bytes(&seal(draft(&assignment), &[&key(ASSIGNER)]).unwrap()).unwrap()
}

fn start(folder: &Path) -> Running {
    agent::start(Config::load(&folder.join("node.toml")).unwrap(), System::new()).unwrap()
}

/// The first check-in from now on of which `is_it` holds.
fn wait(hub: &Shared, what: &str, is_it: impl Fn(&CheckIn) -> bool) -> CheckIn {
    let clock = System::new();
    let (from, began) = (lock(hub).said.len(), clock.mono_ns());
    loop {
        let found = lock(hub).said.iter().skip(from).find(|said| is_it(said)).cloned();
        if let Some(said) = found {
            return said;
        }
        let waited_s = (clock.mono_ns() - began) / 1_000_000_000;
        assert!(waited_s < 60, "{what}: {:?}", lock(hub).said.last());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn versions(said: &CheckIn) -> BTreeMap<&str, u64> {
    said.accepted.iter().map(|it| (it.id.as_str(), it.version)).collect()
}

#[test]
fn what_the_hub_hands_out_is_judged_kept_and_done_once() {
    let now_ms = System::new().wall_ms();
    let hub = Shared::default();
    lock(&hub).files = published(now_ms);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&hub));
    // It ends with the test's process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let node = format!(
        "[node]\nname = \"pump-1\"\nlabels = {{ site = \"oslo\" }}\n[journal]\nmin_free_bytes = \"0\"\n\
         [policy]\nleaves = []\n\
         [hub]\nurl = \"{url}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[packages]\nkeep_free = \"0\"\n\
         [trust]\nroot = \"root.json\"\n"
    );
    fs::write(folder.path().join("node.toml"), node).unwrap();
    fs::write(folder.path().join("flow.toml"), "[source.s]\ntype = \"http\"\n").unwrap();
    fs::write(folder.path().join("root.json"), &lock(&hub).files["1.root.json"]).unwrap();
    let ring = |from, to| Some(Ring { salt: vec![7], from, to });
    let expr = |text: &str| Some(select::Selector::parse(text).unwrap());
    let wave = Selector {
        ring: ring(0, 2048),
        expr: expr("site == \"oslo\" && !model.tiny"),
        ..Selector::default()
    };
    let wave = document(now_ms, ID, 1, wave);
    let outside = document(now_ms, &"b".repeat(32), 1, Selector { ring: ring(0, 0), ..Selector::default() });
    let named = Selector { nodes: Some(["pump-2".to_owned()].into()), ..Selector::default() };
    let named = document(now_ms, &"c".repeat(32), 1, named);
    let elsewhere = Selector { expr: expr("site == \"bergen\""), ..Selector::default() };
    let elsewhere = document(now_ms, &"d".repeat(32), 1, elsewhere);

    let running = start(folder.path());
    let first = wait(&hub, "the first check-in", |_| true);
    assert_eq!((first.hub, first.revision), (None, None));
    let said = first.inventory.unwrap();
    assert_eq!((said.base, &said.set["label.site"]), (0, &"oslo".into()));
    lock(&hub).desired = Desired { revision: 5, documents: vec![outside, named, wave.clone(), elsewhere] };
    let taken = wait(&hub, "the wave is taken", |said| !said.accepted.is_empty());
    assert_eq!((taken.hub.as_deref(), taken.revision), (Some("a-hub"), Some(5)));
    assert_eq!(versions(&taken), [(ID, 1)].into(), "only what is for this node");
    wait(&hub, "the order is at the slots", |said| said.slots.iter().any(|slot| slot.model == "tiny"));

    // The same again does nothing, and a hub that was set back to an older state is not followed.
    let asked = lock(&hub).asked.iter().filter(|path| path.starts_with("/tuf/")).count();
    let revert = Selector { after: Some(1), ring: ring(0, 2048), ..Selector::default() };
    let revert = document(now_ms, ID, 501, revert);
    lock(&hub).desired = Desired { revision: 4, documents: vec![revert.clone()] };
    for _ in 0..2 {
        let said = wait(&hub, "a check-in", |_| true);
        assert_eq!((said.revision, versions(&said)), (Some(5), [(ID, 1)].into()));
    }
    let asks = lock(&hub).asked.iter().filter(|path| path.starts_with("/tuf/")).count();
    assert_eq!(asks, asked, "what is known costs no call");
    running.stop().unwrap();

    // Another life knows; the way back is for it, and the wave does not come again.
    let running = start(folder.path());
    let said = wait(&hub, "the first check-in of another life", |_| true);
    assert_eq!((said.revision, versions(&said)), (Some(5), [(ID, 1)].into()));
    lock(&hub).desired = Desired { revision: 6, documents: vec![revert] };
    wait(&hub, "the way back is taken", |said| versions(said) == [(ID, 501)].into());
    lock(&hub).desired = Desired { revision: 7, documents: vec![wave] };
    wait(&hub, "the next revision", |said| said.revision == Some(7));
    assert_eq!(versions(&wait(&hub, "a check-in", |_| true)), [(ID, 501)].into());
    running.stop().unwrap();
}
