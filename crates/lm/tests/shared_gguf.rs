//! Reads the shared GGUF files: what a reader finds in them.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::path::PathBuf;

use lm::gguf::Gguf;
use lm::gguf::write::{Writer, copy_from};

/// The GGUF files of the shared data; empty, and said, where it is absent.
fn shared_data(what: &str) -> Vec<PathBuf> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let mut files = Vec::new();
    for folder in ["slm", "minilm", "vocab-gguf"] {
        let Ok(entries) = std::fs::read_dir(data.join(folder)) else { continue };
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    files.sort();
    if files.is_empty() {
        println!("skipped: {what}: no shared data");
    }
    files
}

#[test]
fn shared_data_files_are_read() {
    for path in shared_data("reading GGUF files") {
        let gguf = Gguf::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(gguf.version(), 3);
        println!("{}: {} entries, {} tensors", path.display(), gguf.metadata().len(), gguf.tensors().len());
        let tokens = gguf.metadata().strings("tokenizer.ggml.tokens").unwrap();
        assert!(tokens.len() >= 512 && tokens.is_utf8());
        assert_eq!(Gguf::read(&path).unwrap().metadata(), gguf.metadata());
        for tensor in gguf.tensors() {
            assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
            assert_eq!(gguf.bytes_of(tensor).len() as u64, tensor.bytes);
        }
    }
}

#[test]
fn shared_data_files_are_rewritten_byte_for_byte() {
    for path in shared_data("rewriting GGUF files") {
        let gguf = Gguf::open(&path).unwrap();
        let writer = Writer::like(&gguf).unwrap();
        let mut written = Vec::new();
        writer.write_to(&mut written, &mut copy_from(&gguf)).unwrap();
        assert_eq!(written.len() as u64, writer.file_bytes());
        assert!(written == std::fs::read(&path).unwrap(), "{} came out different", path.display());
    }
}
