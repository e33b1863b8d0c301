//! Brings assignments from a hub on loopback, from a folder and from a stick: pages, replays, delegated teams, and hubs that
//! never end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use node::assignments::{BringError, Brought, Source, bring, take};
use node::install::orders::{Local, orders};
use node::trust::{FILE_TIME, Repository};
use package::archive::{self, FileName, Name};
use package::disk::system::System;
use package::layout::Layout;
use package::trust::Policy;
use package::trust::assignment::NodeFacts;
use package::trust::author::Delegation;
use package::trust::canonical::{Value, canonical, parse, to_json};
use package::trust::metadata::RoleName;
use package::trust::sign::Signer;
use package::trust::state::TrustState;
use package::trust::time::format_utc;
use wire::checkin::Document;
use wire::facts::Facts;
use wire::hash::Hash;
use wire::world::{Clock, MonoNs, WallMs};

use crate::server::{Reply, Server};
use crate::trust::{At, DAY_MS, House, NOW_MS, TARGET, holders, key, repository};

const ASSIGNER: u8 = 10;
const TEAM: u8 = 11;
const TEAMS: &str = "models/team/1";
const ID: &str = "11111111111111111111111111111111";

/// A house in which somebody assigns, and a team lists a model of its own.
fn house() -> House {
    let mut house = House::new();
    let role = |name| RoleName::delegated(name).unwrap();
    for (name, seed, paths) in [("assignments", ASSIGNER, "assignments/*"), ("team", TEAM, "models/team/*")] {
        let (name, paths) = (name.to_owned(), vec![paths.to_owned()]);
        let to = Delegation { name, holders: holders(seed, 365), paths, terminating: true };
        house.author.delegate(&RoleName::targets(), &to, NOW_MS).unwrap();
    }
    house.author.add_target(&role("team"), TEAMS, (3, Hash::of(b"one")), None, NOW_MS).unwrap();
    house.author.sign(&role("assignments"), &key(ASSIGNER)).unwrap();
    house.author.sign(&role("team"), &key(TEAM)).unwrap();
    house.publish();
    house
}

fn node(name: &str) -> Value {
    Value::object([("node", name.into())])
}

fn all(site: &str) -> Value {
    let labels = Value::object([("labels", Value::object([("site", site.into())]))]);
    Value::object([("selector", labels)])
}

/// An assignment of one target, for thirty days.
fn assign(id: &str, version: u64, subject: Value, target: &str, signer: u8) -> String {
    let (model, release) = target.strip_prefix("models/").unwrap().split_once('/').unwrap();
    let model = Value::object([
        ("model", model.into()),
        ("release", release.parse::<u64>().unwrap().into()),
        ("index", format!("sha256:{}", Hash::of(b"one")).into()),
        ("size", 3_u64.into()),
    ]);
    let signed = Value::object([
        ("_type", "assignment".into()),
        ("spec_version", "1.0.31".into()),
        ("id", id.into()),
        ("version", version.into()),
        ("subject", subject),
        ("issued", format_utc(NOW_MS).into()),
        ("not_before", format_utc(NOW_MS).into()),
        ("expires", format_utc(NOW_MS + 30 * DAY_MS).into()),
        ("models", Value::List(vec![model])),
        ("targets_version", 1_u64.into()),
    ]);
    let signature = key(signer).sign(&canonical(&signed)).unwrap();
    let document = Value::object([("signed", signed), ("signatures", Value::List(vec![signature]))]);
    String::from_utf8(to_json(&document)).unwrap()
}

fn page(assignments: &[&str], next: Option<&str>) -> Reply {
    let next = next.map_or("null".to_owned(), |next| format!("{next:?}"));
    Reply::new(200, format!("{{\"assignments\":[{}],\"next_after\":{next}}}", assignments.join(",")))
}

/// A hub: its repository, and what it answers who asks for assignments.
async fn serve(house: &House, hub: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
    let files = house.files.clone();
    Server::start(move |request, _| {
        assert_eq!(request.header("authorization"), Some("Bearer hub"));
        if let Some(file) = request.path.strip_prefix("/tuf/metadata/") {
            let found = files.lock().unwrap().get(file).cloned();
            return found.map_or_else(|| Reply::new(404, ""), |bytes| Reply::new(200, bytes));
        }
        hub(request.path.strip_prefix("/api/v1/assignments?").unwrap())
    })
    .await
}

async fn bring_from(
    state: &mut TrustState<System>,
    repository: &Repository,
    source: &Source,
    clock: &impl Clock,
) -> Result<Brought, BringError> {
    let labels: BTreeMap<String, String> = [("site".into(), "oslo".into())].into();
    let node = NodeFacts { name: "pump-1", labels: &labels, facts: &Facts::default() };
    bring(state, repository, source, &Policy::default(), node, clock).await
}

/// Asks a server for both.
async fn ask(state: &mut TrustState<System>, server: &Server) -> Result<Brought, BringError> {
    let source = Source::at(&server.url, Some("hub"), FILE_TIME).unwrap();
    bring_from(state, &repository(server, FILE_TIME), &source, &At(NOW_MS)).await
}

fn brought(accepted: usize) -> Brought {
    Brought { accepted, refused: Vec::new(), fresh: Ok(()) }
}

fn versions(state: &TrustState<System>) -> Vec<(String, u64)> {
    state.trusted().assignments.iter().map(|(key, it)| (key.clone(), it.version)).collect()
}

#[tokio::test]
async fn two_pages_and_what_is_for_others() {
    let house = house();
    let (own, others) =
        (assign(ID, 2, node("pump-1"), TARGET, ASSIGNER), assign(ID, 9, node("pump-2"), TARGET, ASSIGNER));
    let (ours, theirs) = (
        assign(&"a".repeat(32), 5, all("oslo"), TARGET, ASSIGNER),
        assign(&"b".repeat(32), 5, all("bergen"), TARGET, ASSIGNER),
    );
    let server = serve(&house, move |query| match query {
        "node=pump-1" => page(&[&own, &others], Some(ID)),
        _ => page(&[&ours, &theirs], None),
    })
    .await;
    let mut state = house.state(0);
    assert_eq!(ask(&mut state, &server).await.unwrap(), brought(2));
    let selector = format!("selector:{}", "a".repeat(32));
    assert_eq!(versions(&state), [("node".to_owned(), 2), (selector, 5)]);
    let asked = server.log().into_iter().filter_map(|it| it.path.split_once('?').map(|it| it.1.to_owned()));
    assert_eq!(asked.collect::<Vec<_>>(), ["node=pump-1".to_owned(), format!("node=pump-1&after={ID}")]);
    assert_eq!(ask(&mut state, &server).await.unwrap(), brought(0), "they are known");
    let sequence = state.sequence();
    assert_eq!(versions(&house.state(sequence)).len(), 2, "it is durable");
}

#[tokio::test]
async fn an_older_one_replayed_a_strangers_and_nonsense_are_told() {
    let house = house();
    let (new, old) = (
        assign(ID, 2, node("pump-1"), TARGET, ASSIGNER),
        assign(&"2".repeat(32), 1, node("pump-1"), TARGET, ASSIGNER),
    );
    let forged = assign(&"3".repeat(32), 3, node("pump-1"), TARGET, TEAM);
    let server = serve(&house, move |_| page(&[&new, &old, &forged, "{}"], None)).await;
    let mut state = house.state(0);
    let Brought { accepted, refused, .. } = ask(&mut state, &server).await.unwrap();
    assert_eq!((accepted, versions(&state)), (1, vec![("node".to_owned(), 2)]));
    let told: Vec<(&str, bool)> = refused
        .iter()
        .zip(["version 2 was accepted", "0 of 1 signatures", "'signed'"])
        .map(|((what, why), expected)| (what.as_str(), why.contains(expected)))
        .collect();
    let (second, third) = ("2".repeat(32), "3".repeat(32));
    assert_eq!(told, [(&*second, true), (&third, true), ("the hub's assignment 4", true)], "{refused:?}");
}

#[tokio::test]
async fn a_team_that_lists_it_is_asked_for_and_what_nobody_lists_is_refused() {
    let house = house();
    let teams = assign(ID, 1, node("pump-1"), TEAMS, ASSIGNER);
    let server = serve(&house, move |_| page(&[&teams], None)).await;
    let mut state = house.state(0);
    assert_eq!(ask(&mut state, &server).await.unwrap(), brought(1));
    assert!(server.log().iter().any(|it| it.path == "/tuf/metadata/1.team.json"));
    for target in ["models/team/2", "models/tiny/2"] {
        let nobodys = assign(ID, 2, node("pump-1"), target, ASSIGNER);
        let server = serve(&house, move |_| page(&[&nobodys], None)).await;
        let told = ask(&mut state, &server).await.unwrap();
        assert!(told.accepted == 0 && told.refused[0].1.contains("nobody has approved it"), "{told:?}");
    }
    // The role is lost on the way: that is said, and it is tried again the next time.
    let teams = assign(ID, 3, node("pump-1"), TEAMS, ASSIGNER);
    let server = serve(&house, move |_| page(&[&teams], None)).await;
    let role = house.files.lock().unwrap().remove("1.team.json").unwrap();
    std::fs::remove_file(house.folder.path().join("state")).unwrap();
    let mut state = house.state(0);
    let told = ask(&mut state, &server).await.unwrap();
    assert!(told.accepted == 0 && told.refused[0].1.contains("has no 1.team.json"), "{told:?}");
    house.files.lock().unwrap().insert("1.team.json".to_owned(), role);
    assert_eq!(ask(&mut state, &server).await.unwrap(), brought(1));
}

/// Takes documents as a hub handed them out.
async fn hand_out(state: &mut TrustState<System>, server: &Server, documents: &[&str]) -> Brought {
    let labels: BTreeMap<String, String> = [("site".into(), "oslo".into())].into();
    let node = NodeFacts { name: "pump-1", labels: &labels, facts: &Facts::default() };
    let documents: Vec<Document> =
        documents.iter().map(|text| Document::from_bytes(text.as_bytes()).unwrap()).collect();
    let repository = repository(server, FILE_TIME);
    take(state, &repository, &documents, &Policy::default(), node, &At(NOW_MS)).await.unwrap()
}

#[tokio::test]
async fn documents_handed_out_ask_for_metadata_only_where_they_need_it() {
    let mut house = house();
    let server = serve(&house, |_| unreachable!("no pages are asked for")).await;
    let mut state = house.state(0);
    let first = assign(&"a".repeat(32), 1, all("oslo"), TARGET, ASSIGNER);
    let others = assign(&"b".repeat(32), 1, all("bergen"), TARGET, ASSIGNER);
    assert_eq!(hand_out(&mut state, &server, &[&others]).await, brought(0));
    assert_eq!(server.log().len(), 0, "what is for others costs no call");
    assert_eq!(hand_out(&mut state, &server, &[&others, &first]).await, brought(1));
    let (asked, sequence) = (server.log().len(), state.sequence());
    assert!(asked > 0, "nothing was trusted yet");
    let second = assign(&"a".repeat(32), 2, all("oslo"), TARGET, ASSIGNER);
    assert_eq!(hand_out(&mut state, &server, &[&first, &second]).await, brought(1));
    assert_eq!(
        (server.log().len(), state.sequence()),
        (asked, sequence + 1),
        "fresh metadata is not asked for"
    );
    assert_eq!(hand_out(&mut state, &server, &[&second]).await, brought(0), "told twice");
    let told = hand_out(&mut state, &server, &[&first]).await;
    assert!(told.refused[0].1.contains("version 2 was accepted"), "{told:?}");
    assert_eq!((state.sequence(), versions(&house.state(sequence + 1)).len()), (sequence + 1, 1));
    // Newer targets list another release; the document makes us ask for them.
    let targets = RoleName::targets();
    house.author.add_target(&targets, "models/tiny/2", (3, Hash::of(b"one")), None, NOW_MS).unwrap();
    house.publish();
    let third = assign(&"a".repeat(32), 3, all("oslo"), "models/tiny/2", ASSIGNER);
    assert_eq!(hand_out(&mut state, &server, &[&third]).await, brought(1));
}

#[tokio::test]
async fn an_order_waits_for_its_window() {
    let house = house();
    let server = serve(&house, |_| unreachable!("no pages are asked for")).await;
    let mut state = house.state(0);
    let mut document = parse(assign(ID, 1, all("oslo"), TARGET, ASSIGNER).as_bytes()).unwrap();
    let mut signed = document.get("signed").unwrap().clone();
    // NOW_MS is a Thursday's midnight.
    let when = parse(br#"{"days":[4],"from":"02:00","to":"03:00"}"#).unwrap();
    let rollout = [("when".to_owned(), when), ("rollout".to_owned(), "9f3c".into())];
    signed.as_object_mut().unwrap().extend(rollout);
    let signature = key(ASSIGNER).sign(&canonical(&signed)).unwrap();
    let fields = document.as_object_mut().unwrap();
    fields.insert("signed".into(), signed);
    fields.insert("signatures".into(), Value::List(vec![signature]));
    let document = String::from_utf8(to_json(&document)).unwrap();
    assert_eq!(hand_out(&mut state, &server, &[&document]).await, brought(1), "it is taken, and waits");
    let labels: BTreeMap<String, String> = [("site".into(), "oslo".into())].into();
    let node = NodeFacts { name: "pump-1", labels: &labels, facts: &Facts::default() };
    let stand = |now_ms: Option<WallMs>, offset_s| {
        orders(&state, &Policy::default(), node, NOW_MS, Local { now_ms, offset_s })
    };
    let waits = |stand: node::install::orders::Orders| {
        assert!(stand.due.is_empty());
        stand.waiting.into_values().map(|waiting| (waiting.in_ms, waiting.why)).collect::<Vec<_>>()
    };
    let hour_ms = 3_600_000;
    let told = "window: it opens in 2 h 0 min".to_owned();
    assert_eq!(waits(stand(Some(NOW_MS), 0)), [(Some(2 * hour_ms), told)]);
    assert!(waits(stand(None, 0))[0].1.starts_with("window: no time"));
    for open in [stand(Some(NOW_MS), 7200), stand(Some(NOW_MS + 2 * hour_ms), 0)] {
        let order = open.due.values().next().unwrap();
        assert_eq!((order.release, order.rollout.as_deref(), open.waiting.len()), (1, Some("9f3c"), 0));
    }
}

#[tokio::test]
async fn without_the_repository_what_is_trusted_goes_on() {
    let house = house();
    let (first, second) = (
        assign(ID, 1, node("pump-1"), TARGET, ASSIGNER),
        assign(&"a".repeat(32), 1, all("oslo"), TARGET, ASSIGNER),
    );
    let only = first.clone();
    let server = serve(&house, move |_| page(&[&only], None)).await;
    let mut state = house.state(0);
    assert_eq!(ask(&mut state, &server).await.unwrap(), brought(1));
    let server = serve(&house, move |_| page(&[&first, &second], None)).await;
    let source = Source::at(&server.url, Some("hub"), FILE_TIME).unwrap();
    let nowhere = Repository::at("http://127.0.0.1:1/tuf/metadata", None, FILE_TIME).unwrap();
    // Once its metadata has expired, nothing new is accepted, and what was is not called into question.
    let late = bring_from(&mut state, &nowhere, &source, &At(NOW_MS + 8 * DAY_MS)).await.unwrap();
    assert!(late.accepted == 0 && late.fresh.is_err(), "{late:?}");
    let [(what, why)] = &late.refused[..] else { panic!("{late:?}") };
    assert!(*what == "a".repeat(32) && why.contains("timestamp has expired"), "{what} {why}");
    let told = bring_from(&mut state, &nowhere, &source, &At(NOW_MS)).await.unwrap();
    assert!(told.accepted == 1 && told.refused.is_empty() && told.fresh.is_err(), "{told:?}");
}

#[tokio::test]
async fn a_hub_without_an_end_costs_a_try() {
    let house = house();
    let mut state = house.state(0);
    let one = assign(ID, 1, node("pump-1"), TARGET, ASSIGNER);
    let body = format!("{{\"assignments\":[{}", format!("{one},").repeat(10));
    let server = serve(&house, move |_| Reply { endless: true, ..Reply::new(200, body.as_bytes()) }).await;
    let endless = ask(&mut state, &server).await.unwrap_err();
    assert!(matches!(endless, BringError::Web(_)), "{endless}");
    // A page's limit, and what the sockets on both sides hold.
    assert!(server.sent() < 64 << 20, "{}", server.sent());

    let drips = |_: &str| Reply { pause: Some(Duration::from_millis(20)), piece: 1, ..page(&[], None) };
    let server = serve(&house, drips).await;
    let slow = Source::at(&server.url, Some("hub"), Duration::from_millis(300)).unwrap();
    let repository = repository(&server, FILE_TIME);
    let slow = bring_from(&mut state, &repository, &slow, &At(NOW_MS)).await.unwrap_err();
    assert!(matches!(slow, BringError::Slow { ms: 300 }), "{slow}");

    // Pages in a circle, and pages that go on for ever.
    let server = serve(&house, |_| page(&[], Some(ID))).await;
    let circle = ask(&mut state, &server).await.unwrap_err();
    assert!(circle.to_string().contains("does not come after it"), "{circle}");
    let next = |query: &str| {
        let after = query.split_once("after=").map_or(0, |(_, after)| after.parse::<u64>().unwrap());
        page(&[], Some(&format!("{:032}", after + 1)))
    };
    let server = serve(&house, next).await;
    let source = Source::at(&server.url, Some("hub"), FILE_TIME).unwrap();
    let clock = Minutes(AtomicU64::new(0));
    let endless =
        bring_from(&mut state, &crate::trust::repository(&server, FILE_TIME), &source, &clock).await;
    assert!(matches!(endless, Err(BringError::Endless { read: 0 })), "{endless:?}");
    let pages = server.log().iter().filter(|it| it.path.contains("assignments?")).count();
    assert_eq!(pages, 17, "sixteen times the time of a page");

    let server = serve(&house, |_| Reply::new(401, "")).await;
    let refused = ask(&mut state, &server).await.unwrap_err();
    assert!(refused.to_string().contains("check its token"), "{refused}");
    let server = serve(&house, |_| Reply::new(200, "[]")).await;
    let other = ask(&mut state, &server).await.unwrap_err();
    assert!(matches!(other, BringError::Page { .. }), "{other}");
}

/// A clock on which a minute goes by whenever it is looked at.
struct Minutes(AtomicU64);

impl Clock for Minutes {
    fn wall_ms(&self) -> WallMs {
        NOW_MS
    }

    fn mono_ns(&self) -> MonoNs {
        self.0.fetch_add(60_000_000_000, SeqCst)
    }
}

#[tokio::test]
async fn a_stick_and_a_folder_are_believed_no_more() {
    let house = house();
    let files = house.files.lock().unwrap().clone();
    let layout = Layout::create(System, &house.folder.path().join("package")).unwrap();
    let file = |name: &str| FileName::new(name).unwrap();
    let metadata = files.iter().map(|(name, bytes)| (Name::Metadata(file(name)), bytes.clone()));
    let documents = [
        ("own.json", assign(ID, 1, node("pump-1"), TEAMS, ASSIGNER) + "\n"),
        ("other.json", assign(ID, 1, node("pump-2"), TARGET, ASSIGNER)),
        ("forged.json", assign(ID, 2, node("pump-1"), TARGET, TEAM)),
        ("long.json", " ".repeat(300_000)),
    ];
    let assignments =
        documents.iter().map(|(name, text)| (Name::Assignment(file(name)), text.clone().into_bytes()));
    let stick = house.folder.path().join("stick.tar");
    let trust = metadata.chain(assignments).collect();
    archive::write(&layout, &trust, std::fs::File::create(&stick).unwrap()).unwrap();
    let folder = house.folder.path().join("assignments");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in &documents {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("README"), "not one of them").unwrap();
    for place in [&stick, &folder] {
        let mut state = house.state(0);
        let source = Source::in_folder(place).unwrap();
        let repository = Repository::in_folder(&stick).unwrap();
        let told = bring_from(&mut state, &repository, &source, &At(NOW_MS)).await.unwrap();
        assert_eq!((told.accepted, &told.fresh), (1, &Ok(())));
        let what: Vec<&str> = told.refused.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(what, [ID, "long.json"], "{:?}", told.refused);
        // The hub has the same without the end of the line.
        let own = documents[0].1.trim_end().to_owned();
        let server = serve(&house, move |_| page(&[&own], None)).await;
        assert_eq!(ask(&mut state, &server).await.unwrap(), brought(0));
        std::fs::remove_file(house.folder.path().join("state")).unwrap();
    }
    assert!(Source::in_folder(&house.folder.path().join("nothing")).is_err());
}
