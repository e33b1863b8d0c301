//! One node that a release may answer beside what runs on: its real slots, its real budget, its real counts.

use std::collections::BTreeMap;
use std::time::Duration;

use node::behaviour::{Beside, Watch};
use node::install::cap::Cap;
use node::install::event::{Effect, Event, Now, Rules};
use node::install::purse::Purse;
use node::install::state::{Beside as Word, Kept, Order, Phase, Run, Slot, Slots};
use node::install::{report, step};
use package::digest::Digest;
use package::name::{ModelName, VariantName};
use package::trust::assignment::{Assignment, NodeFacts};
use package::trust::shadow::Limits;
use wire::body::{Behaviour, Install, Parted};
use wire::checkin::{AcceptedVersion, CandidateState, CheckIn, CurrentState, SlotState};
use wire::facts::{Fact, FactName, Facts};
use wire::hash::Hash;
use wire::id::BootId;
use wire::world::MonoNs;

use crate::sim::fleet::{Presence, START_MS};
use crate::sim::release::Harm;
use crate::sim::shadow::setup::{BASE, Mutant};

/// What the hub is told, until it is.
#[derive(Debug)]
pub(crate) enum Told {
    /// What became of the slots, and the report's id.
    Installed(Box<Install>, String),
    /// How the model behaved, and the sum of the chances of the answers that were compared.
    Behaved(Box<Behaviour>, f64),
}

/// A comparison under way, in one life of a node.
#[derive(Debug)]
pub(crate) struct Comparing {
    /// Ends what was scheduled for an earlier one.
    pub(crate) number: u32,
    pub(crate) purse: Purse,
    pub(crate) limits: Limits,
    pub(crate) began_ns: MonoNs,
    /// What the answer that is being given will have taken, and used.
    pub(crate) open: Option<(Duration, Option<u64>)>,
    /// Answers that came while one was being given.
    dropped: u64,
    pub(crate) spent_ns: u64,
    pub(crate) longest_ns: u64,
    pub(crate) spent_uj: u64,
    pub(crate) largest_uj: u64,
}

/// The node.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) presence: Presence,
    pub(crate) facts: Facts,
    /// The same as the hub's store holds them.
    pub(crate) facts_text: String,
    pub(crate) slots: Slots,
    pub(crate) rules: Rules,
    watch: Watch,
    boot: BootId,
    boot_ms: i64,
    /// Ends what was scheduled in an earlier life.
    pub(crate) life: u32,
    pub(crate) accepted: u32,
    order: Option<Order>,
    pub(crate) outbox: Vec<Told>,
    pub(crate) comparing: Option<Comparing>,
    comparisons: u32,
    /// The chance that an answer parts.
    pub(crate) chance: f64,
    pub(crate) asked_an_hour: f64,
    pub(crate) harm: Option<Harm>,
    /// The chances of answers that are not in a record yet.
    chances: f64,
    /// What it compared, told or not.
    pub(crate) compared: u64,
    pub(crate) disagreements: u64,
    pub(crate) busy: Duration,
    pub(crate) used_uj: Option<u64>,
    /// For how long anything was compared.
    pub(crate) watched_ns: u64,
    checkin: CheckIn,
}

/// A release's slot.
pub(crate) fn slot(release: u64, index: Digest, rollout: Option<String>) -> Slot {
    let of = |kind: &str| Digest::of(format!("{kind} {release}").as_bytes());
    Slot {
        release,
        index,
        manifest: of("manifest"),
        variant: VariantName::new("q4").expect("a variant's name"),
        weights: of("weights"),
        golden: None,
        committed_ms: None,
        rollout,
    }
}

impl Machine {
    /// A node that runs the release that the other one is compared with. `cap`: what its owner allows; `None`: nothing.
    pub(crate) fn new(
        name: &str,
        mut facts: Facts,
        cap: Option<Cap>,
        presence: Presence,
        boot: BootId,
    ) -> Machine {
        let can = cap.map(|_| "shadow".to_owned()).into_iter().collect();
        let fact = FactName::new("can").expect("a fact's name");
        facts.set(fact, Fact::List(can)).expect("few facts");
        let current = slot(BASE, Digest::of(b"index of the base"), None);
        let kept = Kept { current: Some(current), ..Kept::default() };
        let checkin = format!(
            r#"{{"v":1,"node":"{name}","journal":"{0}","boot":"{0}","version":"0.1.0","uptime_ms":1,"wall_ms":0,"clock":"checked","hub":"hub","revision":0}}"#,
            "00".repeat(16)
        );
        Machine {
            name: name.to_owned(),
            presence,
            facts_text: serde_json::to_string(&facts).expect("facts are JSON"),
            facts,
            slots: Slots { kept, run: Run::default() },
            rules: Rules { beside: cap, ..Rules::default() },
            watch: Watch::default(),
            boot,
            boot_ms: START_MS,
            life: 0,
            accepted: 0,
            order: None,
            outbox: Vec::new(),
            comparing: None,
            comparisons: 0,
            chance: 0.0,
            asked_an_hour: 0.0,
            harm: None,
            chances: 0.0,
            compared: 0,
            disagreements: 0,
            busy: Duration::ZERO,
            used_uj: None,
            watched_ns: 0,
            checkin: serde_json::from_str(&checkin).expect("a check-in"),
        }
    }

    /// Nanoseconds of this life.
    pub(crate) fn mono_ns(&self, now_ms: i64) -> MonoNs {
        u64::try_from(now_ms - self.boot_ms).unwrap_or(0) * 1_000_000
    }

    /// One event for its slots; gives what is to be done.
    pub(crate) fn hear(&mut self, event: Event, now_ms: i64) -> Vec<Effect> {
        let now = Now { mono_ns: self.mono_ns(now_ms), wall_ms: now_ms, boot: self.boot, kernel: None };
        let (slots, effects) = step(self.slots.clone(), event, &now, &self.rules);
        self.slots = slots;
        // As the thread of the slots does.
        if self.slots.kept.candidate.as_ref().is_none_or(|it| it.phase != Phase::Shadow) {
            self.leave(now_ms);
        }
        effects
    }

    fn leave(&mut self, now_ms: i64) {
        let now_ns = self.mono_ns(now_ms);
        if let Some(comparing) = self.comparing.take() {
            self.watched_ns += now_ns.saturating_sub(comparing.began_ns);
        }
    }

    /// The power is cut, and comes back.
    pub(crate) fn restart(&mut self, boot: BootId, now_ms: i64) {
        self.leave(now_ms);
        (self.boot, self.boot_ms, self.life) = (boot, now_ms, self.life + 1);
        (self.slots.run, self.watch, self.chances) = (Run::default(), Watch::default(), 0.0);
    }

    /// A comparison begins within these limits.
    pub(crate) fn compare(&mut self, limits: Limits, now_ms: i64) -> u32 {
        self.leave(now_ms);
        let began_ns = self.mono_ns(now_ms);
        self.comparisons += 1;
        let (number, purse) = (self.comparisons, Purse::new(&limits, began_ns));
        let (open, dropped) = (None, 0);
        let (spent_ns, longest_ns, spent_uj, largest_uj) = (0, 0, 0, 0);
        self.comparing = Some(Comparing {
            number,
            purse,
            limits,
            began_ns,
            open,
            dropped,
            spent_ns,
            longest_ns,
            spent_uj,
            largest_uj,
        });
        number
    }

    /// An answer was chosen to be compared. Gives true if one is begun now; `took`, `used_uj`: what it will have taken.
    pub(crate) fn asked(
        &mut self,
        model: &ModelName,
        took: Duration,
        used_uj: Option<u64>,
        mutant: Option<Mutant>,
        now_ms: i64,
    ) -> bool {
        let now_ns = self.mono_ns(now_ms);
        let Some(comparing) = &mut self.comparing else { return false };
        if comparing.open.is_some() {
            comparing.dropped += 1;
            return false;
        }
        if !comparing.purse.may(now_ns) && mutant != Some(Mutant::BlankPurse) {
            let skipped = 1 + std::mem::take(&mut comparing.dropped);
            self.note(model, None, skipped, Duration::ZERO, None);
            return false;
        }
        comparing.open = Some((took, used_uj));
        true
    }

    /// The answer that was being given is there. Gives how many comparisons the slots are to hear of, if that is enough.
    pub(crate) fn answered(&mut self, model: &ModelName, parts: bool) -> Option<(Digest, u64)> {
        let comparing = self.comparing.as_mut()?;
        let (took, used_uj) = comparing.open.take()?;
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        comparing.purse.spend(took_ns, used_uj);
        comparing.spent_ns += took_ns;
        comparing.longest_ns = comparing.longest_ns.max(took_ns);
        comparing.spent_uj += used_uj.unwrap_or(0);
        comparing.largest_uj = comparing.largest_uj.max(used_uj.unwrap_or(0));
        let skipped = std::mem::take(&mut comparing.dropped);
        self.chances += self.chance;
        self.compared += 1;
        self.busy += took;
        self.used_uj = used_uj.map(|uj| self.used_uj.unwrap_or(0) + uj).or(self.used_uj);
        self.note(model, Some(!parts), skipped, took, used_uj);
        let (candidate, word) = self.slots.kept.beside()?;
        let is_enough = word.compared + self.watch.untold() >= u64::from(word.limits.answers);
        is_enough.then(|| (candidate.slot.manifest, self.watch.take_untold()))
    }

    fn note(
        &mut self,
        model: &ModelName,
        agrees: Option<bool>,
        skipped: u64,
        took: Duration,
        used_uj: Option<u64>,
    ) {
        let Some(manifest) = self.slots.kept.beside().map(|(it, _)| it.slot.manifest) else { return };
        let digest = Hash::GENESIS;
        let parted =
            (agrees == Some(false)).then_some(Parted { input: digest, ours: digest, theirs: digest, at: 0 });
        let beside = Beside { manifest, agrees, parted, skipped, took, used_uj };
        self.disagreements += u64::from(self.watch.beside(model, &self.slots.kept, &beside).is_some());
    }

    /// What is over of how the model behaved; gives what the slots are to hear.
    pub(crate) fn tell(&mut self, model: &ModelName, now_ms: i64) -> Option<Event> {
        let serving = self.slots.run.serving.as_ref().filter(|serving| serving.since_ns.is_some());
        let manifest = serving.map(|serving| serving.manifest);
        let now = Now { mono_ns: self.mono_ns(now_ms), wall_ms: now_ms, boot: self.boot, kernel: None };
        let over = self.watch.tick(model, &self.slots.kept, manifest, &now, || None)?;
        let chances = std::mem::take(&mut self.chances);
        self.outbox.push(Told::Behaved(Box::new(over), chances));
        let count = self.watch.take_untold();
        self.slots.kept.beside().map(|(it, _)| Event::Compared(it.slot.manifest, count))
    }

    /// A report on its way to the hub, as the record has it.
    pub(crate) fn report(
        &mut self,
        model: &ModelName,
        report: &node::install::state::Report,
    ) -> anyhow::Result<()> {
        let install = serde_json::from_str(report::draft(model, report).body.get())?;
        // What the journal did not have before a cut is written again.
        let is_here = |told: &Told| matches!(told, Told::Installed(_, id) if *id == report.id);
        if !self.outbox.iter().any(is_here) {
            self.outbox.push(Told::Installed(Box::new(install), report.id.clone()));
        }
        Ok(())
    }

    /// Judges a document by itself; whether it took it.
    pub(crate) fn accept(&mut self, assignment: &Assignment, mutant: Option<Mutant>) -> bool {
        let labels = BTreeMap::new();
        let me = NodeFacts { name: &self.name, labels: &labels, facts: &self.facts };
        let version = u32::try_from(assignment.head.version).unwrap_or(u32::MAX);
        let is_meant = assignment.subject.has(me, u64::from(self.accepted));
        let is_way_back = assignment.models.is_empty();
        if !is_meant || version <= self.accepted || is_way_back && mutant == Some(Mutant::Keeps) {
            return false;
        }
        self.accepted = version;
        self.order = assignment.models.first().map(|ordered| Order {
            release: ordered.release,
            index: ordered.index.into(),
            variant: None,
            allow_rollback: ordered.allow_rollback,
            forgive: None,
            rollout: assignment.rollout.clone(),
            beside: ordered.shadow.filter(|_| mutant != Some(Mutant::Serves)).map(|limits| Word {
                word: format!("{}/{version}", assignment.id),
                limits,
                compared: 0,
                is_told: false,
            }),
            trust_sequence: 1,
        });
        true
    }

    /// The order that stands, offered again as at every look.
    pub(crate) fn standing(&self) -> Event {
        self.order.clone().map_or(Event::Withdrawn, Event::Ordered)
    }

    /// Whether the owner lets a release answer beside what runs.
    pub(crate) fn is_allowed(&self) -> bool {
        self.rules.beside.is_some()
    }

    /// What it says when it checks in about its slots of `model`, and the document `id`.
    pub(crate) fn check_in(&mut self, model: &ModelName, id: &str) -> &CheckIn {
        let Kept { current, candidate, .. } = &self.slots.kept;
        let extra = serde_json::Map::new;
        let state = SlotState {
            model: model.to_string(),
            current: current.as_ref().map(|slot| CurrentState {
                release: slot.release,
                variant: slot.variant.to_string(),
                manifest: slot.manifest.hash(),
                extra: extra(),
            }),
            previous: None,
            candidate: candidate.as_ref().map(|it| CandidateState {
                release: it.slot.release,
                phase: it.phase.as_str().to_owned(),
                misses: it.misses,
                extra: extra(),
            }),
            spare: None,
            safe: None,
            waits: None,
            extra: extra(),
        };
        self.checkin.slots = vec![state];
        let version = u64::from(self.accepted);
        let accepted = (version > 0).then(|| AcceptedVersion { id: id.to_owned(), version, rollout: None });
        self.checkin.accepted = accepted.into_iter().collect();
        &self.checkin
    }
}
