//! The number that tells nodes of other assignments: a small file of the depot, so it outlives the hub and is the same on all
//! its replicas.
//!
//! It is read at most every few seconds, however many nodes check in, and none of them waits for a depot that does not
//! answer: they hear the last one, or nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use wire::hash::Hash;

use crate::depot::{Depot, DepotError, Key};

/// How long a number is good for; another replica may have changed it since.
const GOOD_S: u64 = 5;

/// How long a check-in waits for the depot.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most bytes of the file.
const BYTES_MAX: u64 = 20;

/// The number, as it was last read.
#[derive(Debug, Default)]
pub struct Revision(Mutex<Last>);

#[derive(Debug, Clone, Copy, Default)]
struct Last {
    value: Option<u64>,
    /// When it was asked for, in seconds.
    asked_s: Option<u64>,
}

impl Revision {
    /// The number at `now_s`; `None` if there never was an assignment, or nobody knows.
    pub async fn get(&self, depot: &Depot, now_s: u64) -> Option<u64> {
        let last = {
            let mut last = self.last();
            if last.asked_s.is_some_and(|asked_s| now_s.saturating_sub(asked_s) < GOOD_S) {
                return last.value;
            }
            // While this one asks, the others go on.
            last.asked_s = Some(now_s);
            last.value
        };
        match timeout(PATIENCE, read(depot)).await {
            Ok(Ok(value)) => {
                let mut known = self.last();
                // Unless somebody has changed it in the meantime.
                if known.value == last {
                    known.value = value;
                }
                known.value
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "nodes do not hear of other assignments now");
                last
            }
            Err(_) => {
                tracing::warn!("nodes do not hear of other assignments now: the depot does not answer");
                last
            }
        }
    }

    /// Another document was put: gives another number, for one author at a time. Two replicas that do so at once write two
    /// numbers, and each is other than the one before.
    pub async fn change(&self, depot: &Depot, document: &[u8], now_s: u64) -> Result<(), DepotError> {
        let before = read(depot).await?.unwrap_or_default();
        let hash = Hash::of(&[&before.to_le_bytes(), document].concat());
        // 53 bits, which every reader of JSON keeps.
        let value =
            hash.as_bytes().iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte)) >> 11;
        depot.put(&Key::assignments_revision(), value.to_string().into()).await?;
        *self.last() = Last { value: Some(value), asked_s: Some(now_s) };
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(depot: &Depot) -> Result<Option<u64>, DepotError> {
    let found = depot.read(&Key::assignments_revision(), BYTES_MAX).await?;
    Ok(found.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_replicas_say_the_same_and_another_after_each_change() {
        let depot = Depot::memory();
        let (one, other) = (Revision::default(), Revision::default());
        assert_eq!(one.get(&depot, 0).await, None);
        let mut before = None;
        for at_s in [10, 20, 30] {
            one.change(&depot, b"the same document", at_s).await.unwrap();
            let now = one.get(&depot, at_s).await;
            assert!(now.is_some() && now != before);
            assert_eq!(other.get(&depot, at_s).await, now);
            assert_eq!(Revision::default().get(&depot, 0).await, now, "a hub that starts again");
            before = now;
        }
    }

    #[tokio::test]
    async fn the_depot_is_asked_now_and_then_only() {
        let depot = Depot::memory();
        let (one, other) = (Revision::default(), Revision::default());
        one.change(&depot, b"1", 0).await.unwrap();
        let first = other.get(&depot, 100).await;
        one.change(&depot, b"2", 100).await.unwrap();
        assert_eq!(other.get(&depot, 104).await, first, "not asked");
        assert_eq!(other.get(&depot, 105).await, one.get(&depot, 105).await);
        // A number that is none, or no depot at all: what was known last.
        let known = one.get(&depot, 105).await;
        depot.put(&Key::assignments_revision(), vec![b'1'; 30].into()).await.unwrap();
        assert_eq!(one.get(&depot, 200).await, known);
    }
}
