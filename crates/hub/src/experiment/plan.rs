//! A plan of an experiment: which releases are compared, on whom, by what, and when it ends. Made once, signed once,
//! never changed; integers only, as in [`crate::rollout::plan`].

use std::fmt;

use package::name::ModelName;
use package::trust::metadata::FormError;
use package::trust::shadow::Limits;
use serde::{Deserialize, Serialize};
use wire::facts::FactName;
use wire::select::Selector;
use wire::select::lex::BadSelector;
use wire::world::WallMs;

use crate::rollout::figures::METRICS;
use crate::rollout::plan::{RING, Rate, Target};

/// The form of plans that this hub writes and reads.
pub const FORM: u64 = 1;
/// The longest experiment: a quarter of a year.
pub const FOR_MAX_S: u32 = 92 * 86_400;
/// The largest least number of nodes that a release beside what runs may have to be told of by.
const NODES_MAX: u32 = 10_000;
/// How much longer its documents hold than it takes, at the least: nobody starts it in the second in which it is made.
pub const SPARE_S: u32 = 3600;

/// What is compared, and on whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is compared.
    pub what: What,
    /// Which nodes take part, in the language of [`wire::select`].
    pub group: String,
    /// How long it takes at most, from its start, in seconds.
    pub for_s: u32,
    /// When it is stopped for the harm that it does.
    pub harm: Harm,
    /// How fast documents go out.
    pub rate: Rate,
    /// Whether the releases may be older than what nodes have committed.
    pub allow_rollback: bool,
    /// How long its documents hold, in seconds.
    pub valid_s: u32,
    /// Who made it.
    pub created_by: String,
    /// When, in whole seconds.
    pub created_ms: WallMs,
    /// Why.
    pub note: String,
    /// The version of the top-level targets that lists the releases.
    pub targets_version: u64,
    /// Makes another lot for every experiment; [`super::text::salt`].
    pub salt: [u8; 8],
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Two releases, each on its part of the group.
    Arms(Arms),
    /// One release, that answers beside what runs and is seen by nobody.
    Shadow(Shadow),
}

/// Two releases, each on its part of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arms {
    /// The one release, for the places from 0.
    pub a: Target,
    /// The other, for the places behind.
    pub b: Target,
    /// The first place behind arm a, of [`RING`].
    pub a_to: u16,
    /// The first place behind arm b.
    pub b_to: u16,
    /// What decides.
    pub measure: Measure,
    /// What nodes run once it is decided.
    pub at_end: AtEnd,
    /// What nodes go back to.
    pub base: Target,
}

/// One release that answers beside what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Which.
    pub release: Target,
    /// The first place behind its part of the group, of [`RING`].
    pub to: u16,
    /// How much of what is asked it answers, and what that may cost a node.
    pub limits: Limits,
    /// What decides.
    pub bound: Bound,
}

/// How often a release may say something else than what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// In so many of a million answers.
    pub max_ppm: u32,
    /// So many answers of all nodes are enough, decided or not.
    pub answers: u32,
    /// So many nodes must have told before anything is decided, none of them of more answers than [`Bound::of_one`].
    pub nodes: u32,
    /// How often it may decide wrongly, however often one looks, in parts of a million.
    pub alpha_ppm: u32,
}

/// What decides between two releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// The figure's name, one of [`METRICS`].
    pub metric: String,
    /// Which way it is better.
    pub better: Better,
    /// The least difference that matters, in parts of a million: of the figure if it is a ratio, else on its own scale.
    pub min_effect_ppm: u32,
    /// After so many requests a node's figure is taken, once.
    pub answers: u32,
    /// How often it may decide wrongly, however often one looks, in parts of a million.
    pub alpha_ppm: u32,
    /// Against what a node's figure is held.
    pub against: Against,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A larger one is.
    Up,
    /// A smaller one is.
    Down,
}

/// Against what a node's figure is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// Its own on the last day before: machines that differ by far more than releases do are compared so.
    Itself,
    /// Nothing: the lot alone makes the arms alike.
    Others,
}

/// What nodes run after an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtEnd {
    /// What the plan says they go back to.
    Back,
    /// What they have.
    Stay,
}

/// When it is stopped for the harm that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harm {
    /// One failing node more than this in an arm stops it.
    pub max_failed: u32,
    /// The share of nodes that may fail by themselves; more of them stop it.
    pub p0_ppm: u32,
    /// How often that may be wrong; 0: nothing is tested, only counted.
    pub alpha_ppm: u32,
}

/// A part of the group that runs one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm<'a> {
    /// Its place among the arms.
    pub at: usize,
    /// What it runs.
    pub target: &'a Target,
    /// Its first place on the ring.
    pub from: u16,
    /// The first place behind it.
    pub to: u16,
}

/// What people call an arm of two.
pub fn arm_name(at: usize) -> &'static str {
    if at == 0 { "a" } else { "b" }
}

/// Which of a plan's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The release of arm a.
    A,
    /// The release of arm b.
    B,
    /// The release that answers beside what runs.
    Shadow,
    /// The way back, for all who took part.
    Back,
}

impl Which {
    /// The version of the document. Nothing leads from the way back to an arm, nor from one arm to the other: their rings
    /// do not meet.
    pub fn version(self) -> u32 {
        match self {
            Which::A | Which::Shadow => 1,
            Which::B => 101,
            Which::Back => 501,
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Which::A => "arm a",
            Which::B => "arm b",
            Which::Shadow => "shadow",
            Which::Back => "way back",
        })
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
    /// The group is no expression.
    #[error("the group is no expression")]
    Group(#[from] BadSelector),
    /// The group asks for what only the hub knows.
    #[error("the group asks for {fact:?}, which a node cannot judge itself: write out what you mean by it")]
    HubFact {
        /// Which fact.
        fact: String,
    },
}

impl Plan {
    /// When the documents of its arms end.
    pub fn expires_ms(&self) -> WallMs {
        self.created_ms + i64::from(self.valid_s) * 1000
    }

    /// The model that it is about.
    pub fn model(&self) -> &ModelName {
        match &self.what {
            What::Arms(arms) => &arms.base.model,
            What::Shadow(shadow) => &shadow.release.model,
        }
    }

    /// Its two arms, if it has two.
    pub fn two(&self) -> Option<&Arms> {
        match &self.what {
            What::Arms(arms) => Some(arms),
            What::Shadow(_) => None,
        }
    }

    /// The release that answers beside what runs, if it is about one.
    pub fn shadow(&self) -> Option<&Shadow> {
        match &self.what {
            What::Arms(_) => None,
            What::Shadow(shadow) => Some(shadow),
        }
    }

    /// All its releases.
    pub fn targets(&self) -> Vec<&Target> {
        match &self.what {
            What::Arms(arms) => vec![&arms.a, &arms.b, &arms.base],
            What::Shadow(shadow) => vec![&shadow.release],
        }
    }

    /// Its arms: they do not meet. What answers beside what runs is one.
    pub fn arms(&self) -> Vec<Arm<'_>> {
        match &self.what {
            What::Arms(Arms { a, b, a_to, b_to, .. }) => vec![
                Arm { at: 0, target: a, from: 0, to: *a_to },
                Arm { at: 1, target: b, from: *a_to, to: *b_to },
            ],
            What::Shadow(shadow) => vec![Arm { at: 0, target: &shadow.release, from: 0, to: shadow.to }],
        }
    }

    /// What people call an arm.
    pub fn arm_name(&self, at: usize) -> &'static str {
        if self.shadow().is_some() { "shadow" } else { arm_name(at) }
    }

    /// The arm of a place on the ring.
    pub fn arm_of(&self, place: u16) -> Option<Arm<'_>> {
        self.arms().into_iter().find(|arm| (arm.from..arm.to).contains(&place))
    }

    /// The document that gives an arm its release.
    pub fn opens(&self, arm: usize) -> Which {
        match (&self.what, arm) {
            (What::Shadow(_), _) => Which::Shadow,
            (What::Arms(_), 0) => Which::A,
            (What::Arms(_), _) => Which::B,
        }
    }

    /// All its documents, in the order in which they may be needed.
    pub fn documents(&self) -> Vec<Which> {
        self.arms().iter().map(|arm| self.opens(arm.at)).chain([Which::Back]).collect()
    }

    /// Whether nodes keep what they have once it is decided.
    pub fn stays(&self) -> bool {
        self.two().is_some_and(|arms| arms.at_end == AtEnd::Stay)
    }

    /// Whether all of it can be. A plan that is read or made passes here once.
    pub fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if self.arms().iter().any(|arm| arm.from >= arm.to || arm.to > RING) {
            return wrong("ring", "arms that each have a place, and end at 2048 at the latest");
        }
        match &self.what {
            What::Arms(arms) => arms.check()?,
            What::Shadow(shadow) => shadow.check()?,
        }
        if !(60..=FOR_MAX_S).contains(&self.for_s) {
            return wrong("for_s", "a minute to 92 days");
        }
        if self.valid_s < self.for_s + SPARE_S || self.valid_s > 2 * FOR_MAX_S {
            return wrong("valid_s", "an hour more than for_s at the least, half a year at most");
        }
        if !(1..900_000).contains(&self.harm.p0_ppm) || self.harm.alpha_ppm > 100_000 {
            return wrong("harm", "p0_ppm of 1 to 899999, alpha_ppm of 0 to 100000");
        }
        if self.created_ms.rem_euclid(1000) != 0 || self.created_ms < 0 {
            return wrong("created", "whole seconds since 1970");
        }
        if self.note.len() > 4096 || self.created_by.len() > 128 || self.created_by.is_empty() {
            return wrong("note", "at most 4096 bytes, and 1 to 128 of created_by");
        }
        let group = Selector::parse(&self.group)?;
        match group.names().into_iter().find(FactName::is_hubs) {
            Some(fact) => Err(BadPlan::HubFact { fact: fact.as_str().to_owned() }),
            None => Ok(()),
        }
    }
}

impl Arms {
    fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if [&self.a, &self.b].iter().any(|target| target.model != self.base.model) {
            return wrong("base", "the model that the arms run");
        }
        if self.a.index == self.b.index && self.a.variant == self.b.variant {
            return wrong("b", "another release than that of arm a");
        }
        self.measure.check()
    }
}

impl Shadow {
    fn check(&self) -> Result<(), BadPlan> {
        Limits::read(&self.limits.to_value()).map_err(|error| match error {
            FormError::Field { expected, .. } => BadPlan::Field { field: "limits", expected },
            _ => BadPlan::Field { field: "limits", expected: "the limits that nodes know" },
        })?;
        self.bound.check()
    }
}

impl Bound {
    /// How often a release may say something else.
    pub fn max(&self) -> f64 {
        f64::from(self.max_ppm) / 1e6
    }

    /// How often it may decide wrongly.
    pub fn alpha(&self) -> f64 {
        f64::from(self.alpha_ppm) / 1e6
    }

    /// The largest share of all answers that may be one node's. With the least number of nodes it is less than twice its part; of a
    /// node alone all are.
    pub fn of_one(&self) -> f64 {
        2.0 / (f64::from(self.nodes) + 1.0)
    }

    /// On whom a verdict must rest, in words.
    pub fn spread(&self) -> String {
        match self.nodes {
            1 => "1 node at least".to_owned(),
            nodes => format!(
                "{nodes} nodes at least, none with more than {:.1} % of the answers",
                self.of_one() * 100.0
            ),
        }
    }

    fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return wrong("nodes", "1 to 10000");
        }
        if !(1..1_000_000).contains(&self.max_ppm) {
            return wrong("max_ppm", "1 to 999999");
        }
        if !(1..=1_000_000_000).contains(&self.answers) {
            return wrong("answers", "1 to 1000000000");
        }
        if !(1..=200_000).contains(&self.alpha_ppm) {
            return wrong("alpha_ppm", "1 to 200000");
        }
        Ok(())
    }
}

impl Measure {
    /// The least difference that matters, on the scale on which figures are compared.
    pub fn effect(&self) -> f64 {
        let effect = f64::from(self.min_effect_ppm) / 1e6;
        if self.is_ratio() { effect.ln_1p() } else { effect }
    }

    /// Whether its differences are ratios: sizes are compared as logarithms.
    pub fn is_ratio(&self) -> bool {
        !(self.metric.ends_with("_share") || self.metric == "drift")
    }

    /// How often it may decide wrongly.
    pub fn alpha(&self) -> f64 {
        f64::from(self.alpha_ppm) / 1e6
    }

    fn check(&self) -> Result<(), BadPlan> {
        let wrong = |field, expected| Err(BadPlan::Field { field, expected });
        if !METRICS.contains(&self.metric.as_str()) {
            return wrong(
                "metric",
                "p50_ms, p95_ms, rss_bytes, joules, drift, failed_share or abstained_share",
            );
        }
        if self.min_effect_ppm == 0 {
            return wrong("min_effect_ppm", "an effect above 0");
        }
        if !(1..=1_000_000_000).contains(&self.answers) {
            return wrong("answers", "1 to 1000000000");
        }
        if !(1..=200_000).contains(&self.alpha_ppm) {
            return wrong("alpha_ppm", "1 to 200000");
        }
        Ok(())
    }
}
