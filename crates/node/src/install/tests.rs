//! The slots, played by words: scripts of events and the effects they have. What they are asked stands in the files below.

use package::name::VariantName;
use package::trust::shadow::Limits;
use wire::id::BootId;
use wire::world::Simulated;

use super::*;
use crate::install::cap::Cap;
use crate::install::event::{NoSpare, Stood};
use crate::install::state::Beside;
use crate::install::trial::Answer;

mod always;
mod beside;
mod candidates;
mod reports;
mod serving;
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
