//! Brings trust metadata from a repository on loopback, from a folder and from a stick: first use, updates, replayed and
//! frozen states, bodies that never end and bytes that drip.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::trust::{FILE_TIME, Refreshed, Repository, refresh};
use package::archive::{self, Name};
use package::disk::system::System;
use package::layout::Layout;
use package::trust::Policy;
use package::trust::author::{self, Holders, Plan};
use package::trust::canonical::{Value, canonical, parse, to_json};
use package::trust::key::KindSet;
use package::trust::metadata::RoleName;
use package::trust::sign::{HybridSigner, Signer};
use package::trust::state::TrustState;
use package::trust::update::{UpdateError, Want};
use wire::hash::Hash;
use wire::world::{Clock, MonoNs, WallMs};

use crate::server::{Reply, Server};

pub(crate) const NOW_MS: WallMs = 1_767_225_600_000;
pub(crate) const DAY_MS: i64 = 86_400_000;
pub(crate) const TARGET: &str = "models/tiny/1";

/// A clock that stands.
pub(crate) struct At(pub(crate) WallMs);

impl Clock for At {
    fn wall_ms(&self) -> WallMs {
        self.0
    }

    fn mono_ns(&self) -> MonoNs {
        0
    }
}

pub(crate) fn key(seed: u8) -> HybridSigner {
    HybridSigner::from_seed(&[seed; 64]).unwrap()
}

pub(crate) fn holders(seed: u8, days: i64) -> Holders {
    Holders { keys: vec![key(seed).key().clone()], threshold: 1, life_ms: days * DAY_MS }
}

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Authors, what they published, and a node.
pub(crate) struct House {
    pub(crate) author: author::Repository,
    pub(crate) files: Arc<Mutex<Files>>,
    pub(crate) folder: tempfile::TempDir,
}

impl House {
    pub(crate) fn new() -> House {
        let plan = Plan {
            root: holders(1, 365),
            targets: holders(2, 365),
            snapshot: holders(3, 30),
            timestamp: holders(4, 7),
        };
        let author = author::Repository::init(&plan, NOW_MS).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut house = House { author, files: Arc::default(), folder };
        house.author.sign(&RoleName::root(), &key(1)).unwrap();
        house.add_target(TARGET);
        house
    }

    fn add_target(&mut self, path: &str) {
        let targets = RoleName::targets();
        let target = (3, Hash::of(b"one"));
        self.author.add_target(&targets, path, target, None, NOW_MS).unwrap();
        self.publish();
    }

    /// Signs the targets, and publishes what is staged.
    pub(crate) fn publish(&mut self) {
        self.author.sign(&RoleName::targets(), &key(2)).unwrap();
        let published = self.author.publish(&[&key(3), &key(4)], NOW_MS).unwrap();
        assert_eq!(published.waiting, []);
        let files = published.files.into_iter().map(|(file, bytes)| (file.as_str().to_owned(), bytes));
        self.files.lock().unwrap().extend(files);
    }

    /// A server of what is published now; `spoil` may change an answer.
    async fn serve(&self, spoil: impl Fn(&str, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let files = self.files.clone();
        Server::start(move |request, _| {
            assert_eq!(request.header("authorization"), Some("Bearer hub"));
            let file = request.path.strip_prefix("/tuf/metadata/").unwrap();
            let found = files.lock().unwrap().get(file).cloned();
            // As stores of objects say it.
            spoil(file, found.map_or_else(|| Reply::new(403, "<Error>"), |bytes| Reply::new(200, bytes)))
        })
        .await
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn state(&self, least_sequence: u64) -> TrustState<System> {
        let root = self.files.lock().unwrap()["1.root.json"].clone();
        TrustState::open(System, &self.path(), &root, &KindSet::hybrid(), least_sequence).unwrap()
    }
}

pub(crate) fn repository(server: &Server, file_time: Duration) -> Repository {
    Repository::at(&format!("{}/tuf/metadata", server.url), Some("hub"), file_time).unwrap()
}

async fn update(
    state: &mut TrustState<System>,
    repository: &Repository,
    want: Want,
    now_ms: WallMs,
) -> Result<Refreshed, UpdateError> {
    refresh(state, repository, want, &Policy::default(), &At(now_ms)).await
}

fn versions(state: &TrustState<System>) -> [u64; 3] {
    let trusted = state.trusted();
    let timestamp = trusted.timestamp.as_ref().map_or(0, |role| role.body.head.version);
    let snapshot = trusted.snapshot.as_ref().map_or(0, |role| role.body.head.version);
    let targets = trusted.targets.as_ref().map_or(0, |role| role.body.head.version);
    [timestamp, snapshot, targets]
}

#[tokio::test]
async fn first_use_then_an_update_and_a_restart() {
    let mut house = House::new();
    let server = house.serve(|_, reply| reply).await;
    let repository = repository(&server, FILE_TIME);
    let mut state = house.state(0);
    assert_eq!(update(&mut state, &repository, Want::Refresh, NOW_MS).await, Ok(Refreshed::Fresh));
    assert_eq!(versions(&state), [1, 1, 1]);
    let asked: Vec<String> = server.log().into_iter().map(|asked| asked.path).collect();
    let files = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!(asked, files.map(|file| format!("/tuf/metadata/{file}")));
    house.add_target("models/tiny/2");
    let want = Want::Target("models/tiny/2".to_owned());
    let Ok(Refreshed::Target(target)) = update(&mut state, &repository, want, NOW_MS).await else { panic!() };
    target.check(b"one").unwrap();
    assert_eq!(versions(&state), [2, 2, 2]);
    let sequence = state.sequence();
    drop(state);
    let mut state = house.state(sequence);
    assert_eq!(versions(&state), [2, 2, 2], "it is durable");
    let want = Want::Target("models/other/1".to_owned());
    assert_eq!(update(&mut state, &repository, want, NOW_MS).await, Ok(Refreshed::NoTarget));
}

#[tokio::test]
async fn old_states_are_refused_and_a_frozen_one_is_told() {
    let mut house = House::new();
    let old = house.files.lock().unwrap().clone();
    let server = house.serve(|_, reply| reply).await;
    let repository = repository(&server, FILE_TIME);
    house.add_target("models/tiny/2");
    let mut state = house.state(0);
    update(&mut state, &repository, Want::Refresh, NOW_MS).await.unwrap();
    let new = std::mem::replace(&mut *house.files.lock().unwrap(), old);
    let replayed = update(&mut state, &repository, Want::Refresh, NOW_MS).await.unwrap_err();
    assert!(matches!(replayed, UpdateError::Rollback { trusted: 2, found: 1, .. }), "{replayed}");
    assert_eq!(versions(&state), [2, 2, 2]);
    *house.files.lock().unwrap() = new;
    let want = || Want::Target(TARGET.to_owned());
    update(&mut state, &repository, want(), NOW_MS + 6 * DAY_MS).await.unwrap();
    let frozen = update(&mut state, &repository, want(), NOW_MS + 8 * DAY_MS).await.unwrap_err();
    assert!(
        matches!(&frozen, UpdateError::Expired { role, .. } if *role == RoleName::timestamp()),
        "{frozen}"
    );
    // A clock that is set back does not make it fresh: what was signed later has told the time.
    assert!(update(&mut state, &repository, want(), 0).await.is_ok(), "the floor is where the signers were");
}

/// A document, changed and signed by whoever has this key and no other.
fn forged(document: &[u8], seed: u8, changes: &[(&[&str], Value)]) -> Vec<u8> {
    let mut signed = parse(document).unwrap().get("signed").unwrap().clone();
    for (path, value) in changes {
        let mut place = &mut signed;
        for name in *path {
            place = place.as_object_mut().unwrap().entry((*name).to_owned()).or_insert(Value::Null);
        }
        *place = value.clone();
    }
    let signature = key(seed).sign(&canonical(&signed)).unwrap();
    to_json(&Value::object([("signed", signed), ("signatures", Value::List(vec![signature]))]))
}

/// How a snapshot or a timestamp names a file.
fn named(version: u64, file: &[u8]) -> Value {
    let hashes = Value::object([("sha256", Hash::of(file).to_string().into())]);
    Value::object([("version", version.into()), ("length", (file.len() as u64).into()), ("hashes", hashes)])
}

/// Somebody has all of a hub: its files, its address, and even the keys of the machine that publishes. Whatever is served from
/// there, no node comes to approve what the keys of targets did not, nor to go back.
#[tokio::test]
async fn a_stolen_hub_approves_nothing() {
    const THIEF: u8 = 9;
    let (snapshot_key, timestamp_key) = (3, 4);
    let mut house = House::new();
    house.add_target("models/tiny/2");
    let stolen = house.files.lock().unwrap().clone();
    let server = house.serve(|_, reply| reply).await;
    let repository = repository(&server, FILE_TIME);
    let evil = Value::object([
        ("length", 3_u64.into()),
        ("hashes", Value::object([("sha256", Hash::of(b"bad").to_string().into())])),
    ]);
    let theirs = forged(
        &stolen["2.targets.json"],
        THIEF,
        &[(&["version"], 3_u64.into()), (&["targets", "models/evil/1"], evil)],
    );
    let old = &stolen["1.targets.json"];
    // What is served: targets of this version, and who signs snapshot and timestamp.
    let served = |version: u64, targets: &[u8], snapshot_key: u8, timestamp_key: u8| {
        let mut files = stolen.clone();
        files.insert(format!("{version}.targets.json"), targets.to_vec());
        let listed = named(version, targets);
        let snapshot = forged(
            &stolen["2.snapshot.json"],
            snapshot_key,
            &[(&["version"], 3_u64.into()), (&["meta", "targets.json"], listed)],
        );
        let timestamp = forged(
            &stolen["timestamp.json"],
            timestamp_key,
            &[(&["version"], 3_u64.into()), (&["meta", "snapshot.json"], named(3, &snapshot))],
        );
        files.insert("3.snapshot.json".to_owned(), snapshot);
        files.insert("timestamp.json".to_owned(), timestamp);
        files
    };
    let refused = |error: &UpdateError, in_file: &str| matches!(error, UpdateError::Verify { file, .. } if file.as_str() == in_file);
    let mut root = stolen.clone();
    let next = forged(&stolen["1.root.json"], THIEF, &[(&["version"], 2_u64.into())]);
    root.insert("2.root.json".to_owned(), next);
    type Judge<'a> = &'a dyn Fn(&UpdateError) -> bool;
    let plays: [(&str, Files, Judge<'_>); 6] = [
        ("a root of their own", root, &|error| refused(error, "2.root.json")),
        ("their own timestamp", served(3, &theirs, THIEF, THIEF), &|error| refused(error, "timestamp.json")),
        ("their own snapshot", served(3, &theirs, THIEF, timestamp_key), &|error| {
            refused(error, "3.snapshot.json")
        }),
        (
            "with stolen online keys, an unapproved target",
            served(3, &theirs, snapshot_key, timestamp_key),
            &|e| refused(e, "3.targets.json"),
        ),
        ("with stolen online keys, an older target", served(1, old, snapshot_key, timestamp_key), &|error| {
            matches!(error, UpdateError::Rollback { trusted: 2, found: 1, .. })
        }),
        ("the same under a new number", served(3, old, snapshot_key, timestamp_key), &|error| {
            matches!(error, UpdateError::Version { expected: 3, found: 1, .. })
        }),
    ];
    for (what, files, is_expected) in plays {
        *house.files.lock().unwrap() = stolen.clone();
        let _ = std::fs::remove_file(house.path());
        let mut state = house.state(0);
        update(&mut state, &repository, Want::Refresh, NOW_MS).await.unwrap();
        *house.files.lock().unwrap() = files;
        for path in ["models/evil/1", TARGET] {
            let error =
                update(&mut state, &repository, Want::Target(path.to_owned()), NOW_MS).await.unwrap_err();
            assert!(is_expected(&error), "{what}: {error}");
        }
        let targets = &state.trusted().targets.as_ref().unwrap().body;
        assert_eq!(targets.head.version, 2, "{what}");
        assert!(targets.targets.contains_key("models/tiny/2") && targets.targets.len() == 2, "{what}");
    }
}

#[tokio::test]
async fn a_body_without_an_end_stops_at_its_limit_and_bytes_that_drip_are_given_up() {
    for (spoiled, before) in [("2.root", 0), ("timestamp", 0), ("1.snapshot", 1), ("1.targets", 2)] {
        let house = House::new();
        let endless = move |file: &str, reply: Reply| match file.starts_with(spoiled) {
            true => Reply { endless: true, ..Reply::new(200, vec![b' '; 100_000]) },
            false => reply,
        };
        let server = house.serve(endless).await;
        let mut state = house.state(0);
        let why =
            update(&mut state, &repository(&server, FILE_TIME), Want::Refresh, NOW_MS).await.unwrap_err();
        assert!(matches!(&why, UpdateError::Fetch { why, .. } if why.contains("more than")), "{why}");
        assert!(server.sent() < 8 << 20, "{spoiled}: {}", server.sent());
        assert_eq!(versions(&state).iter().filter(|version| **version > 0).count(), before, "{spoiled}");
    }
    let house = House::new();
    let drips = |file: &str, reply: Reply| match file {
        "timestamp.json" => Reply { pause: Some(Duration::from_millis(20)), piece: 1, ..reply },
        _ => reply,
    };
    let server = house.serve(drips).await;
    let mut state = house.state(0);
    let slow = repository(&server, Duration::from_millis(300));
    let why = update(&mut state, &slow, Want::Refresh, NOW_MS).await.unwrap_err();
    assert!(
        matches!(&why, UpdateError::Fetch { why, .. } if why.contains("not there after 300 ms")),
        "{why}"
    );
    assert!(server.sent() < 1000);
}

#[tokio::test]
async fn a_folder_and_a_stick_are_repositories_too_and_believed_no_more() {
    let house = House::new();
    let files = house.files.lock().unwrap().clone();
    let folder = house.folder.path().join("metadata");
    std::fs::create_dir(&folder).unwrap();
    for (file, bytes) in &files {
        std::fs::write(folder.join(file), bytes).unwrap();
    }
    let layout = Layout::create(System, &house.folder.path().join("package")).unwrap();
    let name = |file: &String| Name::Metadata(archive::FileName::new(file).unwrap());
    let trust = files.iter().map(|(file, bytes)| (name(file), bytes.clone())).collect();
    let stick = house.folder.path().join("stick.tar");
    archive::write(&layout, &trust, std::fs::File::create(&stick).unwrap()).unwrap();
    for place in [&folder, &stick] {
        let mut state = house.state(0);
        let repository = Repository::in_folder(place).unwrap();
        let want = Want::Target(TARGET.to_owned());
        let found = update(&mut state, &repository, want, NOW_MS).await;
        assert!(matches!(found, Ok(Refreshed::Target(_))), "{found:?}");
        let late = update(&mut state, &repository, Want::Refresh, NOW_MS + 8 * DAY_MS).await;
        assert!(matches!(late, Err(UpdateError::Expired { .. })), "{late:?}");
        std::fs::remove_file(house.path()).unwrap();
    }
    // A longer file than the update asks for is not read.
    std::fs::write(folder.join("timestamp.json"), vec![b' '; 65 << 10]).unwrap();
    let mut state = house.state(0);
    let long = update(&mut state, &Repository::in_folder(&folder).unwrap(), Want::Refresh, NOW_MS).await;
    assert!(matches!(long, Err(UpdateError::Fetch { .. })), "{long:?}");
    assert!(Repository::in_folder(&house.folder.path().join("nothing")).is_err());
}
