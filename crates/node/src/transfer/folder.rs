//! A package in a folder or in one file as an origin: a stick, a share, what `pack` and `export` wrote.
//!
//! Being on this machine makes it no more genuine: its bytes are proven like those of anybody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use package::archive::{ArchiveError, Member, Name, contents, read_member};
use package::digest::Digest;
use package::disk::system::{OpenFile, System};
use package::disk::{Disk, DiskFile, FileError};
use package::form::{DOCUMENT_MAX_BYTES, FormError};
use package::index::{Index, Release};
use package::layout::{Layout, LayoutError};
use package::media;

use crate::transfer::blocking::blocking;
use crate::transfer::origin::{Body, Fault, Later, Origin, Reply, Wanted};
use crate::why::why;

/// How much is read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A folder or file that is no package.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or may not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder is no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The file is no archive of one.
    #[error("{} is no package", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// One of its documents.
    #[error("{name} cannot be read")]
    Form {
        /// Which.
        name: String,
        /// Why.
        source: FormError,
    },
}

/// A package on this machine.
#[derive(Debug)]
pub struct Folder {
    place: Arc<Place>,
    name: String,
}

#[derive(Debug)]
enum Place {
    Layout(Layout<System>),
    Archive { path: PathBuf, members: BTreeMap<Name, Member> },
}

impl Folder {
    /// Opens a folder with a layout, or a `.tar` of one. Blocks: of an archive the whole list of contents is read.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        let name = path.display().to_string();
        let place = if path.is_dir() {
            Place::Layout(Layout::open(System, path)?)
        } else {
            let mut file = File::open(path).map_err(FileError::at(path))?;
            let refused = |source| FolderError::Archive { path: path.to_owned(), source };
            Place::Archive { path: path.to_owned(), members: contents(&mut file).map_err(refused)? }
        };
        Ok(Folder { place: Arc::new(place), name })
    }

    /// The releases of models in it, as it says itself: by model, the lowest first. Blocks.
    pub fn releases(&self) -> Result<Vec<Release>, FolderError> {
        let bytes = match &*self.place {
            Place::Layout(layout) => layout.index_bytes()?,
            Place::Archive { path, members } => match members.get(&Name::Index) {
                Some(index) => read_file(path, *index)?,
                None => return Ok(Vec::new()),
            },
        };
        let form = |name: &str| {
            let name = name.to_owned();
            move |source| FolderError::Form { name, source }
        };
        let index = Index::parse(&bytes).map_err(form("index.json"))?;
        let ours = index.manifests.into_iter().filter(|entry| {
            entry.media_type == media::OCI_INDEX && entry.artifact_type.as_deref() == Some(media::PACKAGE)
        });
        let read = |digest: Digest| {
            let bytes = self.place.document(&digest)?;
            Release::read(&bytes).map_err(form(&digest.to_string()))
        };
        let mut releases =
            ours.map(|entry| read(entry.digest)).collect::<Result<Vec<Release>, FolderError>>()?;
        releases.sort_by(|a, b| (&a.model, a.release).cmp(&(&b.model, b.release)));
        Ok(releases)
    }
}

/// A small file of an archive, whole.
fn read_file(path: &Path, member: Member) -> Result<Vec<u8>, FolderError> {
    let mut file = File::open(path).map_err(FileError::at(path))?;
    Ok(read_member(&mut file, member).map_err(FileError::at(path))?)
}

impl Place {
    /// A document, checked against its digest.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>, FolderError> {
        let max_bytes = DOCUMENT_MAX_BYTES as u64;
        let (path, member) = match self {
            Place::Layout(layout) => return Ok(layout.read_blob(digest, max_bytes)?),
            Place::Archive { path, members } => (path, members.get(&Name::Blob(*digest)).copied()),
        };
        let member = member.ok_or(LayoutError::Missing { digest: *digest })?;
        if member.size > max_bytes {
            let why = format!("{digest} has {} bytes, more than the {max_bytes} that are read", member.size);
            return Err(FileError::at(path)(io::Error::new(io::ErrorKind::InvalidData, why)).into());
        }
        let bytes = read_file(path, member)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(LayoutError::Damaged { digest: *digest }.into()),
        }
    }

    /// A blob's file, and where in it the blob lies.
    fn blob(&self, digest: &Digest) -> Result<(OpenFile, Member), Fault> {
        let broken = |why: String| Fault::Unreachable { why };
        match self {
            Place::Layout(layout) => {
                let file = match layout.blob(digest) {
                    Err(LayoutError::Missing { .. }) => return Err(Fault::NotThere),
                    file => file.map_err(|error| broken(why(&error)))?,
                };
                let size = file.size_bytes().map_err(|error| broken(error.to_string()))?;
                Ok((file, Member { at: 0, size }))
            }
            Place::Archive { path, members } => {
                let member = members.get(&Name::Blob(*digest)).ok_or(Fault::NotThere)?;
                let file = System.open(path).map_err(|error| broken(error.to_string()))?;
                Ok((file, *member))
            }
        }
    }
}

impl Origin for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_near(&self) -> bool {
        true
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, range: Option<Range<u64>>) -> Later<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let (place, digest) = (Arc::clone(&self.place), wanted.digest);
            let (file, member) = blocking(move || place.blob(&digest)).await?;
            if member.size != wanted.size {
                let why = format!("it has {} bytes, not {}", member.size, wanted.size);
                return Err(Fault::WrongRange { why });
            }
            let range = range.unwrap_or(0..wanted.size);
            let piece =
                Pieces { file: Arc::new(file), at: member.at + range.start, end: member.at + range.end };
            let body: Box<dyn Body> = Box::new(piece);
            Ok(Reply { range, body })
        })
    }
}

/// Bytes of a file, from `at` to `end`.
struct Pieces {
    file: Arc<OpenFile>,
    at: u64,
    end: u64,
}

impl Body for Pieces {
    fn next(&mut self) -> Later<'_, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async move {
            let (file, at) = (Arc::clone(&self.file), self.at);
            let mut piece = vec![0; (self.end - at).min(PIECE_BYTES) as usize];
            let read = move || {
                let came = file.read_at(at, &mut piece);
                came.map(|came| {
                    piece.truncate(came);
                    piece
                })
            };
            let piece = blocking(read)
                .await
                .map_err(|error| Fault::Reset { why: format!("at byte {at}: {error}") })?;
            self.at += piece.len() as u64;
            Ok(Some(piece).filter(|piece| !piece.is_empty()))
        })
    }
}
