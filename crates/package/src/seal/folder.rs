//! Grants in a folder: `grants/<blob>/<key>.json` beside a package, in a share, on a stick.
//!
//! What lies there is believed as little as anything else: a grant is read up to its bound, and must be the one that its
//! place says.

use std::io::ErrorKind;
use std::path::Path;

use crate::digest::Digest;
use crate::disk::{Disk, FileError, make_folders, read_whole, write_whole};
use crate::seal::wrap::{GRANT_MAX_BYTES, Grant, GrantError};
use crate::trust::key::KeyId;

/// The most grants for one blob that are listed.
const GRANTS_MAX: usize = 16_384;

/// Grants that cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is no grant.
    #[error("{place} is of no use")]
    Grant {
        /// Where it lies.
        place: String,
        /// Why.
        source: GrantError,
    },
    /// A grant for another blob or key than its place says.
    #[error("{place} is a grant for another file or node: remove it")]
    Misplaced {
        /// Where it lies.
        place: String,
    },
    /// More than is listed.
    #[error("there are more than {GRANTS_MAX} grants for {sealed}")]
    TooMany {
        /// Of which blob.
        sealed: Digest,
    },
}

/// Where the grant of a blob for a key lies: `grants/<64 digits>/<64 digits>.json`, with `/` on every system.
pub fn place(sealed: &Digest, to: &KeyId) -> String {
    format!("grants/{}/{to}.json", sealed.hex())
}

/// Keeps a grant, in the place of one for the same blob and key.
pub fn put(disk: &impl Disk, root: &Path, grant: &Grant) -> Result<(), FolderError> {
    let path = root.join(place(&grant.sealed(), &grant.to()));
    if let Some(folder) = path.parent() {
        make_folders(disk, folder)?;
    }
    Ok(write_whole(disk, &path, &grant.to_bytes())?)
}

/// The grant of a blob for a key; `None` if there is none.
pub fn get(disk: &impl Disk, root: &Path, sealed: &Digest, to: &KeyId) -> Result<Option<Grant>, FolderError> {
    let place = place(sealed, to);
    let bytes = read_whole(disk, &root.join(&place), GRANT_MAX_BYTES as u64)?;
    bytes.map(|bytes| read(&bytes, sealed, to, place)).transpose()
}

/// Reads the bytes of a grant that lay at `place`, for this blob and key.
pub fn read(bytes: &[u8], sealed: &Digest, to: &KeyId, place: String) -> Result<Grant, FolderError> {
    match Grant::parse(bytes) {
        Ok(grant) if (grant.sealed(), grant.to()) == (*sealed, *to) => Ok(grant),
        Ok(_) => Err(FolderError::Misplaced { place }),
        Err(source) => Err(FolderError::Grant { place, source }),
    }
}

/// All grants of a blob, by key.
pub fn all_of(disk: &impl Disk, root: &Path, sealed: &Digest) -> Result<Vec<Grant>, FolderError> {
    let folder = root.join("grants").join(sealed.hex());
    let entries = match disk.list(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::at(&folder)(error).into()),
    };
    let key = |name: &str| name.strip_suffix(".json").and_then(KeyId::parse);
    let keys: Vec<KeyId> =
        entries.iter().filter(|entry| entry.is_file).filter_map(|entry| key(&entry.name)).collect();
    if keys.len() > GRANTS_MAX {
        return Err(FolderError::TooMany { sealed: *sealed });
    }
    let grants = keys.iter().filter_map(|to| get(disk, root, sealed, to).transpose());
    grants.collect()
}

#[cfg(test)]
mod tests {
    use wire::world;

    use super::*;
    use crate::disk::simulated::Simulated;
    use crate::seal::content::ContentKey;
    use crate::seal::hybrid::NodeSecret;
    use crate::seal::wrap::wrap;

    #[test]
    fn grants_lie_where_their_names_say() {
        let (disk, root, chance) = (Simulated::new(), Path::new("/p"), &mut world::Simulated::new(1));
        let (key, sealed) = (ContentKey::draw(chance), Digest::of(b"sealed"));
        assert!(all_of(&disk, root, &sealed).unwrap().is_empty());
        let mut grants = Vec::new();
        for _ in 0..2 {
            let node = NodeSecret::generate(chance).unwrap();
            let grant = wrap(&key, sealed, node.public(), chance).unwrap();
            put(&disk, root, &grant).unwrap();
            put(&disk, root, &grant).unwrap();
            grants.push(grant);
        }
        grants.sort_by_key(Grant::to);
        let folder = root.join("grants").join(sealed.hex());
        write_whole(&disk, &folder.join("README"), b"somebody's").unwrap();
        assert_eq!(all_of(&disk, root, &sealed).unwrap(), grants);
        assert_eq!(get(&disk, root, &sealed, &grants[0].to()).unwrap().as_ref(), Some(&grants[0]));
        assert_eq!(get(&disk, root, &Digest::of(b"x"), &grants[0].to()).unwrap(), None);

        let path = root.join(place(&sealed, &grants[0].to()));
        write_whole(&disk, &path, &grants[1].to_bytes()).unwrap();
        assert!(matches!(all_of(&disk, root, &sealed), Err(FolderError::Misplaced { .. })));
        write_whole(&disk, &path, b"{}").unwrap();
        assert!(matches!(all_of(&disk, root, &sealed), Err(FolderError::Grant { .. })));
        write_whole(&disk, &path, &[b' '; GRANT_MAX_BYTES + 1]).unwrap();
        assert!(matches!(all_of(&disk, root, &sealed), Err(FolderError::File(_))));
    }
}
