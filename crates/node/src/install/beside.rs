//! What answers beside the current model: which order to do so is followed, when it is enough, and what sends it away. Pure.
//!
//! The turn of the slots, as far as it is about that. What always holds: it is a candidate in the phase `shadow` and never serves;
//! what is ordered to serve comes before it; an order that was followed to its end is not followed again; and where the owner of
//! the node lets nothing answer beside what runs, nothing does, whoever orders it.

use std::time::Duration;

use package::digest::Digest;
use wire::world::MonoNs;

use super::{Turn, short};
use crate::install::event::{Effect, Stood};
use crate::install::state::{Beside, Order, Outcome, Phase};
use crate::install::trial::since;

/// What had to make room comes again after so long.
const ASIDE: Duration = Duration::from_secs(600);

/// What answered beside the current one for so long does not bring the node down: earlier misses are forgotten.
const STEADY: Duration = Duration::from_secs(600);

/// Why an order to answer beside the current one is not followed, whoever gave it.
const FORBIDDEN: &str = "the owner of this node lets nothing answer beside what runs";

impl Turn<'_> {
    /// Whether an order to answer beside the current one is to be followed now: what is ordered to serve comes first.
    pub(super) fn begins(&mut self, order: &Order, beside: &Beside) -> bool {
        if self.rules.beside.is_none() {
            self.unfit(order, FORBIDDEN.to_owned());
            return false;
        }
        let kept = &self.kept;
        let is_it = |known: Option<&Beside>| known.is_some_and(|known| known.word == beside.word);
        let is_under_way = is_it(kept.beside().map(|(_, beside)| beside))
            || is_it(kept.wanted.as_ref().and_then(|wanted| wanted.beside.as_ref()));
        if kept.is_changing() || is_under_way || kept.compared.as_ref() == Some(&beside.word) {
            return false;
        }
        match &kept.current {
            Some(current) if kept.safe.is_none() => current.index != order.index,
            _ => {
                let why = format!("there is nothing that release {} could answer beside", order.release);
                self.effects.push(Effect::Tell(why));
                false
            }
        }
    }

    /// More answers of a candidate that answers beside the current one were compared: perhaps enough.
    pub(super) fn compared(&mut self, manifest: &Digest, count: u64) {
        let Some(candidate) = self.candidate_in(manifest, Phase::Shadow) else { return };
        let Some(beside) = &mut candidate.beside else { return };
        beside.compared = beside.compared.saturating_add(count);
        if beside.compared >= u64::from(beside.limits.answers) {
            let why = format!("{} answers were compared", beside.compared);
            self.leave_for_good(Outcome::Compared, &why);
        }
    }

    /// It has answered for long enough to be trusted with the node: earlier misses are forgotten.
    pub(super) fn steady(&mut self) {
        let is_steady = |since_ns: MonoNs| since(since_ns, self.now.mono_ns) >= STEADY;
        if self.run.beside_ns.is_some_and(is_steady)
            && let Some(candidate) = &mut self.kept.candidate
        {
            candidate.misses = 0;
        }
    }

    /// It cannot answer beside for now, or not at all.
    pub(super) fn stood(&mut self, manifest: &Digest, stood: Stood) {
        if self.candidate_in(manifest, Phase::Shadow).is_none_or(|candidate| candidate.beside.is_none()) {
            return;
        }
        match stood {
            Stood::Aside(why) => {
                self.effects
                    .push(Effect::Tell(format!("it does not answer beside for now: {}", short(&why))));
                self.run.beside_ns = None;
                self.retry_after(ASIDE);
            }
            Stood::Off(why) => self.leave_for_good(Outcome::Unfit, &why),
        }
    }

    pub(super) fn withdrawn(&mut self) {
        drop(self.kept.wanted.take_if(|order| order.beside.is_some()));
        self.leave(Outcome::Compared, "the order was withdrawn");
    }

    /// What an earlier run began, and the owner lets nothing answer beside the current one any more.
    pub(super) fn forbid(&mut self) {
        drop(self.kept.wanted.take_if(|order| order.beside.is_some()));
        if let Some((candidate, _)) = self.kept.beside() {
            // The order stands, and is not told of a second time.
            self.kept.unfit = Some((candidate.slot.index, FORBIDDEN.to_owned()));
        }
        self.leave(Outcome::Unfit, FORBIDDEN);
    }

    /// What answers beside the current one goes, and does not come again by the same order.
    fn leave_for_good(&mut self, outcome: Outcome, why: &str) {
        if let Some((_, beside)) = self.kept.beside() {
            self.kept.compared = Some(beside.word.clone());
        }
        self.leave(outcome, why);
    }

    /// What answers beside the current one goes, through no fault of its own.
    pub(super) fn leave(&mut self, outcome: Outcome, why: &str) {
        let Some(candidate) = self.kept.candidate.take_if(|candidate| candidate.beside.is_some()) else {
            return;
        };
        self.report(&candidate, outcome, why);
        (self.run.retry_ns, self.run.beside_ns) = (None, None);
        self.effects.push(Effect::Collect);
    }
}
