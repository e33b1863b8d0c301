//! Who is at the other end of a connection at the nodes' door: the digest of the key that it proved, and whose it is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::CertificateDer;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::identity::denied::Denied;
use crate::identity::stranger::Strangers;
use crate::store::connection::Readers;
use crate::store::identity::{self, KeyOwner};

/// How many keys are remembered; the store has them all.
const REMEMBERED_MAX: usize = 100_000;

/// What a connection at the nodes' door has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of the public key of its certificate, if it has one.
    pub key: Option<Hash>,
    /// Its certificates, its own first, where there are makers whom they may be from.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// What a peer is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A node, or nobody that the hub knows.
    Who(Who),
    /// A key that is out.
    Denied,
}

/// The keys that the hub knows, as far as they were asked for.
#[derive(Debug)]
pub struct Peers {
    /// Keys that are out.
    pub denied: Denied,
    /// Keys that knock and are not known.
    pub strangers: Strangers,
    known: RwLock<HashMap<Hash, KeyOwner>>,
    readers: Readers,
}

impl Peers {
    /// Nothing is known yet.
    pub fn new(readers: Readers, strangers: Strangers) -> Peers {
        Peers { denied: Denied::default(), strangers, known: RwLock::default(), readers }
    }

    /// Who has this key.
    pub async fn find(&self, key: &Hash, now_ms: WallMs) -> Result<Found, sqlx::Error> {
        if self.denied.has(key) {
            return Ok(Found::Denied);
        }
        let remembered = self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        // One that has run out may have been renewed elsewhere.
        let owner = match remembered.filter(|owner| now_ms < owner.not_after_ms) {
            Some(owner) => owner,
            None => match identity::owner(&self.readers, key).await? {
                Some(owner) => {
                    self.learn(*key, owner.clone());
                    owner
                }
                None => return Ok(Found::Who(Who::Nobody)),
            },
        };
        let Ok(name) = NodeId::new(&owner.name) else { return Ok(Found::Who(Who::Nobody)) };
        let expired = now_ms >= owner.not_after_ms;
        Ok(Found::Who(Who::Node { no: owner.node, name, expired }))
    }

    /// Whether this key was found before, or is out.
    pub fn knows(&self, key: &Hash) -> bool {
        self.denied.has(key) || self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// A key has a certificate.
    pub fn learn(&self, key: Hash, owner: KeyOwner) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, owner);
    }

    /// Reads again who is out.
    pub async fn refresh(&self) -> Result<(), sqlx::Error> {
        self.denied.learn(identity::denied(&self.readers).await?);
        Ok(())
    }
}
