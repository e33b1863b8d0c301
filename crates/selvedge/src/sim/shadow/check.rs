//! What must never be, looked at after every event of a simulated watch.
//!
//! 1. What answers beside what runs never serves: the same release serves from beginning to end.
//! 2. No budget is exceeded: in no life of a node does a comparison use more than its minutes give, but for its last answer; and
//!    the budget is the tighter of plan and owner.
//! 3. Only nodes that the plan means, and whose owners allow it, ever answer beside; each has a row at the hub.
//! 4. The hub counts every comparison once: it has what arrived while it listened, and of no node more than it asked for.
//! 5. A verdict rests on as many nodes as the plan asks for, on none of them too much.
//! 6. Who can be reached has nothing beside what runs when it is over.
//! 7. What is not over says what it waits for.

use anyhow::{Context as _, ensure};
use hub::experiment::plan::Plan;
use hub::experiment::shadow::Count;
use hub::experiment::step::{Experiment, Phase, Verdict};
use node::install::state::{Phase as Stage, Slots};
use package::trust::shadow::Limits;
use wire::world::MonoNs;

use crate::sim::shadow::machine::{Comparing, Machine};
use crate::sim::shadow::setup::BASE;

const MINUTE_NS: MonoNs = 60_000_000_000;

/// Looks at a node's slots.
pub(crate) fn slots(slots: &Slots) -> anyhow::Result<()> {
    let current = slots.kept.current.as_ref().context("1: no release serves any more")?;
    ensure!(current.release == BASE, "1: release {} serves", current.release);
    if let Some(serving) = &slots.run.serving {
        ensure!(serving.manifest == current.manifest, "1: something else is loaded than what serves");
    }
    let trial = slots.kept.candidate.as_ref().is_some_and(|it| it.phase == Stage::Trial);
    ensure!(!trial, "1: what answers beside is on trial");
    Ok(())
}

/// Looks at what a comparison begins with.
pub(crate) fn begins(plan: &Plan, machine: &Machine, is_meant: bool, held: &Limits) -> anyhow::Result<()> {
    let ordered = plan.shadow().context("a plan of another kind")?.limits;
    ensure!(is_meant, "3: it answers on a node that is not meant");
    let cap = machine.rules.beside.context("3: it answers where the owner forbids it")?;
    let within = held.share_ppm <= ordered.share_ppm.min(cap.share_ppm)
        && held.core_ppm <= ordered.core_ppm.min(cap.core_ppm)
        && at_most(held.joules, ordered.joules)
        && at_most(held.joules, cap.joules)
        && at_most(held.memory_bytes, ordered.memory_bytes)
        && at_most(held.memory_bytes, cap.memory_bytes);
    ensure!(within, "2: {held:?} is more than {ordered:?} and {cap:?} allow");
    Ok(())
}

fn at_most<T: Ord>(held: Option<T>, most: Option<T>) -> bool {
    most.is_none_or(|most| held.is_some_and(|held| held <= most))
}

/// Looks at what a comparison used so far.
pub(crate) fn budget(comparing: &Comparing, now_ns: MonoNs) -> anyhow::Result<()> {
    let Comparing { limits, began_ns, spent_ns, longest_ns, spent_uj, largest_uj, .. } = comparing;
    let minutes = now_ns.saturating_sub(*began_ns) / MINUTE_NS + 1;
    let core_ns = MINUTE_NS / 1_000_000 * u64::from(limits.core_ppm) * minutes + longest_ns;
    ensure!(*spent_ns <= core_ns, "2: {spent_ns} ns of a core in {minutes} minutes, {core_ns} may be");
    if let Some(joules) = limits.joules {
        let most = u64::from(joules) * 1_000_000 * minutes + largest_uj;
        ensure!(*spent_uj <= most, "2: {spent_uj} µJ in {minutes} minutes, {most} may be");
    }
    Ok(())
}

/// Looks at what the hub has; `heard`: what arrived while it listened.
pub(crate) fn hub(plan: &Plan, it: &Experiment, heard: &Count) -> anyhow::Result<()> {
    let shadow = plan.shadow().context("a plan of another kind")?;
    let all = &it.shadow.all;
    let same = all.compared == heard.compared && all.agreed == heard.agreed && all.skipped == heard.skipped;
    ensure!(same, "4: the hub has {all:?}, and heard {heard:?}");
    let most = u64::from(shadow.limits.answers);
    ensure!(it.shadow.most <= most, "4: {} answers of one node, {most} are enough", it.shadow.most);
    ensure!(it.phase == Phase::Ended || !it.needs.is_empty(), "7: {:?} waits for nothing", it.phase);
    if let Some(outcome) = &it.outcome
        && matches!(outcome.verdict, Verdict::Agrees | Verdict::Parts)
    {
        ensure!(it.shadow.is_spread(&shadow.bound), "5: {} of {:?}", outcome.verdict, it.shadow);
    }
    Ok(())
}

/// Looks at a node once it is over.
pub(crate) fn left(machine: &Machine, has_row: bool) -> anyhow::Result<()> {
    let was_beside = machine.compared > 0;
    ensure!(!was_beside || has_row, "3: {} answered beside and has no row", machine.name);
    let is_clean = machine.slots.kept.beside().is_none();
    ensure!(is_clean || !machine.presence.is_here, "6: it is over, and {} goes on", machine.name);
    Ok(())
}
