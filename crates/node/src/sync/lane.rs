//! Which stream is served next. Two lanes: what is up to date, or precious, is *live*; what has fallen behind is
//! *backlog*. The backlog gets every fourth turn, so neither waits for the other to end, and within the live lane the
//! stream that has waited longest comes first: a fresh alert waits for at most one turn of each other stream.

use std::collections::HashMap;

use wire::checkin::Quiet;
use wire::class::Class;
use wire::id::StreamName;
use wire::world::{Entropy, MonoNs};

use super::backoff::{Backoff, SECOND_NS};
use crate::journal::position::Position;

/// Bytes that a batch aims at, before compression.
pub const BATCH_BYTES: u64 = 256 * 1024;

/// How long a few records wait for more to go with them.
const LINGER_NS: MonoNs = SECOND_NS / 5;

/// As much is not worth waiting for more.
const ENOUGH_BYTES: u64 = BATCH_BYTES / 4;

/// The backlog gets one turn in this many.
const BACKLOG_EVERY: u32 = 4;

/// The longest that a class waits because the hub says so.
const QUIET_MOST_NS: MonoNs = 3600 * SECOND_NS;

/// Answers without progress, one after another, until a stream has to wait.
const STALLS_MAX: u32 = 3;

/// Which lane a stream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Audit, events, and all that a single batch brings up to date.
    Live,
    /// The rest.
    Backlog,
}

impl Lane {
    /// The lane of a stream that has something to send.
    pub fn of(position: &Position) -> Lane {
        let small = position.unsent_bytes() <= BATCH_BYTES;
        if position.class <= Class::Event || small { Lane::Live } else { Lane::Backlog }
    }
}

/// What is known of one stream beside its position.
#[derive(Debug)]
struct Turn {
    /// The turn in which it was last served.
    served: u64,
    /// Since when it has something to send.
    since: Option<MonoNs>,
    /// Answers without progress, one after another.
    stalls: u32,
    /// The most bytes a batch of it may have; lowered when the hub finds them too large.
    batch_bytes: u64,
    /// Not served before.
    not_before: MonoNs,
    backoff: Backoff,
}

impl Turn {
    const NEW: Turn = Turn {
        served: 0,
        since: None,
        stalls: 0,
        batch_bytes: BATCH_BYTES,
        not_before: 0,
        backoff: Backoff::new(60 * SECOND_NS, 3600 * SECOND_NS),
    };
}

/// What to do next about the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send from this stream, about so many bytes.
    Serve(StreamName, u64),
    /// Nothing before this time.
    At(MonoNs),
    /// Nothing to send.
    Nothing,
}

/// All streams that may leave the node.
#[derive(Debug, Default)]
pub struct Lanes {
    positions: Vec<Position>,
    turns: HashMap<StreamName, Turn>,
    /// Turns given so far.
    count: u64,
    /// Live turns since the backlog had one.
    live_run: u32,
    /// Until when the hub wants to hear nothing of each class, in the order of [`Class::ALL`].
    quiet: [MonoNs; 4],
}

impl Lanes {
    /// Takes the streams as they now stand.
    pub fn update(&mut self, positions: Vec<Position>, now: MonoNs) {
        self.positions = positions.into_iter().filter(|position| position.leaves).collect();
        for position in &self.positions {
            let turn = self.turns.entry(position.stream.clone()).or_insert(Turn::NEW);
            turn.since = (position.unsent() > 0).then(|| turn.since.unwrap_or(now));
        }
        self.turns.retain(|stream, _| self.positions.iter().any(|position| position.stream == *stream));
    }

    /// Whose turn it is.
    pub fn next(&mut self, now: MonoNs) -> Next {
        let mut wake: Option<MonoNs> = None;
        // Per lane, the stream that was served least recently; class decides among those never served.
        let mut best: [Option<(u64, Class, usize)>; 2] = [None, None];
        for (index, position) in self.positions.iter().enumerate() {
            let Some(turn) = self.turns.get(&position.stream) else { continue };
            let Some(since) = turn.since else { continue };
            let linger = if position.unsent_bytes() >= ENOUGH_BYTES { 0 } else { LINGER_NS };
            let ready = (since + linger).max(turn.not_before).max(self.quiet[position.class as usize]);
            if ready > now {
                wake = Some(wake.map_or(ready, |wake| wake.min(ready)));
                continue;
            }
            let slot = &mut best[Lane::of(position) as usize];
            let key = (turn.served, position.class, index);
            *slot = Some(slot.map_or(key, |least| least.min(key)));
        }
        let [live, backlog] = best;
        let backlog_turn = live.is_none() || self.live_run + 1 >= BACKLOG_EVERY;
        let Some((_, _, index)) = (if backlog_turn { backlog.or(live) } else { live }) else {
            return wake.map_or(Next::Nothing, Next::At);
        };
        let from_backlog = backlog.is_some_and(|(_, _, at)| at == index);
        // Only turns that the backlog had to wait for count towards its next one.
        self.live_run = if from_backlog || backlog.is_none() { 0 } else { self.live_run + 1 };
        self.count += 1;
        let stream = self.positions[index].stream.clone();
        let turn = self.turns.entry(stream.clone()).or_insert(Turn::NEW);
        turn.served = self.count;
        // What comes after this batch may linger for company again.
        turn.since = None;
        Next::Serve(stream, turn.batch_bytes)
    }

    /// Takes the hub's word which classes shall wait; the others need not any more. What an auditor asks for never waits.
    pub fn hush(&mut self, quiet: &[Quiet], now: MonoNs) {
        self.quiet = [0; 4];
        for Quiet { class, ms } in quiet.iter().filter(|quiet| quiet.class != Class::Audit) {
            let wait = ms.saturating_mul(1_000_000).min(QUIET_MOST_NS);
            self.quiet[*class as usize] = now.saturating_add(wait);
        }
    }

    /// Where the hub stands in a stream, as far as is known.
    pub fn acked(&self, stream: &StreamName) -> u64 {
        self.positions.iter().find(|position| position.stream == *stream).map_or(0, |position| position.acked)
    }

    /// Whether a stream has been told to wait.
    pub fn waits(&self, stream: &StreamName, now: MonoNs) -> bool {
        self.turns.get(stream).is_some_and(|turn| turn.not_before > now)
    }

    /// The hub has taken something of a stream.
    pub fn progress(&mut self, stream: &StreamName) {
        if let Some(turn) = self.turns.get_mut(stream) {
            turn.stalls = 0;
            turn.backoff.reset();
            turn.batch_bytes = (turn.batch_bytes * 2).min(BATCH_BYTES);
        }
    }

    /// The hub answered, but took nothing. Gives how often in a row.
    pub fn stall(&mut self, stream: &StreamName, now: MonoNs, chance: &mut dyn Entropy) -> u32 {
        let Some(turn) = self.turns.get_mut(stream) else { return 0 };
        turn.stalls += 1;
        if turn.stalls >= STALLS_MAX {
            turn.stalls = 0;
            turn.not_before = now + turn.backoff.fail_slowly(chance);
            return STALLS_MAX;
        }
        turn.stalls
    }

    /// The hub refused a batch of a stream: it waits, the others go on. Gives for how long.
    pub fn refuse(&mut self, stream: &StreamName, now: MonoNs, chance: &mut dyn Entropy) -> MonoNs {
        let Some(turn) = self.turns.get_mut(stream) else { return 0 };
        let wait = turn.backoff.fail_slowly(chance);
        turn.not_before = now + wait;
        wait
    }

    /// The hub found a batch too large. Halves the next one; `false` if that cannot be.
    pub fn halve(&mut self, stream: &StreamName) -> bool {
        let Some(turn) = self.turns.get_mut(stream) else { return false };
        turn.batch_bytes /= 2;
        let possible = turn.batch_bytes >= 4096;
        turn.batch_bytes = turn.batch_bytes.max(4096);
        possible
    }

    /// Forgets every refusal: the journal has a new life.
    pub fn forgive(&mut self) {
        self.turns.clear();
    }
}
