//! The one writer: takes batches and check-ins from a bounded queue, several into one transaction, and answers each
//! only when that transaction is on disk.
//!
//! Check-ins go first, so that a flood of records never makes nodes look silent. A group that fails is tried again one
//! by one, so that what cannot be stored never takes its neighbours with it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wire::batch::{Batch, BatchAnswer};
use wire::checkin::{CheckIn, CheckInAnswer};
use wire::id::NodeId;
use wire::world::{Clock, WallMs};

use crate::checkin::advice::{self, Load, Turns};
use crate::checkin::wait::{HOLD_MS, Waits};
use crate::live::{Event, Live};
use crate::metrics::Metrics;
use crate::replica::{Lease, Replica};
use crate::rollout::carry::LostSwap;
use crate::rollout::execute::{Granted, NotDone, Wish};
use crate::store::connection::Writer;
use crate::store::database::Way;
use crate::store::nodes;
use crate::write::act::{Act, Deed, Done};
use crate::write::{self, Caller, Limits, Names, NotWritten, Written};

/// How many batches wait at most. Each is below 2 MiB decompressed.
pub const BATCH_QUEUE: usize = 32;

/// How many check-ins wait at most.
const CHECKIN_QUEUE: usize = 1024;

/// How many acts of people wait at most.
const WORK_QUEUE: usize = 64;

/// How many records go into one transaction, so that it takes about 10 ms: check-ins wait for it.
const GROUP_RECORDS: usize = 1024;

/// How many check-ins go into one transaction.
const GROUP_CHECKINS: usize = 256;

/// How long after the transaction before the next one begins: what comes meanwhile goes with it, so that a disk is asked for at most
/// a hundred commits a second. Nobody waits where little comes.
const PACE_NS: u64 = 10_000_000;

/// How often the watch looks for silent nodes.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// How often rollouts are looked at when nothing happens.
const TICK_EVERY: Duration = Duration::from_secs(5);

/// How soon nodes that wait for news are looked at, once there may be some; and how many are called at once.
const CALL_EVERY: Duration = Duration::from_millis(200);
const CALLED_MAX: usize = 64;

/// When the wall clock has moved this much more than the monotonic one between two looks, it was set: nodes get their
/// patience anew.
const CLOCK_STEP_MS: i64 = 20_000;

enum Job {
    Batch(Batch, oneshot::Sender<Result<BatchAnswer, NotWritten>>),
    CheckIn(Box<CheckIn>, String, oneshot::Sender<Result<CheckInAnswer, NotWritten>>),
    Wish(Box<Wish>, oneshot::Sender<Result<Wished, NotWritten>>),
    Act(Box<Act>, oneshot::Sender<Result<Done, NotWritten>>),
}

/// What became of a wish.
type Wished = Result<Granted, NotDone>;
/// What a person or a node asked for, in a transaction of its own; it answers whoever asked. False if the store did not take it.
type Work = Box<dyn for<'a> FnOnce(&'a mut Writer, &'a mut Names, &'a str) -> BoxFuture<'a, bool> + Send>;

/// How the rest of the hub reaches the writer.
#[derive(Debug, Clone)]
pub struct WriterHandle {
    batches: mpsc::Sender<Job>,
    checkins: mpsc::Sender<Job>,
    works: mpsc::Sender<Work>,
}

impl WriterHandle {
    /// Stores a batch. Returns when it is on disk.
    pub async fn store(&self, batch: Batch) -> Result<BatchAnswer, NotWritten> {
        let (answer, answered) = oneshot::channel();
        self.batches.try_send(Job::Batch(batch, answer)).map_err(|error| refusal(&error))?;
        answered.await.unwrap_or(Err(NotWritten::Stopping))
    }

    /// Takes a check-in, with the text it came as. Returns when it is on disk.
    pub async fn check_in(&self, checkin: CheckIn, text: String) -> Result<CheckInAnswer, NotWritten> {
        let (answer, answered) = oneshot::channel();
        let job = Job::CheckIn(Box::new(checkin), text, answer);
        self.checkins.try_send(job).map_err(|error| refusal(&error))?;
        answered.await.unwrap_or(Err(NotWritten::Stopping))
    }

    /// Does what somebody wishes of a rollout. Returns when it is on disk.
    pub async fn wish(&self, wish: Wish) -> Result<Wished, NotWritten> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Wish(Box::new(wish), answer);
        self.checkins.try_send(job).map_err(|error| refusal(&error))?;
        answered.await.unwrap_or(Err(NotWritten::Stopping))
    }

    /// Does `work` in one transaction. Returns when it is on disk; an error of `work` leaves nothing.
    pub async fn within<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Writer) -> BoxFuture<'a, Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T, NotWritten> {
        let (answer, answered) = oneshot::channel();
        let job: Work = Box::new(move |writer, names, me| {
            Box::pin(async move {
                let done = async {
                    let mut transaction = writer.begin().await?;
                    write::begin(&mut transaction, names, me).await?;
                    let done = work(&mut transaction).await?;
                    transaction.commit().await?;
                    Ok(done)
                };
                let done = done.await.map_err(|error: sqlx::Error| {
                    tracing::error!(%error, "the store does not take an act");
                    NotWritten::Store
                });
                let is_done = done.is_ok();
                // Whoever hung up reads what became of it.
                drop(answer.send(done));
                is_done
            })
        });
        self.works.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotWritten::Busy,
            mpsc::error::TrySendError::Closed(_) => NotWritten::Stopping,
        })?;
        answered.await.unwrap_or(Err(NotWritten::Stopping))
    }

    /// Does what a person asks. Returns when it and its entry in the audit log are on disk.
    pub async fn act(&self, act: Act) -> Result<Done, NotWritten> {
        let (answer, answered) = oneshot::channel();
        self.checkins.try_send(Job::Act(Box::new(act), answer)).map_err(|error| refusal(&error))?;
        answered.await.unwrap_or(Err(NotWritten::Stopping))
    }
}

fn refusal(error: &mpsc::error::TrySendError<Job>) -> NotWritten {
    match error {
        mpsc::error::TrySendError::Full(_) => NotWritten::Busy,
        mpsc::error::TrySendError::Closed(_) => NotWritten::Stopping,
    }
}

/// What the writer works with.
pub struct Desk {
    /// The connection.
    pub writer: Writer,
    /// How to connect again, when it is lost.
    pub way: Way,
    /// Whether it is for this hub to look at what time changes.
    pub replica: Arc<Replica>,
    /// Whom to tell.
    pub live: Arc<Live>,
    /// What to count.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Arc<dyn Clock + Sync>,
    /// How often a node should check in, before any stretch.
    pub check_in_ms: u64,
    /// How much the hub takes.
    pub limits: Limits,
    /// Who waits for news.
    pub waits: Arc<Waits>,
    /// When those with much to tell shall tell it.
    pub turns: Turns,
    /// This process, drawn by chance; becomes the hub's id if it has none.
    pub me: String,
}

impl Desk {
    /// Counts what must never be.
    fn count(&self, error: &sqlx::Error) {
        if LostSwap::is(error) {
            self.metrics.lost_swap();
        }
    }

    /// Connects again if the connection is gone: a server that was started anew, or that ended what took too long.
    async fn mend(&mut self) {
        if self.writer.ping().await.is_ok() {
            return;
        }
        match self.way.connect().await {
            Ok(writer) => self.writer = writer,
            Err(error) => tracing::error!(%error, "the database cannot be reached"),
        }
    }
}

/// Starts the writer. It ends when every handle is gone and what was queued is on disk.
pub fn start(desk: Desk) -> (WriterHandle, JoinHandle<()>) {
    let (batches, batch_queue) = mpsc::channel(BATCH_QUEUE);
    let (checkins, checkin_queue) = mpsc::channel(CHECKIN_QUEUE);
    let (works, work_queue) = mpsc::channel(WORK_QUEUE);
    let task = tokio::spawn(run(desk, batch_queue, checkin_queue, work_queue));
    (WriterHandle { batches, checkins, works }, task)
}

async fn run(
    mut desk: Desk,
    mut batches: mpsc::Receiver<Job>,
    mut checkins: mpsc::Receiver<Job>,
    mut works: mpsc::Receiver<Work>,
) {
    let mut names = Names::default();
    let mut watch = Watch::new(&*desk.clock);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut steps = tokio::time::interval(TICK_EVERY);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut calls = tokio::time::interval(CALL_EVERY);
    calls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut began_ns = 0;
    loop {
        let first = tokio::select! {
            biased;
            Some(work) = works.recv() => {
                if !work(&mut desk.writer, &mut names, &desk.me).await {
                    names.forget();
                    desk.mend().await;
                }
                continue;
            }
            Some(job) = checkins.recv() => job,
            _ = ticks.tick() => {
                watch.look(&mut desk, &mut names).await;
                continue;
            }
            _ = steps.tick() => {
                tick(&mut desk, &mut names).await;
                continue;
            }
            _ = calls.tick() => {
                call(&desk, &mut names);
                continue;
            }
            // Every handle has both queues, so when this one is closed, the other is; and it was empty, or it
            // would have gone first.
            job = batches.recv() => match job {
                Some(job) => job,
                None => break,
            },
        };
        let since_ns = desk.clock.mono_ns().saturating_sub(began_ns);
        if let Some(rest_ns) = PACE_NS.checked_sub(since_ns) {
            tokio::time::sleep(Duration::from_nanos(rest_ns)).await;
        }
        began_ns = desk.clock.mono_ns();
        let queue_percent = (batches.len() * 100 / BATCH_QUEUE) as u64;
        let next_ms = advice::next_ms(desk.check_in_ms, watch.awake, queue_percent);
        let now = Now { next_ms, awake: watch.awake, load: Load { nodes: watch.known, queue_percent } };
        let group = gather(first, &mut batches, &mut checkins);
        process(&mut desk, &mut names, group, now).await;
    }
    if let Err(error) = desk.writer.close().await {
        tracing::warn!(%error, "the store did not close cleanly; nothing that was acknowledged is lost");
    }
}

/// How the hub is as a group is written.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// When nodes shall come again.
    next_ms: u64,
    /// How many are heard.
    awake: u64,
    load: Load,
}

/// Takes what waits, check-ins first, up to the limits of a group.
fn gather(first: Job, batches: &mut mpsc::Receiver<Job>, checkins: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut records = records_in(&first);
    let mut group = vec![first];
    while group.len() < GROUP_CHECKINS
        && let Ok(job) = checkins.try_recv()
    {
        group.push(job);
    }
    while records < GROUP_RECORDS
        && let Ok(job) = batches.try_recv()
    {
        records += records_in(&job);
        group.push(job);
    }
    group
}

fn records_in(job: &Job) -> usize {
    match job {
        Job::Batch(batch, _) => batch.records.len(),
        Job::CheckIn(..) | Job::Act(..) | Job::Wish(..) => 0,
    }
}

enum Answer {
    Batch(Result<BatchAnswer, NotWritten>),
    CheckIn(Box<Result<CheckInAnswer, NotWritten>>),
    Wish(Wished),
    Act(Done),
}

/// Writes a group in one transaction, then answers; on failure one by one.
async fn process(desk: &mut Desk, names: &mut Names, group: Vec<Job>, now: Now) {
    let error = match attempt(desk, names, &group, now).await {
        Ok(answers) => {
            group.into_iter().zip(answers).for_each(|(job, answer)| reply(job, Some(answer)));
            return;
        }
        Err(error) => error,
    };
    if group.len() > 1 {
        tracing::warn!(%error, jobs = group.len(), "a group was not stored, trying one by one");
        for job in group {
            Box::pin(process(desk, names, vec![job], now)).await;
        }
    } else {
        tracing::error!(%error, "the store does not take a batch or check-in");
        group.into_iter().for_each(|job| reply(job, None));
    }
}

/// `None` if the store refused. A node that hung up in the meantime sends again and learns that it is stored.
fn reply(job: Job, answer: Option<Answer>) {
    match (job, answer) {
        (Job::Batch(_, to), Some(Answer::Batch(answer))) => drop(to.send(answer)),
        (Job::CheckIn(_, _, to), Some(Answer::CheckIn(answer))) => drop(to.send(*answer)),
        (Job::Wish(_, to), Some(Answer::Wish(answer))) => drop(to.send(Ok(answer))),
        (Job::Act(_, to), Some(Answer::Act(done))) => drop(to.send(Ok(done))),
        (Job::Act(_, to), _) => drop(to.send(Err(NotWritten::Store))),
        (Job::Batch(_, to), _) => drop(to.send(Err(NotWritten::Store))),
        (Job::CheckIn(_, _, to), _) => drop(to.send(Err(NotWritten::Store))),
        (Job::Wish(_, to), _) => drop(to.send(Err(NotWritten::Store))),
    }
}

async fn attempt(
    desk: &mut Desk,
    names: &mut Names,
    group: &[Job],
    now: Now,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut written = Written { followed: desk.live.is_followed(), ..Written::default() };
    let result = transact(desk, names, group, now, &mut written).await;
    if let Err(error) = &result {
        desk.count(error);
        // What the transaction had added is gone again.
        names.forget();
        desk.mend().await;
        return result;
    }
    desk.metrics.committed();
    desk.metrics.ingested(written.records, written.lost, desk.clock.mono_ns() / 1_000_000_000);
    for answer in result.iter().flatten() {
        match answer {
            Answer::Batch(Ok(answer)) => desk.metrics.batch(answer.outcome),
            Answer::CheckIn(answer) if answer.is_ok() => desk.metrics.checked_in(),
            Answer::Batch(Err(_)) => desk.metrics.batch_refused(),
            Answer::CheckIn(_) | Answer::Act(_) | Answer::Wish(_) => {}
        }
    }
    for job in group {
        // Labels travel with answers to check-ins.
        if let Job::Act(act, _) = job
            && let Deed::Label { name, .. } = &act.what
            && let Ok(name) = NodeId::new(name)
        {
            desk.waits.ring(&name);
        }
    }
    written.events.into_iter().for_each(|event| desk.live.tell(event));
    result
}

async fn transact(
    desk: &mut Desk,
    names: &mut Names,
    group: &[Job],
    now: Now,
    written: &mut Written,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut transaction = desk.writer.begin().await?;
    let last_record = write::begin(&mut transaction, names, &desk.me).await?;
    // Read under the turn: what another hub did while this one waited for it was before.
    let now_ms = desk.clock.wall_ms();
    let mut answers = Vec::with_capacity(group.len());
    let (next_ms, mono_ms) = (now.next_ms, desk.clock.mono_ns() / 1_000_000);
    for job in group {
        answers.push(match job {
            Job::Batch(batch, _) => {
                let writer = &mut *transaction;
                Answer::Batch(
                    write::batch(writer, names, &desk.limits, batch, next_ms, now_ms, written).await?,
                )
            }
            Job::CheckIn(checkin, text, _) => {
                let writer = &mut *transaction;
                let mut answer =
                    write::checkin(writer, names, &desk.limits, checkin, text, next_ms, now_ms, written)
                        .await?;
                if let Ok(answer) = &mut answer {
                    advise(&desk.waits, &mut desk.turns, checkin, written.caller, now, mono_ms, answer);
                }
                Answer::CheckIn(Box::new(answer))
            }
            Job::Wish(wish, _) => Answer::Wish(names.rollouts.grant(&mut transaction, wish, now_ms).await?),
            Job::Act(act, _) => Answer::Act(write::act::act(&mut transaction, act, now_ms).await?),
        });
    }
    write::end(&mut transaction, names, last_record, now_ms, written).await?;
    transaction.commit().await?;
    Ok(answers)
}

/// Adds to an answer when its node shall come again, what shall wait until then, and whether it may wait for news.
fn advise(
    waits: &Waits,
    turns: &mut Turns,
    checkin: &CheckIn,
    caller: Caller,
    now: Now,
    mono_ms: u64,
    answer: &mut CheckInAnswer,
) {
    answer.next_ms = advice::next_for(now.next_ms, caller.awaited);
    let owed = advice::owed(checkin, &answer.watermarks);
    answer.quiet = turns.quiet(&checkin.node, owed, now.load, mono_ms);
    let revision = answer.desired.as_ref().map_or(0, |desired| desired.revision);
    let may_wait = caller.awaited || waits.has_room_for_all(now.awake);
    if may_wait && waits.permit(&checkin.node, caller.node, revision, answer.next_ms, mono_ms) {
        answer.poll_ms = HOLD_MS;
    } else {
        waits.withdraw(&checkin.node);
    }
}

/// Calls nodes that wait, if there is something for them now.
fn call(desk: &Desk, names: &mut Names) {
    if desk.waits.is_empty() || !names.rollouts.take_news() {
        return;
    }
    let now_ms = desk.clock.wall_ms();
    let mut called = 0;
    for (node, no) in desk.waits.listening() {
        if !names.rollouts.calls(no, now_ms) {
            continue;
        }
        desk.waits.ring(&node);
        called += 1;
        if called == CALLED_MAX {
            // The others a moment later.
            names.rollouts.expect_news();
            return;
        }
    }
}

/// Looks at the rollouts under way, if no other hub does.
async fn tick(desk: &mut Desk, names: &mut Names) {
    if !desk.replica.holds(Lease::Tick) {
        return;
    }
    let mut written = Written::default();
    let now_ms = desk.clock.wall_ms();
    match write::tick(&mut desk.writer, names, &desk.me, now_ms, &mut written).await {
        Ok(()) => written.events.into_iter().for_each(|event| desk.live.tell(event)),
        Err(error) => {
            desk.count(&error);
            names.forget();
            desk.mend().await;
            tracing::error!(%error, "the rollouts under way could not be looked at");
        }
    }
}

/// The watch over silence: since when it has been looking, and what it saw last.
struct Watch {
    since_ms: WallMs,
    wall_ms: WallMs,
    mono_ms: i64,
    awake: u64,
    known: u64,
}

impl Watch {
    fn new(clock: &dyn Clock) -> Watch {
        let (wall_ms, mono_ms) = (clock.wall_ms(), (clock.mono_ns() / 1_000_000) as i64);
        Watch { since_ms: wall_ms, wall_ms, mono_ms, awake: 0, known: 0 }
    }

    async fn look(&mut self, desk: &mut Desk, names: &mut Names) {
        let (wall_ms, mono_ms) = (desk.clock.wall_ms(), (desk.clock.mono_ns() / 1_000_000) as i64);
        if (wall_ms - self.wall_ms) - (mono_ms - self.mono_ms) > CLOCK_STEP_MS {
            tracing::warn!("this machine's clock was set forward; nodes are given time to be heard again");
            self.since_ms = wall_ms;
        }
        (self.wall_ms, self.mono_ms) = (wall_ms, mono_ms);
        let mut written = Written { followed: desk.live.is_followed(), ..Written::default() };
        let looked = match desk.replica.holds(Lease::Tick) {
            true => {
                write::watch(&mut desk.writer, names, &desk.me, self.since_ms, wall_ms, &mut written).await
            }
            false => nodes::count_awake(&mut desk.writer).await.map(|awake| awake.max(0) as u64),
        };
        match looked {
            Ok(awake) => {
                self.awake = awake;
                self.known = nodes::count(&mut desk.writer).await.map_or(self.known, |count| count as u64);
                written.events.into_iter().for_each(|event: Event| desk.live.tell(event));
            }
            Err(error) => {
                names.forget();
                desk.mend().await;
                tracing::error!(%error, "the watch over silent nodes could not write");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;
    use serde_json::value::RawValue;
    use wire::batch::Outcome;
    use wire::chain::{Link, link};
    use wire::class::Class;
    use wire::hash::Hash;
    use wire::id::{BootId, JournalId, PartName, StreamName};
    use wire::record::Record;
    use wire::world::{ClockQuality, Simulated};

    /// A batch of one record, the first of its stream.
    fn batch(node: &str, body: &str) -> Batch {
        let mut world = Simulated::new(1);
        let (stream, class) = (StreamName::new("metrics").unwrap(), Class::Metric);
        let record = Record {
            seq: 1,
            kind: PartName::new("note").unwrap(),
            boot: BootId::random(&mut world),
            mono_ns: 1,
            wall_ms: 1,
            clock: ClockQuality::Checked,
            body: RawValue::from_string(body.to_owned()).unwrap(),
        };
        let stamp = record.stamp();
        let head = link(Hash::GENESIS, Link { stream: &stream, class, seq: 1, kind: "note", stamp }, body);
        let (node, journal) = (NodeId::new(node).unwrap(), JournalId::random(&mut world));
        Batch { v: 1, node, journal, stream, class, gap: None, records: vec![record], head }
    }

    #[tokio::test]
    async fn what_cannot_be_stored_does_not_take_its_neighbours_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = sqlite::open(folder.path()).await.unwrap();
        let trigger = "CREATE TRIGGER poison BEFORE INSERT ON records WHEN NEW.body = '\"poison\"' \
             BEGIN SELECT RAISE(ABORT, 'no'); END";
        sqlx::query(trigger).execute(&mut store.writer).await.unwrap();
        let metrics = Arc::new(Metrics::default());
        let mut desk = Desk {
            writer: store.writer,
            way: store.way,
            replica: Replica::new("me".to_owned(), String::new(), Arc::new(Simulated::new(1)), false),
            live: Live::new(1),
            metrics: metrics.clone(),
            clock: Arc::new(Simulated::new(1)),
            check_in_ms: 1000,
            limits: Limits { nodes: 10 },
            waits: Arc::new(Waits::new(1)),
            turns: Turns::default(),
            me: "me".to_owned(),
        };
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for (node, body) in [("a", "1"), ("b", "\"poison\""), ("c", "2")] {
            let (to, answer) = oneshot::channel();
            jobs.push(Job::Batch(batch(node, body), to));
            answers.push(answer);
        }
        let now = Now { next_ms: 1000, awake: 3, load: Load { nodes: 3, queue_percent: 0 } };
        process(&mut desk, &mut Names::default(), jobs, now).await;
        let mut found = Vec::new();
        for answer in answers {
            found.push(answer.await.unwrap().map(|answer| (answer.outcome, answer.watermark.seq)));
        }
        assert_eq!(found, [Ok((Outcome::Stored, 1)), Err(NotWritten::Store), Ok((Outcome::Stored, 1))]);
        let rows = sqlx::query("SELECT id FROM records").fetch_all(&store.readers).await.unwrap();
        assert_eq!(rows.len(), 2);
        // Not even the poisoned batch's node was taken in.
        let nodes = sqlx::query("SELECT id FROM nodes").fetch_all(&store.readers).await.unwrap();
        assert_eq!(nodes.len(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let (batches, _queue) = mpsc::channel(1);
        let (checkins, queue) = mpsc::channel(1);
        let (works, _works) = mpsc::channel(1);
        let handle = WriterHandle { batches, checkins, works };
        let waiting = tokio::spawn({
            let handle = handle.clone();
            async move { handle.store(batch("a", "1")).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(handle.store(batch("a", "1")).await, Err(NotWritten::Busy));
        drop(queue);
        let text = r#"{"v":1,"node":"a","journal":"00000000000000000000000000000001",
            "boot":"00000000000000000000000000000002","version":"0","uptime_ms":1,"wall_ms":0,"clock":"off"}"#;
        let checkin = serde_json::from_str(text).unwrap();
        assert_eq!(handle.check_in(checkin, text.to_owned()).await, Err(NotWritten::Stopping));
        waiting.abort();
    }
}
