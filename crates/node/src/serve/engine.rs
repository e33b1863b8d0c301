//! The thread that asks one model: takes requests, steps its batch while there is work, tells what was written.
//!
//! Requests come in over a channel and their answers leave over one each, so nothing here knows HTTP. Whoever drops its
//! end of an answer cancels it: before each step the thread looks who still listens. A step that fails, or panics, ends
//! the answers that were under way with a word, never without. If the model is a slot's, each answer that it gave, or owed
//! and could not give, is told to the slots; what its client broke off or got wrong is not.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use kernels::page::CacheFormat;
use lm::answer::Answer;
use lm::batch::Batch;
use lm::batch::request::{self, Event, Id, Refused, Request};
use lm::embed::embed;
use lm::forward::Scratch;
use lm::model::Model;
use lm::sample::{Chosen, Settings};
use lm::shape::Pooling;
use package::golden::{self, Case, Golden};
use tokio::sync::{mpsc, oneshot};
use wire::world::MonoNs;

use super::gauges::Gauges;
use super::slots::Witness;
use crate::api::connections::Now;
use crate::install::prove::language::{answer_case, likeliest_settings, prompt_tokens};
use crate::install::shadow::{ANSWER_MAX, PROMPT_MAX, Sample};
use crate::install::trial;
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
    /// Answer the next case of the golden set.
    Exercise,
    /// Give back what is kept only to be quick.
    Forget,
    /// End, at once.
    Stop,
}

/// Asks `model` until told to stop, or until nobody can ask any more. Gives the batch back; or, if a step panicked, its words.
/// `witness`: of a slot's model, who is told of its answers.
pub(super) fn run(
    model: &Arc<Model>,
    batch: Batch,
    commands: &Receiver<Command>,
    now: &Now,
    gauges: &Gauges,
    witness: Option<&Witness>,
) -> Result<Batch, String> {
    let mut engine = Engine {
        model,
        batch,
        now,
        gauges,
        witness,
        writing: HashMap::new(),
        embedding: VecDeque::new(),
        exercises: VecDeque::new(),
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
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(engine.batch),
                Err(TryRecvError::Empty) => break,
                Ok(command) => engine.take(command),
            }
            command = commands.try_recv();
        }
        engine.forget_abandoned();
        let worked = catch_unwind(AssertUnwindSafe(|| engine.work()));
        if let Err(panic) = worked {
            // What the panic left behind is not to be trusted: whoever asks next has the model loaded anew.
            tracing::error!("a step of the model panicked; it is unloaded");
            engine.break_all("the engine failed on this step");
            return Err(words(&*panic));
        }
        engine.tell_gauges();
    }
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("its thread panicked: {}", text.unwrap_or("it did not say why"))
}

struct Engine<'m> {
    model: &'m Arc<Model>,
    batch: Batch,
    now: &'m Now,
    gauges: &'m Gauges,
    witness: Option<&'m Witness>,
    writing: HashMap<Id, Writing<'m>>,
    embedding: VecDeque<Embedding>,
    /// Golden cases that are not begun.
    exercises: VecDeque<Golden>,
    scratch: Scratch,
}

/// A sequence under way.
struct Writing<'m> {
    asker: Asker,
    answer: Answer<'m>,
    /// Tokens whose text is not certain yet.
    pending: Vec<Chosen>,
    asked_ns: MonoNs,
    times: Times,
    prompt: usize,
    written: usize,
    ahead: Ahead,
    ignore_end: bool,
    /// Whether it must follow a form, which may lead where nothing can follow.
    is_bound: bool,
    /// Prompt and answer so far, if it is one that somebody compares.
    sample: Option<Sample>,
}

/// Who waits for a sequence.
enum Asker {
    /// A client.
    Client {
        /// Where it stands among those asked for with it.
        place: usize,
        pieces: mpsc::UnboundedSender<(usize, Piece)>,
    },
    /// We do, to compare it with this set of one case.
    Golden { set: Golden, tokens: Vec<u32> },
}

/// Sentences under way.
struct Embedding {
    sentences: VecDeque<Vec<u32>>,
    pooling: Pooling,
    done: Vec<Vec<f32>>,
    /// What they took so far.
    took_ns: u64,
    vectors: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
}

impl<'m> Engine<'m> {
    fn idle(&self) -> bool {
        !self.batch.busy() && self.embedding.is_empty() && self.exercises.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Forget => self.batch.forget(),
            Command::Embed { sentences, pooling, vectors } => {
                let sentences = VecDeque::from(sentences);
                let (done, took_ns) = (Vec::new(), 0);
                self.embedding.push_back(Embedding { sentences, pooling, done, took_ns, vectors });
            }
            Command::Exercise => self.exercises.extend(self.witness.and_then(Witness::next_case)),
            Command::Write { wishes, taken, pieces } => {
                let mut ids = Vec::with_capacity(wishes.len());
                let mut refused = None;
                for (place, Wish { request, stops, shown }) in wishes.into_iter().enumerate() {
                    let asker = Asker::Client { place, pieces: pieces.clone() };
                    match self.begin(request, stops, shown, asker) {
                        Ok(id) => ids.push(id),
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

    fn begin(
        &mut self,
        request: Request,
        stops: Vec<String>,
        shown: Vec<u32>,
        asker: Asker,
    ) -> Result<Id, Refused> {
        let (ignore_end, prompt) = (request.ignore_end, request.prompt.len());
        let is_bound = request.constraint.is_some();
        let is_sampled = matches!(asker, Asker::Client { .. })
            && is_plain(&request)
            && self.witness.is_some_and(Witness::wants_sample);
        let sample = is_sampled.then(|| Sample { prompt: request.prompt.clone(), answer: Vec::new() });
        let id = self.batch.submit(request)?;
        let writing = Writing {
            asker,
            answer: Answer::new(&self.model.tokenizer, stops).showing(shown),
            pending: Vec::new(),
            asked_ns: (self.now)(),
            times: Times::default(),
            prompt,
            written: 0,
            ahead: Ahead::default(),
            ignore_end,
            is_bound,
            sample,
        };
        self.writing.insert(id, writing);
        Ok(id)
    }

    fn cancel(&mut self, id: Id) {
        self.batch.cancel(id);
        self.writing.remove(&id);
    }

    /// Cancels what nobody listens to any more.
    fn forget_abandoned(&mut self) {
        self.embedding.retain(|embedding| !embedding.vectors.is_closed());
        let gone = self.writing.iter().filter(|(_, writing)| writing.is_abandoned());
        let gone: Vec<Id> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.cancel(id);
            self.gauges.cancelled();
        }
    }

    fn work(&mut self) {
        self.embed_some();
        if let Some(set) = self.exercises.pop_front() {
            self.exercise(set);
        }
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
                if let Some(sample) = writing.sample.as_mut().filter(|it| it.answer.len() < ANSWER_MAX) {
                    sample.answer.push(chosen.token);
                }
                if let Asker::Golden { tokens, .. } = &mut writing.asker {
                    tokens.push(chosen.token);
                    return;
                }
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
                let is_bound = self.writing.get(&id).is_some_and(|writing| writing.is_bound);
                // Where a form leads nowhere, the model is not to blame.
                if is_bound && matches!(finish, Finish::Broken(_)) {
                    self.end_untold(id, finish);
                } else {
                    self.end(id, finish);
                }
            }
        }
    }

    /// Ends a sequence, and tells the slots of it.
    fn end(&mut self, id: Id, finish: Finish) {
        let ok = !matches!(finish, Finish::Broken(_));
        let Some(Writing { asker, times, written, sample, .. }) = self.end_untold(id, finish) else { return };
        if let Some((witness, sample)) = self.witness.zip(sample).filter(|_| ok && written > 0) {
            witness.sample(sample);
        }
        let ms = token_ms(&times, written);
        match asker {
            Asker::Client { .. } => self.answered(trial::Answer { ms, ok, golden: false }),
            Asker::Golden { set, tokens } => self.judge(&set, golden::Answer::Tokens(tokens), ms, ok),
        }
    }

    fn end_untold(&mut self, id: Id, finish: Finish) -> Option<Writing<'m>> {
        let mut writing = self.writing.remove(&id)?;
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
        Some(writing)
    }

    fn answered(&self, answer: trial::Answer) {
        if let Some(witness) = self.witness {
            witness.answered(answer);
        }
    }

    fn judge(&self, set: &Golden, answer: golden::Answer, ms: u32, ok: bool) {
        let right = set.judge(&[answer]);
        if let Err(wrong) = &right {
            tracing::warn!(%wrong, "a golden answer of the model that serves is wrong");
        }
        self.answered(trial::Answer { ms, ok: ok && right.is_ok(), golden: true });
    }

    /// Lets the model answer a golden case: like a request, if requests have keys and values as exact and a context as long as
    /// golden sets ask for, else alone.
    fn exercise(&mut self, set: Golden) {
        let exact =
            self.model.network.page_shape(CacheFormat::F16).is_ok_and(|f16| f16 == self.batch.pages());
        if let [Case::Text(text)] = &set.cases[..]
            && text.max_tokens > 0
            && exact
        {
            let request = Request {
                prompt: prompt_tokens(self.model, &text.prompt),
                max_tokens: Some(text.max_tokens),
                sampling: likeliest_settings(),
                top: 0,
                echo: false,
                constraint: None,
                ignore_end: false,
                adapter: None,
            };
            let asker = Asker::Golden { set: set.clone(), tokens: Vec::new() };
            match self.begin(request, Vec::new(), Vec::new(), asker) {
                // Somebody asks, after all.
                Ok(_) | Err(Refused::Full { .. }) => return,
                Err(_) => {}
            }
        }
        let now_ns = || (self.now)();
        let mut times_ms = Vec::new();
        for case in &set.cases {
            let answer = answer_case(self.model, case, &now_ns, &mut times_ms);
            let ms = times_ms.iter().sum::<f64>() / times_ms.len().max(1) as f64;
            match answer {
                Ok(answer) => self.judge(&set, answer, ms.ceil() as u32, true),
                Err(reason) => {
                    tracing::warn!(reason, "the model that serves cannot answer a golden case");
                    self.answered(trial::Answer { ms: 0, ok: false, golden: true });
                }
            }
        }
    }

    fn break_all(&mut self, reason: &str) {
        self.batch.clear();
        let ids: Vec<Id> = self.writing.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id, Finish::Broken(reason.to_owned())));
        for embedding in std::mem::take(&mut self.embedding) {
            self.answered(trial::Answer { ms: 0, ok: false, golden: false });
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
        let took_ns = since((self.now)(), before_ns);
        self.gauges.embedded(tokens, took_ns);
        front.took_ns += took_ns;
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
                    let texts = whole.as_ref().map_or(1, |vectors: &Vec<Vec<f32>>| vectors.len());
                    let (ms, ok) = (ms_each(done.took_ns, texts), whole.is_ok());
                    self.answered(trial::Answer { ms, ok, golden: false });
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
        if let Asker::Client { place, pieces } = &self.asker {
            // Whoever went away is found before the next step.
            let _ = pieces.send((*place, piece));
        }
    }

    fn is_abandoned(&self) -> bool {
        matches!(&self.asker, Asker::Client { pieces, .. } if pieces.is_closed())
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

/// Whether every engine answers it alike: by the likeliest tokens, whatever they are, of the model alone.
fn is_plain(request: &Request) -> bool {
    let Settings { temperature, repetition_penalty, presence_penalty, frequency_penalty, bias, .. } =
        &request.sampling;
    let is_greedy = *temperature == 0.0
        && (*repetition_penalty, *presence_penalty, *frequency_penalty) == (1.0, 0.0, 0.0)
        && bias.is_empty();
    let is_free = request.constraint.is_none() && request.adapter.is_none() && !request.ignore_end;
    is_greedy && is_free && request.prompt.len() <= PROMPT_MAX
}

fn since(now_ns: MonoNs, then_ns: MonoNs) -> MonoNs {
    now_ns.saturating_sub(then_ns)
}

/// The time of a token, in milliseconds, as [`trial::Answer::ms`] has it.
fn token_ms(times: &Times, written: usize) -> u32 {
    let (begun_ns, first_ns) = (times.begun_ns.unwrap_or(0), times.first_ns.unwrap_or(0));
    match written {
        0 | 1 => ms_each(since(first_ns, begun_ns), 1),
        _ => ms_each(since(times.last_ns.unwrap_or(0), first_ns), written - 1),
    }
}

/// The mean of so many, in milliseconds, rounded up.
fn ms_each(took_ns: u64, count: usize) -> u32 {
    u32::try_from(took_ns.div_ceil(1_000_000 * count.max(1) as u64)).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_takes_the_mean_of_those_behind_the_first() {
        let check = |ms: [u64; 3], written: usize, expected: u32| {
            let [begun_ns, first_ns, last_ns] = ms.map(|ms| Some(ms * 1_000_000));
            assert_eq!(
                token_ms(&Times { begun_ns, first_ns, last_ns }, written),
                expected,
                "{ms:?} {written}"
            );
        };
        check([5, 105, 135], 4, 10);
        check([5, 105, 136], 4, 11);
        check([5, 105, 105], 2, 0);
        check([5, 105, 105], 1, 100);
        assert_eq!(token_ms(&Times::default(), 0), 0);
        assert_eq!((ms_each(1, 3), ms_each(0, 0), ms_each(u64::MAX, 1)), (1, 0, u32::MAX));
    }
}
