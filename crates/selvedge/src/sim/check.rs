//! What must never be, looked at after every event of a simulated rollout.
//!
//! 1. A node ran the release only inside the highest ring that was opened, in the group, or as a canary.
//! 2. A wave opened only one after the other, through a gate whose every condition held.
//! 3. Who ever ran it has a row: exposure is never counted too low.
//! 4. Who succeeded has told that it committed; silence is no success.
//! 5. What cannot go on names what it waits for.
//! 6. The rate holds in every minute.
//! 7. Rows and tallies agree, and no phase or wave changes without an entry for the audit log.
//! 8. Who can be reached is back when going back has ended.
//! 9. The same events give the same rollout.
//!
//! Node's versions never go back by the model's own rule. What may never be of several rollouts: `sim::tests::together`.

use std::collections::VecDeque;

use anyhow::{bail, ensure};
use hub::rollout::gate::Tally;
use hub::rollout::member::{Member, Standing};
use hub::rollout::plan::{Kind, Plan};
use hub::rollout::step::{Act, Event, Phase, Rollout, step};

/// What the checks remember.
#[derive(Default)]
pub(crate) struct Check {
    /// When documents went out first, of the last minute.
    offers: VecDeque<i64>,
    pub(crate) most_a_minute: u32,
    /// The rollout as it began, and all events; kept only where playing it again is cheap.
    log: Option<(Rollout, Vec<(Event, i64)>)>,
}

/// A rollout before a step.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    phase: Phase,
    wave: u32,
    revision: u64,
    pardoned: u32,
    skip_unknown: bool,
}

/// One node, its row, and the truth about it.
pub(crate) struct Truth<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) rollout: &'a Rollout,
    pub(crate) place: u16,
    pub(crate) in_group: bool,
    pub(crate) is_canary: bool,
    pub(crate) row: Option<&'a Member>,
    pub(crate) ever_ran: bool,
    /// Whether its record that it committed has arrived.
    pub(crate) told_committed: bool,
    pub(crate) runs_new: bool,
    pub(crate) can_be_reached: bool,
}

impl Check {
    /// `keep`: the rollout as it begins, if all events are to be played again at the end.
    pub(crate) fn new(keep: Option<&Rollout>) -> Check {
        Check { log: keep.map(|rollout| (rollout.clone(), Vec::new())), ..Check::default() }
    }

    pub(crate) fn before(&mut self, rollout: &Rollout, event: &Event, now_ms: i64) -> Before {
        if let Some((_, events)) = &mut self.log {
            events.push((event.clone(), now_ms));
        }
        Before::of(rollout)
    }

    /// A node is offered the release.
    pub(crate) fn offered(&mut self, plan: &Plan, now_ms: i64) -> anyhow::Result<()> {
        self.offers.push_back(now_ms);
        while self.offers.front().is_some_and(|at| *at <= now_ms - 60_000) {
            self.offers.pop_front();
        }
        let lately = u32::try_from(self.offers.len()).unwrap_or(u32::MAX);
        self.most_a_minute = self.most_a_minute.max(lately);
        let most = plan.rate.nodes_per_min;
        ensure!(most == 0 || lately <= most, "6: {lately} nodes in a minute, {most} may be");
        Ok(())
    }

    /// Plays all events again, if they were kept.
    pub(crate) fn again(&self, plan: &Plan, rollout: &Rollout) -> anyhow::Result<()> {
        let Some((begin, events)) = &self.log else { return Ok(()) };
        let mut again = begin.clone();
        for (event, at_ms) in events {
            again = step(plan, again, event.clone(), *at_ms).0;
        }
        ensure!(again == *rollout, "9: played again, it is {:?} and not {:?}", again.phase, rollout.phase);
        Ok(())
    }
}

impl Before {
    pub(crate) fn of(rollout: &Rollout) -> Before {
        Before {
            phase: rollout.phase.clone(),
            wave: rollout.wave,
            revision: rollout.revision,
            pardoned: rollout.pardoned,
            skip_unknown: rollout.skip_unknown,
        }
    }

    /// Looks at one step, and at what it says to the audit log.
    pub(crate) fn stepped(&self, plan: &Plan, rollout: &Rollout, acts: &[&Act]) -> anyhow::Result<()> {
        let before = self;
        ensure!(
            rollout.phase.is_end() || !rollout.needs.is_empty(),
            "5: {:?} waits for nothing",
            rollout.phase
        );
        if rollout.phase != before.phase || rollout.wave != before.wave {
            let told = acts.iter().any(|act| act.after == rollout.phase.as_str());
            ensure!(told, "7: {:?} became {:?} and nobody was told", before.phase, rollout.phase);
            ensure!(rollout.revision > before.revision, "7: a step without a revision");
        }
        if rollout.wave == before.wave {
            return Ok(());
        }
        ensure!(rollout.wave == before.wave + 1, "2: from wave {} to {}", before.wave, rollout.wave);
        let Some(gate) = rollout.evidence.last() else { bail!("2: wave {} without evidence", rollout.wave) };
        let passed = gate.wave == before.wave && gate.asked.iter().all(|one| one.holds);
        ensure!(passed, "2: wave {} opened on {gate:?}", rollout.wave);
        let (asked, tally) = (plan.gate(before.wave), tally(rollout, before.wave));
        let failed = tally.failed.saturating_sub(before.pardoned);
        ensure!(failed <= asked.max_failed, "2: wave {} opened after {failed} failures", rollout.wave);
        let silent = tally.unknown;
        ensure!(
            silent <= asked.max_unknown || before.skip_unknown,
            "2: wave {} past {silent} silent",
            rollout.wave
        );
        Ok(())
    }
}

fn tally(rollout: &Rollout, wave: u32) -> Tally {
    rollout.tally.get(wave as usize).copied().unwrap_or_default()
}

/// Looks at one node.
pub(crate) fn node(truth: &Truth<'_>) -> anyhow::Result<()> {
    let Truth { plan, rollout, place, .. } = *truth;
    if truth.ever_ran {
        let rings = rollout.released.iter().filter_map(|kind| match kind {
            Kind::Wave(wave) => Some(plan.ring_to(*wave)),
            _ => None,
        });
        let in_ring = rings.max().is_some_and(|to| place < to);
        ensure!(in_ring && truth.in_group || truth.is_canary, "1: a node outside ran it, place {place}");
        ensure!(truth.row.is_some(), "3: a node runs it and has no row");
    }
    if truth.row.is_some_and(|row| row.standing == Standing::Succeeded) {
        ensure!(truth.told_committed, "4: a node counts as good and never said so");
    }
    if rollout.phase == Phase::Reverted && truth.runs_new && truth.can_be_reached {
        bail!("8: a node that can be reached was not brought back");
    }
    Ok(())
}

/// Whether tallies say what rows say.
pub(crate) fn tallies<'a>(
    rollout: &Rollout,
    rows: impl IntoIterator<Item = &'a Member>,
) -> anyhow::Result<()> {
    let mut counted = vec![Tally::default(); rollout.tally.len()];
    for row in rows {
        match counted.get_mut(row.wave as usize) {
            Some(tally) => tally.moved(Standing::Waiting, row.standing),
            None => bail!("7: a row in wave {}", row.wave),
        }
    }
    ensure!(counted == rollout.tally, "7: rows give {counted:?}, the rollout has {:?}", rollout.tally);
    Ok(())
}
