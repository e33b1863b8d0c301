//! Carries out what `sync` decides: checks in, sends batches, tells the journal what the hub has. The only place in
//! the node that talks to the hub.
//!
//! Async, and at home on a single-threaded runtime: the journal's blocking reads, the encoding and the compression go
//! to tokio's blocking threads, one at a time. Nothing waits for it: if the hub is away for a year, it waits here.

mod ear;
mod hub;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use wire::PROTOCOL;
use wire::batch::{BATCH_MAX_BYTES, Batch};
use wire::checkin::{CheckIn, CheckInAnswer, StreamState};
use wire::id::{JournalId, NodeId, StreamName};
use wire::world::{Clock, MonoNs, World};

use self::ear::Ear;
use self::hub::Hub;
pub use self::hub::UplinkError;
use crate::identity::tls::HubTls;
use crate::journal::DatabaseError;
use crate::journal::fork::ForkReport;
use crate::journal::outbox::{Door, Outbox, Settled};
use crate::journal::position::Position;
use crate::sync::{Effect, Event, Failure, Sync, Trouble};

/// After the journal has grown, this much longer before it is looked at: it grows in bursts.
const BURST: Duration = Duration::from_millis(20);

/// Zstandard's own default; higher levels cost more than they save at a quarter of a megabyte.
const ZSTD_LEVEL: i32 = 3;

/// Where the hub is, and who we are.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address, `http://hub.example:7300`. A path is kept, as a prefix.
    pub hub_url: String,
    /// The token that the hub knows us by.
    pub token: Option<String>,
    /// How the hub's door for nodes is entered, where it is one: an address that begins with `https://`.
    pub tls: Option<HubTls>,
    /// Our name.
    pub node: NodeId,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        let Settings { hub_url, node, .. } = self;
        f.debug_struct("Settings")
            .field("hub_url", hub_url)
            .field("token", &token)
            .field("node", node)
            .finish()
    }
}

/// The agent, as the uplink sees it. Called on the uplink's task: be quick, and do not block.
pub trait Host: Send {
    /// Says how the node is. `streams` are those that may leave it.
    fn check_in(&mut self, journal: JournalId, streams: Vec<StreamState>) -> CheckIn;

    /// Hears what the hub answered, and how long the call took.
    fn answered(&mut self, _answer: &CheckInAnswer, _round_trip_ns: MonoNs) {}

    /// Takes what an answer has for the node, and may hasten its next check-in. What of it blocks is given back, and done on
    /// another thread before the hub is talked to again.
    fn follow(&mut self, _answer: &mut CheckInAnswer) -> Option<Work> {
        None
    }

    /// Hears what an operator should know.
    fn notice(&mut self, _notice: Notice) {}
}

/// Something that may block.
pub type Work = Box<dyn FnOnce() + Send>;

/// What an operator should know. `Display` says it in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The hub had another future of this journal, which now has a new life.
    Forked(ForkReport),
    /// The hub has lost what it once had, and gets it again as far as it is kept.
    Rewound(Vec<StreamName>),
    /// Something does not go up. Told when it begins, not at every attempt.
    Trouble(Trouble),
    /// The hub is back.
    Recovered,
    /// The journal cannot be read, or cannot be told what the hub has.
    Journal(String),
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Notice::Forked(report) => report.fmt(f),
            Notice::Rewound(streams) => {
                write!(f, "the hub was restored from a backup; it gets again:")?;
                streams.iter().try_for_each(|stream| write!(f, " {stream}"))
            }
            Notice::Trouble(trouble) => trouble.fmt(f),
            Notice::Recovered => f.write_str("the hub is back"),
            Notice::Journal(why) => write!(f, "the uplink cannot use the journal: {why}"),
        }
    }
}

/// A node's way to its hub.
#[derive(Debug)]
pub struct Uplink {
    hub: Arc<Hub>,
    ear: Ear,
    node: NodeId,
    /// `None` while a blocking thread has it.
    outbox: Option<Outbox>,
    door: Door,
    bell: Arc<Notify>,
    news: Arc<Notify>,
}

impl Uplink {
    /// Checks the settings; talks to nobody yet. `bell` is the journal's.
    pub fn new(settings: Settings, outbox: Outbox, bell: Arc<Notify>) -> Result<Uplink, UplinkError> {
        let hub = Hub::new(&settings.hub_url, settings.token.as_deref(), settings.tls.as_ref())?;
        let door = outbox.door();
        Ok(Uplink {
            hub: Arc::new(hub),
            ear: Ear::default(),
            node: settings.node,
            outbox: Some(outbox),
            door,
            bell,
            news: Arc::default(),
        })
    }

    /// `news` is rung when a check-in would say what the one before did not, and the hub should not wait for it.
    #[must_use]
    pub fn with_news(self, news: Arc<Notify>) -> Uplink {
        Uplink { news, ..self }
    }

    /// Runs until `shutdown`. What is in flight then is dropped: it will be sent again, and taken once.
    pub async fn run(
        mut self,
        mut world: impl World,
        mut host: impl Host,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut sync = Sync::new();
        let mut down = false;
        let mut event = self.look(&mut host).await;
        loop {
            if matches!(event, Event::CheckedIn(_)) && std::mem::take(&mut down) {
                host.notice(Notice::Recovered);
            }
            let now = world.mono_ns();
            let effect = sync.step(event, now, &mut world);
            if let Some(trouble) = sync.take_trouble() {
                tracing::debug!(%trouble, failures = sync.failures(), "the uplink has trouble");
                let hub = matches!(trouble, Trouble::Hub(_));
                if !hub || !std::mem::replace(&mut down, true) {
                    host.notice(Notice::Trouble(trouble));
                }
            }
            event = tokio::select! {
                biased;
                () = &mut shutdown => return,
                event = self.carry_out(effect, &mut world, &mut host) => event,
            };
        }
    }

    async fn carry_out(&mut self, effect: Effect, world: &mut impl World, host: &mut impl Host) -> Event {
        match effect {
            Effect::Wait { until, growth } => {
                let wait = Duration::from_nanos(until.saturating_sub(world.mono_ns()));
                let found: fn(Vec<Position>) -> Event = tokio::select! {
                    () = sleep(wait, growth.then_some(&*self.bell)) => Event::Looked,
                    () = self.ear.called() => Event::Called,
                    () = self.news.notified() => Event::Changed,
                };
                match self.look(host).await {
                    Event::Looked(positions) => found(positions),
                    failed => failed,
                }
            }
            Effect::CheckIn => self.check_in(world, host).await,
            Effect::Send { stream, max_bytes, max_records } => {
                self.send(stream, max_bytes, max_records, host).await
            }
            Effect::Settle { watermarks, complete } => {
                let work = move |outbox: &mut Outbox| {
                    Ok((outbox.settle(&watermarks, complete)?, outbox.positions()?))
                };
                match self.on_outbox(work).await {
                    Ok((Settled { strangers, rewound }, positions)) => {
                        if !rewound.is_empty() {
                            host.notice(Notice::Rewound(rewound));
                        }
                        Event::Settled { strangers: !strangers.is_empty(), positions }
                    }
                    Err(why) => journal_failed(host, why),
                }
            }
            Effect::Fork => {
                let new = JournalId::random(world);
                let work = move |outbox: &mut Outbox| Ok((outbox.fork(new)?, outbox.positions()?));
                match self.on_outbox(work).await {
                    Ok((report, positions)) => {
                        host.notice(Notice::Forked(report));
                        Event::Forked(positions)
                    }
                    Err(why) => journal_failed(host, why),
                }
            }
        }
    }

    async fn look(&mut self, host: &mut impl Host) -> Event {
        match self.on_outbox(|outbox| outbox.positions()).await {
            Ok(positions) => Event::Looked(positions),
            Err(why) => journal_failed(host, why),
        }
    }

    async fn check_in(&mut self, world: &impl Clock, host: &mut impl Host) -> Event {
        let found = self.on_outbox(|outbox| Ok((outbox.journal()?, outbox.positions()?))).await;
        let (journal, positions) = match found {
            Ok(found) => found,
            Err(why) => return journal_failed(host, why),
        };
        // What was rung for up to here is said by this one.
        std::pin::pin!(self.news.notified()).as_mut().enable();
        let check_in = host.check_in(journal, states(positions));
        let began = world.mono_ns();
        match self.hub.check_in(&check_in).await {
            Ok(mut answer) => {
                host.answered(&answer, world.mono_ns().saturating_sub(began));
                if let Some(work) = host.follow(&mut answer)
                    && let Err(died) = tokio::task::spawn_blocking(work).await
                {
                    tracing::error!(%died, "what the hub has for this node was not taken; it comes again");
                }
                self.ear.listen(&self.hub, &self.node, &answer);
                Event::CheckedIn(Box::new(answer))
            }
            Err(failure) => Event::Failed(failure),
        }
    }

    async fn send(
        &mut self,
        stream: StreamName,
        max_bytes: usize,
        max_records: usize,
        host: &mut impl Host,
    ) -> Event {
        let node = self.node.clone();
        let work = move |outbox: &mut Outbox| {
            let Some(run) = outbox.next_run(&stream, max_bytes, max_records)? else {
                return Ok(Parcel::Nothing(outbox.positions()?));
            };
            let batch = Batch {
                v: PROTOCOL,
                node,
                journal: run.journal,
                stream: run.stream,
                class: run.class,
                gap: run.gap,
                records: run.records,
                head: run.head,
            };
            Ok(Parcel::Packed(pack(&batch)))
        };
        match self.on_outbox(work).await {
            Ok(Parcel::Packed(Ok(bytes))) => match self.hub.send(bytes).await {
                Ok(answer) => Event::Answered(answer),
                Err(failure) => Event::Failed(failure),
            },
            Ok(Parcel::Packed(Err(failure))) => Event::Failed(failure),
            Ok(Parcel::Nothing(positions)) => Event::NothingToSend(positions),
            Err(why) => journal_failed(host, why),
        }
    }

    /// Does blocking work with the outbox, off the async thread.
    async fn on_outbox<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Outbox) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, String> {
        let outbox = self.outbox.take().filter(Outbox::is_present);
        let door = self.door.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Opened again if an earlier task did not bring it back, or the journal had to begin anew.
            let mut outbox = outbox.map_or_else(|| door.open(), Ok)?;
            let done = work(&mut outbox);
            Ok::<_, DatabaseError>((done, outbox))
        });
        match task.await {
            Ok(Ok((done, outbox))) => {
                self.outbox = Some(outbox);
                done.map_err(|error: DatabaseError| in_full(&error))
            }
            Ok(Err(error)) => Err(in_full(&error)),
            Err(died) => Err(died.to_string()),
        }
    }
}

/// Sleeps for so long, or until a little after `bell` has rung.
async fn sleep(wait: Duration, bell: Option<&Notify>) {
    match bell {
        Some(bell) => {
            if tokio::time::timeout(wait, bell.notified()).await.is_ok() {
                tokio::time::sleep(BURST.min(wait)).await;
            }
        }
        None => tokio::time::sleep(wait).await,
    }
}

/// A batch ready to go, or none.
enum Parcel {
    Packed(Result<Vec<u8>, Failure>),
    Nothing(Vec<Position>),
}

fn pack(batch: &Batch) -> Result<Vec<u8>, Failure> {
    // The same as the hub would say, without the journey.
    let too_large = |why: String| Failure::Status { status: 413, retry_after_ns: None, why };
    let json = serde_json::to_vec(batch).map_err(|error| too_large(error.to_string()))?;
    if json.len() > BATCH_MAX_BYTES {
        return Err(too_large(format!("{} bytes, the limit is {BATCH_MAX_BYTES}", json.len())));
    }
    zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|error| too_large(error.to_string()))
}

fn journal_failed(host: &mut impl Host, why: String) -> Event {
    host.notice(Notice::Journal(why));
    Event::JournalFailed
}

fn states(positions: Vec<Position>) -> Vec<StreamState> {
    let leaving = positions.into_iter().filter(|position| position.leaves);
    leaving
        .map(|Position { stream, class, last, durable, head, acked, .. }| StreamState {
            stream,
            class,
            last,
            acked,
            // What the power may still take back would look like a record that was rewritten.
            head: (last > 0 && durable == last).then_some(head),
            extra: serde_json::Map::new(),
        })
        .collect()
}

/// An error and what caused it, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
