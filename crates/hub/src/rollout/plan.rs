//! A plan: what goes to whom, in which waves, through which gates. Made once, signed once, never changed.
//!
//! Everything a rollout may ever do follows from these fields. Its id is the hash of its bytes ([`super::text`]), so a
//! plan that says something else is another rollout. Integers only: what is signed has no fractions.

use std::fmt;

use package::name::ModelName;
use package::trust::hex::{from_hex, to_hex};
use package::trust::window::When;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::facts::FactName;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::select::Selector;
use wire::select::lex::BadSelector;
use wire::world::WallMs;

/// The form of plans that this hub writes and reads.
pub const FORM: u64 = 1;
/// Into how many places a ring divides all nodes.
pub const RING: u16 = 2048;
/// The most waves.
pub const WAVES_MAX: usize = 16;
/// The most targets: a member remembers in one bit each which it has committed.
pub const TARGETS_MAX: usize = 8;
/// The most nodes named as canaries.
pub const CANARIES_MAX: usize = 64;
/// The most labels with a budget of disruption.
pub const BUDGETS_MAX: usize = 8;
/// The most metrics that a gate compares.
pub const COMPARES_MAX: usize = 16;

/// The rollout's name: the first 16 bytes of SHA-256 over the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub [u8; 16]);

impl PlanId {
    /// The first half of a hash.
    pub fn of(hash: &Hash) -> PlanId {
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        PlanId(id)
    }

    /// Reads what `Display` writes: 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<PlanId> {
        let id = from_hex(text)?.try_into().ok().map(PlanId)?;
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&to_hex(&self.0))
    }
}

impl fmt::Debug for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanId({self})")
    }
}

impl Serialize for PlanId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PlanId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<PlanId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        PlanId::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a rollout's id is 32 lower-case hexadecimal digits"))
    }
}

/// What goes to whom, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The releases that go about.
    pub what: Vec<Target>,
    /// What nodes go back to; empty: a stop stops, and nobody goes back.
    pub revert: Vec<Target>,
    /// Which nodes are meant, in the language of [`wire::select`].
    pub group: String,
    /// Nodes that go first, by name, whether the group has them or not.
    pub canary: Vec<NodeId>,
    /// Growing rings; the last reaches [`RING`].
    pub waves: Vec<Wave>,
    /// The share that changes last, so that the others can be compared with it. Written for people: the waves have it.
    pub hold_out_percent: u8,
    /// How many nodes may be away at a time.
    pub budget: Vec<Disruption>,
    /// How fast documents go out.
    pub rate: Rate,
    /// When nodes may change.
    pub when: Option<When>,
    /// Whether it waits for others.
    pub lane: Lane,
    /// How long the documents of waves hold, in seconds.
    pub valid_s: u32,
    /// Whether a gate that stops also takes the release back.
    pub revert_on_stop: bool,
    /// How many others than its author must approve it.
    pub approvals: u8,
    /// Whether the releases may be older than what nodes have committed.
    pub allow_rollback: bool,
    /// Who made it.
    pub created_by: String,
    /// When, in whole seconds.
    pub created_ms: WallMs,
    /// Why.
    pub note: String,
    /// The version of the top-level targets that lists the releases.
    pub targets_version: u64,
    /// Makes another lot for every rollout; [`super::text::salt`].
    pub salt: [u8; 8],
}

/// A release of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The model.
    pub model: ModelName,
    /// Its release.
    pub release: u64,
    /// The digest of the release's index.
    pub index: Hash,
    /// The index's size in bytes.
    pub size: u64,
    /// The variant, if nodes may not choose.
    pub variant: Option<String>,
}

/// A part of all nodes, and what is asked before more of them change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The first place behind the ring, of [`RING`].
    pub to: u16,
    /// What must hold before the next wave.
    pub gate: Gate,
}

/// What must hold before the next wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// So many nodes must have answered.
    pub min_reports: u32,
    /// This share of those that answered must have the release, in parts of a million.
    pub success_ppm: u32,
    /// One failure more stops the rollout, whatever the share.
    pub max_failed: u32,
    /// More silent nodes than this keep the gate shut.
    pub max_unknown: u32,
    /// How long the wave is looked at once it is full, in seconds.
    pub soak_s: u32,
    /// How long silent nodes are waited for before a person is asked, in seconds.
    pub patience_s: u32,
    /// The share of nodes that may fail by themselves: what test A tests against.
    pub p0_ppm: u32,
    /// Figures that must not become worse than those of nodes not offered yet.
    pub compare: Vec<Compare>,
    /// How often all tests together may stop a good release; 0: nothing is tested, only counted.
    pub alpha_ppm: u32,
    /// Whether it opens by itself.
    pub then: Then,
}

/// A figure that must not become worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Its name, `p95_ms`.
    pub metric: String,
    /// The least change that matters, in parts of a million.
    pub min_effect_ppm: u32,
    /// Whether the gate may open if nobody reports it.
    pub optional: bool,
    /// Which way is worse.
    pub worse: Worse,
}

/// Which way a figure becomes worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    /// A larger one is worse.
    Up,
    /// A smaller one is worse.
    Down,
}

/// What a gate does that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The next wave opens.
    Continue,
    /// A person says when.
    Wait,
}

/// How many nodes that share a label's value may be away at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disruption {
    /// The label.
    pub by: String,
    /// How many may be in change or silent at once.
    pub max_unavailable: u32,
}

/// How fast documents go out. 0: as fast as nodes come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes of releases that may be on their way, as a mean over a minute.
    pub bytes_per_s: u64,
    /// Nodes in any minute.
    pub nodes_per_min: u32,
}

/// Whether a rollout waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// It does.
    Normal,
    /// Others wait for it; no window and no penalty box.
    Emergency,
}

/// Which of a plan's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The release, for the named nodes.
    Canary,
    /// The way back, for the named nodes.
    CanaryRevert,
    /// The release, for the ring of this wave, from 1.
    Wave(u32),
    /// The way back, for the ring of this wave.
    Revert(u32),
    /// The release, for the whole group, long after the rollout is done.
    Standing,
}

impl Kind {
    /// The version of the document. A node keeps one line of versions an id, so that nothing leads from a way back to a
    /// wave.
    pub fn version(self) -> u32 {
        match self {
            Kind::Canary => 1,
            Kind::CanaryRevert => 501,
            Kind::Wave(wave) => wave,
            Kind::Revert(wave) => 500 + wave,
            Kind::Standing => 1000,
        }
    }

    /// Whether it is a way back.
    pub fn is_revert(self) -> bool {
        matches!(self, Kind::CanaryRevert | Kind::Revert(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Canary => f.write_str("canary"),
            Kind::CanaryRevert => f.write_str("canary's way back"),
            Kind::Wave(wave) => write!(f, "wave {wave}"),
            Kind::Revert(wave) => write!(f, "way back of wave {wave}"),
            Kind::Standing => f.write_str("standing"),
        }
    }
}

/// A plan that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// A field that cannot be so.
    #[error("{field}: {expected} was expected")]
    Field {
        /// Which.
        field: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// A wave that does not grow.
    #[error("wave {wave} ends at {to}: each wave must end behind the one before, and the last at {RING}")]
    Wave {
        /// Which, from 1.
        wave: usize,
        /// Where it ends.
        to: u16,
    },
    /// The group is no expression.
    #[error("the group is no expression")]
    Group(#[from] BadSelector),
    /// The group asks for what only the hub knows.
    #[error("the group asks for {fact:?}, which a node cannot judge itself: write out what you mean by it")]
    HubFact {
        /// Which fact.
        fact: String,
    },
    /// The way back leads elsewhere.
    #[error("{model} goes about but has no way back, while others have one")]
    OneWay {
        /// The model.
        model: String,
    },
}

impl Plan {
    /// These releases for everybody, as fast as nodes come and with nothing asked: what other plans are made of. It has no waves
    /// and no salt yet.
    pub fn to_all(what: Vec<Target>, revert: Vec<Target>, created_by: &str, created_ms: WallMs) -> Plan {
        Plan {
            what,
            revert,
            group: "all".to_owned(),
            canary: Vec::new(),
            waves: Vec::new(),
            hold_out_percent: 0,
            budget: Vec::new(),
            rate: Rate::default(),
            when: None,
            lane: Lane::Normal,
            valid_s: 30 * 86_400,
            revert_on_stop: true,
            approvals: 0,
            allow_rollback: false,
            created_by: created_by.to_owned(),
            created_ms,
            note: String::new(),
            targets_version: 1,
            salt: [0; 8],
        }
    }

    /// When the documents of its waves end.
    pub fn expires_ms(&self) -> WallMs {
        self.created_ms + i64::from(self.valid_s) * 1000
    }

    /// The first wave: 0, the canaries, or 1.
    pub fn first_wave(&self) -> u32 {
        u32::from(self.canary.is_empty())
    }

    /// The last wave.
    pub fn last_wave(&self) -> u32 {
        u32::try_from(self.waves.len()).unwrap_or(u32::MAX)
    }

    /// The ring that is open in a wave; 0 while only canaries change.
    pub fn ring_to(&self, wave: u32) -> u16 {
        let at = usize::try_from(wave).unwrap_or(usize::MAX);
        let wave = at.checked_sub(1).map(|at| at.min(self.waves.len().saturating_sub(1)));
        wave.and_then(|at| self.waves.get(at)).map_or(0, |wave| wave.to)
    }

    /// The gate behind a wave.
    pub fn gate(&self, wave: u32) -> Gate {
        let at = usize::try_from(wave).unwrap_or(usize::MAX).checked_sub(1);
        match at.and_then(|at| self.waves.get(at)) {
            Some(wave) => wave.gate.clone(),
            None => Gate::of_canaries(self.canary.len()),
        }
    }

    /// The document that opens a wave.
    pub fn opens(&self, wave: u32) -> Kind {
        if wave == 0 { Kind::Canary } else { Kind::Wave(wave) }
    }

    /// What must be signed before a wave may open: its document and the way back.
    pub fn needed(&self, wave: u32) -> Vec<Kind> {
        let (forth, back) = if wave == 0 {
            (Kind::Canary, Kind::CanaryRevert)
        } else {
            (Kind::Wave(wave), Kind::Revert(wave))
        };
        if self.revert.is_empty() { vec![forth] } else { vec![forth, back] }
    }

    /// Whether all of it can be. A plan that is read or made passes here once.
    pub fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if self.what.is_empty() || self.what.len() > TARGETS_MAX {
            return wrong("what", "1 to 8 releases");
        }
        let models = |targets: &[Target]| {
            let mut models: Vec<ModelName> = targets.iter().map(|target| target.model.clone()).collect();
            models.sort();
            models.dedup();
            models
        };
        let what = models(&self.what);
        if what.len() != self.what.len() || models(&self.revert).len() != self.revert.len() {
            return wrong("what", "each model once");
        }
        if !self.revert.is_empty() {
            let back = models(&self.revert);
            if let Some(model) = what.iter().find(|model| !back.contains(model)) {
                return Err(BadPlan::OneWay { model: model.to_string() });
            }
            if back.len() != what.len() {
                return wrong("revert", "the models that go about, and no others");
            }
        }
        if self.waves.is_empty() || self.waves.len() > WAVES_MAX {
            return wrong("waves", "1 to 16 waves");
        }
        let mut before = 0;
        for (at, wave) in self.waves.iter().enumerate() {
            let is_last = at + 1 == self.waves.len();
            if wave.to <= before || wave.to > RING || is_last != (wave.to == RING) {
                return Err(BadPlan::Wave { wave: at + 1, to: wave.to });
            }
            before = wave.to;
            wave.gate.check()?;
        }
        if self.canary.len() > CANARIES_MAX {
            return wrong("canary", "at most 64 nodes");
        }
        if self.hold_out_percent > 50 {
            return wrong("hold_out_percent", "0 to 50");
        }
        if self.budget.len() > BUDGETS_MAX || self.budget.iter().any(|one| one.max_unavailable == 0) {
            return wrong("budget", "at most 8, each with max_unavailable of 1 or more");
        }
        if self.valid_s < 3600 {
            return wrong("valid_s", "an hour or more");
        }
        if self.created_ms % 1000 != 0 || self.created_ms < 0 {
            return wrong("created", "whole seconds");
        }
        if self.created_by.len() > 128 || self.note.len() > 4096 {
            return wrong("note", "at most 4096 bytes, and 128 of created_by");
        }
        if let Some(when) = &self.when {
            if when.days.is_empty() || !when.days.iter().all(|day| (1..=7).contains(day)) {
                return wrong("when.days", "days from 1, Monday, to 7");
            }
            if when.from_min >= 1440 || when.to_min > 1440 {
                return wrong("when", "from 00:00 to 23:59, to 00:00 to 24:00");
            }
            if self.lane == Lane::Emergency {
                return wrong("when", "no window in the emergency lane");
            }
        }
        let group = Selector::parse(&self.group)?;
        match group.names().into_iter().find(FactName::is_hubs) {
            Some(fact) => Err(BadPlan::HubFact { fact: fact.as_str().to_owned() }),
            None => Ok(()),
        }
    }
}

impl Gate {
    /// What named nodes are asked: all answer, none fails, half an hour.
    pub fn of_canaries(nodes: usize) -> Gate {
        Gate { min_reports: u32::try_from(nodes).unwrap_or(u32::MAX), soak_s: 1800, ..Gate::of_first_wave() }
    }

    /// Counting: 90 answers at the least, and no failure at all.
    pub fn of_first_wave() -> Gate {
        Gate {
            min_reports: 90,
            success_ppm: 1_000_000,
            max_failed: 0,
            max_unknown: 0,
            soak_s: 3600,
            patience_s: 72 * 3600,
            p0_ppm: 5000,
            compare: Vec::new(),
            alpha_ppm: 0,
            then: Then::Continue,
        }
    }

    /// Testing: of `members` nodes, 99 of 100 succeed, and no test says that it is worse.
    pub fn of_later_wave(members: u32, soak_s: u32) -> Gate {
        Gate {
            min_reports: (members / 2).clamp(1, 300),
            success_ppm: 990_000,
            max_failed: u32::MAX,
            max_unknown: members / 100,
            soak_s,
            patience_s: 24 * 3600,
            alpha_ppm: 500,
            compare: vec![Compare {
                metric: "p95_ms".to_owned(),
                min_effect_ppm: 100_000,
                optional: true,
                worse: Worse::Up,
            }],
            ..Gate::of_first_wave()
        }
    }

    fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if self.success_ppm > 1_000_000 {
            return wrong("success_ppm", "0 to 1000000");
        }
        if self.p0_ppm == 0 || self.p0_ppm >= 900_000 {
            return wrong("p0_ppm", "1 to 899999");
        }
        if self.alpha_ppm > 100_000 {
            return wrong("alpha_ppm", "0 to 100000");
        }
        if self.compare.len() > COMPARES_MAX {
            return wrong("compare", "at most 16 metrics");
        }
        let odd = |one: &Compare| one.metric.is_empty() || one.metric.len() > 64 || one.min_effect_ppm == 0;
        if self.compare.iter().any(odd) {
            return wrong("compare", "metrics with names of 1 to 64 bytes and an effect above 0");
        }
        Ok(())
    }
}
