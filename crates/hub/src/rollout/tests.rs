//! A rollout played by hand and by lot: plans, documents, offers, gates and steps together.

mod offers;

use std::collections::BTreeSet;

use package::name::ModelName;
use package::trust::assignment::{Assignment, Subject, prefer};
use package::trust::canonical::{Value, parse};
use wire::body::Install;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::{Entropy as _, Simulated, WallMs};

use super::gate::{Ask, Need, View};
use super::member::{Happened, Heard, Member, Running, STANDINGS, Standing, hear};
use super::plan::{BadPlan, Gate, Kind, Plan, Target, Then, Wave};
use super::step::{Alarm, Effect, Event, NotNow, Order, Rollout, allows, step};
use super::{documents, fields, text};

/// 2026-11-22T01:00:00Z.
const MADE_MS: WallMs = 1_795_309_200_000;
const HOUR_MS: i64 = 3_600_000;

fn target(release: u64) -> Target {
    let model = ModelName::new("smollm2").unwrap();
    let index = Hash::of(&release.to_be_bytes());
    Target { model, release, index, size: 2300 + release, variant: None }
}

/// Waves of these rings; each gate wants one answer, bears no failure, and soaks for an hour.
fn plan(rings: &[u16]) -> Plan {
    let gate = Gate { min_reports: 1, ..Gate::of_first_wave() };
    let mut plan = Plan::to_all(vec![target(7)], vec![target(6)], "ann", MADE_MS);
    plan.group = "site == \"oslo\" && ram >= 2GiB".to_owned();
    plan.waves = rings.iter().map(|to| Wave { to: *to, gate: gate.clone() }).collect();
    (plan.note, plan.targets_version) = ("less memory".to_owned(), 31);
    plan.salt = text::salt(&plan);
    plan
}

fn salted(mut plan: Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    change(&mut plan);
    plan.salt = text::salt(&plan);
    plan
}

#[test]
fn a_plan_has_one_form_and_its_name_is_the_hash_of_it() {
    let plan = salted(plan(&[21, 2048]), |plan| plan.canary = vec![NodeId::new("pump-1").unwrap()]);
    let bytes = text::write(&plan);
    assert_eq!(text::read(&bytes).unwrap(), plan);
    let id = text::id(&plan);
    assert_eq!(id.to_string(), Hash::of(&bytes).to_string()[..32]);
    let loose: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let loose = serde_json::to_string_pretty(&loose).unwrap();
    assert_eq!(text::id(&text::read(loose.as_bytes()).unwrap()), id, "white space is no other plan");
    let start = r#"{"allow_rollback":false,"approvals":0,"budget":[],"canary":["pump-1"],"created":"2026-11-22T01:00:00Z","created_by":"ann","form":1,"group":"site == \"oslo\" && ram >= 2GiB","hold_out_percent":0,"lane":"normal","note":"less memory","rate":{"bytes_per_s":0,"nodes_per_min":0},"revert":[{"index":"sha256:"#;
    assert!(bytes.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
    // The waves are drawn by the salt, so the salt cannot follow from the waves.
    let wider = Plan { waves: vec![plan.waves[1].clone()], ..plan.clone() };
    assert_eq!(text::salt(&wider), plan.salt);
    assert_ne!(text::id(&wider), id);
}

#[test]
fn what_is_no_plan_is_refused_with_its_place() {
    let good = String::from_utf8(text::write(&plan(&[21, 2048]))).unwrap();
    #[track_caller]
    fn check(good: &str, old: &str, new: &str, expected: &str) {
        assert!(good.contains(old), "{old}");
        let mut error: &dyn std::error::Error =
            &text::read(good.replacen(old, new, 1).as_bytes()).unwrap_err();
        let mut said = error.to_string();
        while let Some(source) = error.source() {
            said = format!("{said}: {source}");
            error = source;
        }
        assert!(said.contains(expected), "{said}");
    }
    check(&good, "\"form\":1", "\"form\":2", "form: 1");
    check(&good, "\"to\":21", "\"to\":2048", "wave 1 ends at 2048");
    check(&good, "\"to\":21", "\"to\":70000", "waves[0].to");
    check(&good, "\"to\":2048", "\"to\":2000", "wave 2 ends at 2000");
    check(&good, "\"note\":", "\"node\":", "node: no such field");
    check(&good, "\"soak_s\":3600", "\"soak_s\":-1", "waves[0].gate.soak_s");
    check(&good, "less memory", "more memory", "the salt does not follow");
    check(&good, "\"then\":\"continue\"", "\"then\":\"hope\"", "waves[0].gate.then: continue or wait");
    check(&good, "ram >= 2GiB", "ram >=", "the group is no expression");
    check(&good, "ram >= 2GiB", "state", "\"state\", which a node cannot judge");
    check(&good, "2026-11-22T01:00:00Z", "yesterday", "created: a time");
    check(&good, "\"release\":7", "\"release\":7.5", "not a 64-bit integer");
    assert!(matches!(text::read(&[b' '; fields::BYTES_MAX + 1]), Err(text::NoPlan::TooLong { .. })));
    let two = salted(plan(&[2048]), |plan| plan.what.push(target(8)));
    assert!(matches!(two.check(), Err(BadPlan::Field { field: "what", .. })));
}

#[test]
fn people_read_plans_and_what_differs() {
    let old = plan(&[21, 2048]);
    let expected = "\
what         smollm2 release 7
to           site == \"oslo\" && ram >= 2GiB
back to      smollm2 release 6
wave 1       1.0 % of nodes, ring ..21
wave 1 gate  1 answers; stops at the 1st failure; success >= 100 %; at most 0 silent after 3 d; 1 h
wave 2       100.0 % of nodes, ring ..2048
wave 2 gate  1 answers; stops at the 1st failure; success >= 100 %; at most 0 silent after 3 d; 1 h
at a stop    all go back
valid        30 d, until 2026-12-22T01:00:00Z
made         2026-11-22T01:00:00Z by ann
note         less memory";
    assert_eq!(old.to_string(), expected);
    let new = salted(old.clone(), |plan| {
        plan.what = vec![target(8)];
        plan.waves[1].gate = Gate::of_later_wave(922, 6 * 3600);
        plan.rate.nodes_per_min = 50;
        plan.note = "line\nwave 1  none".to_owned();
    });
    let expected = "\
- what: smollm2 release 7
+ what: smollm2 release 8
- wave 2 gate: 1 answers; stops at the 1st failure; success >= 100 %; at most 0 silent after 3 d; 1 h
+ wave 2 gate: 300 answers; success >= 99 %; p95_ms not 10 % higher than the hold-out, if told; wrong alarms 0.05 %; at most 9 silent after 1 d; 6 h
- note: less memory
+ note: line\nwave 1  none
+ rate: 50 nodes a minute
";
    assert_eq!(text::diff(&old, &new), expected);
    assert_eq!(text::diff(&old, &old), "");
    assert!(!new.to_string().contains("\nwave 1  none"), "a note is no line of ours");
}

#[test]
fn documents_follow_from_the_plan_and_nothing_else_is_taken() {
    let plan = salted(plan(&[21, 2048]), |plan| plan.canary = vec![NodeId::new("pump-1").unwrap()]);
    let all = documents::of(&plan);
    let kinds: Vec<(Kind, u32)> = all.iter().map(|one| (one.kind, one.version)).collect();
    let expected = [
        (Kind::Canary, 1),
        (Kind::CanaryRevert, 501),
        (Kind::Wave(1), 1),
        (Kind::Revert(1), 501),
        (Kind::Wave(2), 2),
        (Kind::Revert(2), 502),
        (Kind::Standing, 1000),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(all[2].id, text::id(&plan));
    assert_ne!(all[0].id, all[2].id, "a canary's line of versions is its own");
    let selector =
        |at: usize| all[at].value.get("subject").and_then(|it| it.get("selector")).unwrap().clone();
    assert_eq!(selector(2).get("expr").and_then(Value::as_text), Some(plan.group.as_str()));
    assert_eq!(selector(3).get("expr"), None, "who must go back is no longer what the group asked for");
    assert_eq!(selector(3).get("after").and_then(Value::as_u64), Some(1));
    for one in &all {
        assert_eq!(documents::check(&all, &one.value).unwrap().kind, one.kind);
        for field in one.value.as_object().unwrap().keys() {
            let mut other = one.value.clone();
            other.as_object_mut().unwrap().insert(field.clone(), "x".into());
            assert!(documents::check(&all, &other).is_err(), "{field}");
        }
    }
    let mut wider = all[2].value.clone();
    wider.as_object_mut().unwrap().insert("forgive".to_owned(), true.into());
    let error = documents::check(&all, &wider).unwrap_err().to_string();
    assert!(error.contains("wave 1") && error.contains("forgive differs"), "{error}");
    // Whatever the clock says, a way back ranks above its wave.
    let read = |at: usize| {
        let bytes = package::trust::canonical::to_json(&all[at].value);
        Assignment::read(&parse(&bytes).unwrap()).unwrap()
    };
    let (wave, back) = (read(4), read(5));
    assert_eq!(prefer(&wave, &back).head.version, 502);
    assert_eq!(documents::kind_of(&all, &wave), Some(Kind::Wave(2)));
    assert!(matches!(wave.subject, Subject::Selector(_)) && back.models[0].allow_rollback);
}

#[test]
fn without_a_way_back_none_is_signed() {
    let plan = salted(plan(&[2048]), |plan| plan.revert.clear());
    let kinds: Vec<Kind> = documents::of(&plan).iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::Wave(1), Kind::Standing]);
}

fn install(release: u64, outcome: &str) -> Install {
    let target = target(release);
    Install {
        id: "x".to_owned(),
        model: target.model.to_string(),
        release,
        variant: None,
        index: target.index,
        manifest: None,
        outcome: outcome.to_owned(),
        phase: None,
        why: "a wrong answer".to_owned(),
        attempt: 1,
        load_ms: None,
        p95_ms: None,
        rss_bytes: None,
        joules: None,
        rollout: None,
        kernel_same: None,
    }
}

fn member(standing: Standing) -> Member {
    Member {
        wave: 1,
        standing,
        version: 1,
        done: 0,
        offered_ms: 0,
        changed_ms: 0,
        why: String::new(),
        kernel_same: None,
    }
}

#[test]
fn what_becomes_of_a_member() {
    #[track_caller]
    fn check(from: Standing, heard: &Heard<'_>, expected: Standing) {
        let plan = plan(&[2048]);
        let (member, happened) = hear(&plan, Some(member(from)), heard, 5).unwrap();
        assert_eq!(member.standing, expected);
        let moved = (from != expected).then_some(Happened { wave: 1, from, to: expected, bytes: 0 });
        assert_eq!(happened, moved);
    }
    use Standing::{Back, Failed, Offered, Succeeded, Superseded, Taken, Trying, Unable, Unknown};
    let slot = |current, candidate| Running { model: "smollm2", current: Some(current), candidate };
    let (old, tries, new) = ([slot(6, None)], [slot(6, Some(7))], [slot(7, None)]);
    let says = |accepted, slots| Heard::CheckIn { accepted, slots, reverting: false };
    let reverts = |accepted, slots| Heard::CheckIn { accepted, slots, reverting: true };
    check(Offered, &says(0, &old), Offered);
    check(Offered, &says(1, &old), Taken);
    check(Taken, &says(1, &tries), Trying);
    check(Trying, &says(1, &old), Trying);
    check(Trying, &says(1, &new), Trying); // only its record says that it has it
    check(Unknown, &says(1, &old), Taken);
    check(Unknown, &says(0, &old), Offered);
    check(Unable, &says(1, &tries), Trying);
    check(Failed, &says(1, &tries), Failed);
    check(Succeeded, &says(501, &new), Succeeded);
    check(Succeeded, &says(501, &old), Back);
    check(Trying, &says(501, &old), Back);
    check(Offered, &reverts(0, &old), Back);
    check(Offered, &says(0, &new), Offered);
    check(Taken, &reverts(1, &old), Taken); // it may still begin
    check(Back, &says(1, &tries), Trying);
    check(Back, &reverts(501, &old), Back);
    check(Offered, &Heard::Silent, Unknown);
    check(Succeeded, &Heard::Silent, Succeeded);
    check(Taken, &Heard::Superseded, Superseded);
    for (from, outcome, to) in [
        (Offered, "committed", Succeeded),
        (Unknown, "committed", Succeeded),
        (Failed, "committed", Failed),
        (Trying, "refused", Failed),
        (Succeeded, "safe", Failed),
        (Unknown, "fell_back", Failed),
        (Taken, "unfit", Unable),
        (Succeeded, "unfit", Succeeded),
        (Unable, "committed", Succeeded),
        (Taken, "missed", Trying),
        (Trying, "something newer", Trying),
        (Succeeded, "rolled_back", Unable),
    ] {
        check(from, &Heard::Installed { install: &install(7, outcome), kernel_same: None }, to);
        check(from, &Heard::Installed { install: &install(5, outcome), kernel_same: None }, from);
    }
    let other = Install { index: Hash::of(b"other"), ..install(7, "committed") };
    check(Trying, &Heard::Installed { install: &other, kernel_same: None }, Trying);
}

#[test]
fn of_two_models_both_must_be_there() {
    let mut plan = plan(&[2048]);
    let second = Target { model: ModelName::new("whisper").unwrap(), ..target(3) };
    plan.what.push(second);
    let one = Heard::Installed { install: &install(7, "committed"), kernel_same: None };
    let (half, happened) = hear(&plan, Some(member(Standing::Trying)), &one, 1).unwrap();
    assert_eq!((half.standing, happened), (Standing::Trying, None));
    let second = Install { model: "whisper".to_owned(), ..install(3, "committed") };
    let both = Heard::Installed { install: &second, kernel_same: None };
    let (both, happened) = hear(&plan, Some(half), &both, 2).unwrap();
    assert_eq!(both.standing, Standing::Succeeded);
    assert!(happened.is_some());
    assert_eq!(hear(&plan, None, &one, 1), None, "nobody becomes a member by a record");
}

/// A plan and its rollout, with the numbers of a fleet, and a clock.
struct Play {
    plan: Plan,
    rollout: Rollout,
    now_ms: WallMs,
    effects: Vec<Effect>,
    next: i64,
}

impl Play {
    fn new(plan: Plan) -> Play {
        let rollout = Rollout::new(&plan, text::id(&plan), MADE_MS);
        Play { plan, rollout, now_ms: MADE_MS, effects: Vec::new(), next: 0 }
    }

    fn hear(&mut self, event: Event) {
        let revision = self.rollout.revision;
        let (rollout, effects) = step(&self.plan, self.rollout.clone(), event, self.now_ms);
        assert!(effects.is_empty() || rollout.revision > revision);
        assert!(rollout.phase.is_end() || !rollout.needs.is_empty(), "{:?}", rollout.phase);
        let text = serde_json::to_string(&rollout).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout, "kept whole in the store");
        self.rollout = rollout;
        self.effects.extend(effects);
    }

    fn sign_all(&mut self) {
        let kinds = documents::of(&self.plan).iter().map(|one| one.kind).collect();
        self.hear(Event::Signed(kinds));
    }

    fn order(&mut self, order: Order) {
        allows(&self.plan, &self.rollout, order, "bob", self.now_ms).unwrap();
        self.hear(Event::Ordered { order, who: "bob".to_owned(), why: "because".to_owned() });
    }

    fn start(plan: Plan) -> Play {
        let mut play = Play::new(plan);
        play.sign_all();
        play.order(Order::Start);
        play
    }

    fn moves(&mut self, from: Standing, to: Standing, nodes: u32) {
        for _ in 0..nodes {
            self.next += 1;
            let happened = Happened { wave: self.rollout.wave, from, to, bytes: 10 };
            self.hear(Event::Happened(self.next, happened));
        }
    }

    /// So many nodes are offered, and then stand there.
    fn nodes(&mut self, to: Standing, nodes: u32) {
        self.moves(Standing::Waiting, Standing::Offered, nodes);
        self.moves(Standing::Offered, to, nodes);
    }

    fn tick(&mut self, after_ms: i64, view: View) {
        self.now_ms += after_ms;
        self.hear(Event::Tick(View { wave: self.rollout.wave, ..view }));
    }

    /// Ticks until the soak is over.
    fn soak(&mut self) {
        self.tick(5000, View::default());
        self.tick(HOUR_MS, View::default());
    }

    fn phase(&self) -> &'static str {
        self.rollout.phase.as_str()
    }

    fn released(&self) -> Vec<Kind> {
        let released = |effect: &Effect| if let Effect::Release(kind) = effect { Some(*kind) } else { None };
        self.effects.iter().filter_map(released).collect()
    }
}

#[test]
fn a_good_release_goes_through_all_waves() {
    let mut play = Play::new(plan(&[21, 205, 2048]));
    assert_eq!(play.phase(), "draft");
    assert!(matches!(play.rollout.needs[0], Need::Signature { .. }));
    play.sign_all();
    assert_eq!(play.phase(), "ready");
    play.order(Order::Start);
    for wave in 1..=3 {
        assert_eq!((play.phase(), play.rollout.wave), ("running", wave));
        play.nodes(Standing::Succeeded, 4);
        play.tick(1000, View { waiting: 1, ..View::default() });
        assert_eq!(play.rollout.needs, [Need::Room { nodes: 1 }]);
        play.tick(1000, View::default());
        assert_eq!(play.phase(), "soaking");
        play.tick(HOUR_MS - 1, View::default());
        assert_eq!(play.rollout.wave, wave, "a minute too early is too early");
        play.tick(1, View::default());
    }
    assert_eq!(play.phase(), "done");
    assert_eq!(play.released(), [Kind::Wave(1), Kind::Wave(2), Kind::Wave(3), Kind::Standing]);
    assert_eq!(play.rollout.members().succeeded, 12);
    let acts = play.effects.iter().filter(|effect| matches!(effect, Effect::Audit(_)));
    assert_eq!(acts.count(), 10, "ready, start, three soaks, two gates, two waves, done");
    assert_eq!(play.rollout.evidence.len(), 3);
}

#[test]
fn the_first_failure_stops_the_wave_in_its_own_step_and_all_go_back() {
    let mut play = Play::start(plan(&[21, 2048]));
    play.nodes(Standing::Succeeded, 3);
    play.nodes(Standing::Failed, 1);
    assert_eq!(play.phase(), "reverting");
    assert_eq!(play.released(), [Kind::Wave(1), Kind::Revert(1)]);
    assert!(matches!(play.effects.iter().find(|it| matches!(it, Effect::Alert(..))),
        Some(Effect::Alert(Alarm::RolloutStopped, why)) if why == "failed 1, asked was at most 0"));
    assert_eq!(play.rollout.needs, [Need::Returning { nodes: 3 }]);
    play.tick(5000, View { returning: 3, ..View::default() });
    play.moves(Standing::Succeeded, Standing::Back, 2);
    play.tick(25 * HOUR_MS, View { returning: 1, ..View::default() });
    assert!(play.rollout.needs.iter().any(|need| matches!(need, Need::Person { ask: Ask::Stuck, .. })));
    play.tick(1000, View::default());
    assert_eq!(play.phase(), "reverted");
    let late = allows(&play.plan, &play.rollout, Order::Resume, "ann", play.now_ms);
    assert!(matches!(late, Err(NotNow::Phase { order: "resume", phase: "reverted" })));
}

#[test]
fn a_person_may_go_on_in_spite_of_a_stop_and_the_next_failure_stops_again() {
    let mut play = Play::start(salted(plan(&[21, 2048]), |plan| plan.revert_on_stop = false));
    play.nodes(Standing::Failed, 1);
    assert_eq!(play.phase(), "paused");
    assert!(matches!(play.rollout.needs[0], Need::Person { ask: Ask::Stopped, .. }));
    play.order(Order::Resume);
    assert_eq!(play.phase(), "running");
    play.nodes(Standing::Succeeded, 2);
    play.soak();
    assert_eq!((play.phase(), play.rollout.wave), ("running", 2));
    play.nodes(Standing::Failed, 1);
    assert_eq!(play.phase(), "paused");
    play.order(Order::Revert);
    assert_eq!(play.released(), [Kind::Wave(1), Kind::Wave(2), Kind::Revert(2)]);
}

#[test]
fn a_member_of_an_earlier_wave_that_breaks_later_counts_against_the_open_one() {
    let mut play = Play::start(plan(&[21, 2048]));
    play.nodes(Standing::Succeeded, 2);
    play.soak();
    assert_eq!(play.rollout.wave, 2);
    let broke = Happened { wave: 1, from: Standing::Succeeded, to: Standing::Failed, bytes: 0 };
    play.hear(Event::Happened(1, broke));
    assert_eq!(play.phase(), "reverting");
}

#[test]
fn who_is_silent_is_waited_for_then_a_person_is_asked() {
    let mut play = Play::start(plan(&[21, 2048]));
    play.nodes(Standing::Succeeded, 5);
    play.nodes(Standing::Unknown, 1);
    play.soak();
    assert_eq!((play.rollout.wave, play.phase()), (1, "soaking"));
    assert_eq!(play.rollout.needs, [Need::Answers { pending: 0, unknown: 1 }]);
    play.tick(72 * HOUR_MS, View::default());
    assert!(play.rollout.needs.iter().any(|need| matches!(need, Need::Person { ask: Ask::Unknown, .. })));
    assert!(play.effects.iter().any(|it| matches!(it, Effect::Alert(Alarm::RolloutWaits, _))));
    let mut other =
        Play { plan: play.plan.clone(), rollout: play.rollout.clone(), effects: Vec::new(), ..play };
    play.rollout = other.rollout.clone();
    other.moves(Standing::Unknown, Standing::Succeeded, 1);
    other.tick(1000, View::default());
    assert_eq!(other.rollout.wave, 2, "it goes on by itself when they return");
    assert!(other.effects.contains(&Effect::Calm));
    play.order(Order::SkipUnknown);
    play.tick(1000, View::default());
    assert_eq!(play.rollout.wave, 2);
    let evidence = serde_json::to_string(&play.rollout.evidence).unwrap();
    assert!(evidence.contains("a person said so"), "{evidence}");
}

#[test]
fn who_is_kept_back_for_long_is_told_to_a_person() {
    let mut play = Play::start(plan(&[21, 2048]));
    play.nodes(Standing::Succeeded, 5);
    let kept = View { waiting: 2, ..View::default() };
    play.tick(71 * HOUR_MS, kept);
    assert_eq!(play.rollout.needs, [Need::Room { nodes: 2 }]);
    play.tick(2 * HOUR_MS, kept);
    assert!(play.rollout.needs.iter().any(|need| matches!(need, Need::Person { ask: Ask::KeptBack, .. })));
    play.order(Order::SkipUnknown);
    play.tick(1000, kept);
    play.tick(HOUR_MS, kept);
    assert_eq!(play.rollout.wave, 2);
    play.order(Order::Pause);
    let waits = play.effects.iter().filter(|it| matches!(it, Effect::Alert(Alarm::RolloutWaits, _)));
    assert_eq!(waits.count(), 1, "who pauses it is not told so");
}

#[test]
fn too_few_answers_open_nothing_unless_there_are_no_more() {
    let strict = |plan: &mut Plan| plan.waves[0].gate.min_reports = 3;
    let mut play = Play::start(salted(plan(&[21, 2048]), strict));
    play.nodes(Standing::Succeeded, 1);
    play.tick(5000, View { asleep: 5, ..View::default() });
    play.tick(2 * HOUR_MS, View { asleep: 5, ..View::default() });
    assert_eq!(play.rollout.needs, [Need::Reports { missing: 2 }]);
    play.tick(1000, View::default());
    assert_eq!(play.rollout.wave, 2, "one member is all there are");
    // Nothing that fits is no evidence.
    let mut play = Play::start(plan(&[21, 2048]));
    play.nodes(Standing::Unable, 4);
    play.soak();
    assert_eq!(play.rollout.needs, [Need::Reports { missing: 1 }]);
}

#[test]
fn later_waves_test() {
    let gates = |plan: &mut Plan| {
        plan.waves[0].gate = Gate { compare: Vec::new(), ..Gate::of_later_wave(1000, 3600) };
        plan.waves[0].gate.alpha_ppm = 10_000;
    };
    let mut play = Play::start(salted(plan(&[205, 2048]), gates));
    play.nodes(Standing::Succeeded, 299);
    play.nodes(Standing::Failed, 1);
    play.tick(5000, View::default());
    assert_eq!(play.phase(), "soaking", "one of 300 may fail by itself");
    play.tick(HOUR_MS, View::default());
    assert_eq!(play.rollout.wave, 2);
    let mut play = Play::start(salted(plan(&[205, 2048]), gates));
    play.nodes(Standing::Succeeded, 57);
    play.nodes(Standing::Failed, 3);
    assert_eq!(play.phase(), "running");
    play.nodes(Standing::Failed, 2);
    assert_eq!(play.phase(), "reverting", "{:?}", play.rollout.evidence);
}

#[test]
fn strict_signing_waits_in_every_gate() {
    let mut play = Play::new(plan(&[21, 2048]));
    let first = BTreeSet::from([Kind::Wave(1), Kind::Revert(1)]);
    play.hear(Event::Signed(first.clone()));
    assert_eq!(play.phase(), "ready");
    play.order(Order::Start);
    play.nodes(Standing::Succeeded, 2);
    play.soak();
    assert_eq!(play.phase(), "held");
    assert_eq!(play.rollout.needs, [Need::Signature { of: vec![Kind::Wave(2), Kind::Revert(2)] }]);
    play.hear(Event::Signed(first.into_iter().chain([Kind::Wave(2)]).collect()));
    assert_eq!(play.phase(), "held", "never forth without the way back");
    play.sign_all();
    assert_eq!((play.phase(), play.rollout.wave), ("running", 2));
}

#[test]
fn a_gate_may_wait_for_a_word_and_still_stops() {
    let waits = |plan: &mut Plan| plan.waves[0].gate.then = Then::Wait;
    let mut play = Play::start(salted(plan(&[21, 2048]), waits));
    play.nodes(Standing::Succeeded, 2);
    play.soak();
    assert!(matches!(play.rollout.needs[0], Need::Person { ask: Ask::Next, .. }));
    let held = play.rollout.clone();
    play.order(Order::Resume);
    assert_eq!(play.rollout.wave, 2);
    play.rollout = held;
    play.moves(Standing::Succeeded, Standing::Failed, 1);
    assert_eq!(play.phase(), "reverting");
}

#[test]
fn orders_that_do_not_fit_are_refused_and_change_nothing() {
    let mut play = Play::new(salted(plan(&[21, 2048]), |plan| plan.approvals = 1));
    let now_ms = play.now_ms;
    let said = |play: &Play, order, who| allows(&play.plan, &play.rollout, order, who, now_ms);
    play.sign_all();
    assert_eq!(play.rollout.needs, [Need::Approval { of: 1, have: 0 }]);
    assert!(matches!(said(&play, Order::Approve, "ann"), Err(NotNow::OwnPlan { .. })));
    assert!(matches!(said(&play, Order::Start, "ann"), Err(NotNow::Phase { .. })));
    let before = play.rollout.phase.clone();
    play.hear(Event::Ordered { order: Order::Start, who: "ann".to_owned(), why: String::new() });
    assert_eq!(play.rollout.phase, before);
    play.order(Order::Approve);
    assert_eq!(play.phase(), "ready");
    assert!(matches!(said(&play, Order::Approve, "bob"), Err(NotNow::OwnPlan { .. })));
    play.order(Order::Start);
    play.order(Order::Pause);
    assert_eq!(play.phase(), "paused");
    play.tick(1000, View::default());
    assert_eq!(play.phase(), "paused", "time alone opens nothing");
    play.now_ms = play.plan.expires_ms();
    assert_eq!(allows(&play.plan, &play.rollout, Order::Resume, "ann", play.now_ms), Err(NotNow::Expired));
    play.tick(0, View::default());
    assert!(matches!(play.rollout.needs[0], Need::Person { ask: Ask::Expired, .. }));
    play.order(Order::Abort);
    assert_eq!(play.phase(), "aborted");
}

#[test]
fn a_hub_that_knows_less_than_its_nodes_hands_out_nothing() {
    let mut play = Play::start(plan(&[21, 2048]));
    play.hear(Event::Conflict(3));
    assert_eq!(play.phase(), "paused");
    assert_eq!(play.rollout.needs[0], Need::Conflict { nodes: 3 });
    let refused = allows(&play.plan, &play.rollout, Order::Resume, "ann", play.now_ms);
    assert_eq!(refused, Err(NotNow::Behind), "a person looks at both sides first");
    play.hear(Event::Conflict(0));
    play.order(Order::Resume);
    assert_eq!(play.phase(), "running");
}

#[test]
fn adoption_raises_a_rollout_to_what_nodes_name_and_never_lowers_it() {
    #[track_caller]
    fn check(held: bool, named: &[Kind], phase: &str, wave: u32, released: &[Kind]) {
        let mut play = Play::start(plan(&[21, 205, 2048]));
        play.hear(Event::Conflict(u32::from(held)));
        play.hear(Event::Adopted {
            named: named.iter().copied().collect(),
            who: "ann".into(),
            why: "".into(),
        });
        assert_eq!((play.phase(), play.rollout.wave), (phase, wave), "{named:?}");
        assert_eq!(play.released(), released);
        assert_eq!(play.rollout.conflict, 0);
    }
    use Kind::{Revert, Standing, Wave};
    let three = [Wave(1), Wave(2), Wave(3)];
    check(true, &[Wave(3)], "running", 3, &three);
    check(true, &[Wave(1)], "running", 1, &[Wave(1)]);
    check(false, &[Wave(2)], "running", 2, &[Wave(1), Wave(2)]);
    check(true, &[Wave(2), Revert(2)], "reverting", 2, &[Wave(1), Wave(2), Revert(2)]);
    check(true, &[Standing], "done", 3, &[Wave(1), Wave(2), Wave(3), Standing]);
    // What a person had paused stays so.
    let mut play = Play::start(plan(&[21, 205, 2048]));
    play.order(Order::Pause);
    play.hear(Event::Conflict(2));
    play.hear(Event::Adopted { named: [Wave(2)].into(), who: "ann".into(), why: "".into() });
    assert_eq!((play.phase(), play.rollout.wave), ("paused", 2));
    play.order(Order::Resume);
    assert_eq!(play.phase(), "running");
}

#[test]
fn canaries_go_first_and_go_back_with_the_rest() {
    let named = |plan: &mut Plan| plan.canary = vec![NodeId::new("pump-1").unwrap()];
    let mut play = Play::start(salted(plan(&[21, 2048]), named));
    assert_eq!((play.rollout.wave, play.released()), (0, vec![Kind::Canary]));
    play.nodes(Standing::Succeeded, 1);
    play.soak();
    assert_eq!(play.rollout.wave, 1);
    play.nodes(Standing::Failed, 1);
    let expected = [Kind::Canary, Kind::Wave(1), Kind::CanaryRevert, Kind::Revert(1)];
    assert_eq!(play.released(), expected);
}

/// Whatever happens in whatever order: it is never silent, counts what it is told, opens nothing without evidence.
#[test]
fn no_order_of_events_breaks_a_rollout() {
    for seed in 0..300 {
        let mut world = Simulated::new(seed);
        let mut draw = |below: usize| (world.unit() * below as f64) as usize;
        let canaries = draw(3);
        let change = |plan: &mut Plan| {
            plan.canary = (0..canaries).map(|n| NodeId::new(&format!("c{n}")).unwrap()).collect();
        };
        let mut plan = salted(plan(&[21, 205, 2048]), change);
        plan.revert_on_stop = draw(2) == 0;
        plan.approvals = u8::try_from(draw(2)).unwrap();
        for wave in &mut plan.waves {
            wave.gate.then = if draw(4) == 0 { Then::Wait } else { Then::Continue };
            wave.gate.max_failed = if draw(2) == 0 { 2 } else { u32::MAX };
            wave.gate.alpha_ppm = 10_000;
            wave.gate.success_ppm = 900_000;
        }
        if draw(4) == 0 {
            plan.revert.clear();
        }
        plan.salt = text::salt(&plan);
        let mut play = Play::new(plan);
        let mut rows: Vec<(u32, Standing)> = Vec::new();
        for _ in 0..200 {
            let (wave, passed) = (play.rollout.wave, play.rollout.evidence.len());
            match draw(10) {
                0 => {
                    let all = documents::of(&play.plan);
                    let some = all.iter().filter(|_| draw(8) > 0).map(|one| one.kind).collect();
                    play.hear(Event::Signed(some));
                }
                1 => {
                    let orders = [
                        Order::Start,
                        Order::Start,
                        Order::Resume,
                        Order::Resume,
                        Order::Resume,
                        Order::Approve,
                        Order::Pause,
                        Order::SkipUnknown,
                        Order::Revert,
                        Order::Abort,
                    ];
                    let of = if draw(5) == 0 { 10 } else { 8 };
                    let order = orders[draw(of)];
                    let open = allows(&play.plan, &play.rollout, order, "bob", play.now_ms).is_ok();
                    let revision = play.rollout.clone();
                    play.hear(Event::Ordered { order, who: "bob".into(), why: String::new() });
                    assert!(open || play.rollout.phase == revision.phase, "what is not allowed is not done");
                }
                2..=4 if play.rollout.phase.is_open() => {
                    rows.push((play.rollout.wave, Standing::Offered));
                    play.moves(Standing::Waiting, Standing::Offered, 1);
                }
                2..=7 if !rows.is_empty() => {
                    let at = draw(rows.len());
                    let to = if draw(3) == 0 { STANDINGS[draw(9)] } else { Standing::Succeeded };
                    let (wave, from) = rows[at];
                    rows[at].1 = to;
                    play.hear(Event::Happened(1, Happened { wave, from, to, bytes: 0 }));
                }
                _ => {
                    let waiting = u32::try_from(draw(8) / 7).unwrap();
                    let after_ms = (draw(3) as i64) * HOUR_MS;
                    play.tick(after_ms, View { waiting, returning: waiting, ..View::default() });
                }
            }
            let (rollout, plan) = (&play.rollout, &play.plan);
            for (wave, tally) in rollout.tally.iter().enumerate() {
                for standing in STANDINGS {
                    let there = rows.iter().filter(|row| **row == (u32::try_from(wave).unwrap(), standing));
                    assert_eq!(tally.of(standing) as usize, there.count(), "seed {seed}");
                }
            }
            assert!(
                rollout.wave <= wave + 1 || rollout.evidence.len() > passed,
                "seed {seed}: no wave is skipped"
            );
            if rollout.wave > wave {
                assert!(!rollout.evidence.is_empty(), "seed {seed}: a gate says why it passed");
                assert!(plan.needed(rollout.wave).iter().all(|kind| rollout.signed.contains(kind)));
            }
            assert!(rollout.released.iter().all(|kind| match kind {
                Kind::Wave(of) | Kind::Revert(of) => *of <= rollout.wave,
                _ => true,
            }));
        }
    }
}
