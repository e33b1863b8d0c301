//! Whether a node gets a document of this rollout now, and if not, why not: rules in a fixed order, each a reason that a
//! person can read on the node's page.
//!
//! Never outside the open ring, never beyond a budget or the rate. What was handed out is handed out again until the node
//! names its version, and that costs no budget a second time. Who was offered the release gets the way back, always.

use std::fmt;

use package::trust::assignment::Ring;
use wire::world::WallMs;

use crate::rollout::member::{Member, Running, Standing};
use crate::rollout::plan::{Kind, Lane, Plan, PlanId};
use crate::rollout::step::{Phase, Rollout};

/// The node that asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its [`place`] on the plan's ring.
    pub place: u16,
    /// Whether the plan's group has it, by the facts that it told.
    pub in_group: bool,
    /// Whether it understands documents of rollouts.
    pub understands: bool,
    /// Its row, if it was offered.
    pub member: Option<&'a Member>,
    /// The highest version that it accepted of the documents that it can get: the canaries' if it is named, else the
    /// plan's. 0: none.
    pub accepted: u32,
    /// What stands in its slots.
    pub slots: &'a [Running<'a>],
    /// Why nothing may be handed to it: it knows more than this hub, or is denied.
    pub conflict: Option<&'a str>,
    /// Another rollout of one of the models that is under way on it, and that rollout's lane.
    pub other: Option<(PlanId, Lane)>,
    /// Whether it has refused one of the releases before.
    pub refused: bool,
    /// Until when it is in the penalty box, for failures in any rollout; 0: it is not.
    pub box_until_ms: WallMs,
    /// For each of the plan's budgets: how many nodes that share the label's value with it are in change or silent.
    /// Nodes without the label share one budget.
    pub unavailable: &'a [u32],
    /// Bytes that it would fetch.
    pub bytes: u64,
}

/// What a node gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// This document, in this answer.
    Hand {
        /// Which.
        kind: Kind,
        /// The wave in which it counts.
        wave: u32,
        /// Whether it is the first: a row is to be made, before the answer leaves.
        first: bool,
    },
    /// Nothing.
    No(Why),
}

/// Why a node gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The rollout hands out nothing.
    Phase(&'static str),
    /// It has the document already.
    Told,
    /// It is not in the open ring.
    Ring {
        /// Its place.
        place: u16,
        /// Where the open ring ends.
        to: u16,
    },
    /// The group does not have it.
    Group,
    /// Its program is too old to understand.
    TooOld,
    /// It runs the release already.
    HadIt,
    /// It knows more than this hub, or is denied.
    Conflict(String),
    /// Another rollout is under way on it.
    Other(PlanId),
    /// It has refused the release before.
    Refused,
    /// It has failed lately.
    Box {
        /// Until then.
        until_ms: WallMs,
    },
    /// Too many that share a label with it are away.
    Budget {
        /// The label.
        by: String,
        /// How many are away.
        away: u32,
    },
    /// Enough went out in the last minute.
    Rate,
    /// It does not take part any more.
    Settled(Standing),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Phase(phase) => write!(f, "the rollout is {phase}"),
            Why::Told => f.write_str("it has the document"),
            Why::Ring { place, to } => write!(f, "its place is {place}, the ring that is open ends at {to}"),
            Why::Group => f.write_str("the group does not have it"),
            Why::TooOld => f.write_str("its version does not understand documents of rollouts"),
            Why::HadIt => f.write_str("it runs the release already"),
            Why::Conflict(why) => f.write_str(why),
            Why::Other(id) => write!(f, "rollout {id} is under way on it"),
            Why::Refused => f.write_str("it has refused this release before"),
            Why::Box { until_ms } => {
                write!(f, "it failed lately: not before {}", package::trust::time::format_utc(*until_ms))
            }
            Why::Budget { by, away } => write!(f, "{away} nodes of its {by} are away already"),
            Why::Rate => f.write_str("enough nodes got it in the last minute"),
            Why::Settled(standing) => write!(f, "it is {standing}"),
        }
    }
}

/// A node's place on a plan's ring, 0 to 2047.
pub fn place(plan: &Plan, node: &str) -> u16 {
    let hash = wire::hash::Hash::of(&[plan.salt.as_slice(), node.as_bytes()].concat());
    let [first, second, ..] = *hash.as_bytes();
    u16::from_be_bytes([first, second]) >> 5
}

/// How long a node stays away after its `failures`-th failure, in milliseconds: 2 h, 4 h, … at most 7 d.
pub fn box_ms(failures: u32) -> i64 {
    const HOUR_MS: i64 = 3_600_000;
    let hours = 1i64.checked_shl(failures.min(30)).unwrap_or(i64::MAX);
    if failures == 0 { 0 } else { hours.min(7 * 24) * HOUR_MS }
}

/// Judges a node that checked in.
pub fn offer(plan: &Plan, rollout: &Rollout, caller: &Caller<'_>, now_ms: WallMs) -> Offer {
    match judge(plan, rollout, caller, now_ms) {
        Ok((kind, wave, first)) => Offer::Hand { kind, wave, first },
        Err(why) => Offer::No(why),
    }
}

fn judge(
    plan: &Plan,
    rollout: &Rollout,
    caller: &Caller<'_>,
    now_ms: WallMs,
) -> Result<(Kind, u32, bool), Why> {
    let is_canary = is_canary(plan, caller.name);
    if let Some(why) = caller.conflict {
        return Err(Why::Conflict(why.to_owned()));
    }
    match (&rollout.phase, caller.member) {
        (Phase::Reverting | Phase::Reverted, Some(member)) => {
            return back(rollout, caller, member, is_canary);
        }
        // The standing document is the last wave's: it finds those that come later.
        (Phase::Running | Phase::Soaking | Phase::Held | Phase::Done, _) => {}
        (phase, _) => return Err(Why::Phase(phase.as_str())),
    }
    let wave = rollout.wave;
    let kind = match rollout.phase {
        Phase::Done => Kind::Standing,
        _ if wave == 0 || is_canary && caller.member.is_some_and(|member| member.wave == 0) => Kind::Canary,
        _ => Kind::Wave(wave),
    };
    if let Some(member) = caller.member {
        return match member.standing {
            Standing::Failed | Standing::Superseded | Standing::Succeeded => {
                Err(Why::Settled(member.standing))
            }
            _ if caller.accepted > 0 => Err(Why::Told),
            _ => Ok((kind, member.wave, false)),
        };
    }
    if kind == Kind::Canary {
        if !is_canary {
            return Err(Why::Ring { place: caller.place, to: 0 });
        }
    } else {
        let (place, to) = (caller.place, plan.ring_to(wave));
        if place >= to {
            return Err(Why::Ring { place, to });
        }
        if !caller.in_group {
            return Err(Why::Group);
        }
    }
    if !caller.understands {
        return Err(Why::TooOld);
    }
    if had_it(plan, caller.slots) {
        return Err(Why::HadIt);
    }
    match caller.other {
        Some((_, Lane::Normal)) if plan.lane == Lane::Emergency => {}
        Some((id, _)) => return Err(Why::Other(id)),
        None => {}
    }
    if caller.refused {
        return Err(Why::Refused);
    }
    if plan.lane == Lane::Normal && now_ms < caller.box_until_ms {
        return Err(Why::Box { until_ms: caller.box_until_ms });
    }
    for (budget, away) in plan.budget.iter().zip(caller.unavailable) {
        if *away >= budget.max_unavailable {
            return Err(Why::Budget { by: budget.by.clone(), away: *away });
        }
    }
    if !rollout.recent.allows(plan.rate, caller.bytes, now_ms) {
        return Err(Why::Rate);
    }
    Ok((kind, wave, true))
}

/// The way back, until the node names its version. A way back goes ahead of every budget.
fn back(
    rollout: &Rollout,
    caller: &Caller<'_>,
    member: &Member,
    is_canary: bool,
) -> Result<(Kind, u32, bool), Why> {
    let kind = if is_canary && member.wave == 0 { Kind::CanaryRevert } else { Kind::Revert(rollout.wave) };
    if caller.accepted >= kind.version() {
        return Err(Why::Told);
    }
    // Who was offered it, and neither took it nor runs it, has nothing to undo, and would refuse a way back.
    if member.standing == Standing::Superseded || member.standing == Standing::Back && caller.accepted == 0 {
        return Err(Why::Settled(member.standing));
    }
    if !rollout.released.contains(&kind) {
        return Err(Why::Phase(rollout.phase.as_str()));
    }
    Ok((kind, member.wave, false))
}

/// Whether the plan names this node as a canary.
pub fn is_canary(plan: &Plan, node: &str) -> bool {
    plan.canary.iter().any(|canary| canary.as_str() == node)
}

/// Whether all releases of the plan serve already.
pub fn had_it(plan: &Plan, slots: &[Running<'_>]) -> bool {
    plan.what.iter().all(|target| {
        slots.iter().any(|slot| slot.model == target.model.as_str() && slot.current == Some(target.release))
    })
}

/// The ring that a wave opens, as nodes judge it.
pub fn ring(plan: &Plan, wave: u32) -> Ring {
    Ring { salt: plan.salt.to_vec(), from: 0, to: u64::from(plan.ring_to(wave)) }
}
