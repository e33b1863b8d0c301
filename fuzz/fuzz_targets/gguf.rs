//! A model file from a stranger: whatever it says, it is read within bounds, and what was read can be written and read
//! again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lm::gguf::Gguf;
use lm::gguf::value::{Array, Value};
use lm::gguf::write::{WriteError, Writer, copy_from};

/// Padding is written out: a file that asks for large alignments of many tensors is not worth the time.
const REWRITE_MAX_BYTES: u64 = 1 << 22;

fuzz_target!(|bytes: &[u8]| {
    let _ = Gguf::version_of(bytes);
    let Ok(gguf) = Gguf::parse(Bytes::copy_from_slice(bytes)) else { return };
    assert!(gguf.version() == 2 || gguf.version() == 3);
    assert_eq!(gguf.file_bytes(), bytes.len() as u64);
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert_eq!(gguf.bytes_of(tensor).len() as u64, tensor.bytes);
        assert_eq!(tensor.columns().checked_mul(tensor.rows()), Some(tensor.len()));
        assert!(tensor.offset.is_multiple_of(gguf.alignment()));
        let _ = tensor.format.to_string();
        gguf.will_need(tensor);
    }
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        let _ = (metadata.string(key), metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key));
        let _ = (metadata.f32s(key), metadata.i32s(key), metadata.u32s(key), metadata.find_bools(key));
        let _ = value.describe();
        if let Value::Array(Array::Strings(strings)) = value {
            assert_eq!(strings.iter().len(), strings.len());
            for (index, text) in strings.iter().enumerate() {
                assert_eq!(strings.get(index), Some(text));
                let exact = strings.bytes(index).expect("there are as many");
                assert_eq!(String::from_utf8_lossy(exact), text);
            }
        }
    }
    let writer = match Writer::like(&gguf) {
        Ok(writer) => writer,
        // The reader takes longer names than llama.cpp loads; the writer does not write them.
        Err(WriteError::TensorName { .. }) => return,
        Err(error) => panic!("what was read cannot be written: {error}"),
    };
    if writer.file_bytes() > REWRITE_MAX_BYTES {
        return;
    }
    let mut written = Vec::new();
    writer.write_to(&mut written, &mut copy_from(&gguf)).expect("memory is a place to write to");
    assert_eq!(written.len() as u64, writer.file_bytes());
    let again = Gguf::parse(Bytes::from(written)).expect("our own file");
    // Compared as text, because a NaN is not equal to itself.
    assert_eq!(format!("{:?}", again.metadata()), format!("{metadata:?}"));
    assert_eq!(again.tensors().len(), gguf.tensors().len());
    for tensor in again.tensors() {
        let before = gguf.tensor(&tensor.name).expect("the same tensors");
        assert_eq!((&tensor.dims, tensor.format), (&before.dims, before.format));
        let (now, then) = (again.bytes_of(tensor), gguf.bytes_of(before));
        assert_eq!(now[..then.len()], then);
        // Only of a type without a size may there be more: its padding.
        assert!(now.len() == then.len() || tensor.format.block().is_none());
    }
});
