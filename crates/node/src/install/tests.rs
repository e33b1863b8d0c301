//! Every phase, every way out of it, and what a restart makes of it; as scripts of events and the effects they have.

use package::name::VariantName;
use package::trust::shadow::Limits;
use proptest::prelude::*;
use wire::id::BootId;
use wire::world::Simulated;

use super::*;
use crate::install::cap::Cap;
use crate::install::event::NoSpare;
use crate::install::state::SparePhase;

mod spares;

const SECOND_NS: u64 = 1_000_000_000;

/// The slots, played by words.
struct Play {
    slots: Slots,
    now: Now,
    rules: Rules,
    chance: Simulated,
}

fn digest(kind: &str, release: u64) -> Digest {
    Digest::of(format!("{kind} {release}").as_bytes())
}

fn slot(release: u64) -> Slot {
    Slot {
        release,
        index: digest("index", release),
        manifest: digest("manifest", release),
        variant: VariantName::new("q4_k_m").unwrap(),
        weights: digest("weights", release),
        golden: None,
        committed_ms: None,
        rollout: None,
    }
}

/// A smaller variant of a release.
fn spare(release: u64) -> Slot {
    let variant = VariantName::new("q4_0").unwrap();
    Slot {
        manifest: digest("spare", release),
        weights: digest("spare weights", release),
        variant,
        ..slot(release)
    }
}

/// What a slot is called in scripts.
fn name(slot: &Slot) -> String {
    let is_spare = slot.manifest == digest("spare", slot.release);
    if is_spare { format!("spare-{}", slot.release) } else { slot.release.to_string() }
}

fn order(release: u64) -> Order {
    let (index, trust_sequence) = (digest("index", release), release);
    Order {
        release,
        index,
        variant: None,
        allow_rollback: false,
        forgive: None,
        rollout: None,
        beside: None,
        trust_sequence,
    }
}

/// To answer beside the current one, until ten answers are compared.
fn beside(release: u64, word: &str) -> Order {
    let limits =
        Limits { share_ppm: 100_000, core_ppm: 50_000, joules: None, memory_bytes: None, answers: 10 };
    let beside = Beside { word: word.to_owned(), limits, compared: 0, is_told: false };
    Order { beside: Some(beside), rollout: Some("9f3c".to_owned()), ..order(release) }
}

impl Play {
    /// A node without a model, just started.
    fn new() -> Play {
        let mut chance = Simulated::new(1);
        let now = Now { mono_ns: 0, wall_ms: 1000, boot: BootId::random(&mut chance), kernel: None };
        let mut play = Play { slots: Slots::default(), now, rules: Rules::default(), chance };
        play.rules.trial.answers = 2;
        play
    }

    /// A node whose current release is 7 and whose previous one is 6, at work.
    fn at_work() -> Play {
        let mut play = Play::new();
        play.slots.kept.previous = Some(slot(6));
        play.slots.kept.current = Some(slot(7));
        assert_eq!(play.hear("restart"), "persist floor:7 serve:7");
        assert_eq!(play.hear("loaded 7"), "");
        assert_eq!(play.hear("answer 7"), "persist");
        play
    }

    /// The same, with release 8 in a phase.
    fn with_8_in(phase: Phase) -> Play {
        let mut play = Play::at_work();
        if phase == Phase::Shadow {
            play.rules.shadow = 0.05;
        }
        let way = ["order 8", "chosen 8", "arrived 8", "verified 8", "proved 8", "loaded 8"];
        let steps = match phase {
            Phase::Staging => 2,
            Phase::Staged => 3,
            Phase::Proving => 4,
            Phase::Shadow => 5,
            Phase::Trial => 6,
        };
        for word in &way[..steps] {
            play.hear(word);
        }
        assert_eq!(play.slots.kept.candidate.as_ref().unwrap().phase, phase);
        play
    }

    /// The same, with release 8 beside the current one.
    fn with_8_beside() -> Play {
        let mut play = Play::at_work();
        for word in ["beside 8", "chosen 8", "arrived 8", "verified 8"] {
            play.hear(word);
        }
        assert_eq!(play.hear("proved 8"), "persist beside:8 told:8");
        play
    }

    /// The same as [`Play::at_work`], on a node that wants spares.
    fn that_spares() -> Play {
        let mut play = Play::at_work();
        play.rules.spare = true;
        play
    }

    /// The same, with a spare that stands by.
    fn with_spare() -> Play {
        let mut play = Play::that_spares();
        for word in ["quiet", "s-chosen 7", "s-arrived 7", "s-verified 7", "s-proved 7"] {
            play.hear(word);
        }
        assert_eq!(play.shown(), "7 (6) [-] refused [] spare ready 0");
        play
    }

    /// One event in words, `s-` before those that are about a spare; gives its effects in words.
    fn hear(&mut self, words: &str) -> String {
        let (word, number) = words.split_once(' ').unwrap_or((words, "0"));
        let release = number.parse().unwrap_or(0);
        let (word, manifest) = match word.strip_prefix("s-") {
            Some(word) => (word, digest("spare", release)),
            None => (word, digest("manifest", release)),
        };
        let is_spare = manifest == digest("spare", release);
        let why = || "why".to_owned();
        let answer = Answer { ms: 10, ok: true, golden: false };
        let event = match word {
            "restart" | "cut" | "forbidden" | "allowed" | "unserved" => {
                // The owner is heard when the node begins.
                match word {
                    "forbidden" => self.rules.beside = None,
                    "allowed" => self.rules.beside = Some(Cap::default()),
                    _ => {}
                }
                // What lasts goes through its file; the rest is forgotten.
                let kept = serde_json::to_vec(&self.slots.kept).unwrap();
                let run = Run { unserved: word == "unserved", ..Run::default() };
                self.slots = Slots { kept: serde_json::from_slice(&kept).unwrap(), run };
                self.now.boot = BootId::random(&mut self.chance);
                self.now.mono_ns = 0;
                Event::Started
            }
            "stop" => Event::Stopping,
            "order" => Event::Ordered(order(release)),
            "order-back" => Event::Ordered(Order { allow_rollback: true, ..order(release) }),
            "order-forgive" => Event::Ordered(Order { forgive: Some("a/1".into()), ..order(release) }),
            "quiet" => Event::Quiet,
            "busy" => Event::Busy,
            "chosen" if is_spare => {
                Event::SpareChosen { index: digest("index", release), result: Ok(spare(release)) }
            }
            "never" | "later" => {
                let none = if word == "never" { NoSpare::Never(why()) } else { NoSpare::NotNow(why()) };
                Event::SpareChosen { index: digest("index", release), result: Err(none) }
            }
            "no-room" => Event::NoRoom(manifest, why()),
            "chosen" => Event::Chosen { index: digest("index", release), result: Ok(slot(release)) },
            "beside" => Event::Ordered(beside(release, "a/1")),
            "beside-too" => Event::Ordered(beside(release, "b/1")),
            "compared" => Event::Compared(manifest, 4),
            "aside" => Event::Stood(manifest, Stood::Aside(why())),
            "off" => Event::Stood(manifest, Stood::Off(why())),
            "withdrawn" => Event::Withdrawn,
            "unfit" => Event::Chosen { index: digest("index", release), result: Err(why()) },
            "arrived" => Event::Arrived(manifest),
            "not-arrived" => Event::TransferFailed(manifest, why()),
            "verified" => Event::Verified(manifest, Ok(())),
            "damaged" => Event::Verified(manifest, Err(Fault::Damaged(why()))),
            "unusable" => Event::Verified(manifest, Err(Fault::Unfit(why()))),
            "not-granted" => Event::Verified(manifest, Err(Fault::NotNow(why()))),
            "proved" => Event::Proved(manifest, Proof::Passed(Measured::default())),
            "disproved" => {
                Event::Proved(manifest, Proof::Failed { why: why(), measured: Measured::default() })
            }
            "not-now" => Event::Proved(manifest, Proof::NotNow(why())),
            "agrees" => Event::Shadowed(manifest, Agreement { compared: 100, agreed: 95 }),
            "differs" => Event::Shadowed(manifest, Agreement { compared: 100, agreed: 94 }),
            "loaded" => Event::Loaded(manifest, Ok(())),
            "not-loaded" => Event::Loaded(manifest, Err(why())),
            "spoilt" => Event::Spoilt(manifest, why()),
            "answer" => Event::Answered(manifest, answer),
            "golden" => Event::Answered(manifest, Answer { golden: true, ..answer }),
            "fail" => Event::Answered(manifest, Answer { ok: false, ..answer }),
            "crash" => Event::Crashed(manifest, why()),
            "journalled" => Event::Journalled(self.slots.kept.reports[0].id.clone()),
            "roll-back" => Event::RollBack,
            "forgive" => Event::Forgive(manifest),
            "leave-safe" => Event::LeaveSafe,
            "after" => {
                self.now.mono_ns += release * SECOND_NS;
                Event::Tick
            }
            other => panic!("{other}"),
        };
        self.take(event)
    }

    fn take(&mut self, event: Event) -> String {
        let before = self.slots.clone();
        let (slots, effects) = step(before.clone(), event, &self.now, &self.rules);
        assert_eq!(effects.first() == Some(&Effect::Persist), slots.kept != before.kept);
        assert!(!effects.iter().skip(1).any(|effect| *effect == Effect::Persist));
        self.slots = slots;
        let words = effects.iter().filter_map(|effect| {
            Some(match effect {
                Effect::Persist => "persist".to_owned(),
                Effect::Choose(order) => format!("choose:{}", order.release),
                Effect::Transfer(slot) => format!("transfer:{}", name(slot)),
                Effect::Verify(slot) => format!("verify:{}", name(slot)),
                Effect::Prove(slot, _) => format!("prove:{}", name(slot)),
                Effect::Shadow(slot, None) => format!("shadow:{}", slot.release),
                Effect::Shadow(slot, Some(_)) => format!("beside:{}", slot.release),
                Effect::Serve(slot) => format!("serve:{}", name(slot)),
                Effect::Unload => "unload".into(),
                Effect::Exercise(slot) => format!("exercise:{}", slot.release),
                Effect::RaiseFloor(release) => format!("floor:{release}"),
                Effect::Journal(Report { outcome: Outcome::Beside, release, .. }) => {
                    format!("told:{release}")
                }
                Effect::Journal(report) => format!("{:?}:{}", report.outcome, report.release).to_lowercase(),
                Effect::Collect => "collect".into(),
                Effect::Tell(_) => return None,
                Effect::ChooseSpare(slot) => format!("seek:{}", name(slot)),
                Effect::Rest => "rest".into(),
                Effect::Over(is_over, _) => if *is_over { "over" } else { "back" }.into(),
            })
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The slots in words.
    fn shown(&self) -> String {
        let Kept { current, previous, candidate, refused, safe, .. } = &self.slots.kept;
        let of = |slot: &Option<Slot>| slot.as_ref().map_or("-".into(), |slot| slot.release.to_string());
        let candidate = candidate
            .as_ref()
            .map_or("-".into(), |it| format!("{} {} {}", it.slot.release, it.phase.as_str(), it.misses));
        let refused: Vec<String> = refused
            .iter()
            .map(|it| (0..20).find(|n| digest("manifest", *n) == it.manifest).unwrap().to_string())
            .collect();
        let safe = if safe.is_some() { " safe" } else { "" };
        let spare = self.slots.kept.spare.as_ref();
        let spare = spare.map_or(String::new(), |it| format!(" spare {} {}", it.phase.as_str(), it.misses));
        let refused = refused.join(" ");
        format!("{} ({}) [{candidate}] refused [{refused}]{safe}{spare}", of(current), of(previous))
    }

    /// Plays a script of `event => effects` lines, and compares the slots afterwards.
    fn plays(&mut self, script: &str, shown: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (event, effects) = line.split_once("=>").unwrap();
            assert_eq!(self.hear(event.trim()), effects.trim(), "{line}\n{script}");
        }
        assert_eq!(self.shown(), shown, "{script}");
    }
}

#[test]
fn an_update_that_commits() {
    Play::at_work().plays(
        "order 8      => persist choose:8
         chosen 8     => persist transfer:8
         order 8      =>
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         loaded 8     =>
         answer 8     =>
         answer 8     =>
         after 599    =>
         after 1      => persist committed:8 floor:8 collect
         answer 8     =>
         journalled   => persist
         order 8      =>
         cut          => persist floor:8 serve:8",
        "8 (7) [-] refused []",
    );
}

#[test]
fn what_answers_beside_never_serves_and_goes_when_it_is_enough() {
    Play::with_8_beside().plays(
        "beside 8     =>
         order 7      =>
         agrees 8     =>
         compared 8   => persist
         answer 7     =>
         compared 8   => persist
         after 90000  =>
         compared 8   => persist compared:8 collect
         compared 8   =>
         beside 8     =>
         beside-too 8 => persist choose:8
         chosen 8     => persist transfer:8
         withdrawn    => persist compared:8 collect
         withdrawn    =>",
        "7 (6) [-] refused []",
    );
    // What it is to be compared with must be there, and be something else.
    Play::new().plays("restart => \n beside 8 =>", "- (-) [-] refused []");
    Play::at_work().plays("beside 7 => \n beside 6 =>", "7 (6) [-] refused []");
    let mut play = Play::at_work();
    play.hear("beside 8");
    let same = Slot { manifest: slot(7).manifest, ..slot(8) };
    let chosen = Event::Chosen { index: digest("index", 8), result: Ok(same) };
    assert_eq!(play.take(chosen), "persist unfit:8");
    assert_eq!(play.hear("beside 8"), "", "once is enough");
}

#[test]
fn the_owner_says_what_may_answer_beside() {
    // None, whoever orders it, and the hub hears of it once; what is ordered to serve comes as ever.
    let mut play = Play::at_work();
    play.rules.beside = None;
    play.plays(
        "beside 8     => persist unfit:8
         beside 8     =>
         order 8      => persist choose:8",
        "7 (6) [-] refused []",
    );
    let why = &play.slots.kept.reports.last().unwrap().why;
    assert!(why.contains("the owner of this node"), "{why}");
    assert_eq!(play.slots.kept.reports.last().unwrap().rollout.as_deref(), Some("9f3c"));
    // None any more: what an earlier run began goes.
    Play::with_8_beside().plays(
        "forbidden    => persist told:8 unfit:8 collect floor:7 serve:7
         beside 8     =>
         loaded 7     =>
         answer 7     => persist
         cut          => persist told:8 unfit:8 floor:7 serve:7
         allowed      => persist told:8 unfit:8 floor:7 serve:7
         beside 8     => persist choose:8",
        "7 (6) [-] refused []",
    );
    let mut play = Play::at_work();
    play.plays("beside 8 => persist choose:8\n forbidden => persist floor:7 serve:7", "7 (6) [-] refused []");
    // Less than was ordered.
    let mut play = Play::at_work();
    play.rules.beside = Some(Cap { share_ppm: 20_000, joules: Some(30), ..Cap::default() });
    for word in ["beside 8", "chosen 8", "arrived 8", "verified 8"] {
        play.hear(word);
    }
    let proved = Event::Proved(digest("manifest", 8), Proof::Passed(Measured::default()));
    let (slots, effects) = step(play.slots.clone(), proved, &play.now, &play.rules);
    let held = effects.iter().find_map(|effect| match effect {
        Effect::Shadow(_, limits) => *limits,
        _ => None,
    });
    let held = held.unwrap();
    assert_eq!((held.share_ppm, held.core_ppm, held.joules, held.answers), (20_000, 50_000, Some(30), 10));
    let (_, order) = slots.kept.beside().unwrap();
    assert_eq!(order.limits.share_ppm, 100_000, "what was ordered is remembered as it was ordered");
}

#[test]
fn what_is_ordered_to_serve_comes_first() {
    Play::with_8_beside().plays(
        "order 9      => persist choose:9
         beside 8     =>
         chosen 9     => persist superseded:8 collect transfer:9
         beside 8     =>
         compared 8   =>
         arrived 9    => persist verify:9
         verified 9   => persist prove:9
         proved 9     => persist serve:9
         loaded 9     =>
         answer 9     =>
         answer 9     =>
         after 600    => persist committed:9 floor:9 collect
         beside 8     =>",
        "9 (7) [-] refused []",
    );
    // The very release that is compared comes to serve: from the beginning, through its trial.
    Play::with_8_beside().plays(
        "order 8      => persist choose:8
         chosen 8     => persist superseded:8 collect transfer:8
         arrived 8    => persist verify:8
         verified 8   => persist prove:8
         proved 8     => persist serve:8
         beside 8     =>",
        "7 (6) [8 trial 0] refused []",
    );
    Play::with_8_in(Phase::Staged).plays("beside 9 =>", "7 (6) [8 staged 0] refused []");
    Play::at_work().plays("order 8 => persist choose:8\n beside 9 =>", "7 (6) [-] refused []");
    // And whoever goes back leaves it, to come again.
    Play::with_8_beside().plays(
        "roll-back    => persist superseded:8 rolledback:7 serve:6 collect
         beside 8     => persist choose:8",
        "6 (-) [-] refused [7]",
    );
}

#[test]
fn what_answers_beside_survives_the_mains_and_not_its_own_faults() {
    Play::with_8_beside().plays("crash 8 => persist refused:8 collect", "7 (6) [-] refused [8]");
    Play::with_8_beside().plays("off 8 => persist unfit:8 collect\n beside 8 =>", "7 (6) [-] refused []");
    Play::with_8_beside().plays(
        "stop         => persist
         cut          => persist told:8 floor:7 serve:7 verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         aside 8      =>
         after 599    =>
         after 1      => beside:8
         cut          => persist told:8 floor:7 missed:8 serve:7
         loaded 7     =>
         answer 7     => persist
         after 60     => verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         after 600    => persist
         cut          => persist told:8 missed:8 floor:7 missed:8 serve:7",
        "7 (6) [8 staged 1] refused []",
    );
    Play::with_8_beside().plays(
        "cut          => persist told:8 floor:7 missed:8 serve:7
         answer 7     => persist
         after 60     => verify:8
         verified 8   => persist prove:8
         proved 8     => persist beside:8
         after 599    =>
         cut          => persist told:8 missed:8 floor:7 refused:8 collect serve:7",
        "7 (6) [-] refused [8]",
    );
    // Nothing is left to compare with.
    let mut play = Play::with_8_beside();
    play.slots.kept.previous = None;
    for _ in 0..4 {
        play.hear("crash 7");
    }
    assert_eq!(play.shown(), "7 (-) [-] refused [7] safe");
}

#[test]
fn the_first_model_of_all() {
    let mut play = Play::new();
    play.plays(
        "restart      =>
         order 1      => persist choose:1
         chosen 1     => persist transfer:1
         arrived 1    => persist verify:1
         verified 1   => persist prove:1
         proved 1     => persist serve:1
         loaded 1     =>
         fail 1       =>
         fail 1       => persist refused:1 unload collect
         order 2      => persist choose:2
         chosen 2     => persist transfer:2
         arrived 2    => persist verify:2
         verified 2   => persist prove:2
         proved 2     => persist serve:2
         loaded 2     =>
         golden 2     =>
         answer 2     =>
         after 600    => persist committed:2 floor:2 collect",
        "2 (-) [-] refused [1]",
    );
    assert!(play.slots.kept.current.as_ref().unwrap().committed_ms.is_some());
}

#[test]
fn each_phase_refuses_what_is_no_good() {
    fn check(phase: Phase, event: &str, effects: &str) {
        let mut play = Play::with_8_in(phase);
        assert_eq!(play.hear(event), effects, "{phase:?} {event}");
        assert_eq!(play.shown(), "7 (6) [-] refused [8]", "{phase:?} {event}");
        // And never tries it again.
        play.hear("order 8");
        assert_eq!(play.hear("chosen 8"), "persist unfit:8");
        play.hear("order 8");
        assert_eq!(play.hear("chosen 8"), "persist", "told once");
        assert_eq!(play.shown(), "7 (6) [-] refused [8]");
    }
    check(Phase::Staged, "unusable 8", "persist refused:8 collect");
    check(Phase::Proving, "disproved 8", "persist refused:8 collect");
    check(Phase::Shadow, "differs 8", "persist refused:8 collect");
    check(Phase::Shadow, "crash 8", "persist refused:8 collect");
    check(Phase::Trial, "crash 8", "persist refused:8 serve:7 collect");
    check(Phase::Trial, "not-loaded 8", "persist refused:8 serve:7 collect");
}

#[test]
fn a_candidate_waits_for_its_grant() {
    let mut play = Play::with_8_in(Phase::Staged);
    play.plays(
        "not-granted 8 =>
         after 59      =>
         after 1       => verify:8
         not-granted 8 =>
         cut           => persist floor:7 serve:7 verify:8
         verified 8    => persist prove:8",
        "7 (6) [8 proving 0] refused []",
    );
}

#[test]
fn a_restart_is_a_miss_where_the_model_runs() {
    fn check(phase: Phase, stops: &[&str], effects: &str, shown: &str) {
        let mut play = Play::with_8_in(phase);
        for stop in &stops[..stops.len() - 1] {
            play.hear(stop);
        }
        assert_eq!(play.hear(stops[stops.len() - 1]), effects, "{phase:?} {stops:?}");
        assert_eq!(play.shown(), shown, "{phase:?} {stops:?}");
    }
    check(Phase::Staging, &["cut"], "persist floor:7 serve:7 transfer:8", "7 (6) [8 staging 0] refused []");
    check(Phase::Staged, &["cut"], "persist floor:7 serve:7 verify:8", "7 (6) [8 staged 0] refused []");
    for phase in [Phase::Proving, Phase::Shadow, Phase::Trial] {
        check(phase, &["cut"], "persist floor:7 missed:8 serve:7", "7 (6) [8 staged 1] refused []");
        check(phase, &["stop", "cut"], "persist floor:7 serve:7 verify:8", "7 (6) [8 staged 0] refused []");
    }
    // A second miss refuses, however far it came the second time.
    let again = ["cut", "loaded 7", "answer 7", "journalled", "after 60", "verified 8"];
    let effects = "persist floor:7 refused:8 collect serve:7";
    check(Phase::Proving, &[&again[..], &["cut"]].concat(), effects, "7 (6) [-] refused [8]");
    check(Phase::Trial, &[&again[..], &["proved 8", "cut"]].concat(), effects, "7 (6) [-] refused [8]");
}

#[test]
fn a_miss_waits_before_it_is_tried_again() {
    Play::with_8_in(Phase::Proving).plays(
        "cut          => persist floor:7 missed:8 serve:7
         after 59     =>
         after 1      => verify:8
         verified 8   => persist prove:8
         not-now 8    => persist
         after 60     => verify:8
         damaged 8    => persist refused:8 collect",
        "7 (6) [-] refused [8]",
    );
    Play::with_8_in(Phase::Staged).plays(
        "damaged 8    => persist missed:8
         after 60     => transfer:8
         not-arrived 8 =>
         after 60     => transfer:8",
        "7 (6) [8 staging 1] refused []",
    );
    // Found when it is loaded for its trial: no more is it the release's fault.
    Play::with_8_in(Phase::Trial).plays(
        "spoilt 8     => persist missed:8 serve:7
         after 60     => transfer:8
         arrived 8    => persist verify:8",
        "7 (6) [8 staged 1] refused []",
    );
    Play::with_8_in(Phase::Trial).plays("spoilt 7 =>", "7 (6) [8 trial 0] refused []");
}

#[test]
fn a_trial_that_nobody_asks() {
    let mut play = Play::with_8_in(Phase::Trial);
    play.plays(
        "after 60     => exercise:8
         golden 8     =>
         after 3600   =>
         after 82739  =>
         after 1      => persist committed:8 floor:8 collect",
        "8 (7) [-] refused []",
    );
    Play::with_8_in(Phase::Trial)
        .plays("after 86400  => persist missed:8 serve:7", "7 (6) [8 staged 1] refused []");
}

#[test]
fn late_answers_are_nobody_elses() {
    Play::with_8_in(Phase::Trial).plays(
        "crash 7      =>
         answer 7     =>
         fail 7       =>
         proved 8     =>
         arrived 8    =>
         order 9      => persist choose:9
         chosen 8     =>
         chosen 9     => persist superseded:8 serve:7 collect transfer:9
         loaded 8     =>
         crash 8      =>
         not-loaded 8 =>
         loaded 7     =>
         answer 7     => persist
         arrived 8    =>",
        "7 (6) [9 staging 0] refused []",
    );
}

#[test]
fn an_order_for_what_is_here_ends_what_is_on_its_way() {
    Play::with_8_in(Phase::Trial).plays(
        "order 6      =>
         order 7      => persist superseded:8 serve:7 collect
         order 7      =>
         order-back 6 => persist choose:6
         cut          => persist superseded:8 floor:7 serve:7 choose:6
         chosen 6     => persist transfer:6",
        "7 (6) [6 staging 0] refused []",
    );
}

#[test]
fn a_current_model_that_does_not_start_gives_way_to_the_previous_one() {
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         loaded 7     =>
         after 59     =>
         cut          => persist floor:7 serve:7
         cut          => persist floor:7 fellback:7 serve:6 collect
         loaded 6     =>
         after 60     => persist
         order 7      => persist choose:7
         chosen 7     => persist unfit:7",
        "6 (-) [-] refused [7]",
    );
    // A restart that was asked for is none that failed.
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7
         stop         => persist
         restart      => persist floor:7 serve:7",
        "7 (6) [-] refused []",
    );
    // Breaking down counts like not starting, until an answer.
    Play::at_work().plays(
        "crash 7      => persist serve:7
         answer 7     => persist
         crash 7      => persist serve:7
         not-loaded 7 => persist serve:7
         not-loaded 7 => persist serve:7
         not-loaded 7 => persist fellback:7 serve:6 collect",
        "6 (-) [-] refused [7]",
    );
}

#[test]
fn what_nobody_serves_is_not_started_and_comes_back() {
    // However often the node begins, nothing was started that could have failed.
    Play::at_work().plays(
        "stop         => persist
         unserved     => persist floor:7
         unserved     => floor:7
         unserved     => floor:7
         after 90     =>
         stop         => persist
         unserved     => persist floor:7
         unserved     => floor:7
         order 7      =>
         restart      => persist floor:7 serve:7
         loaded 7     =>
         answer 7     => persist",
        "7 (6) [-] refused []",
    );
    // Starts that did fail before stay counted, and are not forgotten by a stop.
    Play::at_work().plays(
        "cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         cut          => persist floor:7 serve:7
         unserved     => floor:7
         after 90     =>
         stop         => persist
         cut          => persist floor:7 fellback:7 serve:6 collect",
        "6 (-) [-] refused [7]",
    );
    // A person may change what is current meanwhile.
    Play::at_work().plays(
        "unserved     => floor:7
         roll-back    => persist rolledback:7 collect
         restart      => persist rolledback:7 floor:6 serve:6",
        "6 (-) [-] refused [7]",
    );
    // A candidate waits where it was, at no risk.
    Play::with_8_in(Phase::Trial).plays(
        "stop         => persist
         unserved     => persist floor:7
         after 90     =>
         unserved     => floor:7
         unserved     => floor:7
         restart      => persist floor:7 serve:7 verify:8",
        "7 (6) [8 staged 0] refused []",
    );
    Play::with_8_in(Phase::Staging).plays(
        "unserved     => floor:7
         after 90     =>
         restart      => persist floor:7 serve:7 transfer:8",
        "7 (6) [8 staging 0] refused []",
    );
    let mut play = Play::with_8_in(Phase::Proving);
    play.slots.run.unserved = true;
    play.plays("proved 8 => persist\n after 90 =>", "7 (6) [8 staged 0] refused []");
}

#[test]
fn safe_mode_and_out() {
    let safe = || {
        let mut play = Play::at_work();
        for _ in 0..7 {
            play.hear("cut");
        }
        assert_eq!(play.shown(), "6 (-) [-] refused [7 6] safe");
        play
    };
    safe().plays(
        "cut          => fellback:7 safe:6 floor:6
         roll-back    =>
         crash 6      =>
         leave-safe   => persist serve:6
         loaded 6     =>
         answer 6     => persist
         leave-safe   =>",
        "6 (-) [-] refused [7]",
    );
    // A new release leads out, and only when it has proven itself.
    safe().plays(
        "order 9      => persist choose:9
         chosen 9     => persist transfer:9
         arrived 9    => persist verify:9
         verified 9   => persist prove:9
         proved 9     => persist serve:9
         crash 9      => persist refused:9 unload collect
         order 10     => persist choose:10
         chosen 10    => persist transfer:10
         arrived 10   => persist verify:10
         verified 10  => persist prove:10
         proved 10    => persist serve:10
         loaded 10    =>
         answer 10    =>
         answer 10    =>
         after 600    => persist committed:10 floor:10 collect",
        "10 (-) [-] refused [7 6 9]",
    );
}

#[test]
fn a_person_goes_back_and_forgives() {
    Play::with_8_in(Phase::Trial).plays(
        "roll-back    => persist superseded:8 rolledback:7 serve:6 collect
         roll-back    =>
         loaded 6     =>
         answer 6     => persist
         order 7      => persist choose:7
         chosen 7     => persist unfit:7
         forgive 7    => persist
         order 7      => persist choose:7
         chosen 7     => persist transfer:7",
        "6 (-) [7 staging 0] refused []",
    );
}

#[test]
fn an_order_forgives_once() {
    let mut play = Play::with_8_in(Phase::Proving);
    play.plays(
        "disproved 8     => persist refused:8 collect
         order-forgive 8 => persist choose:8
         chosen 8        => persist transfer:8
         arrived 8       => persist verify:8
         verified 8      => persist prove:8
         disproved 8     => persist refused:8 collect
         order-forgive 8 => persist choose:8
         chosen 8        => persist unfit:8",
        "7 (6) [-] refused [8]",
    );
}

#[test]
fn the_same_bytes_in_another_release_need_no_proof() {
    let mut play = Play::at_work();
    play.hear("order 8");
    let same = Slot { manifest: slot(7).manifest, ..slot(8) };
    let chosen = Event::Chosen { index: digest("index", 8), result: Ok(same) };
    assert_eq!(play.take(chosen), "persist committed:8 floor:8");
    assert_eq!(play.shown(), "8 (6) [-] refused []");
}

#[test]
fn reports_stay_until_the_journal_has_them_and_have_names_of_their_own() {
    let mut play = Play::with_8_in(Phase::Proving);
    play.hear("disproved 8");
    play.hear("order 9");
    play.hear("unfit 9");
    let ids: Vec<String> = play.slots.kept.reports.iter().map(|report| report.id.clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    assert_eq!(play.hear("cut"), "persist refused:8 unfit:9 floor:7 serve:7");
    assert_eq!(play.hear("journalled"), "persist");
    assert_eq!(play.hear("cut"), "persist unfit:9 floor:7 serve:7");
    let (why, measured) = ("x".repeat(10_000), Measured::default());
    let mut play = Play::with_8_in(Phase::Proving);
    play.take(Event::Proved(digest("manifest", 8), Proof::Failed { why, measured }));
    assert!(serde_json::to_vec(&play.slots.kept).unwrap().len() < 10_000);
}

proptest! {
    /// Whatever happens in whatever order.
    #[test]
    fn what_always_holds(words in proptest::collection::vec((0usize..49, 6u64..10), 0..80)) {
        const WORDS: [&str; 49] = [
            "cut", "restart", "stop", "order", "order", "order-back", "chosen", "chosen", "unfit", "arrived", "arrived",
            "not-arrived", "verified", "verified", "damaged", "unusable", "proved", "disproved", "not-now", "loaded", "spoilt",
            "not-loaded", "answer", "fail", "crash", "roll-back", "leave-safe", "beside", "beside", "beside-too", "compared",
            "aside", "withdrawn", "quiet", "quiet", "busy", "s-chosen", "s-later", "s-arrived", "s-verified", "s-proved",
            "s-disproved", "s-loaded", "s-crash", "s-spoilt", "no-room", "forbidden", "allowed", "unserved",
        ];
        let mut play = Play::that_spares();
        play.rules.trial.least = Duration::ZERO;
        for (word, release) in words {
            let refused: Vec<Digest> = play.slots.kept.refused.iter().map(|it| it.manifest).collect();
            let was_beside = play.slots.kept.beside().map(|(it, _)| it.slot.manifest);
            let effects = play.hear(&format!("{} {release}", WORDS[word]));
            let kept = &play.slots.kept;
            prop_assert!(kept.current.is_some(), "a current model, once there was one");
            for effect in effects.split(' ') {
                let (effect, number) = effect.split_once(':').unwrap_or((effect, "0"));
                let manifest = match number.strip_prefix("spare-") {
                    Some(number) => digest("spare", number.parse().unwrap()),
                    None => digest("manifest", number.parse().unwrap()),
                };
                if ["transfer", "verify", "prove"].contains(&effect) {
                    prop_assert!(!refused.contains(&manifest), "{effect} of what was refused");
                }
                // What the journal does not have is told again at a start.
                if effect == "committed" && !["cut", "restart", "forbidden", "allowed", "unserved"].contains(&WORDS[word]) {
                    prop_assert!(was_beside != Some(manifest), "what answers beside never commits");
                }
            }
            if let Some(candidate) = &kept.candidate {
                prop_assert!(candidate.misses < MISSES_MAX);
                prop_assert!(kept.refusal(&candidate.slot.manifest).is_none());
                prop_assert!(candidate.beside.is_none() || candidate.phase != Phase::Trial);
                prop_assert!(kept.current.as_ref().is_none_or(|it| it.manifest != candidate.slot.manifest));
            }
            let is_wanted = kept.wanted.as_ref().is_some_and(|order| order.beside.is_some());
            prop_assert!(play.rules.beside.is_some() || kept.beside().is_none() && !is_wanted);
            prop_assert!(kept.unproven_starts <= UNPROVEN_STARTS_MAX);
            prop_assert!(!play.slots.run.unserved || play.slots.run.serving.is_none());
            if let Some(spare) = &kept.spare {
                let current = kept.current.as_ref().unwrap();
                prop_assert!(spare.slot.index == current.index && spare.slot.manifest != current.manifest);
                prop_assert!(spare.misses < MISSES_MAX);
                // Only what somebody is at work on, or will be, is in a phase that runs.
                prop_assert!(spare.phase != SparePhase::Proving || play.slots.run.spare.is_at_work);
            }
            let is_spares = |digest: &Digest| (6..10).any(|it| *digest == self::digest("spare", it));
            prop_assert!(!kept.reports.iter().any(|it| it.manifest.as_ref().is_some_and(is_spares)), "no report");
            if let Some(serving) = &play.slots.run.serving {
                let current = kept.current.as_ref().filter(|_| kept.safe.is_none());
                let trial = kept.candidate.as_ref().filter(|it| it.phase == Phase::Trial).map(|it| &it.slot);
                let may_serve = current.into_iter().chain(trial);
                prop_assert!(may_serve.into_iter().any(|slot| slot.manifest == serving.manifest));
            }
        }
    }
}

#[test]
fn a_report_says_whether_the_machine_ran_on() {
    for (reboots, same) in [(true, Some(false)), (false, Some(true))] {
        let mut play = Play::with_8_in(Phase::Staged);
        let mut kernel = || Some(BootId::random(&mut play.chance));
        let (first, second) = (kernel(), kernel());
        play.now.kernel = first;
        play.hear("verified 8");
        play.now.kernel = if reboots { second } else { first };
        play.hear("restart");
        let missed = play.slots.kept.reports.last().unwrap();
        assert_eq!((missed.outcome, missed.kernel_same), (Outcome::Missed, same));
    }
}
