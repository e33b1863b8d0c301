//! Rollouts through the writer's own transactions on a real store, by a simulated clock.

mod experiments;
mod figures;
mod restored;

use std::collections::BTreeMap;
use std::path::Path;

use package::name::ModelName;
use package::trust::canonical::{Value, to_json};
use serde_json::value::RawValue;
use sqlx::{Connection as _, Row as _};
use wire::batch::{Batch, BatchAnswer};
use wire::body::Install;
use wire::chain::{Link, link};
use wire::checkin::{
    AcceptedVersion, CandidateState, CheckIn, CheckInAnswer, CurrentState, Inventory, SlotState,
};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, JournalId, NodeId, PartName, StreamName};
use wire::record::Record;
use wire::world::{ClockQuality, Simulated};

use super::*;
use crate::rollout::documents;
use crate::rollout::offer::{Offer, Why};
use crate::rollout::plan::{Disruption, Gate, Lane, Target, Wave};
use crate::rollout::step::Phase;
use crate::store::database::Store;
use crate::store::sqlite;
use crate::write::{self, Limits, Names, Written};

/// 2026-11-22T01:00:00Z.
const MADE_MS: WallMs = 1_795_309_200_000;

fn target(release: u64) -> Target {
    let model = ModelName::new("smollm2").unwrap();
    Target { model, release, index: Hash::of(&release.to_be_bytes()), size: 2300, variant: None }
}

/// The manifest of a release's one variant.
fn manifest(release: u64) -> Hash {
    Hash::of(format!("manifest {release}").as_bytes())
}

/// To everybody, in waves of these rings, none of which bears a failure.
fn plan(rings: &[u16], note: &str) -> Plan {
    let gate = Gate { min_reports: 1, soak_s: 0, ..Gate::of_first_wave() };
    let mut plan = Plan::to_all(vec![target(7)], vec![target(6)], "ann", MADE_MS);
    plan.waves = rings.iter().map(|to| Wave { to: *to, gate: gate.clone() }).collect();
    plan.note = note.to_owned();
    plan.salt = text::salt(&plan);
    plan
}

/// A node that does as it is told, or fails at it.
struct Node {
    name: NodeId,
    journal: JournalId,
    boot: BootId,
    hub: Option<String>,
    revision: Option<u64>,
    accepted: BTreeMap<String, u64>,
    release: u64,
    candidate: Option<u64>,
    /// What its clock says.
    wall_ms: WallMs,
    /// What it says it can.
    can: Vec<&'static str>,
    /// By stream: the last number and the hash there.
    heads: BTreeMap<&'static str, (u64, Hash)>,
}

impl Node {
    fn new(name: &str, seed: u64) -> Node {
        let mut world = Simulated::new(seed);
        Node {
            name: NodeId::new(name).unwrap(),
            journal: JournalId::random(&mut world),
            boot: BootId::random(&mut world),
            hub: Some("00".repeat(16)),
            revision: None,
            accepted: BTreeMap::new(),
            release: 6,
            candidate: None,
            wall_ms: 1,
            can: Vec::new(),
            heads: BTreeMap::new(),
        }
    }

    fn checkin(&self) -> CheckIn {
        let text = format!(
            r#"{{"v":1,"node":"{}","journal":"{}","boot":"{}","version":"0.1.0","uptime_ms":1,"wall_ms":0,"clock":"checked"}}"#,
            self.name, self.journal, self.boot
        );
        let extra = serde_json::Map::new;
        let current = CurrentState {
            release: self.release,
            variant: "q4_k_m".into(),
            manifest: manifest(self.release),
            extra: extra(),
        };
        let candidate = self.candidate.map(|release| CandidateState {
            release,
            phase: "trial".into(),
            misses: 0,
            extra: extra(),
        });
        let (model, previous, safe) = ("smollm2".into(), None, None);
        let slot = SlotState {
            model,
            current: Some(current),
            previous,
            candidate,
            spare: None,
            safe,
            waits: None,
            extra: extra(),
        };
        let accepted = self.accepted.iter().map(|(id, version)| AcceptedVersion {
            id: id.clone(),
            version: *version,
            rollout: Some(id.clone()),
        });
        let inventory = (!self.can.is_empty()).then(|| Inventory {
            seq: 1,
            base: 0,
            set: [("can".to_owned(), serde_json::json!(self.can))].into_iter().collect(),
            drop: Vec::new(),
            extra: extra(),
        });
        CheckIn {
            inventory,
            hub: self.hub.clone(),
            revision: self.revision,
            accepted: accepted.collect(),
            slots: vec![slot],
            ..serde_json::from_str(&text).unwrap()
        }
    }

    /// Takes an answer: the versions that it brought.
    fn take(&mut self, answer: &CheckInAnswer) -> Vec<u64> {
        self.hub = answer.hub.clone();
        let Some(desired) = &answer.desired else { return Vec::new() };
        self.revision = Some(desired.revision);
        let mut versions = Vec::new();
        for document in &desired.documents {
            let said: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
            let signed = &said["signed"];
            let version = signed["version"].as_u64().unwrap();
            self.accepted.insert(signed["id"].as_str().unwrap().to_owned(), version);
            self.candidate = signed["models"][0]["release"].as_u64();
            versions.push(version);
        }
        versions
    }

    /// An install record of its candidate.
    fn installed(&mut self, outcome: &str) -> Batch {
        let release = self.candidate.take().unwrap();
        if outcome == "committed" {
            self.release = release;
        }
        let install = Install {
            id: format!("{}-{release}-smollm2", self.boot),
            model: "smollm2".into(),
            release,
            variant: None,
            index: target(release).index,
            manifest: None,
            outcome: outcome.to_owned(),
            phase: None,
            why: "golden case 0".into(),
            attempt: 1,
            load_ms: None,
            p95_ms: None,
            rss_bytes: None,
            joules: None,
            rollout: None,
            kernel_same: Some(true),
        };
        self.tells("installs", Class::Audit, &install)
    }

    /// The next record of a stream.
    fn tells<B: wire::body::Body>(&mut self, stream: &'static str, class: Class, body: &B) -> Batch {
        let (seq, head) = self.heads.entry(stream).or_insert((0, Hash::GENESIS));
        *seq += 1;
        let (stream, seq) = (StreamName::new(stream).unwrap(), *seq);
        let record = Record {
            seq,
            kind: PartName::new(B::KIND).unwrap(),
            boot: self.boot,
            mono_ns: seq,
            wall_ms: self.wall_ms,
            clock: ClockQuality::Checked,
            body: RawValue::from_string(serde_json::to_string(body).unwrap()).unwrap(),
        };
        let stamp = record.stamp();
        let of = Link { stream: &stream, class, seq, kind: B::KIND, stamp };
        *head = link(*head, of, record.body.get());
        let (node, journal, head) = (self.name.clone(), self.journal, *head);
        Batch { v: 1, node, journal, stream, class, gap: None, records: vec![record], head }
    }
}

/// A hub's writer, one transaction at a time.
struct Stand {
    store: Store,
    names: Names,
    now_ms: WallMs,
    _folder: tempfile::TempDir,
}

const LIMITS: Limits = Limits { nodes: 1000 };

async fn checked_in(
    writer: &mut Writer,
    names: &mut Names,
    checkin: &CheckIn,
    now_ms: WallMs,
) -> CheckInAnswer {
    let last_record = write::begin(writer, names, "me").await.unwrap();
    let (mut written, text) = (Written::default(), serde_json::to_string(checkin).unwrap());
    let answer = write::checkin(writer, names, &LIMITS, checkin, &text, 1000, now_ms, &mut written)
        .await
        .unwrap()
        .unwrap();
    write::end(writer, names, last_record, now_ms, &mut written).await.unwrap();
    answer
}

impl Stand {
    async fn new() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        Stand { store, names: Names::default(), now_ms: MADE_MS + 1000, _folder: folder }
    }

    async fn call(&mut self, node: &mut Node) -> Vec<u64> {
        self.now_ms += 1000;
        let mut transaction = self.store.writer.begin().await.unwrap();
        let answer = checked_in(&mut transaction, &mut self.names, &node.checkin(), self.now_ms).await;
        transaction.commit().await.unwrap();
        node.take(&answer)
    }

    async fn store(&mut self, batch: &Batch) -> BatchAnswer {
        let mut transaction = self.store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut self.names, "me").await.unwrap();
        let (mut written, names) = (Written::default(), &mut self.names);
        let answer = write::batch(&mut transaction, names, &LIMITS, batch, 1000, self.now_ms, &mut written);
        let answer = answer.await.unwrap().unwrap();
        write::end(&mut transaction, &mut self.names, last_record, self.now_ms, &mut written).await.unwrap();
        transaction.commit().await.unwrap();
        answer
    }

    async fn tick(&mut self) {
        self.now_ms += 5000;
        let mut written = Written::default();
        write::tick(&mut self.store.writer, &mut self.names, "me", self.now_ms, &mut written).await.unwrap();
    }

    async fn wish(&mut self, wish: Wish) -> Result<Rollout, NotDone> {
        let mut transaction = self.store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut self.names, "me").await.unwrap();
        let granted = self.names.rollouts.grant(&mut transaction, &wish, self.now_ms).await.unwrap();
        let mut written = Written::default();
        write::end(&mut transaction, &mut self.names, last_record, self.now_ms, &mut written).await.unwrap();
        transaction.commit().await.unwrap();
        granted.map(|granted| match granted {
            Granted::Rollout(rollout) => *rollout,
            other => panic!("{other:?}"),
        })
    }

    async fn order(&mut self, id: PlanId, order: Order, revision: Option<u64>) -> Result<Rollout, NotDone> {
        let (who, why) = ("operator:bob".to_owned(), "because".to_owned());
        self.wish(Wish::Order { id, order, who, why, revision }).await
    }

    /// Takes in a plan, whose documents are signed by nobody in particular.
    async fn ready(&mut self, plan: &Plan) -> PlanId {
        let who = || "operator:ann".to_owned();
        let id = self.wish(Wish::Create { plan: Box::new(plan.clone()), who: who() }).await.unwrap().id;
        let document = |planned: documents::Planned| {
            let signatures = ("signatures", Value::List(Vec::new()));
            (planned.kind, to_json(&Value::object([("signed", planned.value), signatures])))
        };
        let documents = documents::of(plan).into_iter().map(document).collect();
        let ready = self.wish(Wish::Sign { id, documents, who: who() }).await.unwrap();
        assert_eq!(ready.phase, Phase::Ready);
        id
    }

    /// And starts it.
    async fn start(&mut self, plan: &Plan) -> PlanId {
        let id = self.ready(plan).await;
        let ready = self.rollout(id).await;
        let running = self.order(id, Order::Start, Some(ready.revision)).await.unwrap();
        assert_eq!(running.phase, Phase::Running);
        id
    }

    async fn rollout(&mut self, id: PlanId) -> Rollout {
        let row = rows::get(&self.store.readers, &id.to_string()).await.unwrap().unwrap();
        serde_json::from_str(&row.state).unwrap()
    }

    /// Members as `name standing version`.
    async fn members(&mut self, id: PlanId) -> Vec<String> {
        let all = rows::list_members(&self.store.readers, &id.to_string(), None, "", 100).await.unwrap();
        all.iter().map(|row| format!("{} {} {}", row.node, row.member.standing, row.member.version)).collect()
    }

    /// Believes nodes that are ahead.
    async fn adopt(&mut self) -> Recovered {
        let recovery = Box::new(Recovery { adopt: true, keys: Vec::new() });
        let wish = Wish::Recover { recovery, who: "operator:ann".into(), why: "a test".into() };
        let mut transaction = self.store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut self.names, "me").await.unwrap();
        let granted = self.names.rollouts.grant(&mut transaction, &wish, self.now_ms).await.unwrap();
        let mut written = Written::default();
        write::end(&mut transaction, &mut self.names, last_record, self.now_ms, &mut written).await.unwrap();
        transaction.commit().await.unwrap();
        let Ok(Granted::Recovered(done)) = granted else { panic!("{granted:?}") };
        done
    }

    /// Where it fires that the hub is behind, and for how many nodes.
    async fn behind(&self) -> Vec<(String, i64)> {
        let all = alerts::list(&self.store.readers, &alerts::AlertFilter::default(), 10).await.unwrap();
        let fires = all.into_iter().filter(|alert| alert.rule == HUB_BEHIND && alert.cleared_ms.is_none());
        fires.map(|alert| (alert.node, alert.count)).collect()
    }

    async fn acts(&mut self) -> Vec<String> {
        let filter = audit::AuditFilter::default();
        let rows = audit::list(&self.store.readers, &filter, 100).await.unwrap();
        rows.iter().rev().map(|row| format!("{} {}", row.who, row.act)).collect()
    }
}

async fn open(folder: &Path) -> Store {
    sqlite::open(folder).await.unwrap()
}

/// Nodes inside the first wave of a plan, and behind it.
fn nodes(plan: &Plan, inside: usize, behind: usize) -> (Vec<Node>, Vec<Node>) {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for seed in 0.. {
        let name = format!("pump-{seed:04}");
        let is_first = crate::rollout::offer::place(plan, &name) < plan.ring_to(1);
        let (into, most) = if is_first { (&mut first, inside) } else { (&mut rest, behind) };
        if into.len() < most {
            into.push(Node::new(&name, seed));
        }
        if first.len() == inside && rest.len() == behind {
            break;
        }
    }
    (first, rest)
}

#[tokio::test]
async fn two_waves_succeed() {
    let (mut stand, plan) = (Stand::new().await, plan(&[512, 2048], "two waves"));
    let (mut first, mut rest) = nodes(&plan, 2, 2);
    let id = stand.start(&plan).await;
    for node in &mut rest {
        assert_eq!(stand.call(node).await, [0; 0], "behind the ring");
    }
    for node in &mut first {
        assert_eq!(stand.call(node).await, [1]);
        assert_eq!(node.revision.map(|revision| revision > 0), Some(true));
    }
    for node in &mut first {
        assert_eq!(stand.call(node).await, [0; 0], "it has accepted it");
        let batch = node.installed("committed");
        stand.store(&batch).await;
    }
    assert_eq!(stand.rollout(id).await.wave, 1, "a gate opens with a tick alone");
    stand.tick().await;
    let rollout = stand.rollout(id).await;
    assert_eq!((rollout.wave, rollout.phase), (2, Phase::Running));
    for node in &mut rest {
        assert_eq!(stand.call(node).await, [2]);
        assert_eq!(stand.call(node).await, [0; 0]);
        let batch = node.installed("committed");
        stand.store(&batch).await;
    }
    assert_eq!(stand.call(&mut first[0]).await, [0; 0], "it runs the release already");
    stand.tick().await;
    assert_eq!(stand.rollout(id).await.phase, Phase::Done);
    let succeeded = stand.members(id).await;
    assert!(succeeded.len() == 4 && succeeded.iter().all(|one| one.contains("succeeded")), "{succeeded:?}");
    // Who comes late gets what stays, and a hub that starts again knows all of it.
    stand.names.forget();
    let mut late = Node::new("late", 99);
    assert_eq!(stand.call(&mut late).await, [1000]);
    assert_eq!(stand.call(&mut rest[0]).await, [0; 0]);
    let acts = stand.acts().await;
    let expected = [
        "operator:ann rollout.create",
        "operator:ann rollout.sign",
        "hub rollout.ready",
        "operator:bob rollout.start",
    ];
    assert_eq!(
        acts[..4].iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        expected.into()
    );
    assert_eq!(acts.last().unwrap(), "hub rollout.done");
}

#[tokio::test]
async fn one_failure_stops_the_first_wave_and_all_go_back() {
    let (mut stand, plan) = (Stand::new().await, plan(&[1024, 2048], "a bad one"));
    let (mut first, mut rest) = nodes(&plan, 3, 1);
    let id = stand.start(&plan).await;
    for node in &mut first[..2] {
        assert_eq!(stand.call(node).await, [1]);
    }
    let (good, bad) = (first[0].installed("committed"), first[1].installed("refused"));
    stand.store(&good).await;
    stand.store(&bad).await;
    // In the very transaction that stored the failure.
    let rollout = stand.rollout(id).await;
    assert_eq!(rollout.phase, Phase::Reverting);
    assert_eq!(stand.call(&mut first[2]).await, [0; 0], "it was not offered, and is not");
    assert_eq!(stand.call(&mut first[0]).await, [501], "the way back");
    assert_eq!(stand.call(&mut rest[0]).await, [0; 0]);
    stand.tick().await;
    assert_eq!(stand.rollout(id).await.phase, Phase::Reverting, "one still runs it");
    let back = first[0].installed("committed");
    stand.store(&back).await;
    stand.call(&mut first[0]).await;
    stand.tick().await;
    assert_eq!(stand.rollout(id).await.phase, Phase::Reverted);
    let firing = alerts::list(&stand.store.readers, &alerts::AlertFilter::default(), 10).await.unwrap();
    let stopped: Vec<_> = firing.iter().map(|alert| (alert.rule.as_str(), alert.source.clone())).collect();
    assert!(stopped.contains(&("rollout-stopped", id.to_string())), "{stopped:?}");
    // It refused this release, so no other rollout brings it again.
    let again = plan_again(&plan);
    stand.start(&again).await;
    assert_eq!(stand.call(&mut first[1]).await.iter().filter(|version| **version < 500).count(), 0);
}

/// The same in one wave, made a day later.
fn plan_again(plan: &Plan) -> Plan {
    let mut again = Plan { note: "again".to_owned(), waves: vec![plan.waves[1].clone()], ..plan.clone() };
    again.salt = text::salt(&again);
    again
}

#[tokio::test]
async fn no_document_leaves_before_its_row_is_durable_and_told_twice_it_is_offered_once() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "a kill"));
    let id = stand.start(&plan).await;
    let mut node = Node::new("pump-1", 1);
    // The hub dies between the answer's making and the commit.
    let mut transaction = stand.store.writer.begin().await.unwrap();
    let answer = checked_in(&mut transaction, &mut stand.names, &node.checkin(), stand.now_ms).await;
    assert_eq!(answer.desired.map(|desired| desired.documents.len()), Some(1));
    let rows = sqlx::query("SELECT node FROM members").fetch_all(&mut *transaction).await.unwrap();
    assert_eq!(rows.len(), 1, "the row is in the transaction that the answer waits for");
    transaction.rollback().await.unwrap();
    stand.names.forget();
    assert_eq!(stand.members(id).await, [""; 0]);
    assert_eq!(stand.rollout(id).await.members().members(), 0);
    // The answer was lost, so the node says the same again.
    let checkin = node.checkin();
    for _ in 0..2 {
        let mut transaction = stand.store.writer.begin().await.unwrap();
        let answer = checked_in(&mut transaction, &mut stand.names, &checkin, stand.now_ms).await;
        transaction.commit().await.unwrap();
        assert_eq!(
            answer.desired.as_ref().map(|desired| desired.revision),
            Some(1),
            "nothing new the second time"
        );
        assert_eq!(node.take(&answer), [1]);
    }
    assert_eq!(stand.members(id).await, ["pump-1 offered 1"]);
    assert_eq!(stand.rollout(id).await.members().offered, 1);
    let desired = sqlx::query("SELECT desired FROM turn").fetch_one(&stand.store.readers).await.unwrap();
    assert_eq!(desired.get::<i64, _>(0), 1);
}

#[tokio::test]
async fn two_engines_without_the_turn_are_found_by_the_swap() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "two engines"));
    let id = stand.start(&plan).await;
    let writer = &mut stand.store.writer;
    let turn = Turn { is_after_another: false, count: 0, last_record: 0, last_audit: 0, desired: 0 };
    let mut other = Rollouts::default();
    other.ready(writer, &turn, "other").await.unwrap();
    stand.call(&mut Node::new("pump-1", 1)).await;
    let writer = &mut stand.store.writer;
    let node = Node::new("pump-2", 2);
    other.call(writer, 1, &node.checkin(), stand.now_ms).await.unwrap();
    let lost = other.settle(writer, stand.now_ms).await;
    assert!(lost.as_ref().is_err_and(LostSwap::is), "{lost:?}");
    // With the turn it reads the newest state first, and both are counted.
    let mut names = Names::default();
    let mut transaction = stand.store.writer.begin().await.unwrap();
    checked_in(&mut transaction, &mut names, &node.checkin(), stand.now_ms).await;
    transaction.commit().await.unwrap();
    assert_eq!(stand.rollout(id).await.members().offered, 2);
}

#[tokio::test]
async fn silence_is_no_success_and_a_stale_order_is_refused() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "silence"));
    let id = stand.start(&plan).await;
    let mut node = Node::new("pump-1", 1);
    stand.call(&mut node).await;
    stand.now_ms += 120_000;
    let (mut written, names) = (Written::default(), &mut stand.names);
    write::watch(&mut stand.store.writer, names, "me", 0, stand.now_ms, &mut written).await.unwrap();
    assert_eq!(stand.members(id).await, ["pump-1 unknown 1"]);
    stand.tick().await;
    let waits = stand.rollout(id).await;
    assert!(waits.phase.is_open() && !waits.needs.is_empty(), "{waits:?}");
    let stale = stand.order(id, Order::Pause, Some(waits.revision - 1)).await;
    assert_eq!(stale, Err(NotDone::Stale(Box::new(waits.clone()))));
    let paused = stand.order(id, Order::Pause, Some(waits.revision)).await.unwrap();
    assert_eq!(paused.phase.as_str(), "paused");
    assert!(matches!(stand.order(id, Order::Start, None).await, Err(NotDone::NotNow(_))));
    assert_eq!(
        stand.order(PlanId([0; 16]), Order::Start, None).await,
        Err(NotDone::Unknown(PlanId([0; 16])))
    );
    // It comes back, says that it has the document, and nothing is handed to others meanwhile.
    stand.call(&mut node).await;
    assert_eq!(stand.members(id).await, ["pump-1 trying 1"]);
    assert_eq!(stand.call(&mut Node::new("pump-2", 2)).await, [0; 0]);
}

#[tokio::test]
async fn a_node_that_knows_more_than_the_hub_gets_nothing() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "restored"));
    let id = stand.start(&plan).await;
    let mut node = Node::new("pump-1", 1);
    stand.call(&mut node).await;
    node.revision = Some(8812);
    let checkin = node.checkin();
    let mut transaction = stand.store.writer.begin().await.unwrap();
    let answer = checked_in(&mut transaction, &mut stand.names, &checkin, stand.now_ms).await;
    transaction.commit().await.unwrap();
    assert_eq!((answer.desired, answer.paused.as_deref()), (None, Some("hub-behind")));
    assert_eq!(stand.behind().await, [("pump-1".to_owned(), 1)]);
    // A node that took a document which this hub has not released: the rollout waits for a person.
    let mut second = Node::new("pump-2", 2);
    (second.revision, second.hub) = (Some(3), node.hub.clone());
    second.accepted.insert(id.to_string(), 501);
    second.release = 7;
    assert_eq!(stand.call(&mut second).await, [0; 0]);
    assert_eq!(stand.behind().await, [("pump-1".to_owned(), 2)], "one alert for the fleet");
    let phase =
        |stand: &Stand| stand.names.rollouts.engine.as_ref().unwrap().get(id).unwrap().rollout.clone();
    assert_eq!(phase(&stand).phase.as_str(), "paused");

    // Another life of the hub knows it still; then somebody believes the nodes.
    stand.names.forget();
    let done = stand.adopt().await;
    assert_eq!(done, Recovered { nodes: 2, rollouts: 1, keys: 0 });
    assert_eq!(stand.adopt().await, Recovered::default(), "told twice");
    assert_eq!(phase(&stand).phase.as_str(), "reverting", "they were told to go back");
    assert!(stand.behind().await.is_empty());
    assert_eq!(stand.members(id).await, ["pump-1 trying 1", "pump-2 offered 501"]);
    assert_eq!(stand.call(&mut second).await, [0; 0], "it has what there is");
    assert_eq!(second.revision, Some(3), "never a number below the one that it has");
    assert_eq!(stand.call(&mut node).await, [501]);
    assert_eq!(node.revision, Some(8813));
}

/// A plan of another day, changed.
fn other(plan: &Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    let mut other = Plan { created_ms: plan.created_ms + 1000, ..plan.clone() };
    change(&mut other);
    other.salt = text::salt(&other);
    other
}

#[tokio::test]
async fn of_two_rollouts_the_older_goes_first_and_an_emergency_takes_over() {
    let (mut stand, plan) = (Stand::new().await, plan(&[2048], "the older"));
    let newer = other(&plan, |plan| plan.what[0] = target(8));
    let urgent = other(&newer, |plan| (plan.what[0], plan.lane) = (target(9), Lane::Emergency));
    let (old, new) = (stand.start(&plan).await, stand.start(&newer).await);
    let mut node = Node::new("pump-1", 1);
    assert_eq!(stand.call(&mut node).await, [1]);
    assert_eq!(node.candidate, Some(7));
    assert_eq!(stand.call(&mut node).await, [0; 0], "the newer waits");
    let urgent = stand.start(&urgent).await;
    assert_eq!(stand.call(&mut node).await, [1]);
    assert_eq!(node.candidate, Some(9));
    assert_eq!(stand.members(old).await, ["pump-1 superseded 1"]);
    assert_eq!(stand.members(urgent).await, ["pump-1 offered 1"]);
    assert_eq!(stand.members(new).await, [""; 0]);
    let batch = node.installed("committed");
    stand.store(&batch).await;
    assert_eq!(stand.call(&mut node).await, [0; 0], "nothing older comes behind it");
    assert_eq!(stand.members(urgent).await, ["pump-1 succeeded 1"]);
}

#[tokio::test]
async fn no_more_than_the_budget_are_away_at_once() {
    let (mut stand, mut plan) = (Stand::new().await, plan(&[2048], "one at a time"));
    plan.budget = vec![Disruption { by: "site".to_owned(), max_unavailable: 1 }];
    plan.salt = text::salt(&plan);
    let id = stand.start(&plan).await;
    let (mut one, mut two) = (Node::new("pump-1", 1), Node::new("pump-2", 2));
    assert_eq!(stand.call(&mut one).await, [1]);
    assert_eq!(stand.call(&mut two).await, [0; 0]);
    let engine = stand.names.rollouts.engine().unwrap();
    let Offer::No(why) = engine.judge(id, 2, Some(&two.checkin()), stand.now_ms) else { panic!("an offer") };
    assert_eq!(why, Why::Budget { by: "site".to_owned(), away: 1 });
    stand.tick().await;
    assert_eq!(stand.rollout(id).await.seen.map(|seen| seen.waiting), Some(1), "the gate waits for it");
    let batch = one.installed("committed");
    stand.store(&batch).await;
    assert_eq!(stand.call(&mut two).await, [1]);
}

#[tokio::test]
async fn who_waits_for_news_is_called_once_for_each() {
    let mut stand = Stand::new().await;
    let plan = plan(&[1024, 2048], "news");
    let (mut inside, mut behind) = nodes(&plan, 1, 1);
    for node in inside.iter_mut().chain(&mut behind) {
        stand.call(node).await;
    }
    let numbers = [&inside[0].name, &behind[0].name].map(ToString::to_string);
    let calls = async |stand: &mut Stand| {
        let mut called = Vec::new();
        for name in &numbers {
            let row = sqlx::query("SELECT id FROM nodes WHERE name = $1").bind(name);
            let node: i64 = row.fetch_one(&stand.store.readers).await.unwrap().get(0);
            called.push(stand.names.rollouts.calls(node, stand.now_ms));
        }
        (stand.names.rollouts.take_news(), called)
    };
    let id = stand.start(&plan).await;
    assert_eq!(calls(&mut stand).await, (true, vec![true, false]), "the wave that opens means the first");
    assert!(!calls(&mut stand).await.0, "nothing happened since");
    assert_eq!(stand.call(&mut inside[0]).await, [1]);
    assert_eq!(calls(&mut stand).await, (true, vec![false, false]), "it has it");
    let installed = inside[0].installed("committed");
    stand.store(&installed).await;
    stand.tick().await;
    stand.tick().await;
    assert_eq!(calls(&mut stand).await, (true, vec![false, true]), "the next wave");
    stand.order(id, Order::Revert, None).await.unwrap();
    assert_eq!(
        calls(&mut stand).await,
        (true, vec![true, false]),
        "the way back is for whoever was offered it"
    );
    stand.call(&mut inside[0]).await;
    assert_eq!(calls(&mut stand).await.1, [false, false]);
}
