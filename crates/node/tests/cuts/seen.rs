//! What the outside has seen of the node: it must never be taken back, whatever the disk forgets.

use std::collections::{BTreeMap, BTreeSet};

use node::install::state::{Kept, SparePhase};
use package::digest::Digest;
use package::disk::Disk;
use package::name::ModelName;
use package::trust::state::TrustState;
use package::trust::trusted::Trusted;

/// Something that must never happen has happened.
pub(crate) type Violation = String;

/// Fails with words unless something holds.
macro_rules! must {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use must;

/// All that was seen, over all lives.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// How often the process began.
    pub(crate) lives: u64,
    /// The newest slots of each model that anything was done by.
    pub(crate) slots: BTreeMap<ModelName, Kept>,
    /// What was trusted when it was last used.
    pub(crate) trusted: Option<Trusted>,
    /// Reports that were told, by id.
    pub(crate) owed: BTreeMap<String, String>,
    /// Manifests that run at the risk of the node.
    pub(crate) running: BTreeSet<Digest>,
    /// How often the process ended while they did.
    pub(crate) ends: BTreeMap<Digest, u32>,
    /// What the node did that it must not, whether or not the power went in the same instant.
    pub(crate) violation: Option<Violation>,
}

impl Seen {
    /// What is written now may be relied on.
    pub(crate) fn note<D: Disk>(&mut self, model: &ModelName, kept: &Kept, trust: &TrustState<D>) {
        for report in &kept.reports {
            let draft = node::install::report::draft(model, report);
            self.owed.insert(format!("{}-{model}", report.id), draft.body.get().to_owned());
        }
        self.slots.insert(model.clone(), kept.clone());
        // A candidate that does not run any more is no risk.
        let running = |kept: &Kept| {
            let candidate = kept.candidate.as_ref().filter(|candidate| candidate.phase.runs());
            let spare = kept.spare.as_ref().filter(|spare| spare.phase == SparePhase::Proving);
            let slots = [candidate.map(|it| &it.slot), spare.map(|it| &it.slot)];
            slots.into_iter().flatten().map(|slot| slot.manifest).collect::<Vec<_>>()
        };
        let running: BTreeSet<Digest> = self.slots.values().flat_map(running).collect();
        self.running.retain(|manifest| running.contains(manifest));
        self.trusted = Some(trust.trusted().clone());
    }

    /// The process ended, and nobody had asked it to.
    pub(crate) fn end(&mut self) {
        for manifest in std::mem::take(&mut self.running) {
            *self.ends.entry(manifest).or_default() += 1;
        }
    }

    /// Whether slots that were read are those that were seen, or what came next.
    pub(crate) fn check_slots(
        &self,
        model: &ModelName,
        kept: &Kept,
        forgives: bool,
    ) -> Result<(), Violation> {
        let Some(seen) = self.slots.get(model) else { return Ok(()) };
        must!(
            kept.reported >= seen.reported,
            "{model}: {} reports, {} were seen",
            kept.reported,
            seen.reported
        );
        must!(kept.current.is_some() || seen.current.is_none(), "{model}: the current model is lost");
        let manifest = |kept: &Kept| kept.current.as_ref().map(|slot| slot.manifest);
        let is_same = kept.reported != seen.reported || manifest(kept) == manifest(seen);
        must!(is_same, "{model}: a commit that was seen did not stay");
        for refusal in &seen.refused {
            let stays = forgives || kept.refusal(&refusal.manifest).is_some();
            must!(stays, "{model}: the refusal of {} is forgotten", refusal.manifest);
        }
        Ok(())
    }

    /// Whether what is trusted now is as new as what was used.
    pub(crate) fn check_trust(&self, now: &Trusted) -> Result<(), Violation> {
        let Some(seen) = &self.trusted else { return Ok(()) };
        let versions = |it: &Trusted| {
            let timestamp = it.timestamp.as_ref().map_or(0, |role| role.body.head.version);
            let snapshot = it.snapshot.as_ref().map_or(0, |role| role.body.head.version);
            let targets = it.targets.as_ref().map_or(0, |role| role.body.head.version);
            [("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)]
        };
        let (root, seen_root) = (now.root.body.head.version, seen.root.body.head.version);
        must!(root >= seen_root, "root {root}, {seen_root} was used");
        // A new root may make the online roles begin anew.
        for ((role, now), (_, seen)) in versions(now).into_iter().zip(versions(seen)) {
            must!(now >= seen || root > seen_root, "{role} {now}, {seen} was used");
        }
        for (model, release) in &seen.releases {
            must!(now.releases.get(model) >= Some(release), "the floor of {model} fell below {release}");
        }
        for (subject, seen) in &seen.assignments {
            let version = now.assignments.get(subject).map(|it| it.version);
            must!(version >= Some(seen.version), "the assignment {subject} fell below {}", seen.version);
        }
        must!(now.floor.offline_ms >= seen.floor.offline_ms, "the time floor fell");
        Ok(())
    }
}
