//! Who may hold a call until there is news, and for whom there is some. What is held only rings a bell for an ordinary
//! check-in: nothing is told by it, so dropping it loses nothing.
//!
//! A permit is given with the answer to a check-in, before that answer leaves; news that comes between the answer and the call
//! is kept for it. Permits are few, because each may become a connection that stays open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::id::NodeId;

/// How long a call is held at most.
pub const HOLD_MS: u64 = 240_000;

/// A permit is good for so long beyond the time at which its node was asked to come again.
const LATE_MS: u64 = 30_000;

/// The permits.
#[derive(Debug)]
pub struct Waits {
    max: usize,
    places: Mutex<HashMap<NodeId, Place>>,
}

#[derive(Debug)]
struct Place {
    /// The node's number in the store.
    no: i64,
    /// What the hub had for the node when it last answered.
    revision: u64,
    /// Until when the permit is good, by the clock that never goes back.
    until_ms: u64,
    is_rung: bool,
    bell: Arc<Notify>,
}

/// What a held call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// There is something: check in.
    News {
        /// What the hub had for the node at its last check-in.
        revision: u64,
    },
    /// The node has no permit, or has it no more.
    NoPermit,
}

impl Waits {
    /// At most so many permits.
    pub fn new(max: usize) -> Waits {
        Waits { max, places: Mutex::default() }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<NodeId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everybody of a fleet of this size may hold a call.
    pub fn has_room_for_all(&self, nodes: u64) -> bool {
        nodes <= self.max as u64
    }

    /// Permits a node to wait, if there is room: it is answered now, up to this `revision`, and comes again in `next_ms`.
    pub fn permit(&self, node: &NodeId, no: i64, revision: u64, next_ms: u64, now_ms: u64) -> bool {
        let mut places = self.places();
        if places.len() >= self.max && !places.contains_key(node) {
            places.retain(|_, place| {
                let is_good = now_ms < place.until_ms;
                if !is_good {
                    place.bell.notify_one();
                }
                is_good
            });
            if places.len() >= self.max {
                return false;
            }
        }
        let until_ms = now_ms.saturating_add(next_ms).saturating_add(next_ms / 2).saturating_add(LATE_MS);
        let place = places.entry(node.clone()).or_insert_with(|| Place {
            no,
            revision,
            until_ms,
            is_rung: false,
            bell: Arc::default(),
        });
        if std::mem::take(&mut place.is_rung) {
            // What it was rung for stands in this answer.
            place.bell = Arc::default();
        }
        (place.no, place.revision, place.until_ms) = (no, revision, until_ms);
        true
    }

    /// Takes a permit back; what is held by it ends.
    pub fn withdraw(&self, node: &NodeId) {
        if let Some(place) = self.places().remove(node) {
            place.bell.notify_one();
        }
    }

    /// Everybody who would hear of news now, with their numbers in the store.
    pub fn listening(&self) -> Vec<(NodeId, i64)> {
        let places = self.places();
        let silent = places.iter().filter(|(_, place)| !place.is_rung);
        silent.map(|(node, place)| (node.clone(), place.no)).collect()
    }

    /// Whether nobody has a permit.
    pub fn is_empty(&self) -> bool {
        self.places().is_empty()
    }

    /// There is news for this node.
    pub fn ring(&self, node: &NodeId) {
        if let Some(place) = self.places().get_mut(node) {
            place.is_rung = true;
            place.bell.notify_one();
        }
    }

    /// There may be news for everybody.
    pub fn ring_all(&self) {
        for place in self.places().values_mut() {
            place.is_rung = true;
            place.bell.notify_one();
        }
    }

    /// Waits for news that a node does not know, which has heard of `revision`. Dropping it leaves the permit as it was.
    pub async fn hold(&self, node: &NodeId, revision: u64) -> Held {
        let bell = match self.places().get(node) {
            None => return Held::NoPermit,
            Some(place) if revision < place.revision => return Held::News { revision: place.revision },
            Some(place) => place.bell.clone(),
        };
        bell.notified().await;
        let revision = self.places().get(node).map(|place| place.revision);
        revision.map_or(Held::NoPermit, |revision| Held::News { revision })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn name(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    async fn hold(waits: &Waits, node: &str, revision: u64) -> Option<Held> {
        timeout(Duration::from_secs(60), waits.hold(&name(node), revision)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn news_between_the_answer_and_the_call_is_heard() {
        let waits = Waits::new(2);
        assert_eq!(hold(&waits, "a", 0).await, Some(Held::NoPermit));
        assert!(waits.permit(&name("a"), 1, 7, 60_000, 0));
        assert_eq!(hold(&waits, "a", 7).await, None, "nothing new");
        waits.ring(&name("a"));
        assert_eq!(waits.listening(), []);
        assert_eq!(hold(&waits, "a", 7).await, Some(Held::News { revision: 7 }));
        // It came and was told, so the next call waits for other news.
        assert!(waits.permit(&name("a"), 1, 8, 60_000, 1000));
        assert_eq!(waits.listening(), [(name("a"), 1)]);
        assert_eq!(hold(&waits, "a", 8).await, None);
        assert_eq!(hold(&waits, "a", 7).await, Some(Held::News { revision: 8 }), "that answer was lost");
        // Rung, and checked in before it was heard: no second check-in follows.
        waits.ring_all();
        assert!(waits.permit(&name("a"), 1, 9, 60_000, 2000));
        assert_eq!(hold(&waits, "a", 9).await, None);
    }

    #[tokio::test]
    async fn permits_are_few_and_run_out() {
        let waits = Waits::new(2);
        assert!(waits.has_room_for_all(2) && !waits.has_room_for_all(3));
        assert!(waits.permit(&name("a"), 1, 0, 60_000, 0));
        assert!(waits.permit(&name("b"), 2, 0, 60_000, 60_000));
        assert!(!waits.permit(&name("c"), 3, 0, 60_000, 60_000));
        assert!(waits.permit(&name("b"), 2, 0, 60_000, 61_000), "who has one keeps it");
        assert!(waits.permit(&name("c"), 3, 0, 60_000, 120_000), "a did not come again");
        assert_eq!(hold(&waits, "a", 0).await, Some(Held::NoPermit));
        waits.withdraw(&name("b"));
        waits.withdraw(&name("c"));
        assert!(waits.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_call_is_rung() {
        let waits = Arc::new(Waits::new(1));
        waits.permit(&name("a"), 1, 0, 60_000, 0);
        let held = tokio::spawn({
            let waits = waits.clone();
            async move { hold(&waits, "a", 0).await }
        });
        tokio::task::yield_now().await;
        waits.ring(&name("a"));
        assert_eq!(held.await.unwrap(), Some(Held::News { revision: 0 }));
        waits.permit(&name("a"), 1, 0, 60_000, 0);
        let held = tokio::spawn({
            let waits = waits.clone();
            async move { hold(&waits, "a", 0).await }
        });
        tokio::task::yield_now().await;
        waits.withdraw(&name("a"));
        assert_eq!(held.await.unwrap(), Some(Held::NoPermit), "it does not listen where nobody will call");
    }
}
