//! The golden set of a variant: a model is asked, and what it answers is what it must answer on every device.
//!
//! A prompt is read as it stands, control tokens and all, with the tokens that the model's file puts around its input and no
//! chat template; the answer takes the most probable token, up to the one that ends it, which is part of it. A node asks
//! in the same way. Our engine gives the same bits on every
//! processor and with any number of threads, so a node that gives other tokens does not run this model.

use std::sync::Arc;

use kernels::page::{CacheFormat, PAGE, PageError};
use lm::batch::request::{Event, Refused, Request};
use lm::batch::{Batch, Limits};
use lm::embed::embed;
use lm::forward::{Scratch, StepError};
use lm::model::Model;
use lm::sample::Settings;
use lm::tokenizer::special::Special;
use package::golden::{Budget, Case, Embedding, Golden, Text};

/// Tokens of a prompt that go through the model at once.
const STEP_TOKENS: usize = 256;

/// What a vector's cosine with the expected one must be: other hardware may round otherwise, another model is far off.
const COSINE_MIN: f64 = 0.999;

/// A model that could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing to ask.
    #[error("there is no prompt: a golden set needs one at least")]
    Empty,
    /// A prompt that cannot be answered.
    #[error("the golden prompt {prompt:?} cannot be asked")]
    Refused {
        /// Its beginning.
        prompt: String,
        /// Why.
        source: Refused,
    },
    /// The model failed.
    #[error("the model cannot answer")]
    Step(#[from] StepError),
    /// Its cache.
    #[error("the model's keys and values cannot be kept")]
    Page(#[from] PageError),
}

/// Asks every prompt for an answer of at most `max_tokens`; an encoder for its vectors. `tell` is called after each.
pub fn golden(
    model: &Arc<Model>,
    prompts: &[String],
    max_tokens: usize,
    tell: &mut dyn FnMut(),
) -> Result<Golden, AskError> {
    if prompts.is_empty() {
        return Err(AskError::Empty);
    }
    let cases = prompts.iter().map(|prompt| -> Result<Case, AskError> {
        let case = match model.network.shape().pooling.filter(|_| !model.network.writes()) {
            Some(pooling) => {
                let tokens = model.tokenizer.encode_for_model(prompt, Special::Plain);
                let mut vectors = embed(&model.network, &mut Scratch::default(), &[tokens], pooling)?;
                let vector = vectors.pop().unwrap_or_default();
                Case::Embedding(Embedding { embed: prompt.clone(), vector, cosine_min: COSINE_MIN })
            }
            None => {
                let tokens = answer(model, prompt, max_tokens)?;
                Case::Text(Text { prompt: prompt.clone(), max_tokens, tokens })
            }
        };
        tell();
        Ok(case)
    });
    let cases = cases.collect::<Result<_, _>>()?;
    Ok(Golden { form: 1, kind: "lm".to_owned(), cases, budget: Budget::default() })
}

/// The most probable answer.
fn answer(model: &Arc<Model>, prompt: &str, max_tokens: usize) -> Result<Vec<u32>, AskError> {
    let pages = model.network.page_shape(CacheFormat::F16)?;
    let tokens = model.tokenizer.encode_for_model(prompt, Special::Parse);
    let context = model.network.shape().context;
    let reach = (tokens.len() + max_tokens).min(context);
    let limits = Limits {
        running: 1,
        waiting: 1,
        step_tokens: STEP_TOKENS,
        context,
        cache_bytes: (reach.div_ceil(PAGE) + 1).saturating_mul(pages.bytes()),
        prefix_bytes: 0,
    };
    let mut batch = Batch::new(Arc::clone(model), pages, limits);
    let request = Request {
        prompt: tokens,
        max_tokens: Some(max_tokens),
        sampling: Settings { temperature: 0.0, ..Settings::default() },
        top: 0,
        echo: false,
        constraint: None,
        ignore_end: false,
        adapter: None,
    };
    let beginning = || prompt.chars().take(60).collect();
    batch.submit(request).map_err(|source| AskError::Refused { prompt: beginning(), source })?;
    let mut answer = Vec::new();
    loop {
        for event in batch.step()? {
            match event {
                Event::Token { chosen, .. } => answer.push(chosen.token),
                Event::Finished { .. } => return Ok(answer),
                Event::Begun { .. } | Event::Read { .. } | Event::Guessed { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use kernels::compute::Compute;
    use kernels::cpu::Isa;
    use lm::specimen::Specimen;
    use package::golden::Answer;

    use super::*;

    fn model(isa: Isa, threads: usize) -> Arc<Model> {
        let mut bytes = Vec::new();
        Specimen::SMALL.write(&mut bytes).unwrap();
        let file = lm::gguf::Gguf::parse(bytes.into()).unwrap();
        let compute = Arc::new(Compute::new(isa, NonZeroUsize::new(threads).unwrap()));
        Arc::new(Model::load(&file, compute).unwrap())
    }

    #[test]
    fn every_processor_gives_the_golden_answer() {
        let prompts = ["a".to_owned(), "b c d".to_owned()];
        let mut asked = 0;
        let set = golden(&model(Isa::best(), 2), &prompts, 8, &mut || asked += 1).unwrap();
        assert_eq!((asked, set.cases.len()), (2, 2));
        for isa in Isa::all_here() {
            let again = golden(&model(isa, 1), &prompts, 8, &mut || {}).unwrap();
            let answers = again.cases.iter().map(|case| match case {
                Case::Text(text) => Answer::Tokens(text.tokens.clone()),
                other => panic!("{other:?}"),
            });
            assert_eq!(set.judge(&answers.collect::<Vec<_>>()), Ok(()), "{isa}");
        }
        assert!(matches!(golden(&model(Isa::best(), 1), &[], 8, &mut || {}), Err(AskError::Empty)));
    }
}
