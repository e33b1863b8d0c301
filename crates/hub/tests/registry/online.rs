//! Hubs that hold keys: timestamps stay fresh, offline-signed targets are enough, and several hubs never go back.

use std::path::Path;

use bytes::Bytes;
use hub::config::TufConfig;
use hub::depot::{Depot, Key};
use hub::server::{Hub, HubError};
use hub::tuf::keys::{KeyError, OnlineKeys};
use hub::tuf::online::{Looked, OnlineError, look};
use package::digest::Digest;
use package::trust::keyfile::{Secret, lock};
use serde_json::Value;
use wire::world::System;

use crate::pushing::{Client, Package, hub, repo};
use crate::tuf::{DAY_MS, House, find, put, role};

/// Settings with the keys of timestamp and snapshot, which grow from these seeds.
fn settings(folder: &Path, timestamp: u8, snapshot: Option<u8>) -> TufConfig {
    let key = |seed: u8| {
        let path = folder.join(format!("{seed}.age"));
        let secret = Secret { kind: "hybrid".into(), bytes: vec![seed; 64].into(), token: None };
        std::fs::write(&path, lock(&secret, "open sesame", 2, &mut System::new()).unwrap()).unwrap();
        path
    };
    std::fs::write(folder.join("passphrase"), "open sesame\n").unwrap();
    TufConfig {
        online_key: Some(key(timestamp)),
        snapshot_key: snapshot.map(key),
        passphrase_file: Some(folder.join("passphrase")),
        ..TufConfig::default()
    }
}

/// A depot, what is put there, and a hub's keys.
struct Stand {
    depot: Depot,
    house: House,
    config: TufConfig,
    keys: OnlineKeys,
    _folder: tempfile::TempDir,
}

impl Stand {
    /// With the root and the first targets.
    async fn new(depot: Depot, snapshot: Option<u8>) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let config = settings(folder.path(), 6, snapshot);
        let keys = OnlineKeys::open(&config).unwrap().unwrap();
        let mut house = House::new(7 * DAY_MS);
        house.publish();
        let stand = Stand { depot, house, config, keys, _folder: folder };
        stand.put("1.root.json").await;
        stand.put("1.targets.json").await;
        stand
    }

    async fn put(&self, file: &str) {
        self.depot.put(&Key::tuf(file), self.house.files[file].clone().into()).await.unwrap();
    }

    /// Authors renew their targets, which is one more version to publish.
    async fn renew_targets(&mut self) {
        self.house.repository.renew(&role("targets"), self.house.now_ms).unwrap();
        self.house.sign("targets", &[4]);
        let files = self.house.publish();
        self.put(files.iter().find(|file| file.ends_with(".targets.json")).unwrap()).await;
    }

    async fn look(&self, later_ms: i64) -> Looked {
        let now_ms = self.house.now_ms + later_ms;
        look(&self.depot, &self.config, Some(&self.keys), now_ms).await.unwrap()
    }

    /// Looks, and gives the names of what was signed.
    async fn signed(&self, later_ms: i64) -> String {
        self.look(later_ms).await.signed.unwrap().join(" ")
    }

    async fn timestamp(&self) -> (u64, u64) {
        versions(&self.depot).await
    }
}

/// The versions of the published timestamp and of the snapshot that it names.
async fn versions(depot: &Depot) -> (u64, u64) {
    let bytes = depot.read(&Key::tuf("timestamp.json"), 1 << 16).await.unwrap().unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let signed = &value["signed"];
    let snapshot = signed["meta"]["snapshot.json"]["version"].as_u64();
    (signed["version"].as_u64().unwrap(), snapshot.unwrap())
}

#[tokio::test]
async fn targets_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (without, data) = hub(|_| {}).await;
    let mut house = House::new(7 * DAY_MS);
    house.publish();
    for file in ["1.root.json", "1.targets.json"] {
        assert_eq!(put(&Client::of(&without), file, &house.files[file]).await.0, 201);
    }
    without.stop().await;
    // A hub that starts with keys signs what it finds.
    let (hub, _) = hub(|config| {
        config.tuf = settings(folder.path(), 6, Some(5));
        config.data = data.path().to_owned();
    })
    .await;
    let client = Client::of(&hub);
    let mut asked = 0;
    while client.get("/tuf/metadata/timestamp.json").await.status() != 200 {
        asked += 1;
        assert!(asked < 500, "nothing is signed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(find(&client, &house, "models/smollm2/7").await, None, "fresh, and nothing in it");

    let package = Package::new("smollm2", 7, 1000);
    client.push(&repo("smollm2"), "7", &package).await;
    let index = Digest::of(&package.index);
    house.delegate("team/a", 7, "models/smollm2/*");
    let described = (package.index.len() as u64, index.hash());
    house.repository.add_target(&role("team/a"), "models/smollm2/7", described, None, house.now_ms).unwrap();
    house.sign("team/a", &[7]);
    house.sign("targets", &[4]);
    house.publish();
    // They delegate to a role that is not here yet: they wait for it.
    assert_eq!(put(&client, "2.targets.json", &house.files["2.targets.json"]).await.0, 201);
    assert_eq!(find(&client, &house, "models/smollm2/7").await, None);
    assert_eq!(put(&client, "1.team%2Fa.json", &house.files["1.team%2Fa.json"]).await.0, 201);
    let found = find(&client, &house, "models/smollm2/7").await.unwrap();
    found.check(&package.index).unwrap();

    let metrics = client.get("/metrics").await.text().await.unwrap();
    for name in ["root", "timestamp", "snapshot", "targets", "team/a"] {
        let line = format!("hub_tuf_expires_timestamp_seconds{{role=\"{name}\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    // What an author signed of the same version comes too late.
    assert_eq!(put(&client, "timestamp.json", &house.files["timestamp.json"]).await.0, 409);
    assert_eq!(put(&client, "2.snapshot.json", &house.files["2.snapshot.json"]).await.0, 409);
    hub.stop().await;
}

#[tokio::test]
async fn with_the_key_of_timestamp_alone_snapshots_are_put() {
    let mut stand = Stand::new(Depot::memory(), None).await;
    assert_eq!(stand.signed(0).await, "", "there is no snapshot");
    stand.put("1.snapshot.json").await;
    assert_eq!(stand.signed(0).await, "timestamp.json");
    assert_eq!(stand.timestamp().await, (1, 1));
    stand.renew_targets().await;
    assert_eq!(stand.signed(0).await, "", "nobody signed a snapshot");
    let snapshot = stand.house.files["2.snapshot.json"].clone();
    let targets = Key::tuf("2.targets.json");
    let whole = stand.depot.read(&targets, 1 << 20).await.unwrap().unwrap();
    stand.depot.put(&targets, Bytes::from_static(b"{}")).await.unwrap();
    stand.depot.put(&Key::tuf("2.snapshot.json"), snapshot.into()).await.unwrap();
    assert_eq!(stand.signed(0).await, "", "what it names is not here");
    stand.depot.put(&targets, whole).await.unwrap();
    assert_eq!(stand.signed(0).await, "timestamp.json");
    assert_eq!(stand.timestamp().await, (2, 2));
}

#[tokio::test]
async fn a_third_of_its_life_and_clocks_that_jump() {
    let mut stand = Stand::new(Depot::memory(), Some(5)).await;
    assert_eq!(stand.signed(0).await, "1.targets.json 1.snapshot.json timestamp.json");
    assert_eq!(stand.signed(2 * DAY_MS).await, "", "two days of seven");
    assert_eq!(stand.signed(3 * DAY_MS).await, "timestamp.json");
    assert_eq!(stand.timestamp().await, (2, 1));
    // Behind what is signed: nothing that is fresh is replaced, whatever there would be to sign.
    stand.renew_targets().await;
    for behind_ms in [-30 * 365 * DAY_MS, DAY_MS] {
        let refused = stand.look(behind_ms).await.signed;
        assert!(matches!(refused, Err(OnlineError::ClockBehind { .. })), "{refused:?}");
    }
    // Ahead of root's end: nobody would believe it.
    let refused = stand.look(400 * DAY_MS).await.signed;
    assert!(matches!(refused, Err(OnlineError::RootExpired { .. })), "{refused:?}");
    assert_eq!(stand.timestamp().await, (2, 1));
    // A minute is no jump.
    assert_eq!(stand.signed(3 * DAY_MS - 60_000).await, "2.targets.json 2.snapshot.json timestamp.json");
    // Half of the snapshot's thirty days are over.
    assert_eq!(stand.signed(20 * DAY_MS).await, "3.snapshot.json timestamp.json");
    let looked = stand.look(20 * DAY_MS).await;
    let lives: Vec<(String, i64)> = looked
        .expiries
        .iter()
        .map(|expiry| (expiry.role.to_string(), (expiry.at_ms - stand.house.now_ms) / DAY_MS))
        .collect();
    let expected = [("root", 364), ("timestamp", 26), ("snapshot", 49), ("targets", 364)];
    for (role, days) in expected {
        let found = lives.iter().find(|(found, _)| found == role).unwrap().1;
        assert!((days..=days + 1).contains(&found), "{role}: {found}");
    }
}

#[tokio::test]
async fn what_a_kill_left_is_gone_on_with() {
    let mut stand = Stand::new(Depot::memory(), Some(5)).await;
    stand.signed(0).await;
    stand.renew_targets().await;
    // Another hub signed this snapshot, and was killed before its timestamp.
    stand.put("2.snapshot.json").await;
    assert_eq!(stand.signed(0).await, "timestamp.json");
    assert_eq!(stand.timestamp().await, (2, 2));
    assert_eq!(stand.signed(0).await, "");
    // What nobody could believe makes way.
    stand.renew_targets().await;
    stand.depot.put(&Key::tuf("3.snapshot.json"), Bytes::from_static(b"{}")).await.unwrap();
    stand.depot.put(&Key::tuf("9.targets.json"), Bytes::from_static(b"[]")).await.unwrap();
    assert_eq!(stand.signed(0).await, "3.targets.json 3.snapshot.json timestamp.json");
    assert_eq!(stand.timestamp().await, (3, 3));
}

/// Four hubs on one depot, all of which look at once, again and again.
async fn race(depot: Depot) {
    let mut stand = Stand::new(depot, Some(5)).await;
    let mut before = (0, 0);
    for round in 0..12 {
        if round % 3 == 2 {
            stand.renew_targets().await;
        }
        let now_ms = stand.house.now_ms + round * 3 * DAY_MS;
        let hubs: Vec<_> = (0..4)
            .map(|_| {
                let (depot, config) = (stand.depot.clone(), stand.config.clone());
                tokio::task::spawn_blocking(move || {
                    let keys = OnlineKeys::open(&config).unwrap();
                    let look = look(&depot, &config, keys.as_ref(), now_ms);
                    tokio::runtime::Handle::current().block_on(look).unwrap().signed.unwrap().len()
                })
            })
            .collect();
        let mut signed = 0;
        for hub in hubs {
            signed += usize::from(hub.await.unwrap() > 0);
        }
        let after = versions(&stand.depot).await;
        assert!(after.0 > before.0 && after.1 >= before.1, "{before:?} {after:?}");
        assert_eq!(after.0 - before.0, signed as u64, "each version was signed by one");
        before = after;
        let again = look(&stand.depot, &stand.config, Some(&stand.keys), now_ms).await.unwrap();
        assert_eq!(again.signed.unwrap(), [""; 0], "and a client believes what is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hubs_never_go_back() {
    race(Depot::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    race(Depot::folder(folder.path()).unwrap()).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hubs_on_a_bucket_never_go_back() {
    let Some(bucket) = crate::bucket::Bucket::start() else { return };
    race(Depot::open(&bucket.depot("race"), Path::new("nowhere"), 0).unwrap()).await;
}

#[tokio::test]
async fn a_key_that_is_not_the_roles_is_refused_at_start() {
    let (first, data) = hub(|_| {}).await;
    let mut house = House::new(7 * DAY_MS);
    house.publish();
    assert_eq!(put(&Client::of(&first), "1.root.json", &house.files["1.root.json"]).await.0, 201);
    first.stop().await;
    let start = async |config: TufConfig| {
        let mut all =
            hub::config::HubConfig { tuf: config, data: data.path().to_owned(), ..Default::default() };
        all.listen = "127.0.0.1:0".parse().unwrap();
        match Hub::start(all, System::new()).await {
            Err(HubError::Key(error)) => Some(error),
            Err(error) => panic!("{error}"),
            Ok(running) => {
                running.stop().await;
                None
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let of = |timestamp, snapshot| settings(folder.path(), timestamp, snapshot);
    assert!(start(of(6, Some(5))).await.is_none());
    for (timestamp, snapshot, name) in [(9, None, "timestamp"), (6, Some(6), "snapshot")] {
        let error = start(of(timestamp, snapshot)).await.unwrap();
        let said = error.to_string();
        assert!(matches!(error, KeyError::NotItsKey { .. }), "{said}");
        assert!(said.contains(&format!("does not list for {name}")), "{said}");
    }
    let mut locked = of(6, None);
    locked.passphrase_file = None;
    assert!(matches!(start(locked).await, Some(KeyError::NoPassphrase { .. })));
    let mut wrong = of(6, None);
    std::fs::write(folder.path().join("other"), "open barley").unwrap();
    wrong.passphrase_file = Some(folder.path().join("other"));
    assert!(matches!(start(wrong).await, Some(KeyError::Locked { .. })));
}
