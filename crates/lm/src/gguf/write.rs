//! Writes GGUF files: metadata in its order, then tensors, each streamed from where it comes.
//!
//! The other direction of `header`. Tensors are declared first, so that every offset and the size of the file are
//! known before a byte is written; then one tensor after the other is asked for, so that nothing larger than what the
//! caller holds is ever in memory. A file appears under its name only when it is whole and on disk. Always: what was
//! read from a file written by llama.cpp or gguf-py, and is written in the same order, has the same bytes.

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Gguf;
use super::header::{self, HeaderError, MAX_NAME_BYTES};
use super::metadata::Metadata;
use super::tensor::{Tensor, TensorFormat};
use super::value::{Array, Strings, Value};
use crate::durable::{self, FileError, Readers};

/// The longest tensor name that llama.cpp loads: one less than its `GGML_MAX_NAME`.
pub const TENSOR_NAME_MAX_BYTES: usize = 63;

/// Where the numbers of a tensor come from, if asked for it: writes exactly the tensor's bytes.
pub type Data<'a> = dyn FnMut(&Tensor, &mut dyn Write) -> Result<(), Box<dyn Error + Send + Sync>> + 'a;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A description that the reader would refuse.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A key that is empty or longer than [`MAX_NAME_BYTES`].
    #[error("the key {key:?} is empty or longer than {MAX_NAME_BYTES} bytes")]
    Key {
        /// Which, shortened.
        key: String,
    },
    /// A tensor name that is empty or longer than [`TENSOR_NAME_MAX_BYTES`].
    #[error(
        "the tensor name {name:?} is empty or longer than {TENSOR_NAME_MAX_BYTES} bytes, which llama.cpp cannot load"
    )]
    TensorName {
        /// Which, shortened.
        name: String,
    },
    /// A type whose size nobody knows.
    #[error("the tensor {name:?} is of {format}, whose size is not known")]
    UnknownSize {
        /// Which tensor.
        name: String,
        /// Its type.
        format: TensorFormat,
    },
    /// More than 2^63 bytes.
    #[error("the file would be larger than 2^63 bytes")]
    FileTooLarge,
    /// A source that failed.
    #[error("no data for the tensor {name:?}")]
    Data {
        /// Which tensor.
        name: String,
        /// What its source said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A source that gave too little or too much.
    #[error("the tensor {name:?} takes {wanted} bytes, but {given} were given")]
    WrongLength {
        /// Which tensor.
        name: String,
        /// The bytes of its dimensions and type.
        wanted: u64,
        /// The bytes its source wrote.
        given: u64,
    },
    /// The disk or the system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sink of [`Writer::write_to`] refused.
    #[error("cannot write the file")]
    Sink(#[source] io::Error),
}

/// A file to be: its metadata and the tensors it will hold.
#[derive(Debug)]
pub struct Writer {
    version: u32,
    metadata: Metadata,
    alignment: u64,
    tensors: Vec<Tensor>,
    names: HashSet<String>,
    /// Bytes of data so far, padding included.
    data_bytes: u64,
}

impl Writer {
    /// A file of version 3 without tensors. The alignment is `general.alignment` of the metadata, or 32.
    pub fn new(metadata: Metadata) -> Result<Writer, WriteError> {
        let alignment = header::alignment(&metadata)?;
        for (key, _) in metadata.iter() {
            if key.is_empty() || key.len() as u64 > MAX_NAME_BYTES {
                return Err(WriteError::Key { key: header::shortened(key) });
            }
        }
        let (tensors, names) = (Vec::new(), HashSet::new());
        Ok(Writer { version: 3, metadata, alignment, tensors, names, data_bytes: 0 })
    }

    /// A file with the version, metadata and tensors of another, to be filled by [`copy_from`].
    pub fn like(gguf: &Gguf) -> Result<Writer, WriteError> {
        let mut writer = Writer::new(gguf.metadata().clone())?;
        writer.version = gguf.version();
        for tensor in gguf.tensors() {
            writer.push(&tensor.name, &tensor.dims, tensor.format, tensor.bytes)?;
        }
        Ok(writer)
    }

    /// Declares the next tensor. `dims[0]` is the columns.
    pub fn tensor(
        &mut self,
        name: &str,
        dims: &[u64],
        format: impl Into<TensorFormat>,
    ) -> Result<(), WriteError> {
        let format = format.into();
        if dims.is_empty() || dims.len() > header::MAX_DIMENSIONS {
            let (name, found) = (header::shortened(name), u32::try_from(dims.len()).unwrap_or(u32::MAX));
            return Err(HeaderError::DimensionCount { name, found }.into());
        }
        match header::data_bytes(name, dims, format)? {
            Some(bytes) => self.push(name, dims, format, bytes),
            None => Err(WriteError::UnknownSize { name: header::shortened(name), format }),
        }
    }

    fn push(&mut self, name: &str, dims: &[u64], format: TensorFormat, bytes: u64) -> Result<(), WriteError> {
        if name.is_empty() || name.len() > TENSOR_NAME_MAX_BYTES {
            return Err(WriteError::TensorName { name: header::shortened(name) });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(HeaderError::DuplicateTensor { name: name.to_owned() }.into());
        }
        let (offset, dims) = (self.data_bytes, dims.to_vec());
        let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(self.alignment));
        self.data_bytes = end.filter(|&end| end < 1 << 62).ok_or(WriteError::FileTooLarge)?;
        self.tensors.push(Tensor { name: name.to_owned(), dims, format, offset, bytes, part: 0 });
        Ok(())
    }

    /// What was declared so far, with offsets.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// How large the file will be, in bytes.
    pub fn file_bytes(&self) -> u64 {
        let mut counter = Counter { sink: io::sink(), written: 0 };
        self.front(&mut counter).expect("nothing refuses to be thrown away");
        counter.written + self.data_bytes
    }

    /// Writes the file under its name. Until it is whole and on disk it lies beside it under another name; if anything
    /// fails, it is removed and what was under the name before is still there.
    pub fn write(&self, path: &Path, data: &mut Data) -> Result<(), WriteError> {
        let Some(partial) = partial(path) else {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file");
            return Err(FileError::at(path)(why).into());
        };
        durable::replace(path, &partial, Readers::Usual, |sink| {
            self.write_to(sink, data).map_err(|error| match error {
                WriteError::Sink(source) => FileError::at(&partial)(source).into(),
                other => other,
            })
        })
    }

    /// Writes the file into `sink`.
    pub fn write_to(&self, sink: &mut dyn Write, data: &mut Data) -> Result<(), WriteError> {
        self.front(&mut *sink).map_err(WriteError::Sink)?;
        for tensor in &self.tensors {
            let mut counter = Counter { sink: &mut *sink, written: 0 };
            data(tensor, &mut counter)
                .map_err(|source| WriteError::Data { name: tensor.name.clone(), source })?;
            let (wanted, given) = (tensor.bytes, counter.written);
            if wanted != given {
                return Err(WriteError::WrongLength { name: tensor.name.clone(), wanted, given });
            }
            pad(sink, wanted, self.alignment).map_err(WriteError::Sink)?;
        }
        Ok(())
    }

    /// All that comes before the data.
    fn front(&self, sink: impl Write) -> io::Result<()> {
        let mut sink = Counter { sink, written: 0 };
        sink.write_all(b"GGUF")?;
        sink.write_all(&self.version.to_le_bytes())?;
        sink.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        sink.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in self.metadata.iter() {
            write_text(&mut sink, key.as_bytes())?;
            sink.write_all(&(value.kind() as u32).to_le_bytes())?;
            write_value(&mut sink, value)?;
        }
        for tensor in &self.tensors {
            write_text(&mut sink, tensor.name.as_bytes())?;
            let count = u32::try_from(tensor.dims.len()).expect("a tensor has at most four dimensions");
            sink.write_all(&count.to_le_bytes())?;
            for dim in &tensor.dims {
                sink.write_all(&dim.to_le_bytes())?;
            }
            sink.write_all(&tensor.format.number().to_le_bytes())?;
            sink.write_all(&tensor.offset.to_le_bytes())?;
        }
        // A file without tensors ends here, like the vocabularies that gguf-py writes.
        if !self.tensors.is_empty() {
            let written = sink.written;
            pad(&mut sink, written, self.alignment)?;
        }
        Ok(())
    }
}

/// Where this process writes the file at `path` until it is whole; `None` if that names no file. Two processes may make the
/// same file at once: each writes its own, and the last one stays.
pub fn partial(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.display();
    Some(path.with_file_name(format!(".{name}.{}.partial", std::process::id())))
}

/// The data of a tensor of the same name from another file, for [`Writer::write`].
pub fn copy_from(
    gguf: &Gguf,
) -> impl FnMut(&Tensor, &mut dyn Write) -> Result<(), Box<dyn Error + Send + Sync>> {
    |tensor, sink| {
        let source = gguf.tensor(&tensor.name).ok_or("the other file has no such tensor")?;
        Ok(sink.write_all(&gguf.bytes_of(source))?)
    }
}

/// Counts what goes through it.
struct Counter<W> {
    sink: W,
    written: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn pad(sink: &mut dyn Write, written: u64, alignment: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut left = written.next_multiple_of(alignment) - written;
    while left > 0 {
        let now = left.min(ZEROS.len() as u64);
        sink.write_all(&ZEROS[..now as usize])?;
        left -= now;
    }
    Ok(())
}

fn write_text(sink: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    sink.write_all(&(text.len() as u64).to_le_bytes())?;
    sink.write_all(text)
}

fn write_value(sink: &mut dyn Write, value: &Value) -> io::Result<()> {
    match value {
        Value::U8(number) => sink.write_all(&number.to_le_bytes()),
        Value::I8(number) => sink.write_all(&number.to_le_bytes()),
        Value::U16(number) => sink.write_all(&number.to_le_bytes()),
        Value::I16(number) => sink.write_all(&number.to_le_bytes()),
        Value::U32(number) => sink.write_all(&number.to_le_bytes()),
        Value::I32(number) => sink.write_all(&number.to_le_bytes()),
        Value::F32(number) => sink.write_all(&number.to_le_bytes()),
        Value::Bool(truth) => sink.write_all(&[u8::from(*truth)]),
        Value::String(text) => write_text(sink, text.as_bytes()),
        Value::Bytes(text) => write_text(sink, text),
        Value::U64(number) => sink.write_all(&number.to_le_bytes()),
        Value::I64(number) => sink.write_all(&number.to_le_bytes()),
        Value::F64(number) => sink.write_all(&number.to_le_bytes()),
        Value::Array(array) => {
            sink.write_all(&(array.kind() as u32).to_le_bytes())?;
            sink.write_all(&(array.len() as u64).to_le_bytes())?;
            write_items(sink, array)
        }
    }
}

fn write_items(sink: &mut dyn Write, array: &Array) -> io::Result<()> {
    fn all<T: Copy, const N: usize>(
        sink: &mut dyn Write,
        items: &[T],
        bytes: fn(T) -> [u8; N],
    ) -> io::Result<()> {
        items.iter().try_for_each(|&item| sink.write_all(&bytes(item)))
    }
    fn texts(sink: &mut dyn Write, strings: &Strings) -> io::Result<()> {
        (0..strings.len()).try_for_each(|index| {
            write_text(sink, strings.bytes(index).expect("the index is below the length"))
        })
    }
    match array {
        Array::U8(items) => sink.write_all(items),
        Array::I8(items) => all(sink, items, i8::to_le_bytes),
        Array::U16(items) => all(sink, items, u16::to_le_bytes),
        Array::I16(items) => all(sink, items, i16::to_le_bytes),
        Array::U32(items) => all(sink, items, u32::to_le_bytes),
        Array::I32(items) => all(sink, items, i32::to_le_bytes),
        Array::F32(items) => all(sink, items, f32::to_le_bytes),
        Array::Bool(items) => all(sink, items, |item| [u8::from(item)]),
        Array::Strings(strings) => texts(sink, strings),
        Array::U64(items) => all(sink, items, u64::to_le_bytes),
        Array::I64(items) => all(sink, items, i64::to_le_bytes),
        Array::F64(items) => all(sink, items, f64::to_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kernels::format::Format;

    use super::*;

    /// Every type of value, and tensors whose ends need padding.
    fn sample(alignment: u32) -> Writer {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        metadata.set("general.alignment", alignment);
        let values = [
            Value::U8(1),
            Value::I8(-1),
            Value::U16(2),
            Value::I16(-2),
            Value::U32(3),
            Value::I32(-3),
            Value::F32(0.1),
            Value::Bool(true),
            Value::Bytes(vec![0xff, 0]),
            Value::U64(u64::MAX),
            Value::I64(i64::MIN),
            Value::F64(-0.0),
            Value::Array(Array::U8(vec![1, 2, 3])),
            Value::Array(Array::I8(vec![-1])),
            Value::Array(Array::U16(vec![])),
            Value::Array(Array::I16(vec![-7; 5])),
            Value::Array(Array::U32(vec![9])),
            Value::Array(Array::I32(vec![-9, 9])),
            Value::Array(Array::F32(vec![1.5, f32::INFINITY])),
            Value::Array(Array::Bool(vec![true, false, true])),
            Value::Array(Array::Strings(["a", "", "ü"].iter().collect())),
            Value::Array(Array::U64(vec![u64::MAX])),
            Value::Array(Array::I64(vec![])),
            Value::Array(Array::F64(vec![0.5])),
        ];
        for (index, value) in values.into_iter().enumerate() {
            metadata.set(&format!("key.{index}"), value);
        }
        let mut writer = Writer::new(metadata).unwrap();
        writer.tensor("first", &[3, 5], Format::F32).unwrap();
        writer.tensor("second", &[32], Format::Q8_0).unwrap();
        writer.tensor("third", &[1, 1, 1, 7], TensorFormat::from_number(24)).unwrap();
        writer
    }

    fn filled(writer: &Writer) -> Vec<u8> {
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes, &mut |tensor, sink| Ok(sink.write_all(&content(tensor))?)).unwrap();
        bytes
    }

    fn content(tensor: &Tensor) -> Vec<u8> {
        (0..tensor.bytes).map(|at| (at as u8).wrapping_add(tensor.name.len() as u8)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for alignment in [1, 8, 32, 4096, 1 << 20] {
            let writer = sample(alignment);
            let bytes = filled(&writer);
            assert_eq!(bytes.len() as u64, writer.file_bytes());
            let gguf = Gguf::parse(Bytes::from(bytes.clone())).unwrap();
            assert_eq!(gguf.metadata(), &writer.metadata);
            assert_eq!(gguf.tensors(), writer.tensors());
            for tensor in gguf.tensors() {
                assert_eq!(gguf.bytes_of(tensor), content(tensor), "{}", tensor.name);
            }
            let mut again = Vec::new();
            Writer::like(&gguf).unwrap().write_to(&mut again, &mut copy_from(&gguf)).unwrap();
            assert!(again == bytes, "a copy differs at alignment {alignment}");
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, b"before").unwrap();
        let writer = sample(32);
        let failures: [(&mut Data, &str); 4] = [
            (&mut |_, _| Err("the source is gone".into()), "no data for the tensor \"first\""),
            (&mut |_, _| Ok(()), "the tensor \"first\" takes 60 bytes, but 0 were given"),
            (
                &mut |tensor, sink| Ok(sink.write_all(&vec![0; tensor.bytes as usize + 1])?),
                "the tensor \"first\" takes 60 bytes, but 61 were given",
            ),
            (
                &mut |tensor, sink| match tensor.name.as_str() {
                    "third" => Err(Box::new(io::Error::from(io::ErrorKind::BrokenPipe))),
                    _ => Ok(sink.write_all(&content(tensor))?),
                },
                "no data for the tensor \"third\"",
            ),
        ];
        for (data, expected) in failures {
            assert_eq!(writer.write(&path, data).unwrap_err().to_string(), expected);
            assert_eq!(std::fs::read(&path).unwrap(), b"before");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        }
        writer.write(&path, &mut |tensor, sink| Ok(sink.write_all(&content(tensor))?)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), filled(&writer));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_the_reader_would_refuse_is_not_written() {
        let mut metadata = Metadata::new();
        for alignment in [Value::U32(0), Value::U32(48), Value::U32(1 << 21), Value::U64(32)] {
            metadata.set("general.alignment", alignment);
            assert!(matches!(Writer::new(metadata.clone()), Err(WriteError::Header(_))));
        }
        metadata.remove("general.alignment");
        metadata.set("", 1_u32);
        assert!(matches!(Writer::new(metadata.clone()), Err(WriteError::Key { .. })));
        metadata.remove("");
        let mut writer = Writer::new(metadata).unwrap();
        writer.tensor("twice", &[1], Format::F32).unwrap();
        let name = "n".repeat(64);
        let huge = [1 << 40, 1 << 40];
        let named = TensorFormat::from_number(31);
        let cases: [(&str, &[u64], TensorFormat, &str); 9] = [
            ("twice", &[1], Format::F32.into(), "the file has the tensor \"twice\" twice"),
            ("", &[1], Format::F32.into(), "the tensor name \"\" is empty"),
            (&name, &[1], Format::F32.into(), "the tensor name \"nnnn"),
            ("a", &[], Format::F32.into(), "the tensor \"a\" has 0 dimensions"),
            ("a", &[1; 5], Format::F32.into(), "the tensor \"a\" has 5 dimensions"),
            ("a", &[4, 0], Format::F32.into(), "dimension 1 of the tensor \"a\" is zero"),
            ("a", &[33], Format::Q4_0.into(), "the tensor \"a\" has rows of 33 numbers, but Q4_0"),
            ("a", &huge, Format::F32.into(), "the tensor \"a\" has the dimensions"),
            ("a", &[32], named, "the tensor \"a\" is of Q4_0_4_4, whose size is not known"),
        ];
        for (name, dims, format, expected) in cases {
            let error = writer.tensor(name, dims, format).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for _ in 0..2 {
            let name = format!("large{}", writer.tensors().len());
            let declared = writer.tensor(&name, &[1 << 61], TensorFormat::from_number(24));
            assert_eq!(declared.is_err(), name == "large2", "{name}");
        }
    }
}
