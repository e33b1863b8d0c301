//! One answer of a model at a time, told as it comes, with what was measured on the way.
//!
//! Stands between a batch of one sequence and whoever shows the text: `run` once, or turn by turn in a chat. Between turns
//! the batch keeps what was read, so a conversation is read once.

use std::sync::Arc;

use kernels::page::PAGE;
use lm::adapter::Adapter;
use lm::answer::Answer;
use lm::batch::request::{Event, Finish, Request};
use lm::batch::{Batch, Limits};
use lm::chat::answer::{Answer as Reader, Delta};
use lm::constraint::Constraint;
use lm::guess::Speculation;
use lm::model::Model;
use lm::sample::{Chosen, Settings};
use serde::Serialize;
use wire::world::{Clock as _, MonoNs, System};

use crate::amount::shortest;
use crate::engine::Engine;

/// Tokens of a prompt that are read between two looks at whether somebody wants it to end.
const STEP_TOKENS: usize = 256;

/// A model that is asked one thing after the other.
pub(crate) struct Speaker {
    model: Arc<Model>,
    batch: Batch,
    adapter: Option<Arc<Adapter>>,
    clock: System,
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: Settings,
    pub(crate) stops: Vec<String>,
    pub(crate) constraint: Option<Constraint>,
    /// Most probable tokens told beside each written one.
    pub(crate) top: usize,
    /// Tells thoughts from the answer; none where text is only text.
    pub(crate) reader: Option<Reader>,
    /// Control tokens that the reader must see.
    pub(crate) shown: Vec<u32>,
}

/// Text as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Thoughts before the answer.
    Thought(&'a str),
    /// The answer.
    Text(&'a str),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// The model had said all.
    Stop,
    /// One of the stop strings came.
    StopString(String),
    /// What it had to follow is complete.
    Complete,
    /// As many tokens as it might have, or as the context holds.
    Length,
    /// Somebody interrupted it.
    Interrupted,
    /// It cannot go on; the text says why.
    Stuck(String),
}

/// A token that was written, and what the model thought of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) logprob: f64,
    pub(crate) margin: f64,
    pub(crate) entropy: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) top: Vec<Likely>,
}

/// A token that might have come.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Likely {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) logprob: f64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) thoughts: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) end: End,
    pub(crate) prompt_tokens: usize,
    /// Tokens of the prompt that were known from before.
    pub(crate) reused_tokens: usize,
    /// Tokens that were guessed ahead, and how many of them were right.
    pub(crate) guessed_tokens: usize,
    pub(crate) accepted_tokens: usize,
    pub(crate) times: Times,
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) asked: MonoNs,
    pub(crate) first: Option<MonoNs>,
    pub(crate) last: MonoNs,
}

impl Said {
    /// Tokens a second of the prompt that were really read; `None`: nothing was measured.
    pub(crate) fn prompt_rate(&self) -> Option<f64> {
        let read = self.prompt_tokens - self.reused_tokens;
        rate(read, self.times.first?.saturating_sub(self.times.asked))
    }

    /// Tokens a second after the first, which is the prompt's work.
    pub(crate) fn answer_rate(&self) -> Option<f64> {
        rate(self.tokens.len().checked_sub(1)?, self.times.last.saturating_sub(self.times.first?))
    }

    /// Nanoseconds from the question to its first token.
    pub(crate) fn first_ns(&self) -> Option<MonoNs> {
        Some(self.times.first?.saturating_sub(self.times.asked))
    }

    /// Mean over all tokens of what `of` says of each.
    pub(crate) fn mean(&self, of: impl Fn(&Token) -> f64) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(of).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }
}

/// How many a second; `None` of nothing.
pub(crate) fn rate(count: usize, ns: MonoNs) -> Option<f64> {
    (count > 0 && ns > 0).then(|| count as f64 / (ns as f64 / 1e9))
}

impl Speaker {
    /// Of a model that is loaded, with what is guessed ahead.
    pub(crate) fn new(engine: &Engine, speculation: Speculation, clock: System) -> Speaker {
        let whole = engine.context.div_ceil(PAGE).saturating_mul(engine.pages.bytes());
        let limits = Limits {
            running: 1,
            waiting: 1,
            step_tokens: STEP_TOKENS,
            context: engine.context,
            cache_bytes: whole,
            // The last turn is kept; its pages are shared with the next.
            prefix_bytes: whole,
        };
        let model = Arc::clone(&engine.model);
        let batch = Batch::new(Arc::clone(&model), engine.pages, limits).speculating(speculation);
        Speaker { model, batch, adapter: engine.adapter.clone(), clock }
    }

    /// Asks, and tells each piece of the answer as it comes. Between the steps of the model `tell` may end it, also with an
    /// empty piece, which says that time passes.
    pub(crate) fn ask(
        &mut self,
        question: Question,
        mut tell: impl FnMut(Piece) -> anyhow::Result<Go>,
    ) -> anyhow::Result<Said> {
        let Question { prompt, max_tokens, sampling, stops, constraint, top, mut reader, shown } = question;
        let model = Arc::clone(&self.model);
        let mut answer = Answer::new(&model.tokenizer, stops).showing(shown);
        let mut said = Said {
            text: String::new(),
            thoughts: String::new(),
            tokens: Vec::new(),
            end: End::Interrupted,
            prompt_tokens: prompt.len(),
            reused_tokens: 0,
            guessed_tokens: 0,
            accepted_tokens: 0,
            times: Times { asked: self.clock.mono_ns(), ..Times::default() },
        };
        let request = Request {
            prompt,
            max_tokens,
            sampling,
            top,
            echo: false,
            constraint,
            ignore_end: false,
            adapter: self.adapter.clone(),
        };
        let id = self.batch.submit(request)?;
        let mut ended = None;
        while ended.is_none() {
            let events = self.batch.step()?;
            said.times.last = self.clock.mono_ns();
            // The token that ends a turn is no part of what was said.
            let written = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
            let ends =
                events.iter().any(|event| matches!(event, Event::Finished { finish: Finish::End(_), .. }));
            let mut to_say = written - usize::from(ends);
            let mut text = String::new();
            for event in events {
                match event {
                    Event::Begun { reused, .. } => said.reused_tokens = reused,
                    Event::Guessed { guessed, accepted, .. } => {
                        said.guessed_tokens += guessed;
                        said.accepted_tokens += accepted;
                    }
                    // What comes with a stop string in one step is not said any more.
                    Event::Token { .. } if answer.stop().is_some() => {}
                    Event::Token { chosen, .. } => {
                        said.times.first.get_or_insert(said.times.last);
                        if to_say > 0 {
                            text += &answer.push(chosen.token);
                            to_say -= 1;
                        }
                        said.tokens.push(token(&model, chosen));
                    }
                    Event::Finished { finish, .. } => {
                        ended = Some(match finish {
                            Finish::End(_) => End::Stop,
                            Finish::Complete => End::Complete,
                            Finish::Length => End::Length,
                            Finish::Stuck(why) => End::Stuck(why),
                        });
                    }
                    Event::Read { .. } => {}
                }
            }
            if let Some(stop) = answer.stop() {
                ended = Some(End::StopString(stop.to_owned()));
            }
            if ended.is_some() {
                text += &answer.finish();
            }
            let go = said.add(&mut reader, &text, ended.is_some(), &mut tell);
            if !matches!(go, Ok(Go::On)) {
                self.batch.cancel(id);
            }
            if go? == Go::Stop && ended.is_none() {
                ended = Some(End::Interrupted);
            }
            if matches!(ended, Some(End::StopString(_))) {
                self.batch.cancel(id);
            }
        }
        said.end = ended.unwrap_or(End::Interrupted);
        Ok(said)
    }

    /// Forgets what was read.
    pub(crate) fn forget(&mut self) {
        self.batch.clear();
    }
}

impl Said {
    /// Takes text that came; what the reader makes of it is kept and told.
    fn add(
        &mut self,
        reader: &mut Option<Reader>,
        text: &str,
        last: bool,
        tell: &mut impl FnMut(Piece) -> anyhow::Result<Go>,
    ) -> anyhow::Result<Go> {
        let deltas = match reader {
            None => vec![Delta::Content(text.to_owned())],
            Some(reader) => {
                let mut deltas = reader.push(text);
                if last {
                    deltas.extend(reader.finish());
                }
                deltas
            }
        };
        // An empty piece says that time passes.
        let mut go = tell(Piece::Text(""))?;
        for delta in &deltas {
            let piece = match delta {
                Delta::Reasoning(text) => {
                    self.thoughts += text;
                    Piece::Thought(text)
                }
                Delta::Content(text) => {
                    self.text += text;
                    Piece::Text(text)
                }
                // Without tools nothing is a call.
                Delta::Call { .. } | Delta::Arguments { .. } => continue,
            };
            if tell(piece)? == Go::Stop {
                go = Go::Stop;
            }
        }
        Ok(go)
    }
}

fn token(model: &Model, chosen: Chosen) -> Token {
    let text = |token| String::from_utf8_lossy(&model.tokenizer.bytes_of(token)).into_owned();
    let top =
        chosen.top.into_iter().map(|(id, logprob)| Likely { id, text: text(id), logprob: shortest(logprob) });
    let signal = chosen.signal;
    Token {
        id: chosen.token,
        text: text(chosen.token),
        logprob: shortest(signal.logprob),
        margin: shortest(signal.margin),
        entropy: shortest(signal.entropy),
        top: top.collect(),
    }
}
