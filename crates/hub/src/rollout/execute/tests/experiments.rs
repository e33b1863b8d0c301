//! Experiments beside rollouts, on the same store, by the same check-ins.

use package::trust::shadow::Limits as Within;
use wire::body::{Behaviour, Quantiles, Shadow as Seen};

use super::*;
use crate::experiment::execute::{Granted as Given, Wish as Wanted};
use crate::experiment::plan::{
    Against, Arms, AtEnd, Better, Bound, Harm, Measure, Plan as Comparison, Shadow, What,
};
use crate::experiment::step::{Experiment, Order as Told, Phase as Stage, Verdict};
use crate::experiment::{documents as papers, split, text as words};
use crate::rollout::plan::Rate;

const DAY_MS: i64 = 24 * 3_600_000;

fn comparison() -> Comparison {
    let measure = Measure {
        metric: "p95_ms".to_owned(),
        better: Better::Down,
        min_effect_ppm: 50_000,
        answers: 1000,
        alpha_ppm: 50_000,
        against: Against::Itself,
    };
    compares(What::Arms(Arms {
        a: target(7),
        b: target(8),
        a_to: 1024,
        b_to: 2048,
        measure,
        at_end: AtEnd::Back,
        base: target(6),
    }))
}

fn compares(what: What) -> Comparison {
    let mut plan = Comparison {
        what,
        group: "all".to_owned(),
        for_s: 86_400,
        harm: Harm { max_failed: 0, p0_ppm: 5000, alpha_ppm: 0 },
        rate: Rate::default(),
        allow_rollback: false,
        valid_s: 30 * 86_400,
        created_by: "operator:ann".to_owned(),
        created_ms: MADE_MS,
        note: String::new(),
        targets_version: 1,
        salt: [0; 8],
    };
    plan.salt = words::salt(&plan);
    plan
}

impl Stand {
    async fn wanted(&mut self, wish: Wanted) -> Experiment {
        let mut transaction = self.store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut self.names, "me").await.unwrap();
        let wish = Wish::Experiment(wish);
        let granted = self.names.rollouts.grant(&mut transaction, &wish, self.now_ms).await.unwrap();
        let mut written = Written::default();
        write::end(&mut transaction, &mut self.names, last_record, self.now_ms, &mut written).await.unwrap();
        transaction.commit().await.unwrap();
        match granted {
            Ok(Granted::Experiment(Ok(Given::Experiment(it)))) => *it,
            other => panic!("{other:?}"),
        }
    }

    async fn compare(&mut self, plan: &Comparison) -> PlanId {
        let who = || "operator:ann".to_owned();
        let id = self.wanted(Wanted::Create { plan: Box::new(plan.clone()), who: who() }).await.id;
        let document = |planned: papers::Planned| {
            let signatures = ("signatures", Value::List(Vec::new()));
            (planned.kind, to_json(&Value::object([("signed", planned.value), signatures])))
        };
        let documents = papers::of(plan).into_iter().map(document).collect();
        self.wanted(Wanted::Sign { id, documents, who: who() }).await;
        let order = Wanted::Order { id, order: Told::Start, who: who(), why: String::new(), revision: None };
        assert_eq!(self.wanted(order).await.phase, Stage::Running);
        id
    }

    async fn compared(&mut self, id: PlanId) -> Experiment {
        let row = rows::get_of(&self.store.readers, Of::Experiment, &id.to_string()).await.unwrap();
        serde_json::from_str(&row.unwrap().state).unwrap()
    }

    /// A node tells of a while that just began.
    async fn says(&mut self, node: &mut Node, p95: u32, answered: u64) {
        self.says_beside(node, p95, answered, None).await;
    }

    /// The same, with what answered beside it.
    async fn says_beside(&mut self, node: &mut Node, p95: u32, answered: u64, shadow: Option<Seen>) {
        let behaviour = Behaviour {
            id: format!("{}-b-{}", node.boot, self.now_ms),
            model: "smollm2".into(),
            manifest: manifest(node.release),
            rollout: None,
            from_ms: self.now_ms,
            to_ms: self.now_ms,
            answered,
            failed: 0,
            abstained: None,
            latency_ms: Some(Quantiles { p50: 1, p95, n: answered }),
            rss_bytes: None,
            joules: None,
            drift: None,
            restarts: 0,
            shadow,
        };
        let batch = node.tells("behaviour", Class::Metric, &behaviour);
        self.store(&batch).await;
    }
}

#[tokio::test]
async fn nodes_run_their_arms_tell_once_and_go_back() {
    let (mut stand, plan) = (Stand::new().await, comparison());
    let mut arms = [Vec::new(), Vec::new()];
    for seed in 0.. {
        let name = format!("pump-{seed:04}");
        let arm = plan.arm_of(split::place(&plan, &name)).unwrap().at;
        if arms[arm].len() < 2 {
            arms[arm].push(Node::new(&name, seed));
        }
        if arms.iter().all(|arm| arm.len() == 2) {
            break;
        }
    }
    stand.now_ms -= DAY_MS;
    for node in arms.iter_mut().flatten() {
        assert_eq!(stand.call(node).await, [0; 0]);
        stand.says(node, 1000, 5000).await;
    }
    stand.now_ms += DAY_MS;
    let id = stand.compare(&plan).await;
    for (arm, nodes) in arms.iter_mut().enumerate() {
        for node in nodes {
            assert_eq!(stand.call(node).await, [[1], [101]][arm], "its arm's document, and no other");
            let batch = node.installed("committed");
            stand.store(&batch).await;
            assert_eq!(stand.call(node).await, [0; 0]);
        }
    }
    // A rollout of the same model leaves them alone.
    let other = stand.start(&super::plan(&[2048], "meanwhile")).await;
    for (arm, nodes) in arms.iter_mut().enumerate() {
        for node in nodes {
            assert_eq!(stand.call(node).await, [0; 0]);
            let p95 = [1000, 500][arm];
            stand.says(node, p95, 600).await;
            // A hub that starts again knows what was told.
            stand.names.forget();
            stand.says(node, p95, 600).await;
            stand.says(node, 9999, 600).await;
        }
    }
    let told = stand.compared(id).await.figures;
    assert_eq!((told.a.n, told.b.n), (2, 2), "each once");
    assert!(told.a.mean.abs() < 1e-9 && (told.b.mean - 0.5f64.ln()).abs() < 1e-9, "{told:?}");
    assert!(stand.members(other).await.is_empty());

    let stop = Wanted::Order {
        id,
        order: Told::Stop,
        who: "operator:bob".to_owned(),
        why: "enough".to_owned(),
        revision: None,
    };
    assert_eq!(stand.wanted(stop).await.phase, Stage::Returning);
    for node in arms.iter_mut().flatten() {
        assert_eq!(stand.call(node).await, [501]);
        let batch = node.installed("committed");
        stand.store(&batch).await;
        assert_eq!(stand.call(node).await, [0; 0], "the rollout waits until all are back");
    }
    stand.tick().await;
    let ended = stand.compared(id).await;
    assert_eq!((ended.phase, ended.outcome.unwrap().verdict), (Stage::Ended, Verdict::Stopped));
    assert!(stand.members(id).await.iter().all(|one| one.contains("back")));
    assert_eq!(stand.call(&mut arms[0][0]).await, [1], "now the rollout has it");
    let acts = stand.acts().await;
    for act in ["operator:ann experiment.create", "operator:bob experiment.stop", "hub experiment.ended"] {
        assert!(acts.iter().any(|it| it == act), "{act}: {acts:?}");
    }
}

#[tokio::test]
async fn a_node_that_runs_its_arms_release_takes_part_as_it_is() {
    let (mut stand, mut plan) = (Stand::new().await, comparison());
    if let What::Arms(arms) = &mut plan.what {
        arms.a = target(6);
    }
    plan.salt = words::salt(&plan);
    let name = (0..).map(|at| format!("pump-{at:04}")).find(|name| split::place(&plan, name) < 1024);
    let mut node = Node::new(&name.unwrap(), 1);
    let id = stand.compare(&plan).await;
    assert_eq!(stand.call(&mut node).await, [0; 0]);
    let members = stand.members(id).await;
    assert!(members.len() == 1 && members[0].ends_with("succeeded 0"), "{members:?}");
    // A day before is asked for, and nobody told of any: it counts nowhere.
    stand.says(&mut node, 1000, 5000).await;
    assert_eq!(stand.compared(id).await.figures.a.n, 0);
    let fails = (0..).map(|at| format!("pump-{at:04}")).find(|name| split::place(&plan, name) >= 1024);
    let mut bad = Node::new(&fails.unwrap(), 2);
    assert_eq!(stand.call(&mut bad).await, [101]);
    let batch = bad.installed("refused");
    stand.store(&batch).await;
    let harm = stand.compared(id).await;
    assert_eq!(harm.outcome.unwrap().verdict, Verdict::Harm { arm: 1 });
    assert_eq!(stand.call(&mut bad).await, [501], "so that it is told what it shall run");
    stand.tick().await;
    assert_eq!((stand.compared(id).await.phase, stand.call(&mut node).await), (Stage::Ended, vec![]));
}

/// Release 8 beside what runs, until 50 answers of a node are compared.
fn watch() -> Comparison {
    let limits =
        Within { share_ppm: 100_000, core_ppm: 50_000, joules: None, memory_bytes: None, answers: 50 };
    let bound = Bound { max_ppm: 50_000, answers: 1000, nodes: 3, alpha_ppm: 50_000 };
    compares(What::Shadow(Shadow { release: target(8), to: 2048, limits, bound }))
}

/// An install record of a release that answers beside what runs.
fn tells(node: &mut Node, id: PlanId, outcome: &str) -> Batch {
    let install = Install {
        id: format!("{}-{outcome}-smollm2", node.boot),
        model: "smollm2".into(),
        release: 8,
        variant: None,
        index: target(8).index,
        manifest: None,
        outcome: outcome.to_owned(),
        phase: None,
        why: String::new(),
        attempt: 1,
        load_ms: None,
        p95_ms: None,
        rss_bytes: None,
        joules: None,
        rollout: Some(id.to_string()),
        kernel_same: Some(true),
    };
    node.tells("installs", Class::Audit, &install)
}

#[tokio::test]
async fn a_release_answers_beside_what_runs_and_is_taken_back() {
    let (mut stand, plan) = (Stand::new().await, watch());
    let id = stand.compare(&plan).await;
    let mut old = Node::new("pump-0", 9);
    assert_eq!(stand.call(&mut old).await, [0; 0], "it does not know the word");
    let mut nodes: Vec<Node> = (1..=3).map(|no| Node::new(&format!("pump-{no}"), no)).collect();
    for node in &mut nodes {
        node.can = vec!["shadow"];
        assert_eq!(stand.call(node).await, [1]);
        let batch = tells(node, id, "beside");
        stand.store(&batch).await;
    }
    assert!(stand.members(id).await.iter().all(|one| one.ends_with("succeeded 1")));
    let seen = |id: &str, compared, agreed| Seen {
        compared,
        agreed,
        skipped: 2,
        experiment: Some(id.to_owned()),
        busy_ms: 7,
        ..Seen::default()
    };
    let ours = id.to_string();
    for (node, agreed) in nodes.iter_mut().zip([50, 49, 45]) {
        stand.says_beside(node, 1, 500, Some(seen(&ours, 50, agreed))).await;
        // What is of another experiment, cannot be, or is more than was asked for counts nowhere; a hub that starts again knows.
        stand.names.forget();
        for told in [seen("9f3c", 50, 0), seen(&ours, 5, 6), seen(&ours, 51, 0), seen(&ours, 50, 0)] {
            stand.says_beside(node, 1, 500, Some(told)).await;
        }
    }
    let it = stand.compared(id).await;
    assert_eq!((it.shadow.nodes, it.shadow.all.compared, it.shadow.all.parted()), (3, 150, 6));
    assert_eq!((it.shadow.all.skipped, it.shadow.all.busy_ms), (6, 21));
    assert_eq!(it.shadow.worst[0].node, "pump-3");
    assert_eq!(it.curve.len(), 3);
    // Nobody waits for it: a rollout of the model goes on.
    let other = stand.start(&super::plan(&[2048], "meanwhile")).await;
    assert_eq!(stand.call(&mut nodes[0]).await, [1]);
    assert_eq!(stand.members(other).await.len(), 1);

    let stop = Wanted::Order {
        id,
        order: Told::Stop,
        who: "operator:bob".to_owned(),
        why: "enough".to_owned(),
        revision: None,
    };
    assert_eq!(stand.wanted(stop).await.phase, Stage::Returning);
    let node = &mut nodes[1];
    assert!(stand.call(node).await.contains(&501));
    node.candidate = None;
    stand.call(node).await;
    let members = stand.members(id).await;
    assert!(members.contains(&"pump-2 back 501".to_owned()), "{members:?}");
    assert!(!members.iter().any(|one| one.starts_with("pump-0")), "{members:?}");
}

#[tokio::test]
async fn what_breaks_a_node_beside_what_runs_is_stopped() {
    let (mut stand, plan) = (Stand::new().await, watch());
    let id = stand.compare(&plan).await;
    let mut node = Node::new("pump-1", 1);
    node.can = vec!["shadow"];
    assert_eq!(stand.call(&mut node).await, [1]);
    let foreign = PlanId::parse(&"00".repeat(16)).unwrap();
    let batch = tells(&mut node, foreign, "refused");
    stand.store(&batch).await;
    assert_eq!(stand.compared(id).await.phase, Stage::Running, "somebody else ordered it");
    let batch = tells(&mut node, id, "refused");
    stand.store(&batch).await;
    let it = stand.compared(id).await;
    assert_eq!(it.outcome.unwrap().verdict, Verdict::Harmful);
}
