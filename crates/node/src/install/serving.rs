//! What serves: how the current model is started, when it is given up for the previous one, and how a candidate on trial is judged. Pure.
//!
//! ```text
//! serve ─▶ loaded ─▶ answers: the start is proven
//!   ▲         └── on trial ─▶ committed, refused or missed
//!   └── did not load, or broke down: once more; after three starts without an answer ─▶ previous ─▶ none is left: safe, nothing is loaded
//! ```
//!
//! The turn of the slots, as far as it is about that. What always holds: what serves is the current model, in whose place its
//! spare may answer, or a candidate on trial; where nothing lets a model answer, none is loaded and no start is counted.

use std::time::Duration;

use package::digest::Digest;

use super::Turn;
use crate::install::event::Effect;
use crate::install::state::{Outcome, Phase, Serving, Slot};
use crate::install::trial::{Answer, Trial, Verdict, since};

/// So many starts without an answer, and the current model is given up.
pub(super) const UNPROVEN_STARTS_MAX: u32 = 3;

/// A model that is loaded for so long has started.
const STARTED_AFTER: Duration = Duration::from_secs(60);

impl Turn<'_> {
    /// What shall serve was loaded, or could not be.
    pub(super) fn loaded(&mut self, manifest: &Digest, result: Result<(), String>) {
        if !self.serves(manifest) {
            return;
        }
        match result {
            Ok(()) => {
                let now_ns = self.now.mono_ns;
                if let Some(serving) = &mut self.run.serving {
                    serving.since_ns = Some(now_ns);
                }
                if self.on_trial() {
                    self.run.trial = Some(Trial::begin(now_ns));
                    self.judge();
                } else if let Some(current) = self.kept.current.clone().filter(|it| it.golden.is_some()) {
                    // One answer proves this start, long before anybody asks.
                    self.effects.push(Effect::Exercise(current));
                }
            }
            Err(why) => self.broke(&format!("it cannot be loaded: {why}")),
        }
    }

    /// The disk is to blame, not the release: a candidate is brought again.
    pub(super) fn spoilt(&mut self, manifest: &Digest, why: &str) {
        if !self.serves(manifest) {
            return;
        }
        match self.candidate_in(manifest, Phase::Trial) {
            Some(candidate) => {
                candidate.phase = Phase::Staging;
                self.miss(&format!("the disk damaged it: {why}"));
            }
            None => self.broke(&format!("it cannot be loaded: {why}")),
        }
    }

    /// What serves does not: a candidate is refused, the current model started again.
    pub(super) fn broke(&mut self, why: &str) {
        if self.on_trial() {
            self.refuse(why);
        } else {
            self.effects.push(Effect::Tell(format!("the current model failed: {why}")));
            self.serve_current();
        }
    }

    pub(super) fn answered(&mut self, manifest: &Digest, answer: Answer) {
        if !self.serves(manifest) {
            return;
        }
        if let Some(trial) = &mut self.run.trial {
            trial.note(answer, self.now.mono_ns);
            self.judge();
        } else if answer.ok && !self.on_trial() {
            self.kept.unproven_starts = 0;
        }
    }

    /// Time goes by: a trial may be over or want a question, and a start may have proven itself.
    pub(super) fn attend(&mut self) {
        if self.on_trial() {
            self.judge();
            if let (Some(trial), Some(candidate)) = (&mut self.run.trial, &self.kept.candidate)
                && trial.wants_golden(&self.rules.trial, self.now.mono_ns)
            {
                self.effects.push(Effect::Exercise(candidate.slot.clone()));
            }
        } else if let Some(Serving { since_ns: Some(since_ns), .. }) = self.run.serving
            && since(since_ns, self.now.mono_ns) >= STARTED_AFTER
        {
            self.kept.unproven_starts = 0;
        }
    }

    fn judge(&mut self) {
        let Some(trial) = &self.run.trial else { return };
        match trial.verdict(&self.rules.trial, self.now.mono_ns) {
            Verdict::Open => {}
            Verdict::Passed => self.commit(),
            Verdict::Failed { why } => self.refuse(&why),
            Verdict::Undecided { why } => self.miss(&why),
        }
    }

    /// Loads the current model, unless it did so too often without an answer. What nothing lets answer is not loaded, and not counted.
    pub(super) fn serve_current(&mut self) {
        let may = self.kept.safe.is_none() && !self.run.unserved;
        let Some(current) = self.kept.current.clone().filter(|_| may) else {
            self.stop_serving();
            return;
        };
        if self.kept.unproven_starts >= UNPROVEN_STARTS_MAX {
            self.fall_back(&current);
            return;
        }
        self.kept.unproven_starts += 1;
        self.serve(current);
    }

    /// The current model does not start: the previous one is current again; if there is none, nothing is loaded.
    fn fall_back(&mut self, bad: &Slot) {
        let why = format!("it was loaded {UNPROVEN_STARTS_MAX} times without an answer");
        self.never_again(bad, &why);
        self.kept.unproven_starts = 0;
        match self.kept.previous.take() {
            Some(previous) => {
                self.send(self.of_slot(bad, Outcome::FellBack, &why));
                let candidate = self.kept.candidate.as_ref();
                if candidate.is_some_and(|candidate| candidate.slot.manifest == previous.manifest) {
                    self.give_up();
                }
                self.kept.current = Some(previous);
                self.serve_current();
                self.effects.push(Effect::Collect);
            }
            None => {
                self.send(self.of_slot(bad, Outcome::Safe, &why));
                self.effects.push(Effect::Tell(format!("no model is loaded: {why}")));
                self.kept.safe = Some(why);
                self.stop_serving();
                self.leave(Outcome::Compared, "nothing answers that it could be compared with");
            }
        }
    }

    /// A person takes the previous model back.
    pub(super) fn roll_back(&mut self) {
        let Some(previous) = self.kept.previous.take() else {
            self.effects.push(Effect::Tell("there is no previous model to go back to".into()));
            return;
        };
        self.give_up();
        self.kept.wanted = None;
        if let Some(bad) = self.kept.current.replace(previous) {
            let why = "a person took the previous model back";
            self.send(self.of_slot(&bad, Outcome::RolledBack, why));
            self.never_again(&bad, why);
        }
        self.kept.safe = None;
        self.kept.unproven_starts = 0;
        self.serve_current();
        self.effects.push(Effect::Collect);
    }

    /// A person has the current model tried once more.
    pub(super) fn leave_safe(&mut self) {
        if self.kept.safe.take().is_none() {
            return;
        }
        if let Some(current) = &self.kept.current {
            let manifest = current.manifest;
            self.kept.refused.retain(|refusal| refusal.manifest != manifest);
        }
        self.kept.unproven_starts = 0;
        if !self.on_trial() {
            self.serve_current();
        }
    }

    pub(super) fn serve(&mut self, slot: Slot) {
        self.run.trial = None;
        self.run.serving = Some(Serving { manifest: slot.manifest, since_ns: None });
        self.effects.push(Effect::Serve(slot));
    }

    fn stop_serving(&mut self) {
        self.run.trial = None;
        if self.run.serving.take().is_some() {
            self.effects.push(Effect::Unload);
        }
    }

    /// If a candidate serves that shall not, the current model does.
    pub(super) fn back_from(&mut self, slot: &Slot) {
        (self.run.retry_ns, self.run.beside_ns) = (None, None);
        if self.serves(&slot.manifest) {
            self.serve_current();
        }
    }

    pub(super) fn serves(&self, manifest: &Digest) -> bool {
        self.run.serving.as_ref().is_some_and(|serving| serving.manifest == *manifest)
    }

    /// Whether what serves is the candidate.
    fn on_trial(&self) -> bool {
        let candidate = self.kept.candidate.as_ref().filter(|candidate| candidate.phase == Phase::Trial);
        candidate.is_some_and(|candidate| self.serves(&candidate.slot.manifest))
    }
}
