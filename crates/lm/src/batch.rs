//! Several sequences at once through one model, a step at a time: who prefills, who decodes, who waits.
//!
//! Continuous batching (Yu et al. 2022, Orca): every step takes the next token of each sequence that writes, and fills
//! up with a piece of the prompts that are still to be read, so a long prompt does not hold up those who write. The
//! order is first come, first served. A batch has no clock: whoever owns it calls [`step`](Batch::step) as long as it is
//! [`busy`](Batch::busy). What sequences may write next is guessed by [`guess`]; what is said to a batch and heard from it
//! is in `batch/request.rs`.

pub mod request;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread;

use kernels::page::{PAGE, Page, PageShape};

use crate::adapter::Adapter;
use crate::batch::request::{Event, Finish, Id, Refused, Request};
use crate::cache::Cache;
use crate::constraint::{Constraint, ConstraintError, TokenMask};
use crate::forward::{Part, Scratch, StepError, Wanted};
use crate::guess::{self, Guesser, Speculation};
use crate::model::Model;
use crate::prefix::{Prefixes, Saved};
use crate::sample::{Chosen, Sampler};
use crate::signal::Distribution;

/// What a batch may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that read or write at once.
    pub running: usize,
    /// Sequences that wait for their turn.
    pub waiting: usize,
    /// New tokens in one step, prompts and answers together.
    pub step_tokens: usize,
    /// Tokens of a sequence, prompt and answer together.
    pub context: usize,
    /// Bytes of pages for sequences that run.
    pub cache_bytes: usize,
    /// Bytes of pages kept for sequences that begin alike.
    pub prefix_bytes: usize,
}

/// Sequences that go through a model together.
pub struct Batch {
    model: Arc<Model>,
    limits: Limits,
    pages: PageShape,
    scratch: Scratch,
    speculation: Speculation,
    draft_scratch: Scratch,
    prefixes: Prefixes,
    waiting: VecDeque<(Id, Request)>,
    running: Vec<Running>,
    next: u64,
}

/// A sequence that reads or writes.
struct Running {
    id: Id,
    /// Prompt and answer; while a step is under way the guess too.
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    cache: Cache,
    sampler: Sampler,
    top: usize,
    echo: bool,
    constraint: Option<Constraint>,
    /// What the constraint allows after each of the next tokens, as far as it was computed while the model was busy.
    masks: VecDeque<Result<TokenMask, ConstraintError>>,
    ignore_end: bool,
    adapter: Option<Arc<Adapter>>,
    guesser: Guesser,
    /// Of the step under way: tokens guessed, new tokens taken with them, and how many of their logits are wanted.
    guessed: usize,
    taken: usize,
    rows: usize,
    finish: Option<Finish>,
}

/// What a constraint has to tell while the model is busy: its place, the guess, and where the masks go.
type Asked<'a> = (&'a mut Constraint, &'a [u32], &'a mut VecDeque<Result<TokenMask, ConstraintError>>);

impl Batch {
    /// An empty batch over a model whose sequences are kept in `pages`.
    pub fn new(model: Arc<Model>, pages: PageShape, limits: Limits) -> Batch {
        Batch {
            model,
            limits,
            pages,
            scratch: Scratch::default(),
            speculation: Speculation::default(),
            draft_scratch: Scratch::default(),
            prefixes: Prefixes::new(limits.prefix_bytes),
            waiting: VecDeque::new(),
            running: Vec::new(),
            next: 0,
        }
    }

    /// The same, which guesses ahead. What is written stays the same.
    pub fn speculating(self, speculation: Speculation) -> Batch {
        Batch { speculation, ..self }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Whether a step would do anything.
    pub fn busy(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// Sequences that read or write, and that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// Bytes of pages in use, and kept for later. What several sequences share counts once.
    pub fn cache_bytes(&self) -> (usize, usize) {
        (self.pages_used() * self.pages.bytes(), self.prefixes.bytes())
    }

    fn pages_used(&self) -> usize {
        let pages = self.running.iter().flat_map(|one| one.cache.pages());
        pages.map(Arc::as_ptr).collect::<HashSet<_>>().len()
    }

    /// Beginnings of sequences that are kept, to be written down.
    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// How its sequences are kept.
    pub fn pages(&self) -> PageShape {
        self.pages
    }

    /// Takes beginnings back that were written down; gives how many pages there was room for.
    pub fn restore(&mut self, pages: impl IntoIterator<Item = Saved<Page>>) -> usize {
        self.prefixes.restore(&self.model.network, pages)
    }

    /// Takes a request, which begins when there is room.
    pub fn submit(&mut self, request: Request) -> Result<Id, Refused> {
        let network = &self.model.network;
        let vocabulary = network.shape().vocabulary;
        if !network.writes() {
            return Err(Refused::NoOutput);
        }
        if request.prompt.is_empty() {
            return Err(Refused::Empty);
        }
        if let Some(&token) = request.prompt.iter().find(|token| **token as usize >= vocabulary) {
            return Err(Refused::NoSuchToken { token, vocabulary });
        }
        let (prompt, answer) = (request.prompt.len(), request.max_tokens.unwrap_or(1).max(1));
        let context = self.limits.context.min(self.limits.cache_bytes / self.pages.bytes().max(1) * PAGE);
        if prompt.saturating_add(answer) > context {
            return Err(Refused::TooLong { prompt, answer, context });
        }
        // Whoever can begin at the next step does not wait.
        let free = self.limits.running.saturating_sub(self.running.len());
        if self.waiting.len() >= self.limits.waiting + free {
            return Err(Refused::Full { waiting: self.waiting.len() });
        }
        let id = Id(self.next);
        self.next += 1;
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Ends a sequence without a word; what it read is kept for the next. An id that is gone is no error.
    pub fn cancel(&mut self, id: Id) {
        self.waiting.retain(|(other, _)| *other != id);
        if let Some(index) = self.running.iter().position(|one| one.id == id) {
            let one = self.running.remove(index);
            self.prefixes.keep(&self.model.network, &one.tokens, &one.cache, one.adapter.as_ref());
        }
    }

    /// Ends all sequences and gives all pages back.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.running.clear();
        self.prefixes.clear();
    }

    /// Gives back the pages of sequences that ended; those that run keep theirs.
    pub fn forget(&mut self) {
        self.prefixes.clear();
    }

    /// One step through the model: at least one token for each sequence that writes.
    pub fn step(&mut self) -> Result<Vec<Event>, StepError> {
        let mut events = Vec::new();
        self.begin(&mut events);
        if self.running.is_empty() {
            return Ok(events);
        }
        let logits = self.forward();
        let guesses: Vec<_> = self.running.iter_mut().map(Running::take_guess).collect();
        let mut logits = logits?;
        self.read_out(&mut logits, &guesses, &mut events);
        self.scratch.keep(logits);
        let (done, running): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|one| one.finish.is_some());
        self.running = running;
        for Running { id, tokens, cache, adapter, finish, .. } in done {
            self.prefixes.keep(&self.model.network, &tokens, &cache, adapter.as_ref());
            events.extend(finish.map(|finish| Event::Finished { id, finish }));
        }
        Ok(events)
    }

    /// Lets those who waited longest begin, as far as there is room.
    fn begin(&mut self, events: &mut Vec<Event>) {
        while self.running.len() < self.limits.running {
            let Some((_, request)) = self.waiting.front() else { return };
            let room = self.limits.context - request.prompt.len();
            let reach = request.prompt.len() + request.max_tokens.unwrap_or(room).clamp(1, room);
            let bytes = |reach: usize| reach.div_ceil(PAGE).saturating_mul(self.pages.bytes());
            let to_come: usize = self.running.iter().map(|one| one.cache.pages_to_come()).sum();
            let promised = (self.pages_used() + to_come).saturating_mul(self.pages.bytes());
            let left = self.limits.cache_bytes.saturating_sub(promised);
            // An answer without a bound takes what there is rather than waiting for the whole context.
            let least = request.prompt.len()
                + request.max_tokens.map_or(room.min(PAGE), |_| reach - request.prompt.len());
            if !self.running.is_empty() && bytes(least) > left {
                return;
            }
            let reach = reach.min((left / self.pages.bytes().max(1) * PAGE).max(least));
            if !request.echo && self.is_being_read(request, reach) {
                return;
            }
            let Some((id, request)) = self.waiting.pop_front() else { return };
            let network = &self.model.network;
            let adapter = request.adapter.as_ref();
            let (mut cache, mut reused) = (network.sequence(self.pages, reach), 0);
            // Who wants to hear of each token of the prompt must have each read.
            if !request.echo {
                reused = self.prefixes.begin(network, &request.prompt, adapter, &mut cache);
                if let Some((fork, len)) = self.fork(&request, reach).filter(|(_, len)| *len > reused) {
                    (cache, reused) = (fork, len);
                }
            }
            events.push(Event::Begun { id, reused });
            self.running.push(Running::new(id, request, cache));
        }
    }

    /// Running sequences that begin as `request` does, each with how many tokens they share; at least the last token of
    /// the prompt is left, as its logits are wanted.
    fn alike(&self, request: &Request, reach: usize) -> impl Iterator<Item = (&Running, usize)> {
        let usable = move |one: &&Running| {
            let same = one.adapter.as_ref().map(Arc::as_ptr) == request.adapter.as_ref().map(Arc::as_ptr);
            same && self.model.network.same_angles(one.cache.reach(), reach)
        };
        self.running.iter().filter(usable).map(|one| {
            let shared = one.tokens.iter().zip(&request.prompt).take_while(|(a, b)| a == b).count();
            (one, shared.min(request.prompt.len() - 1))
        })
    }

    /// Whether a running sequence is about to read a page or more of what `request` begins with: to wait for it is
    /// quicker than to read it twice.
    fn is_being_read(&self, request: &Request, reach: usize) -> bool {
        self.alike(request, reach).any(|(one, shared)| shared >= one.cache.len() + PAGE)
    }

    /// The longest beginning of `request` that a running sequence has read.
    fn fork(&self, request: &Request, reach: usize) -> Option<(Cache, usize)> {
        let read = self.alike(request, reach).map(|(one, shared)| (one, shared.min(one.cache.len())));
        let (one, len) = read.max_by_key(|(_, len)| *len).filter(|(_, len)| *len > 0)?;
        Some((one.cache.fork(len, reach), len))
    }

    /// Puts the next tokens of all sequences through the model: those who write first, with what may follow; prompts with
    /// what is left. Meanwhile constraints tell what they allow next.
    fn forward(&mut self) -> Result<Vec<f32>, StepError> {
        let most = guess::most_each(self.running.iter().filter(|one| one.writes()).count());
        let mut left = self.limits.step_tokens;
        for one in self.running.iter_mut().filter(|one| one.writes()) {
            one.guess(&self.speculation, &mut self.draft_scratch, most, self.limits.step_tokens);
            left = left.saturating_sub(one.tokens.len() - one.cache.len());
        }
        let (mut parts, asked): (Vec<_>, Vec<_>) =
            self.running.iter_mut().map(|one| one.part(&mut left)).unzip();
        // A sequence whose prompt found no room in this step has no part in it.
        parts.retain(|part| !part.tokens.is_empty());
        let asked: Vec<_> = asked.into_iter().flatten().collect();
        thread::scope(|scope| {
            if !asked.is_empty() {
                // Without a thread each mask is computed when it is needed.
                let _ = thread::Builder::new()
                    .name("masks".to_owned())
                    .spawn_scoped(scope, || asked.into_iter().for_each(look_ahead));
            }
            self.model.network.step(&mut self.scratch, &mut parts)
        })
    }

    /// Tells what the logits of a step say, a sequence after the other.
    fn read_out(&mut self, logits: &mut [f32], guesses: &[Vec<u32>], events: &mut Vec<Event>) {
        let vocabulary = self.model.network.shape().vocabulary;
        let ends = self.model.tokenizer.ends();
        let mut rest = logits;
        for (one, guess) in self.running.iter_mut().zip(guesses) {
            let (rows, others) = rest.split_at_mut(one.rows * vocabulary);
            one.read_out(rows.chunks_exact_mut(vocabulary), guess, ends, events);
            rest = others;
        }
    }
}

impl Running {
    /// What `request` asks for, going on from what `cache` holds of it.
    fn new(id: Id, request: Request, cache: Cache) -> Running {
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
    fn writes(&self) -> bool {
        self.tokens.len() - self.cache.len() == 1
    }

    /// Guesses at most `most` next tokens, and puts them behind the others until the step is taken.
    fn guess(&mut self, speculation: &Speculation, scratch: &mut Scratch, most: usize, read_most: usize) {
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
    fn part(&mut self, left: &mut usize) -> (Part<'_>, Option<Asked<'_>>) {
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
    fn take_guess(&mut self) -> Vec<u32> {
        let known = self.tokens.len() - std::mem::take(&mut self.guessed);
        self.tokens.split_off(known)
    }

    /// Tells what the logits of a step say, a row for each of the last tokens put through the model: of a prompt that wants
    /// to hear it, and of the next tokens, as far as the guess was right.
    fn read_out<'a>(
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
fn look_ahead((constraint, guess, masks): Asked<'_>) {
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
