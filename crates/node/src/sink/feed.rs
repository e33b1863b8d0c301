//! The journal as a sink reads it: groups of records in the order of their streams, and a cursor that moves on when a group is
//! delivered. A second uplink, but for anybody: its own connection, so a sink that is slow or dead holds nobody up.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use wire::id::{NodeId, PartName, StreamName};
use wire::record::Record;
use wire::world::{Clock, MonoNs};

use super::choose::{Choice, Item};
use super::cursor::{Cursor, From};
use super::trouble::SinkError;
use crate::journal::position::Position;
use crate::journal::reader::Reader;

/// A group has at most so many records, and about so many bytes.
const GROUP_RECORDS: usize = 64;
const GROUP_BYTES: usize = 1 << 20;
/// The journal is not looked at more often, however much is written.
const LOOK_NS: MonoNs = 20_000_000;
/// It is looked at this often when nobody rings, over a new connection: its database may be another one by now.
const IDLE: Duration = Duration::from_secs(10);
/// The cursor is kept this often; a crash in between passes on again what came since.
const SAVE_NS: MonoNs = 250_000_000;
/// What waits when the node stops has so long to get out.
const LEAVE_NS: MonoNs = 2_000_000_000;

/// Hears how a sink is: `running` or `failed`, and why.
pub type Tell = Box<dyn Fn(&str, String) + Send>;

/// What a sink is given besides its own settings.
pub struct FeedSettings {
    /// The sink's name.
    pub name: PartName,
    /// The node's.
    pub node: NodeId,
    /// The data folder, where the journal and the cursors are.
    pub data: PathBuf,
    /// What it passes on.
    pub choice: Choice,
    /// Whether what it passes on leaves the node: then it is given only what the data policy lets out.
    pub sends: bool,
    /// Where it begins if it has never run.
    pub from: From,
    /// Changes when there may be something new.
    pub rung: watch::Receiver<u64>,
    /// Whether the node stops.
    pub stop: watch::Receiver<bool>,
    /// By which it waits.
    pub clock: Box<dyn Clock>,
    /// Hears how the sink is: `running` or `failed`, and why.
    pub tell: Tell,
}

/// One sink's view of the journal.
pub struct Feed {
    settings: FeedSettings,
    reader: Option<Reader>,
    cursor: Option<Cursor>,
    looked_ns: Option<MonoNs>,
    saved_ns: Option<MonoNs>,
    unsaved: bool,
    leaving_ns: Option<MonoNs>,
    /// What was last told.
    told: Option<String>,
}

/// Some records, and where the sink is once they are delivered.
pub struct Group {
    /// In the order of their streams.
    pub items: Vec<Item>,
    after: Cursor,
}

impl Feed {
    /// A view that is opened when it is first asked.
    pub fn new(settings: FeedSettings) -> Feed {
        Feed {
            settings,
            reader: None,
            cursor: None,
            looked_ns: None,
            saved_ns: None,
            unsaved: false,
            leaving_ns: None,
            told: None,
        }
    }

    /// The time by which it waits.
    pub fn now_ns(&self) -> MonoNs {
        self.settings.clock.mono_ns()
    }

    /// Whose records they are.
    pub fn node(&self) -> &NodeId {
        &self.settings.node
    }

    /// The sink's name.
    pub fn name(&self) -> &PartName {
        &self.settings.name
    }

    /// The next group that has something in it; `None` when the node stops and nothing waits, or time is up. Nothing is lost if the
    /// caller stops waiting.
    pub async fn next(&mut self) -> Result<Option<Group>, SinkError> {
        loop {
            let stopping = *self.settings.stop.borrow();
            if stopping {
                let now_ns = self.now_ns();
                if now_ns >= *self.leaving_ns.get_or_insert(now_ns + LEAVE_NS) {
                    return Ok(None);
                }
            }
            if let Some(looked_ns) = self.looked_ns {
                let since_ns = self.now_ns().saturating_sub(looked_ns);
                sleep(Duration::from_nanos(LOOK_NS.saturating_sub(since_ns))).await;
            }
            self.looked_ns = Some(self.now_ns());
            self.settings.rung.mark_unchanged();
            match self.look() {
                Ok(Some(group)) if group.items.is_empty() => self.done(group)?,
                Ok(Some(group)) => return Ok(Some(group)),
                Ok(None) if stopping => return Ok(None),
                Ok(None) => {
                    self.save(false)?;
                    let mut stop = self.settings.stop.clone();
                    let rung = async {
                        // Whoever rings is gone when the node has stopped: then only the stop is waited for.
                        if self.settings.rung.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    };
                    let heard = timeout(IDLE, async {
                        tokio::select! {
                            () = rung => {}
                            _ = stop.wait_for(|stop| *stop) => {}
                        }
                    });
                    if heard.await.is_err() {
                        self.save(true)?;
                        self.reader = None;
                    }
                }
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
            }
        }
    }

    fn look(&mut self) -> Result<Option<Group>, SinkError> {
        let FeedSettings { name, node, data, choice, sends, from, .. } = &self.settings;
        let reader = match &self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::open(data)?),
        };
        let (life, positions) = (reader.journal()?, reader.positions()?);
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            None => {
                let kept = Cursor::load(data, name)?;
                self.unsaved |= kept.is_none();
                self.cursor.insert(kept.unwrap_or_else(|| Cursor::begin(life, *from, &positions)))
            }
        };
        cursor.follow(life);
        let waiting = cursor.waiting(&positions);
        if waiting.is_empty() {
            return Ok(None);
        }
        let (mut items, mut bytes, mut after) = (Vec::new(), 0, cursor.clone());
        for next in waiting {
            if items.len() >= GROUP_RECORDS || bytes >= GROUP_BYTES {
                break;
            }
            if *sends && !next.leaves || !choice.wants_stream(&next.stream) {
                after.pass(&next.stream, next.last);
                continue;
            }
            if let Some((first, last)) = next.gap {
                items.push(Item::gap(node, life, &next.stream, first, last));
                after.pass(&next.stream, last);
            }
            if next.after == next.last {
                continue;
            }
            let records = reader.run(&next.stream, next.after, next.last, GROUP_RECORDS, GROUP_BYTES)?;
            for record in records {
                after.pass(&next.stream, record.seq);
                bytes += record.body.get().len();
                items.extend(choice.take(node, life, &next.stream, record));
            }
        }
        Ok(Some(Group { items, after }))
    }

    /// One item of a group was delivered, and all before it in its stream: if the rest fails, it is not given again.
    pub fn passed(&mut self, item: &Item) -> Result<(), SinkError> {
        if let Some(cursor) = &mut self.cursor {
            cursor.pass(&item.stream, item.seq);
            self.unsaved = true;
        }
        self.save(false)
    }

    /// A group was delivered.
    pub fn done(&mut self, group: Group) -> Result<(), SinkError> {
        self.cursor = Some(group.after);
        self.unsaved = true;
        self.save(false)
    }

    /// Keeps the cursor, if it is time or `now`.
    pub fn save(&mut self, now: bool) -> Result<(), SinkError> {
        let now_ns = self.now_ns();
        let due = self.saved_ns.is_none_or(|saved_ns| now_ns.saturating_sub(saved_ns) >= SAVE_NS);
        if let Some(cursor) = self.cursor.as_ref().filter(|_| self.unsaved && (now || due)) {
            cursor.save(&self.settings.data, &self.settings.name)?;
            (self.unsaved, self.saved_ns) = (false, Some(now_ns));
        }
        Ok(())
    }

    /// The newest records of a stream, oldest first, whatever the cursor says; none if they may not go where this sink sends.
    pub fn latest(&mut self, stream: &StreamName, limit: usize) -> Result<Vec<Record>, SinkError> {
        let reader = match &self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::open(&self.settings.data)?),
        };
        let stays = |position: &Position| position.stream == *stream && !position.leaves;
        if self.settings.sends && reader.positions()?.iter().any(stays) {
            return Ok(Vec::new());
        }
        Ok(reader.latest(stream, limit)?.into_iter().map(|(record, _)| record).collect())
    }

    /// Says how the sink is, once per change.
    pub fn tell(&mut self, state: &str, reason: String) {
        if state != "running" || self.told.as_deref() != Some(state) {
            (self.settings.tell)(state, reason);
        }
        self.told = Some(state.to_owned());
    }

    /// Waits, unless the node stops; whether it goes on.
    pub async fn pause(&mut self, pause: Duration) -> bool {
        let mut stop = self.settings.stop.clone();
        timeout(pause, stop.wait_for(|stop| *stop)).await.is_err()
    }
}
