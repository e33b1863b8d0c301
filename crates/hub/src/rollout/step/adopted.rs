//! A rollout whose hub was restored from a backup, once a person believes the nodes.

use std::collections::BTreeSet;

use crate::rollout::gate::Tests;
use crate::rollout::plan::Kind;
use crate::rollout::step::{Phase, Step, ways_back};

impl Step<'_> {
    /// Stands where nodes say that it stood. What a person had paused stays paused.
    pub(super) fn adopt(&mut self, named: &BTreeSet<Kind>, who: &str, why: &str) {
        let (plan, first) = (self.plan, self.plan.first_wave());
        let wave = |kind: &Kind| match kind {
            Kind::Canary | Kind::CanaryRevert => 0,
            Kind::Wave(wave) | Kind::Revert(wave) => *wave,
            Kind::Standing => plan.last_wave(),
        };
        let was_held = std::mem::take(&mut self.it.conflict) > 0;
        let phase = match (&self.it.phase, was_held) {
            (Phase::Paused { back }, true) => (**back).clone(),
            (phase, _) => phase.clone(),
        };
        let is_new = matches!(phase, Phase::Draft | Phase::Ready) && !named.is_empty();
        let top = named.iter().map(wave).max().unwrap_or(self.it.wave).max(self.it.wave);
        for wave in first..=top.min(plan.last_wave()) {
            self.release(plan.opens(wave));
        }
        let is_raised = is_new || top > self.it.wave;
        if is_raised {
            let it = &mut self.it;
            (it.wave, it.since_ms, it.full_ms) = (top, self.now_ms, None);
            (it.late, it.pardoned, it.skip_unknown, it.go) = (0, 0, false, false);
            (it.tests, it.seen) = (Tests::default(), None);
        }
        let goes_back = phase == Phase::Reverting || named.iter().any(|kind| kind.is_revert());
        for kind in
            named.iter().copied().chain(ways_back(plan, &self.it).filter(|_| goes_back).unwrap_or_default())
        {
            self.release(kind);
        }
        let phase = match phase {
            Phase::Paused { back } if is_raised && back.is_open() => {
                Phase::Paused { back: Box::new(Phase::Running) }
            }
            phase if phase.is_end() || matches!(phase, Phase::Paused { .. }) => phase,
            _ if goes_back => Phase::Reverting,
            _ if named.contains(&Kind::Standing) => Phase::Done,
            _ if is_raised => Phase::Running,
            phase => phase,
        };
        self.turn(phase, "rollout.adopt", who, why, None);
    }
}
