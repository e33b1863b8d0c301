//! GGUF, the file a model comes in: metadata and tensors.
//!
//! Stands between the disk (`map`) and everything that asks what a model is. A [`Gguf`] is the whole description,
//! read once and checked; the numbers stay where they are, in the map or buffer, and [`Gguf::bytes_of`] gives a range
//! of it. Always: what a stranger sends gives an error that says where and what, never a panic, and never more memory
//! than a small multiple of the file. [`write`](mod@write) is the other direction. In reading order:
//!
//! - [`value`], [`metadata`]: what a file says about itself; [`tensor`]: what it says of a tensor;
//! - [`header`]: reads and checks the front of a file, over [`cursor`];
//! - `split`: models in several files; [`write`](mod@write): the writer.

pub mod cursor;
pub mod header;
pub mod metadata;
mod split;
pub mod tensor;
pub mod value;
pub mod write;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use self::header::{Header, HeaderError};
use self::metadata::{Metadata, MetadataError};
use self::split::Split;
use self::tensor::Tensor;
use crate::map::{self, Map, MapError};

/// A model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be reached.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The bytes are no GGUF, or broken, or of an unsupported version.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The same, with the name of the file.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// The metadata says of which parts the model consists, but not in a way that can be read.
    #[error("the parts of the model cannot be told")]
    Parts(#[from] MetadataError),
    /// Bytes without a path, of a model in several files.
    #[error(
        "this is part {number} of a model that was split into {count} files: open the first part by its path, with the others beside it"
    )]
    PartAlone {
        /// Which part, from 1.
        number: u32,
        /// How many there are.
        count: u16,
    },
    /// Another part than the first was opened.
    #[error("{} is part {number} of {count} of a split model: open the first part", path.display())]
    NotTheFirstPart {
        /// What was opened.
        path: PathBuf,
        /// Which part it is, from 1.
        number: u32,
        /// How many there are.
        count: u16,
    },
    /// A first part whose name does not lead to the others.
    #[error(
        "{} is the first of {count} parts, but is not called NAME-00001-of-{count:05}.gguf: the others cannot be found (or merge them with llama.cpp's gguf-split --merge)",
        path.display()
    )]
    PartName {
        /// What was opened.
        path: PathBuf,
        /// How many parts there are.
        count: u16,
    },
    /// A file with the name of a part, which is not that part.
    #[error("{} is not part {wanted} of the model whose first part lies beside it", path.display())]
    WrongPart {
        /// Which file.
        path: PathBuf,
        /// Which part it should be, from 1.
        wanted: u32,
    },
    /// A tensor in two parts.
    #[error("the tensor {name:?} is in two parts of the model")]
    DuplicateTensor {
        /// Which.
        name: String,
    },
    /// Parts that do not add up.
    #[error("the parts of the model have {found} tensors together, but should have {wanted}")]
    PartTensors {
        /// What the first part says.
        wanted: u64,
        /// What is there.
        found: usize,
    },
}

/// A model file: everything it says about itself, and its bytes.
#[derive(Clone, Debug)]
pub struct Gguf {
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
    parts: Vec<Part>,
}

/// One file of a model.
#[derive(Clone, Debug)]
struct Part {
    bytes: Bytes,
    data_at: u64,
    map: Option<Map>,
}

/// How the bytes of a part come into memory.
type Fetch = dyn Fn(&Path) -> Result<(Bytes, Option<Map>), MapError>;

impl Gguf {
    /// Maps a file into memory. While the result lives, the file must not be shortened, see [`map`]. Of a
    /// split model, opens the first part and finds the others beside it.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        Gguf::load(path, &|path| {
            let map = Map::open(path)?;
            Ok((map.bytes().clone(), Some(map)))
        })
    }

    /// Reads a whole file into memory, where nobody can change it any more. Of a split model like [`Gguf::open`].
    pub fn read(path: &Path) -> Result<Gguf, GgufError> {
        Gguf::load(path, &|path| Ok((map::read(path)?, None)))
    }

    /// Takes bytes that are already in memory: one whole file.
    pub fn parse(bytes: Bytes) -> Result<Gguf, GgufError> {
        Gguf::whole(bytes, None)
    }

    /// Takes a file that is mapped already, so that the bytes that somebody checked are the bytes that are read: one whole
    /// file.
    pub fn of_map(map: Map) -> Result<Gguf, GgufError> {
        Gguf::whole(map.bytes().clone(), Some(map))
    }

    fn whole(bytes: Bytes, map: Option<Map>) -> Result<Gguf, GgufError> {
        let header = Header::parse(&bytes)?;
        if let Some(split) = Split::of(&header.metadata)? {
            return Err(GgufError::PartAlone { number: u32::from(split.number) + 1, count: split.count });
        }
        let part = Part { bytes, data_at: header.data_at, map };
        Gguf::new(header, vec![part])
    }

    /// Checks that `bytes` begin like a GGUF file that we read, and gives its version. For what has no whole file yet,
    /// like a download.
    pub fn version_of(bytes: &[u8]) -> Result<u32, GgufError> {
        Ok(header::version_of(bytes)?)
    }

    fn load(path: &Path, fetch: &Fetch) -> Result<Gguf, GgufError> {
        let part = |path: &Path| -> Result<(Header, Part), GgufError> {
            let (bytes, map) = fetch(path)?;
            let in_file = |source| GgufError::File { path: path.to_owned(), source };
            let header = Header::parse(&bytes).map_err(in_file)?;
            let data_at = header.data_at;
            Ok((header, Part { bytes, data_at, map }))
        };
        let (mut header, first) = part(path)?;
        let mut parts = vec![first];
        let Some(split) = Split::of(&header.metadata)? else {
            return Gguf::new(header, parts);
        };
        let Split { number, count, tensors } = split;
        if number != 0 {
            let number = u32::from(number) + 1;
            return Err(GgufError::NotTheFirstPart { path: path.to_owned(), number, count });
        }
        for number in 1..count {
            let unnamed = || GgufError::PartName { path: path.to_owned(), count };
            let path = split.path_of(path, number).ok_or_else(unnamed)?;
            let (other, file) = part(&path)?;
            let fits = |other: Split| other.number == number && other.count == count;
            if !Split::of(&other.metadata)?.is_some_and(fits) {
                return Err(GgufError::WrongPart { path, wanted: u32::from(number) + 1 });
            }
            header.tensors.extend(other.tensors.into_iter().map(|tensor| Tensor { part: number, ..tensor }));
            parts.push(file);
        }
        let found = header.tensors.len();
        match tensors {
            Some(wanted) if wanted != found as u64 => Err(GgufError::PartTensors { wanted, found }),
            _ => Gguf::new(header, parts),
        }
    }

    fn new(header: Header, parts: Vec<Part>) -> Result<Gguf, GgufError> {
        let Header { version, metadata, tensors, alignment, .. } = header;
        let mut by_name: Vec<u32> = (0..).take(tensors.len()).collect();
        by_name.sort_by(|&a, &b| tensors[a as usize].name.cmp(&tensors[b as usize].name));
        for pair in by_name.windows(2) {
            let name = &tensors[pair[0] as usize].name;
            if *name == tensors[pair[1] as usize].name {
                return Err(GgufError::DuplicateTensor { name: header::shortened(name) });
            }
        }
        Ok(Gguf { version, alignment, metadata, tensors, by_name, parts })
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the offsets of tensors are a multiple of, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// What the model says about itself. Of a split model: what its first part says.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let named = |&index: &u32| self.tensors[index as usize].name.as_str().cmp(name);
        let place = self.by_name.binary_search_by(named).ok()?;
        Some(&self.tensors[self.by_name[place] as usize])
    }

    /// The numbers of a tensor of this file, as they lie in it; no copy.
    ///
    /// # Panics
    /// If the tensor is of another file.
    pub fn bytes_of(&self, tensor: &Tensor) -> Bytes {
        let (part, start, length) = self.range_of(tensor);
        part.bytes.slice(start..start + length)
    }

    /// Tells the system that a tensor will be read soon; does nothing for a file that was read into memory.
    pub fn will_need(&self, tensor: &Tensor) {
        let (part, start, length) = self.range_of(tensor);
        if let Some(map) = &part.map {
            map.will_need(start, length);
        }
    }

    /// Tells the system that these bytes of the file will not be read again soon, so that it takes their memory back; does
    /// nothing for a file that was read into memory. They may be read nevertheless.
    pub fn done_with(&self, bytes: &Bytes) {
        for part in &self.parts {
            let start = (bytes.as_ptr() as usize).wrapping_sub(part.bytes.as_ptr() as usize);
            if let Some(map) = part.map.as_ref().filter(|_| start < part.bytes.len()) {
                map.done_with(start, bytes.len());
            }
        }
    }

    /// Tells the system that all parts will be read once, from front to back.
    pub fn sequential(&self) {
        for map in self.parts.iter().filter_map(|part| part.map.as_ref()) {
            map.sequential();
        }
    }

    /// How many files the model is.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    fn range_of(&self, tensor: &Tensor) -> (&Part, usize, usize) {
        let part = self.parts.get(usize::from(tensor.part)).expect("the tensor is of this file");
        let start = part.data_at.checked_add(tensor.offset).expect("the tensor is of this file");
        let within = "a tensor lies inside its file, which is inside memory";
        (part, usize::try_from(start).expect(within), usize::try_from(tensor.bytes).expect(within))
    }
}
