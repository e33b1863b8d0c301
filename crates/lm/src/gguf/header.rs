//! The front of a GGUF file: its version, its metadata, and where each tensor lies. Little endian, versions 2 and 3.
//!
//! Stands between the bytes of a stranger and `gguf`. Always: a count is compared with the bytes that are left before
//! anything is allocated, so that memory stays within a small multiple of the file; tensors lie inside the data, on
//! their alignment, and do not overlap; nothing panics.

use super::cursor::{Cursor, Truncated};
use super::metadata::Metadata;
use super::tensor::{Tensor, TensorFormat};
use super::value::{Array, Kind, Strings, Value};

/// Where tensors lie if the file does not say: every 32 bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The most we take for an alignment. Real files have 32, a page at most; more would only pad.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

/// The most dimensions a tensor has; ggml's limit.
pub const MAX_DIMENSIONS: usize = 4;

/// The longest key or tensor name that is read: the specification's limit for keys.
pub const MAX_NAME_BYTES: u64 = 65_535;

/// The fewest bytes a metadata entry takes: the length of its key, its type, a value of one byte.
const LEAST_ENTRY_BYTES: u64 = 8 + 4 + 1;

/// The fewest bytes a tensor's description takes: the length of its name, the count of its dimensions, one of them,
/// its type, its offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// What the front of a file says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
    pub(super) alignment: u64,
    /// Where the data of the tensors begins, in bytes from the beginning of the file.
    pub(super) data_at: u64,
}

/// Bytes that are no GGUF file, or one that is broken or not supported. Names that a file brings are cut to
/// 80 characters and escaped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Another kind of file.
    #[error("not a GGUF file: it {found}")]
    NotGguf {
        /// What it looks like.
        found: String,
    },
    /// Written before October 2023.
    #[error(
        "GGUF version 1, which llama.cpp wrote before October 2023, is not supported: convert the model again from its source, or download a newer file"
    )]
    Version1,
    /// Written for a machine with the other byte order.
    #[error(
        "a big-endian GGUF file is not supported: convert the model again for little endian (gguf-py has `gguf-convert-endian FILE little`)"
    )]
    BigEndian,
    /// A version newer than this program.
    #[error("GGUF version {found} is not supported, versions 2 and 3 are")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// See [`Truncated`].
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A count that the rest of the file cannot hold.
    #[error(
        "{what} at byte {at} is said to have {count} items, more than the {left} bytes after it can hold"
    )]
    TooMany {
        /// What was counted.
        what: String,
        /// Where in the file.
        at: u64,
        /// How many the file says.
        count: u64,
        /// Bytes to the end of the file.
        left: u64,
    },
    /// A key or name longer than [`MAX_NAME_BYTES`].
    #[error("{what} at byte {at} is {bytes} bytes long, the limit is {MAX_NAME_BYTES}")]
    NameTooLong {
        /// A key or a tensor's name.
        what: &'static str,
        /// Where in the file.
        at: u64,
        /// How long it is.
        bytes: u64,
    },
    /// A key or name that is not text.
    #[error("{what} at byte {at} is not UTF-8")]
    NameNotUtf8 {
        /// A key or a tensor's name.
        what: &'static str,
        /// Where in the file.
        at: u64,
    },
    /// A key or name of no characters.
    #[error("{what} at byte {at} is empty")]
    EmptyName {
        /// A key or a tensor's name.
        what: &'static str,
        /// Where in the file.
        at: u64,
    },
    /// A key twice.
    #[error("the metadata has the key {key:?} twice")]
    DuplicateKey {
        /// Which.
        key: String,
    },
    /// A value type that GGUF does not have.
    #[error("the metadata entry {key:?} has the type {number} at byte {at}, which GGUF does not have")]
    ValueType {
        /// Of which entry.
        key: String,
        /// The number of the type.
        number: u32,
        /// Where in the file.
        at: u64,
    },
    /// An array of arrays.
    #[error("the metadata entry {key:?} is an array of arrays, which is not supported")]
    NestedArray {
        /// Of which entry.
        key: String,
    },
    /// A truth that is neither 0 nor 1.
    #[error("the metadata entry {key:?} has the truth value {found} at byte {at}, 0 and 1 are valid")]
    Truth {
        /// Of which entry.
        key: String,
        /// The byte.
        found: u8,
        /// Where in the file.
        at: u64,
    },
    /// `general.alignment` is no u32.
    #[error("the alignment of the file is of type {found}, wanted is u32")]
    AlignmentType {
        /// What stands there.
        found: String,
    },
    /// `general.alignment` is no power of two, or too large.
    #[error("the alignment of the file is {found} bytes, wanted is a power of two up to {MAX_ALIGNMENT}")]
    Alignment {
        /// The number in the file.
        found: u32,
    },
    /// No dimension, or more than four.
    #[error("the tensor {name:?} has {found} dimensions, 1 to {MAX_DIMENSIONS} are valid")]
    DimensionCount {
        /// Which tensor.
        name: String,
        /// How many the file says.
        found: u32,
    },
    /// A dimension of no numbers.
    #[error("dimension {index} of the tensor {name:?} is zero")]
    EmptyDimension {
        /// Which tensor.
        name: String,
        /// Which dimension, from 0.
        index: usize,
    },
    /// Dimensions whose product no computer can hold.
    #[error("the tensor {name:?} has the dimensions {dims:?}, whose bytes exceed 2^63")]
    TensorTooLarge {
        /// Which tensor.
        name: String,
        /// Its dimensions.
        dims: Vec<u64>,
    },
    /// Rows that are no whole number of blocks.
    #[error("the tensor {name:?} has rows of {columns} numbers, but {format} comes in blocks of {block_len}")]
    PartialBlock {
        /// Which tensor.
        name: String,
        /// Numbers in a row.
        columns: u64,
        /// Its type.
        format: TensorFormat,
        /// Numbers in a block.
        block_len: u64,
    },
    /// A tensor name twice.
    #[error("the file has the tensor {name:?} twice")]
    DuplicateTensor {
        /// Which.
        name: String,
    },
    /// An offset that is no multiple of the alignment.
    #[error("the tensor {name:?} lies at byte {offset} of the data, which is no multiple of {alignment}")]
    Misaligned {
        /// Which tensor.
        name: String,
        /// Where it is said to lie.
        offset: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// A tensor beyond the end.
    #[error(
        "the tensor {name:?} lies at bytes {offset} to {end} of the data, but the file has only {left}: the download or copy is incomplete"
    )]
    PastEnd {
        /// Which tensor.
        name: String,
        /// Where it begins.
        offset: u64,
        /// Where it would end.
        end: u64,
        /// Bytes of data that the file has.
        left: u64,
    },
    /// Two tensors in one place.
    #[error("the tensors {first:?} and {second:?} overlap in the file")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins inside it.
        second: String,
    },
}

impl Header {
    /// Reads the front of a file; `bytes` are the whole file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let mut cursor = Cursor::new(bytes);
        let version = version(&mut cursor, bytes)?;
        let tensor_count = cursor.u64("the count of tensors")?;
        let entry_count = cursor.u64("the count of metadata entries")?;
        bounded(|| "the metadata".to_owned(), entry_count, LEAST_ENTRY_BYTES, &cursor)?;
        bounded(|| "the list of tensors".to_owned(), tensor_count, LEAST_TENSOR_BYTES, &cursor)?;

        let mut entries = Vec::new();
        for _ in 0..entry_count {
            let key = name(&mut cursor, "the key of a metadata entry")?;
            let value = value(&mut cursor, &key)?;
            entries.push((key, value));
        }
        let metadata = Metadata::from_entries(entries)
            .map_err(|key| HeaderError::DuplicateKey { key: shortened(&key) })?;
        let alignment = alignment(&metadata)?;

        bounded(|| "the list of tensors".to_owned(), tensor_count, LEAST_TENSOR_BYTES, &cursor)?;
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(tensor(&mut cursor, alignment)?);
        }
        // A file without tensors may end right here; llama.cpp's vocabularies do.
        let data_at = match tensor_count {
            0 => cursor.at(),
            _ => cursor.at().next_multiple_of(alignment),
        };
        let data_bytes = (bytes.len() as u64).saturating_sub(data_at);
        place(&mut tensors, data_bytes)?;
        Ok(Header { version, metadata, tensors, alignment, data_at })
    }
}

fn version(cursor: &mut Cursor, bytes: &[u8]) -> Result<u32, HeaderError> {
    if !bytes.starts_with(b"GGUF") {
        return Err(HeaderError::NotGguf { found: looks_like(bytes).to_owned() });
    }
    cursor.take("the magic", 4)?;
    match cursor.u32("the version")? {
        1 => Err(HeaderError::Version1),
        version @ (2 | 3) => Ok(version),
        // Read with the wrong byte order, a small version is a multiple of 2^24.
        found if found != 0 && found & 0x00ff_ffff == 0 => Err(HeaderError::BigEndian),
        found => Err(HeaderError::Version { found }),
    }
}

/// What a file that is no GGUF is instead, as far as its first bytes tell.
fn looks_like(bytes: &[u8]) -> &'static str {
    let starts: [(&[u8], &str); 10] = [
        (b"FUGG", "is a big-endian GGUF file, which is not supported"),
        (b"lmgg", "is a GGML file from before GGUF (2023); convert the model again from its source"),
        (b"fmgg", "is a GGML file from before GGUF (2023); convert the model again from its source"),
        (b"tjgg", "is a GGJT file from before GGUF (2023); convert the model again from its source"),
        (b"algg", "is a GGLA adapter from before GGUF (2023); convert it again from its source"),
        (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (b"PK\x03\x04", "is a zip archive, perhaps a PyTorch checkpoint"),
        (b"<!DOCTYPE", "is a web page; the download got an answer for people"),
        (b"<html", "is a web page; the download got an answer for people"),
        (b"{", "begins like JSON"),
    ];
    if bytes.is_empty() {
        return "is empty";
    }
    if let Some((_, text)) = starts.iter().find(|(start, _)| bytes.starts_with(start)) {
        return text;
    }
    if bytes.get(8) == Some(&b'{') {
        return "looks like safetensors; import its folder to make a GGUF of it";
    }
    "does not begin with the letters GGUF"
}

/// `count` items of at least `least` bytes each fit into what is left.
fn bounded(what: impl Fn() -> String, count: u64, least: u64, cursor: &Cursor) -> Result<(), HeaderError> {
    let left = cursor.left();
    if count <= left / least {
        return Ok(());
    }
    Err(HeaderError::TooMany { what: what(), at: cursor.at(), count, left })
}

/// A key or a tensor's name.
fn name(cursor: &mut Cursor, what: &'static str) -> Result<String, HeaderError> {
    let at = cursor.at();
    let bytes = cursor.u64(what)?;
    if bytes == 0 {
        return Err(HeaderError::EmptyName { what, at });
    }
    if bytes > MAX_NAME_BYTES {
        return Err(HeaderError::NameTooLong { what, at, bytes });
    }
    String::from_utf8(cursor.take(what, bytes)?.to_vec()).map_err(|_| HeaderError::NameNotUtf8 { what, at })
}

fn kind(cursor: &mut Cursor, key: &str) -> Result<Kind, HeaderError> {
    let at = cursor.at();
    let number = cursor.u32("the type of a metadata entry")?;
    Kind::from_number(number).ok_or_else(|| HeaderError::ValueType { key: shortened(key), number, at })
}

fn value(cursor: &mut Cursor, key: &str) -> Result<Value, HeaderError> {
    const WHAT: &str = "a metadata value";
    Ok(match kind(cursor, key)? {
        Kind::U8 => Value::U8(u8::from_le_bytes(cursor.array(WHAT)?)),
        Kind::I8 => Value::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
        Kind::U16 => Value::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
        Kind::I16 => Value::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
        Kind::U32 => Value::U32(u32::from_le_bytes(cursor.array(WHAT)?)),
        Kind::I32 => Value::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
        Kind::F32 => Value::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
        Kind::U64 => Value::U64(u64::from_le_bytes(cursor.array(WHAT)?)),
        Kind::I64 => Value::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
        Kind::F64 => Value::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
        Kind::Bool => {
            let at = cursor.at();
            let [found] = cursor.array(WHAT)?;
            Value::Bool(truth(found, key, at)?)
        }
        Kind::String => match String::from_utf8(cursor.string(WHAT)?.to_vec()) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        },
        Kind::Array => Value::Array(array(cursor, key)?),
    })
}

fn array(cursor: &mut Cursor, key: &str) -> Result<Array, HeaderError> {
    const WHAT: &str = "a metadata array";
    let kind = kind(cursor, key)?;
    if kind == Kind::Array {
        return Err(HeaderError::NestedArray { key: shortened(key) });
    }
    let count = cursor.u64(WHAT)?;
    let least = kind.least_bytes() as u64;
    bounded(|| format!("the metadata entry {:?}", shortened(key)), count, least, cursor)?;
    let at = cursor.at();
    if kind == Kind::String {
        return strings(cursor, count).map(Array::Strings);
    }
    let bytes = cursor.take(WHAT, count * least)?;
    Ok(match kind {
        Kind::U8 => Array::U8(bytes.to_vec()),
        Kind::I8 => Array::I8(numbers(bytes, i8::from_le_bytes)),
        Kind::U16 => Array::U16(numbers(bytes, u16::from_le_bytes)),
        Kind::I16 => Array::I16(numbers(bytes, i16::from_le_bytes)),
        Kind::U32 => Array::U32(numbers(bytes, u32::from_le_bytes)),
        Kind::I32 => Array::I32(numbers(bytes, i32::from_le_bytes)),
        Kind::F32 => Array::F32(numbers(bytes, f32::from_le_bytes)),
        Kind::U64 => Array::U64(numbers(bytes, u64::from_le_bytes)),
        Kind::I64 => Array::I64(numbers(bytes, i64::from_le_bytes)),
        Kind::F64 => Array::F64(numbers(bytes, f64::from_le_bytes)),
        Kind::Bool => {
            let truths = (at..).zip(bytes).map(|(at, &found)| truth(found, key, at));
            Array::Bool(truths.collect::<Result<_, _>>()?)
        }
        Kind::String | Kind::Array => unreachable!("both were handled above"),
    })
}

fn strings(cursor: &mut Cursor, count: u64) -> Result<Strings, HeaderError> {
    let mut strings = Strings::default();
    let mut text = Vec::new();
    for _ in 0..count {
        // Copied before it is judged: a mapped file may change between the two.
        text.clear();
        text.extend_from_slice(cursor.string("a text of a metadata array")?);
        strings.push_bytes(&text);
    }
    Ok(strings)
}

fn numbers<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

fn truth(found: u8, key: &str, at: u64) -> Result<bool, HeaderError> {
    match found {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(HeaderError::Truth { key: shortened(key), found, at }),
    }
}

pub(super) fn alignment(metadata: &Metadata) -> Result<u64, HeaderError> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(found)) => {
            let valid = found.is_power_of_two() && u64::from(found) <= MAX_ALIGNMENT;
            if valid { Ok(found.into()) } else { Err(HeaderError::Alignment { found }) }
        }
        Some(other) => Err(HeaderError::AlignmentType { found: other.describe() }),
    }
}

/// A tensor's description. The bytes of a type without a known block are left at 0 for [`place`].
fn tensor(cursor: &mut Cursor, alignment: u64) -> Result<Tensor, HeaderError> {
    let name = name(cursor, "the name of a tensor")?;
    let count = cursor.u32("the dimensions of a tensor")?;
    if !(1..=MAX_DIMENSIONS as u32).contains(&count) {
        return Err(HeaderError::DimensionCount { name: shortened(&name), found: count });
    }
    let mut dims = Vec::with_capacity(count as usize);
    for _ in 0..count {
        dims.push(cursor.u64("the dimensions of a tensor")?);
    }
    let format = TensorFormat::from_number(cursor.u32("the type of a tensor")?);
    let offset = cursor.u64("the offset of a tensor")?;
    let bytes = data_bytes(&name, &dims, format)?.unwrap_or(0);
    if !offset.is_multiple_of(alignment) {
        return Err(HeaderError::Misaligned { name: shortened(&name), offset, alignment });
    }
    Ok(Tensor { name, dims, format, offset, bytes, part: 0 })
}

/// How many bytes a tensor takes; `None` if nobody knows the blocks of its type.
pub(super) fn data_bytes(name: &str, dims: &[u64], format: TensorFormat) -> Result<Option<u64>, HeaderError> {
    if let Some(index) = dims.iter().position(|&dim| dim == 0) {
        return Err(HeaderError::EmptyDimension { name: shortened(name), index });
    }
    let too_large = || HeaderError::TensorTooLarge { name: shortened(name), dims: dims.to_vec() };
    let numbers =
        dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).ok_or_else(too_large)?;
    let Some((block_len, block_bytes)) = format.block() else {
        return Ok(None);
    };
    if !dims[0].is_multiple_of(block_len) {
        let (name, columns) = (shortened(name), dims[0]);
        return Err(HeaderError::PartialBlock { name, columns, format, block_len });
    }
    let bytes = (numbers / block_len).checked_mul(block_bytes).filter(|&bytes| bytes < 1 << 63);
    bytes.map(Some).ok_or_else(too_large)
}

/// Checks where tensors lie: inside the data, apart from each other, each name once. Gives those of unknown types the
/// room up to the next.
fn place(tensors: &mut [Tensor], data_bytes: u64) -> Result<(), HeaderError> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
    for pair in order.windows(2) {
        if tensors[pair[0]].name == tensors[pair[1]].name {
            return Err(HeaderError::DuplicateTensor { name: shortened(&tensors[pair[0]].name) });
        }
    }
    order.sort_by_key(|&index| tensors[index].offset);
    for (rank, &index) in order.iter().enumerate() {
        let next = order.get(rank + 1).map(|&next| tensors[next].offset);
        let tensor = &mut tensors[index];
        if tensor.format.block().is_none() {
            // A tensor has at least one number, so it takes at least one byte.
            tensor.bytes = next.unwrap_or(data_bytes).saturating_sub(tensor.offset).max(1);
        }
        let past_end = |end| {
            let (name, offset) = (shortened(&tensor.name), tensor.offset);
            HeaderError::PastEnd { name, offset, end, left: data_bytes }
        };
        let end = tensor.offset.checked_add(tensor.bytes).ok_or_else(|| past_end(u64::MAX))?;
        if end > data_bytes {
            return Err(past_end(end));
        }
        if let Some(next) = next
            && end > next
        {
            let [first, second] = [index, order[rank + 1]].map(|index| shortened(&tensors[index].name));
            return Err(HeaderError::Overlap { first, second });
        }
    }
    Ok(())
}

/// A stranger's name, cut so that it fits an error.
pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}

/// The version, judged from the first bytes alone.
pub(super) fn version_of(bytes: &[u8]) -> Result<u32, HeaderError> {
    version(&mut Cursor::new(bytes), bytes)
}
