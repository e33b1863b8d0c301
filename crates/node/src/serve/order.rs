//! One request that writes text, on its way: the model it leases, the answers it waits for, and what they are so far.
//!
//! Whole answers and streams are made of the same [`Turn`]s: an endpoint either collects an order to its end, or tells
//! each thing it hears. Dropping an order cancels what is not written yet.

use lm::batch::request::Refused;
use lm::chat::answer::{Answer as Reader, Delta, Parsed};
use lm::sample::Chosen;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use wire::world::WallMs;

use super::engine::{self, Ahead, Finish, Piece, Times, Wish};
use super::models::Lease;
use super::problem::Problem;
use super::tally::Tally;

/// What is known of a request before it is asked.
pub(super) struct Ticket {
    /// Random, in hexadecimal; ids of answers and calls are made of it.
    pub(super) nonce: String,
    pub(super) created_ms: WallMs,
    /// Whether the signals of each token are told.
    pub(super) signals: bool,
    /// True once answers under way must end.
    pub(super) cut: watch::Receiver<bool>,
}

/// A request on its way.
pub(super) struct Order {
    pub(super) ticket: Ticket,
    pub(super) lease: Lease,
    /// Tokens of all prompts.
    pub(super) prompt_tokens: usize,
    pub(super) turns: Vec<Turn>,
    pieces: mpsc::UnboundedReceiver<(usize, Piece)>,
}

/// One answer on its way.
pub(super) struct Turn {
    /// Reads calls and thoughts; none where text is only text.
    reader: Option<Reader>,
    pub(super) said: Parsed,
    /// What the model thought of the prompt's tokens, if it was asked.
    pub(super) read: Vec<Chosen>,
    /// The tokens written, if they are wanted.
    pub(super) tokens: Vec<Chosen>,
    keep_tokens: bool,
    pub(super) tally: Tally,
    pub(super) prompt_tokens: usize,
    pub(super) reused: usize,
    pub(super) written: usize,
    pub(super) ahead: Ahead,
    /// Tokens that wrote nothing but thoughts.
    pub(super) thinking_tokens: usize,
    pub(super) times: Times,
    pub(super) finish: Option<Finish>,
}

impl Turn {
    /// Nothing written yet.
    pub(super) fn new(
        reader: Option<Reader>,
        prompt_tokens: usize,
        keep_tokens: bool,
        signals: bool,
    ) -> Turn {
        Turn {
            reader,
            said: Parsed::default(),
            read: Vec::new(),
            tokens: Vec::new(),
            keep_tokens,
            tally: Tally::new(signals),
            prompt_tokens,
            reused: 0,
            written: 0,
            ahead: Ahead::default(),
            thinking_tokens: 0,
            times: Times::default(),
            finish: None,
        }
    }

    fn take(&mut self, piece: Piece) -> (Vec<Delta>, Vec<Chosen>) {
        let mut written = Vec::new();
        let deltas = match piece {
            Piece::Begun { reused } => {
                self.reused = reused;
                Vec::new()
            }
            Piece::Read(chosen) => {
                self.read.push(chosen);
                Vec::new()
            }
            Piece::Text { text, tokens } => {
                let deltas = match &mut self.reader {
                    Some(reader) => reader.push(&text),
                    None if text.is_empty() => Vec::new(),
                    None => vec![Delta::Content(text)],
                };
                let thinks =
                    !deltas.is_empty() && deltas.iter().all(|delta| matches!(delta, Delta::Reasoning(_)));
                self.thinking_tokens += if thinks { tokens.len() } else { 0 };
                tokens.iter().for_each(|chosen| self.tally.add(chosen));
                if self.keep_tokens {
                    self.tokens.extend(tokens.iter().cloned());
                }
                written = tokens;
                deltas
            }
            Piece::Ended(ended) => {
                (self.times, self.written, self.ahead) = (ended.times, ended.written, ended.ahead);
                self.finish = Some(ended.finish);
                self.reader.as_mut().map(Reader::finish).unwrap_or_default()
            }
        };
        deltas.iter().for_each(|delta| self.said.add(delta.clone()));
        (deltas, written)
    }

    /// As OpenAI calls the reason that it ended; `None` while it goes on.
    pub(super) fn finish_reason(&self) -> Option<&'static str> {
        Some(match self.finish.as_ref()? {
            Finish::Length => "length",
            _ if !self.said.calls.is_empty() => "tool_calls",
            _ => "stop",
        })
    }
}

/// Something heard of an order.
pub(super) struct Heard {
    pub(super) choice: usize,
    pub(super) deltas: Vec<Delta>,
    pub(super) tokens: Vec<Chosen>,
    /// The answer is whole.
    pub(super) ended: bool,
}

impl Order {
    /// Asks the leased model. `param`: the field that the prompt stood in.
    pub(super) async fn place(
        ticket: Ticket,
        lease: Lease,
        wishes: Vec<Wish>,
        turns: Vec<Turn>,
        param: &'static str,
    ) -> Result<Order, Problem> {
        let (places, prompts) = (lease.loaded.places, wishes.len());
        if prompts > places {
            let message =
                format!("the request asks for {prompts} answers, and the server takes {places} at once");
            return Err(Problem::invalid("n", message));
        }
        let prompt_tokens = turns.iter().map(|turn| turn.prompt_tokens).sum();
        let taken = engine::write(&lease.commands, wishes).await;
        let pieces = taken.ok_or_else(|| gone(&ticket))?.map_err(|refused| refusal(&refused, param))?;
        Ok(Order { ticket, lease, prompt_tokens, turns, pieces })
    }

    /// Waits for what happens next; `None` when all answers are whole.
    pub(super) async fn next(&mut self) -> Result<Option<Heard>, Problem> {
        if self.turns.iter().all(|turn| turn.finish.is_some()) {
            return Ok(None);
        }
        let mut cut = self.ticket.cut.clone();
        let piece = tokio::select! {
            piece = self.pieces.recv() => piece,
            _ = cut.wait_for(|cut| *cut) => return Err(Problem::shutting_down()),
        };
        let (choice, piece) = piece.ok_or_else(|| gone(&self.ticket))?;
        let turn = &mut self.turns[choice];
        let (deltas, tokens) = turn.take(piece);
        if let Some(Finish::Broken(reason)) = &turn.finish {
            let problem = Problem::internal(format!("the answer could not go on: {reason}"));
            return Err(problem.coded("generation_failed"));
        }
        Ok(Some(Heard { choice, deltas, tokens, ended: turn.finish.is_some() }))
    }

    /// Waits until all answers are whole.
    pub(super) async fn collect(mut self) -> Result<Order, Problem> {
        while self.next().await?.is_some() {}
        Ok(self)
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.lease.loaded.offer.name
    }

    /// Seconds since 1970 at which it was asked.
    pub(super) fn created(&self) -> i64 {
        self.ticket.created_ms.div_euclid(1_000)
    }

    /// The id of a call of an answer.
    pub(super) fn call_id(&self, choice: usize, call: usize) -> String {
        format!("call_{}{choice}x{call}", self.ticket.nonce)
    }

    /// Tokens written in all answers.
    pub(super) fn written(&self) -> usize {
        self.turns.iter().map(|turn| turn.written).sum()
    }

    /// `usage`, as chat and completions tell it. A prompt with several answers is counted once.
    pub(super) fn usage(&self, answers_per_prompt: usize) -> Value {
        let prompt = self.prompt_tokens / answers_per_prompt.max(1);
        let cached: usize =
            self.turns.iter().step_by(answers_per_prompt.max(1)).map(|turn| turn.reused).sum();
        let written = self.written();
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": { "cached_tokens": cached },
        });
        if self.ahead().guessed > 0 {
            usage["completion_tokens_details"] =
                json!({ "accepted_prediction_tokens": self.ahead().accepted });
        }
        usage
    }

    /// Tokens guessed ahead in all answers.
    pub(super) fn ahead(&self) -> Ahead {
        let sum = |of: fn(&Ahead) -> usize| self.turns.iter().map(|turn| of(&turn.ahead)).sum();
        Ahead { guessed: sum(|ahead| ahead.guessed), accepted: sum(|ahead| ahead.accepted) }
    }
}

/// The model's thread is gone, and with it the answer.
fn gone(ticket: &Ticket) -> Problem {
    if *ticket.cut.borrow() {
        return Problem::shutting_down();
    }
    Problem::unavailable("model_unloaded", "the model was unloaded before the answer was whole").again_in(1)
}

fn refusal(refused: &Refused, param: &'static str) -> Problem {
    let message = refused.to_string();
    match refused {
        Refused::TooLong { .. } => Problem::too_long(param, message),
        Refused::Full { .. } => {
            Problem::queue_full(format!("{message}; try again, or start the server with a longer queue"))
        }
        Refused::NoOutput => Problem::invalid("model", message),
        Refused::Empty | Refused::NoSuchToken { .. } => Problem::invalid(param, message),
    }
}
