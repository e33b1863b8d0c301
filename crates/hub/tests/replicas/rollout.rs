//! A rollout that two hubs hand out, one of which dies on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hub::rollout::execute::{Granted, Wish};
use hub::rollout::plan::{Gate, Plan, PlanId, Target, Wave};
use hub::rollout::step::Order;
use hub::rollout::{documents, offer, text};
use hub::store::audit::{self, AuditFilter};
use hub::store::database::Store;
use hub::write::{self, Names, Written};
use package::name::ModelName;
use package::trust::canonical::{Value, to_json};
use sqlx::Connection as _;
use tokio::task::JoinHandle;
use wire::body::Install;
use wire::checkin::{AcceptedVersion, CandidateState, CheckIn, CurrentState, SlotState};
use wire::class::Class;
use wire::hash::Hash;
use wire::world::{Clock as _, System};

use super::fleet::FakeNode;
use super::{Hubs, Replica, open, runtime};

const NODES: u64 = 12;

fn target(release: u64) -> Target {
    let model = ModelName::new("smollm2").unwrap();
    Target { model, release, index: Hash::of(&release.to_be_bytes()), size: 2300, variant: None }
}

/// To half of the nodes, and to all once each of the first has it; and how many the first are.
fn plan() -> (Plan, usize) {
    let made_ms = System::new().wall_ms() / 1000 * 1000;
    let mut plan = Plan::to_all(vec![target(7)], vec![target(6)], "ann", made_ms);
    let mut first = 0;
    // The salt follows from the plan, and who is first from the salt: the gate asks for as many as there turn out to be.
    for min_reports in 1..NODES as u32 {
        let wave =
            |to, min_reports| Wave { to, gate: Gate { min_reports, soak_s: 0, ..Gate::of_first_wave() } };
        plan.waves = vec![wave(1024, min_reports), wave(2048, NODES as u32 - min_reports)];
        plan.salt = text::salt(&plan);
        first = (0..NODES).filter(|seed| offer::place(&plan, &name(*seed)) < plan.ring_to(1)).count();
        if first == min_reports as usize {
            break;
        }
    }
    assert_eq!(first, plan.waves[0].gate.min_reports as usize);
    (plan, first)
}

fn name(seed: u64) -> String {
    format!("pump-{seed:04}")
}

/// Has a plan taken in, signed by nobody in particular, and started, by a third process.
async fn start(store: &mut Store, plan: &Plan) -> PlanId {
    let (who, now_ms, mut names) = (|| "operator:ann".to_owned(), System::new().wall_ms(), Names::default());
    let id = text::id(plan);
    let signed = |planned: documents::Planned| {
        let signatures = ("signatures", Value::List(Vec::new()));
        (planned.kind, to_json(&Value::object([("signed", planned.value), signatures])))
    };
    let documents = documents::of(plan).into_iter().map(signed).collect();
    let wishes = [
        Wish::Create { plan: Box::new(plan.clone()), who: who() },
        Wish::Sign { id, documents, who: who() },
        Wish::Order { id, order: Order::Start, who: who(), why: String::new(), revision: None },
    ];
    for wish in wishes {
        let mut transaction = store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut names, "author").await.unwrap();
        let granted = names.rollouts.grant(&mut transaction, &wish, now_ms).await.unwrap();
        assert!(matches!(granted, Ok(Granted::Rollout(_))), "{granted:?}");
        write::end(&mut transaction, &mut names, last_record, now_ms, &mut Written::default()).await.unwrap();
        transaction.commit().await.unwrap();
    }
    id
}

/// A node that does as it is told, by whichever hub.
struct Member {
    node: FakeNode,
    hubs: Hubs,
    hub: Option<String>,
    revision: Option<u64>,
    accepted: Vec<AcceptedVersion>,
    release: u64,
    candidate: Option<u64>,
}

impl Member {
    fn new(seed: u64, hubs: Hubs) -> Member {
        let node = FakeNode::new("", &name(seed), seed);
        let (hub, revision, accepted, candidate) = (Some("00".repeat(16)), None, Vec::new(), None);
        Member { node, hubs, hub, revision, accepted, release: 6, candidate }
    }

    fn said(&self) -> CheckIn {
        let extra = serde_json::Map::new;
        let (manifest, variant) = (Hash::GENESIS, "q4_k_m".into());
        let candidate =
            |release| CandidateState { release, phase: "trial".into(), misses: 0, extra: extra() };
        let slot = SlotState {
            model: "smollm2".into(),
            current: Some(CurrentState { release: self.release, variant, manifest, extra: extra() }),
            previous: None,
            candidate: self.candidate.map(candidate),
            spare: None,
            safe: None,
            waits: None,
            extra: extra(),
        };
        CheckIn {
            hub: self.hub.clone(),
            revision: self.revision,
            accepted: self.accepted.clone(),
            slots: vec![slot],
            ..self.node.checkin(5)
        }
    }

    /// Checks in; what it is handed, as `(revision, version)`. Both hubs, asked at once, hand out the same or nothing.
    async fn check_in(&mut self, both: bool) -> BTreeSet<(u64, u64)> {
        let said = self.said();
        let (mut handed, mut accepted) = (BTreeSet::new(), None);
        for answer in self.hubs.check_in(&said, both).await {
            assert_eq!(answer.paused, None);
            self.hub = answer.hub;
            let Some(desired) = answer.desired else { continue };
            self.revision = self.revision.max(Some(desired.revision));
            for document in desired.documents {
                let said: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
                let signed = &said["signed"];
                let (id, version) = (signed["id"].as_str().unwrap(), signed["version"].as_u64().unwrap());
                accepted = Some(AcceptedVersion { id: id.to_owned(), version, rollout: None });
                self.candidate = signed["models"][0]["release"].as_u64();
                handed.insert((desired.revision, version));
            }
        }
        self.accepted.extend(accepted);
        handed
    }

    /// Until it runs what it was handed; under which revision.
    async fn obey(mut self, seed: u64, done: Arc<AtomicUsize>) -> (Member, u64) {
        let handed = loop {
            let handed = self.check_in(true).await;
            if !handed.is_empty() {
                break handed;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(handed.len(), 1, "one offer, whoever says it: {handed:?}");
        assert_eq!(self.check_in(true).await, BTreeSet::new(), "it has accepted it");
        tokio::time::sleep(Duration::from_millis(seed * 100)).await;
        let release = self.candidate.take().unwrap();
        let install = Install {
            id: format!("{}-1-smollm2", self.node.boot),
            model: "smollm2".into(),
            release,
            variant: None,
            index: target(release).index,
            manifest: None,
            outcome: "committed".to_owned(),
            phase: None,
            why: String::new(),
            attempt: 1,
            load_ms: None,
            p95_ms: None,
            rss_bytes: None,
            joules: None,
            rollout: None,
            kernel_same: Some(true),
        };
        self.release = release;
        self.node.write("installs", Class::Audit, 5, &install);
        self.hubs.send(&mut self.node, "installs", true).await;
        assert_eq!(self.check_in(true).await, BTreeSet::new());
        done.fetch_add(1, Ordering::Relaxed);
        (self, handed.first().unwrap().0)
    }
}

#[test]
fn a_rollout_goes_on_where_a_hub_died_and_nobody_is_offered_anything_twice() {
    let shared = tempfile::tempdir().unwrap();
    let Some(one) = Replica::start(shared.path(), "one") else { return };
    let other = Replica::start(shared.path(), "other").unwrap();
    let (nodes_at, hubs, done) = (runtime(), Hubs::new(&[&one, &other]), Arc::new(AtomicUsize::new(0)));
    let (plan, first) = plan();
    let mut author = nodes_at.block_on(open(shared.path(), "author")).unwrap();
    let id = nodes_at.block_on(start(&mut author, &plan));
    let obeying: Vec<_> = (0..NODES)
        .map(|seed| nodes_at.spawn(Member::new(seed, hubs.clone()).obey(seed, done.clone())))
        .collect();
    while done.load(Ordering::Relaxed) < first / 2 && !obeying.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(1));
    }
    other.kill();
    let mut members = nodes_at.block_on(async {
        let all = futures_util::future::join_all(obeying);
        let all = tokio::time::timeout(Duration::from_secs(40), all).await.expect("it does not go on");
        let (members, revisions): (Vec<Member>, BTreeSet<u64>) = all.into_iter().map(Result::unwrap).unzip();
        assert_eq!(revisions, (1..=NODES).collect(), "as many offers as nodes, however often each was told");

        let alone = Hubs::new(&[&one]);
        let path = format!("/api/v1/rollouts/{id}");
        for _ in 0..100 {
            if alone.get(&path).await["phase"] == "done" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let rollout = alone.get(&path).await;
        assert_eq!((&rollout["phase"], &rollout["wave"]), (&"done".into(), &2.into()), "{rollout}");
        assert_eq!(rollout["members"], serde_json::json!({"succeeded": NODES}));
        let acts = audit::list(&author.readers, &AuditFilter::default(), 100).await.unwrap();
        let acts: Vec<&str> = acts.iter().rev().map(|row| row.act.as_str()).collect();
        for once in ["rollout.create", "rollout.sign", "rollout.ready", "rollout.start", "rollout.done"] {
            assert_eq!(acts.iter().filter(|act| **act == once).count(), 1, "{once}: {acts:?}");
        }
        members
    });
    let other = Replica::start(shared.path(), "another").unwrap();
    nodes_at.block_on(async {
        for member in &mut members {
            member.hubs = Hubs::new(&[&one, &other]);
            assert_eq!(member.check_in(true).await, BTreeSet::new(), "it has what it shall have");
        }
    });
    one.stop();
    other.stop();
}

#[tokio::test]
async fn a_hub_that_no_node_asks_hears_of_what_another_began() {
    let shared = tempfile::tempdir().unwrap();
    let Some(mut one) = open(shared.path(), "one").await else { return };
    let mut other = open(shared.path(), "other").await.unwrap();
    let (mut names, mut written, now_ms) = (Names::default(), Written::default(), System::new().wall_ms());
    write::tick(&mut one.writer, &mut names, "one", now_ms, &mut written).await.unwrap();
    assert!(names.rollouts.is_idle());
    start(&mut other, &plan().0).await;
    write::tick(&mut one.writer, &mut names, "one", now_ms + 5000, &mut written).await.unwrap();
    assert!(!names.rollouts.is_idle());
}
