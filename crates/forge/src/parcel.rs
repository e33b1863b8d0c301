//! A package as it lies here: the folder that `pack` made, or one `.tar` from a stick, read the same way; or only what it says
//! of itself, of one that lies in a registry.
//!
//! Stands before `sign`, `verify`, `export` and whoever shows a package. Nothing in it is believed: documents are checked
//! against their digests as they are read, what is large by `verify` and by whoever loads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use package::archive::{self, ArchiveError, Member, Name};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::system::{OpenFile, System};
use package::disk::{Disk, DiskFile, FileError};
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::index::{Index, Release};
use package::layout::{Layout, LayoutError};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::VariantName;
use package::seal::folder::{self, FolderError};
use package::seal::stream::HEADER_BYTES;
use package::seal::wrap::Grant;

/// A package that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// A folder that is none, or not whole.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file that is none, or not whole.
    #[error("{} is no package in one file", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A grant beside it.
    #[error(transparent)]
    Grant(#[from] FolderError),
    /// One of its documents.
    #[error("{name} cannot be read")]
    Form {
        /// Which document.
        name: String,
        /// Why.
        source: FormError,
    },
    /// No release of ours.
    #[error("{} holds no release of a model: `selvedge pack` makes such packages", path.display())]
    Empty {
        /// The package.
        path: PathBuf,
    },
    /// More than one, and nobody said which.
    #[error("{} holds {}: say which one with --release", path.display(), names.join(", "))]
    Many {
        /// The package.
        path: PathBuf,
        /// Which ones.
        names: Vec<String>,
    },
    /// Not the one that was asked for.
    #[error("{} holds no {wanted}, it holds {}", path.display(), names.join(", "))]
    Other {
        /// The package.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        names: Vec<String>,
    },
}

/// A package in a folder or a file.
pub struct Parcel {
    path: PathBuf,
    place: Place,
}

enum Place {
    Folder(Layout<System>),
    Tar {
        file: OpenFile,
        members: BTreeMap<Name, Member>,
    },
    /// Its layers are elsewhere.
    Documents {
        entries: Vec<Entry>,
        documents: BTreeMap<Digest, Vec<u8>>,
    },
}

/// Sealed weights of a package.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The variant that has them.
    pub variant: VariantName,
    /// Their layer.
    pub weights: Descriptor,
    /// Who may open them, by key, as far as grants lie beside the package.
    pub grants: Vec<Grant>,
}

/// A release of a package.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its index.
    pub index: Descriptor,
    /// The index's bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub release: Release,
}

impl Entry {
    /// `smollm2:7`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.release.model, self.release.release)
    }
}

impl Parcel {
    /// Opens a folder or a `.tar`.
    pub fn open(path: &Path) -> Result<Parcel, ParcelError> {
        if !path.is_file() {
            let layout = Layout::open(System, path)?;
            return Ok(Parcel { path: path.to_owned(), place: Place::Folder(layout) });
        }
        let refused = |source| ParcelError::Archive { path: path.to_owned(), source };
        let mut reader = File::open(path).map_err(FileError::at(path))?;
        let members = archive::contents(&mut reader).map_err(refused)?;
        let file = System.open(path).map_err(FileError::at(path))?;
        Ok(Parcel { path: path.to_owned(), place: Place::Tar { file, members } })
    }

    /// A package of which only documents are here: manifests and configs, which have their digests, and none of its layers.
    /// `name`: what it is called.
    pub fn of_documents(name: &str, entries: Vec<Entry>, documents: BTreeMap<Digest, Vec<u8>>) -> Parcel {
        Parcel { path: name.into(), place: Place::Documents { entries, documents } }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, if it is one.
    pub fn layout(&self) -> Option<&Layout<System>> {
        match &self.place {
            Place::Folder(layout) => Some(layout),
            Place::Tar { .. } | Place::Documents { .. } => None,
        }
    }

    /// All releases in it, by name.
    pub fn entries(&self) -> Result<Vec<Entry>, ParcelError> {
        let bytes = match &self.place {
            Place::Documents { entries, .. } => return Ok(entries.clone()),
            Place::Folder(layout) => layout.index_bytes()?,
            Place::Tar { members, .. } => {
                let member = members.get(&Name::Index).copied();
                self.read(member.ok_or_else(|| ParcelError::Empty { path: self.path.clone() })?)?
            }
        };
        let form = |name: &str| {
            let name = name.to_owned();
            move |source| ParcelError::Form { name, source }
        };
        let index = Index::parse(&bytes).map_err(form("index.json"))?;
        let ours = index.manifests.into_iter().filter(|entry| {
            entry.media_type == media::OCI_INDEX && entry.artifact_type.as_deref() == Some(media::PACKAGE)
        });
        let entries = ours.map(|index| -> Result<Entry, ParcelError> {
            let bytes = self.document(&index.digest)?;
            let release = Release::read(&bytes).map_err(form(&index.digest.to_string()))?;
            Ok(Entry { index, bytes, release })
        });
        let mut entries = entries.collect::<Result<Vec<Entry>, _>>()?;
        entries.sort_by(|a, b| {
            (&a.release.model, a.release.release).cmp(&(&b.release.model, b.release.release))
        });
        Ok(entries)
    }

    /// The release called `wanted`, such as `smollm2:7`; without that the only one there is.
    pub fn entry(&self, wanted: Option<&str>) -> Result<Entry, ParcelError> {
        let mut entries = self.entries()?;
        let (path, names) = (self.path.clone(), entries.iter().map(Entry::name).collect::<Vec<_>>());
        match wanted {
            Some(wanted) => match names.iter().position(|name| name == wanted) {
                Some(at) => Ok(entries.swap_remove(at)),
                None => Err(ParcelError::Other { path, wanted: wanted.to_owned(), names }),
            },
            None if entries.len() > 1 => Err(ParcelError::Many { path, names }),
            None => entries.pop().ok_or(ParcelError::Empty { path }),
        }
    }

    /// A manifest, an index or another document, checked against its digest.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, ParcelError> {
        let max_bytes = DOCUMENT_MAX_BYTES as u64;
        let member = match &self.place {
            Place::Folder(layout) => return Ok(layout.read_blob(digest, max_bytes)?),
            Place::Documents { documents, .. } => {
                return Ok(documents.get(digest).cloned().ok_or(LayoutError::Missing { digest: *digest })?);
            }
            Place::Tar { .. } => self.member(digest)?,
        };
        if member.size > max_bytes {
            let why = format!("{digest} has {} bytes, more than the {max_bytes} that are read", member.size);
            return Err(FileError::at(&self.path)(io::Error::new(io::ErrorKind::InvalidData, why)).into());
        }
        let bytes = self.read(member)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(LayoutError::Damaged { digest: *digest }.into()),
        }
    }

    /// A manifest, checked against its digest.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, ParcelError> {
        let form = |source| ParcelError::Form { name: digest.to_string(), source };
        Manifest::parse(&self.document(digest)?).map_err(form)
    }

    /// A blob as it lies there, unchecked; and its length in bytes.
    pub fn blob(&self, digest: &Digest) -> Result<(impl Read + '_, u64), ParcelError> {
        let (file, at, size) = match &self.place {
            Place::Folder(layout) => {
                let file = layout.blob(digest)?;
                let size = file.size_bytes().map_err(FileError::at(&self.path))?;
                (Source::Own(file), 0, size)
            }
            Place::Tar { file, .. } => {
                let member = self.member(digest)?;
                (Source::Shared(file), member.at, member.size)
            }
            Place::Documents { .. } => return Err(LayoutError::Missing { digest: *digest }.into()),
        };
        Ok((Window { file, at, end: at + size }, size))
    }

    /// Metadata of TUF that travels with it, by the names of the files; none in a folder.
    pub fn metadata(&self) -> Result<BTreeMap<String, Vec<u8>>, ParcelError> {
        let Place::Tar { members, .. } = &self.place else { return Ok(BTreeMap::new()) };
        let metadata = members.iter().filter_map(|(name, member)| match name {
            Name::Metadata(file) => Some(self.read(*member).map(|bytes| (file.as_str().to_owned(), bytes))),
            _ => None,
        });
        metadata.collect()
    }

    /// The grants for a sealed blob that travel with the package, by key.
    pub fn grants(&self, sealed: &Digest) -> Result<Vec<Grant>, ParcelError> {
        let members = match &self.place {
            Place::Folder(layout) => return Ok(layout.grants(sealed)?),
            Place::Tar { members, .. } => members,
            Place::Documents { .. } => return Ok(Vec::new()),
        };
        let grants = members.iter().filter_map(|(name, member)| match name {
            Name::Grant(of, to) if of == sealed => Some((name, *to, *member)),
            _ => None,
        });
        let read = |(name, to, member): (&Name, _, _)| -> Result<Grant, ParcelError> {
            Ok(folder::read(&self.read(member)?, sealed, &to, name.to_string())?)
        };
        grants.map(read).collect()
    }

    /// The sealed weights of a release.
    pub fn sealed(&self, entry: &Entry) -> Result<Vec<Sealed>, ParcelError> {
        let mut sealed = Vec::new();
        for variant in &entry.release.variants {
            let manifest = self.manifest(&variant.manifest.digest)?;
            let weights = manifest.layer(Role::Weights).filter(|layer| layer.media_type == media::SEALED);
            if let Some(weights) = weights {
                let grants = self.grants(&weights.digest)?;
                sealed.push(Sealed { variant: variant.name.clone(), weights: weights.clone(), grants });
            }
        }
        Ok(sealed)
    }

    /// The first bytes of a sealed blob, and its length; `None` if it is too short to be one.
    pub fn seal_header(&self, sealed: &Digest) -> Result<Option<([u8; HEADER_BYTES], u64)>, ParcelError> {
        let (mut reader, size) = self.blob(sealed)?;
        let mut header = [0; HEADER_BYTES];
        match reader.read_exact(&mut header) {
            Ok(()) => Ok(Some((header, size))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(FileError::at(&self.path)(error).into()),
        }
    }

    fn member(&self, digest: &Digest) -> Result<Member, ParcelError> {
        let member = match &self.place {
            Place::Tar { members, .. } => members.get(&Name::Blob(*digest)).copied(),
            Place::Folder(_) | Place::Documents { .. } => None,
        };
        Ok(member.ok_or(LayoutError::Missing { digest: *digest })?)
    }

    /// A small file of the archive; how long it may be, opening has checked.
    fn read(&self, member: Member) -> Result<Vec<u8>, ParcelError> {
        let mut reader = File::open(&self.path).map_err(FileError::at(&self.path))?;
        Ok(archive::read_member(&mut reader, member).map_err(FileError::at(&self.path))?)
    }
}

/// A part of a file, read from its beginning.
struct Window<'a> {
    file: Source<'a>,
    at: u64,
    end: u64,
}

enum Source<'a> {
    Own(OpenFile),
    Shared(&'a OpenFile),
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let asked = left.min(into.len());
        let file = match &self.file {
            Source::Own(file) => file,
            Source::Shared(file) => file,
        };
        let came = file.read_at(self.at, &mut into[..asked])?;
        self.at += came as u64;
        Ok(came)
    }
}
