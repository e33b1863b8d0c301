//! What the answer to a check-in advises: when to come again, and which classes of records wait until then. Pure.
//!
//! A fleet that comes back after a long time has more to tell than the hub can take at once. What auditors ask for goes
//! at once; for the rest each node gets a turn, one behind the other at the pace that the hub keeps up, and holds it by itself
//! until its turn comes. So nobody is sent away to ask again and again.

use std::collections::HashMap;

use wire::batch::Watermark;
use wire::checkin::{CheckIn, Quiet};
use wire::class::Class;
use wire::id::NodeId;

/// How many check-ins a second the hub invites at most; a third of what two cores carry beside 3 000 records/s.
const CHECKINS_PER_SECOND: u64 = 200;

/// How many records a second turns are given for; half as many while the queue of batches is filling.
const RECORDS_PER_SECOND: u64 = 3000;

/// The longest a node is sent away for when the hub is busy.
const STRETCH_MAX_MS: u64 = 300_000;

/// A node that an open wave waits for is asked back at the latest after this.
const AWAITED_MS: u64 = 60_000;

/// So few records need no turn: a node in good order always has some under way.
const SMALL: u64 = 64;

/// The most records of one node that a turn is reckoned for. Whatever it claims, others do not wait longer for it.
const OWED_MAX: u64 = 100_000;

/// Turns this near are not worth waiting for: nobody else has to.
const NEAR_MS: u64 = 2000;

/// Events wait at most so long.
const EVENTS_MS: u64 = 15_000;

/// While the queue is more than half full, nothing but audit and events comes for so long.
const BUSY_MS: u64 = 15_000;

/// How long a turn is good for once it has come.
const TURN_LASTS_MS: u64 = 180_000;

/// No turn is further away than this.
const AHEAD_MAX_MS: u64 = 3_600_000;

/// How many turns are remembered, about 100 bytes each; then all are forgotten and given anew.
const TURNS_MAX: usize = 100_000;

/// When a node shall come again: the configured time, longer when the fleet is so large that the hub would get more
/// than it can carry, and up to four times that while the writer's queue is filling.
pub fn next_ms(configured_ms: u64, nodes: u64, queue_percent: u64) -> u64 {
    let fair_ms = configured_ms.max(nodes.saturating_mul(1000) / CHECKINS_PER_SECOND);
    let stretch = match queue_percent {
        0..=24 => 1,
        25..=49 => 2,
        _ => 4,
    };
    fair_ms.saturating_mul(stretch).min(configured_ms.max(STRETCH_MAX_MS))
}

/// The same for a node that an open wave waits for, if `awaited`.
pub fn next_for(next_ms: u64, awaited: bool) -> u64 {
    if awaited { next_ms.min(AWAITED_MS) } else { next_ms }
}

/// How many records below audit a node has and the hub has not, by what the node says.
pub fn owed(checkin: &CheckIn, watermarks: &[Watermark]) -> u64 {
    let below = checkin.streams.iter().filter(|stream| stream.class != Class::Audit);
    let owed = below.map(|stream| {
        let held = watermarks.iter().find(|mark| mark.stream == stream.stream).map_or(0, |mark| mark.seq);
        stream.last.saturating_sub(held)
    });
    owed.fold(0, u64::saturating_add)
}

/// What of the hub matters to its advice.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many nodes the hub knows, whether they are heard or not.
    pub nodes: u64,
    /// How full the queue of batches is.
    pub queue_percent: u64,
}

/// Turns of nodes that have much to tell.
#[derive(Debug, Default)]
pub struct Turns {
    /// When everything is in that a turn was given for, by the clock that never goes back.
    free_ms: u64,
    /// When whose turn comes.
    given: HashMap<NodeId, u64>,
}

impl Turns {
    /// Which classes of a node that owes so many records wait, and how long. Asked again, it has the turn that it had.
    pub fn quiet(&mut self, node: &NodeId, owed: u64, load: Load, now_ms: u64) -> Vec<Quiet> {
        let busy_ms = if load.queue_percent >= 50 { BUSY_MS } else { 0 };
        if owed < SMALL {
            self.given.remove(node);
            return quiet(0, busy_ms);
        }
        let turn_ms = match self.given.get(node) {
            Some(turn_ms) if now_ms < turn_ms + TURN_LASTS_MS => *turn_ms,
            _ => self.give(node, owed.min(OWED_MAX), load, now_ms),
        };
        let wait_ms = turn_ms.saturating_sub(now_ms);
        let wait_ms = if wait_ms <= NEAR_MS { 0 } else { wait_ms };
        quiet(wait_ms.min(EVENTS_MS), wait_ms.max(busy_ms))
    }

    fn give(&mut self, node: &NodeId, owed: u64, load: Load, now_ms: u64) -> u64 {
        let rate = if load.queue_percent >= 50 { RECORDS_PER_SECOND / 2 } else { RECORDS_PER_SECOND };
        let free_ms = self.free_ms.max(now_ms);
        // Once there is more than a moment's work, everybody may have come back: what is most precious first, of all.
        let all_came_ms = now_ms + load.nodes.saturating_mul(1000) / CHECKINS_PER_SECOND;
        let turn_ms = if free_ms <= now_ms + NEAR_MS { free_ms } else { free_ms.max(all_came_ms) };
        let turn_ms = turn_ms.min(now_ms + AHEAD_MAX_MS);
        self.free_ms = turn_ms + owed * 1000 / rate;
        if self.given.len() >= TURNS_MAX {
            self.given.clear();
        }
        self.given.insert(node.clone(), turn_ms);
        turn_ms
    }
}

fn quiet(events_ms: u64, rest_ms: u64) -> Vec<Quiet> {
    let classes = [(Class::Event, events_ms), (Class::Metric, rest_ms), (Class::Raw, rest_ms)];
    classes.into_iter().filter(|(_, ms)| *ms > 0).map(|(class, ms)| Quiet { class, ms }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Load = Load { nodes: 10_000, queue_percent: 0 };

    fn name(n: u64) -> NodeId {
        NodeId::new(&format!("n{n}")).unwrap()
    }

    fn waits(quiet: &[Quiet]) -> (u64, u64) {
        let of = |class| quiet.iter().find(|quiet| quiet.class == class).map_or(0, |quiet| quiet.ms);
        assert_eq!(of(Class::Metric), of(Class::Raw));
        assert_eq!(of(Class::Audit), 0);
        (of(Class::Event), of(Class::Metric))
    }

    #[test]
    fn when_to_come_again() {
        #[track_caller]
        fn check(configured_ms: u64, nodes: u64, queue_percent: u64, expected: u64) {
            assert_eq!(next_ms(configured_ms, nodes, queue_percent), expected);
        }
        check(10_000, 0, 0, 10_000);
        check(10_000, 2_000, 0, 10_000);
        check(10_000, 10_000, 0, 50_000);
        check(10_000, 10_000, 30, 100_000);
        check(10_000, 10_000, 90, 200_000);
        check(10_000, 1_000_000, 90, 300_000);
        check(600_000, 1, 90, 600_000);
        check(10_000, u64::MAX, 100, 300_000);
        assert_eq!(
            (next_for(300_000, true), next_for(300_000, false), next_for(10_000, true)),
            (60_000, 300_000, 10_000)
        );
    }

    #[test]
    fn a_node_alone_never_waits_however_much_it_has() {
        let mut turns = Turns::default();
        assert_eq!(turns.quiet(&name(1), 90_000, CALM, 1000), []);
        assert_eq!(turns.quiet(&name(1), 60_000, CALM, 61_000), [], "it goes on");
        assert_eq!(turns.quiet(&name(2), 3, CALM, 61_000), [], "who is up to date is not held up by others");
    }

    /// A fleet that comes back within a minute: turns follow each other at the pace of the hub, after all have been there.
    #[test]
    fn a_fleet_that_comes_back_gets_turns() {
        let mut turns = Turns::default();
        let mut begins = Vec::new();
        for n in 0..10_000 {
            let now_ms = n * 6;
            let (events_ms, rest_ms) = waits(&turns.quiet(&name(n), 180, CALM, now_ms));
            assert_eq!(events_ms, rest_ms.min(15_000));
            begins.push(now_ms + rest_ms);
        }
        let at_once = begins.iter().filter(|begin| **begin < 50_000).count();
        assert!(at_once < 100, "{at_once} go while others still arrive");
        let last = begins.iter().max().unwrap();
        assert!((600_000..700_000).contains(last), "1.8 million records at 3000/s: {last}");
        for second in 51..600 {
            let of_second = begins.iter().filter(|begin| *begin / 1000 == second).count();
            assert!(of_second <= 17, "{of_second} begin in second {second}");
        }
        // Asked again, a node has the turn that it had; once it has told all, none.
        let later = waits(&turns.quiet(&name(9000), 180, CALM, 120_000)).1;
        assert_eq!(120_000 + later, begins[9000]);
        assert_eq!(turns.quiet(&name(9000), 0, CALM, 130_000), []);
    }

    #[test]
    fn nobody_makes_others_wait_by_lies() {
        let mut turns = Turns::default();
        for now_ms in [0, 1000, 60_000] {
            turns.quiet(&name(1), u64::MAX, CALM, now_ms);
        }
        let wait_ms = waits(&turns.quiet(&name(2), 1000, CALM, 60_000)).1;
        assert!(wait_ms <= 60_000, "{wait_ms}");
        let crowd = (0..1000).map(|n| waits(&turns.quiet(&name(n), u64::MAX, CALM, 60_000)).1).max();
        assert!(crowd.unwrap() <= AHEAD_MAX_MS);
    }

    #[test]
    fn a_full_queue_quietens_what_can_wait() {
        let full = Load { nodes: 10, queue_percent: 60 };
        assert_eq!(waits(&Turns::default().quiet(&name(1), 3, full, 0)), (0, 15_000));
    }
}
