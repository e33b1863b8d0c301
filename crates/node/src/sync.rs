//! Decides what the uplink does next: check in, send a run of a stream, take the hub's word, wait. Pure: it does
//! nothing itself, and the same events at the same times give the same effects.
//!
//! Stands between `journal` (has the records) and `uplink` (has the connection). Every effect but a wait is answered
//! by one event, and `step` gives one effect for it, so there is never more than one request in flight. A check-in
//! comes first, and again after every failure whose outcome is not known: it tells where the hub stands.
//!
//! Nothing here may keep the node from its local work: failures lead to longer waits, at most five minutes for the
//! hub and an hour for a stream that it refuses, and never to an end.

pub mod backoff;
pub mod lane;

use wire::batch::{BATCH_MAX_RECORDS, BatchAnswer, Outcome, Watermark};
use wire::checkin::CheckInAnswer;
use wire::id::StreamName;
use wire::world::{Entropy, MonoNs};

use self::backoff::{Backoff, SECOND_NS};
use self::lane::{Lanes, Next};
use crate::journal::position::Position;

/// The longest time between two check-ins, whatever the hub says.
const CHECK_IN_MOST_NS: MonoNs = 3600 * SECOND_NS;

/// How often a node may check in for what it has to say itself: so many times in the interval that the hub advises. A hub
/// that is busy, and advises a longer one, is called less for this, too.
const NEWS_PER_INTERVAL: MonoNs = 12;

/// Not sooner after a check-in than this, however short the interval.
const NEWS_LEAST_NS: MonoNs = 3 * SECOND_NS;

/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MOST_NS: MonoNs = 3600 * SECOND_NS;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time has passed, or the journal has grown: the streams as they now stand.
    Looked(Vec<Position>),
    /// The same, and the hub says that it has news.
    Called(Vec<Position>),
    /// The same, and this node has something to say of itself.
    Changed(Vec<Position>),
    /// The hub answered the check-in.
    CheckedIn(Box<CheckInAnswer>),
    /// The hub answered the batch.
    Answered(BatchAnswer),
    /// There was nothing to send after all.
    NothingToSend(Vec<Position>),
    /// The hub's word was taken.
    Settled {
        /// Whether the hub has something that this journal never wrote.
        strangers: bool,
        /// The streams as they now stand.
        positions: Vec<Position>,
    },
    /// The journal has a new life.
    Forked(Vec<Position>),
    /// The request did not lead to an answer that can be used.
    Failed(Failure),
    /// The journal could not be read or written. It will be tried again.
    JournalFailed,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection, no answer in time, or a connection that broke.
    Unreachable {
        /// Why, in words.
        why: String,
    },
    /// The hub answered with a status that is not success.
    Status {
        /// The status.
        status: u16,
        /// How long the hub asks us to stay away.
        retry_after_ns: Option<MonoNs>,
        /// What the hub said, shortened.
        why: String,
    },
    /// An answer that is not one.
    BadAnswer {
        /// What is wrong with it.
        why: String,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unreachable { why } => write!(f, "the hub cannot be reached: {why}"),
            Failure::Status { status, why, .. } if why.is_empty() => write!(f, "the hub answered {status}"),
            Failure::Status { status, why, .. } => write!(f, "the hub answered {status}: {why}"),
            Failure::BadAnswer { why } => write!(f, "the hub's answer cannot be used: {why}"),
        }
    }
}

/// What to do. Each is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Look at the journal at this time, when it has grown, when the hub calls, or when this node has something to say,
    /// whichever comes first; then [`Event::Looked`], [`Event::Called`] or [`Event::Changed`].
    Wait {
        /// The time.
        until: MonoNs,
        /// Whether the journal's growing matters now.
        growth: bool,
    },
    /// Check in; then [`Event::CheckedIn`] or [`Event::Failed`].
    CheckIn,
    /// Send the next run of a stream; then [`Event::Answered`], [`Event::NothingToSend`] or [`Event::Failed`].
    Send {
        /// The stream.
        stream: StreamName,
        /// About how many bytes at most, before compression.
        max_bytes: usize,
        /// How many records at most.
        max_records: usize,
    },
    /// Tell the journal where the hub stands; then [`Event::Settled`].
    Settle {
        /// Where it stands.
        watermarks: Vec<Watermark>,
        /// Whether streams without a watermark stand at 0.
        complete: bool,
    },
    /// Give the journal a new life; then [`Event::Forked`].
    Fork,
}

/// What an operator should hear about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The hub cannot be talked to; tried again at longer and longer intervals.
    Hub(Failure),
    /// The hub refuses one stream; the others go on.
    Stream {
        /// The stream.
        stream: StreamName,
        /// What the hub said.
        failure: Failure,
    },
    /// The hub answers, but takes nothing of a stream.
    Stalled {
        /// The stream.
        stream: StreamName,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Hub(failure) => failure.fmt(f),
            Trouble::Stream { stream, failure } => write!(f, "stream {stream} has to wait: {failure}"),
            Trouble::Stalled { stream } => {
                write!(f, "stream {stream} has to wait: the hub takes nothing of it")
            }
        }
    }
}

/// What an effect waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Waiting,
    CheckIn,
    Sending(StreamName),
    /// A stream's answer is being settled: whose, what came of the batch, and where the stream stood before.
    Settling(Option<(StreamName, Outcome, u64)>),
    Forking,
}

/// The uplink's mind.
#[derive(Debug)]
pub struct Sync {
    doing: Doing,
    lanes: Lanes,
    /// When to check in next; 0 at first.
    check_in_at: MonoNs,
    /// Not before, however often the hub calls.
    called_not_before: MonoNs,
    /// Not before, however often this node changes.
    changed_not_before: MonoNs,
    /// No request before this.
    quiet_until: MonoNs,
    backoff: Backoff,
    /// Failures that no haste will mend: a wrong token, a wrong address.
    refusals: Backoff,
    /// Whether the last failure was a batch's: then a check-in that works says nothing.
    batches_fail: bool,
    journal: Backoff,
    forks: Backoff,
    fork_not_before: MonoNs,
    trouble: Option<Trouble>,
}

impl Default for Sync {
    fn default() -> Sync {
        Sync::new()
    }
}

impl Sync {
    /// Begins by looking at the journal: the first event is [`Event::Looked`].
    pub fn new() -> Sync {
        Sync {
            doing: Doing::Waiting,
            lanes: Lanes::default(),
            check_in_at: 0,
            called_not_before: 0,
            changed_not_before: 0,
            quiet_until: 0,
            backoff: Backoff::new(SECOND_NS, 300 * SECOND_NS),
            refusals: Backoff::new(30 * SECOND_NS, 300 * SECOND_NS),
            batches_fail: false,
            journal: Backoff::new(SECOND_NS, 300 * SECOND_NS),
            forks: Backoff::new(60 * SECOND_NS, 3600 * SECOND_NS),
            fork_not_before: 0,
            trouble: None,
        }
    }

    /// What an operator should hear about, since this was last asked.
    pub fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Requests that failed since one last succeeded.
    pub fn failures(&self) -> u32 {
        self.backoff.failures() + self.refusals.failures()
    }

    /// Takes an event and says what to do. An event that does not belong to the last effect is taken for a look.
    pub fn step(&mut self, event: Event, now: MonoNs, chance: &mut dyn Entropy) -> Effect {
        let doing = std::mem::replace(&mut self.doing, Doing::Waiting);
        match (event, doing) {
            (Event::CheckedIn(answer), Doing::CheckIn) => return self.checked_in(*answer, now, chance),
            (Event::Answered(answer), Doing::Sending(stream)) => return self.answered(answer, stream),
            (Event::Settled { strangers, positions }, Doing::Settling(sent)) => {
                let fork = self.settled(strangers, positions, sent, now, chance);
                if fork && now >= self.fork_not_before {
                    // A hub that calls every journal a stranger must not make us fork for ever.
                    self.fork_not_before = now + self.forks.fail_slowly(chance);
                    self.doing = Doing::Forking;
                    return Effect::Fork;
                }
            }
            (Event::Forked(positions), _) => {
                self.lanes.forgive();
                self.lanes.update(positions, now);
                self.check_in_at = 0;
            }
            (Event::Failed(failure), doing) => self.failed(failure, doing, now, chance),
            (Event::Looked(positions) | Event::NothingToSend(positions), _) => {
                self.lanes.update(positions, now);
            }
            (Event::Called(positions), _) => {
                self.lanes.update(positions, now);
                self.check_in_at = self.check_in_at.min(self.called_not_before.max(now));
            }
            (Event::Changed(positions), _) => {
                self.lanes.update(positions, now);
                self.check_in_at = self.check_in_at.min(self.changed_not_before.max(now));
            }
            (Event::Settled { positions, .. }, _) => self.lanes.update(positions, now),
            // A part of the journal that cannot be read must not hold up the rest.
            (Event::JournalFailed, Doing::Sending(stream)) => {
                self.lanes.refuse(&stream, now, chance);
            }
            (Event::JournalFailed, _) => self.quiet_until = now + self.journal.fail(chance),
            (Event::CheckedIn(_) | Event::Answered(_), _) => {}
        }
        self.next(now)
    }

    fn next(&mut self, now: MonoNs) -> Effect {
        if now < self.quiet_until {
            return Effect::Wait { until: self.quiet_until, growth: false };
        }
        if now >= self.check_in_at {
            self.doing = Doing::CheckIn;
            return Effect::CheckIn;
        }
        let until = match self.lanes.next(now) {
            Next::Serve(stream, bytes) => {
                self.doing = Doing::Sending(stream.clone());
                return Effect::Send { stream, max_bytes: bytes as usize, max_records: BATCH_MAX_RECORDS };
            }
            Next::At(at) => at.min(self.check_in_at),
            Next::Nothing => self.check_in_at,
        };
        Effect::Wait { until, growth: true }
    }

    fn checked_in(&mut self, answer: CheckInAnswer, now: MonoNs, chance: &mut dyn Entropy) -> Effect {
        if !self.batches_fail {
            self.reached();
        }
        let next_ns = answer.next_ms.saturating_mul(1_000_000).clamp(SECOND_NS, CHECK_IN_MOST_NS);
        // A tenth either way, so that a fleet that was started together drifts apart.
        self.check_in_at = now + (next_ns as f64 * (0.9 + 0.2 * chance.unit())) as MonoNs;
        self.called_not_before = now + SECOND_NS;
        self.changed_not_before = now + NEWS_LEAST_NS.max(next_ns / NEWS_PER_INTERVAL);
        self.lanes.hush(&answer.quiet, now);
        self.doing = Doing::Settling(None);
        Effect::Settle { watermarks: answer.watermarks, complete: true }
    }

    fn answered(&mut self, answer: BatchAnswer, stream: StreamName) -> Effect {
        self.reached();
        let acked = self.lanes.acked(&stream);
        // The hub speaks of the stream that it was asked about; anything else is no progress.
        let ours = answer.watermark.stream == stream;
        let watermarks = if ours { vec![answer.watermark] } else { Vec::new() };
        self.doing = Doing::Settling(Some((stream, answer.outcome, acked)));
        Effect::Settle { watermarks, complete: false }
    }

    /// Whether the journal needs a new life.
    fn settled(
        &mut self,
        strangers: bool,
        positions: Vec<Position>,
        sent: Option<(StreamName, Outcome, u64)>,
        now: MonoNs,
        chance: &mut dyn Entropy,
    ) -> bool {
        self.lanes.update(positions, now);
        self.journal.reset();
        let Some((stream, outcome, acked)) = sent else {
            return strangers;
        };
        let back_or_on = self.lanes.acked(&stream) != acked;
        if back_or_on && outcome != Outcome::Forked && !strangers {
            self.lanes.progress(&stream);
            self.forks.reset();
            return false;
        }
        let stalls = self.lanes.stall(&stream, now, chance);
        if self.lanes.waits(&stream, now) {
            self.trouble = Some(Trouble::Stalled { stream });
        }
        // The hub says that our chain does not go on from its own, though the journal agrees with its watermark: once,
        // that may be an old answer; twice, a record was altered here.
        strangers || outcome == Outcome::Forked && stalls >= 2
    }

    fn failed(&mut self, failure: Failure, doing: Doing, now: MonoNs, chance: &mut dyn Entropy) {
        let fault = Fault::of(&failure);
        if let (Fault::Batch | Fault::BatchSize, Doing::Sending(stream)) = (fault, &doing) {
            self.reached();
            if fault == Fault::Batch || !self.lanes.halve(stream) {
                self.lanes.refuse(stream, now, chance);
                self.trouble = Some(Trouble::Stream { stream: stream.clone(), failure });
            }
            return;
        }
        self.batches_fail |= matches!(doing, Doing::Sending(_));
        // Whether the hub took the batch is not known: ask.
        self.check_in_at = 0;
        let wait = match (&failure, fault) {
            (Failure::Status { retry_after_ns: Some(asked), .. }, _) => {
                let own = self.backoff.fail(chance);
                let asked = (*asked).min(RETRY_AFTER_MOST_NS);
                // Everybody was told the same time; come up to a tenth and a second later.
                own.max(asked + ((asked / 10 + SECOND_NS) as f64 * chance.unit()) as MonoNs)
            }
            (_, Fault::Passing) => self.backoff.fail(chance),
            _ => self.refusals.fail_slowly(chance),
        };
        self.quiet_until = now.saturating_add(wait);
        self.trouble = Some(Trouble::Hub(failure));
    }

    fn reached(&mut self) {
        self.batches_fail = false;
        self.backoff.reset();
        self.refusals.reset();
    }
}

/// What a failure says about where the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The link, or the hub's load: it passes.
    Passing,
    /// This batch. The others may do.
    Batch,
    /// The size of this batch.
    BatchSize,
    /// The token, the address, the hub: it stays until somebody mends it.
    Lasting,
}

impl Fault {
    fn of(failure: &Failure) -> Fault {
        match failure {
            Failure::Unreachable { .. } => Fault::Passing,
            Failure::Status { retry_after_ns: Some(_), .. } => Fault::Passing,
            Failure::Status { status, .. } => match status {
                408 | 425 | 429 | 500.. => Fault::Passing,
                413 => Fault::BatchSize,
                400 | 406 | 409 | 411..=424 | 426..=428 | 430..=499 => Fault::Batch,
                _ => Fault::Lasting,
            },
            Failure::BadAnswer { .. } => Fault::Lasting,
        }
    }
}
