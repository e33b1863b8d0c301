//! Brings the grants that open sealed weights: from the hub, from a folder, from a package on a stick.
//!
//! A grant is for one blob and one key, and says nothing of who made it: everybody can make one with a wrong key in it. So each is
//! opened before it is kept, and its key held against the blob, which commits to its own. What does not fit is passed over, and
//! whoever gave it cannot keep a right one out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use package::archive::{Member, Name};
use package::digest::Digest;
use package::disk::system::System;
use package::disk::{Disk, DiskFile, FileError, make_folders, read_full, read_whole, write_whole};
use package::seal::folder;
use package::seal::hybrid::NodeSecret;
use package::seal::stream::{HEADER_BYTES, Opener};
use package::seal::wrap::{GRANT_MAX_BYTES, Grant};
use package::store::Store;
use package::trust::key::KeyId;
use wire::hash::Hash;

use crate::identity::tls::HubTls;
use crate::install::keys::grant_path;
use crate::trust::{FILE_TIME, RepositoryError, members_of, read_from, server};
use crate::web::http::{Ask, Web, WebError, shown};
use crate::why::why;

/// A grant that did not come.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// Some could not be asked, or gave what is of no use; nobody gave one that opens.
    #[error("nobody gives a grant that opens {sealed}: {}", faults.join("; "))]
    Nobody {
        /// What is sealed.
        sealed: Digest,
        /// Each source that failed, and how.
        faults: Vec<String>,
    },
    /// It could not be kept.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A sealed blob, as far as a grant is tried on it.
#[derive(Debug, Clone)]
pub struct Sealed {
    digest: Digest,
    header: [u8; HEADER_BYTES],
    bytes: u64,
}

impl Sealed {
    /// A blob of the store; `None` if it is not there, or too short to be sealed.
    pub fn of<D: Disk>(store: &Store<D>, digest: Digest) -> Result<Option<Sealed>, FileError> {
        let Some(file) = store.open_blob(&digest)? else { return Ok(None) };
        let (path, mut header) = (store.blob_path(&digest), [0; HEADER_BYTES]);
        let came = read_full(&file, 0, &mut header).map_err(FileError::at(&path))?;
        let bytes = file.size_bytes().map_err(FileError::at(&path))?;
        Ok((came == header.len()).then_some(Sealed { digest, header, bytes }))
    }

    /// Whether a grant holds the key of this blob.
    fn is_opened_by(&self, grant: &Grant, secret: &NodeSecret) -> Result<(), String> {
        let key = grant.open(self.digest, secret).map_err(|error| why(&error))?;
        Opener::new(&key, &self.header, self.bytes).map(drop).map_err(|error| why(&error))
    }
}

/// Somebody who may have grants.
#[derive(Debug)]
pub struct GrantSource {
    place: Place,
    name: String,
}

#[derive(Debug)]
enum Place {
    Hub(Web),
    Folder(PathBuf),
    Archive { path: PathBuf, members: BTreeMap<Name, Member> },
}

impl GrantSource {
    /// A hub. The token goes to it alone.
    pub fn at(hub: &str, token: Option<&str>) -> Result<GrantSource, RepositoryError> {
        let web = server(hub, token, FILE_TIME)?;
        let name = shown(web.endpoint());
        Ok(GrantSource { place: Place::Hub(web), name })
    }

    /// The same, where the hub knows us by a certificate.
    pub fn with_tls(self, tls: Option<&HubTls>) -> Result<GrantSource, RepositoryError> {
        match self.place {
            Place::Hub(web) => Ok(GrantSource { place: Place::Hub(web.with_tls(tls)?), ..self }),
            place => Ok(GrantSource { place, ..self }),
        }
    }

    /// A folder with `grants` in it, such as a package, or a package in one file. Blocks.
    pub fn in_folder(path: &Path) -> Result<GrantSource, RepositoryError> {
        let name = path.display().to_string();
        let place = match path.is_dir() {
            true => Place::Folder(path.to_owned()),
            false => Place::Archive { path: path.to_owned(), members: members_of(path)? },
        };
        Ok(GrantSource { place, name })
    }

    /// The grant of a blob for a key; `None` if there is none.
    async fn fetch(&self, sealed: &Digest, to: &KeyId) -> Result<Option<Grant>, String> {
        let told = |error: &dyn std::error::Error| why(error);
        let bytes = match &self.place {
            Place::Hub(web) => {
                let path = format!("api/v1/grants/{sealed}/{to}");
                let url = web.endpoint().join(&path).map_err(|error| told(&error))?;
                let ask = Ask::default();
                let came = async { web.get(&url, &ask).await?.body(GRANT_MAX_BYTES).await };
                match tokio::time::timeout(FILE_TIME, came).await {
                    Ok(Ok(bytes)) => bytes,
                    Ok(Err(WebError::NotFound { .. })) => return Ok(None),
                    Ok(Err(error)) => return Err(told(&error)),
                    Err(_) => return Err(format!("it was not there after {} s", FILE_TIME.as_secs())),
                }
            }
            Place::Folder(root) => {
                return folder::get(&System, root, sealed, to).map_err(|error| told(&error));
            }
            Place::Archive { path, members } => {
                let Some(member) = members.get(&Name::Grant(*sealed, *to)) else { return Ok(None) };
                read_from(path, *member, GRANT_MAX_BYTES as u64)?
            }
        };
        let grant = folder::read(&bytes, sealed, to, folder::place(sealed, to));
        grant.map(Some).map_err(|error| told(&error))
    }
}

/// Brings the grant that opens a sealed blob with `secret` into `folder`, if it is not there and somebody has it; gives whether
/// it is there now. What is kept opens the blob, and is durable.
///
/// # Errors
/// If nobody gave one and not all could say that they have none.
pub async fn bring(
    sealed: &Sealed,
    secret: &NodeSecret,
    from: &[GrantSource],
    disk: &impl Disk,
    folder: &Path,
) -> Result<bool, BringError> {
    let (digest, to) = (sealed.digest, secret.public().id());
    let path = grant_path(folder, &digest);
    // One that cannot be read is brought again.
    let there = read_whole(disk, &path, GRANT_MAX_BYTES as u64).ok().flatten();
    let there = there.and_then(|bytes| Grant::parse(&bytes).ok());
    if there.is_some_and(|grant| sealed.is_opened_by(&grant, secret).is_ok()) {
        return Ok(true);
    }
    let mut faults = Vec::new();
    for source in from {
        let why = match source.fetch(&digest, &to).await {
            Ok(None) => continue,
            Err(why) => why,
            Ok(Some(grant)) => match sealed.is_opened_by(&grant, secret) {
                Err(why) => why,
                Ok(()) => {
                    make_folders(disk, folder)?;
                    write_whole(disk, &path, &grant.to_bytes())?;
                    return Ok(true);
                }
            },
        };
        faults.push(format!("{}: {why}", source.name));
    }
    if faults.is_empty() { Ok(false) } else { Err(BringError::Nobody { sealed: digest, faults }) }
}

/// Removes the grants for blobs that are not among `needed`, and what was begun and not ended. Gives how many went.
pub fn forget(disk: &impl Disk, folder: &Path, needed: &BTreeSet<Digest>) -> Result<usize, FileError> {
    let entries = match disk.list(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(FileError::at(folder)(error)),
    };
    let mut gone = 0;
    for entry in entries.iter().filter(|entry| entry.is_file) {
        let begun = entry.name.strip_suffix(".new");
        let hex = begun.unwrap_or(&entry.name).strip_suffix(".json").and_then(Hash::parse);
        let Some(sealed) = hex.map(Digest::from) else { continue };
        if begun.is_some() || !needed.contains(&sealed) {
            let path = folder.join(&entry.name);
            disk.remove(&path).map_err(FileError::at(&path))?;
            gone += usize::from(begun.is_none());
        }
    }
    disk.sync_folder(folder).map_err(FileError::at(folder))?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use package::descriptor::Descriptor;
    use package::disk::simulated::Simulated;
    use package::layout::Layout;
    use package::manifest::Manifest;
    use package::media;
    use package::seal::content::ContentKey;
    use package::seal::stream::Sealer;
    use package::seal::wrap::wrap;
    use wire::world;

    use super::*;

    /// A stick with a package in a folder and in one file, and a grant of its sealed weights for each node. The weights are
    /// always the same, their key in the grants as well, unless it is to be a wrong one.
    fn stick(root: &Path, nodes: &[&NodeSecret], is_wrong: bool) -> Sealed {
        let (chance, folder) = (&mut world::Simulated::new(7), root.join("package"));
        let key = ContentKey::draw(chance);
        let mut file = Vec::new();
        Sealer::new(&key, 7, chance).unwrap().seal(&mut &b"weights"[..], &mut file).unwrap();
        let layout = Layout::create(System, &folder).unwrap();
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        manifest.layers = vec![Descriptor::of(media::SEALED, &file)];
        let manifest = manifest.to_bytes();
        layout.put_blob(b"{}").unwrap();
        layout.put_blob(&manifest).unwrap();
        let digest = layout.put_blob(&file).unwrap();
        layout.set_ref("a:1", &Descriptor::of(media::OCI_MANIFEST, &manifest)).unwrap();
        let key = if is_wrong { ContentKey::draw(chance) } else { key };
        for node in nodes {
            layout.put_grant(&wrap(&key, digest, node.public(), chance).unwrap()).unwrap();
        }
        let mut archive = Vec::new();
        package::archive::write(&layout, &BTreeMap::new(), &mut archive).unwrap();
        std::fs::write(root.join("package.tar"), archive).unwrap();
        let store = Store::open(System, &folder, u64::MAX).unwrap();
        assert!(Sealed::of(&store, Digest::of(b"{}")).unwrap().is_none(), "too short");
        Sealed::of(&store, digest).unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_opens_comes_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let chance = &mut world::Simulated::new(1);
        let [ours, other] = [(); 2].map(|()| NodeSecret::generate(chance).unwrap());
        let sealed = stick(folder.path(), &[&ours], false);
        let grants = Path::new("/data/grants");
        for place in ["package", "package.tar"] {
            let disk = Simulated::new();
            let from = [GrantSource::in_folder(&folder.path().join(place)).unwrap()];
            assert!(!bring(&sealed, &ours, &[], &disk, grants).await.unwrap());
            assert!(!bring(&sealed, &other, &from, &disk, grants).await.unwrap());
            let another = Sealed { digest: Digest::of(b"x"), ..sealed.clone() };
            assert!(!bring(&another, &ours, &from, &disk, grants).await.unwrap());
            assert!(bring(&sealed, &ours, &from, &disk, grants).await.unwrap());
            assert!(bring(&sealed, &ours, &[], &disk, grants).await.unwrap(), "it is there");
            // One that the disk has damaged is brought again.
            write_whole(&disk, &grant_path(grants, &sealed.digest), b"{").unwrap();
            assert!(!bring(&sealed, &ours, &[], &disk, grants).await.unwrap());
            assert!(bring(&sealed, &ours, &from, &disk, grants).await.unwrap());
            assert_eq!(forget(&disk, grants, &BTreeSet::from([sealed.digest])).unwrap(), 0);
            assert_eq!(forget(&disk, grants, &BTreeSet::new()).unwrap(), 1);
            assert!(!bring(&sealed, &ours, &[], &disk, grants).await.unwrap());
        }
        assert_eq!(forget(&Simulated::new(), grants, &BTreeSet::new()).unwrap(), 0);
    }

    #[tokio::test]
    async fn what_does_not_open_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let ours = NodeSecret::generate(&mut world::Simulated::new(1)).unwrap();
        let [bad, good] = ["bad", "good"].map(|name| folder.path().join(name));
        for path in [&bad, &good] {
            std::fs::create_dir(path).unwrap();
        }
        let sealed = stick(&good, &[&ours], false);
        assert_eq!(stick(&bad, &[&ours], true).header, sealed.header);
        let source = |path: &Path| GrantSource::in_folder(&path.join("package")).unwrap();
        let (disk, grants) = (Simulated::new(), Path::new("/data/grants"));
        let refused = bring(&sealed, &ours, &[source(&bad)], &disk, grants).await.unwrap_err();
        assert!(refused.to_string().contains("the key is not this file's"), "{refused}");
        assert!(read_whole(&disk, &grant_path(grants, &sealed.digest), 5000).unwrap().is_none());
        // One that was changed on its way.
        let place = bad.join("package").join(folder::place(&sealed.digest, &ours.public().id()));
        let mut grant = String::from_utf8(std::fs::read(&place).unwrap()).unwrap();
        let at = grant.find("wrapped").unwrap() + 12;
        let other = if &grant[at..=at] == "A" { "B" } else { "A" };
        grant.replace_range(at..=at, other);
        std::fs::write(&place, grant).unwrap();
        let refused = bring(&sealed, &ours, &[source(&bad)], &disk, grants).await.unwrap_err();
        assert!(refused.to_string().contains("was changed after it was made"), "{refused}");
        assert!(bring(&sealed, &ours, &[source(&bad), source(&good)], &disk, grants).await.unwrap());
        assert!(GrantSource::in_folder(&folder.path().join("none")).is_err());
        assert!(
            GrantSource::at("ftp://x", None).is_err()
                && GrantSource::at("http://x", Some("\n\u{1}")).is_err()
        );
    }
}
