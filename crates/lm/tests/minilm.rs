//! all-MiniLM-L6-v2 in q8_0: sentences to tokens to vectors, against float64 over the original weights.
//!
//! Runs on the shared data.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use lm::embed::embed;
use lm::forward::Scratch;
use lm::model::Model;
use lm::tokenizer::special::Special;

/// A sentence of the expected ones.
#[derive(serde::Deserialize)]
struct Sentence {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

/// The folder of the model, if this machine has it.
#[expect(clippy::print_stderr, reason = "tests say what they skip")]
fn shared() -> Option<PathBuf> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let folder = data.join("minilm");
    if !folder.is_dir() {
        eprintln!("skipped: MiniLM: no shared data");
        return None;
    }
    Some(folder)
}

fn sentences(folder: &Path) -> Vec<Sentence> {
    let text =
        std::fs::read_to_string(folder.join("embeddings.expected.json")).expect("the shared data is whole");
    serde_json::from_str(&text).expect("sentences with their vectors")
}

fn open(folder: &Path, isa: Isa) -> Model {
    let compute = Compute::new(isa, NonZeroUsize::new(2).expect("two is not zero"));
    Model::open(&folder.join("all-MiniLM-L6-v2-q8_0.gguf"), Arc::new(compute)).expect("the model loads")
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn shared_data_sentences_become_the_expected_tokens() {
    let Some(folder) = shared() else { return };
    let model = open(&folder, Isa::best());
    for sentence in sentences(&folder) {
        let ids = model.tokenizer.encode_for_model(&sentence.text, Special::Plain);
        assert_eq!(ids, sentence.ids, "{:?}", sentence.text);
    }
}

#[test]
fn shared_data_sentences_become_the_expected_vectors_alone_and_together() {
    let Some(folder) = shared() else { return };
    let all = sentences(&folder);
    for isa in Isa::all_here() {
        let model = open(&folder, isa);
        let pooling = model.network.shape().pooling.expect("encoders pool");
        // Plain Rust without instructions of its own would take a minute for the long ones.
        let best = isa.name() == Isa::best().name();
        let sentences: Vec<&Sentence> =
            all.iter().filter(|sentence| best || sentence.ids.len() < 20).collect();
        let ids: Vec<Vec<u32>> = sentences.iter().map(|sentence| sentence.ids.clone()).collect();
        let mut scratch = Scratch::default();
        let together = embed(&model.network, &mut scratch, &ids, pooling).unwrap();
        for ((sentence, together), ids) in sentences.iter().zip(&together).zip(ids.chunks(1)) {
            let alone = embed(&model.network, &mut scratch, ids, pooling).unwrap();
            for vector in [together, &alone[0]] {
                let cosine = cosine(vector, &sentence.embedding);
                assert!(cosine >= 0.999, "{}, {:?}: {cosine}", isa.name(), sentence.text);
                let length = vector.iter().map(|x| x * x).sum::<f32>();
                assert!((length - 1.0).abs() < 1e-4, "a vector of length 1, not {length}");
            }
        }
    }
}
