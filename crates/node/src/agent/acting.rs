//! The thread of the actuators: who asks, the envelopes, the guard and the journal meet in one queue.
//!
//! `act::envelope` decides, the guard does; what came of it goes to whoever asked and to the journal. Nothing that thinks waits
//! for this thread. It tells the guard that the node is alive for as long as it goes round itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wire::body::Body as _;
use wire::body::act::{Act, Actor, ActorKind, Outcome};
use wire::class::Class;
use wire::id::{NodeId, StreamName};
use wire::world::{Clock, MonoNs};

use super::report::Reports;
use crate::act::door::{self, Answer, Ask, Asker, NAME_MAX_BYTES, View, WHY_MAX_BYTES};
use crate::act::envelope::{Asked, Effect, Envelope, Event, Told};
use crate::act::keeper::{Gone, Keeper};
use crate::act::reins::Pull;
use crate::act::word::{Held, Order, Said};
use crate::flow::actuator::ActuatorConfig;
use crate::policy::Policy;
use crate::source::queue::Messenger;

/// The guard hears at least this often that the node is alive, and more often where leases are short.
const ALIVE_NS: MonoNs = 1_000_000_000;

/// A guard that died is replaced after so long, then after twice as long, and so on up to the second.
const RETRY_NS: MonoNs = 100_000_000;
const RETRY_MOST_NS: MonoNs = 60_000_000_000;

/// How long a guard may take to bring its devices back when the node stops.
const LEAVE: Duration = Duration::from_secs(10);

/// What the thread hears.
enum Word {
    /// A person, or an agent, asks.
    Asked(Ask, SyncSender<Answer>),
    /// A rule asks or has cleared.
    Pull(Pull),
    /// The interlock of an actuator was judged.
    Interlock(usize, Option<bool>),
    /// The guard of this number says something, or is gone.
    Said(u64, Option<Said>),
    Stop,
}

/// Where rules and interlocks are told.
#[derive(Clone)]
pub(super) struct Actors(Sender<Word>);

impl Actors {
    /// A rule asks, or has cleared.
    pub(super) fn pull(&self, pull: Pull) {
        // The thread is gone: so is the node.
        drop(self.0.send(Word::Pull(pull)));
    }

    /// An interlock was judged.
    pub(super) fn interlock(&self, actuator: usize, holds: Option<bool>) {
        drop(self.0.send(Word::Interlock(actuator, holds)));
    }

    /// Asks for a person or an agent, and waits for what comes of it.
    fn ask(&self, ask: Ask) -> Answer {
        let (tell, told) = sync_channel(1);
        drop(self.0.send(Word::Asked(ask, tell)));
        let none =
            |_| Answer::Refused { why: "the node is stopping, or its device takes too long".to_owned() };
        told.recv_timeout(door::PATIENCE).unwrap_or_else(none)
    }
}

/// The running thread.
pub(super) struct Acting {
    actors: Actors,
    thread: JoinHandle<()>,
}

impl Acting {
    pub(super) fn actors(&self) -> Actors {
        self.actors.clone()
    }

    /// Brings every device back, tells the journal, and ends.
    pub(super) fn stop(self) {
        drop(self.actors.0.send(Word::Stop));
        // A panic there has closed the guard's input, by which the devices went back.
        drop(self.thread.join());
    }
}

/// What the thread needs of the rest of the node.
pub(super) struct Around {
    pub(super) data: PathBuf,
    /// Whose actuators they are.
    pub(super) node: NodeId,
    /// What may be said in the log.
    pub(super) policy: Policy,
    pub(super) clock: Box<dyn Clock>,
    pub(super) reports: Reports,
    pub(super) messenger: Messenger,
    /// The program of the guard and its words: our own, and `guard`.
    pub(super) command: Vec<OsString>,
}

/// Starts the thread.
pub(super) fn start(configs: Vec<ActuatorConfig>, around: Around) -> std::io::Result<Acting> {
    let (send, words) = channel();
    let actors = Actors(send.clone());
    let thread = std::thread::Builder::new().name("act".into()).spawn(move || {
        let mut thread = Thread::new(configs, around, send);
        thread.run(&words);
        thread.finish();
    })?;
    Ok(Acting { actors, thread })
}

/// An actuator.
struct One {
    config: ActuatorConfig,
    envelope: Envelope,
}

/// How the guard is.
enum Guard {
    /// Nothing is to be guarded: all are on a dry run.
    None,
    /// It is started, and does not hold the devices yet.
    Begins(Keeper),
    Holds(Keeper),
    /// It is to be started then.
    Gone(MonoNs),
}

struct Thread {
    ones: Vec<One>,
    around: Around,
    words: Sender<Word>,
    guard: Guard,
    /// Counts guards.
    guards: u64,
    pause_ns: MonoNs,
    alive_ns: MonoNs,
    waiting: BTreeMap<u64, SyncSender<Answer>>,
    tickets: u64,
    #[cfg(unix)]
    _door: Option<door::Open>,
}

impl Thread {
    fn new(configs: Vec<ActuatorConfig>, around: Around, words: Sender<Word>) -> Thread {
        let now_ns = around.clock.mono_ns();
        let one =
            |config: ActuatorConfig| One { envelope: Envelope::new(config.limits.clone(), now_ns), config };
        let ones: Vec<One> = configs.into_iter().map(one).collect();
        let is_needed = ones.iter().any(|one| !one.config.dry_run);
        #[cfg(unix)]
        let door = {
            let actors = Actors(words.clone());
            let opened = door::Open::begin(&around.data, move |ask| actors.ask(ask));
            if let Err(error) = &opened {
                tracing::warn!(%error, "`selvedge act` and `selvedge mcp` cannot ask this node for actuators");
            }
            opened.ok()
        };
        Thread {
            ones,
            around,
            words,
            guard: if is_needed { Guard::Gone(0) } else { Guard::None },
            guards: 0,
            pause_ns: RETRY_NS,
            alive_ns: 0,
            waiting: BTreeMap::new(),
            tickets: 0,
            #[cfg(unix)]
            _door: door,
        }
    }

    fn run(&mut self, words: &Receiver<Word>) {
        loop {
            let now_ns = self.around.clock.mono_ns();
            self.tend_guard(now_ns);
            for at in 0..self.ones.len() {
                self.step(at, Event::Tick);
            }
            let now_ns = self.around.clock.mono_ns();
            let wakes = self.ones.iter().map(|one| one.envelope.wakes_ns(now_ns));
            let next_ns = wakes.chain([self.alive_due(), self.guard_due()]).min().unwrap_or(now_ns);
            match words.recv_timeout(Duration::from_nanos(next_ns.saturating_sub(now_ns))) {
                Ok(Word::Stop) => return,
                Ok(word) => self.hear(word),
                // This end holds a sender itself.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Stop => {}
            Word::Asked(ask, tell) => self.asked(ask, tell),
            Word::Interlock(at, holds) => self.step(at, Event::Interlock(holds)),
            Word::Pull(Pull::Ask { actuator, who, to, why }) => {
                let asked = Asked { who, to, for_ms: None, why, ticket: None };
                self.step(actuator, Event::Ask(asked));
            }
            Word::Pull(Pull::Release { actuator, who, why }) => {
                self.step(actuator, Event::Release { who, why });
            }
            Word::Said(number, said) if number == self.guards => self.said(said),
            // Of a guard that was replaced.
            Word::Said(..) => {}
        }
    }

    fn said(&mut self, said: Option<Said>) {
        let now_ns = self.around.clock.mono_ns();
        match said {
            Some(Said::Holds) => {
                if let Guard::Begins(keeper) = std::mem::replace(&mut self.guard, Guard::Gone(now_ns)) {
                    self.guard = Guard::Holds(keeper);
                    self.pause_ns = RETRY_NS;
                    self.messenger("ready", "the guard holds the devices");
                    self.lose("a guard has begun");
                }
            }
            Some(Said::Set { actuator, id, read, failed, took_ms }) => {
                if let Some(at) = self.ones.iter().position(|one| one.config.name == actuator) {
                    let read = failed.map_or(Ok(read), Err);
                    self.step(at, Event::Wrote { id, read, took_ms });
                }
            }
            Some(Said::Lapsed { actuator, why }) => {
                if let Some(at) = self.ones.iter().position(|one| one.config.name == actuator) {
                    self.step(at, Event::Lapsed { why });
                }
            }
            None => self.gone(now_ns, "it ended"),
        }
    }

    /// The guard is gone.
    fn gone(&mut self, now_ns: MonoNs, why: &str) {
        if let Guard::Begins(keeper) | Guard::Holds(keeper) =
            std::mem::replace(&mut self.guard, Guard::Gone(now_ns.saturating_add(self.pause_ns)))
        {
            keeper.kill();
            self.pause_ns = (self.pause_ns * 2).min(RETRY_MOST_NS);
            self.messenger("failed", &format!("the guard is gone: {why}"));
            self.lose(&format!("the guard is gone: {why}"));
        }
    }

    fn lose(&mut self, why: &str) {
        for at in 0..self.ones.len() {
            if !self.ones[at].config.dry_run {
                self.step(at, Event::Lost { why: why.to_owned() });
            }
        }
    }

    fn messenger(&self, state: &str, reason: &str) {
        let (part, state, reason) = ("guard".to_owned(), state.to_owned(), reason.to_owned());
        self.around.messenger.tell(wire::body::PartChange { part, state, reason });
    }

    fn alive_due(&self) -> MonoNs {
        if matches!(self.guard, Guard::Holds(_)) { self.alive_ns } else { MonoNs::MAX }
    }

    fn guard_due(&self) -> MonoNs {
        if let Guard::Gone(at_ns) = self.guard { at_ns } else { MonoNs::MAX }
    }

    /// Starts a guard where one is missing, and tells it that the node is alive.
    fn tend_guard(&mut self, now_ns: MonoNs) {
        match &mut self.guard {
            Guard::Gone(at_ns) if now_ns >= *at_ns => match self.start_guard() {
                Ok(keeper) => self.guard = Guard::Begins(keeper),
                Err(error) => {
                    self.guard = Guard::Gone(now_ns.saturating_add(self.pause_ns));
                    self.pause_ns = (self.pause_ns * 2).min(RETRY_MOST_NS);
                    self.messenger("failed", &format!("the guard cannot be started: {error}"));
                }
            },
            Guard::Holds(keeper) if now_ns >= self.alive_ns => {
                let shortest = self.ones.iter().map(|one| one.config.limits.lease_ms).min().unwrap_or(1_000);
                self.alive_ns = now_ns + ALIVE_NS.min(shortest * 1_000_000 / 4);
                if let Err(error) = keeper.tell(&Order::Alive) {
                    self.gone(now_ns, &error.to_string());
                }
            }
            Guard::None | Guard::Begins(_) | Guard::Holds(_) | Guard::Gone(_) => {}
        }
    }

    fn start_guard(&mut self) -> std::io::Result<Keeper> {
        let held = self.ones.iter().filter(|one| !one.config.dry_run).map(|One { config, .. }| Held {
            name: config.name.clone(),
            driver: config.driver.known_as(|| format!("selvedge-{}-act-{}", self.around.node, config.name)),
            allowed: config.limits.allowed.clone(),
            safe: config.limits.safe.clone(),
            lease_ms: config.limits.lease_ms,
            confirm: config.confirm,
            settle_ms: config.settle_ms,
            tolerance: config.limits.tolerance,
        });
        self.guards += 1;
        let (number, words) = (self.guards, self.words.clone());
        let hear = move |said| drop(words.send(Word::Said(number, said)));
        Keeper::start(&self.around.command, &lock(&self.around.data), held.collect(), hear)
    }

    /// Whether an actuator's device can be written to now.
    fn is_held(&self, at: usize) -> bool {
        self.ones[at].config.dry_run || matches!(self.guard, Guard::Holds(_))
    }

    /// Gives an envelope an event, and does what it says.
    fn step(&mut self, at: usize, event: Event) {
        if !self.is_held(at) && !matches!(event, Event::Lost { .. } | Event::Interlock(_)) {
            if let Event::Ask(asked) = &event
                && let Some(tell) = asked.ticket.and_then(|ticket| self.waiting.remove(&ticket))
            {
                let why = "its guard is being started: ask again in a moment".to_owned();
                drop(tell.send(Answer::Refused { why }));
            }
            return;
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now_ns = self.around.clock.mono_ns();
            for effect in self.ones[at].envelope.step(event, now_ns) {
                match effect {
                    Effect::Tell(told) => self.told(at, told, now_ns),
                    Effect::Write { id, .. } if self.ones[at].config.dry_run => {
                        events.push(Event::Wrote { id, read: Ok(None), took_ms: 0 });
                    }
                    Effect::Write { id, to } => {
                        let actuator = self.ones[at].config.name.clone();
                        let sent = match &mut self.guard {
                            Guard::Holds(keeper) => keeper.tell(&Order::Set { actuator, id, to }),
                            Guard::None | Guard::Begins(_) | Guard::Gone(_) => {
                                Err(std::io::Error::other("its guard is being started"))
                            }
                        };
                        if let Err(error) = sent {
                            events.push(Event::Wrote { id, read: Err(error.to_string()), took_ms: 0 });
                        }
                    }
                    Effect::Replace => self.gone(now_ns, "it does not answer"),
                }
            }
        }
    }

    /// Tells whoever waits, and the journal.
    fn told(&mut self, at: usize, told: Told, now_ns: MonoNs) {
        let config = &self.ones[at].config;
        let Told { who, asked, mut outcome, why, receipt, until_ns, ticket, remember, untold } = told;
        let receipt = receipt.filter(|_| !config.dry_run);
        if config.dry_run && outcome == Outcome::Done {
            outcome = Outcome::Dry;
        }
        let for_ms = until_ns.map(|until_ns| until_ns.saturating_sub(now_ns) / 1_000_000);
        if let Some(tell) = ticket.and_then(|ticket| self.waiting.remove(&ticket)) {
            // Whoever asked may be gone.
            drop(tell.try_send(Answer::Told { outcome, why: why.clone(), receipt: receipt.clone(), for_ms }));
        }
        if !remember {
            return;
        }
        let wall_ms = self.around.clock.wall_ms();
        let until_ms = for_ms.map(|for_ms| wall_ms.saturating_add_unsigned(for_ms));
        // People, what they wrote, and what they asked for and did not get are words that may be hidden.
        let policy = &self.around.policy;
        let (name, asked_for) = (who.to_string(), asked.to_string());
        let is_ours = matches!(who.kind, ActorKind::Rule | ActorKind::Node);
        let name =
            if is_ours { name.as_str() } else { policy.text(None, &name).unwrap_or(who.kind.as_str()) };
        let asked_for = match outcome {
            Outcome::Refused => policy.text(None, &asked_for).unwrap_or_default(),
            _ => asked_for.as_str(),
        };
        let told = policy.text(None, &why).unwrap_or_default();
        let actuator = config.name.clone();
        tracing::info!(%actuator, who = name, asked = asked_for, outcome = outcome.as_str(), why = told, "an actuator was asked");
        self.file(&Act { actuator, who, asked, outcome, why, receipt, until_ms, untold });
    }

    fn file(&self, act: &Act) {
        let stream = StreamName::new("acts").expect("our own streams have good names");
        self.around.reports.file(act.draft(&stream, Class::Audit), || ());
    }

    fn asked(&mut self, ask: Ask, tell: SyncSender<Answer>) {
        let (actuator, who, asker) = match &ask {
            Ask::List => return drop(tell.send(Answer::List { actuators: self.views() })),
            Ask::Set { actuator, who, asker, .. } | Ask::Release { actuator, who, asker } => {
                (actuator.clone(), who.clone(), *asker)
            }
        };
        let refuse = |tell: SyncSender<Answer>, why: String| drop(tell.send(Answer::Refused { why }));
        let Some(at) = self.ones.iter().position(|one| one.config.name == actuator) else {
            let names: Vec<&str> = self.ones.iter().map(|one| one.config.name.as_str()).collect();
            return refuse(tell, format!("there is no actuator {actuator}: there are {}", names.join(", ")));
        };
        let is_text = |text: &str, most: usize| {
            !text.trim().is_empty() && text.len() <= most && !text.contains(char::is_control)
        };
        if !is_text(&who, NAME_MAX_BYTES) {
            return refuse(tell, format!("say who you are, in at most {NAME_MAX_BYTES} bytes"));
        }
        let kind = match asker {
            Asker::Person => ActorKind::Person,
            Asker::Agent => ActorKind::Agent,
        };
        let who = Actor { kind, name: who };
        match ask {
            Ask::List => {}
            Ask::Set { to, for_ms, why, .. } => {
                if !is_text(&why, WHY_MAX_BYTES) {
                    return refuse(tell, format!("say why, in at most {WHY_MAX_BYTES} bytes"));
                }
                self.tickets += 1;
                let ticket = Some(self.tickets);
                self.waiting.insert(self.tickets, tell);
                self.step(at, Event::Ask(Asked { who, to, for_ms, why, ticket }));
            }
            Ask::Release { .. } => {
                if !self.ones[at].envelope.is_held_by(&who) {
                    return refuse(tell, format!("no word of {who} stands for {actuator}"));
                }
                let why = "taken back".to_owned();
                self.step(at, Event::Release { who, why: why.clone() });
                let (outcome, receipt, for_ms) = (Outcome::Over, None, None);
                drop(tell.send(Answer::Told { outcome, why, receipt, for_ms }));
            }
        }
    }

    fn views(&self) -> Vec<View> {
        let now_ns = self.around.clock.mono_ns();
        let view = |(at, One { config, envelope }): (usize, &One)| {
            let stand = envelope.stand(now_ns);
            let (holder, until_ns) = stand.holder.unzip();
            let trouble =
                if self.is_held(at) { stand.trouble } else { Some("its guard is not there".to_owned()) };
            View {
                actuator: config.name.clone(),
                kind: config.driver.kind().to_owned(),
                unit: config.unit.clone(),
                allowed: config.limits.allowed.clone(),
                rate: config.limits.rate.to_string(),
                slew_per_s: config.limits.slew_per_s,
                lease_ms: config.limits.lease_ms,
                longest_ms: config.limits.longest_ms,
                interlock: config.interlock.as_ref().map(|interlock| interlock.when.text().to_owned()),
                agents: config.limits.agents,
                dry_run: config.dry_run,
                at: stand.at,
                toward: stand.toward,
                safe: config.limits.safe.clone(),
                holder: holder.map(|who| who.to_string()),
                for_ms: until_ns.flatten().map(|until_ns| until_ns.saturating_sub(now_ns) / 1_000_000),
                may_act: stand.may_act,
                trouble,
            }
        };
        self.ones.iter().enumerate().map(view).collect()
    }

    /// The node stops: every device goes back.
    fn finish(self) {
        let Thread { ones, around, guard, .. } = self;
        let gone = match guard {
            Guard::Begins(keeper) | Guard::Holds(keeper) => keeper.end(LEAVE),
            Guard::None | Guard::Gone(_) => return,
        };
        let (outcome, why) = match gone {
            Gone::Safe => (Outcome::Done, "the node stops"),
            Gone::Left => (Outcome::Failed, "the node stops, and the guard could not bring it back"),
            Gone::Tries => (Outcome::Failed, "the node stops, and the guard still tries to bring it back"),
        };
        let now_ns = around.clock.mono_ns();
        let stream = StreamName::new("acts").expect("our own streams have good names");
        for One { config, envelope } in ones.into_iter().filter(|one| !one.config.dry_run) {
            // What was safe before is not worth a record.
            if gone == Gone::Safe && envelope.stand(now_ns).at.as_ref() == Some(&config.limits.safe) {
                continue;
            }
            let act = Act {
                actuator: config.name,
                who: Actor { kind: ActorKind::Node, name: String::new() },
                asked: config.limits.safe,
                outcome,
                why: why.to_owned(),
                receipt: None,
                until_ms: None,
                untold: 0,
            };
            around.reports.file(act.draft(&stream, Class::Audit), || ());
        }
    }
}

/// The file that one guard at a time holds.
fn lock(data: &Path) -> PathBuf {
    data.join("guard.lock")
}
