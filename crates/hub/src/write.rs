//! What a batch, a check-in and a look at the clock do to the store. Runs inside the writer's transaction; what is to
//! be told once it is on disk is collected in [`Written`].

pub mod act;

use std::collections::HashMap;

use sqlx::Error;
use wire::PROTOCOL;
use wire::batch::{Batch, BatchAnswer, Outcome, Watermark};
use wire::body::{Behaviour, Body as _, Decision, Episode, Inference, Install, SourceChange, Start, Summary};
use wire::checkin::{CheckIn, CheckInAnswer};
use wire::class::Class;
use wire::id::{JournalId, NodeId, StreamName};
use wire::record::Record;
use wire::world::{ClockQuality, WallMs};

use crate::fleet;
use crate::ingest::{Verdict, is_settled, judge};
use crate::live::{EVENT_MAX_BYTES, Event};
use crate::rollout::execute::Rollouts;
use crate::store::alerts;
use crate::store::buckets::{self, DayRow};
use crate::store::connection::Writer;
use crate::store::nodes::{self, CheckInRow, StreamRow};
use crate::store::records::{self, NewRecord, reason_word};
use crate::store::series::{self, EpisodeEnd, NewSummary};
use crate::store::turn;
use crate::watch::{self, Finding, plausible};

/// The most journals of a node; each is a life that was lost, or restored from a copy.
const JOURNALS_MAX: u64 = 1024;

/// The most streams of a journal.
const STREAMS_MAX: u64 = 1024;

/// How many streams are remembered between batches, about 300 bytes each; then all are forgotten and read again.
const REMEMBERED_MAX: usize = 100_000;

/// How much the hub takes in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most nodes.
    pub nodes: u64,
}

/// Why the writer did not take something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// The queue is full.
    #[error("the hub is busy")]
    Busy,
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
    /// A limit of the fleet is reached.
    #[error("the hub has its {limit} {what} already")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// A stream came back under another class.
    #[error("stream {stream} has class {held} here and class {sent} in the batch")]
    OtherClass {
        /// The stream.
        stream: StreamName,
        /// What it was.
        held: Class,
        /// What it claims to be.
        sent: Class,
    },
    /// The database refuses. The message is for the log; the node is asked to come again.
    #[error("the store does not take it")]
    Store,
}

/// What the writer remembers of the store, to ask it less. Always as the store is: a failed transaction forgets all.
#[derive(Debug, Default)]
pub struct Names {
    streams: HashMap<(NodeId, JournalId, StreamName), StreamRow>,
    nodes: HashMap<NodeId, i64>,
    last_record: i64,
    /// The day on which the newest record came, once it is known.
    day: Option<i64>,
    /// What goes about, and who has it.
    pub rollouts: Rollouts,
}

impl Names {
    /// Forgets everything.
    pub fn forget(&mut self) {
        *self = Names::default();
    }

    /// Draws numbers for so many records: the first of them.
    fn record_ids(&mut self, count: usize) -> i64 {
        let first = self.last_record + 1;
        self.last_record += count as i64;
        first
    }

    /// The day of records that come now, of which `first` is the number of the first; a new one is noted.
    async fn day(&mut self, writer: &mut Writer, first: i64, now_ms: WallMs) -> Result<i64, Error> {
        let newest = match self.day {
            Some(day) => Some(day),
            None => buckets::newest_day(writer).await?,
        };
        let day = buckets::arrival_day(newest, buckets::day_of(now_ms));
        if newest != Some(day) {
            buckets::begin_day(writer, DayRow { first, day }).await?;
        }
        self.day = Some(day);
        Ok(day)
    }
}

/// Begins what a transaction writes: takes the turn, as the hub process `me`, and forgets what another has changed since.
/// The number of the newest record.
pub async fn begin(writer: &mut Writer, names: &mut Names, me: &str) -> Result<i64, Error> {
    let turn = turn::take(writer, me).await?;
    if turn.is_after_another {
        names.forget();
    }
    names.last_record = turn.last_record;
    names.rollouts.ready(writer, &turn, me).await?;
    Ok(turn.last_record)
}

/// Ends what a transaction writes: the numbers that grew, and what follows for rollouts.
pub async fn end(
    writer: &mut Writer,
    names: &mut Names,
    last_record: i64,
    now_ms: WallMs,
    written: &mut Written,
) -> Result<(), Error> {
    if names.last_record != last_record {
        turn::settle(writer, names.last_record).await?;
    }
    written.events.extend(names.rollouts.settle(writer, now_ms).await?);
    Ok(())
}

/// What a transaction did.
#[derive(Debug, Default)]
pub struct Written {
    /// Whether anybody follows, so that events are worth making.
    pub followed: bool,
    /// What to tell.
    pub events: Vec<Event>,
    /// How many records were stored.
    pub records: u64,
    /// How many were learnt to be lost.
    pub lost: u64,
    /// Who checked in last, for the advice in the answer.
    pub caller: Caller,
}

/// A node that checks in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its number in the store.
    pub node: i64,
    /// Whether a wave that is open waits for it.
    pub awaited: bool,
}

/// Stores what is new of a batch that [`crate::ingest::decode`] gave.
pub async fn batch(
    writer: &mut Writer,
    names: &mut Names,
    limits: &Limits,
    batch: &Batch,
    next_ms: u64,
    now_ms: WallMs,
    written: &mut Written,
) -> Result<Result<BatchAnswer, NotWritten>, Error> {
    let stream = match stream(writer, names, limits, batch, next_ms, now_ms).await? {
        Ok(stream) => stream,
        Err(refused) => return Ok(Err(refused)),
    };
    let held = &stream.watermark;
    let stored = match is_settled(batch, held) {
        // decode() checked the range.
        true => records::hash_at(writer, stream.id, batch.range().map_or(0, |(_, last)| last)).await?,
        false => None,
    };
    let Ok(verdict) = judge(batch, held, stored) else {
        return Ok(Err(NotWritten::Store));
    };
    nodes::seen(writer, stream.node, now_ms).await?;
    alerts::clear(writer, stream.node, &watch::silent_key(), now_ms, None, now_ms).await?;
    let answer =
        |outcome, watermark: &Watermark| Ok(Ok(BatchAnswer { outcome, watermark: watermark.clone() }));
    match verdict {
        Verdict::Known => answer(Outcome::Stored, held),
        Verdict::Ahead => answer(Outcome::Ahead, held),
        Verdict::Forked => {
            let alert = watch::forked(batch, held.seq, now_ms);
            if alerts::raise(writer, stream.node, &alert, now_ms).await? {
                tracing::warn!(node = %batch.node, journal = %batch.journal, stream = %batch.stream, "journal forked");
            }
            answer(Outcome::Forked, held)
        }
        Verdict::Fresh { gap, records: fresh, watermark } => {
            if let Some(gap) = &gap {
                records::insert_gap(writer, stream.node, stream.id, gap, now_ms).await?;
                let alert = watch::lost(batch.stream.as_str(), gap, reason_word(gap.reason), now_ms);
                alerts::raise(writer, stream.node, &alert, now_ms).await?;
                written.lost += gap.count();
            }
            let first = names.record_ids(fresh.len());
            let rows = fresh.iter().zip(first..).map(|(&(record, hash), id)| NewRecord { id, record, hash });
            let rows: Vec<NewRecord<'_>> = rows.collect();
            if !rows.is_empty() {
                let bucket = buckets::bucket(batch.class, names.day(writer, first, now_ms).await?);
                records::insert(writer, stream.node, stream.id, bucket, &rows).await?;
            }
            let mut derived = Derived::default();
            for row in &rows {
                derive(writer, &mut names.rollouts, stream.node, row, &mut derived, now_ms).await?;
                if written.followed {
                    written.events.extend(event(batch, row.record));
                }
            }
            series::add_summaries(writer, &derived.summaries).await?;
            nodes::settle(writer, stream.id, watermark.seq, watermark.hash).await?;
            written.records += rows.len() as u64;
            let key = (batch.node.clone(), batch.journal, batch.stream.clone());
            names.streams.insert(key, StreamRow { watermark: watermark.clone(), ..stream });
            answer(Outcome::Stored, &watermark)
        }
    }
}

/// The stream of a batch; takes in its node, journal and stream if they are new.
async fn stream(
    writer: &mut Writer,
    names: &mut Names,
    limits: &Limits,
    batch: &Batch,
    next_ms: u64,
    now_ms: WallMs,
) -> Result<Result<StreamRow, NotWritten>, Error> {
    let key = (batch.node.clone(), batch.journal, batch.stream.clone());
    let row = match names.streams.get(&key) {
        Some(row) => row.clone(),
        None => {
            let node = match node(writer, names, limits, &batch.node, next_ms, now_ms).await? {
                Ok(node) => node,
                Err(refused) => return Ok(Err(refused)),
            };
            let journal = match nodes::find_journal(writer, node, batch.journal).await? {
                Some(journal) => journal,
                None if nodes::count_journals(writer, node).await? as u64 >= JOURNALS_MAX => {
                    return Ok(Err(NotWritten::Full { what: "journals of this node", limit: JOURNALS_MAX }));
                }
                None => nodes::add_journal(writer, node, batch.journal, now_ms).await?,
            };
            let streams = nodes::streams(writer, journal).await?;
            let count = streams.len() as u64;
            let row = match streams.into_iter().find(|row| row.watermark.stream == batch.stream) {
                Some(row) => row,
                None if count >= STREAMS_MAX => {
                    return Ok(Err(NotWritten::Full { what: "streams of this journal", limit: STREAMS_MAX }));
                }
                None => nodes::add_stream(writer, node, journal, &batch.stream, batch.class).await?,
            };
            if names.streams.len() >= REMEMBERED_MAX {
                names.streams.clear();
            }
            names.streams.insert(key, row.clone());
            row
        }
    };
    if row.class != batch.class {
        let (held, sent) = (row.class, batch.class);
        return Ok(Err(NotWritten::OtherClass { stream: batch.stream.clone(), held, sent }));
    }
    Ok(Ok(row))
}

/// The number of a node; takes it in if it is new.
async fn node(
    writer: &mut Writer,
    names: &mut Names,
    limits: &Limits,
    name: &NodeId,
    next_ms: u64,
    now_ms: WallMs,
) -> Result<Result<i64, NotWritten>, Error> {
    if let Some(id) = names.nodes.get(name) {
        return Ok(Ok(*id));
    }
    let id = match nodes::find(writer, name).await? {
        Some(id) => id,
        None if nodes::count(writer).await? as u64 >= limits.nodes => {
            return Ok(Err(NotWritten::Full { what: "nodes", limit: limits.nodes }));
        }
        None => nodes::add(writer, name, now_ms, next_ms).await?,
    };
    if names.nodes.len() >= REMEMBERED_MAX {
        names.nodes.clear();
    }
    names.nodes.insert(name.clone(), id);
    Ok(Ok(id))
}

/// What follows from the records of a batch and is written together.
#[derive(Debug, Default)]
struct Derived {
    /// The numbers of the sources met so far.
    sources: HashMap<String, i64>,
    summaries: Vec<NewSummary>,
}

/// Writes what follows from a record: where charts find it, and what it raises or clears. A body that does not say
/// what its kind promises is only stored.
async fn derive(
    writer: &mut Writer,
    rollouts: &mut Rollouts,
    node: i64,
    row: &NewRecord<'_>,
    derived: &mut Derived,
    now_ms: WallMs,
) -> Result<(), Error> {
    let body = row.record.body.get();
    match row.record.kind.as_str() {
        Summary::KIND => {
            if let Ok(summary) = serde_json::from_str::<Summary>(body) {
                let source = source(writer, node, summary.source.as_str(), &mut derived.sources).await?;
                derived.summaries.push(NewSummary {
                    source,
                    to_ms: plausible(summary.to_ms),
                    record: row.id,
                });
            }
        }
        Inference::KIND => {
            if let Ok(inference) = serde_json::from_str::<Inference>(body) {
                let source = source(writer, node, inference.source.as_str(), &mut derived.sources).await?;
                let end = EpisodeEnd {
                    source,
                    node,
                    model: inference.model.name.as_str(),
                    since_ms: plausible(inference.since_ms),
                    at_ms: plausible(inference.at_ms),
                    score: inference.score,
                    probability: inference.probability,
                    channels: serde_json::to_string(&inference.channels).unwrap_or_else(|_| "[]".to_owned()),
                    record: row.id,
                };
                match inference.state {
                    Episode::Begins => series::begin_episode(writer, &end).await?,
                    Episode::Ends => series::end_episode(writer, &end).await?,
                }
            }
        }
        Decision::KIND => match watch::decision(body, row.id) {
            Some(Finding::Raise(alert)) => {
                let is_new = alerts::raise(writer, node, &alert, now_ms).await?;
                if is_new {
                    rollouts.troubled(node, happened_ms(row.record, now_ms), now_ms);
                }
            }
            Some(Finding::Clear { key, at_ms }) => {
                alerts::clear(writer, node, &key, at_ms, Some(row.id), now_ms).await?;
            }
            None => {}
        },
        Install::KIND => {
            if let Ok(install) = serde_json::from_str::<Install>(body) {
                rollouts.heard(node, &install, row.id, now_ms);
            }
        }
        Behaviour::KIND => {
            if let Ok(behaviour) = serde_json::from_str::<Behaviour>(body) {
                rollouts.behaved(writer, node, &behaviour, now_ms).await?;
            }
        }
        Start::KIND if serde_json::from_str(body).is_ok_and(|start: Start| start.clean == Some(false)) => {
            rollouts.troubled(node, happened_ms(row.record, now_ms), now_ms);
        }
        _ => {}
    }
    Ok(())
}

/// When a record was written, if the node's clock knew; else as it comes.
fn happened_ms(record: &Record, now_ms: WallMs) -> WallMs {
    if record.clock == ClockQuality::Checked { record.wall_ms } else { now_ms }
}

async fn source(
    writer: &mut Writer,
    node: i64,
    name: &str,
    known: &mut HashMap<String, i64>,
) -> Result<i64, Error> {
    if let Some(id) = known.get(name) {
        return Ok(*id);
    }
    let id = series::source(writer, node, name).await?;
    known.insert(name.to_owned(), id);
    Ok(id)
}

/// What to tell those who follow; `None` for kinds that no page draws.
fn event(batch: &Batch, record: &Record) -> Option<Event> {
    let name = [Summary::KIND, Inference::KIND, Decision::KIND, SourceChange::KIND]
        .into_iter()
        .find(|kind| *kind == record.kind.as_str())?;
    let body = record.body.get();
    // Too large for the ring: say that there is something, without it. A line break would end the event early.
    let body = if body.len() <= EVENT_MAX_BYTES && !body.contains(['\n', '\r']) { body } else { "null" };
    let data = format!(
        r#"{{"node":"{}","journal":"{}","stream":"{}","seq":{},"wall_ms":{},"kind":"{name}","body":{body}}}"#,
        batch.node, batch.journal, batch.stream, record.seq, record.wall_ms
    );
    Some(Event { node: batch.node.as_str().into(), name, data: data.into() })
}

/// Takes a check-in and answers where the hub stands in the node's journal.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing the transaction needs; a struct would only rename them"
)]
pub async fn checkin(
    writer: &mut Writer,
    names: &mut Names,
    limits: &Limits,
    checkin: &CheckIn,
    text: &str,
    next_ms: u64,
    now_ms: WallMs,
    written: &mut Written,
) -> Result<Result<CheckInAnswer, NotWritten>, Error> {
    let node = match node(writer, names, limits, &checkin.node, next_ms, now_ms).await? {
        Ok(node) => node,
        Err(refused) => return Ok(Err(refused)),
    };
    let journal = checkin.journal.to_string();
    let row = CheckInRow {
        now_ms,
        next_ms,
        version: &checkin.version,
        boot: checkin.boot.to_string(),
        journal: journal.clone(),
        clock: checkin.clock.as_str(),
        clock_offset_ms: checkin.wall_ms.saturating_sub(now_ms),
        sources: checkin.sources.len() as i64,
        sources_running: checkin.sources.iter().filter(|source| source.state == "running").count() as i64,
        checkin: text,
    };
    nodes::checked_in(writer, node, &row).await?;
    let fleet::Told { full, labels } = fleet::take(writer, node, checkin).await?;
    alerts::clear(writer, node, &watch::silent_key(), now_ms, None, now_ms).await?;
    // A node that goes on under another journal has left the forked one behind.
    alerts::clear_hub_rule(writer, node, watch::JOURNAL_FORKED, &journal, now_ms).await?;
    let watermarks = match nodes::find_journal(writer, node, checkin.journal).await? {
        Some(journal) => {
            let held = nodes::streams(writer, journal).await?;
            keep_heads(writer, checkin, &held).await?;
            held.into_iter().map(|row| row.watermark).collect()
        }
        None => Vec::new(),
    };
    if written.followed {
        written.events.push(node_event(&checkin.node, "up", now_ms, row.sources, row.sources_running));
    }
    let (hub, handed) = names.rollouts.call(writer, node, checkin, now_ms).await?;
    written.caller = Caller { node, awaited: handed.awaited };
    Ok(Ok(CheckInAnswer {
        v: PROTOCOL,
        hub_ms: now_ms,
        next_ms,
        watermarks,
        hub: Some(hub),
        desired: handed.desired,
        paused: handed.paused,
        full,
        labels,
        ..CheckInAnswer::default()
    }))
}

/// Keeps what the node says its streams have come to, where that is further than what is here: the node is held to it.
async fn keep_heads(writer: &mut Writer, checkin: &CheckIn, held: &[StreamRow]) -> Result<(), Error> {
    for said in &checkin.streams {
        let row = held.iter().find(|row| row.watermark.stream == said.stream);
        if let (Some(row), Some(head)) = (row.filter(|row| said.last > row.watermark.seq), said.head) {
            nodes::put_head(writer, row.id, said.last, head).await?;
        }
    }
    Ok(())
}

fn node_event(node: &NodeId, state: &str, seen_ms: WallMs, sources: i64, running: i64) -> Event {
    let data = format!(
        r#"{{"node":"{node}","state":"{state}","seen_ms":{seen_ms},"sources":{sources},"sources_running":{running}}}"#
    );
    Event { node: node.as_str().into(), name: "node", data: data.into() }
}

/// Looks for nodes that have fallen silent and for losses that are no news any more. How many nodes are not silent.
pub async fn watch(
    writer: &mut Writer,
    names: &mut Names,
    me: &str,
    watching_since_ms: WallMs,
    now_ms: WallMs,
    written: &mut Written,
) -> Result<u64, Error> {
    use sqlx::Connection as _;
    let awake = nodes::count_awake(writer).await?;
    let before_ms = now_ms.saturating_sub(watch::SILENT_MIN_MS);
    let silent = |(_, _, seen_ms, next_ms): &(i64, String, i64, i64)| {
        watch::is_silent(*seen_ms, *next_ms, watching_since_ms, now_ms)
    };
    let mut fallen = nodes::quiet(writer, before_ms).await?;
    fallen.retain(silent);
    let mut transaction = writer.begin().await?;
    let last_record = match fallen.is_empty() {
        true => None,
        false => Some(begin(&mut transaction, names, me).await?),
    };
    if last_record.is_some() {
        // While this hub waited for its turn, another may have heard of a node, or told that it is silent.
        fallen = nodes::quiet(&mut transaction, before_ms).await?;
        fallen.retain(silent);
    }
    for (id, name, seen_ms, _) in &fallen {
        nodes::silence(&mut transaction, *id).await?;
        names.rollouts.silent(*id, now_ms);
        alerts::raise(&mut transaction, *id, &watch::silent(*seen_ms, now_ms), now_ms).await?;
        if let Ok(name) = NodeId::new(name) {
            written.events.push(node_event(&name, "silent", *seen_ms, 0, 0));
        }
    }
    let old_ms = now_ms.saturating_sub(watch::LOSS_NEWS_MS);
    alerts::expire_hub_rule(&mut transaction, watch::RECORDS_LOST, old_ms, now_ms).await?;
    if let Some(last_record) = last_record {
        end(&mut transaction, names, last_record, now_ms, written).await?;
    }
    transaction.commit().await?;
    Ok((awake - fallen.len() as i64).max(0) as u64)
}

/// Looks at the rollouts under way: some time has passed. A hub without any writes nothing here.
pub async fn tick(
    writer: &mut Writer,
    names: &mut Names,
    me: &str,
    now_ms: WallMs,
    written: &mut Written,
) -> Result<(), Error> {
    use sqlx::Connection as _;
    // Another hub may have begun one of which no node has told this one.
    if names.rollouts.is_idle() && turn::is_last(writer, me).await? {
        return Ok(());
    }
    let is_new = !names.rollouts.is_ready();
    let mut transaction = writer.begin().await?;
    let last_record = begin(&mut transaction, names, me).await?;
    names.rollouts.tick(&mut transaction, now_ms).await?;
    if is_new || names.rollouts.has_moved() {
        end(&mut transaction, names, last_record, now_ms, written).await?;
        transaction.commit().await?;
    }
    Ok(())
}
