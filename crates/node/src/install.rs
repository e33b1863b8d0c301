//! The slots of a model: how a release becomes the current one, and how the node gets back when it is no good. Pure.
//!
//! ```text
//! order ─▶ choose ─▶ staging ─▶ staged ─▶ proving ─▶ shadow? ─▶ trial ─▶ current; what was current is previous
//!                                  ▲          └──── result: no ──────┴──▶ refused: never tried again
//!                                  └── no result: a miss; the second one refuses
//! ```
//!
//! A release that was ordered to answer *beside* the current one goes the same way as far as `shadow`, stays there until it is
//! enough, and goes: it never serves. What is ordered to serve comes before it. Two stops within its first ten minutes refuse
//! it like any other; later ones are the machine's.
//!
//! This file leads a candidate along that way. What serves, how it starts and who takes its place is in `serving`; what answers
//! beside it, in `beside`; and a smaller variant of the current release may stand by for the time when memory is short: `spare`.
//!
//! [`step`] decides, a thin loop carries out. Its rule: a changed state is durable before any effect of it begins, so
//! [`Effect::Persist`] stands first; if it fails, the state is dropped with its effects, and the event is offered again. So
//! after a power cut the file tells what was going on, and [`Event::Started`] makes of it what is to be done. Whatever runs a
//! model answers with the manifest it was given, so that a late answer is nobody else's.

use std::time::Duration;

use package::digest::Digest;

use crate::install::event::{Agreement, Effect, Event, Fault, Now, Proof, Rules};
use crate::install::state::{
    Candidate, Kept, Measured, Order, Outcome, Phase, Refusal, Report, Run, Slot, Slots,
};

mod beside;
pub mod cap;
pub mod carry;
pub mod choose;
pub mod event;
pub mod keys;
pub mod known;
pub mod orders;
pub mod prove;
pub mod purse;
pub mod report;
pub mod reset;
mod serving;
#[cfg(feature = "language")]
pub mod shadow;
mod spare;
pub mod state;
pub mod trial;
pub mod verify;
pub mod weights;

/// So many stops without a result refuse a manifest.
const MISSES_MAX: u32 = 2;

/// How long a candidate waits after a miss, or when something is in its way.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Of so many manifests it is remembered what they cost here.
const MEASURED_MAX: usize = 32;

/// Why a model is not loaded that nothing here lets answer.
#[cfg(feature = "language")]
pub(crate) const UNSERVED: &str = "there is no server in which it could answer: add `[serve]` to node.toml";
#[cfg(not(feature = "language"))]
pub(crate) const UNSERVED: &str = "it is a language model, and this is a build without them";

/// The most characters of a reason that are kept.
const WHY_MAX: usize = 400;

/// What becomes of the slots, and what is to be done. If the slots' lasting half changed, the first effect is
/// [`Effect::Persist`].
pub fn step(slots: Slots, event: Event, now: &Now, rules: &Rules) -> (Slots, Vec<Effect>) {
    let before = slots.kept.clone();
    let mut turn = Turn { kept: slots.kept, run: slots.run, now, rules, effects: Vec::new() };
    turn.take(event);
    turn.settle_spare();
    let Turn { kept, run, mut effects, .. } = turn;
    if kept != before {
        effects.insert(0, Effect::Persist);
    }
    (Slots { kept, run }, effects)
}

struct Turn<'a> {
    kept: Kept,
    run: Run,
    now: &'a Now,
    rules: &'a Rules,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn take(&mut self, event: Event) {
        let Some(event) = self.of_spare(event) else { return };
        match event {
            Event::Started => self.started(),
            Event::Stopping => {
                self.kept.paused = true;
                // This start did not fail, if it was one.
                let counted = u32::from(!self.run.unserved);
                self.kept.unproven_starts = self.kept.unproven_starts.saturating_sub(counted);
            }
            Event::Ordered(order) => self.ordered(order),
            Event::Chosen { index, result } => self.chosen(index, result),
            Event::Arrived(manifest) => {
                if let Some(candidate) = self.candidate_in(&manifest, Phase::Staging) {
                    candidate.phase = Phase::Staged;
                    self.run.retry_ns = None;
                    self.go_on();
                }
            }
            Event::TransferFailed(manifest, why) => {
                if self.candidate_in(&manifest, Phase::Staging).is_some() {
                    self.wait(&why);
                }
            }
            Event::Verified(manifest, result) => self.verified(&manifest, result),
            Event::Proved(manifest, proof) => self.proved(&manifest, proof),
            Event::Shadowed(manifest, agreement) => self.shadowed(&manifest, agreement),
            Event::Compared(manifest, count) => self.compared(&manifest, count),
            Event::Stood(manifest, stood) => self.stood(&manifest, stood),
            Event::Withdrawn => self.withdrawn(),
            Event::Loaded(manifest, result) => self.loaded(&manifest, result),
            Event::Spoilt(manifest, why) => self.spoilt(&manifest, &why),
            Event::Answered(manifest, answer) => self.answered(&manifest, answer),
            Event::Crashed(manifest, why) => {
                let why = format!("it broke down: {why}");
                if self.candidate_in(&manifest, Phase::Shadow).is_some() {
                    self.refuse(&why);
                } else if self.serves(&manifest) {
                    self.broke(&why);
                }
            }
            Event::Journalled(id) => self.kept.reports.retain(|report| report.id != id),
            Event::RollBack => self.roll_back(),
            Event::Forgive(manifest) => self.kept.refused.retain(|refusal| refusal.manifest != manifest),
            Event::LeaveSafe => self.leave_safe(),
            Event::Tick => self.tick(),
            // They are about the spare.
            Event::NoRoom(..) | Event::Quiet | Event::Busy | Event::SpareChosen { .. } => {}
        }
    }

    /// What an earlier run left goes on; if it ended while a candidate ran, that was a miss, unless somebody asked for it.
    fn started(&mut self) {
        self.run = Run { unserved: self.run.unserved, ..Run::default() };
        let paused = std::mem::take(&mut self.kept.paused);
        for report in self.kept.reports.clone() {
            self.effects.push(Effect::Journal(report));
        }
        if self.rules.beside.is_none() {
            self.forbid();
        }
        if let Some(current) = &self.kept.current {
            self.effects.push(Effect::RaiseFloor(current.release));
        }
        match &mut self.kept.candidate {
            Some(candidate) if candidate.phase.runs() && paused => candidate.phase = Phase::Staged,
            Some(candidate) if candidate.phase.runs() => {
                let why = format!("the node stopped while it was in the phase {}", candidate.phase.as_str());
                self.miss(&why);
            }
            _ => {}
        }
        self.spare_started(paused);
        match &self.kept.safe {
            Some(why) => self.effects.push(Effect::Tell(format!("no model is loaded: {why}"))),
            None if self.run.unserved => self.effects.push(Effect::Tell(UNSERVED.to_owned())),
            None => self.serve_current(),
        }
        self.go_on();
        if let Some(order) = self.kept.wanted.clone() {
            self.effects.push(Effect::Choose(order));
        }
    }

    fn ordered(&mut self, order: Order) {
        if let Some(word) = &order.forgive
            && self.kept.forgiven.as_ref() != Some(word)
        {
            self.kept.refused.retain(|refusal| refusal.index != order.index);
            self.kept.forgiven = Some(word.clone());
        }
        if order.beside.as_ref().is_some_and(|beside| !self.begins(&order, beside)) {
            return;
        }
        if let Some(current) = &self.kept.current {
            if current.index == order.index {
                if self.kept.is_changing() {
                    self.kept.wanted = None;
                }
                if self.kept.beside().is_none() {
                    self.supersede();
                }
                return;
            }
            if order.release < current.release && !order.allow_rollback {
                let why =
                    format!("release {} is older than {}, which is here", order.release, current.release);
                self.effects.push(Effect::Tell(why));
                return;
            }
        }
        let comes = |it: &Candidate| it.beside.is_none() && it.slot.index == order.index;
        if self.kept.candidate.as_ref().is_some_and(comes) {
            self.kept.wanted = None;
            return;
        }
        self.kept.trust_sequence = self.kept.trust_sequence.max(order.trust_sequence);
        self.kept.wanted = Some(order.clone());
        self.effects.push(Effect::Choose(order));
    }

    fn chosen(&mut self, index: Digest, result: Result<Slot, String>) {
        let Some(order) = self.kept.wanted.take_if(|order| order.index == index) else { return };
        let slot = result.and_then(|slot| match self.kept.refusal(&slot.manifest) {
            Some(refusal) => Err(format!("{} was refused: {}", slot.variant, refusal.why)),
            None => Ok(slot),
        });
        let slot = match slot {
            Ok(slot) => slot,
            Err(why) => {
                self.unfit(&order, short(&why));
                return;
            }
        };
        let is_same = self.kept.current.as_ref().is_some_and(|current| current.manifest == slot.manifest);
        if let Some(beside) = order.beside.as_ref().filter(|_| is_same) {
            self.kept.compared = Some(beside.word.clone());
            self.unfit(
                &order,
                "its bytes are those of the current one: there is nothing to compare".to_owned(),
            );
            return;
        }
        self.kept.unfit = None;
        let before = self.give_up();
        if is_same {
            // The same bytes in another release: there is nothing to prove.
            self.send(self.of_slot(&slot, Outcome::Committed, ""));
            self.effects.push(Effect::RaiseFloor(slot.release));
            self.kept.current = Some(Slot { committed_ms: Some(self.now.wall_ms), ..slot });
        } else {
            let (phase, boot, beside) = (Phase::Staging, self.now.boot, order.beside);
            let (kernel, attempt, misses, proof) = (None, 0, 0, None);
            self.kept.candidate =
                Some(Candidate { slot, phase, boot, kernel, attempt, misses, proof, beside });
        }
        if let Some(before) = before {
            self.back_from(&before);
            self.effects.push(Effect::Collect);
        }
        self.go_on();
    }

    /// Nothing of a release can be installed; the hub is told once.
    fn unfit(&mut self, order: &Order, why: String) {
        self.effects.push(Effect::Tell(format!("release {} cannot be installed: {why}", order.release)));
        let told = Some((order.index, why));
        if self.kept.unfit != told {
            let why = told.as_ref().map_or("", |(_, why)| why);
            let report = self.of_release(order.release, order.index, Outcome::Unfit, why);
            self.send(Report { rollout: order.rollout.clone(), ..report });
            self.kept.unfit = told;
        }
    }

    fn verified(&mut self, manifest: &Digest, result: Result<(), Fault>) {
        let Now { boot, kernel, .. } = *self.now;
        let Some(candidate) = self.candidate_in(manifest, Phase::Staged) else { return };
        match result {
            Ok(()) => {
                candidate.phase = Phase::Proving;
                (candidate.boot, candidate.kernel) = (boot, kernel);
                candidate.attempt += 1;
                let slot = candidate.slot.clone();
                self.effects.push(Effect::Prove(slot, self.rules.budget));
            }
            Err(Fault::Damaged(why)) => {
                candidate.phase = Phase::Staging;
                self.miss(&format!("the disk damaged it: {why}"));
            }
            Err(Fault::Unfit(why)) => self.refuse(&why),
            Err(Fault::NotNow(why)) => self.wait(&why),
        }
    }

    fn proved(&mut self, manifest: &Digest, proof: Proof) {
        let Some(candidate) = self.candidate_in(manifest, Phase::Proving) else { return };
        match proof {
            Proof::Passed(measured) => {
                candidate.proof = Some(measured);
                let is_beside = candidate.beside.is_some();
                let can_compare = self.kept.current.is_some() && self.kept.safe.is_none();
                if is_beside && !can_compare {
                    self.leave(Outcome::Compared, "nothing answers that it could be compared with");
                } else if is_beside || self.rules.shadow > 0.0 && can_compare {
                    self.enter(Phase::Shadow);
                } else {
                    self.enter(Phase::Trial);
                }
            }
            Proof::Failed { why, measured } => {
                candidate.proof = Some(measured);
                self.refuse(&why);
            }
            Proof::NotNow(why) => {
                candidate.phase = Phase::Staged;
                self.wait(&why);
            }
        }
    }

    fn shadowed(&mut self, manifest: &Digest, Agreement { compared, agreed }: Agreement) {
        if self.candidate_in(manifest, Phase::Shadow).is_none_or(|candidate| candidate.beside.is_some()) {
            return;
        }
        if f64::from(agreed) >= f64::from(compared) * self.rules.agreement {
            self.enter(Phase::Trial);
        } else {
            self.refuse(&format!("{agreed} of {compared} answers were those of the current model"));
        }
    }

    /// A candidate runs: beside the current model, or instead of it.
    fn enter(&mut self, phase: Phase) {
        let Now { boot, kernel, .. } = *self.now;
        let Some(candidate) = &mut self.kept.candidate else { return };
        if phase == Phase::Trial && self.run.unserved {
            candidate.phase = Phase::Staged;
            return self.wait(UNSERVED);
        }
        candidate.phase = phase;
        (candidate.boot, candidate.kernel) = (boot, kernel);
        let slot = candidate.slot.clone();
        if phase == Phase::Shadow {
            let cap = self.rules.beside.unwrap_or_default();
            let limits = candidate.beside.as_ref().map(|beside| cap.within(&beside.limits));
            self.run.beside_ns = limits.map(|_| self.now.mono_ns);
            self.effects.push(Effect::Shadow(slot, limits));
            if let Some(beside) = candidate.beside.as_mut().filter(|beside| !beside.is_told) {
                beside.is_told = true;
                let candidate = candidate.clone();
                self.report(&candidate, Outcome::Beside, "");
            }
        } else {
            self.serve(slot);
        }
    }

    /// The one write that makes the candidate current.
    fn commit(&mut self) {
        let p95_ms = self.run.trial.take().and_then(|trial| trial.p95_ms());
        let Some(mut candidate) = self.kept.candidate.take() else { return };
        candidate.slot.committed_ms = Some(self.now.wall_ms);
        let proof = candidate.proof.unwrap_or_default();
        candidate.proof = Some(Measured { p95_ms: p95_ms.or(proof.p95_ms), ..proof });
        self.report(&candidate, Outcome::Committed, "");
        let current = self.kept.current.take();
        // What did not start is nothing to go back to.
        self.kept.previous = if self.kept.safe.take().is_some() { None } else { current };
        self.kept.unproven_starts = 0;
        self.effects.push(Effect::RaiseFloor(candidate.slot.release));
        self.effects.push(Effect::Collect);
        self.kept.current = Some(candidate.slot);
    }

    /// The candidate is never tried again.
    fn refuse(&mut self, why: &str) {
        let Some(candidate) = self.kept.candidate.take() else { return };
        self.report(&candidate, Outcome::Refused, why);
        self.never_again(&candidate.slot, why);
        self.back_from(&candidate.slot);
        self.effects.push(Effect::Collect);
    }

    /// The candidate stopped without a result: once it is tried again, from its checked bytes or from those that are missing.
    fn miss(&mut self, why: &str) {
        let Some(mut candidate) = self.kept.candidate.take() else { return };
        candidate.misses += 1;
        if candidate.misses >= MISSES_MAX {
            let why = format!("{} times without a result: {why}", candidate.misses);
            self.kept.candidate = Some(candidate);
            self.refuse(&why);
            return;
        }
        self.report(&candidate, Outcome::Missed, why);
        if candidate.phase.runs() {
            candidate.phase = Phase::Staged;
        }
        let slot = candidate.slot.clone();
        self.kept.candidate = Some(candidate);
        self.back_from(&slot);
        self.retry_later();
    }

    /// Something else shall serve than the candidate.
    fn supersede(&mut self) {
        if let Some(slot) = self.give_up() {
            self.back_from(&slot);
            self.effects.push(Effect::Collect);
        }
    }

    /// The candidate is none any more, through no fault of its own.
    fn give_up(&mut self) -> Option<Slot> {
        let candidate = self.kept.candidate.take()?;
        self.report(&candidate, Outcome::Superseded, "something else was ordered");
        (self.run.retry_ns, self.run.beside_ns) = (None, None);
        Some(candidate.slot)
    }

    fn tick(&mut self) {
        if self.run.retry_ns.is_some_and(|retry_ns| retry_ns <= self.now.mono_ns) {
            self.run.retry_ns = None;
            self.go_on();
        }
        self.steady();
        self.attend();
    }

    /// The candidate's next piece of work, unless it waits: for its time, or for somebody who lets it answer.
    fn go_on(&mut self) {
        let waits = self.run.retry_ns.is_some() || self.run.unserved;
        let Some(candidate) = self.kept.candidate.as_ref().filter(|_| !waits) else { return };
        let slot = candidate.slot.clone();
        match candidate.phase {
            Phase::Staging => self.effects.push(Effect::Transfer(slot)),
            Phase::Staged => self.effects.push(Effect::Verify(slot)),
            Phase::Shadow if candidate.beside.is_some() && self.run.beside_ns.is_none() => {
                self.enter(Phase::Shadow);
            }
            Phase::Proving | Phase::Shadow | Phase::Trial => {}
        }
    }

    fn wait(&mut self, why: &str) {
        self.effects.push(Effect::Tell(format!("the new release waits: {}", short(why))));
        self.retry_later();
    }

    fn retry_later(&mut self) {
        self.retry_after(RETRY_AFTER);
    }

    fn retry_after(&mut self, wait: Duration) {
        if self.kept.candidate.is_some() {
            self.run.retry_ns = Some(self.now.mono_ns.saturating_add(wait.as_nanos() as u64));
        }
    }

    fn never_again(&mut self, slot: &Slot, why: &str) {
        self.kept.refused.retain(|refusal| refusal.manifest != slot.manifest);
        let (manifest, index, at_ms) = (slot.manifest, slot.index, self.now.wall_ms);
        self.kept.refused.push(Refusal { manifest, index, why: short(why), at_ms });
    }

    fn candidate_in(&mut self, manifest: &Digest, phase: Phase) -> Option<&mut Candidate> {
        let candidate = self.kept.candidate.as_mut()?;
        (candidate.slot.manifest == *manifest && candidate.phase == phase).then_some(candidate)
    }

    fn report(&mut self, candidate: &Candidate, outcome: Outcome, why: &str) {
        if let Some(measured) = candidate.proof {
            self.remember(candidate.slot.manifest, measured);
        }
        let report = Report {
            phase: Some(candidate.phase),
            attempt: candidate.attempt,
            measured: candidate.proof.unwrap_or_default(),
            kernel_same: candidate.kernel.zip(self.now.kernel).map(|(began, now)| began == now),
            ..self.of_slot(&candidate.slot, outcome, why)
        };
        self.send(report);
    }

    /// What was measured of a manifest here is remembered.
    fn remember(&mut self, manifest: Digest, measured: Measured) {
        let all = &mut self.kept.measured;
        all.retain(|(known, _)| *known != manifest);
        all.push((manifest, measured));
        all.drain(..all.len().saturating_sub(MEASURED_MAX));
    }

    fn of_slot(&self, slot: &Slot, outcome: Outcome, why: &str) -> Report {
        Report {
            manifest: Some(slot.manifest),
            variant: Some(slot.variant.clone()),
            rollout: slot.rollout.clone(),
            ..self.of_release(slot.release, slot.index, outcome, why)
        }
    }

    fn of_release(&self, release: u64, index: Digest, outcome: Outcome, why: &str) -> Report {
        Report {
            id: format!("{}-{}", self.now.boot, self.kept.reported + 1),
            release,
            index,
            manifest: None,
            variant: None,
            outcome,
            phase: None,
            why: short(why),
            attempt: 0,
            measured: Measured::default(),
            rollout: None,
            kernel_same: None,
        }
    }

    /// A report is kept until the journal has it.
    fn send(&mut self, report: Report) {
        self.kept.reported += 1;
        self.kept.reports.push(report.clone());
        self.effects.push(Effect::Journal(report));
    }
}

/// A reason, bounded.
fn short(why: &str) -> String {
    why.chars().take(WHY_MAX).collect()
}

#[cfg(test)]
mod tests;
