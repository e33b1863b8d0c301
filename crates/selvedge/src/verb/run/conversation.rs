//! What was said so far as a prompt: by the model's own chat template, or plain.

use lm::chat::answer::Answer as Reader;
use lm::chat::message::Message;
use lm::chat::template::{ChatError, Options, Template};
use lm::constraint::Reasoning;
use lm::speech;
use lm::tokenizer::special::Special;
use serde_json::{Map, Value};
use wire::world::{Clock as _, System};

use crate::engine::Engine;

/// How a model is talked to.
pub(crate) enum Manner {
    /// In turns, as its template has them.
    Chat(Box<Template>),
    /// It continues what is written.
    Plain,
}

/// A prompt, and how the answer to it is to be read.
pub(crate) struct Prepared {
    pub(crate) tokens: Vec<u32>,
    pub(crate) reader: Option<Reader>,
    /// Control tokens that the reader must see.
    pub(crate) shown: Vec<u32>,
    /// The thoughts that may come before an answer in a given form.
    pub(crate) reasoning: Option<Reasoning>,
}

impl Manner {
    /// What the model's file says, unless it shall be plain.
    pub(crate) fn of(engine: &Engine, raw: bool) -> anyhow::Result<Manner> {
        if raw {
            return Ok(Manner::Plain);
        }
        match speech::template(engine.file.metadata(), &engine.model.tokenizer) {
            Ok(template) => Ok(Manner::Chat(Box::new(template))),
            Err(ChatError::NoTemplate) => Ok(Manner::Plain),
            Err(error) => Err(anyhow::Error::from(error)
                .context("the model's chat template cannot be used; --raw asks the model without it")),
        }
    }
}

/// A text that the model continues.
pub(crate) fn plain(engine: &Engine, text: &str) -> Prepared {
    let tokens =
        engine.begin().into_iter().chain(engine.model.tokenizer.encode(text, Special::Parse)).collect();
    Prepared { tokens, reader: None, shown: Vec::new(), reasoning: None }
}

/// The turns so far, as the template has them. `thinking`: what the template is told of it, if anything.
pub(crate) fn turns(
    engine: &Engine,
    template: &Template,
    messages: &[Message],
    thinking: Option<bool>,
) -> anyhow::Result<Prepared> {
    let tokenizer = &engine.model.tokenizer;
    let thinking = thinking.map(|thinking| ("enable_thinking".to_owned(), Value::Bool(thinking)));
    let options = Options {
        add_generation_prompt: true,
        now: System::new().wall_ms().div_euclid(1_000),
        variables: Map::from_iter(thinking),
    };
    let prompt = speech::prompt(template, tokenizer, messages, &[], &options).map_err(|error| {
        anyhow::Error::from(error)
            .context("the model's chat template refuses the conversation; --raw asks the model without it")
    })?;
    let dialect = template.dialect(false);
    let marks = dialect.thoughts.iter().flat_map(|thoughts| [thoughts.open, thoughts.close]);
    let shown = marks.filter_map(|mark| tokenizer.id_of(mark)).filter(|token| tokenizer.is_special(*token));
    let reasoning = dialect.thoughts.map(|thoughts| Reasoning {
        open: (!prompt.thinking).then(|| thoughts.open.to_owned()),
        close: thoughts.close.to_owned(),
    });
    let shown = shown.collect();
    let reader = dialect.thoughts.map(|_| Reader::new(dialect, &[], prompt.thinking));
    Ok(Prepared { tokens: prompt.tokens, reader, shown, reasoning })
}
