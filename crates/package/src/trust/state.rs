//! What is trusted, on disk: one file, replaced whole, and fail-closed.
//!
//! ```text
//! {"form":1,"sequence":17,"length":N,"sha256":"…"}      about the rest, see `disk::checked`
//! {"floor":…,"root":…,"timestamp":…,…}                  documents in base64, as they were received
//! ```
//!
//! A node that has ever accepted anything must never fall back to its first root: an attacker who can make it forget
//! could then replay an old state. So whoever opens says which sequence it has seen at least (the slots name it), and a
//! file that is missing, older or damaged is an error, [`StateError::Lost`]: nothing new is accepted until a person
//! resets the trust, and what runs goes on. Stored documents are verified again when they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::disk::checked::{self, Checked};
use crate::disk::{Disk, FileError, beside, make_folders, read_whole, remove, sync_folder_of, write_whole};
use crate::name::{ModelName, NameError};
use crate::trust::envelope::VerifyError;
use crate::trust::key::KindSet;
use crate::trust::metadata::RoleName;
use crate::trust::time::Floor;
use crate::trust::trusted::{Assigned, Trusted};

/// The most bytes of the file: the limits of all roles of a search, in base64.
const FILE_MAX: u64 = 256 << 20;

/// The trust state cannot be opened or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state was there and is not any more, or not the newest.
    #[error(
        "the trust state {} is lost: {why}. What runs goes on, nothing new is accepted; `selvedge trust reset --root FILE` \
         begins again from a root that you trust", path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Damage,
    },
    /// The root that was handed over is none.
    #[error("the pinned root is not accepted")]
    Pinned(#[source] VerifyError),
    /// The disk.
    #[error("the trust state cannot be read or written")]
    File(#[from] FileError),
}

/// What is wrong with a state file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Not there.
    #[error("the file is not there, and sequence {expected} was reached before")]
    Missing {
        /// The least sequence.
        expected: u64,
    },
    /// An older one.
    #[error("it has sequence {found}, and {expected} was reached before")]
    Older {
        /// The least sequence.
        expected: u64,
        /// The sequence that is there.
        found: u64,
    },
    /// Not what was written, or written by a newer program.
    #[error(transparent)]
    File(#[from] checked::Damage),
    /// A document in it is not accepted.
    #[error("its {role} is not accepted")]
    Verify {
        /// Of which role.
        role: &'static str,
        /// Why.
        source: VerifyError,
    },
    /// Its root has the pinned root's version and other content.
    #[error("its root is another one than the pinned root of the same version")]
    OtherRoot,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    floor: Floor,
    root: Base64,
    timestamp: Option<Base64>,
    snapshot: Option<Base64>,
    targets: BTreeMap<String, Base64>,
    releases: BTreeMap<String, u64>,
    assignments: BTreeMap<String, (u64, Base64)>,
}

/// Bytes as base64.
struct Base64(Arc<[u8]>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Base64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let bytes = BASE64_STANDARD.decode(&*text).map_err(serde::de::Error::custom)?;
        Ok(Base64(bytes.into()))
    }
}

/// What is trusted, and the file that it stands in.
pub struct TrustState<D> {
    disk: D,
    path: PathBuf,
    sequence: u64,
    trusted: Trusted,
}

impl<D: Disk> TrustState<D> {
    /// Opens the state at `path`. `pinned_root` is the first root, as it was handed over; `least_sequence` is the highest
    /// sequence that anything else on this machine names, 0 if nothing does. Only then may the file be absent.
    pub fn open(
        disk: D,
        path: &Path,
        pinned_root: &[u8],
        kinds: &KindSet,
        least_sequence: u64,
    ) -> Result<TrustState<D>, StateError> {
        let pinned = Trusted::of_root(pinned_root, kinds).map_err(StateError::Pinned)?;
        let lost = |why| StateError::Lost { path: path.to_owned(), why };
        make_folders(&disk, path.parent().unwrap_or(Path::new(".")))?;
        // A process may have died after it moved the file to its place, and before that was durable: now others rely on it.
        sync_folder_of(&disk, path)?;
        let Some(bytes) = read_whole(&disk, path, FILE_MAX)? else {
            if least_sequence > 0 {
                return Err(lost(Damage::Missing { expected: least_sequence }));
            }
            return Ok(TrustState { disk, path: path.to_owned(), sequence: 0, trusted: pinned });
        };
        let (sequence, trusted) = read(&bytes, kinds).map_err(lost)?;
        if sequence < least_sequence {
            return Err(lost(Damage::Older { expected: least_sequence, found: sequence }));
        }
        let (stored, first) = (&trusted.root, &pinned.root);
        if stored.body.head.version < first.body.head.version {
            // A new image of the node brought a newer root: it is handed over out of band, too.
            let mut newer = trusted.clone();
            newer.set_root((**first).clone());
            return Ok(TrustState { disk, path: path.to_owned(), sequence, trusted: newer });
        }
        if stored.body.head.version == first.body.head.version && stored.bytes != first.bytes {
            return Err(lost(Damage::OtherRoot));
        }
        Ok(TrustState { disk, path: path.to_owned(), sequence, trusted })
    }

    /// Begins again from a root that a person trusts, above `least_sequence`; what was trusted before is gone.
    pub fn reset(
        disk: D,
        path: &Path,
        root: &[u8],
        kinds: &KindSet,
        least_sequence: u64,
    ) -> Result<TrustState<D>, StateError> {
        let trusted = Trusted::of_root(root, kinds).map_err(StateError::Pinned)?;
        make_folders(&disk, path.parent().unwrap_or(Path::new(".")))?;
        let mut state =
            TrustState { disk, path: path.to_owned(), sequence: least_sequence, trusted: trusted.clone() };
        state.commit(trusted)?;
        Ok(state)
    }

    /// Removes what an earlier life began to write; only for who alone may write here.
    pub fn tidy(&self) -> Result<(), FileError> {
        remove(&self.disk, &beside(&self.path))
    }

    /// Raises the release of a model below which no assignment is accepted; nothing happens if it is that high.
    pub fn raise_release(&mut self, model: &ModelName, release: u64) -> Result<(), StateError> {
        if self.trusted.releases.get(model).is_some_and(|committed| *committed >= release) {
            return Ok(());
        }
        let mut trusted = self.trusted.clone();
        trusted.releases.insert(model.clone(), release);
        self.commit(trusted)
    }

    /// What is trusted, durably.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// How often the state was replaced; what else is written names it, so that an old state is found out.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Replaces the state; only after `Ok` may anything be done by it. After an error the old state or the new one stands on
    /// the disk, and the old one is trusted. Releases, assignments and the floor's offline half never go back.
    pub fn commit(&mut self, trusted: Trusted) -> Result<(), StateError> {
        assert_never_back(&self.trusted, &trusted);
        let sequence = self.sequence + 1;
        write_whole(&self.disk, &self.path, &write(sequence, &trusted))?;
        (self.sequence, self.trusted) = (sequence, trusted);
        Ok(())
    }
}

/// Only a mistake of ours could bring an older state here.
fn assert_never_back(old: &Trusted, new: &Trusted) {
    assert!(new.root.body.head.version >= old.root.body.head.version, "a root never goes back");
    assert!(new.floor.offline_ms >= old.floor.offline_ms, "the time floor never goes back");
    let committed = |model: &ModelName| new.releases.get(model).copied().unwrap_or_default();
    assert!(
        old.releases.iter().all(|(model, release)| committed(model) >= *release),
        "a release never goes back"
    );
    let accepted = |subject: &String| new.assignments.get(subject).map_or(0, |new| new.version);
    let assigned = old.assignments.iter().all(|(subject, old)| accepted(subject) >= old.version);
    assert!(assigned, "an assignment never goes back");
}

fn write(sequence: u64, trusted: &Trusted) -> Vec<u8> {
    let top = trusted.targets.as_ref().map(|targets| ("targets".to_owned(), Base64(targets.bytes.clone())));
    let delegated =
        trusted.delegated.iter().map(|(role, bytes)| (role.as_str().to_owned(), Base64(bytes.clone())));
    let assignments = trusted.assignments.iter();
    let assignments =
        assignments.map(|(subject, it)| (subject.clone(), (it.version, Base64(it.bytes.clone()))));
    let body = Body {
        floor: trusted.floor,
        root: Base64(trusted.root.bytes.clone()),
        timestamp: trusted.timestamp.as_ref().map(|role| Base64(role.bytes.clone())),
        snapshot: trusted.snapshot.as_ref().map(|role| Base64(role.bytes.clone())),
        targets: delegated.chain(top).collect(),
        releases: trusted
            .releases
            .iter()
            .map(|(model, release)| (model.as_str().to_owned(), *release))
            .collect(),
        assignments: assignments.collect(),
    };
    // Strings, numbers and maps of them by name: no such value fails to be written.
    Checked { sequence, body: serde_json::to_vec(&body).unwrap_or_default() }.to_bytes()
}

fn read(bytes: &[u8], kinds: &KindSet) -> Result<(u64, Trusted), Damage> {
    let checked = Checked::parse(bytes)?;
    let body: Body = serde_json::from_slice(&checked.body).map_err(damaged)?;
    Ok((checked.sequence, verified(body, kinds)?))
}

fn damaged<E>(_: E) -> Damage {
    checked::Damage::Damaged.into()
}

/// Takes nothing on trust because it lay on the disk.
fn verified(body: Body, kinds: &KindSet) -> Result<Trusted, Damage> {
    let refuse = |role| move |source| Damage::Verify { role, source };
    let mut trusted = Trusted::of_root(&body.root.0, kinds).map_err(refuse("root"))?;
    if let Some(timestamp) = body.timestamp {
        let timestamp = trusted.verify_timestamp(&timestamp.0, kinds).map_err(refuse("timestamp"))?;
        trusted.timestamp = Some(Arc::new(timestamp));
    }
    if let Some(snapshot) = body.snapshot {
        let snapshot = trusted.verify_snapshot(&snapshot.0, kinds).map_err(refuse("snapshot"))?;
        trusted.snapshot = Some(Arc::new(snapshot));
    }
    for (name, bytes) in body.targets {
        if name == "targets" {
            // A newer root may have given targets other keys: then they are fetched again.
            trusted.targets = trusted.verify_targets(&bytes.0, kinds).ok().map(Arc::new);
        } else {
            trusted.delegated.insert(RoleName::delegated(&name).ok_or(()).map_err(damaged)?, bytes.0);
        }
    }
    let releases = body.releases.into_iter().map(|(model, release)| Ok((ModelName::new(&model)?, release)));
    trusted.releases = releases.collect::<Result<_, NameError>>().map_err(damaged)?;
    let assignments = body.assignments.into_iter();
    trusted.assignments = assignments
        .map(|(subject, (version, bytes))| (subject, Assigned { version, bytes: bytes.0 }))
        .collect();
    trusted.floor = body.floor;
    Ok(trusted)
}
