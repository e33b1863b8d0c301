//! How slots and trust stand, in the words of the check-in.

use package::name::ModelName;
use package::trust::Policy;
use package::trust::canonical::parse;
use package::trust::time::effective;
use package::trust::trusted::Trusted;
use serde_json::Map;
use wire::checkin::{AcceptedVersion, CandidateState, CurrentState, SlotState, SpareState, TrustFacts};
use wire::world::WallMs;

use crate::install::state::Kept;

/// One model's slots; `is_over`: whether the spare answers; `waits`: why what was ordered is not begun.
pub(super) fn slots_of(model: &ModelName, kept: &Kept, is_over: bool, waits: Option<String>) -> SlotState {
    SlotState {
        model: model.to_string(),
        current: kept.current.as_ref().map(|slot| CurrentState {
            release: slot.release,
            variant: slot.variant.to_string(),
            manifest: slot.manifest.hash(),
            extra: Map::new(),
        }),
        previous: kept.previous.as_ref().map(|slot| slot.release),
        candidate: kept.candidate.as_ref().map(|candidate| CandidateState {
            release: candidate.slot.release,
            phase: candidate.phase.as_str().to_owned(),
            misses: candidate.misses,
            extra: Map::new(),
        }),
        spare: kept.spare.as_ref().map(|spare| SpareState {
            variant: spare.slot.variant.to_string(),
            manifest: spare.slot.manifest.hash(),
            phase: spare.phase.as_str().to_owned(),
            answers: is_over,
            extra: Map::new(),
        }),
        safe: kept.safe.clone(),
        waits,
        extra: Map::new(),
    }
}

/// The most documents that are named.
const ACCEPTED_MAX: usize = 256;

/// The documents for many nodes that were accepted here, by id.
pub(super) fn accepted_of(trusted: &Trusted) -> Vec<AcceptedVersion> {
    let of_selectors = trusted.assignments.iter().filter_map(|(key, assigned)| {
        let id = key.strip_prefix("selector:")?.to_owned();
        Some(AcceptedVersion { id, version: assigned.version, rollout: rollout_of(&assigned.bytes) })
    });
    of_selectors.take(ACCEPTED_MAX).collect()
}

/// The rollout whose document this is, if it is one's. It was read when it was accepted.
fn rollout_of(document: &[u8]) -> Option<String> {
    let document = parse(document).ok()?;
    document.get("signed")?.get("rollout")?.as_text().map(str::to_owned)
}

/// What is trusted, and how far past its expiry the oldest of it is.
pub(super) fn trust_of(trusted: &Trusted, policy: &Policy, clock_ms: WallMs) -> TrustFacts {
    let mut floor = trusted.floor;
    floor.raise_offline(policy.built_ms);
    let now_ms = effective(policy.floor.then_some(floor), clock_ms).now_ms;
    let (root, timestamp) = (&trusted.root.body.head, trusted.timestamp.as_ref().map(|it| &it.body.head));
    let snapshot = trusted.snapshot.as_ref().map(|it| &it.body.head);
    let targets = trusted.targets.as_ref().map(|it| &it.body.head);
    let heads = [Some(root), timestamp, snapshot, targets];
    let first_ms = heads.into_iter().flatten().map(|head| head.expires_ms).min().unwrap_or(now_ms);
    TrustFacts {
        root: Some(root.version),
        timestamp: timestamp.map(|head| head.version),
        targets: targets.map(|head| head.version),
        stale_ms: now_ms.saturating_sub(first_ms).max(0),
        lost: None,
        extra: Map::new(),
    }
}
