//! An OCI image layout in a folder: what `pack` makes, `push` sends and `export` puts on a stick.
//!
//! Blobs lie under their digests, `index.json` gives some of them names for people; grants for sealed blobs lie beside. Who
//! reads a layout from elsewhere believes none of it: small blobs are checked as they are read, large ones by who loads them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::chunks::Chunks;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::disk::{Create, Disk, DiskFile, FileError, make_folders, read_whole, sync_folder_of, write_whole};
use crate::form::{self, DOCUMENT_MAX_BYTES, FormError};
use crate::index::Index;
use crate::media;
use crate::seal::folder::{self, FolderError};
use crate::seal::wrap::Grant;
use crate::store::collect::{Root, reachable};

/// What makes a folder a layout.
pub const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file with [`MARK`].
pub const MARK_FILE: &str = "oci-layout";

/// The file with the names.
pub const INDEX_FILE: &str = "index.json";

/// A layout that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// One of its documents cannot be read.
    #[error("the layout cannot be read")]
    Form(#[from] FormError),
    /// Some other folder.
    #[error("{} is no package: it has no file {file}", root.display())]
    NotThere {
        /// The folder.
        root: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// A blob that something refers to is not there.
    #[error("{digest} is not there: the package is not whole")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A blob that is not what its name says.
    #[error("{digest} is damaged: get the package again")]
    Damaged {
        /// What it is called.
        digest: Digest,
    },
    /// A grant beside it.
    #[error(transparent)]
    Grant(#[from] FolderError),
    /// Somebody else writes here.
    #[error("another process is writing to {}: wait until it is done", root.display())]
    Busy {
        /// The folder.
        root: PathBuf,
    },
    /// What should come in did not.
    #[error("a file could not be copied into the package")]
    Incoming(#[source] io::Error),
}

/// `oci-layout`.
#[derive(Deserialize)]
struct Mark {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// A layout in a folder.
#[derive(Debug)]
pub struct Layout<D: Disk> {
    disk: D,
    root: PathBuf,
}

impl<D: Disk> Layout<D> {
    /// Opens the layout in a folder.
    pub fn open(disk: D, root: &Path) -> Result<Layout<D>, LayoutError> {
        let file = MARK_FILE;
        let mark = read_whole(&disk, &root.join(file), 1 << 10)?;
        let mark = mark.ok_or_else(|| LayoutError::NotThere { root: root.to_owned(), file })?;
        let Mark { version } = form::read("OCI image layout", &mark)?;
        if version != "1.0.0" {
            let what = "version of a layout";
            return Err(FormError::Unsupported { what, found: version, known: "1.0.0" }.into());
        }
        let layout = Layout { disk, root: root.to_owned() };
        layout.index()?;
        Ok(layout)
    }

    /// Opens the layout in a folder, or begins one there.
    pub fn create(disk: D, root: &Path) -> Result<Layout<D>, LayoutError> {
        make_folders(&disk, &root.join("blobs").join("sha256"))?;
        if read_whole(&disk, &root.join(INDEX_FILE), DOCUMENT_MAX_BYTES as u64)?.is_none() {
            write_whole(&disk, &root.join(INDEX_FILE), &Index::default().to_bytes())?;
        }
        if read_whole(&disk, &root.join(MARK_FILE), 1 << 10)?.is_none() {
            write_whole(&disk, &root.join(MARK_FILE), MARK)?;
        }
        Layout::open(disk, root)
    }

    /// Opens a blob, unchecked.
    pub fn blob(&self, digest: &Digest) -> Result<D::File, LayoutError> {
        let path = self.path(digest);
        match self.disk.open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(LayoutError::Missing { digest: *digest })
            }
            Err(error) => Err(FileError::at(&path)(error).into()),
        }
    }

    /// Reads a blob of at most `max_bytes`, and checks it.
    pub fn read_blob(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, LayoutError> {
        let bytes = read_whole(&self.disk, &self.path(digest), max_bytes)?;
        let bytes = bytes.ok_or(LayoutError::Missing { digest: *digest })?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(LayoutError::Damaged { digest: *digest }),
        }
    }

    /// Puts bytes under their digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::of(bytes);
        write_whole(&self.disk, &self.path(&digest), bytes)?;
        Ok(digest)
    }

    /// Puts all that a reader gives under its digest, and lists its chunks, in one pass.
    pub fn put_from(&self, reader: impl Read, chunk_bytes: u32) -> Result<(Digest, Chunks), LayoutError> {
        let part = self.blobs().join(".incoming.part");
        let lock = self.blobs().join(".incoming.lock");
        let held = self.disk.lock(&lock).map_err(FileError::at(&lock))?;
        let _held = held.ok_or_else(|| LayoutError::Busy { root: self.root.clone() })?;
        let file = self.disk.create(&part, Create::Truncate).map_err(FileError::at(&part))?;
        let tee = Tee { reader, file: &file, at: 0 };
        let came =
            Chunks::of(tee, chunk_bytes).map_err(LayoutError::Incoming).and_then(|(digest, chunks)| {
                file.sync().map_err(FileError::at(&part))?;
                self.disk.rename(&part, &self.path(&digest)).map_err(FileError::at(&part))?;
                sync_folder_of(&self.disk, &part)?;
                Ok((digest, chunks))
            });
        if came.is_err() {
            // The first failure is the one to tell.
            drop(self.disk.remove(&part));
        }
        came
    }

    /// The manifests and indices that have names, with [`media::REF_NAME`].
    pub fn refs(&self) -> Result<Vec<Descriptor>, LayoutError> {
        Ok(self.index()?.manifests)
    }

    /// Gives a name to a manifest or an index, and takes it from the one that had it.
    pub fn set_ref(&self, name: &str, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let mut index = self.index()?;
        let named = descriptor.clone().with(media::REF_NAME, name);
        let old = index.manifests.iter_mut().find(|entry| entry.annotation(media::REF_NAME) == Some(name));
        match old {
            Some(entry) => *entry = named,
            None => index.manifests.push(named),
        }
        Ok(write_whole(&self.disk, &self.root.join(INDEX_FILE), &index.to_bytes())?)
    }

    /// `index.json` as it is.
    pub fn index_bytes(&self) -> Result<Vec<u8>, LayoutError> {
        let bytes = read_whole(&self.disk, &self.root.join(INDEX_FILE), DOCUMENT_MAX_BYTES as u64)?;
        bytes.ok_or_else(|| LayoutError::NotThere { root: self.root.clone(), file: INDEX_FILE })
    }

    /// All blobs that what has a name needs, it included.
    pub fn reachable(&self) -> Result<BTreeSet<Digest>, LayoutError> {
        let roots = self.refs()?.into_iter().map(|entry| Root::Tree(entry.digest));
        reachable(roots, |digest| self.read_blob(digest, DOCUMENT_MAX_BYTES as u64).map(Some))
    }

    /// Keeps a grant beside the package.
    pub fn put_grant(&self, grant: &Grant) -> Result<(), LayoutError> {
        Ok(folder::put(&self.disk, &self.root, grant)?)
    }

    /// The grants for a sealed blob that lie beside the package, by key.
    pub fn grants(&self, sealed: &Digest) -> Result<Vec<Grant>, LayoutError> {
        Ok(folder::all_of(&self.disk, &self.root, sealed)?)
    }

    fn index(&self) -> Result<Index, LayoutError> {
        Ok(Index::parse(&self.index_bytes()?)?)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

/// Copies what is read into a file.
struct Tee<'a, R, F> {
    reader: R,
    file: &'a F,
    at: u64,
}

impl<R: Read, F: DiskFile> Read for Tee<'_, R, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.reader.read(into)?;
        self.file.write_at(self.at, &into[..came])?;
        self.at += came as u64;
        Ok(came)
    }
}

/// Reads a file from its beginning.
#[derive(Debug)]
pub struct FileReader<F> {
    file: F,
    at: u64,
}

impl<F: DiskFile> FileReader<F> {
    /// At the beginning.
    pub fn new(file: F) -> FileReader<F> {
        FileReader { file, at: 0 }
    }
}

impl<F: DiskFile> Read for FileReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.file.read_at(self.at, into)?;
        self.at += came as u64;
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::Simulated;
    use crate::disk::system::System;
    use crate::manifest::Manifest;

    #[test]
    fn what_is_put_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(System, folder.path()).unwrap();
        let small = layout.put_blob(b"{}").unwrap();
        let large = vec![7; 10_000];
        let (digest, chunks) = layout.put_from(&large[..], 4096).unwrap();
        assert_eq!((digest, chunks.len()), (Digest::of(&large), 3));
        let layout = Layout::open(System, folder.path()).unwrap();
        assert_eq!(layout.read_blob(&digest, 10_000).unwrap(), large);
        assert!(layout.read_blob(&digest, 9_999).is_err());
        let mut read = Vec::new();
        FileReader::new(layout.blob(&digest).unwrap()).read_to_end(&mut read).unwrap();
        assert_eq!(read, large);
        assert!(matches!(layout.blob(&Digest::of(b"x")), Err(LayoutError::Missing { .. })));
        std::fs::write(folder.path().join("blobs/sha256").join(small.hex()), b"[]").unwrap();
        assert!(matches!(layout.read_blob(&small, 10), Err(LayoutError::Damaged { .. })));
        let names = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside");
    }

    #[test]
    fn names_move() {
        let disk = Simulated::new();
        let layout = Layout::create(disk, Path::new("/data/p")).unwrap();
        let config = Descriptor::new(media::OCI_EMPTY, layout.put_blob(b"{}").unwrap(), 2);
        let bytes = Manifest::new(media::MODEL_MANIFEST, config).to_bytes();
        let manifest =
            Descriptor::new(media::OCI_MANIFEST, layout.put_blob(&bytes).unwrap(), bytes.len() as u64);
        let other = layout.put_blob(b"nobody's").unwrap();
        layout.set_ref("a:1", &config_of(b"{}")).unwrap();
        layout.set_ref("a:2", &manifest).unwrap();
        layout.set_ref("a:1", &manifest).unwrap();
        let refs = layout.refs().unwrap();
        let names: Vec<_> = refs.iter().map(|entry| entry.annotation(media::REF_NAME).unwrap()).collect();
        assert_eq!(names, ["a:1", "a:2"]);
        assert!(refs.iter().all(|entry| entry.digest == manifest.digest));
        let reached = layout.reachable().unwrap();
        assert_eq!(reached, BTreeSet::from([manifest.digest, Digest::of(b"{}")]));
        assert!(!reached.contains(&other));
    }

    fn config_of(bytes: &[u8]) -> Descriptor {
        Descriptor::of(media::OCI_EMPTY, bytes)
    }

    #[test]
    fn other_folders_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Layout::open(System, folder.path()).unwrap_err();
        assert!(matches!(open(), LayoutError::NotThere { file: MARK_FILE, .. }));
        std::fs::write(folder.path().join(MARK_FILE), br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(open(), LayoutError::Form(FormError::Unsupported { .. })));
        std::fs::write(folder.path().join(MARK_FILE), MARK).unwrap();
        assert!(matches!(open(), LayoutError::NotThere { file: INDEX_FILE, .. }));
        std::fs::write(folder.path().join(INDEX_FILE), b"[]").unwrap();
        assert!(matches!(open(), LayoutError::Form(FormError::Json { .. })));
    }

    /// What is no plain file under a blob's name is an error at once, whoever waits at its other end.
    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_folders_are_no_blobs() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(System, folder.path()).unwrap();
        let at = |name: &[u8]| (Digest::of(name), layout.path(&Digest::of(name)));
        let (pipe, device, inner, loops, away) = (at(b"1"), at(b"2"), at(b"3"), at(b"4"), at(b"5"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe.1).status().unwrap().success());
        symlink("/dev/zero", &device.1).unwrap();
        std::fs::create_dir(&inner.1).unwrap();
        symlink(&loops.1, &loops.1).unwrap();
        std::fs::write(folder.path().join("secret"), b"not what it is called").unwrap();
        symlink(folder.path().join("secret"), &away.1).unwrap();
        for (digest, path) in [&pipe, &device, &inner, &loops] {
            assert!(layout.blob(digest).is_err(), "{}", path.display());
            assert!(layout.read_blob(digest, 100).is_err(), "{}", path.display());
        }
        assert!(matches!(layout.read_blob(&away.0, 100), Err(LayoutError::Damaged { .. })));
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(System, folder.path()).unwrap();
        let held = System.lock(&layout.blobs().join(".incoming.lock")).unwrap();
        assert!(matches!(layout.put_from(&b"x"[..], 4096), Err(LayoutError::Busy { .. })));
        drop(held);
        assert!(layout.put_from(&b"x"[..], 4096).is_ok());
    }
}
