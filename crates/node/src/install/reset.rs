//! The way out of lost trust: a person vouches for a root, and what was trusted before is forgotten.
//!
//! Only while no node runs here: this holds the lock of the slots. The new state is newer than every state that the slots or the
//! old file name, so no old file can take its place. The slots stay: what runs goes on, and raises its releases again when
//! the node starts.

use std::path::{Path, PathBuf};

use package::disk::checked::Checked;
use package::disk::{Disk, FileError, read_whole};
use package::name::ModelName;
use package::trust::key::KindSet;
use package::trust::state::{StateError, TrustState};

use crate::install::state::{SlotsError, SlotsFile};

/// Where the slots are, below a node's data.
pub const SLOTS: &str = "slots";

/// Where the trust state is, below a node's data.
pub const TRUST: &str = "trust/state";

/// The largest state that is looked into.
const STATE_MAX: u64 = 256 << 20;

/// Why trust was not reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Some other folder.
    #[error("{} has neither slots nor a trust state: is it a node's data folder?", data.display())]
    NotThere {
        /// The folder.
        data: PathBuf,
    },
    /// A node is running.
    #[error("the slots in {} are another process's: stop the node first", folder.display())]
    Busy {
        /// Which slots.
        folder: PathBuf,
    },
    /// The root, or the disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The version of the root that is trusted now.
    pub root: u64,
    /// The sequence that the new state has.
    pub sequence: u64,
    /// Models whose slots could not be read, and why: what they name was not looked at.
    pub unread: Vec<String>,
}

/// Begins again from `root`, in the data folder of a node that does not run.
pub fn reset<D: Disk + Clone>(
    disk: D,
    data: &Path,
    root: &[u8],
    kinds: &KindSet,
) -> Result<Reset, ResetError> {
    let (folder, path) = (data.join(SLOTS), data.join(TRUST));
    let state = read_whole(&disk, &path, STATE_MAX)?;
    let names = disk.list(&folder).map_err(FileError::at(&folder));
    let names = match names {
        Ok(names) => names,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound && state.is_some() => Vec::new(),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return Err(ResetError::NotThere { data: data.to_owned() });
        }
        Err(error) => return Err(error.into()),
    };
    let _lock = match names.is_empty() {
        true => None,
        false => {
            let lock = folder.join(".lock");
            let held = disk.lock(&lock).map_err(FileError::at(&lock))?;
            Some(held.ok_or_else(|| ResetError::Busy { folder: folder.clone() })?)
        }
    };
    let mut sequence =
        state.and_then(|bytes| Some(Checked::parse(&bytes).ok()?.sequence)).unwrap_or_default();
    let mut unread = Vec::new();
    let models = names.iter().filter_map(|entry| {
        let name = entry.name.strip_suffix(".old").unwrap_or(&entry.name).strip_suffix(".json")?;
        ModelName::new(name).ok()
    });
    for model in models.collect::<std::collections::BTreeSet<_>>() {
        match SlotsFile::open(disk.clone(), &folder, &model) {
            Ok(opened) => sequence = sequence.max(opened.kept.trust_sequence),
            Err(error @ SlotsError::Lost { .. }) => unread.push(error.to_string()),
            Err(SlotsError::File(error)) => return Err(error.into()),
        }
    }
    let state = TrustState::reset(disk, &path, root, kinds, sequence)?;
    Ok(Reset { root: state.trusted().root.body.head.version, sequence: state.sequence(), unread })
}

#[cfg(test)]
mod tests {
    use package::disk::simulated::Simulated;
    use package::disk::{make_folders, write_whole};
    use package::trust::author::{Holders, Plan, Repository};
    use package::trust::metadata::RoleName;
    use package::trust::sign::{HybridSigner, Signer as _};
    use package::trust::state::Damage;

    use super::*;
    use crate::install::state::Kept;

    const NOW_MS: i64 = 1_767_225_600_000;

    /// A root, signed with this seed's key.
    fn root(seed: u8) -> Vec<u8> {
        let key = HybridSigner::from_seed(&[seed; 64]).unwrap();
        let holders = || Holders { keys: vec![key.key().clone()], threshold: 1, life_ms: 86_400_000 };
        let plan = Plan { root: holders(), targets: holders(), snapshot: holders(), timestamp: holders() };
        let mut repository = Repository::init(&plan, NOW_MS).unwrap();
        for role in [RoleName::root(), RoleName::targets()] {
            repository.sign(&role, &key).unwrap();
        }
        let published = repository.publish(&[&key], NOW_MS).unwrap();
        published.files.into_iter().find(|(file, _)| file.as_str() == "1.root.json").unwrap().1
    }

    #[test]
    fn lost_trust_begins_again_above_all_that_is_named() {
        let (disk, data, kinds) = (Simulated::new(), Path::new("/data"), KindSet::hybrid());
        let (old, new) = (root(1), root(2));
        let again = || reset(disk.clone(), data, &new, &kinds);
        assert!(matches!(again(), Err(ResetError::NotThere { .. })));
        // Slots that name the 40th state, and a state that is not there any more.
        let folder = data.join(SLOTS);
        make_folders(&disk, &folder).unwrap();
        let mut slots =
            SlotsFile::open(disk.clone(), &folder, &ModelName::new("tiny").unwrap()).unwrap().file;
        slots.write(&Kept { trust_sequence: 40, ..Kept::default() }).unwrap();
        let open =
            |root: &[u8], least| TrustState::open(disk.clone(), &data.join(TRUST), root, &kinds, least);
        let lost = open(&old, 40).err().unwrap();
        assert!(matches!(lost, StateError::Lost { why: Damage::Missing { expected: 40 }, .. }), "{lost}");
        // A node that runs is not pulled from under.
        let held = disk.lock(&folder.join(".lock")).unwrap();
        assert!(matches!(again(), Err(ResetError::Busy { .. })));
        drop(held);
        assert!(matches!(reset(disk.clone(), data, b"{}", &kinds), Err(ResetError::State(_))));
        assert_eq!(again().unwrap(), Reset { root: 1, sequence: 41, unread: Vec::new() });
        assert_eq!(open(&new, 40).unwrap().trusted().root.bytes[..], new[..]);
        // The state itself may name more than the slots.
        assert_eq!(again().unwrap().sequence, 42);
        // Slots that nobody can read are told, and hold nobody up.
        write_whole(&disk, &folder.join("odd.json"), b"?").unwrap();
        let told = again().unwrap();
        assert!(told.sequence == 43 && told.unread.len() == 1, "{told:?}");
    }
}
