//! What the threads of one node share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use package::digest::Digest;
use tokio::sync::Notify;
use wire::checkin::{AcceptedVersion, ModelFigures, SlotState, TrustFacts};
use wire::facts::Facts;
use wire::world::{ClockQuality, MonoNs};

use crate::flow::Flow;
use crate::inventory;
use crate::progress::Progress;
use crate::status::Status;

/// The program's version, as records name it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the threads of one node share.
pub(crate) struct Shared {
    /// How the node is.
    status: Mutex<Status>,
    /// When the pipeline last went round, by the monotonic clock.
    pub(crate) alive_ns: AtomicU64,
    /// When each thread last went round.
    pub(crate) progress: Progress,
    /// The journal shall go down to its floor.
    pub(crate) shrink_journal: AtomicBool,
    /// The journal shall give its page cache back.
    pub(crate) drop_caches: AtomicBool,
    /// The node shall stop.
    pub(crate) stopping: AtomicBool,
    /// Every source has ended and all that came of it is journalled.
    pub(crate) ended: AtomicBool,
    /// The blobs that the slots reach: what neighbours may fetch.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that reach them"))]
    pub(crate) reachable: Arc<RwLock<BTreeSet<Digest>>>,
    /// Rung when the hub should hear before the next check-in is due: the slots have changed.
    pub(crate) news: Arc<Notify>,
    clock_quality: Mutex<ClockQuality>,
    own: Mutex<Own>,
    /// A flow that shall take the place of the one that runs.
    next_flow: Mutex<Option<Box<Flow>>>,
}

/// What the node says of itself beside its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// The facts that stay.
    pub(crate) machine: Facts,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// Its labels: those of its settings, and others that the hub has set.
    pub(crate) labels: BTreeMap<String, String>,
    /// The documents that it accepted.
    pub(crate) accepted: Vec<AcceptedVersion>,
    /// How its models that come as packages behave.
    pub(crate) figures: Vec<ModelFigures>,
    /// Whether its flow comes as a release.
    pub(crate) takes_flow: bool,
    /// How far its clock is from the hub's, as far as was last seen.
    pub(crate) skew_ms: i64,
}

impl Shared {
    /// A node that has just begun.
    pub(crate) fn new(status: Status, now_ns: MonoNs) -> Shared {
        Shared {
            status: Mutex::new(status),
            alive_ns: AtomicU64::new(now_ns),
            progress: Progress::default(),
            shrink_journal: AtomicBool::new(false),
            drop_caches: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            reachable: Arc::default(),
            news: Arc::default(),
            clock_quality: Mutex::new(ClockQuality::Unchecked),
            own: Mutex::default(),
            next_flow: Mutex::default(),
        }
    }

    /// Has another flow take the place of the one that runs.
    pub(crate) fn next_flow(&self, flow: Flow) {
        *self.next_flow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(flow));
    }

    /// The flow that shall take its place, once.
    pub(crate) fn take_next_flow(&self) -> Option<Box<Flow>> {
        self.next_flow.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        // A panic while a snapshot was written leaves an old field behind, nothing worse.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The models that come as packages, and whom they are believed from: for whoever asks, and for the hub.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that tell"))]
    pub(crate) fn tell_slots(&self, slots: Vec<SlotState>, trust: Option<TrustFacts>) {
        let mut status = self.status();
        let is_news = have_settled(&status.slots, &slots);
        (status.slots, status.trust) = (slots, trust);
        drop(status);
        if is_news {
            self.news.notify_one();
        }
    }

    /// What the hub last said of its assignments: another number than before says that there may be others.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that ask"))]
    pub(crate) fn assignments_revision(&self) -> Option<u64> {
        self.status().uplink.as_ref().and_then(|uplink| uplink.assignments)
    }

    /// What the node says of itself beside its status.
    pub(crate) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Labels and facts as they are now: what selectors are judged on.
    pub(crate) fn said(&self) -> (BTreeMap<String, String>, Facts) {
        let slots = self.status().slots.clone();
        let Own { machine, data, labels, takes_flow, .. } = &*self.own();
        let mut facts = inventory::facts(machine, data, &slots, labels);
        if *takes_flow {
            inventory::say_can(&mut facts, "flow");
        }
        (labels.clone(), facts)
    }

    pub(crate) fn clock_quality(&self) -> ClockQuality {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_clock_quality(&self, quality: ClockQuality) {
        *self.clock_quality.lock().unwrap_or_else(PoisonError::into_inner) = quality;
    }
}

/// Whether a release was committed, refused or left, a model's slots are safe now or no more, or its spare answers or no more. How far a candidate has
/// come is no news: its records tell.
fn have_settled(before: &[SlotState], now: &[SlotState]) -> bool {
    let candidate = |slot: &SlotState| slot.candidate.as_ref().map(|candidate| candidate.release);
    let answers = |slot: &SlotState| slot.spare.as_ref().is_some_and(|spare| spare.answers);
    now.iter().any(|now| {
        let Some(before) = before.iter().find(|before| before.model == now.model) else {
            return now.current.is_some();
        };
        let ended = candidate(before).is_some() && candidate(before) != candidate(now);
        let said = |slot: &SlotState| (slot.current.clone(), slot.previous, slot.safe.clone(), answers(slot));
        ended || said(before) != said(now)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_news_when_a_release_is_in_its_place_or_is_not_to_be() {
        let slot = |current: Option<u64>, candidate: Option<(u64, &str)>| {
            let manifest = "00".repeat(32);
            let current =
                current.map(|release| json!({ "release": release, "variant": "a", "manifest": manifest }));
            let candidate =
                candidate.map(|(release, phase)| json!({ "release": release, "phase": phase, "misses": 0 }));
            let slot = json!({ "model": "tiny", "current": current, "candidate": candidate });
            vec![serde_json::from_value::<SlotState>(slot).unwrap()]
        };
        let check = |before: &[SlotState], now: &[SlotState], expected: bool| {
            assert_eq!(have_settled(before, now), expected, "{before:?} {now:?}");
        };
        let old = slot(Some(1), None);
        check(&old, &old, false);
        check(&old, &slot(Some(1), Some((2, "arriving"))), false);
        check(&slot(Some(1), Some((2, "arriving"))), &slot(Some(1), Some((2, "trial"))), false);
        check(&slot(Some(1), Some((2, "trial"))), &slot(Some(2), None), true);
        check(&slot(Some(1), Some((2, "trial"))), &old, true);
        check(&slot(Some(1), Some((2, "trial"))), &slot(Some(1), Some((3, "arriving"))), true);
        check(&[], &slot(None, Some((1, "arriving"))), false);
        check(&[], &old, true);
        let safe = vec![SlotState { safe: Some("nothing starts".to_owned()), ..old[0].clone() }];
        check(&old, &safe, true);
        check(&safe, &old, true);
        let spare = |answers: bool| {
            let spare =
                json!({ "variant": "b", "manifest": "00".repeat(32), "phase": "ready", "answers": answers });
            vec![SlotState { spare: serde_json::from_value(spare).unwrap(), ..old[0].clone() }]
        };
        check(&old, &spare(false), false);
        check(&spare(false), &spare(true), true);
        check(&spare(true), &spare(false), true);
    }
}
