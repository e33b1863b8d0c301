//! Perplexity and importance against llama.cpp and against float64, on stories260K of the shared data.
//!
//! `goldens/quality.json` is what llama.cpp said; `peers/quality.py` wrote it. What float64 says lies with the shared data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests, which say what they skip and measure")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge::evaluate::{Cut, Perplexity, perplexity};
use forge::importance::Importance;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::model::Model;
use lm::tokenizer::special::Special;
use serde_json::Value;

/// The shared data, if this machine has it.
fn shared() -> Option<PathBuf> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    if !data.join("slm").is_dir() {
        eprintln!("skipped: stories260K: no shared data");
        return None;
    }
    Some(data)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn goldens() -> Value {
    json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quality.json"))
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("a small number")
}

fn story(data: &Path, format: &str) -> Model {
    let compute = Compute::new(Isa::best(), NonZeroUsize::new(2).expect("two is not zero"));
    let path = data.join(format!("slm/stories260K-{format}.gguf"));
    Model::open(&path, Arc::new(compute)).expect("the model loads")
}

/// The piece of Shakespeare that the goldens were measured on.
fn shakespeare(data: &Path, model: &Model, goldens: &Value) -> Vec<u32> {
    let text =
        std::fs::read_to_string(data.join("text/tinyshakespeare.txt")).expect("it lies with the models");
    let tokens = model.tokenizer.encode(&text[..size(&goldens["bytes"])], Special::Plain);
    assert_eq!(tokens.len() + 1, size(&goldens["tokens"]), "they count the beginning too");
    tokens
}

fn measure(model: &Model, texts: &[Vec<u32>], cut: Cut) -> Perplexity {
    let begin = model.tokenizer.bos();
    perplexity(&model.network, texts, begin, cut, CacheFormat::F32, &mut |_, _, _| ())
        .expect("the model reads")
}

#[test]
fn windows_count_as_llama_cpp_counts_shared_data() {
    let Some(data) = shared() else { return };
    let goldens = goldens();
    // Floats: sums are rounded in another order (measured: 6e-8), and llama.cpp rounds activations to f16 where weights
    // are f16 (2e-5). Blocks: both round activations to int8, each in its own way (1.4e-3, of the error 2.2e-3).
    for (format, within) in [("f32", 1e-6), ("f16", 1e-4), ("q8_0", 3e-3), ("q4_0", 3e-3)] {
        let model = story(&data, format);
        let texts = [shakespeare(&data, &model, &goldens)];
        let found = measure(&model, &texts, Cut::Windows(size(&goldens["window"])));
        let expected = &goldens["perplexity"][format];
        assert_eq!(found.tokens, size(&expected["tokens"]), "{format}");
        for (name, found) in [("perplexity", found.perplexity), ("error", found.error)] {
            let expected = expected[name].as_f64().expect("a number");
            let off = (found / expected - 1.0).abs();
            println!("{format} {name}: {found:.5}, llama.cpp {expected:.5}, apart {off:.1e}");
            assert!(off < within, "{format} {name}: {found} {expected}");
        }
    }
}

#[test]
fn documents_are_as_surprising_as_in_float64_shared_data() {
    let Some(data) = shared() else { return };
    let expected = json(&data.join("slm/stories260K.perplexity.json"));
    let documents = expected["token_ids"].as_array().expect("a list of documents");
    let texts: Vec<Vec<u32>> = documents
        .iter()
        .map(|ids| {
            let ids = ids.as_array().expect("a list of tokens");
            let ids = ids.iter().map(|id| u32::try_from(id.as_u64().expect("a token")).expect("a token"));
            // The beginning is put before each.
            ids.skip(1).collect()
        })
        .collect();
    let found = measure(&story(&data, "f32"), &texts, Cut::Documents);
    let expected = &expected["results"]["f32"];
    assert_eq!(found.tokens, size(&expected["tokens"]));
    let figure = expected["ppl"].as_f64().expect("a number");
    println!("f32: {:.6}, float64 {figure:.6}", found.perplexity);
    assert!((found.perplexity / figure - 1.0).abs() < 1e-5, "{found:?} {figure}");
}

#[test]
fn importance_is_what_llama_cpp_sums_up_shared_data() {
    let Some(data) = shared() else { return };
    let goldens = goldens();
    let model = story(&data, "f32");
    let tokens = shakespeare(&data, &model, &goldens);
    let window = size(&goldens["window"]);
    let measured =
        Importance::measure(&model.network, &tokens, model.tokenizer.bos(), window, &mut |_, _| ())
            .expect("it reads");
    let expected = goldens["importance"].as_object().expect("entries by name");
    assert_eq!(measured.len(), expected.len());
    let mut worst = 0.0f64;
    for (name, entry) in expected {
        let (sums, count) = measured.sums_of(name).unwrap_or_else(|| panic!("{name} was not measured"));
        assert_eq!(count, entry["count"].as_u64().expect("a count"), "{name}");
        let expected = entry["sums"].as_array().expect("numbers");
        assert_eq!(sums.len(), expected.len(), "{name}");
        for (sum, expected) in sums.iter().zip(expected) {
            let expected = expected.as_f64().expect("a number");
            worst = worst.max((f64::from(*sum) / expected - 1.0).abs());
        }
    }
    println!("sums of squares are apart by {worst:.1e} of themselves at most");
    assert!(worst < 1e-4, "{worst}");
}
