//! How fast a model is here: what `bench` and `fit --measure` share.
//!
//! Everything is timed inside this process, through the world's clock: opening and loading, the first token of a short
//! prompt, then prompts and answers several times over. Tokens of prompts are arbitrary, as arithmetic does not care;
//! answers take the most probable token, and choosing it counts.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::matrix::Matrix;
use kernels::page::CacheFormat;
use lm::embed::embed;
use lm::forward::{Part, Scratch, Wanted};
use lm::model::{Facts, Model};
use lm::sample::{Sampler, Settings};
use lm::shape::Pooling;
use serde::{Deserialize, Serialize};
use wire::world::{Clock as _, MonoNs, System};

use crate::engine::open_path;

/// Tokens of the prompt whose first answer is waited for.
pub(crate) const FIRST_PROMPT: usize = 16;
/// Tokens of a prompt that go through the model at once.
pub(crate) const STEP_TOKENS: usize = 512;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Tokens of a prompt.
    pub(crate) prompt: usize,
    /// Tokens of an answer.
    pub(crate) answer: usize,
    /// How often each is measured.
    pub(crate) repetitions: usize,
    /// How keys and values are kept.
    pub(crate) cache: CacheFormat,
}

/// A model on some threads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Speed {
    pub(crate) threads: usize,
    /// Opening the file and loading the model.
    pub(crate) load_ms: f64,
    /// From the loaded model to the first token of a prompt of [`FIRST_PROMPT`].
    pub(crate) first_token_ms: Option<f64>,
    /// Tokens of the prompts that were measured: fewer than asked for where the context is short.
    pub(crate) prompt_tokens: usize,
    pub(crate) prompt: Rates,
    /// Tokens of the answers that were measured.
    pub(crate) answer_tokens: usize,
    /// Absent for encoders.
    pub(crate) answer: Option<Rates>,
}

/// Tokens a second, of several measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// What is the same for all threads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Subject {
    #[serde(flatten)]
    pub(crate) facts: Facts,
    /// Paths of the multiplications, and how many matrices take each.
    pub(crate) kernels: Vec<(String, usize)>,
    /// Bytes of weights that each token of an answer is multiplied with.
    pub(crate) bytes_a_token: u64,
    /// Multiplications and additions of weights for each token of a prompt: without the output, which only its last needs.
    pub(crate) operations_a_token: u64,
}

impl Rates {
    /// Absent where nothing was measured.
    pub(crate) fn of(mut rates: Vec<f64>) -> Option<Rates> {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (*rates.first()?, *rates.last()?);
        let middle = rates.len() / 2;
        let median = match rates.len() % 2 {
            0 => (rates[middle - 1] + rates[middle]) / 2.0,
            _ => rates[middle],
        };
        Some(Rates { median, least, most })
    }

    /// Half of what lies between the least and the most, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.most - self.least) / 2.0 / self.median
    }
}

/// Loads a model and measures it. `tell` hears how many of its measurements are done.
pub(crate) fn measure(
    path: &Path,
    threads: NonZeroUsize,
    plan: &Plan,
    clock: &System,
    tell: &mut dyn FnMut(),
) -> anyhow::Result<(Subject, Speed)> {
    let isa = Isa::from_environment()?;
    let compute = Arc::new(Compute::new(isa, threads));
    let begun = clock.mono_ns();
    let file = open_path(path)?;
    let model =
        Model::load(&file, compute).with_context(|| format!("{} cannot be loaded", path.display()))?;
    let load_ms = ms(clock.mono_ns() - begun);
    let pages = model.network.page_shape(plan.cache)?;
    let context = model.network.shape().context.max(2);
    let mut bench = Bench { model: &model, pages, clock, scratch: Scratch::default() };
    let writes = model.network.writes();
    let first_token_ms = match writes {
        true => Some(ms(bench.answer(FIRST_PROMPT.min(context - 1), 1)?)),
        false => None,
    };
    let prompt_tokens = plan.prompt.clamp(1, context);
    // From one token on, so that an answer may be as long as the context.
    let answer_tokens = if writes { plan.answer.clamp(1, context - 1) } else { 0 };
    // The first time weights come from the disk, memory is given and clocks go up: not measured.
    bench.read(prompt_tokens)?;
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetitions.max(1) {
        prompts.push(per_second(prompt_tokens, bench.read(prompt_tokens)?));
        tell();
        if writes {
            answers.push(per_second(answer_tokens, bench.answer(1, answer_tokens)?));
        }
        tell();
    }
    let speed = Speed {
        threads: threads.get(),
        load_ms,
        first_token_ms,
        prompt_tokens,
        prompt: Rates::of(prompts).context("nothing was measured")?,
        answer_tokens,
        answer: Rates::of(answers),
    };
    Ok((subject(&model, isa), speed))
}

fn subject(model: &Model, isa: Isa) -> Subject {
    let mut kernels: Vec<(String, usize)> = Vec::new();
    let (mut bytes_a_token, mut operations_a_token) = (0, 0);
    let weights = model.network.weights();
    for linear in weights.linears() {
        bytes_a_token += linear.weight.bytes().len() as u64;
        operations_a_token += operations(&linear.weight);
        let name = linear.weight.kernel_name(isa);
        match kernels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => kernels.push((name, 1)),
        }
    }
    operations_a_token -= weights.output.as_ref().map_or(0, |output| operations(&output.weight));
    kernels.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    Subject { facts: model.facts.clone(), kernels, bytes_a_token, operations_a_token }
}

/// A multiplication and an addition for each weight.
fn operations(weight: &Matrix) -> u64 {
    2 * (weight.rows() * weight.cols()) as u64
}

fn ms(ns: MonoNs) -> f64 {
    ns as f64 / 1e6
}

fn per_second(count: usize, ns: MonoNs) -> f64 {
    count as f64 / (ns.max(1) as f64 / 1e9)
}

struct Bench<'a> {
    model: &'a Model,
    pages: kernels::page::PageShape,
    clock: &'a System,
    scratch: Scratch,
}

impl Bench<'_> {
    /// Nanoseconds to read a prompt, up to the logits of its last token; of an encoder, up to its vector.
    fn read(&mut self, tokens: usize) -> anyhow::Result<MonoNs> {
        let network = &self.model.network;
        let prompt = self.prompt(tokens);
        let begun = self.clock.mono_ns();
        if !network.writes() {
            embed(network, &mut self.scratch, &[prompt], Pooling::Mean)?;
            return Ok(self.clock.mono_ns() - begun);
        }
        let mut cache = network.sequence(self.pages, tokens);
        let pieces = prompt.chunks(STEP_TOKENS);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.enumerate() {
            let wanted = if at == last { Wanted::Last } else { Wanted::Nothing };
            network.step(
                &mut self.scratch,
                &mut [Part { tokens: piece, cache: &mut cache, adapter: None, wanted }],
            )?;
        }
        Ok(self.clock.mono_ns() - begun)
    }

    /// Nanoseconds to write an answer token by token. The prompt counts only where the answer is its first token alone.
    fn answer(&mut self, prompt: usize, answer: usize) -> anyhow::Result<MonoNs> {
        let network = &self.model.network;
        let mut sampler = Sampler::new(Settings { temperature: 0.0, ..Settings::default() }, &[]);
        let mut cache = network.sequence(self.pages, prompt + answer);
        let mut tokens = self.prompt(prompt);
        let begun = self.clock.mono_ns();
        for _ in 0..answer {
            let part = Part { tokens: &tokens, cache: &mut cache, adapter: None, wanted: Wanted::Last };
            let mut logits = network.step(&mut self.scratch, &mut [part])?;
            tokens = vec![sampler.choose(&mut logits, |_| {}, 0)?.token];
        }
        Ok(self.clock.mono_ns() - begun)
    }

    /// Tokens all over the vocabulary, after the one that begins a text.
    fn prompt(&self, tokens: usize) -> Vec<u32> {
        let vocabulary = self.model.network.shape().vocabulary as u64;
        let any = (1u64..).map(|at| u32::try_from(at * 7_919 % vocabulary).unwrap_or(0));
        let begin = self.model.tokenizer.bos().filter(|_| self.model.tokenizer.adds_bos());
        begin.into_iter().chain(any).take(tokens).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_in_the_middle() {
        let rates = Rates::of(vec![30.0, 10.0, 20.0]).unwrap();
        assert_eq!((rates.least, rates.median, rates.most), (10.0, 20.0, 30.0));
        assert_eq!(rates.spread(), 0.5);
        assert_eq!(Rates::of(vec![1.0, 2.0]).unwrap().median, 1.5);
        assert!(Rates::of(Vec::new()).is_none());
    }
}
