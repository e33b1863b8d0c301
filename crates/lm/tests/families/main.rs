//! Every family against engines that nobody here wrote: the model's reference code in `transformers`, and llama.cpp.
//!
//! Their answers lie in `goldens/`, made by `peers/` (its README tells how, and where the two engines differ). The same
//! tiny models are built here from the same formula, so that these tests need neither engine.

mod engine;
mod formula;
mod golden;
mod tiny;

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use kernels::page::CacheFormat;
use lm::embed::embed;
use lm::forward::Scratch;
use lm::gguf::Gguf;
use lm::model::Model;
use serde_json::{Value, json};

use engine::{Engine, WAYS};
use golden::{Golden, folder};
use tiny::Tiny;

/// How far a logit may be from the other engine's. They differ among themselves by up to 1e-4 (order of f32 sums).
const WITHIN: f32 = 1e-3;

/// The same for llama.cpp where there is a GELU, which it reads from a table of f16: it is up to 3e-3 from `transformers`.
const WITHIN_GELU: f32 = 1e-2;

/// A tiny model, and how far from llama.cpp its logits may be: `None` where that engine computes something else.
const DECODERS: [(&str, Option<f32>); 21] = [
    ("llama", Some(WITHIN)),
    ("llama-wide", Some(WITHIN)),
    ("llama-headdim", Some(WITHIN)),
    ("llama3-rope", Some(WITHIN)),
    ("llama-linear", Some(WITHIN)),
    ("llama-yarn", Some(WITHIN)),
    ("llama-bias", Some(WITHIN)),
    ("mistral", None),
    ("qwen2", Some(WITHIN)),
    ("qwen3", Some(WITHIN)),
    ("gemma", Some(WITHIN_GELU)),
    ("gemma2", Some(WITHIN_GELU)),
    ("gemma3", Some(WITHIN_GELU)),
    ("phi2", Some(WITHIN_GELU)),
    ("phi3", Some(WITHIN)),
    ("phi3-window", None),
    ("phi3-longrope", Some(WITHIN)),
    ("phi3-longrope-short", Some(WITHIN)),
    ("phi4mini", Some(WITHIN)),
    ("llama-lora", Some(WITHIN)),
    ("phi3-lora", Some(WITHIN)),
];

/// Encoders give one vector of length 1.
const ENCODERS: [&str; 2] = ["bert", "bert-cls"];

/// The largest difference, which is NaN if there is a NaN.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "as many numbers as the other engine gave");
    ours.iter()
        .zip(theirs)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, |most, x| if x <= most { most } else { x })
}

/// Logits against both engines.
fn check(what: &str, golden: &Golden, llama_cpp: Option<f32>, logits: &[f32]) {
    let difference = apart(logits, &golden.transformers.values());
    assert!(difference < WITHIN, "{}, {what}: {difference} from transformers", golden.name);
    let Some(within) = llama_cpp else {
        assert_ne!(golden.llama_cpp.stance, "agrees", "{}: llama.cpp is to be compared", golden.name);
        return;
    };
    let vocabulary = logits.len() / golden.tokens.len();
    let every_fourth: Vec<f32> =
        logits.chunks_exact(vocabulary).skip(3).step_by(4).flatten().copied().collect();
    let difference = apart(&every_fourth, &golden.llama_cpp.values());
    assert!(difference < within, "{}, {what}: {difference} from llama.cpp", golden.name);
}

fn load(tiny: &Tiny, format: Format) -> Engine {
    Engine::load(tiny.file(format), Isa::best())
}

/// The golden's model as its engines had it, with the adapter if there is one.
fn load_as_asked(golden: &Golden, format: Format, isa: Isa) -> Engine {
    let engine = Engine::load(Tiny::of(golden).file(format), isa);
    match Tiny::adapter_of(golden) {
        Some(adapter) => engine.adapted(adapter.file(Format::F32)),
        None => engine,
    }
}

#[test]
fn the_table_has_every_golden() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let mut table: Vec<String> =
        DECODERS.iter().map(|(name, _)| *name).chain(ENCODERS).map(str::to_owned).collect();
    table.push("stories260K".to_owned());
    files.sort();
    table.sort();
    assert_eq!(files, table);
}

#[test]
fn every_tiny_file_is_a_whole_model() {
    for name in DECODERS.iter().map(|(name, _)| *name).chain(ENCODERS) {
        let golden = Golden::load(name);
        let file = Gguf::parse(Tiny::of(&golden).file(Format::F32).into()).unwrap();
        let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::MIN));
        let model = Model::load(&file, compute).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(model.facts.family, golden.family());
        assert_eq!(model.network.writes(), !ENCODERS.contains(&name), "{name}");
        assert_eq!(model.tokenizer.vocabulary_size(), model.network.shape().vocabulary, "{name}");
    }
}

#[test]
fn logits_are_those_of_other_engines_under_every_instruction_set() {
    for isa in Isa::all_here() {
        for (name, llama_cpp) in DECODERS {
            let golden = Golden::load(name);
            let engine = load_as_asked(&golden, Format::F32, isa);
            let logits = engine.whole(CacheFormat::F32, &golden.tokens);
            check(isa.name(), &golden, llama_cpp, &logits);
        }
    }
}

#[test]
fn logits_are_the_same_however_the_prompt_is_put_through() {
    for (name, llama_cpp) in DECODERS {
        let golden = Golden::load(name);
        let engine = load_as_asked(&golden, Format::F32, Isa::best());
        let whole = engine.whole(CacheFormat::F32, &golden.tokens);
        for (how, way) in &WAYS[1..] {
            let logits = way(&engine, CacheFormat::F32, &golden.tokens);
            check(how, &golden, llama_cpp, &logits);
            // To the bit, so that an answer does not depend on who else is being served.
            assert!(logits == whole, "{name}, {how}: {} from the whole prompt's", apart(&logits, &whole));
        }
    }
}

/// The weights' grid is exact in f16, so weights in f16 are the same model.
#[test]
fn half_precision_weights_lose_nothing() {
    for (name, llama_cpp) in DECODERS {
        let golden = Golden::load(name);
        let engine = load_as_asked(&golden, Format::F16, Isa::best());
        let logits = engine.whole(CacheFormat::F32, &golden.tokens);
        check("f16 weights", &golden, llama_cpp, &logits);
    }
}

#[test]
fn queries_keys_and_values_may_come_in_one_tensor() {
    for name in ["llama", "llama-bias", "phi2", "qwen2", "qwen3", "gemma2"] {
        let golden = Golden::load(name);
        let tiny = Tiny::of(&golden);
        let [apart, fused] = [tiny.clone(), tiny.fused()].map(|tiny| tiny.file(Format::F32));
        assert_ne!(apart, fused);
        let [apart, fused] = [apart, fused]
            .map(|file| Engine::load(file, Isa::best()).whole(CacheFormat::F32, &golden.tokens));
        assert!(apart == fused, "{name}");
    }
}

/// Root of the mean squared difference, as a share of the logits' own spread.
fn noise(ours: &[f32], exact: &[f32]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let mean = exact.iter().copied().map(f64::from).sum::<f64>() / exact.len() as f64;
    let spread: f64 = exact.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
    let error: f64 = ours.iter().zip(exact).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    (error / spread).sqrt()
}

#[test]
fn smaller_caches_cost_little() {
    // Heads of 32 and of 16 numbers; with and without a window, caps and partial rotation.
    for name in ["llama", "llama-headdim", "qwen3", "gemma2", "gemma3", "phi4mini"] {
        let golden = Golden::load(name);
        let engine = load(&Tiny::of(&golden), Format::F32);
        for (format, within) in [(CacheFormat::F16, 0.001), (CacheFormat::Q8_0, 0.02)] {
            let whole_blocks = engine.network.shape().heads.width.is_multiple_of(32);
            assert_eq!(engine.pages(format).is_some(), format == CacheFormat::F16 || whole_blocks);
            if engine.pages(format).is_none() {
                continue;
            }
            for (how, way) in WAYS {
                let noise = noise(&way(&engine, format, &golden.tokens), &golden.transformers.values());
                assert!(noise < within, "{name}, {how}, {format:?}: noise of {noise}");
            }
        }
    }
}

/// Quantised weights against the same weights multiplied out, in f32: what remains is the rounding of activations to int8.
#[test]
fn quantised_weights_compute_what_they_decode_to() {
    for format in Format::ALL.into_iter().filter(|format| format.is_quantised()) {
        let mut most: f64 = 0.0;
        // Rows of 256 fit every format; fused tensors, GELU and biases are worth a look beside them.
        for name in ["llama-wide", "phi3", "phi2", "gemma2"] {
            let golden = Golden::load(name);
            let tiny = Tiny::of(&golden);
            if !tiny.fits(format) {
                assert_ne!(name, "llama-wide", "fits {}", format.name());
                continue;
            }
            let exact = load(&tiny.rounded(format), Format::F32).whole(CacheFormat::F32, &golden.tokens);
            let quantised = load(&tiny, format);
            for (how, way) in &WAYS[..2] {
                let noise = noise(&way(&quantised, CacheFormat::F32, &golden.tokens), &exact);
                assert!(noise < 0.03, "{name}, {how}, {}: noise of {noise}", format.name());
                most = most.max(noise);
            }
        }
        println!("{}: noise of at most {:.2} % of the logits' spread", format.name(), most * 100.0);
    }
}

/// What sets families apart matters to the goldens: a model without it would be noticed.
#[test]
fn goldens_notice_what_sets_families_apart() {
    let nothing = Value::Null;
    for (name, key, instead) in [
        ("llama", "llama.rope.freq_base", json!(20000.0)),
        ("llama", "llama.attention.layer_norm_rms_epsilon", json!(0.01)),
        ("llama-linear", "llama.rope.scaling.factor", json!(2.0)),
        ("llama-yarn", "llama.rope.scaling.type", nothing.clone()),
        ("llama-yarn", "llama.rope.scaling.yarn_beta_fast", json!(2.0)),
        ("mistral", "llama.attention.sliding_window", json!(15)),
        ("gemma2", "gemma2.attention.sliding_window", json!(17)),
        ("gemma2", "gemma2.attn_logit_softcapping", nothing.clone()),
        ("gemma2", "gemma2.final_logit_softcapping", nothing.clone()),
        ("gemma3", "gemma3.attention.sliding_window", json!(15)),
        ("gemma3", "gemma3.rope.freq_base", json!(10000.0)),
        ("gemma3", "gemma3.rope.freq_base_swa", json!(1000000.0)),
        ("gemma3", "gemma3.rope.scaling.factor", json!(4.0)),
        ("phi2", "phi2.rope.dimension_count", json!(16)),
        ("phi3-window", "phi3.attention.sliding_window", json!(0)),
        ("phi3-longrope", "phi3.rope.scaling.attn_factor", nothing),
        ("phi3-longrope", "phi3.rope.scaling.original_context_length", json!(64)),
        ("phi3-longrope-short", "phi3.rope.scaling.original_context_length", json!(32)),
    ] {
        let golden = Golden::load(name);
        let mut tiny = Tiny::of(&golden);
        let before = match &instead {
            Value::Null => tiny.metadata.remove(key),
            _ => tiny.metadata.insert(key.to_owned(), instead.clone()),
        };
        assert!(before.is_some(), "{name} says {key}");
        let logits = load(&tiny, Format::F32).whole(CacheFormat::F32, &golden.tokens);
        let difference = apart(&logits, &golden.transformers.values());
        assert!(difference > 10.0 * WITHIN, "{name}: {key} = {instead} changes logits by {difference} only");
    }
}

/// The same model without its adapter is another one.
#[test]
fn goldens_notice_an_adapter_that_is_not_applied() {
    for name in ["llama-lora", "phi3-lora"] {
        let golden = Golden::load(name);
        let logits = load(&Tiny::of(&golden), Format::F32).whole(CacheFormat::F32, &golden.tokens);
        assert!(apart(&logits, &golden.transformers.values()) > 1.0, "{name}");
    }
}

#[test]
fn embeddings_are_those_of_other_engines_alone_and_together() {
    for isa in Isa::all_here() {
        for name in ENCODERS {
            let golden = Golden::load(name);
            let engine = Engine::load(Tiny::of(&golden).file(Format::F32), isa);
            let pooling = engine.network.shape().pooling.expect("encoders pool");
            let mut scratch = Scratch::default();
            let sentences = [golden.tokens[..5].to_vec(), golden.tokens.clone(), golden.tokens[3..].to_vec()];
            let alone = embed(&engine.network, &mut scratch, &sentences[1..2], pooling).unwrap();
            let together = embed(&engine.network, &mut scratch, &sentences, pooling).unwrap();
            for ours in [&alone[0], &together[1]] {
                for (theirs, within) in [(&golden.transformers, 1e-5), (&golden.llama_cpp, 1e-3)] {
                    let difference = apart(ours, &normalised(&theirs.values()));
                    assert!(difference < within, "{name}, {}: {difference}", isa.name());
                }
            }
            assert!(apart(&together[0], &alone[0]) > 0.01, "another sentence has another vector");
        }
    }
}

fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

/// Runs the script of `peers/` where its packages are installed, so that the goldens are what the engines say today.
#[test]
fn the_engines_still_say_what_the_goldens_say() {
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = folder().with_file_name("peers").join("goldens.py");
    let run = Command::new(&python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CUDA_VISIBLE_DEVICES", "")
        .arg(script)
        .arg("--check")
        .arg(folder())
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) => {
            eprintln!("skipped: {}: {error}", python.display());
            return;
        }
    };
    let said = String::from_utf8_lossy(&run.stdout);
    if run.status.code() == Some(3) {
        eprintln!("skipped: {} has {}", python.display(), said.trim());
        return;
    }
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
}
