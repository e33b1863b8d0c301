//! A gallery of GGUF files that somebody broke, by accident or on purpose: each has its own clear error, nothing
//! panics, and memory stays within a small multiple of the file.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::error::Error;
use std::path::PathBuf;

use bytes::Bytes;
use lm::gguf::Gguf;

/// A GGUF file written by hand, field by field.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, tensors: u64, entries: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn u8(mut self, value: u8) -> Raw {
        self.0.push(value);
        self
    }

    fn u32(mut self, value: u32) -> Raw {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Raw {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Raw {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &[u8]) -> Raw {
        self.u64(text.len() as u64).raw(text)
    }

    /// A tensor's description.
    fn tensor(self, name: &str, dims: &[u64], format: u32, offset: u64) -> Raw {
        let described = self.text(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(described, |raw, &dim| raw.u64(dim)).u32(format).u64(offset)
    }

    /// Zeros up to the alignment, and as many of data.
    fn data(mut self, alignment: usize, bytes: usize) -> Raw {
        self.0.resize(self.0.len().next_multiple_of(alignment) + bytes, 0);
        self
    }

    fn bytes(&self) -> Bytes {
        Bytes::from(self.0.clone())
    }
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const F32: u32 = 0;
const Q8_0: u32 = 8;
const HUGE: [u64; 4] = [1 << 32, 1 << 40, 1 << 62, u64::MAX];

/// The error and all that it stands on, as a user sees it.
fn refusal(bytes: Bytes) -> String {
    let error = Gguf::parse(bytes).map(|gguf| gguf.tensors().len()).expect_err("this file is broken");
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[test]
fn each_broken_file_has_its_own_error() {
    let entry = |key: &[u8]| Raw::new(3, 0, 1).text(key);
    let aligned =
        |value| Raw::new(3, 1, 1).text(b"general.alignment").u32(U32).u32(value).tensor("a", &[1], F32, 0);
    let one = |dims: &[u64], format, offset| Raw::new(3, 1, 0).tensor("a", dims, format, offset).data(32, 64);
    let two = |first: (&str, u64), second: (&str, u64)| {
        let raw =
            Raw::new(3, 2, 0).tensor(first.0, &[16], F32, first.1).tensor(second.0, &[16], F32, second.1);
        raw.data(32, 128)
    };
    let long = "k".repeat(65_536);
    let gallery: Vec<(Raw, &str)> = vec![
        // What is no GGUF.
        (Raw::default(), "not a GGUF file: it is empty"),
        (Raw(b"GGU".to_vec()), "not a GGUF file: it does not begin with the letters GGUF"),
        (Raw(b"tjgg\x03\0\0\0".to_vec()), "not a GGUF file: it is a GGJT file from before GGUF"),
        (Raw(b"FUGG\x03\0\0\0".to_vec()), "not a GGUF file: it is a big-endian GGUF file"),
        (Raw(b"version https://git-lfs.github.com".to_vec()), "not a GGUF file: it is a Git LFS pointer"),
        (Raw(b"<!DOCTYPE html>".to_vec()), "not a GGUF file: it is a web page"),
        (Raw(b"\x10\0\0\0\0\0\0\0{\"a\":".to_vec()), "not a GGUF file: it looks like safetensors"),
        (Raw(b"PK\x03\x04....".to_vec()), "not a GGUF file: it is a zip archive"),
        // Versions.
        (Raw::new(0, 0, 0), "GGUF version 0 is not supported, versions 2 and 3 are"),
        (
            Raw::new(1, 0, 0),
            "GGUF version 1, which llama.cpp wrote before October 2023, is not supported: convert",
        ),
        (Raw::new(4, 0, 0), "GGUF version 4 is not supported"),
        (Raw::new(3_u32.swap_bytes(), 0, 0), "a big-endian GGUF file is not supported: convert"),
        (
            Raw(b"GGUF\x03".to_vec()),
            "the file ends within the version: 4 bytes are needed at byte 4, 1 are left",
        ),
        // Keys.
        (entry(b""), "the metadata at byte 24 is said to have 1 items"),
        (entry(b"").u32(U8).u8(1), "the key of a metadata entry at byte 24 is empty"),
        (entry(b"\xff\xfe").u32(U8).u8(1), "the key of a metadata entry at byte 24 is not UTF-8"),
        (entry(long.as_bytes()).u32(U8).u8(1), "the key of a metadata entry at byte 24 is 65536 bytes long"),
        (
            Raw::new(3, 0, 2).text(b"a").u32(U8).u8(1).text(b"a").u32(U8).u8(2),
            "the metadata has the key \"a\" twice",
        ),
        // Values.
        (entry(b"a").u32(13).u64(0), "the metadata entry \"a\" has the type 13 at byte 33"),
        (entry(b"a").u32(u32::MAX).u64(0), "the metadata entry \"a\" has the type 4294967295"),
        (entry(b"a").u32(BOOL).u8(2), "the metadata entry \"a\" has the truth value 2 at byte 37"),
        (entry(b"a").u32(U64).u32(1), "the file ends within a metadata value: 8 bytes are needed at byte 37"),
        (entry(b"a").u32(STRING).u64(9).raw(b"short"), "the file ends within a metadata value: 9 bytes"),
        // Arrays.
        (entry(b"a").u32(ARRAY).u32(ARRAY).u64(1).u64(0), "the metadata entry \"a\" is an array of arrays"),
        (entry(b"a").u32(ARRAY).u32(77).u64(1), "the metadata entry \"a\" has the type 77"),
        (
            entry(b"a").u32(ARRAY).u32(BOOL).u64(2).u8(1).u8(9),
            "the metadata entry \"a\" has the truth value 9 at byte 50",
        ),
        (
            entry(b"a").u32(ARRAY).u32(STRING).u64(2).text(b"fits").u64(5),
            "the file ends within a text of a metadata array: 5 bytes",
        ),
        // Alignment.
        (aligned(0).data(32, 64), "the alignment of the file is 0 bytes"),
        (aligned(48).data(32, 64), "the alignment of the file is 48 bytes"),
        (aligned(1 << 31).data(32, 64), "the alignment of the file is 2147483648 bytes"),
        (
            Raw::new(3, 0, 1).text(b"general.alignment").u32(U64).u64(32),
            "the alignment of the file is of type u64, wanted is u32",
        ),
        // Tensors.
        (Raw::new(3, 1, 0).tensor("", &[1], F32, 0).data(32, 64), "the name of a tensor at byte 24 is empty"),
        (Raw::new(3, 1, 0).tensor("a", &[], F32, 0).data(32, 64), "the tensor \"a\" has 0 dimensions"),
        (one(&[1; 5], F32, 0), "the tensor \"a\" has 5 dimensions"),
        (
            Raw::new(3, 1, 0).text(b"a").u32(u32::MAX).data(32, 64),
            "the tensor \"a\" has 4294967295 dimensions",
        ),
        (one(&[1, 0], F32, 0), "dimension 1 of the tensor \"a\" is zero"),
        (one(&[1 << 32, 1 << 32], F32, 0), "the tensor \"a\" has the dimensions [4294967296, 4294967296]"),
        (one(&[u64::MAX, 2, 2], F32, 0), "the tensor \"a\" has the dimensions"),
        (one(&[1 << 61], F32, 0), "the tensor \"a\" has the dimensions"),
        (one(&[33], Q8_0, 0), "the tensor \"a\" has rows of 33 numbers, but Q8_0 comes in blocks of 32"),
        (one(&[1], F32, 4), "the tensor \"a\" lies at byte 4 of the data, which is no multiple of 32"),
        (one(&[17], F32, 0), "the tensor \"a\" lies at bytes 0 to 68 of the data, but the file has only 64"),
        (one(&[1], F32, 64), "the tensor \"a\" lies at bytes 64 to 68 of the data"),
        (one(&[8], F32, u64::MAX - 31), "the tensor \"a\" lies at bytes 18446744073709551584 to"),
        (one(&[8], 99, 96), "the tensor \"a\" lies at bytes 96 to 97 of the data"),
        (one(&[8], 99, 64), "the tensor \"a\" lies at bytes 64 to 65 of the data"),
        (two(("a", 0), ("a", 64)), "the file has the tensor \"a\" twice"),
        (two(("a", 0), ("b", 0)), "the tensors \"a\" and \"b\" overlap in the file"),
        (
            Raw::new(3, 2, 0).tensor("a", &[1], 99, 0).tensor("b", &[1], 99, 0).data(32, 64),
            "the tensors \"a\" and \"b\" overlap in the file",
        ),
        (two(("a", 32), ("b", 0)), "the tensors \"b\" and \"a\" overlap in the file"),
        // Split models.
        (
            Raw::new(3, 0, 1).text(b"split.count").u32(U32).u32(3),
            "this is part 1 of a model that was split into 3 files: open the first part by its path",
        ),
        (
            Raw::new(3, 0, 1).text(b"split.count").u32(U32).u32(70_000),
            "the parts of the model cannot be told: the metadata entry \"split.count\" is 70000, which is no u16",
        ),
    ];
    for (raw, expected) in gallery {
        let text = refusal(raw.bytes());
        assert!(text.starts_with(expected), "expected: {expected}\n   found: {text}");
    }
}

#[test]
fn gigantic_counts_are_refused_before_anything_is_allocated() {
    for count in HUGE {
        let gallery = [
            Raw::new(3, count, 0).data(1, 76),
            Raw::new(3, 0, count).data(1, 76),
            Raw::new(3, count, count).data(1, 76),
            Raw::new(3, 0, 1).u64(count).data(1, 76),
            Raw::new(3, 0, 1).text(b"a").u32(STRING).u64(count).data(1, 55),
            Raw::new(3, 0, 1).text(b"a").u32(ARRAY).u32(U8).u64(count).data(1, 51),
            Raw::new(3, 0, 1).text(b"a").u32(ARRAY).u32(U64).u64(count).data(1, 51),
            Raw::new(3, 0, 1).text(b"a").u32(ARRAY).u32(STRING).u64(count).data(1, 51),
            Raw::new(3, 0, 1).text(b"a").u32(ARRAY).u32(STRING).u64(1).u64(count).data(1, 43),
            Raw::new(3, 1, 0).u64(count).data(1, 76),
            Raw::new(3, 1, 0).tensor("a", &[count], F32, 0).data(1, 43),
            Raw::new(3, 1, 0).tensor("a", &[1, count], F32, 0).data(1, 35),
            Raw::new(3, 1, 0).tensor("a", &[1], F32, count & !31).data(1, 43),
        ];
        for (index, raw) in gallery.iter().enumerate() {
            let bytes = raw.bytes();
            let counted = allocation_counter::measure(|| drop(refusal(bytes.clone())));
            assert!(counted.bytes_max < 4096, "{index} with {count}: {} bytes", counted.bytes_max);
        }
    }
}

/// What costs most for its bytes: entries, tensors, texts and broken texts as short as they can be.
#[test]
fn memory_is_bounded_by_the_file() {
    let many = 20_000_u32;
    let name = |index: u32| format!("{index:05}");
    let mut entries = Raw::new(3, 0, many.into());
    let mut tensors = Raw::new(3, many.into(), 0);
    let mut texts = Raw::new(3, 0, 1).text(b"a").u32(ARRAY).u32(STRING).u64(many.into());
    let mut broken = texts.clone();
    for index in 0..many {
        entries = entries.text(name(index).as_bytes()).u32(U8).u8(1);
        tensors = tensors.tensor(&name(index), &[1], F32, u64::from(index) * 32);
        texts = texts.text(b"");
        broken = broken.text(b"\xff");
    }
    let tensors = tensors.data(32, 32 * many as usize);
    for (what, raw, most) in
        [("entries", entries, 12), ("tensors", tensors, 5), ("texts", texts, 5), ("broken", broken, 9)]
    {
        let bytes = raw.bytes();
        let counted = allocation_counter::measure(|| drop(Gguf::parse(bytes.clone()).unwrap()));
        let times = counted.bytes_max / bytes.len() as u64;
        assert!(times < most, "{what}: {times} times the {} bytes of the file", bytes.len());
    }
}

/// A small file with everything in it.
fn whole() -> Raw {
    let raw = Raw::new(3, 3, 5).text(b"general.architecture").u32(STRING).text(b"llama");
    let raw = raw.text(b"general.alignment").u32(U32).u32(16);
    let raw = raw.text(b"tokens").u32(ARRAY).u32(STRING).u64(3).text(b"a").text(b"").text(b"\xff");
    let raw = raw.text(b"scores").u32(ARRAY).u32(6).u64(2).u64(0);
    let raw = raw.text(b"yes").u32(ARRAY).u32(BOOL).u64(2).u8(1).u8(0);
    let raw = raw.tensor("a", &[32, 2], Q8_0, 0).tensor("b", &[4], F32, 80).tensor("c", &[9, 9], 31, 96);
    raw.data(16, 128)
}

/// Asks a file everything that can be asked.
fn touch(gguf: &Gguf) {
    for tensor in gguf.tensors() {
        assert_eq!(gguf.bytes_of(tensor).len() as u64, tensor.bytes);
        gguf.will_need(tensor);
    }
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(gguf.metadata().get(key).map(lm::gguf::value::Value::kind), Some(value.kind()));
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = whole().bytes();
    let gguf = Gguf::parse(whole.clone()).unwrap();
    assert_eq!(
        gguf.tensor("c").map(|tensor| tensor.bytes),
        Some(32),
        "an unknown type has the room that is left"
    );
    touch(&gguf);
    // The tensor of a removed type takes what is left, so the last cut that must be seen is where it begins.
    for length in 0..whole.len() - 32 {
        let text = refusal(whole.slice(..length));
        assert!(!text.is_empty(), "cut at {length}");
    }
}

#[test]
fn a_file_with_any_byte_changed_does_not_panic() {
    let whole = whole().0;
    let mut read = 0;
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            if let Ok(gguf) = Gguf::parse(bytes.into()) {
                touch(&gguf);
                read += 1;
            }
        }
    }
    assert!(read > 0, "most changes of a name or a number leave a valid file");
}

#[test]
fn names_in_errors_are_short_and_escaped() {
    let name = format!("\x1b[31m{}", "n".repeat(10_000));
    let text = refusal(Raw::new(3, 1, 0).tensor(&name, &[0], F32, 0).data(32, 64).bytes());
    assert!(text.len() < 200 && !text.contains('\x1b'), "{text}");
}

#[test]
fn version_2_is_read_like_version_3() {
    let raw = Raw::new(2, 1, 1).text(b"k").u32(U32).u32(7).tensor("a", &[2], F32, 0).data(32, 8);
    let gguf = Gguf::parse(raw.bytes()).unwrap();
    assert_eq!((gguf.version(), gguf.metadata().u32("k")), (2, Ok(7)));
    assert_eq!(gguf.bytes_of(&gguf.tensors()[0]).len(), 8);
}

#[test]
fn shared_data_files_cut_short_are_refused() {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let Ok(bytes) = std::fs::read(data.join("slm/stories260K-q4_0.gguf")) else {
        println!("skipped: cutting a real GGUF file: no shared data");
        return;
    };
    let whole = Bytes::from(bytes);
    let gguf = Gguf::parse(whole.clone()).unwrap();
    let last = gguf.tensors().iter().max_by_key(|tensor| tensor.offset).unwrap();
    let padding = last.bytes.next_multiple_of(gguf.alignment()) - last.bytes;
    // Every byte of the front, and then in strides: each parse reads the vocabulary again.
    let front = 0..4096;
    let rest = (4096..whole.len() - padding as usize).step_by(997);
    for length in front.chain(rest) {
        assert!(Gguf::parse(whole.slice(..length)).is_err(), "cut at {length}");
    }
}
