//! One sequence of a batch: what it has read and written, and how its next tokens come about.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Event, Finish, Id, Request};
use crate::adapter::Adapter;
use crate::cache::Cache;
use crate::constraint::{Constraint, ConstraintError, TokenMask};
use crate::forward::{Part, Scratch, Wanted};
use crate::guess::{Guesser, Speculation};
use crate::sample::{Chosen, Sampler};
use crate::signal::Distribution;

/// A sequence that reads or writes.
pub(super) struct Running {
    pub(super) id: Id,
    /// Prompt and answer; while a step is under way the guess too.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    pub(super) cache: Cache,
    sampler: Sampler,
    top: usize,
    echo: bool,
    constraint: Option<Constraint>,
    /// What the constraint allows after each of the next tokens, as far as it was computed while the model was busy.
    masks: VecDeque<Result<TokenMask, ConstraintError>>,
    ignore_end: bool,
    pub(super) adapter: Option<Arc<Adapter>>,
    guesser: Guesser,
    /// Of the step under way: tokens guessed, new tokens taken with them, and how many of their logits are wanted.
    guessed: usize,
    taken: usize,
    pub(super) rows: usize,
    pub(super) finish: Option<Finish>,
}

/// What a constraint has to tell while the model is busy: its place, the guess, and where the masks go.
pub(super) type Asked<'a> =
    (&'a mut Constraint, &'a [u32], &'a mut VecDeque<Result<TokenMask, ConstraintError>>);

impl Running {
    /// What `request` asks for, going on from what `cache` holds of it.
    pub(super) fn new(id: Id, request: Request, cache: Cache) -> Running {
        Running {
            id,
            prompt: request.prompt.len(),
            sampler: Sampler::new(request.sampling, &request.prompt),
            tokens: request.prompt,
            cache,
            top: request.top,
            echo: request.echo,
            constraint: request.constraint,
            masks: VecDeque::new(),
            ignore_end: request.ignore_end,
            adapter: request.adapter,
            guesser: Guesser::new(),
            guessed: 0,
            taken: 0,
            rows: 0,
            finish: None,
        }
    }

    /// Whether all but its last token has been read.
    pub(super) fn writes(&self) -> bool {
        self.tokens.len() - self.cache.len() == 1
    }

    /// Guesses at most `most` next tokens, and puts them behind the others until the step is taken.
    pub(super) fn guess(
        &mut self,
        speculation: &Speculation,
        scratch: &mut Scratch,
        most: usize,
        read_most: usize,
    ) {
        let reach = self.cache.reach();
        // The last token that it may have is never read.
        let most = most.min(reach.saturating_sub(self.tokens.len() + 1));
        if most == 0 {
            return;
        }
        let forced = match &mut self.constraint {
            Some(constraint) if speculation.forced => constraint.probable(),
            _ => Vec::new(),
        };
        let mut guess = match forced.is_empty() {
            true => self.guesser.guess(speculation, scratch, &self.tokens, (most, reach, read_most)),
            false => self.guesser.forced(forced, most),
        };
        if let Some(constraint) = &mut self.constraint {
            guess.truncate(constraint.allowed_prefix(&guess));
        }
        self.guessed = guess.len();
        self.tokens.extend(guess);
    }

    /// What it puts through the model in a step that has room for `left` more tokens of prompts, and what its constraint
    /// has to tell meanwhile.
    pub(super) fn part(&mut self, left: &mut usize) -> (Part<'_>, Option<Asked<'_>>) {
        let new = &self.tokens[self.cache.len()..];
        let writes = new.len() - self.guessed == 1;
        self.taken = if writes { new.len() } else { new.len().min(*left) };
        *left -= if writes { 0 } else { self.taken };
        let whole = self.taken == new.len();
        let wanted = match self.guessed > 0 || self.echo && self.cache.len() < self.prompt {
            true => Wanted::All,
            false if whole => Wanted::Last,
            false => Wanted::Nothing,
        };
        self.rows = match wanted {
            Wanted::All => self.taken,
            Wanted::Last => 1,
            Wanted::Nothing => 0,
        };
        let tokens = &new[..self.taken];
        let guess = &self.tokens[self.tokens.len() - self.guessed..];
        let asked = self.constraint.as_mut().filter(|_| whole).map(|one| (one, guess, &mut self.masks));
        let adapter = self.adapter.as_deref();
        (Part { tokens, cache: &mut self.cache, adapter, wanted }, asked)
    }

    /// Takes the guess off again once the step was taken, or was not.
    pub(super) fn take_guess(&mut self) -> Vec<u32> {
        let known = self.tokens.len() - std::mem::take(&mut self.guessed);
        self.tokens.split_off(known)
    }

    /// Tells what the logits of a step say, a row for each of the last tokens put through the model: of a prompt that wants
    /// to hear it, and of the next tokens, as far as the guess was right.
    pub(super) fn read_out<'a>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'a mut [f32]>,
        guess: &[u32],
        ends: &[u32],
        events: &mut Vec<Event>,
    ) {
        let (first, known, before) = (self.cache.len() - rows.len(), self.tokens.len(), events.len());
        let mut guess_left = guess.iter();
        for (position, row) in (first..).zip(rows) {
            if let Some(next) = self.tokens.get(position + 1) {
                let distribution = Distribution::of(row);
                let signal = distribution.signal(row[*next as usize]);
                let chosen = Chosen { token: *next, signal, top: distribution.top(row, self.top) };
                events.push(Event::Read { id: self.id, chosen });
                continue;
            }
            self.write(row, ends, events);
            if self.finish.is_some() || guess_left.next() != self.tokens.last() {
                break;
            }
        }
        self.masks.clear();
        let written = self.tokens.len() - known;
        if written == 0 {
            return;
        }
        if !guess.is_empty() {
            let accepted = self.tokens[known..].iter().zip(guess).take_while(|(a, b)| a == b).count();
            events.insert(before, Event::Guessed { id: self.id, guessed: guess.len(), accepted });
            self.guesser.learn(guess.len(), accepted);
        }
        // What follows the first token that the guess had otherwise is forgotten.
        let read = self.tokens.len() - 1;
        self.cache.truncate(read);
        self.guesser.written(written, read);
    }

    /// Chooses the next token.
    fn write(&mut self, logits: &mut [f32], ends: &[u32], events: &mut Vec<Event>) {
        match self.choose(logits) {
            Err(stuck) => self.finish = Some(Finish::Stuck(stuck)),
            Ok(chosen) => {
                let token = chosen.token;
                events.push(Event::Token { id: self.id, chosen });
                self.tokens.push(token);
                let complete = self.constraint.as_ref().is_some_and(Constraint::is_done);
                self.finish = if ends.contains(&token) && !self.ignore_end {
                    Some(Finish::End(token))
                } else if complete {
                    Some(Finish::Complete)
                } else if self.tokens.len() >= self.cache.reach() {
                    Some(Finish::Length)
                } else {
                    None
                };
            }
        }
    }

    fn choose(&mut self, logits: &mut [f32]) -> Result<Chosen, String> {
        let chosen = match &mut self.constraint {
            None => self.sampler.choose(logits, |_| {}, self.top),
            Some(constraint) => {
                let mask = self.masks.pop_front().unwrap_or_else(|| constraint.mask());
                let mask = mask.map_err(|error| error.to_string())?;
                self.sampler.choose(logits, |logits| mask.apply(logits), self.top)
            }
        };
        let chosen = chosen.map_err(|error| error.to_string())?;
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(chosen.token).map_err(|error| error.to_string())?;
        }
        Ok(chosen)
    }
}

/// Computes what a constraint allows next, and after each token of a guess.
pub(super) fn look_ahead((constraint, guess, masks): Asked<'_>) {
    masks.push_back(constraint.mask());
    if guess.is_empty() {
        return;
    }
    // A guess may be wrong: it is followed by a copy.
    let mut ahead = constraint.clone();
    for token in guess {
        if ahead.is_done() || ahead.accept(*token).is_err() {
            return;
        }
        masks.push_back(ahead.mask());
    }
}
