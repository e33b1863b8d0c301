//! The tokenizer of a real model, MiniLM, becomes the vocabulary that its GGUF file has.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::path::PathBuf;

use forge::import::family::Family;
use forge::import::folder::Folder;
use forge::import::special::Special;
use forge::import::vocabulary::{TokenizerFiles, Vocabulary};
use lm::gguf::Gguf;
use lm::gguf::metadata::Metadata;

#[test]
fn shared_data_minilm_has_the_vocabulary_of_its_gguf() {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let minilm = data.join("minilm");
    if !minilm.join("tokenizer.json").is_file() {
        println!("skipped: the vocabulary of MiniLM: no shared data");
        return;
    }
    let gguf = Gguf::open(&minilm.join("all-MiniLM-L6-v2-q8_0.gguf")).unwrap();
    let folder = Folder::open(&minilm).unwrap();
    let files = TokenizerFiles::open(&folder).unwrap();
    let mut metadata = Metadata::new();
    Vocabulary::read(&folder, &files, Family::Bert, 30_522).unwrap().describe(&mut metadata);
    Special::read(&folder, &files, 30_522).unwrap().describe(&mut metadata);
    let theirs = gguf.metadata();
    let key = "tokenizer.ggml.tokens";
    let (ours, peers) = (metadata.strings(key).unwrap(), theirs.strings(key).unwrap());
    assert_eq!(ours.len(), peers.len());
    let mut unused = 0;
    for (our, peer) in ours.iter().zip(peers.iter()) {
        // That file was made with a rule of its own for these, which no text ever becomes.
        if peer.starts_with("[unused") {
            unused += 1;
        } else {
            assert_eq!(our, peer);
        }
    }
    assert_eq!(unused, 994);
    for key in ["tokenizer.ggml.token_type", "tokenizer.ggml.model"] {
        assert_eq!(metadata.get(key), theirs.get(key), "{key}");
    }
}
