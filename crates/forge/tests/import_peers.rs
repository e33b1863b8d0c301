//! Tiny random models of each family, imported from Hugging Face folders, answer as transformers does and cut text as
//! their own tokenizers do. The folders are made by `peers/tiny_hf.py` where Python has its packages
//! (`SELVEDGE_PYTHON`).
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use forge::import::{Options, import};
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use kernels::page::CacheFormat;
use lm::embed::embed;
use lm::forward::{Part, Scratch, Wanted};
use lm::gguf::Gguf;
use lm::model::Model;
use lm::shape::Pooling;
use lm::tokenizer::special::Special;
use serde::Deserialize;

/// What transformers and the folder's tokenizer answered.
#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    columns: usize,
    values: Vec<f32>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

/// Runs the script; false, and said, where its packages are missing.
fn made(out: &Path) -> bool {
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/tiny_hf.py");
    let output = match Command::new(&python).arg(script).arg(out).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: imports against transformers: {}: {error}", python.display());
            return false;
        }
    };
    if output.status.code() == Some(3) {
        println!("skipped: imports against transformers: {}", String::from_utf8_lossy(&output.stdout).trim());
        return false;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// What the model answers to the ids: logits of each token, or the pooled states of an encoder.
fn answered(model: &Model, ids: &[u32]) -> Vec<f32> {
    let mut scratch = Scratch::default();
    if !model.network.writes() {
        return embed(&model.network, &mut scratch, &[ids.to_vec()], Pooling::Mean).unwrap().concat();
    }
    let pages = model.network.page_shape(CacheFormat::F32).unwrap();
    let mut cache = model.network.sequence(pages, ids.len());
    let part = Part { tokens: ids, cache: &mut cache, adapter: None, wanted: Wanted::All };
    model.network.step(&mut scratch, &mut [part]).unwrap()
}

/// The expected values in the same form.
fn pooled(expected: &Expected) -> Vec<f32> {
    let mut mean = vec![0.0_f64; expected.columns];
    for row in expected.values.chunks_exact(expected.columns) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
    }
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    mean.iter().map(|value| (value / length) as f32).collect()
}

#[test]
fn imported_models_answer_like_transformers() {
    let place = tempfile::tempdir().unwrap();
    if !made(place.path()) {
        return;
    }
    let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::MIN));
    let mut names: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.is_dir());
    names.sort();
    assert_eq!(names.len(), 16, "the script makes each family");
    let mut failures = Vec::new();
    for folder in names {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let answer = std::fs::read_to_string(folder.with_extension("json")).unwrap();
        let expected: Expected = serde_json::from_str(&answer).unwrap();
        let out = folder.with_extension("gguf");
        let options = Options { format: Some(Format::F32), name: None };
        import(&folder, &out, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let model =
            Model::open(&out, Arc::clone(&compute)).unwrap_or_else(|error| panic!("{name}: {error:?}"));

        let found = answered(&model, &expected.ids);
        let wanted = if model.network.writes() { expected.values.clone() } else { pooled(&expected) };
        assert_eq!(found.len(), wanted.len(), "{name}");
        let far = found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max);
        let spread = wanted.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        println!("{name}: logits differ by at most {far:.1e} of {spread:.2}");
        if far.is_nan() || far > 1e-3 {
            failures.push(format!("{name}: logits differ by {far}"));
        }
        for Text { text, ids } in &expected.texts {
            let found = model.tokenizer.encode(text, Special::Plain);
            if found != *ids {
                failures.push(format!("{name}: {text:?} is cut as {found:?}, not {ids:?}"));
            }
        }
        for format in [Format::F16, Format::BF16, Format::Q8_0] {
            let options = Options { format: Some(format), name: None };
            let imported = import(&folder, &out, &options, &mut |_| ()).unwrap();
            let gguf = Gguf::open(&out).unwrap();
            assert_eq!((imported.format, imported.file_bytes), (format, gguf.file_bytes()));
            assert_eq!(gguf.tensor("token_embd.weight").unwrap().format.known(), Some(format), "{name}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
