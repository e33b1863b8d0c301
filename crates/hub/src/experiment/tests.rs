//! Plans, draws, sequences and steps; and whole experiments on a thousand simulated nodes.

use std::collections::BTreeSet;

use package::name::ModelName;
use package::trust::assignment::Assignment;
use package::trust::shadow::Limits;
use wire::hash::Hash;
use wire::world::{Entropy as _, Simulated, WallMs};

use super::documents;
use super::plan::{Against, Arms, AtEnd, BadPlan, Better, Bound, Harm, Measure, Plan, Shadow, What, Which};
use super::sequence::{Finding, Pair, finding, interval, ln_e};
use super::shadow::Count;
use super::split::{binomial, place, rings};
use super::step::{Effect, Event, Experiment, Need, NotNow, Order, Phase, Verdict, step};
use super::text;
use crate::rollout::documents::{NotPlanned, check};
use crate::rollout::member::{Happened, Standing};
use crate::rollout::plan::{Rate, Target};

mod fleet;
mod shadows;

/// 2026-11-22T01:00:00Z.
const MADE_MS: WallMs = 1_795_309_200_000;

fn target(release: u64) -> Target {
    let model = ModelName::new("smollm2").unwrap();
    Target { model, release, index: Hash::of(&release.to_be_bytes()), size: 2300, variant: None }
}

fn measure() -> Measure {
    Measure {
        metric: "p95_ms".to_owned(),
        better: Better::Down,
        min_effect_ppm: 50_000,
        answers: 1000,
        alpha_ppm: 50_000,
        against: Against::Itself,
    }
}

fn ab() -> Plan {
    let arms = Arms {
        a: target(7),
        b: target(8),
        a_to: 512,
        b_to: 1024,
        measure: measure(),
        at_end: AtEnd::Back,
        base: target(7),
    };
    salted(Plan {
        what: What::Arms(arms),
        group: "site == \"oslo\"".to_owned(),
        for_s: 14 * 86_400,
        harm: Harm { max_failed: 5, p0_ppm: 5000, alpha_ppm: 10_000 },
        rate: Rate { bytes_per_s: 0, nodes_per_min: 100 },
        allow_rollback: false,
        valid_s: 30 * 86_400,
        created_by: "operator:ann".to_owned(),
        created_ms: MADE_MS,
        note: "is it quicker?".to_owned(),
        targets_version: 31,
        salt: [0; 8],
    })
}

/// The two arms of a plan that has two.
fn arms(plan: &mut Plan) -> &mut Arms {
    match &mut plan.what {
        What::Arms(arms) => arms,
        What::Shadow(_) => panic!("it has two arms"),
    }
}

/// Release 8 beside what runs, on half of them.
fn beside() -> Plan {
    let limits = Limits {
        share_ppm: 100_000,
        core_ppm: 50_000,
        joules: Some(60),
        memory_bytes: Some(2 << 30),
        answers: 500,
    };
    let bound = Bound { max_ppm: 50_000, answers: 20_000, nodes: 3, alpha_ppm: 50_000 };
    salted(Plan {
        what: What::Shadow(Shadow { release: target(8), to: 1024, limits, bound }),
        note: "does it say the same?".to_owned(),
        ..ab()
    })
}

fn salted(mut plan: Plan) -> Plan {
    plan.salt = text::salt(&plan);
    plan
}

/// What `tests/golden/experiment-NAME.txt` says; `UPDATE_GOLDEN=1` writes it.
#[track_caller]
fn golden(name: &str, found: &str) {
    let path = format!("{}/tests/golden/experiment-{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{found}\n")).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap().trim_end(), "{path}");
}

#[test]
fn plans_have_one_form_and_read_as_words() {
    for (plan, name) in [(ab(), "plan"), (beside(), "shadow-plan")] {
        let bytes = text::write(&plan);
        assert_eq!(text::read(&bytes).unwrap(), plan);
        let mut loose: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(text::read(&serde_json::to_vec_pretty(&loose).unwrap()).unwrap(), plan);
        let mut other = loose.clone();
        other["kind"] = "else".into();
        assert!(matches!(text::read(&serde_json::to_vec(&other).unwrap()), Err(text::NoPlan::Field(_))));
        loose["also"] = true.into();
        assert!(matches!(text::read(&serde_json::to_vec(&loose).unwrap()), Err(text::NoPlan::Field(_))));
        golden(name, &plan.to_string());
    }
    let mut loose: serde_json::Value = serde_json::from_slice(&text::write(&beside())).unwrap();
    loose["limits"]["at_night"] = true.into();
    assert!(matches!(text::read(&serde_json::to_vec(&loose).unwrap()), Err(text::NoPlan::Field(_))));
    // A plan of before there was a least number of nodes says nothing of it, and stays what it was.
    let mut alone = beside();
    if let What::Shadow(shadow) = &mut alone.what {
        shadow.bound.nodes = 1;
    }
    let alone = salted(alone);
    let bytes = text::write(&alone);
    assert!(!String::from_utf8_lossy(&bytes).contains("\"nodes\""));
    assert_eq!(text::read(&bytes).unwrap(), alone);
    let other = Plan { salt: [7; 8], ..ab() };
    assert!(matches!(text::read(&text::write(&other)), Err(text::NoPlan::Salt { .. })));
}

#[test]
fn what_cannot_be_is_no_plan() {
    #[track_caller]
    fn check(field: &str, change: impl Fn(&mut Plan)) {
        let mut plan = ab();
        change(&mut plan);
        match plan.check() {
            Err(BadPlan::Field { field: found, .. }) => assert_eq!(found, field),
            found => panic!("{field}: {found:?}"),
        }
    }
    assert_eq!(ab().check(), Ok(()));
    check("ring", |plan| arms(plan).b_to = arms(plan).a_to);
    check("ring", |plan| arms(plan).b_to = 2049);
    check("b", |plan| arms(plan).b = arms(plan).a.clone());
    check("base", |plan| arms(plan).base.model = ModelName::new("other").unwrap());
    check("metric", |plan| arms(plan).measure.metric = "beauty".to_owned());
    check("min_effect_ppm", |plan| arms(plan).measure.min_effect_ppm = 0);
    check("answers", |plan| arms(plan).measure.answers = 0);
    check("alpha_ppm", |plan| arms(plan).measure.alpha_ppm = 200_001);
    let shadow = |to, bound| {
        let What::Shadow(shadow) = beside().what else { unreachable!() };
        What::Shadow(Shadow { to, bound, ..shadow })
    };
    let bound = Bound { max_ppm: 50_000, answers: 20_000, nodes: 3, alpha_ppm: 50_000 };
    check("ring", |plan| plan.what = shadow(0, bound));
    check("max_ppm", |plan| plan.what = shadow(1, Bound { max_ppm: 0, ..bound }));
    check("answers", |plan| plan.what = shadow(1, Bound { answers: 0, ..bound }));
    check("alpha_ppm", |plan| plan.what = shadow(1, Bound { alpha_ppm: 0, ..bound }));
    check("nodes", |plan| plan.what = shadow(1, Bound { nodes: 0, ..bound }));
    check("nodes", |plan| plan.what = shadow(1, Bound { nodes: 10_001, ..bound }));
    check("for_s", |plan| plan.for_s = 59);
    check("valid_s", |plan| plan.valid_s = plan.for_s);
    check("harm", |plan| plan.harm.p0_ppm = 0);
    let hubs = Plan { group: "state == \"up\"".to_owned(), ..ab() };
    assert!(matches!(hubs.check(), Err(BadPlan::HubFact { .. })));
}

#[test]
fn documents_follow_from_the_plan_and_nodes_read_them() {
    for (plan, name) in [(ab(), "documents"), (beside(), "shadow-documents")] {
        let all = documents::of(&plan);
        assert_eq!(all.iter().map(|one| one.kind).collect::<Vec<_>>(), plan.documents());
        for planned in &all {
            assert_eq!(check(&all, &planned.value), Ok(planned));
            let read = Assignment::read(&planned.value).unwrap();
            let is_beside = read.models.iter().any(|ordered| ordered.shadow.is_some());
            assert_eq!(is_beside, planned.kind == Which::Shadow);
            let mut other = planned.value.clone();
            other.as_object_mut().unwrap().insert("targets_version".into(), 32u64.into());
            let differs = check(&all, &other).unwrap_err();
            assert!(matches!(differs, NotPlanned::Differs { field, .. } if field == "targets_version"));
        }
        let text: Vec<String> = all
            .iter()
            .map(|one| String::from_utf8(package::trust::canonical::to_json(&one.value)).unwrap())
            .collect();
        golden(name, &text.join("\n"));
    }
}

#[test]
fn arms_do_not_meet_and_have_as_many_nodes_as_their_rings() {
    let plan = ab();
    let mut counts = [0u32; 3];
    for node in 0..20_000 {
        let name = format!("node-{node}");
        let place = place(&plan, &name);
        let arms: Vec<usize> =
            plan.arms().iter().filter(|arm| (arm.from..arm.to).contains(&place)).map(|arm| arm.at).collect();
        assert!(arms.len() <= 1);
        counts[arms.first().copied().unwrap_or(2)] += 1;
    }
    let p = super::split::mismatch(&plan.arms(), [counts[0], counts[1]]).unwrap();
    assert!(p > 0.001 && counts[2] > 9_000, "{counts:?} {p}");
    let lost = super::split::mismatch(&plan.arms(), [counts[0], counts[1] - 600]).unwrap();
    assert!(lost < super::split::SUSPICIOUS, "{lost}");
    assert_eq!(rings(100), [1024, 2048]);
    assert_eq!(rings(1), [10, 20]);
    assert_eq!(rings(0), [1, 2]);
}

/// `tests/peers/experiment.py` made them with scipy, another way.
#[test]
fn others_reckon_the_same() {
    let golden = include_str!("../../tests/golden/experiment.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let rows = |name: &str| golden[name].as_array().unwrap().clone();
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1e-3), "{found} {expected}");
    };
    for row in rows("interval") {
        let mut pair = Pair::default();
        for (arm, name) in ["a", "b"].into_iter().enumerate() {
            let values = row[name].as_array().unwrap();
            values.iter().for_each(|value| pair.add(arm, value.as_f64().unwrap()));
        }
        near(ln_e(&pair, 0.0).unwrap(), row["ln_e"].as_f64().unwrap());
        let found = interval(&pair, row["alpha"].as_f64().unwrap()).unwrap();
        for (at, found) in [found.change, found.low, found.high].into_iter().enumerate() {
            near(found, row["interval"][at].as_f64().unwrap());
        }
    }
    for row in rows("binomial") {
        let count = |name: &str| u32::try_from(row[name].as_u64().unwrap()).unwrap();
        let p = binomial(count("hits"), count("trials"), row["share"].as_f64().unwrap()).unwrap();
        let expected = row["p"].as_f64().unwrap();
        assert!((p - expected).abs() <= 1e-6 * expected, "{p} {expected}");
    }
    assert_eq!(rows("interval").len() + rows("binomial").len(), 25);
}

/// The sum of twelve is near enough to a normal value, with a deviation of 0.2.
fn draw(world: &mut Simulated, mean: f64) -> f64 {
    mean + ((0..12).map(|_| world.unit()).sum::<f64>() - 6.0) * 0.2
}

/// How often so many runs that are looked at after every node find what, with this true difference.
fn runs(count: u64, nodes: u32, shift: f64) -> [u64; 3] {
    let measure = measure();
    let mut found = [0; 3];
    for seed in 0..count {
        let (mut world, mut pair) = (Simulated::new(seed), Pair::default());
        let first = (0..nodes).find_map(|_| {
            let arm = usize::from(world.unit() < 0.5);
            let mean = if arm == 1 { shift } else { 0.0 };
            pair.add(arm, draw(&mut world, mean));
            finding(&measure, &interval(&pair, measure.alpha())?)
        });
        if let Some(first) = first {
            found[match first {
                Finding::A => 0,
                Finding::B => 1,
                Finding::NoDifference => 2,
            }] += 1;
        }
    }
    found
}

/// Looked at after every node, it finds a winner where there is none, or none where there is one, in at most α of all runs.
#[test]
fn looking_often_does_not_decide_wrongly() {
    const RUNS: u64 = 2000;
    let effect = measure().effect();
    let [a, b, none] = runs(RUNS, 600, 0.0);
    println!("no difference: a {a}, b {b}, none that matters {none} of {RUNS}");
    assert!(a + b <= RUNS / 20, "{a} {b}");
    let [_, _, none] = runs(RUNS, 600, -effect * 1.001);
    assert!(none <= RUNS / 20, "{none} of {RUNS} do not see what matters");
    for times in [1.0, 1.5, 2.0, 4.0] {
        let [a, b, none] = runs(400, 600, -effect * times);
        println!("{times} times what matters: a {a}, b {b}, none that matters {none} of 400 in 600 nodes");
        assert!(a <= 20, "{a}");
        assert!(times < 2.0 || b >= 380, "{b} of 400");
    }
}

#[test]
fn few_nodes_say_nothing() {
    let mut pair = Pair::default();
    assert_eq!(interval(&pair, 0.05), None);
    for (arm, value) in [(0, 1.0), (1, 9.0), (0, 1.1), (1, 9.1)] {
        pair.add(arm, value);
        assert_eq!(interval(&pair, 0.05), None, "{pair:?}");
    }
    for _ in 0..5 {
        pair.add(0, 1.05);
        pair.add(1, 9.05);
    }
    let found = interval(&pair, 0.05).unwrap();
    assert!(found.low > 7.0 && found.high < 9.0, "{found:?}");
    let equal = Pair { a: pair.a, b: pair.a };
    assert!(interval(&equal, 0.05).unwrap().low < 0.0);
    let mut still = Pair::default();
    (0..50).for_each(|at| still.add(at % 2, 3.0));
    assert_eq!(interval(&still, 0.05), None, "nothing varies, so nothing is known of how it varies");
}

struct Play {
    plan: Plan,
    it: Experiment,
    effects: Vec<Effect>,
    now_ms: WallMs,
}

impl Play {
    fn new(plan: Plan) -> Play {
        let it = Experiment::new(&plan, text::id(&plan), MADE_MS);
        Play { plan, it, effects: Vec::new(), now_ms: MADE_MS }
    }

    fn hear(&mut self, event: Event) {
        let (it, effects) = step(&self.plan, self.it.clone(), event, self.now_ms);
        assert!(it.phase == Phase::Ended || !it.needs.is_empty(), "it says what it waits for");
        assert!(it.revision > self.it.revision || it == self.it);
        self.it = it;
        self.effects.extend(effects);
    }

    fn begin(&mut self) {
        let all: BTreeSet<Which> = self.plan.documents().into_iter().collect();
        self.hear(Event::Signed(all));
        assert_eq!(self.it.phase, Phase::Ready);
        self.order(Order::Start);
        assert_eq!(self.it.phase, Phase::Running);
    }

    fn order(&mut self, order: Order) {
        self.hear(Event::Ordered { order, who: "ann".into(), why: "because".into() });
    }

    fn member(&mut self, arm: usize, to: Standing) {
        let wave = arm as u32;
        for (from, to) in [(Standing::Waiting, Standing::Offered), (Standing::Offered, to)] {
            self.hear(Event::Happened { arm, happened: Happened { wave, from, to, bytes: 0 } });
        }
    }

    fn count(&mut self, arm: usize, value: f64) {
        self.member(arm, Standing::Succeeded);
        self.hear(Event::Counted { arm, value });
    }

    fn released(&self) -> Vec<Which> {
        let one = |effect: &Effect| match effect {
            Effect::Release(which) => Some(*which),
            _ => None,
        };
        self.effects.iter().filter_map(one).collect()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.it.outcome.as_ref().map(|outcome| outcome.verdict)
    }
}

#[test]
fn what_is_decided_ends_it_and_all_go_back() {
    let mut play = Play::new(ab());
    assert_eq!(play.it.needs, [Need::Signature { of: vec![Which::A, Which::B, Which::Back] }]);
    play.order(Order::Start);
    assert_eq!(play.it.phase, Phase::Draft, "not before it is signed");
    play.begin();
    assert_eq!(play.released(), [Which::A, Which::B]);
    let mut world = Simulated::new(3);
    for node in 0..400 {
        let arm = node % 2;
        let mean = if arm == 1 { -0.2 } else { 0.0 };
        play.count(arm, draw(&mut world, mean));
        if play.it.phase != Phase::Running {
            break;
        }
    }
    assert_eq!(play.verdict(), Some(Verdict::B), "{}", play.it.why);
    assert_eq!((play.it.phase, play.released().last()), (Phase::Returning, Some(&Which::Back)));
    let figures = play.it.figures;
    play.hear(Event::Counted { arm: 0, value: 9.0 });
    assert_eq!(play.it.figures, figures, "what comes later counts nowhere");
    play.hear(Event::Tick { returning: 7 });
    assert_eq!(play.it.needs, [Need::Returning { nodes: 7 }]);
    play.hear(Event::Tick { returning: 0 });
    assert_eq!((play.it.phase, play.it.needs.len()), (Phase::Ended, 0));
    assert!(play.it.allows(&play.plan, Order::Stop, play.now_ms).is_err());
    assert!(play.it.curve.len() > 5 && play.it.curve.last().unwrap().interval.is_some());
}

#[test]
fn time_ends_it_undecided_and_nodes_may_stay() {
    let mut plan = ab();
    arms(&mut plan).at_end = AtEnd::Stay;
    let mut play = Play::new(salted(plan));
    play.begin();
    play.count(0, 0.1);
    play.now_ms = play.it.until_ms(&play.plan) - 1;
    play.hear(Event::Tick { returning: 1 });
    assert_eq!(play.it.phase, Phase::Running);
    play.now_ms += 1;
    play.hear(Event::Tick { returning: 1 });
    assert_eq!((play.it.phase, play.verdict()), (Phase::Ended, Some(Verdict::Undecided)));
    assert_eq!(play.released(), [Which::A, Which::B], "who has it keeps it");
    let mut late = Play::new(ab());
    late.now_ms = late.plan.expires_ms() - 1000;
    late.hear(Event::Signed(late.plan.documents().into_iter().collect()));
    assert_eq!(late.it.allows(&late.plan, Order::Start, late.now_ms), Err(NotNow::Expired));
}

#[test]
fn harm_ends_it_and_even_those_that_would_stay_go_back() {
    let mut plan = ab();
    arms(&mut plan).at_end = AtEnd::Stay;
    let mut play = Play::new(salted(plan));
    play.begin();
    for _ in 0..100 {
        play.member(1, Standing::Succeeded);
    }
    play.member(1, Standing::Failed);
    assert_eq!(play.it.phase, Phase::Running, "one of a hundred may be");
    for _ in 0..4 {
        play.member(1, Standing::Failed);
    }
    assert_eq!(play.verdict(), Some(Verdict::Harm { arm: 1 }), "{}", play.it.why);
    assert_eq!((play.it.phase, play.released().last()), (Phase::Returning, Some(&Which::Back)));
    assert!(play.effects.iter().any(|effect| matches!(effect, Effect::Alert(_))));
}

#[test]
fn arms_of_other_sizes_than_the_lot_makes_are_told_of_once() {
    let mut play = Play::new(ab());
    play.begin();
    for node in 0..300 {
        play.member(usize::from(node % 3 == 0), Standing::Succeeded);
    }
    play.hear(Event::Tick { returning: 0 });
    play.hear(Event::Tick { returning: 0 });
    assert!(play.it.split.unwrap().is_suspicious());
    let told = play
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Audit(act) if act.act == "experiment.split"));
    assert_eq!(told.count(), 1);
}

/// A node tells of so many answers more, of which so many part.
fn compares(play: &mut Play, node: &str, compared: u64, parted: u64) {
    let more = Count { compared, agreed: compared - parted, ..Count::default() };
    play.hear(Event::Compared { node: node.to_owned(), more, whole: more });
}

#[test]
fn what_answers_beside_is_watched_until_it_is_known_how_often_it_parts() {
    let mut play = Play::new(beside());
    play.begin();
    assert_eq!(play.released(), [Which::Shadow]);
    play.member(0, Standing::Succeeded);
    compares(&mut play, "pump-1", 100, 1);
    let until_ms = play.it.until_ms(&play.plan);
    let answers = Need::Answers { compared: 100, of: 20_000, nodes: 1, of_nodes: 3 };
    assert_eq!(play.it.needs, [answers, Need::Until { until_ms }]);
    compares(&mut play, "pump-2", 1000, 16);
    assert_eq!(play.it.phase, Phase::Running, "two nodes are few, however clear it is");
    compares(&mut play, "pump-3", 900, 14);
    assert_eq!(play.verdict(), Some(Verdict::Agrees), "{}", play.it.why);
    assert_eq!(play.it.why, "it agrees: 1.55 % of answers part (0.78 to 2.69)");
    assert_eq!((play.it.phase, play.released().last()), (Phase::Returning, Some(&Which::Back)));
    compares(&mut play, "pump-4", 9, 9);
    assert_eq!(play.it.shadow.nodes, 3, "what comes later counts nowhere");
    play.hear(Event::Tick { returning: 0 });
    assert_eq!(play.it.phase, Phase::Ended);

    // One node that parts is one node, and no verdict on a fleet.
    let mut play = Play::new(beside());
    play.begin();
    compares(&mut play, "pump-1", 400, 80);
    compares(&mut play, "pump-2", 10, 2);
    compares(&mut play, "pump-3", 10, 2);
    assert_eq!(play.verdict(), None, "of what is known 19 of 20 answers are one node's: {:?}", play.it.needs);
    for node in 4..8 {
        compares(&mut play, &format!("pump-{node}"), 100, 20);
    }
    assert_eq!(play.verdict(), Some(Verdict::Parts), "{}", play.it.why);

    let mut play = Play::new(beside());
    play.begin();
    compares(&mut play, "pump-1", 20_000, 1000);
    assert_eq!(play.verdict(), Some(Verdict::Undecided), "{}", play.it.why);
    let few = "; 1 node told, at most 20000 of 20000 answers each: a verdict rests on \
        3 nodes at least, none with more than 50.0 % of the answers";
    assert!(play.it.why.ends_with(few), "{}", play.it.why);
    let mut play = Play::new(beside());
    play.begin();
    compares(&mut play, "pump-1", 400, 0);
    play.now_ms = play.it.until_ms(&play.plan);
    play.hear(Event::Tick { returning: 1 });
    assert_eq!(play.verdict(), Some(Verdict::Undecided));
    assert!(play.it.why.contains("1 node told"), "{}", play.it.why);
}

#[test]
fn what_breaks_nodes_beside_what_runs_is_stopped() {
    let mut play = Play::new(beside());
    play.begin();
    for _ in 0..6 {
        play.member(0, Standing::Failed);
    }
    assert_eq!(play.verdict(), Some(Verdict::Harmful), "{}", play.it.why);
    assert_eq!(play.it.why, "2 of 2 nodes failed: more than 0.5 % do");
    assert!(play.effects.iter().any(|effect| matches!(effect, Effect::Alert(_))));
    let mut play = Play::new(beside());
    play.begin();
    play.now_ms = play.it.until_ms(&play.plan);
    play.hear(Event::Tick { returning: 3 });
    assert_eq!(play.it.why, "time is over, and too few nodes told");
}
