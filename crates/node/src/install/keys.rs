//! What opens sealed weights on this node: its secret key, and the grants that came for it.
//!
//! ```text
//! <data>/keys/node.secret      only this user may read it
//! <data>/keys/node.pub.json    for whoever packs
//! <data>/grants/<blob>.json    for each sealed blob the grant for this key
//! ```
//!
//! The secret is made on the node and stays there. A file that is there is never replaced: what was sealed to a key that is
//! gone is closed for good.

use std::path::{Path, PathBuf};

use package::digest::Digest;
use package::disk::system::System;
use package::disk::{Disk, FileError, make_folders, read_whole, write_private, write_whole};
use package::seal::content::ContentKey;
use package::seal::hybrid::{NODE_SECRET_BYTES, NodeKeyError, NodePublic, NodeSecret};
use package::seal::wrap::{GRANT_MAX_BYTES, Grant, GrantError};
use package::trust::key::KeyId;
use wire::world::Entropy;

/// A sealed file that cannot be opened here, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// No key at all.
    #[error(
        "{sealed} is sealed, and this node has no key: `selvedge trust key node DATA` makes one, to which `selvedge grant` then \
         opens it"
    )]
    NoKey {
        /// What is sealed.
        sealed: Digest,
    },
    /// No grant for our key.
    #[error(
        "{sealed} is sealed, and no grant for this node's key {key} is here: ask whoever packed it for `selvedge grant`"
    )]
    NoGrant {
        /// What is sealed.
        sealed: Digest,
        /// Our key.
        key: KeyId,
    },
    /// A grant that does not open it.
    #[error("the grant for {sealed} cannot be used")]
    Grant {
        /// What is sealed.
        sealed: Digest,
        /// Why.
        source: GrantError,
    },
    /// The file with our key.
    #[error("{} cannot be used: only its own bytes open what was sealed to it, so bring them back", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: NodeKeyError,
    },
    /// No key could be made.
    #[error("no key could be made")]
    Make(#[source] NodeKeyError),
    /// Another process makes it.
    #[error("another process is at the keys in {}: try again", folder.display())]
    Busy {
        /// Where.
        folder: PathBuf,
    },
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl KeysError {
    /// Whether a grant is here, whole and for us, and opens nothing: then waiting does not help.
    pub fn is_wrong(&self) -> bool {
        matches!(self, KeysError::Grant { source, .. } if !matches!(source, GrantError::Form(_)))
    }
}

/// The secret of this node, if it has one, and the grants for it.
#[derive(Debug)]
pub struct Keys {
    secret: Option<NodeSecret>,
    /// Where the grants lie.
    grants: Option<PathBuf>,
}

impl Keys {
    /// Opens nothing that is sealed.
    pub fn none() -> Keys {
        Keys { secret: None, grants: None }
    }

    /// The keys in a node's data folder, which may have none.
    pub fn open(data: &Path) -> Result<Keys, KeysError> {
        let path = secret_path(data);
        let secret = read_whole(&System, &path, NODE_SECRET_BYTES as u64)?.map(NodeSecret::taken_from);
        let secret = secret.transpose().map_err(|source| KeysError::Secret { path, source })?;
        Ok(Keys { secret, grants: Some(grants_folder(data)) })
    }

    /// The secret.
    pub fn secret(&self) -> Option<&NodeSecret> {
        self.secret.as_ref()
    }

    /// The key of a sealed blob.
    pub fn content_key(&self, sealed: &Digest) -> Result<ContentKey, KeysError> {
        let sealed = *sealed;
        let (Some(secret), Some(folder)) = (&self.secret, &self.grants) else {
            return Err(KeysError::NoKey { sealed });
        };
        let no_grant = || KeysError::NoGrant { sealed, key: secret.public().id() };
        let bytes = read_whole(&System, &grant_path(folder, &sealed), GRANT_MAX_BYTES as u64)?;
        let grant = Grant::parse(&bytes.ok_or_else(no_grant)?);
        match grant.and_then(|grant| grant.open(sealed, secret)) {
            Ok(key) => Ok(key),
            // For a key that we had before, perhaps.
            Err(GrantError::Node { .. }) => Err(no_grant()),
            Err(source) => Err(KeysError::Grant { sealed, source }),
        }
    }
}

/// Where the node's secret lies.
pub fn secret_path(data: &Path) -> PathBuf {
    data.join("keys").join("node.secret")
}

/// Where its public half lies.
pub fn node_public_path(data: &Path) -> PathBuf {
    data.join("keys").join("node.pub.json")
}

/// Where grants lie.
pub fn grants_folder(data: &Path) -> PathBuf {
    data.join("grants")
}

/// Where the grant for a blob lies.
pub fn grant_path(folder: &Path, sealed: &Digest) -> PathBuf {
    folder.join(format!("{}.json", sealed.hex()))
}

/// Makes the node's key, if it has none. Gives its public half, and whether it is new.
pub fn make_node_key(
    disk: &impl Disk,
    data: &Path,
    chance: &mut dyn Entropy,
) -> Result<(NodePublic, bool), KeysError> {
    let (path, public_path) = (secret_path(data), node_public_path(data));
    let folder = data.join("keys");
    make_folders(disk, &folder)?;
    let lock_path = folder.join(".lock");
    let lock = disk.lock(&lock_path).map_err(FileError::at(&lock_path))?;
    let _lock = lock.ok_or(KeysError::Busy { folder })?;
    let there = read_whole(disk, &path, NODE_SECRET_BYTES as u64)?;
    let is_new = there.is_none();
    let secret = match there {
        Some(bytes) => NodeSecret::taken_from(bytes).map_err(|source| KeysError::Secret { path, source })?,
        None => {
            let secret = NodeSecret::generate(chance).map_err(KeysError::Make)?;
            write_private(disk, &path, &secret.to_bytes())?;
            secret
        }
    };
    // After the secret, and again if a cut came between.
    let public = [&secret.public().to_bytes()[..], b"\n"].concat();
    if read_whole(disk, &public_path, public.len() as u64).ok().flatten().as_ref() != Some(&public) {
        write_whole(disk, &public_path, &public)?;
    }
    Ok((secret.public().clone(), is_new))
}

#[cfg(test)]
mod tests {
    use package::disk::simulated::{Cut, Simulated};
    use package::seal::wrap::wrap;
    use wire::world;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(Keys::open(&data).unwrap().secret().is_none());
        let (made, is_new) = make_node_key(&System, &data, &mut world::Simulated::new(1)).unwrap();
        let (again, is_new_again) = make_node_key(&System, &data, &mut world::Simulated::new(2)).unwrap();
        assert!(is_new && !is_new_again && made == again);
        let public = std::fs::read(node_public_path(&data)).unwrap();
        assert_eq!(NodePublic::parse(public.trim_ascii()).unwrap(), made);
        assert_eq!(Keys::open(&data).unwrap().secret().unwrap().public(), &made);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(secret_path(&data)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(secret_path(&data), b"short").unwrap();
        assert!(matches!(Keys::open(&data), Err(KeysError::Secret { .. })));
        let refused = make_node_key(&System, &data, &mut world::Simulated::new(3));
        assert!(matches!(refused, Err(KeysError::Secret { .. })), "it is never replaced");
    }

    #[test]
    fn a_cut_loses_no_key_that_was_shown() {
        let data = Path::new("/data");
        for point in 0.. {
            let disk = Simulated::new();
            disk.dies_at(point);
            let made = make_node_key(&disk, data, &mut world::Simulated::new(1));
            disk.cut(Cut::Hostile, point);
            let (again, is_new) = make_node_key(&disk, data, &mut world::Simulated::new(2)).unwrap();
            let public = read_whole(&disk, &node_public_path(data), 1 << 20).unwrap().unwrap();
            assert_eq!(NodePublic::parse(public.trim_ascii()).unwrap(), again);
            if let Ok((made, _)) = made {
                assert!(made == again && !is_new);
                break;
            }
        }
    }

    #[test]
    fn grants_open_or_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (data, chance) = (folder.path(), &mut world::Simulated::new(1));
        let (key, sealed) = (ContentKey::draw(chance), Digest::of(b"sealed"));
        let refused = |data: &Path| Keys::open(data).unwrap().content_key(&sealed).unwrap_err();
        assert!(matches!(Keys::none().content_key(&sealed), Err(KeysError::NoKey { .. })));
        assert!(matches!(refused(data), KeysError::NoKey { .. }));
        let (public, _) = make_node_key(&System, data, chance).unwrap();
        assert!(matches!(refused(data), KeysError::NoGrant { .. }));
        let path = grant_path(&grants_folder(data), &sealed);
        std::fs::create_dir_all(grants_folder(data)).unwrap();
        let mut put = |of: Digest, to: &NodePublic| {
            let grant = wrap(&key, of, to, chance).unwrap();
            std::fs::write(&path, grant.to_bytes()).unwrap();
            grant
        };
        put(sealed, &public);
        assert_eq!(Keys::open(data).unwrap().content_key(&sealed).unwrap().bytes(), key.bytes());
        put(Digest::of(b"another"), &public);
        assert!(matches!(refused(data), KeysError::Grant { source: GrantError::File { .. }, .. }));
        assert!(refused(data).is_wrong());
        let other = NodeSecret::generate(&mut world::Simulated::new(9)).unwrap();
        put(sealed, other.public());
        assert!(matches!(refused(data), KeysError::NoGrant { .. }));
        std::fs::write(&path, b"{").unwrap();
        assert!(matches!(refused(data), KeysError::Grant { .. }) && !refused(data).is_wrong());
    }
}
