//! Carries a transfer out: asks origins, and brings what comes into the store.
//!
//! The store blocks, so each blob that comes in has a blocking thread, its desk, which holds the blob's lock and ends
//! when nobody gives it work any more: whoever drops a transfer at any instant leaves a part that the next one goes on with.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use package::chunks::Chunks;
use package::digest::Digest;
use package::disk::Disk;
use package::store::Store;
use package::store::ingest::{Ingest, IngestError, Want};
use tokio::sync::{mpsc, oneshot};
use wire::world::World;

use crate::pace::Pace;
use crate::transfer::blocking::blocking;
use crate::transfer::origin::{Fault, Origin, Reply, Wanted};
use crate::transfer::plan::{Ask, Rules};
use crate::transfer::{Effect, Event, GaveUp, Order, Stop, Transfer, step};
use crate::why::why;

/// Bytes are handed to the disk in pieces of this size.
const FLUSH_BYTES: usize = 1 << 20;

/// How much of a part is proven between two looks at whether anybody still wants it.
const CHECK_STEP_BYTES: u64 = 64 << 20;

/// An origin that sends less than this within the idle time does not send.
const TRICKLE_MIN_BYTES: u64 = 1 << 10;

/// How to transfer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much failure is borne.
    pub rules: Rules,
    /// What stays free of the disk.
    pub keep_free_bytes: u64,
    /// At most so many bytes a second from afar.
    pub bytes_per_s: Option<u64>,
    /// The longest time in which next to nothing comes.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rules: Rules::default(),
            keep_free_bytes: package::disk::room::KEEP_FREE_BYTES,
            bytes_per_s: None,
            idle: Duration::from_secs(30),
        }
    }
}

/// News of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A blob is begun, or gone on with.
    Opened {
        /// Which.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// How many of them are missing.
        missing_bytes: u64,
    },
    /// So many bytes came from an origin.
    Came {
        /// Of which blob.
        digest: Digest,
        /// As they were read, useful or not.
        bytes: u64,
    },
    /// An attempt failed, or another process is at it; the next one is after this wait.
    Waiting {
        /// How long.
        wait_ms: u64,
        /// Why.
        why: String,
    },
}

/// Brings what is ordered into the store. `origins`: the best liked first.
pub async fn carry<D: Disk + 'static>(
    store: &Arc<Store<D>>,
    origins: &[Box<dyn Origin>],
    order: &Order,
    settings: &Settings,
    world: &mut impl World,
    mut tell: impl FnMut(News),
) -> Result<(), GaveUp> {
    let names = origins.iter().map(|origin| origin.name().to_owned()).collect();
    let (mut transfer, mut effects) = Transfer::begin(order, names, settings.rules.clone());
    let mut pace = Pace::new(settings.bytes_per_s);
    let mut desk: Option<Desk> = None;
    loop {
        let event = match effects.pop() {
            None => unreachable!("a transfer answers each answer"),
            Some(Effect::Done) => return Ok(()),
            Some(Effect::GaveUp(gave_up)) => {
                if let Some(desk) = desk.take() {
                    desk.close().await;
                }
                return Err(gave_up);
            }
            Some(Effect::Open(want)) => {
                let (digest, size) = (want.digest, want.size);
                match Desk::open(store, want, settings.keep_free_bytes).await {
                    Ok((opened, missing)) => {
                        desk = Some(opened);
                        let missing_bytes = missing.iter().map(|range| range.end - range.start).sum();
                        tell(News::Opened { digest, size, missing_bytes });
                        Event::Opened { digest, missing }
                    }
                    Err(IngestError::There { digest }) => Event::Whole(digest),
                    Err(IngestError::Busy { digest }) => Event::Held { digest },
                    Err(error) => stopped(error),
                }
            }
            Some(Effect::Fetch { wanted, ask }) => match &desk {
                None => stopped_by("nothing is open"),
                Some(desk) => {
                    let (origin, digest) = (&*origins[ask.origin.0], wanted.digest);
                    let mut visit =
                        Visit { origin, wanted: &wanted, ask: &ask, desk, settings, pace: &mut pace };
                    let fault = match visit.fetch(&*world, &mut tell).await {
                        Ok(()) => Ok(None),
                        Err(Trouble::There(fault)) => Ok(Some(fault)),
                        Err(Trouble::Here(error)) => Err(error),
                    };
                    match fault {
                        Ok(fault) => Event::Fetched { digest, missing: desk.missing().await, fault },
                        Err(error) => stopped(error),
                    }
                }
            },
            Some(Effect::Finish(digest)) => match desk.take() {
                None => stopped_by("nothing is open"),
                Some(desk) => match desk.finish().await {
                    Ok(digest) => Event::Whole(digest),
                    Err(IngestError::WrongDigest { .. }) => Event::Spoiled(digest),
                    Err(error) => stopped(error),
                },
            },
            Some(Effect::Read { digest, size }) => {
                let store = Arc::clone(store);
                match blocking(move || store.read_small(&digest, size)).await {
                    Ok(Some(bytes)) => Event::Read { digest, bytes },
                    Ok(None) => stopped_by("a blob vanished from the store"),
                    Err(error) => stopped(error.into()),
                }
            }
            Some(Effect::Wait { until, why }) => {
                let wait_ns = until.saturating_sub(world.mono_ns());
                tell(News::Waiting { wait_ms: wait_ns / 1_000_000, why });
                tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
                Event::Tick
            }
        };
        let now = world.mono_ns();
        (transfer, effects) = step(transfer, event, now, world);
    }
}

fn stopped(error: IngestError) -> Event {
    Event::Stopped(match error {
        IngestError::NoRoom(no_room) => Stop::NoRoom(no_room),
        error @ IngestError::Quota { .. } => Stop::Quota(why(&error)),
        error => Stop::Store(why(&error)),
    })
}

fn stopped_by(why: &str) -> Event {
    Event::Stopped(Stop::Store(why.to_owned()))
}

/// What went wrong, by where.
enum Trouble {
    There(Fault),
    Here(IngestError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::There(fault)
    }
}

/// One question to an origin.
struct Visit<'a> {
    origin: &'a dyn Origin,
    wanted: &'a Wanted,
    ask: &'a Ask,
    desk: &'a Desk,
    settings: &'a Settings,
    pace: &'a mut Pace,
}

impl Visit<'_> {
    /// Asks, and brings what comes to the desk. What came before a failure is there.
    async fn fetch(&mut self, world: &impl World, tell: &mut impl FnMut(News)) -> Result<(), Trouble> {
        let ask = self.ask;
        let reply = self.origin.read(self.wanted, (!ask.whole).then(|| ask.range.clone()));
        // Twice: a head that drips is no head.
        let reply = tokio::time::timeout(2 * self.settings.idle, reply).await.map_err(|_| Fault::Slow)??;
        if ask.range.start.saturating_sub(reply.range.start) > ask.skip_bytes {
            return Err(Fault::WholeForRange.into());
        }
        self.receive(reply, world, tell).await
    }

    async fn receive(
        &mut self,
        reply: Reply,
        world: &impl World,
        tell: &mut impl FnMut(News),
    ) -> Result<(), Trouble> {
        let Reply { range, mut body } = reply;
        let idle_ns = u64::try_from(self.settings.idle.as_nanos()).unwrap_or(u64::MAX);
        let (mut at, mut buffer) = (range.start, Vec::with_capacity(FLUSH_BYTES));
        let mut window = (world.mono_ns(), at);
        let end = loop {
            let left = range.end - at - buffer.len() as u64;
            if left == 0 {
                break Ok(());
            }
            let piece = match tokio::time::timeout(self.settings.idle, body.next()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break Err(Fault::Reset { why: format!("{left} bytes are missing") }),
                Ok(Err(fault)) => break Err(fault),
                Err(_) => break Err(Fault::Slow),
            };
            let bytes = piece.len() as u64;
            tell(News::Came { digest: self.wanted.digest, bytes });
            // What comes behind the end is nobody's: a body may have none.
            buffer.extend_from_slice(&piece[..bytes.min(left) as usize]);
            let now = world.mono_ns();
            let came = at + buffer.len() as u64;
            if now.saturating_sub(window.0) >= idle_ns {
                if came - window.1 < TRICKLE_MIN_BYTES && came < range.end {
                    break Err(Fault::Slow);
                }
                window = (now, came);
            }
            if buffer.len() >= FLUSH_BYTES {
                self.flush(&mut at, &mut buffer).await?;
            }
            if !self.origin.is_near() {
                let wait_ns = self.pace.wait_ns(bytes, now);
                if wait_ns > 0 {
                    tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
                    // Whom we make wait is not slow.
                    window = (world.mono_ns(), came);
                }
            }
        };
        self.flush(&mut at, &mut buffer).await?;
        Ok(end?)
    }

    async fn flush(&self, at: &mut u64, buffer: &mut Vec<u8>) -> Result<(), Trouble> {
        if buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(buffer, Vec::with_capacity(FLUSH_BYTES));
        let (from, next) = (*at, *at + bytes.len() as u64);
        let wrong = self.desk.write(from, bytes).await.map_err(Trouble::Here)?;
        *at = next;
        match wrong {
            Some(range) => Err(Fault::WrongBytes { range }.into()),
            None => Ok(()),
        }
    }
}

/// Work on the open blob.
enum Job {
    Write { at: u64, bytes: Vec<u8>, done: oneshot::Sender<Result<Option<usize>, IngestError>> },
    Missing(oneshot::Sender<Vec<Range<u64>>>),
    Finish(oneshot::Sender<Result<Digest, IngestError>>),
    Close(oneshot::Sender<()>),
}

/// A blob on its way in, on a blocking thread of its own.
struct Desk {
    jobs: mpsc::UnboundedSender<Job>,
    chunks: Option<Arc<Chunks>>,
}

impl Desk {
    /// Begins a blob, or goes on with it; gives what is missing.
    async fn open<D: Disk + 'static>(
        store: &Arc<Store<D>>,
        want: Want,
        keep_free_bytes: u64,
    ) -> Result<(Desk, Vec<Range<u64>>), IngestError> {
        let (jobs, work) = mpsc::unbounded_channel();
        let (opened, told) = oneshot::channel();
        let desk = Desk { jobs, chunks: want.chunks.clone() };
        let store = Arc::clone(store);
        drop(tokio::task::spawn_blocking(move || serve(&store, want, keep_free_bytes, opened, work)));
        Ok((desk, answered(told).await?))
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> T {
        let (done, told) = oneshot::channel();
        // If nobody takes it, nobody answers.
        drop(self.jobs.send(job(done)));
        answered(told).await
    }

    /// Takes bytes; gives the first chunk that they made whole and wrong.
    async fn write(&self, at: u64, bytes: Vec<u8>) -> Result<Option<Range<u64>>, IngestError> {
        let wrong = self.ask(|done| Job::Write { at, bytes, done }).await?;
        Ok(wrong.zip(self.chunks.as_ref()).map(|(index, chunks)| chunks.range(index)))
    }

    async fn missing(&self) -> Vec<Range<u64>> {
        self.ask(Job::Missing).await
    }

    async fn finish(self) -> Result<Digest, IngestError> {
        self.ask(Job::Finish).await
    }

    /// Makes durable what came, and lets the blob go.
    async fn close(self) {
        self.ask(Job::Close).await;
    }
}

async fn answered<T>(told: oneshot::Receiver<T>) -> T {
    told.await.expect("a desk answers every question before it ends")
}

/// The desk's thread: everything here blocks.
fn serve<D: Disk>(
    store: &Store<D>,
    want: Want,
    keep_free_bytes: u64,
    opened: oneshot::Sender<Result<Vec<Range<u64>>, IngestError>>,
    mut work: mpsc::UnboundedReceiver<Job>,
) {
    let begin = || {
        let mut ingest = Ingest::begin(store, want, keep_free_bytes)?;
        while !opened.is_closed() && ingest.check(CHECK_STEP_BYTES)?.is_some() {}
        Ok::<_, IngestError>(ingest)
    };
    let mut ingest = match begin() {
        Ok(ingest) => ingest,
        // An answer that nobody waits for any more is lost, here and below.
        Err(error) => return drop(opened.send(Err(error))),
    };
    drop(opened.send(Ok(ingest.missing().to_vec())));
    while let Some(job) = work.blocking_recv() {
        match job {
            Job::Write { at, bytes, done } => {
                let written = ingest.write(at, &bytes);
                drop(done.send(written.map(|progress| progress.wrong_chunks.first().copied())));
            }
            Job::Missing(done) => drop(done.send(ingest.missing().to_vec())),
            Job::Finish(done) => return drop(done.send(ingest.finish())),
            Job::Close(done) => {
                // What cannot be made durable comes again.
                drop(ingest.settle());
                drop(ingest);
                let _ = done.send(());
                return;
            }
        }
    }
    drop(ingest.settle());
}
