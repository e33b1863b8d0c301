//! Proves a language model: it is loaded as it would be to serve, and answers its golden set by the likeliest tokens.
//!
//! A build without language models has `no_language.rs` in the place of this file.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::embed::embed;
use lm::forward::{Part, Scratch, Wanted};
use lm::memory::STEP;
use lm::memory::machine::peak_bytes;
use lm::model::Model;
use lm::sample::{Sampler, Settings};
use lm::shape::Pooling;
use lm::tokenizer::special::Special;
use package::digest::Digest;
use package::disk::system::System;
use package::golden::{Answer, Case, Golden};
use package::store::Store;
use wire::world::{Clock, MonoNs};

use super::answers::{Answers, Trouble, failed, ms_since};
use crate::install::keys::Keys;
use crate::install::weights::gguf;
use crate::why::why;

/// Loads the model of a manifest from the store, once its bytes are checked, and lets it answer on so many threads.
pub(super) fn answers(
    store: &Store<System>,
    keys: &Keys,
    manifest: &Digest,
    golden: Option<&Golden>,
    threads: NonZeroUsize,
    clock: &dyn Clock,
) -> Result<Answers, Trouble> {
    let file = gguf::open(store, keys, manifest, threads.get(), |_| ())?;
    let begun_ns = clock.mono_ns();
    let isa = Isa::from_environment().map_err(failed)?;
    let model = Model::load(&file, Arc::new(Compute::new(isa, threads))).map_err(failed)?;
    let load_ms = ms_since(&|| clock.mono_ns(), begun_ns);
    let (mut answers, mut answer_ms) = (Vec::new(), Vec::new());
    for case in golden.iter().flat_map(|golden| &golden.cases) {
        let answer = answer_case(&model, case, &|| clock.mono_ns(), &mut answer_ms);
        answers.push(answer.map_err(Trouble::Failed)?);
    }
    Ok(Answers { answers, load_ms, answer_ms, rss_bytes: peak_bytes(), own_bytes: None })
}

/// The answer of a loaded model to one case; the times of its tokens, or of its text, are added to `times_ms`. The error
/// says why there is none.
pub fn answer_case(
    model: &Model,
    case: &Case,
    now_ns: &dyn Fn() -> MonoNs,
    times_ms: &mut Vec<f64>,
) -> Result<Answer, String> {
    match case {
        Case::Text(text) => {
            likeliest(model, &text.prompt, text.max_tokens, now_ns, times_ms).map(Answer::Tokens)
        }
        Case::Embedding(text) => {
            let tokens = model.tokenizer.encode_for_model(&text.embed, Special::Plain);
            let pooling = model.network.shape().pooling.unwrap_or(Pooling::Mean);
            let begun_ns = now_ns();
            let vectors = embed(&model.network, &mut Scratch::default(), &[tokens], pooling);
            let vectors = vectors.map_err(|error| why(&error))?;
            times_ms.push(ms_since(now_ns, begun_ns));
            Ok(Answer::Vector(vectors.into_iter().next().unwrap_or_default()))
        }
        Case::Tensors(_) => Err("its golden set asks for tensors, which a model of words has not".into()),
    }
}

/// A golden prompt as tokens: it is read as it stands, control tokens and all.
pub fn prompt_tokens(model: &Model, prompt: &str) -> Vec<u32> {
    model.tokenizer.encode_for_model(prompt, Special::Parse)
}

/// How tokens of golden answers are chosen: always the likeliest.
pub fn likeliest_settings() -> Settings {
    Settings { temperature: 0.0, ..Settings::default() }
}

/// The answer that always takes the likeliest token, with the token that ends it. Golden sets are made by the same.
pub(super) fn likeliest(
    model: &Model,
    prompt: &str,
    max_tokens: usize,
    now_ns: &dyn Fn() -> MonoNs,
    times_ms: &mut Vec<f64>,
) -> Result<Vec<u32>, String> {
    likeliest_after(model, prompt_tokens(model, prompt), max_tokens, CacheFormat::F16, now_ns, times_ms)
}

/// As [`likeliest`], behind these tokens, with keys and values in the format `cache`.
pub(in crate::install) fn likeliest_after(
    model: &Model,
    prompt: Vec<u32>,
    max_tokens: usize,
    cache: CacheFormat,
    now_ns: &dyn Fn() -> MonoNs,
    times_ms: &mut Vec<f64>,
) -> Result<Vec<u32>, String> {
    let (network, mut tokens) = (&model.network, prompt);
    let context = network.shape().context;
    if tokens.is_empty() || tokens.len() + max_tokens > context {
        return Err(format!("a prompt of {} tokens does not fit", tokens.len()));
    }
    let pages = network.page_shape(cache).map_err(|error| why(&error))?;
    let mut cache = network.sequence(pages, tokens.len() + max_tokens);
    let mut sampler = Sampler::new(likeliest_settings(), &[]);
    let (mut scratch, mut answer) = (Scratch::default(), Vec::new());
    while answer.len() < max_tokens {
        let begun_ns = now_ns();
        // A long prompt is read in pieces, so that the room to compute in is bounded.
        while tokens.len() > STEP as usize {
            let rest = tokens.split_off(STEP as usize);
            let part = Part { tokens: &tokens, cache: &mut cache, adapter: None, wanted: Wanted::Nothing };
            let nothing = network.step(&mut scratch, &mut [part]).map_err(|error| why(&error))?;
            scratch.keep(nothing);
            tokens = rest;
        }
        let part = Part { tokens: &tokens, cache: &mut cache, adapter: None, wanted: Wanted::Last };
        let mut logits = network.step(&mut scratch, &mut [part]).map_err(|error| why(&error))?;
        let token = sampler.choose(&mut logits, |_| {}, 0).map_err(|error| why(&error))?.token;
        scratch.keep(logits);
        if !answer.is_empty() || max_tokens == 1 {
            times_ms.push(ms_since(now_ns, begun_ns));
        }
        answer.push(token);
        if model.tokenizer.ends().contains(&token) {
            break;
        }
        tokens = vec![token];
    }
    Ok(answer)
}
