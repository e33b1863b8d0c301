//! The thread of the reports: when a shift is over it reads the journal, writes what happened, and files it.
//!
//! It reads what the journal has, so a restart in the middle of a shift loses nothing; a shift that ended while the node was away
//! is told when it is back. Nothing waits for this thread.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wire::body::Body as _;
use wire::body::report::{Report, Writer};
use wire::class::Class;
use wire::id::{PartName, StreamName};
use wire::world::{Clock, WallMs};

use super::report::Reports;
use crate::journal::DatabaseError;
use crate::journal::position::Position;
use crate::journal::reader::Reader;
use crate::report::ReportConfig;
use crate::report::gather::Gathered;
use crate::report::shift::Shift;
use crate::report::tell::tell;
use crate::report::writer::write;
use crate::source::queue::Messenger;
use crate::why::why;

/// What a shift left is in the journal so long after it at the latest.
const GRACE_MS: i64 = 3_000;
/// The clock on the wall may be set: it is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that shows a time before 2024 was never set, and shifts by it would be no shifts.
const FIRST_MS: WallMs = 1_704_067_200_000;
/// Records are read in groups of so many, and about so many bytes.
const GROUP_RECORDS: usize = 256;
const GROUP_BYTES: usize = 1 << 20;
/// Reports that are looked through for one that was written before a restart.
const LATEST: usize = 200;
/// So many shifts that went by while a report was written are told afterwards.
const MISSED: i64 = 20;
/// Decisions before a shift that are looked through for rules that fired into it.
const BEFORE: u64 = 1_000;
/// The stream of reports, and of those whose figures may not leave.
const STREAM: &str = "reports";
const STAYS: &str = "private.reports";

/// What the thread hears.
enum Word {
    /// These are the reports from now on.
    Follow(Vec<ReportConfig>),
    Stop,
}

/// The running thread.
pub(super) struct Reporting {
    words: Sender<Word>,
    thread: JoinHandle<()>,
}

/// Tells it which reports there are.
#[derive(Clone)]
pub(super) struct Desk(Sender<Word>);

impl Desk {
    /// Without reports.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Desk {
        Desk(channel().0)
    }

    /// These are the reports from now on.
    pub(super) fn follow(&self, configs: &[ReportConfig]) {
        // The thread is gone: so is the node.
        drop(self.0.send(Word::Follow(configs.to_vec())));
    }
}

impl Reporting {
    /// Where it is told which reports there are.
    pub(super) fn desk(&self) -> Desk {
        Desk(self.words.clone())
    }

    /// Ends. A report that a model is writing is left to the next life.
    pub(super) fn stop(self) {
        drop(self.words.send(Word::Stop));
        if self.thread.is_finished() {
            // A panic there was caught by the system and costs only reports.
            drop(self.thread.join());
        }
    }
}

/// What the thread needs of the rest of the node.
pub(super) struct Around {
    pub(super) data: PathBuf,
    pub(super) clock: Box<dyn Clock>,
    pub(super) reports: Reports,
    pub(super) messenger: Messenger,
}

/// Starts the thread.
pub(super) fn start(configs: Vec<ReportConfig>, around: Around) -> std::io::Result<Reporting> {
    let (words, heard) = channel();
    let thread = std::thread::Builder::new().name("report".into()).spawn(move || {
        Thread { around, desks: desks(configs, Vec::new()) }.run(&heard);
    })?;
    Ok(Reporting { words, thread })
}

/// A report, and the end of the last shift that was told.
struct One {
    config: ReportConfig,
    told_ms: Option<WallMs>,
    failed: bool,
}

fn desks(configs: Vec<ReportConfig>, before: Vec<One>) -> Vec<One> {
    let told =
        |name: &PartName| before.iter().find(|one| one.config.name == *name).and_then(|one| one.told_ms);
    let one = |config: ReportConfig| One { told_ms: told(&config.name), config, failed: false };
    configs.into_iter().map(one).collect()
}

struct Thread {
    around: Around,
    desks: Vec<One>,
}

impl Thread {
    fn run(&mut self, words: &Receiver<Word>) {
        loop {
            match words.recv_timeout(LOOK) {
                Ok(Word::Follow(configs)) => {
                    let before = std::mem::take(&mut self.desks);
                    self.desks = desks(configs, before);
                }
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now_ms = self.around.clock.wall_ms();
            if now_ms < FIRST_MS {
                continue;
            }
            for at in 0..self.desks.len() {
                self.look(at, now_ms);
            }
        }
    }

    fn look(&mut self, at: usize, now_ms: WallMs) {
        let Thread { around, desks } = self;
        let One { config, told_ms, failed } = &mut desks[at];
        let last = config.shifts.last(now_ms.saturating_sub(GRACE_MS));
        let mut shift = next(config, *told_ms, last);
        // A clock that was set back gives no second report of a time that was told.
        while shift.to_ms <= last.to_ms && told_ms.is_none_or(|told_ms| told_ms < shift.to_ms) {
            match report(config, shift, around, told_ms.is_none()) {
                Ok(()) => (*told_ms, *failed) = (Some(shift.to_ms), false),
                Err(error) => {
                    if !std::mem::replace(failed, true) {
                        let (part, state) = (format!("report.{}", config.name), "failed".to_owned());
                        around.messenger.tell(wire::body::PartChange { part, state, reason: why(&error) });
                    }
                    return;
                }
            }
            shift = next(config, *told_ms, last);
        }
    }
}

/// The shift that is told next: the one after the last that was told, or the last that is over where there is none, or too many
/// would have to be told.
fn next(config: &ReportConfig, told_ms: Option<WallMs>, last: Shift) -> Shift {
    let every_ms = config.shifts.every_ms;
    let follows = |told_ms: &WallMs| {
        let behind_ms = last.to_ms.saturating_sub(*told_ms);
        behind_ms <= MISSED * every_ms && config.shifts.last(*told_ms).to_ms == *told_ms
    };
    match told_ms.filter(follows) {
        Some(told_ms) => Shift { from_ms: told_ms, to_ms: told_ms.saturating_add(every_ms) },
        None => last,
    }
}

/// Writes the report of a shift and files it. `is_first`: this life has told none; the one before may have told this one, and a shift
/// of which the journal knows nothing was before the node's time.
fn report(config: &ReportConfig, shift: Shift, around: &Around, is_first: bool) -> Result<(), DatabaseError> {
    let reader = Reader::open(&around.data)?;
    if is_first && was_told(&reader, config, shift)? {
        return Ok(());
    }
    let mut gathered = Gathered::new(shift);
    // Of whatever part of it may not leave, the whole may not.
    let mut stays = false;
    for position in reader.positions()? {
        if !is_told(&position.stream, config) {
            continue;
        }
        let mut after = before(&reader, &position, shift.from_ms)?;
        let begun = gathered.clone();
        if position.stream.as_str() == "decisions" {
            for record in reader.run(
                &position.stream,
                after.saturating_sub(BEFORE),
                after,
                BEFORE as usize,
                usize::MAX,
            )? {
                gathered.carry(&record.body, config);
            }
        }
        'stream: while after < position.last {
            let records = reader.run(&position.stream, after, position.last, GROUP_RECORDS, GROUP_BYTES)?;
            if records.is_empty() {
                break;
            }
            for record in records {
                after = record.seq;
                if record.wall_ms >= shift.to_ms {
                    break 'stream;
                }
                gathered.take(record.kind.as_str(), &record.body, config);
            }
        }
        stays |= !position.leaves && gathered != begun;
    }
    gathered.close();
    if is_first && gathered.is_empty() {
        return Ok(());
    }
    let facts = tell(&gathered, config);
    let (text, writer, why) = match &config.writer {
        None => (facts, Writer::Template, String::new()),
        Some(settings) => match write(settings, &facts) {
            Ok(text) => (text, Writer::Model, format!("written by {}", settings.model)),
            Err(why) => (facts, Writer::Template, why),
        },
    };
    let (report, Shift { from_ms, to_ms }) = (config.name.clone(), shift);
    let body = Report { report, from_ms, to_ms, text, writer, why, figures: gathered.figures() };
    let stream =
        StreamName::new(if stays { STAYS } else { STREAM }).expect("our own streams have good names");
    around.reports.file(body.draft(&stream, Class::Event), || ());
    Ok(())
}

/// Whether records of a stream are told of.
fn is_told(stream: &StreamName, config: &ReportConfig) -> bool {
    match stream.as_str() {
        "decisions" | "inferences" | "acts" | "events" => true,
        name => {
            name.strip_prefix("summary.").is_some_and(|source| config.tells_of(&format!("source.{source}")))
        }
    }
}

/// Whether a life before this one told a shift.
fn was_told(reader: &Reader, config: &ReportConfig, shift: Shift) -> Result<bool, DatabaseError> {
    for stream in [STREAM, STAYS] {
        let stream = StreamName::new(stream).expect("our own streams have good names");
        let told = reader.latest(&stream, LATEST)?;
        let is_it = |report: Report| report.report == config.name && report.to_ms >= shift.to_ms;
        if told.iter().any(|(record, _)| serde_json::from_str(record.body.get()).is_ok_and(is_it)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last record of a stream that was written before a time, found by halves: records stand in the order of their writing.
fn before(reader: &Reader, position: &Position, from_ms: WallMs) -> Result<u64, DatabaseError> {
    // All up to `low` are before it, those above `high` are not.
    let (mut low, mut high) = (position.first.saturating_sub(1), position.last);
    while low < high {
        let middle = low + (high - low) / 2;
        let records = reader.run(&position.stream, middle, position.last, 1, 1)?;
        match records.first() {
            Some(record) if record.wall_ms < from_ms => low = record.seq,
            _ => high = middle,
        }
    }
    Ok(low)
}
