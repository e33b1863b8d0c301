//! The thread that asks one model: takes requests, steps its batch while there is work, tells what was written.
//!
//! Requests come in over a channel and their answers leave over one each, so nothing here knows HTTP. Whoever drops its
//! end of an answer cancels it: before each step the thread looks who still listens. A step that fails, or panics, ends
//! the answers that were under way with a word, never without.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use lm::answer::Answer;
use lm::batch::Batch;
use lm::batch::request::{self, Event, Id, Refused, Request};
use lm::embed::embed;
use lm::forward::Scratch;
use lm::model::Model;
use lm::sample::Chosen;
use lm::shape::Pooling;
use tokio::sync::{mpsc, oneshot};
use wire::world::MonoNs;

use super::gauges::Gauges;
use crate::api::connections::Now;
use crate::why::why;

/// Tokens of sentences that go through an encoder between two looks at who else waits.
const EMBED_TOKENS: usize = 2_048;

/// A sequence to be written, and how its text is read.
pub(super) struct Wish {
    pub(super) request: Request,
    pub(super) stops: Vec<String>,
    /// Control tokens that are text all the same.
    pub(super) shown: Vec<u32>,
}

/// What becomes of one sequence, in this order: begun, read if it was asked for, text as it is written, ended.
#[derive(Debug)]
pub(super) enum Piece {
    /// Its prompt is being read; so many tokens of it were known already.
    Begun { reused: usize },
    /// A token of the prompt and what the model thought of it.
    Read(Chosen),
    /// Text that is certain, and the tokens that wrote it.
    Text { text: String, tokens: Vec<Chosen> },
    /// It ended.
    Ended(Ended),
}

/// How a sequence ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) finish: Finish,
    pub(super) times: Times,
    /// Tokens written, the one that ended the turn included.
    pub(super) written: usize,
    pub(super) ahead: Ahead,
}

/// Tokens that were guessed ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) guessed: usize,
    /// How many of them were right, and so written.
    pub(super) accepted: usize,
}

/// Why a sequence ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model ended its turn, or wrote a string that ends it, or completed what it had to follow.
    Stop,
    /// As many tokens as it might have.
    Length,
    /// It could not go on.
    Broken(String),
}

/// When things happened to a sequence, in nanoseconds since it was asked for. What did not happen is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) begun_ns: Option<MonoNs>,
    pub(super) first_ns: Option<MonoNs>,
    pub(super) last_ns: Option<MonoNs>,
}

/// What the thread is told.
pub(super) enum Command {
    /// Write these sequences, all or none.
    Write {
        wishes: Vec<Wish>,
        taken: oneshot::Sender<Result<(), Refused>>,
        /// Pieces with the place of their sequence in `wishes`.
        pieces: mpsc::UnboundedSender<(usize, Piece)>,
    },
    /// Make vectors of these sentences.
    Embed {
        sentences: Vec<Vec<u32>>,
        pooling: Pooling,
        vectors: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
    },
    /// End, at once.
    Stop,
}

/// Asks `model` until told to stop, or until nobody can ask any more. Gives the batch back, unless a step panicked.
pub(super) fn run(
    model: &Arc<Model>,
    batch: Batch,
    commands: &Receiver<Command>,
    now: &Now,
    gauges: &Gauges,
) -> Option<Batch> {
    let mut engine = Engine {
        model,
        batch,
        now,
        gauges,
        writing: HashMap::new(),
        embedding: VecDeque::new(),
        scratch: Scratch::default(),
    };
    loop {
        let mut command = if engine.idle() {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        loop {
            match command {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Some(engine.batch),
                Err(TryRecvError::Empty) => break,
                Ok(command) => engine.take(command),
            }
            command = commands.try_recv();
        }
        engine.forget_abandoned();
        let worked = catch_unwind(AssertUnwindSafe(|| engine.work()));
        if worked.is_err() {
            // What the panic left behind is not to be trusted: whoever asks next has the model loaded anew.
            tracing::error!("a step of the model panicked; it is unloaded");
            engine.break_all("the engine failed on this step");
            return None;
        }
        engine.tell_gauges();
    }
}

struct Engine<'m> {
    model: &'m Arc<Model>,
    batch: Batch,
    now: &'m Now,
    gauges: &'m Gauges,
    writing: HashMap<Id, Writing<'m>>,
    embedding: VecDeque<Embedding>,
    scratch: Scratch,
}

/// A sequence under way.
struct Writing<'m> {
    place: usize,
    answer: Answer<'m>,
    /// Tokens whose text is not certain yet.
    pending: Vec<Chosen>,
    pieces: mpsc::UnboundedSender<(usize, Piece)>,
    asked_ns: MonoNs,
    times: Times,
    prompt: usize,
    written: usize,
    ahead: Ahead,
    ignore_end: bool,
}

/// Sentences under way.
struct Embedding {
    sentences: VecDeque<Vec<u32>>,
    pooling: Pooling,
    done: Vec<Vec<f32>>,
    vectors: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
}

impl Engine<'_> {
    fn idle(&self) -> bool {
        !self.batch.busy() && self.embedding.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Embed { sentences, pooling, vectors } => {
                let sentences = VecDeque::from(sentences);
                self.embedding.push_back(Embedding { sentences, pooling, done: Vec::new(), vectors });
            }
            Command::Write { wishes, taken, pieces } => {
                let asked_ns = (self.now)();
                let mut ids = Vec::with_capacity(wishes.len());
                let mut refused = None;
                for (place, Wish { request, stops, shown }) in wishes.into_iter().enumerate() {
                    let (ignore_end, prompt) = (request.ignore_end, request.prompt.len());
                    match self.batch.submit(request) {
                        Ok(id) => {
                            let answer = Answer::new(&self.model.tokenizer, stops).showing(shown);
                            let (pieces, times) = (pieces.clone(), Times::default());
                            let pending = Vec::new();
                            let writing = Writing {
                                place,
                                answer,
                                pending,
                                pieces,
                                asked_ns,
                                times,
                                prompt,
                                written: 0,
                                ahead: Ahead::default(),
                                ignore_end,
                            };
                            self.writing.insert(id, writing);
                            ids.push(id);
                        }
                        Err(error) => {
                            refused = Some(error);
                            break;
                        }
                    }
                }
                let told = match refused {
                    None => taken.send(Ok(())),
                    Some(error) => {
                        ids.iter().for_each(|id| self.cancel(*id));
                        taken.send(Err(error))
                    }
                };
                if told.is_err() {
                    ids.iter().for_each(|id| self.cancel(*id));
                }
            }
        }
    }

    fn cancel(&mut self, id: Id) {
        self.batch.cancel(id);
        self.writing.remove(&id);
    }

    /// Cancels what nobody listens to any more.
    fn forget_abandoned(&mut self) {
        self.embedding.retain(|embedding| !embedding.vectors.is_closed());
        let gone = self.writing.iter().filter(|(_, writing)| writing.pieces.is_closed());
        let gone: Vec<Id> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.cancel(id);
            self.gauges.cancelled();
        }
    }

    fn work(&mut self) {
        self.embed_some();
        if !self.batch.busy() {
            return;
        }
        let before_ns = (self.now)();
        match self.batch.step() {
            Ok(events) => {
                let now_ns = (self.now)();
                let written = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
                self.gauges.stepped(written, now_ns.saturating_sub(before_ns));
                events.into_iter().for_each(|event| self.hear(event, before_ns, now_ns));
            }
            Err(error) => {
                // Nothing has changed in the batch, so the same step would fail again.
                tracing::error!(error = why(&error), "a step of the model failed");
                self.break_all(&why(&error));
            }
        }
    }

    /// Hands on what happened to a sequence.
    fn hear(&mut self, event: Event, before_ns: MonoNs, now_ns: MonoNs) {
        match event {
            Event::Begun { id, reused } => {
                let Some(writing) = self.writing.get_mut(&id) else { return };
                // It began with the step, and is heard of after it.
                let after_ns = since(before_ns, writing.asked_ns);
                writing.times.begun_ns = Some(after_ns);
                self.gauges.began(after_ns, writing.prompt, reused);
                writing.tell(Piece::Begun { reused });
            }
            Event::Read { id, chosen } => {
                let Some(writing) = self.writing.get(&id) else { return };
                writing.tell(Piece::Read(chosen));
            }
            Event::Guessed { id, guessed, accepted } => {
                let Some(writing) = self.writing.get_mut(&id) else { return };
                writing.ahead.guessed += guessed;
                writing.ahead.accepted += accepted;
                self.gauges.guessed(guessed, accepted);
            }
            Event::Token { id, chosen } => {
                let Some(writing) = self.writing.get_mut(&id) else { return };
                let after_ns = since(now_ns, writing.asked_ns);
                if writing.times.first_ns.is_none() {
                    self.gauges.first_token(after_ns);
                }
                writing.times.first_ns.get_or_insert(after_ns);
                writing.times.last_ns = Some(after_ns);
                writing.written += 1;
                let ends = self.model.tokenizer.ends().contains(&chosen.token) && !writing.ignore_end;
                if !ends && writing.push(chosen) {
                    self.batch.cancel(id);
                    self.end(id, Finish::Stop);
                }
            }
            Event::Finished { id, finish } => {
                let finish = match finish {
                    request::Finish::End(_) | request::Finish::Complete => Finish::Stop,
                    request::Finish::Length => Finish::Length,
                    request::Finish::Stuck(reason) => Finish::Broken(reason),
                };
                self.end(id, finish);
            }
        }
    }

    fn end(&mut self, id: Id, finish: Finish) {
        let Some(mut writing) = self.writing.remove(&id) else { return };
        let rest = writing.answer.finish();
        // The rest may hold a string that ends the answer, which then ended before its bound.
        let finish = if writing.answer.stop().is_some() { Finish::Stop } else { finish };
        let tokens = std::mem::take(&mut writing.pending);
        if !rest.is_empty() || !tokens.is_empty() {
            writing.tell(Piece::Text { text: rest, tokens });
        }
        self.gauges.ended();
        let Writing { times, written, ahead, .. } = writing;
        writing.tell(Piece::Ended(Ended { finish, times, written, ahead }));
    }

    fn break_all(&mut self, reason: &str) {
        self.batch.clear();
        let ids: Vec<Id> = self.writing.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id, Finish::Broken(reason.to_owned())));
        for embedding in self.embedding.drain(..) {
            let _ = embedding.vectors.send(Err(reason.to_owned()));
        }
    }

    /// Puts some of the sentences that wait through the model: at least one, and a few more if they are short.
    fn embed_some(&mut self) {
        let Some(front) = self.embedding.front_mut() else { return };
        let mut part: Vec<Vec<u32>> = Vec::new();
        let mut tokens = 0;
        while let Some(next) = front.sentences.front() {
            if !part.is_empty() && tokens + next.len() > EMBED_TOKENS {
                break;
            }
            tokens += next.len();
            part.extend(front.sentences.pop_front());
        }
        let before_ns = (self.now)();
        let vectors = embed(&self.model.network, &mut self.scratch, &part, front.pooling);
        self.gauges.embedded(tokens, (self.now)().saturating_sub(before_ns));
        let whole = match vectors {
            Ok(vectors) => {
                front.done.extend(vectors);
                front.sentences.is_empty().then(|| Ok(std::mem::take(&mut front.done)))
            }
            Err(error) => Some(Err(why(&error))),
        };
        match whole {
            Some(whole) => {
                if let Some(done) = self.embedding.pop_front() {
                    // Who is gone needs no vectors.
                    let _ = done.vectors.send(whole);
                }
            }
            // Long lists take turns.
            None => self.embedding.rotate_left(1),
        }
    }

    fn tell_gauges(&self) {
        let (running, waiting) = self.batch.load();
        let (used, kept) = self.batch.cache_bytes();
        self.gauges.load(running, waiting, used, kept);
    }
}

impl Writing<'_> {
    fn tell(&self, piece: Piece) {
        // Whoever went away is found before the next step.
        let _ = self.pieces.send((self.place, piece));
    }

    /// Adds a token; whether a string ended the answer with it.
    fn push(&mut self, chosen: Chosen) -> bool {
        let text = self.answer.push(chosen.token);
        self.pending.push(chosen);
        let stopped = self.answer.stop().is_some();
        if stopped && text.is_empty() {
            // All that is pending belongs to the string that ended it.
            self.pending.clear();
        }
        if !text.is_empty() {
            let tokens = std::mem::take(&mut self.pending);
            self.tell(Piece::Text { text, tokens });
        }
        stopped
    }
}

fn since(now_ns: MonoNs, then_ns: MonoNs) -> MonoNs {
    now_ns.saturating_sub(then_ns)
}

/// Asks the thread behind `commands`; `None` if it is gone.
pub(super) async fn write(
    commands: &Sender<Command>,
    wishes: Vec<Wish>,
) -> Option<Result<mpsc::UnboundedReceiver<(usize, Piece)>, Refused>> {
    let (taken, was_taken) = oneshot::channel();
    let (pieces, receiver) = mpsc::unbounded_channel();
    commands.send(Command::Write { wishes, taken, pieces }).ok()?;
    let taken = was_taken.await.ok()?;
    Some(taken.map(|()| receiver))
}

/// Asks the thread behind `commands` for vectors; `None` if it is gone.
pub(super) async fn vectors(
    commands: &Sender<Command>,
    sentences: Vec<Vec<u32>>,
    pooling: Pooling,
) -> Option<Result<Vec<Vec<f32>>, String>> {
    let (vectors, receiver) = oneshot::channel();
    commands.send(Command::Embed { sentences, pooling, vectors }).ok()?;
    receiver.await.ok()
}
