//! What is trusted now: the newest metadata of each role, what a node has committed to, and the time floor.
//!
//! A value; it changes by being replaced. `update` and `assignment` make new ones, `state` keeps them on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::world::WallMs;

use crate::name::ModelName;
use crate::trust::envelope::{Envelope, Signed, VerifyError, verify};
use crate::trust::key::KindSet;
use crate::trust::metadata::{Role, RoleName, Root, Snapshot, Targets, Timestamp};
use crate::trust::time::Floor;

/// All that a node trusts. Cloning is cheap: documents are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The newest root.
    pub root: Arc<Signed<Root>>,
    /// The newest timestamp.
    pub timestamp: Option<Arc<Signed<Timestamp>>>,
    /// The newest snapshot.
    pub snapshot: Option<Arc<Signed<Snapshot>>>,
    /// The newest top-level targets.
    pub targets: Option<Arc<Signed<Targets>>>,
    /// Delegated roles as received. Each is verified against the role that delegates to it whenever it is used: two roles may
    /// delegate to one name with different keys.
    pub delegated: BTreeMap<RoleName, Arc<[u8]>>,
    /// The highest release of each model that was committed here.
    pub releases: BTreeMap<ModelName, u64>,
    /// The newest assignment of each kind of subject.
    pub assignments: BTreeMap<String, Assigned>,
    /// The earliest that now can be.
    pub floor: Floor,
}

/// An assignment that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Its version.
    pub version: u64,
    /// As received.
    pub bytes: Arc<[u8]>,
}

/// Metadata by which nothing may be accepted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// There is none.
    #[error("there is no trusted {role} yet")]
    Missing {
        /// Of which role.
        role: &'static str,
    },
    /// It has expired.
    #[error("the trusted {role} has expired {by_ms} ms ago")]
    Expired {
        /// Of which role.
        role: &'static str,
        /// How long ago.
        by_ms: i64,
    },
}

impl Trusted {
    /// First use: trusts a root that was handed over out of band, if it is signed as it says itself.
    pub fn of_root(bytes: &[u8], kinds: &KindSet) -> Result<Trusted, VerifyError> {
        let envelope = Envelope::read(bytes)?;
        let body = Root::read(&envelope.signed)?;
        envelope.check(&body.keys, &body.root, kinds)?;
        let mut floor = Floor::default();
        floor.raise_offline(body.head.signed_at_ms.unwrap_or_default());
        Ok(Trusted {
            root: Arc::new(Signed { bytes: bytes.into(), body }),
            timestamp: None,
            snapshot: None,
            targets: None,
            delegated: BTreeMap::new(),
            releases: BTreeMap::new(),
            assignments: BTreeMap::new(),
            floor,
        })
    }

    /// Replaces the root. If it gives timestamp or snapshot other keys, what the old keys have signed is forgotten, and
    /// what they said of the time: else a stolen online key could fast-forward a node for ever (specification 5.3.11).
    pub fn set_root(&mut self, root: Signed<Root>) {
        let (old, new) = (&self.root.body, &root.body);
        if old.timestamp != new.timestamp || old.snapshot != new.snapshot {
            self.timestamp = None;
            self.snapshot = None;
            self.floor.forget_online();
        }
        self.floor.raise_offline(new.head.signed_at_ms.unwrap_or_default());
        self.root = Arc::new(root);
    }

    /// Replaces the timestamp.
    pub fn set_timestamp(&mut self, timestamp: Signed<Timestamp>) {
        self.raise_online(&timestamp.body);
        self.timestamp = Some(Arc::new(timestamp));
    }

    /// Replaces the snapshot, and drops delegated roles that it does not list.
    pub fn set_snapshot(&mut self, snapshot: Signed<Snapshot>) {
        self.raise_online(&snapshot.body);
        self.delegated.retain(|role, _| snapshot.body.of(role).is_some());
        self.snapshot = Some(Arc::new(snapshot));
    }

    /// Replaces the top-level targets. Its key is heard about the time up to the root's expiry: one stolen key shall not
    /// age a node for ever.
    pub fn set_targets(&mut self, targets: Signed<Targets>) {
        let said_ms = targets.body.head.signed_at_ms.unwrap_or_default();
        self.floor.raise_offline(said_ms.min(self.root.body.head.expires_ms));
        self.targets = Some(Arc::new(targets));
    }

    fn raise_online(&mut self, role: &impl Role) {
        let said_ms = role.head().signed_at_ms.unwrap_or_default();
        self.floor.raise_online(said_ms, self.root.body.head.expires_ms);
    }

    /// Checks a timestamp's signatures under the trusted root.
    pub fn verify_timestamp(&self, bytes: &[u8], kinds: &KindSet) -> Result<Signed<Timestamp>, VerifyError> {
        verify(bytes, &self.root.body.keys, &self.root.body.timestamp, kinds)
    }

    /// Checks a snapshot's signatures under the trusted root.
    pub fn verify_snapshot(&self, bytes: &[u8], kinds: &KindSet) -> Result<Signed<Snapshot>, VerifyError> {
        verify(bytes, &self.root.body.keys, &self.root.body.snapshot, kinds)
    }

    /// Checks the signatures of top-level targets under the trusted root.
    pub fn verify_targets(&self, bytes: &[u8], kinds: &KindSet) -> Result<Signed<Targets>, VerifyError> {
        verify(bytes, &self.root.body.keys, &self.root.body.targets, kinds)
    }

    /// Whether something may be accepted by this metadata at `now_ms`: nothing of it missing or expired. Timestamp,
    /// snapshot and targets may be up to `max_stale_ms` too old, the root may not.
    pub fn fresh(&self, now_ms: WallMs, max_stale_ms: i64) -> Result<(), Stale> {
        let (timestamp, snapshot, targets) = (&self.timestamp, &self.snapshot, &self.targets);
        let roles = [
            ("root", Some(self.root.body.head.expires_ms), 0),
            ("timestamp", timestamp.as_ref().map(|role| role.body.head.expires_ms), max_stale_ms),
            ("snapshot", snapshot.as_ref().map(|role| role.body.head.expires_ms), max_stale_ms),
            ("targets", targets.as_ref().map(|role| role.body.head.expires_ms), max_stale_ms),
        ];
        for (role, expires_ms, grace_ms) in roles {
            let expires_ms = expires_ms.ok_or(Stale::Missing { role })?;
            expired(expires_ms, now_ms, grace_ms)
                .map_or(Ok(()), |by_ms| Err(Stale::Expired { role, by_ms }))?;
        }
        Ok(())
    }

    /// How far past its expiry the oldest of the metadata is at `now_ms`, in milliseconds; 0 if all is fresh.
    pub fn stale_ms(&self, now_ms: WallMs) -> i64 {
        let heads = [
            Some(&self.root.body.head),
            self.timestamp.as_ref().map(|role| &role.body.head),
            self.snapshot.as_ref().map(|role| &role.body.head),
            self.targets.as_ref().map(|role| &role.body.head),
        ];
        let stale = heads.into_iter().flatten().filter_map(|head| expired(head.expires_ms, now_ms, 0));
        stale.max().unwrap_or_default()
    }
}

/// How long ago, in milliseconds, that which expires at `expires_ms` has expired, if it has for longer than `grace_ms`.
pub fn expired(expires_ms: WallMs, now_ms: WallMs, grace_ms: i64) -> Option<i64> {
    let by_ms = now_ms.saturating_sub(expires_ms);
    let is_over = by_ms >= 0 && by_ms >= grace_ms;
    is_over.then_some(by_ms)
}
