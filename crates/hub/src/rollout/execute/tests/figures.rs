//! What nodes tell of their models reaches the gates, and what a release weighs reaches the rate.

use package::descriptor::Descriptor;
use package::index::{Release, Variant};
use package::media;
use wire::body::{Behaviour, Quantiles, Start};
use wire::world::Entropy as _;

use super::*;
use crate::rollout::gate::Need;
use crate::rollout::offer::place;
use crate::rollout::plan::{Compare, Worse};

const HOUR_MS: i64 = 3_600_000;

/// So many nodes in each ring of a plan.
fn rings(plan: &Plan, counts: [usize; 3]) -> [Vec<Node>; 3] {
    let mut rings = [const { Vec::new() }; 3];
    for seed in 0..10_000 {
        let name = format!("pump-{seed:04}");
        let wave = plan.waves.iter().position(|wave| place(plan, &name) < wave.to).unwrap();
        if rings[wave].len() < counts[wave] {
            rings[wave].push(Node::new(&name, seed));
        }
    }
    assert_eq!(rings.each_ref().map(Vec::len), counts);
    rings
}

impl Stand {
    async fn installs(&mut self, node: &mut Node, version: u64) {
        assert_eq!(self.call(node).await, [version]);
        let batch = node.installed("committed");
        self.store(&batch).await;
        assert_eq!(self.call(node).await, [0; 0]);
    }

    /// A node tells of the last ten minutes of what it runs.
    async fn behaves(&mut self, node: &mut Node, p95_ms: f64) {
        let behaviour = Behaviour {
            id: format!("{}-b-{}", node.boot, self.now_ms),
            model: "smollm2".into(),
            manifest: manifest(node.release),
            rollout: None,
            from_ms: self.now_ms - 600_000,
            to_ms: self.now_ms,
            answered: 800,
            failed: 3,
            abstained: None,
            latency_ms: Some(Quantiles { p50: 100, p95: p95_ms as u32, n: 800 }),
            rss_bytes: None,
            joules: None,
            drift: None,
            restarts: 0,
            shadow: None,
        };
        let batch = node.tells("behaviour", Class::Metric, &behaviour);
        self.store(&batch).await;
    }
}

/// A release that answers slower by `slower` goes to forty of eighty-two nodes in two waves, on a day on which everybody is
/// slower by three tenths than the day before. Where the rollout stands once they have told. `forgets`: the hub starts again
/// before it looks.
async fn second_wave(slower: f64, forgets: bool) -> Rollout {
    let mut stand = Stand::new().await;
    let mut plan = plan(&[512, 1280, 2048], "p95");
    let p95 = Compare { metric: "p95_ms".into(), min_effect_ppm: 100_000, optional: false, worse: Worse::Up };
    let gate = Gate { min_reports: 1, max_unknown: 0, compare: vec![p95], ..Gate::of_later_wave(40, 0) };
    plan.waves[1].gate = gate;
    plan.salt = text::salt(&plan);
    let [mut first, mut second, mut rest] = rings(&plan, [2, 40, 40]);
    let (mut world, mut base) = (Simulated::new(7), HashMap::new());
    for node in first.iter_mut().chain(&mut second).chain(&mut rest) {
        stand.call(node).await;
        // Nodes differ from each other by far more than the release changes them.
        let ms = 500.0 + 4000.0 * world.unit();
        base.insert(node.name.clone(), ms);
        stand.behaves(node, ms).await;
    }
    stand.now_ms += 24 * HOUR_MS;
    let id = stand.start(&plan).await;
    for node in &mut first {
        stand.installs(node, 1).await;
    }
    stand.tick().await;
    for node in &mut second {
        stand.installs(node, 2).await;
    }
    stand.now_ms += 2 * HOUR_MS;
    for node in first.iter_mut().chain(&mut second).chain(&mut rest) {
        stand.call(node).await;
    }
    stand.tick().await;
    let waits = stand.rollout(id).await;
    assert_eq!((waits.wave, waits.phase.is_open()), (2, true));
    assert!(waits.needs.contains(&Need::Figures { metric: "p95_ms".into() }), "{:?}", waits.needs);
    for node in first.iter_mut().chain(&mut second).chain(&mut rest) {
        let change = if node.release == 7 { 1.3 * slower } else { 1.3 };
        stand.behaves(node, base[&node.name] * change * (0.95 + 0.1 * world.unit())).await;
    }
    let start = Start { version: "0.1.0".into(), flow: Hash::GENESIS, clean: Some(false) };
    for at_ms in [stand.now_ms, stand.now_ms - 24 * HOUR_MS] {
        second[0].wall_ms = at_ms;
        let batch = second[0].tells("node", Class::Event, &start);
        stand.store(&batch).await;
        let trouble = stand.rollout(id).await.tests.trouble;
        assert_eq!((trouble.treated, trouble.held_out), (1, 0), "what was before the wave is not of it");
    }
    stand.tick().await;
    assert_eq!(stand.rollout(id).await.wave, 2, "figures are reckoned once a minute");
    if forgets {
        stand.names.forget();
    }
    stand.now_ms += 60_000;
    stand.tick().await;
    stand.rollout(id).await
}

#[tokio::test]
async fn a_slower_release_is_stopped_by_what_nodes_tell() {
    let stopped = second_wave(1.2, false).await;
    assert_eq!((stopped.wave, stopped.phase.as_str()), (2, "reverting"));
    let broken: Vec<_> = stopped.stopped.iter().flat_map(|it| &it.asked).filter(|one| !one.holds).collect();
    assert!(broken.len() == 1 && broken[0].what == "test C, p95_ms", "{broken:?}");
    assert_eq!(stopped.tests.figures["p95_ms"].treated.n, 42);
    assert_eq!(stopped.tests.figures["p95_ms"].held_out.n, 40);
    let change = stopped.tests.figures["p95_ms"];
    let change = (change.treated.mean - change.held_out.mean).exp();
    assert!((1.15..1.25).contains(&change), "{change}");
    // What the store holds says the same.
    let again = second_wave(1.2, true).await;
    assert_eq!(again.tests.figures, stopped.tests.figures);
}

#[tokio::test]
async fn a_release_as_fast_as_the_one_before_goes_on() {
    let open = second_wave(1.0, false).await;
    assert_eq!((open.wave, open.phase), (3, Phase::Running));
}

/// An index with one variant, that takes 4 MB.
fn index() -> Vec<u8> {
    let mut variant = Descriptor::of(media::OCI_MANIFEST, b"a manifest");
    let notes = [
        (media::MODEL, "smollm2"),
        (media::RELEASE, "7"),
        (media::VARIANT, "q4_k_m"),
        (media::KIND, "lm"),
        (media::RUNTIME, "lm"),
        (media::REQUIRES_RAM, "1000"),
        (media::REQUIRES_DISK, "4000000"),
        (media::REQUIRES_ISA, "any"),
        (media::REQUIRES_ACCELERATOR, "none"),
        (media::REQUIRES_SELVEDGE, "0.1.0"),
    ];
    variant.annotations = notes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    variant.artifact_type = Some(media::MODEL_MANIFEST.to_owned());
    let variants = vec![Variant::read(&variant).unwrap()];
    let (model, annotations) = (ModelName::new("smollm2").unwrap(), BTreeMap::new());
    Release { model, release: 7, variants, provenance: Vec::new(), annotations }.to_bytes()
}

#[tokio::test]
async fn a_rate_of_bytes_holds_nodes_back() {
    // 6 MB a minute: of 4 MB each one node has room, and of the index alone, which is all that the hub knows of, both.
    for (has_index, expected) in [(true, 1), (false, 2)] {
        let (mut stand, bytes) = (Stand::new().await, index());
        let mut plan = plan(&[2048], "bytes");
        let (index, size) = (Hash::of(&bytes), bytes.len() as u64);
        plan.what[0] = Target { index, size, variant: Some("q4_k_m".into()), ..target(7) };
        plan.rate.bytes_per_s = 100_000;
        plan.salt = text::salt(&plan);
        if has_index {
            let index = String::from_utf8(bytes).unwrap();
            rows::put_index(&mut stand.store.writer, &plan.what[0].index, &index).await.unwrap();
        }
        let id = stand.start(&plan).await;
        let (mut one, mut two) = (Node::new("pump-1", 1), Node::new("pump-2", 2));
        assert_eq!(stand.call(&mut one).await, [1]);
        let handed = stand.call(&mut two).await;
        assert_eq!(stand.rollout(id).await.members().offered, expected);
        if has_index {
            assert_eq!(handed, [0; 0]);
            stand.now_ms += 66_000;
            assert_eq!(stand.call(&mut two).await, [1], "a minute later there is room");
        }
    }
}

#[tokio::test]
async fn a_node_that_says_something_else_fits_otherwise() {
    let (mut stand, mut plan) = (Stand::new().await, plan(&[2048], "oslo"));
    plan.group = r#"site == "oslo""#.to_owned();
    plan.salt = text::salt(&plan);
    stand.start(&plan).await;
    let mut node = Node::new("pump-1", 1);
    assert_eq!(stand.call(&mut node).await, [0; 0]);
    let facts = sqlx::query("UPDATE nodes SET facts = $1").bind(r#"{"site":"oslo"}"#);
    facts.execute(&mut stand.store.writer).await.unwrap();
    assert_eq!(stand.call(&mut node).await, [1]);
}

#[tokio::test]
async fn alerts_and_safe_mode_are_troubles_each_once() {
    let (mut stand, mut plan) = (Stand::new().await, plan(&[1024, 2048], "trouble"));
    plan.waves[0].gate.min_reports = 2;
    plan.salt = text::salt(&plan);
    let id = stand.start(&plan).await;
    let [mut first, mut rest, _] = rings(&plan, [1, 1, 0]);
    let (with, without) = (&mut first[0], &mut rest[0]);
    stand.installs(with, 1).await;
    assert_eq!(stand.call(without).await, [0; 0]);
    // The first opens the next wave, the second looks at the fleet around it.
    stand.tick().await;
    stand.tick().await;
    let counted = async |stand: &mut Stand, batch: Batch| {
        stand.store(&batch).await;
        let trouble = stand.rollout(id).await.tests.trouble;
        (trouble.treated, trouble.held_out)
    };
    let rule = |rule: &str, state: &str| {
        let decision = format!(
            r#"{{"rule":"{rule}","state":"{state}","severity":"warning","source":"pump","since_ms":0,"at_ms":0,"when":"",
            "value":1.0,"input":"{0}","ran":"rule","why":"","latency_us":1}}"#,
            Hash::GENESIS
        );
        serde_json::from_str::<wire::body::Decision>(&decision).unwrap()
    };
    (with.wall_ms, without.wall_ms) = (stand.now_ms, stand.now_ms);
    let told = [
        ("hot", "firing", 1),
        ("hot", "firing", 1),
        ("hot", "cleared", 1),
        ("hot", "firing", 2),
        ("wet", "firing", 3),
    ];
    for (name, state, expected) in told {
        let batch = with.tells("decisions", Class::Event, &rule(name, state));
        assert_eq!(counted(&mut stand, batch).await, (expected, 0), "{name} {state}");
    }
    let batch = without.tells("decisions", Class::Event, &rule("hot", "firing"));
    assert_eq!(counted(&mut stand, batch).await, (3, 1));
    without.candidate = Some(6);
    let batch = without.installed("safe");
    assert_eq!(counted(&mut stand, batch).await, (3, 2));
}
