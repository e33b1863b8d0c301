//! The spare of a model: a smaller variant of the current release, brought and proven ahead for the time when memory is short. Pure.
//!
//! ```text
//! current, at work, and nothing on its way ─▶ choose ─▶ staging ─▶ staged ─▶ proving ─▶ ready ─▶ answers, while memory is short
//!                                               └──────────── no good ──────────┴──▶ none for this release: told, and that is all
//! ```
//!
//! The turn of the slots, as far as it is about that. What always holds: a spare is of the current release and another manifest
//! than the current one's, or there is none; work on it rests whenever anything is on its way on this node; it is in nobody's
//! report, and its answers are nobody's figures. It makes room for whatever comes. A node that starts serves the current model.

use std::time::Duration;

use package::digest::Digest;

use super::{MISSES_MAX, Turn, short};
use crate::install::event::{Effect, Event, Fault, NoSpare, Proof};
use crate::install::state::{Phase, Slot, Spare, SparePhase};

/// How long a spare waits when something is in its way: nobody waits for it.
const AGAIN: Duration = Duration::from_secs(600);

impl Turn<'_> {
    /// Takes an event that is about the spare; gives back one that is not.
    pub(super) fn of_spare(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Quiet => self.see_to_spare(),
            Event::Busy => self.rest(),
            Event::SpareChosen { index, result } => self.spare_chosen(index, result),
            Event::Arrived(it) if self.is_spare(&it) => self.spare_arrived(),
            Event::TransferFailed(it, why) | Event::NoRoom(it, why) if self.is_spare(&it) => {
                self.spare_waits(&why);
            }
            Event::Verified(it, result) if self.is_spare(&it) => self.spare_verified(result),
            Event::Proved(it, proof) if self.is_spare(&it) => self.spare_proved(proof),
            Event::Loaded(it, result) if self.is_spare(&it) => self.spare_loaded(result),
            Event::Spoilt(it, why) if self.is_spare(&it) => {
                self.spare_missed(SparePhase::Staging, &format!("the disk damaged it: {why}"));
                self.current_again();
            }
            Event::Crashed(it, why) if self.is_spare(&it) => {
                self.no_spare(&format!("it broke down: {why}"));
                self.current_again();
            }
            // Nobody's figures.
            Event::Answered(it, _) if self.is_spare(&it) => {}
            Event::Loaded(it, Ok(())) if self.serves(&it) => {
                self.is_back();
                return Some(Event::Loaded(it, Ok(())));
            }
            Event::NoRoom(it, why) => return self.make_room(it, why),
            event => return Some(event),
        }
        None
    }

    /// After each event: a spare is of what is current now, or is none.
    pub(super) fn settle_spare(&mut self) {
        let current = self.kept.current.as_ref();
        let is_wanted = self.rules.spare;
        let is_of = |slot: &Slot| {
            current.is_some_and(|current| current.index == slot.index && current.manifest != slot.manifest)
        };
        let gone = self.kept.spare.take_if(|spare| !is_wanted || !is_of(&spare.slot));
        let is_past = |index: &Digest| current.is_none_or(|current| current.index != *index);
        drop(self.kept.spareless.take_if(|(index, _)| !is_wanted || is_past(index)));
        if gone.is_some() {
            self.rest();
            (self.run.spare.retry_ns, self.run.spare.waits) = (None, None);
            if !self.effects.contains(&Effect::Collect) {
                self.effects.push(Effect::Collect);
            }
        }
        if self.run.serving.is_none() {
            self.run.spare.over_ns = None;
        }
    }

    /// A new run: if the one before ended while the spare was proven, that was a miss, unless somebody asked for it.
    pub(super) fn spare_started(&mut self, was_asked: bool) {
        let Some(spare) = self.kept.spare.as_mut().filter(|spare| spare.phase == SparePhase::Proving) else {
            return;
        };
        spare.phase = SparePhase::Staged;
        if !was_asked {
            self.spare_missed(SparePhase::Staged, "the node stopped while it was proven");
        }
    }

    /// Whether a manifest is the spare's, and nothing else's.
    fn is_spare(&self, manifest: &Digest) -> bool {
        let is_candidate =
            self.kept.candidate.as_ref().is_some_and(|candidate| candidate.slot.manifest == *manifest);
        let is_it = self.kept.spare.as_ref().is_some_and(|spare| spare.slot.manifest == *manifest);
        is_it && !is_candidate && !self.serves(manifest)
    }

    /// The next piece of work, if there is one and nothing else to do: the current model is loaded and has answered.
    fn see_to_spare(&mut self) {
        let run = &self.run.spare;
        let waits = run.retry_ns.is_some_and(|retry_ns| retry_ns > self.now.mono_ns);
        let is_changing = self.kept.candidate.is_some() || self.kept.wanted.is_some();
        let is_settled = self.kept.unproven_starts == 0 && self.kept.safe.is_none();
        if !self.rules.spare || run.is_at_work || run.over_ns.is_some() || waits || is_changing || !is_settled
        {
            return;
        }
        let Some(current) = self.kept.current.clone() else { return };
        let serving = self.run.serving.as_ref().filter(|serving| serving.manifest == current.manifest);
        if serving.is_none_or(|serving| serving.since_ns.is_none()) {
            return;
        }
        let work = match &self.kept.spare {
            None if self.kept.spareless.is_some() => return,
            None => Effect::ChooseSpare(current),
            Some(Spare { phase: SparePhase::Staging, slot, .. }) => Effect::Transfer(slot.clone()),
            Some(Spare { phase: SparePhase::Staged, slot, .. }) => Effect::Verify(slot.clone()),
            Some(Spare { phase: SparePhase::Proving | SparePhase::Ready, .. }) => return,
        };
        (self.run.spare.retry_ns, self.run.spare.waits) = (None, None);
        self.run.spare.is_at_work = true;
        self.effects.push(work);
    }

    /// Work on it stops, through no fault of its own. What comes of it all the same is not heard.
    fn rest(&mut self) {
        if !std::mem::take(&mut self.run.spare.is_at_work) {
            return;
        }
        self.effects.push(Effect::Rest);
        if let Some(spare) = &mut self.kept.spare
            && spare.phase == SparePhase::Proving
        {
            spare.phase = SparePhase::Staged;
        }
    }

    fn spare_chosen(&mut self, index: Digest, result: Result<Slot, NoSpare>) {
        let is_its = self.kept.current.as_ref().is_some_and(|current| current.index == index);
        if !is_its || !self.run.spare.is_at_work || self.kept.spare.is_some() {
            return;
        }
        let result = result.and_then(|slot| match self.kept.refusal(&slot.manifest) {
            Some(refusal) => Err(NoSpare::Never(format!("{} was refused: {}", slot.variant, refusal.why))),
            None => Ok(slot),
        });
        match result {
            Ok(slot) => {
                self.effects.push(Effect::Transfer(slot.clone()));
                self.kept.spare = Some(Spare { slot, phase: SparePhase::Staging, misses: 0 });
            }
            Err(NoSpare::Never(why)) => {
                self.run.spare.is_at_work = false;
                self.kept.spareless = Some((index, short(&why)));
            }
            Err(NoSpare::NotNow(why)) => self.spare_waits(&why),
        }
    }

    fn spare_arrived(&mut self) {
        if let Some(spare) = self.spare_in(SparePhase::Staging) {
            spare.phase = SparePhase::Staged;
            let slot = spare.slot.clone();
            self.effects.push(Effect::Verify(slot));
        }
    }

    fn spare_verified(&mut self, result: Result<(), Fault>) {
        let Some(spare) = self.spare_in(SparePhase::Staged) else { return };
        match result {
            Ok(()) => {
                spare.phase = SparePhase::Proving;
                let slot = spare.slot.clone();
                self.effects.push(Effect::Prove(slot, self.rules.budget));
            }
            Err(Fault::Damaged(why)) => {
                self.spare_missed(SparePhase::Staging, &format!("the disk damaged it: {why}"));
            }
            Err(Fault::Unfit(why)) => self.no_spare(&why),
            Err(Fault::NotNow(why)) => self.spare_waits(&why),
        }
    }

    fn spare_proved(&mut self, proof: Proof) {
        let now_ms = self.now.wall_ms;
        let Some(spare) = self.spare_in(SparePhase::Proving) else { return };
        let manifest = spare.slot.manifest;
        match proof {
            Proof::Passed(measured) => {
                spare.phase = SparePhase::Ready;
                spare.slot.committed_ms = Some(now_ms);
                self.run.spare.is_at_work = false;
                self.remember(manifest, measured);
            }
            Proof::Failed { why, measured } => {
                self.remember(manifest, measured);
                self.no_spare(&why);
            }
            Proof::NotNow(why) => {
                spare.phase = SparePhase::Staged;
                self.spare_waits(&why);
            }
        }
    }

    /// It was loaded in the place of the current one, or could not be.
    fn spare_loaded(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.no_spare(&format!("it cannot be loaded: {why}"));
            self.current_again();
            return;
        }
        let Some((current, spare)) = self.kept.spare_at_hand() else { return };
        let why = format!(
            "memory is short: {} ({}) answers instead of {} ({})",
            spare.slot.variant, spare.slot.manifest, current.variant, current.manifest
        );
        if self.run.spare.over_ns.replace(self.now.mono_ns).is_none() {
            self.effects.push(Effect::Over(true, why));
        }
    }

    /// What shall serve was loaded, after a spare answered.
    fn is_back(&mut self) {
        if self.run.spare.over_ns.take().is_none() {
            return;
        }
        let serving = self.run.serving.as_ref().map(|serving| serving.manifest);
        let candidate = self.kept.candidate.as_ref().map(|candidate| &candidate.slot);
        let mut slots = candidate.into_iter().chain(&self.kept.current);
        let slot = slots.find(|slot| Some(slot.manifest) == serving);
        let which = slot.map_or_else(String::new, |slot| format!("{} ({}) ", slot.variant, slot.manifest));
        self.effects.push(Effect::Over(false, format!("{which}answers again")));
    }

    /// The current model answers again, whatever memory there is: what stood in for it is no good.
    fn current_again(&mut self) {
        if self.kept.current.as_ref().is_some_and(|current| self.serves(&current.manifest)) {
            self.serve_current();
        }
    }

    /// A candidate has no room: what only stands by makes some.
    fn make_room(&mut self, manifest: Digest, why: String) -> Option<Event> {
        let has_spare = self.kept.spare.is_some();
        if !has_spare || self.candidate_in(&manifest, Phase::Staging).is_none() {
            return Some(Event::TransferFailed(manifest, why));
        }
        self.kept.spare = None;
        self.effects.push(Effect::Tell("the spare makes room for the new release".to_owned()));
        self.effects.push(Effect::Collect);
        self.run.retry_ns = None;
        self.go_on();
        None
    }

    /// The spare, if somebody is at work on it in this phase.
    fn spare_in(&mut self, phase: SparePhase) -> Option<&mut Spare> {
        let is_at_work = self.run.spare.is_at_work;
        self.kept.spare.as_mut().filter(|spare| is_at_work && spare.phase == phase)
    }

    fn spare_waits(&mut self, why: &str) {
        self.run.spare.is_at_work = false;
        self.run.spare.retry_ns = Some(self.now.mono_ns.saturating_add(AGAIN.as_nanos() as u64));
        self.run.spare.waits = Some(short(why));
    }

    /// It stopped without a result: once it is tried again, from this phase.
    fn spare_missed(&mut self, phase: SparePhase, why: &str) {
        let Some(spare) = &mut self.kept.spare else { return };
        (spare.phase, spare.misses) = (phase, spare.misses + 1);
        if spare.misses >= MISSES_MAX {
            let why = format!("{} times without a result: {why}", spare.misses);
            self.no_spare(&why);
        } else {
            self.spare_waits(why);
        }
    }

    /// It is no good, and this release has no other.
    fn no_spare(&mut self, why: &str) {
        let Some(Spare { slot, .. }) = self.kept.spare.take() else { return };
        self.run.spare.is_at_work = false;
        let why = short(&format!("{} is no spare: {why}", slot.variant));
        self.effects.push(Effect::Tell(why.clone()));
        self.effects.push(Effect::Collect);
        self.kept.spareless = Some((slot.index, why));
    }
}
