//! What is played, and what comes of it.

use hub::rollout::plan::Plan;

use crate::sim::fleet::{Fleet, HOUR_MS, MINUTE_MS};
use crate::sim::release::Flaw;

/// What goes wrong by itself.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Faults {
    /// The share of calls, each way, that get lost.
    pub(crate) loss: f64,
    /// Power cuts a day and node.
    pub(crate) power_cuts: f64,
    /// The share of installs that fail whatever the release.
    pub(crate) by_itself: f64,
    /// Whether the hub restarts now and then, and people give orders as they come to mind.
    pub(crate) unrest: bool,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { loss: 0.01, power_cuts: 1.0 / 3.0, by_itself: 0.000_05, unrest: false }
    }
}

/// A mistake that a hub could make; each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The answer leaves before the row is durable, and the hub dies in between.
    OfferBeforeRow,
    /// Who is silent counts as good.
    SilentIsGood,
    /// The way back has a lower version.
    LowerWayBack,
    /// Ring and expression are judged by nobody.
    WideOpen,
}

/// What is played.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) fleet: Fleet,
    pub(crate) flaws: Vec<Flaw>,
    pub(crate) faults: Faults,
    /// How long a trial takes.
    pub(crate) trial_ms: i64,
    /// Ends as soon as this wave's gate passed.
    pub(crate) until_wave: Option<u32>,
    /// How long a run may take, in virtual time.
    pub(crate) most_ms: i64,
    /// A mistake on purpose.
    pub(crate) mutant: Option<Mutant>,
    /// Members by place, from [`Fleet::lots`].
    pub(crate) lots: Vec<(u16, usize)>,
}

impl Setup {
    /// A setup with everything usual.
    pub(crate) fn new(plan: Plan, fleet: Fleet, flaws: Vec<Flaw>) -> anyhow::Result<Setup> {
        let lots = fleet.lots(&plan)?;
        let (faults, trial_ms) = (Faults::default(), 15 * MINUTE_MS);
        let most_ms = 40 * 24 * HOUR_MS;
        Ok(Setup { plan, fleet, flaws, faults, trial_ms, until_wave: None, most_ms, mutant: None, lots })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// All waves passed, or all that were asked for.
    Done,
    /// A gate stopped it, in this wave.
    Stopped { wave: u32 },
    /// It waits for a person.
    Asked { about: String },
    /// A person gave it up.
    Aborted,
    /// The time was over.
    Late,
}

/// What came of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Night {
    pub(crate) seed: u64,
    pub(crate) end: End,
    /// Nodes that the release ever served on.
    pub(crate) exposed: u32,
    pub(crate) failed: u32,
    /// From its start.
    pub(crate) took_ms: i64,
    /// The most nodes that got it in one minute.
    pub(crate) most_a_minute: u32,
    /// When each wave opened, from the start.
    pub(crate) opened: Vec<(u32, i64)>,
    /// Members by time: offered, succeeded, failed.
    #[serde(skip)]
    pub(crate) course: Vec<(i64, [u32; 3])>,
    /// A line an event, if that was asked for.
    #[serde(skip)]
    pub(crate) lines: Vec<String>,
}
