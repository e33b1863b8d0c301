//! One node in one rollout: what it was offered, what became of it, and what is heard of it.
//!
//! A member exists from the moment it is offered, and is never forgotten: whoever was offered stays counted, wherever it
//! goes. A check-in is the quick view; only an install record, which comes exactly once, says that a node has the release
//! or refuses it.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::body::Install;
use wire::world::WallMs;

use crate::rollout::plan::{Plan, Target};

/// A member's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The wave that was open when it was offered; 0: a canary.
    pub wave: u32,
    /// Where it stands.
    pub standing: Standing,
    /// The highest version of the rollout's documents that it was handed.
    pub version: u32,
    /// One bit a target, in the plan's order: which it has committed.
    pub done: u8,
    /// When it was offered first.
    pub offered_ms: WallMs,
    /// When it last stood elsewhere.
    pub changed_ms: WallMs,
    /// In words, what is to be said of it.
    pub why: String,
    /// Whether the same kernel ran before and after a failure: `false` is a reboot, by the release or by the mains.
    pub kernel_same: Option<bool>,
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Not offered yet: it has no row.
    Waiting,
    /// The row is durable, the document in an answer.
    Offered,
    /// It names the version in a check-in.
    Taken,
    /// A candidate stands in its slots.
    Trying,
    /// It committed every release of the plan.
    Succeeded,
    /// It refused or fell back.
    Failed,
    /// It cannot: nothing fits, no room, no grant. Neither success nor failure.
    Unable,
    /// Silent since it was offered. Never a success.
    Unknown,
    /// Back at what it ran before.
    Back,
    /// Something newer took its place.
    Superseded,
}

/// All standings of rows, in the order in which they are counted.
pub const STANDINGS: [Standing; 9] = [
    Standing::Offered,
    Standing::Taken,
    Standing::Trying,
    Standing::Succeeded,
    Standing::Failed,
    Standing::Unable,
    Standing::Unknown,
    Standing::Back,
    Standing::Superseded,
];

impl Standing {
    /// The word in tables and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Offered => "offered",
            Standing::Taken => "taken",
            Standing::Trying => "trying",
            Standing::Succeeded => "succeeded",
            Standing::Failed => "failed",
            Standing::Unable => "unable",
            Standing::Unknown => "unknown",
            Standing::Back => "back",
            Standing::Superseded => "superseded",
        }
    }

    /// The inverse of [`Standing::as_str`].
    pub fn parse(word: &str) -> Option<Standing> {
        [Standing::Waiting].into_iter().chain(STANDINGS).find(|standing| standing.as_str() == word)
    }

    /// Whether it is on its way: it may change at any moment.
    pub fn is_pending(self) -> bool {
        matches!(self, Standing::Offered | Standing::Taken | Standing::Trying)
    }

    /// Whether the node runs the new release, or may come to run it.
    pub fn is_out(self) -> bool {
        self.is_pending() || matches!(self, Standing::Succeeded | Standing::Unable | Standing::Unknown)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is heard of a member.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard<'a> {
    /// A document of this version stands in the answer to its check-in, in this wave.
    Offered {
        /// The wave that is open.
        wave: u32,
        /// The document's version.
        version: u32,
    },
    /// It checked in.
    CheckIn {
        /// The highest version that it accepted of the rollout's documents; 0: none.
        accepted: u32,
        /// What stands in its slots.
        slots: &'a [Running<'a>],
        /// Whether the rollout goes back.
        reverting: bool,
    },
    /// An install record of it was stored, for the first time.
    Installed {
        /// The record.
        install: &'a Install,
        /// Whether the same kernel ran before and after, if the node could tell.
        kernel_same: Option<bool>,
    },
    /// The release answers beside the one that runs, as it was ordered to.
    Beside,
    /// It missed three invitations.
    Silent,
    /// It follows a newer rollout of the same model.
    Superseded,
}

/// What stands in the slots of one model, as a check-in tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running<'a> {
    /// The model.
    pub model: &'a str,
    /// The release that serves.
    pub current: Option<u64>,
    /// The release that may serve.
    pub candidate: Option<u64>,
}

/// A member stands elsewhere than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// The wave in which it was offered.
    pub wave: u32,
    /// Where it stood; `Waiting` if it was just offered.
    pub from: Standing,
    /// Where it stands.
    pub to: Standing,
    /// Bytes that it is about to fetch; 0 unless it was just offered.
    pub bytes: u64,
}

/// What becomes of a member by what is heard of it. `None` for `member`: it has no row yet, and only an offer makes one.
pub fn hear(
    plan: &Plan,
    member: Option<Member>,
    heard: &Heard<'_>,
    now_ms: WallMs,
) -> Option<(Member, Option<Happened>)> {
    hear_of(&plan.what, member, heard, now_ms)
}

/// The same, of a member that shall come to run all of `what`.
pub fn hear_of(
    what: &[Target],
    member: Option<Member>,
    heard: &Heard<'_>,
    now_ms: WallMs,
) -> Option<(Member, Option<Happened>)> {
    let Some(mut member) = member else {
        let Heard::Offered { wave, version } = *heard else { return None };
        let member = Member {
            wave,
            standing: Standing::Offered,
            version,
            done: 0,
            offered_ms: now_ms,
            changed_ms: now_ms,
            why: String::new(),
            kernel_same: None,
        };
        let happened = Happened { wave, from: Standing::Waiting, to: Standing::Offered, bytes: 0 };
        return Some((member, Some(happened)));
    };
    let from = member.standing;
    let to = match heard {
        Heard::Offered { version, .. } => {
            member.version = member.version.max(*version);
            from
        }
        Heard::CheckIn { accepted, slots, reverting } => said(what, &member, *accepted, slots, *reverting),
        Heard::Installed { install, kernel_same } => recorded(what, &mut member, install, *kernel_same),
        Heard::Beside if from.is_pending() || matches!(from, Standing::Unknown | Standing::Unable) => {
            member.done = 1;
            Standing::Succeeded
        }
        Heard::Silent if from.is_pending() => Standing::Unknown,
        Heard::Superseded if from.is_pending() || from == Standing::Unknown => Standing::Superseded,
        Heard::Beside | Heard::Silent | Heard::Superseded => from,
    };
    if to == from {
        return Some((member, None));
    }
    (member.standing, member.changed_ms) = (to, now_ms);
    let happened = Happened { wave: member.wave, from, to, bytes: 0 };
    Some((member, Some(happened)))
}

/// What a check-in shows.
fn said(what: &[Target], member: &Member, accepted: u32, slots: &[Running<'_>], reverting: bool) -> Standing {
    let of = |target: &Target| slots.iter().find(|slot| slot.model == target.model.as_str());
    let runs = what.iter().any(|it| of(it).is_some_and(|slot| slot.current == Some(it.release)));
    let tries = what.iter().any(|it| of(it).is_some_and(|slot| slot.candidate == Some(it.release)));
    let has_way_back = (501..1000).contains(&accepted);
    let goes_back = has_way_back || reverting && accepted == 0;
    match member.standing {
        Standing::Back if !goes_back && accepted > 0 && (runs || tries) => Standing::Trying,
        Standing::Failed | Standing::Superseded | Standing::Back => member.standing,
        _ if goes_back && !runs && !tries => Standing::Back,
        Standing::Succeeded => Standing::Succeeded,
        _ if tries => Standing::Trying,
        Standing::Trying | Standing::Unable => member.standing,
        _ if accepted > 0 => Standing::Taken,
        _ => Standing::Offered,
    }
}

/// What an install record proves.
fn recorded(what: &[Target], member: &mut Member, install: &Install, kernel_same: Option<bool>) -> Standing {
    let same = |it: &Target| {
        it.model.as_str() == install.model && it.release == install.release && it.index == install.index
    };
    let Some(target) = what.iter().position(same) else { return member.standing };
    let bit = 1u8.checked_shl(u32::try_from(target).unwrap_or(u32::MAX)).unwrap_or(0);
    let all = u8::MAX >> (8 - what.len().clamp(1, 8));
    let mut note = |why: &str| {
        member.why = why.chars().take(256).collect();
        member.kernel_same = kernel_same;
    };
    match install.outcome.as_str() {
        "committed" => {
            member.done |= bit;
            match member.standing {
                // A failure is evidence, and stays it: a later success takes a person who forgave.
                Standing::Failed | Standing::Superseded => member.standing,
                _ if member.done == all => Standing::Succeeded,
                Standing::Unknown | Standing::Back => Standing::Trying,
                standing => standing,
            }
        }
        "refused" | "fell_back" | "safe" => {
            member.done &= !bit;
            note(&format!("{}: {}", install.outcome, install.why));
            if member.standing == Standing::Superseded { member.standing } else { Standing::Failed }
        }
        "unfit" => {
            note(&install.why);
            let settled =
                matches!(member.standing, Standing::Failed | Standing::Succeeded | Standing::Superseded);
            if settled { member.standing } else { Standing::Unable }
        }
        "missed" => {
            note(&format!("missed once: {}", install.why));
            if member.standing.is_pending() || member.standing == Standing::Unknown {
                Standing::Trying
            } else {
                member.standing
            }
        }
        // Sent back by a person: not the release's fault, and not a success any more.
        "rolled_back" => {
            member.done &= !bit;
            if member.standing == Standing::Succeeded { Standing::Unable } else { member.standing }
        }
        "superseded" if member.standing.is_pending() => Standing::Superseded,
        _ => member.standing,
    }
}
