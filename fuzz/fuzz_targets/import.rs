//! The files of a Hugging Face folder from a stranger: weights' tables, tokenizers and configs are read within bounds.
#![no_main]

use std::path::PathBuf;

use bytes::Bytes;
use forge::import::config::Config;
use forge::import::family::Family;
use forge::import::names::Place;
use forge::import::rope::Rope;
use forge::import::tokenizer_json::{TokenizerJson, added_tokens_decoder};
use forge::import::{parameters, pretokenizer, safetensors, sentencepiece};
use libfuzzer_sys::fuzz_target;
use lm::gguf::metadata::Metadata;

fuzz_target!(|bytes: &[u8]| {
    let whole = Bytes::copy_from_slice(bytes);
    // The table is JSON behind a length; no mutation finds the length, so it is put before the bytes here.
    let mut table = (bytes.len() as u64).to_le_bytes().to_vec();
    table.extend(bytes);
    table.extend([0; 64]);
    for whole in [whole, Bytes::from(table)] {
        if let Ok(sources) = safetensors::parse(&whole, PathBuf::from("fuzz")) {
            for source in sources {
                let numbers: u64 = source.shape.iter().product();
                assert!(source.dtype.bytes().is_none_or(|bytes| bytes * numbers == source.bytes.len() as u64));
                for (_, family) in forge::import::family::ARCHITECTURES {
                    if let Place::Tensor { name, .. } = family.place(&source.name) {
                        assert!(name.ends_with(".weight") || name.ends_with(".bias"));
                    }
                }
            }
        }
    }
    if let Ok(model) = sentencepiece::read(bytes) {
        assert!(!model.pieces.is_empty());
    }
    if let Ok(json) = serde_json::from_slice::<TokenizerJson>(bytes) {
        let _ = pretokenizer::name(&json.pre_tokenizer);
        let _ = json.model.merges.iter().map(|merge| (merge.pair().is_some(), merge.joined())).count();
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) {
        let _ = added_tokens_decoder(&value);
        let _ = pretokenizer::name(&value);
        let Some(values) = value.as_object() else { return };
        let mut config = Config::new(values.clone());
        let Ok(family) = Family::of(&mut config) else { return };
        let Ok(rope) = Rope::of(&config) else { return };
        let _ = parameters::describe(family, &config, &rope, 0, None, &mut Metadata::new());
        let _ = rope.llama3_factors(config.count(&["head_dim"]).unwrap_or(0));
        let _ = rope.long_factors(2, config.count(&["max_position_embeddings"]).unwrap_or(0));
    }
});
