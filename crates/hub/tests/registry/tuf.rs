//! What authors publish is taken only if a client would believe it, and served as plain files; assignments likewise.

use std::collections::BTreeMap;

use hub::config::HubConfig;
use package::digest::Digest;
use package::trust::Policy;
use package::trust::author::{Delegation, Holders, Plan, Repository};
use package::trust::canonical::{Value, canonical, to_json};
use package::trust::key::KindSet;
use package::trust::metadata::{RoleName, TargetFile};
use package::trust::sign::{HybridSigner, Signer};
use package::trust::time::format_utc;
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, Want, step};
use reqwest::{Method, Response};
use wire::checkin::CheckInAnswer;
use wire::world::{Clock as _, System};

use crate::pushing::{Client, Package, announce, hub, repo};

pub(crate) const DAY_MS: i64 = 86_400_000;

pub(crate) fn key(seed: u8) -> HybridSigner {
    HybridSigner::from_seed(&[seed; 64]).unwrap()
}

fn holders(seeds: &[u8], threshold: u64, days: i64) -> Holders {
    let keys = seeds.iter().map(|seed| key(*seed).key().clone()).collect();
    Holders { keys, threshold, life_ms: days * DAY_MS }
}

pub(crate) fn role(name: &str) -> RoleName {
    match name {
        "root" => RoleName::root(),
        "targets" => RoleName::targets(),
        name => RoleName::delegated(name).unwrap(),
    }
}

/// Authors, and all that they ever published, by name and in order.
pub(crate) struct House {
    pub(crate) repository: Repository,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) now_ms: i64,
}

impl House {
    pub(crate) fn new(timestamp_ms: i64) -> House {
        let plan = Plan {
            root: holders(&[1, 2, 3], 2, 365),
            targets: holders(&[4], 1, 365),
            snapshot: holders(&[5], 1, 30),
            timestamp: Holders { life_ms: timestamp_ms, ..holders(&[6], 1, 0) },
        };
        let now_ms = System::new().wall_ms();
        let mut house =
            House { repository: Repository::init(&plan, now_ms).unwrap(), files: BTreeMap::new(), now_ms };
        house.sign("root", &[1, 2]);
        house.sign("targets", &[4]);
        house
    }

    pub(crate) fn sign(&mut self, name: &str, seeds: &[u8]) {
        for seed in seeds {
            self.repository.sign(&role(name), &key(*seed)).unwrap();
        }
    }

    pub(crate) fn delegate(&mut self, name: &str, seed: u8, paths: &str) {
        let paths = vec![paths.to_owned()];
        let holders = holders(&[seed], 1, 90);
        let to = Delegation { name: name.into(), holders, paths, terminating: true };
        self.repository.delegate(&RoleName::targets(), &to, self.now_ms).unwrap();
        self.sign(name, &[seed]);
    }

    /// Publishes here; the names of the files in the order in which they go out.
    pub(crate) fn publish(&mut self) -> Vec<String> {
        let published = self.repository.publish(&[&key(5), &key(6)], self.now_ms).unwrap();
        assert_eq!(published.waiting, []);
        let files: Vec<_> =
            published.files.into_iter().map(|(file, bytes)| (file.to_string(), bytes)).collect();
        self.files.extend(files.iter().cloned());
        files.into_iter().map(|(file, _)| file).collect()
    }
}

pub(crate) async fn put(client: &Client, file: &str, bytes: &[u8]) -> (u16, String) {
    let path = format!("/api/v1/tuf/metadata/{file}");
    said(client.ask(Method::PUT, &path, &[], bytes.to_vec()).await).await
}

/// The status and why.
async fn said(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
    (status, body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn put_all(client: &Client, house: &House, files: &[String]) {
    for file in files {
        assert_eq!(put(client, file, &house.files[file]).await, (201, String::new()), "{file}");
        assert_eq!(put(client, file, &house.files[file]).await, (204, String::new()), "{file}");
    }
}

/// A node's update over the hub's files.
pub(crate) async fn find(client: &Client, house: &House, path: &str) -> Option<TargetFile> {
    let trusted = Trusted::of_root(&house.files["1.root.json"], &KindSet::hybrid()).unwrap();
    let update = Update::new(trusted, Policy::default());
    let (mut update, mut effects) = step(update, Event::Begin(Want::Target(path.into())), house.now_ms);
    while let Some(effect) = effects.pop() {
        let event = match effect {
            Effect::Done(Outcome::Target(target)) => return Some(target),
            Effect::Done(Outcome::NoTarget) => return None,
            Effect::Done(outcome) => panic!("{outcome:?}"),
            Effect::Persist(_) => Event::Persisted,
            Effect::Fetch { file, .. } => {
                let answer = client.get(&format!("/tuf/metadata/{file}")).await;
                match answer.status().as_u16() {
                    200 => Event::Got { file, bytes: answer.bytes().await.unwrap().to_vec() },
                    404 => Event::Absent { file },
                    status => panic!("{file}: {status}"),
                }
            }
        };
        (update, effects) = step(update, event, house.now_ms);
    }
    panic!("no outcome");
}

#[tokio::test]
async fn a_node_finds_what_authors_published() {
    find_published(|_| {}).await;
}

pub(crate) async fn find_published(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let mut house = House::new(7 * DAY_MS);
    let first = house.publish();
    put_all(&client, &house, &first).await;
    assert_eq!(find(&client, &house, "models/smollm2/7").await, None);

    let package = Package::new("smollm2", 7, 1000);
    client.push(&repo("smollm2"), "7", &package).await;
    let index = Digest::of(&package.index);
    house.delegate("team/a", 7, "models/smollm2/*");
    let described = (package.index.len() as u64, index.hash());
    house.repository.add_target(&role("team/a"), "models/smollm2/7", described, None, house.now_ms).unwrap();
    house.sign("team/a", &[7]);
    house.sign("targets", &[4]);
    let second = house.publish();
    assert!(second.contains(&"1.team%2Fa.json".to_owned()), "{second:?}");
    put_all(&client, &house, &second).await;
    let target = find(&client, &house, "models/smollm2/7").await.unwrap();
    let served = client.get(&format!("/tuf/targets/models/smollm2/{}.7", index.hex())).await;
    target.check(&served.bytes().await.unwrap()).unwrap();
    assert_eq!(client.get("/tuf/targets/models/smollm2/7").await.status(), 404);

    let timestamp = client.get("/tuf/metadata/timestamp.json").await;
    assert_eq!(timestamp.headers()["cache-control"], "no-cache");
    let etag = timestamp.headers()["etag"].to_str().unwrap().to_owned();
    let again =
        client.ask(Method::GET, "/tuf/metadata/timestamp.json", &[("if-none-match", &etag)], vec![]).await;
    assert_eq!(again.status(), 304);
    let root = client.get("/tuf/metadata/1.root.json").await;
    assert_eq!(root.headers()["cache-control"], "public, max-age=31536000, immutable");
    let next = client.get("/tuf/metadata/2.root.json").await;
    assert_eq!(
        (next.status().as_u16(), next.headers()["cache-control"].to_str().unwrap()),
        (404, "no-cache")
    );
    hub.stop().await;
}

#[tokio::test]
async fn what_no_client_would_believe_is_not_taken() {
    refuse(|_| {}).await;
}

pub(crate) async fn refuse(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let mut house = House::new(7 * DAY_MS);
    let refused = async |file: &str, bytes: &[u8], status: u16, why: &str| {
        let (found, said) = put(&client, file, bytes).await;
        assert!(found == status && said.contains(why), "{file}: {found} {said}");
    };
    let first = house.publish();
    let old = house.files["timestamp.json"].clone();
    refused("timestamp.json", &old, 400, "1.root.json is missing").await;
    for file in ["root.json", "1.json", "01.root.json", "x.root.json", "1.timestamp.json", "..json"] {
        refused(file, b"{}", 400, "").await;
    }
    refused("1.root.json", &house.files["1.targets.json"], 400, "is not accepted").await;
    refused("1.targets.json", b"[]", 400, "is not accepted").await;
    let request = "PUT /api/v1/tuf/metadata/1.targets.json HTTP/1.1\r\ncontent-length: 10000000000";
    assert!(announce(&hub, request, b"", false).await.starts_with("HTTP/1.1 413"));
    put_all(&client, &house, &first).await;
    refused("1.targets.json", &house.files["1.root.json"], 409, "published already").await;

    // The next state, out of order; what is mended before its timestamp names it is taken.
    house.repository.renew(&RoleName::targets(), house.now_ms).unwrap();
    house.sign("targets", &[4]);
    let second = house.publish();
    let new = house.files["timestamp.json"].clone();
    refused("timestamp.json", &new, 400, "2.snapshot.json").await;
    assert_eq!(put(&client, "2.targets.json", &house.files["1.targets.json"]).await.0, 201);
    assert_eq!(put(&client, "2.snapshot.json", &house.files["2.snapshot.json"]).await.0, 201);
    refused("timestamp.json", &new, 400, "2.targets.json").await;
    assert_eq!(client.get("/tuf/metadata/timestamp.json").await.bytes().await.unwrap(), old);
    for file in &second {
        let status = put(&client, file, &house.files[file]).await.0;
        assert!([201, 204].contains(&status), "{file}: {status}");
    }
    refused("timestamp.json", &old, 400, "an old state is replayed").await;
    assert_eq!(client.get("/tuf/metadata/timestamp.json").await.bytes().await.unwrap(), new);

    // Roots come one by one, signed by those who were trusted before.
    let mut thief = House::new(7 * DAY_MS);
    thief.publish();
    let mut rotated = Vec::new();
    for seed in [8, 9] {
        house
            .repository
            .rotate(&RoleName::root(), &[key(seed).key().clone()], &[], None, house.now_ms)
            .unwrap();
        house.sign("root", &[1, 2]);
        rotated.extend(house.publish());
    }
    refused("3.root.json", &house.files["3.root.json"], 400, "2.root.json is missing").await;
    refused("2.root.json", &house.files["3.root.json"], 400, "would not believe").await;
    refused("2.root.json", &house.files["1.root.json"], 400, "would not believe").await;
    assert_eq!(put(&client, "2.root.json", &house.files["2.root.json"]).await.0, 201);
    assert_eq!(put(&client, "3.root.json", &house.files["3.root.json"]).await.0, 201);
    refused("3.root.json", &house.files["2.root.json"], 409, "published already").await;
    assert_eq!(put(&client, "timestamp.json", &house.files["timestamp.json"]).await.0, 201);
    hub.stop().await;
}

#[tokio::test]
async fn what_has_expired_and_what_is_not_the_pinned_root() {
    let mut house = House::new(1);
    let files = house.publish();
    let root = Digest::of(&house.files["1.root.json"]).to_string();
    let (ours, _folder) = hub(|config| config.tuf.root = Some(root)).await;
    let client = Client::of(&ours);
    for file in files.iter().filter(|file| *file != "timestamp.json") {
        assert_eq!(put(&client, file, &house.files[file]).await.0, 201);
    }
    let (status, why) = put(&client, "timestamp.json", &house.files["timestamp.json"]).await;
    assert!(status == 400 && why.contains("has expired"), "{status} {why}");
    ours.stop().await;
    let other = Digest::of(b"another root").to_string();
    let (theirs, _folder) = hub(|config| config.tuf.root = Some(other)).await;
    let (status, why) = put(&Client::of(&theirs), "1.root.json", &house.files["1.root.json"]).await;
    assert!(status == 400 && why.contains("[tuf]"), "{status} {why}");
    theirs.stop().await;
}

/// An assignment of no models, which is enough for the hub.
fn assignment(id: &str, version: u64, subject: Value, now_ms: i64, signer: &HybridSigner) -> Vec<u8> {
    let signed = Value::object([
        ("_type", "assignment".into()),
        ("spec_version", "1.0.31".into()),
        ("id", id.into()),
        ("version", version.into()),
        ("subject", subject),
        ("issued", format_utc(now_ms).into()),
        ("not_before", format_utc(now_ms).into()),
        ("expires", format_utc(now_ms + DAY_MS).into()),
        ("rollout", Value::Null),
        ("models", Value::List(Vec::new())),
        ("targets_version", 1u64.into()),
    ]);
    let signature = signer.sign(&canonical(&signed)).unwrap();
    to_json(&Value::object([("signed", signed), ("signatures", Value::List(vec![signature]))]))
}

#[tokio::test]
async fn assignments_are_kept_and_handed_out() {
    assignments(|_| {}).await;
}

pub(crate) async fn assignments(change: impl FnOnce(&mut HubConfig)) {
    let (hub, _folder) = hub(change).await;
    let client = Client::of(&hub);
    let mut house = House::new(7 * DAY_MS);
    let put = async |bytes: &[u8]| {
        said(client.ask(Method::PUT, "/api/v1/assignments", &[], bytes.to_vec()).await).await
    };
    let node = |name: &str| Value::object([("node", name.into())]);
    let one = |version, signer: &HybridSigner| {
        assignment("00112233445566778899aabbccddeeff", version, node("pump-1"), house.now_ms, signer)
    };
    let revision = async || {
        let said = r#"{"v":1,"node":"pump-1","journal":"00000000000000000000000000000001",
            "boot":"00000000000000000000000000000002","version":"0","uptime_ms":1,"wall_ms":0,"clock":"unchecked"}"#;
        let headers = [("content-type", "application/json")];
        let answer = client.ask(Method::POST, "/api/v1/checkin", &headers, said.into()).await;
        serde_json::from_slice::<CheckInAnswer>(&answer.bytes().await.unwrap()).unwrap().assignments
    };
    assert_eq!(revision().await, None);
    let (second, third, stolen) = (one(2, &key(10)), one(3, &key(10)), one(4, &key(4)));
    let (status, why) = put(&second).await;
    assert!(status == 400 && why.contains("delegate to no role"), "{status} {why}");
    house.delegate("assignments", 10, "assignments/*");
    house.sign("targets", &[4]);
    let files = house.publish();
    put_all(&client, &house, &files).await;
    assert_eq!(put(&third).await.0, 200);
    assert_eq!(put(&third).await.0, 200);
    let first = revision().await;
    assert_eq!(put(&second).await.0, 409);
    assert_eq!(put(&stolen).await.0, 400);
    assert!(first.is_some() && revision().await == first, "nothing was put");
    assert_eq!(put(b"{}").await.0, 400);
    let labels = Value::object([("labels", Value::object([("site", "oslo".into())]))]);
    let all = Value::object([("selector", labels)]);
    let all = assignment("ffeeddccbbaa99887766554433221100", 1, all, house.now_ms, &key(10));
    assert_eq!(put(&all).await.0, 200);
    assert_ne!(revision().await, first, "nodes hear of it");
    let one = client.get("/api/v1/assignments/00112233445566778899aabbccddeeff").await;
    assert_eq!(one.bytes().await.unwrap(), third);
    assert_eq!(client.get("/api/v1/assignments/..").await.status(), 404);
    let list =
        async |query: &str| client.get(&format!("/api/v1/assignments{query}")).await.text().await.unwrap();
    let (third, all) = (String::from_utf8(third).unwrap(), String::from_utf8(all).unwrap());
    let page =
        |documents: &[&str]| format!("{{\"assignments\":[{}],\"next_after\":null}}", documents.join(","));
    assert_eq!(list("").await, page(&[&third, &all]), "byte for byte");
    assert_eq!(list("?node=pump-1").await, page(&[&third, &all]));
    assert_eq!(list("?node=pump-2").await, page(&[&all]));
    assert_eq!(list("?after=00112233445566778899aabbccddeeff").await, page(&[&all]));
    hub.stop().await;
}
