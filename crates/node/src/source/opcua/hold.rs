//! Makes readings of what a subscription reports.
//!
//! A subscription tells what changed, and at each interval that nothing did: a value holds until the server says otherwise. So each
//! message is a reading of all channels, the changed ones with their new values and the others as they were. Several values of
//! one channel in one message (the connection was slow) are as many readings.
//!
//! A reading's time is that of the newest value that changed. Values may be older than what is known by then: a variable that a server
//! tells of for the first time has the time of its last change. So a value's own time counts up to `OLD_MS` behind the server's
//! clock; and where a message brings nothing newer, time goes on as the server's clock does from message to message.

use wire::world::{MonoNs, WallMs};

use crate::source::moment::moment;
use crate::source::queue::Batch;

/// A value that is older than this when it is told of says nothing about now.
const OLD_MS: i64 = 60_000;

/// When a message came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    /// By the server's clock, if it says so.
    pub(super) server_ms: Option<WallMs>,
    /// By the node's clock.
    pub(super) wall_ms: WallMs,
    /// By the node's monotonic clock.
    pub(super) mono_ns: MonoNs,
}

/// A value of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// Its place.
    pub(super) channel: usize,
    /// NaN where there is none.
    pub(super) value: f64,
    /// When it became so, by its source.
    pub(super) source_ms: Option<WallMs>,
}

/// What is known of each channel.
#[derive(Debug)]
pub(super) struct Hold {
    row: Vec<f64>,
    changed: Vec<bool>,
    /// The newest time of the reading under way.
    newest: Option<WallMs>,
    /// Something was told by this subscription.
    told: bool,
    last: Option<(WallMs, Came)>,
}

impl Hold {
    /// For so many channels.
    pub(super) fn new(channels: usize) -> Hold {
        let (row, changed) = (vec![f64::NAN; channels], vec![false; channels]);
        Hold { row, changed, newest: None, told: false, last: None }
    }

    /// Begins anew with another subscription: nothing is known. Time goes on.
    pub(super) fn begin(&mut self) {
        self.row.fill(f64::NAN);
        self.changed.fill(false);
        (self.newest, self.told) = (None, false);
    }

    /// Takes a message: what changed, in any order. Gives readings to `batch`, and whether a clock was not believed.
    pub(super) fn message(&mut self, mut changes: Vec<Change>, came: Came, batch: &mut Batch) -> bool {
        // By time, since a server may list a variable's values one behind the other.
        changes.sort_by_key(|change| change.source_ms.or(came.server_ms).unwrap_or(came.wall_ms));
        let mut misdated = false;
        for Change { channel, value, source_ms } in changes {
            if self.changed[channel] {
                misdated |= self.close(came, batch);
            }
            (self.row[channel], self.changed[channel]) = (value, true);
            self.newest = self.newest.max(source_ms);
        }
        self.told |= self.changed.contains(&true);
        // Before anything was told there is nothing that could hold.
        self.told && (self.close(came, batch) | misdated)
    }

    fn close(&mut self, came: Came, batch: &mut Batch) -> bool {
        let newest = self.newest.take();
        let any = self.changed.contains(&true);
        self.changed.fill(false);
        let current = match (newest, came.server_ms) {
            (Some(source_ms), Some(server_ms)) if server_ms.saturating_sub(source_ms) > OLD_MS => {
                Some(server_ms)
            }
            (newest, server_ms) => newest.or(server_ms),
        };
        let (mut t_ms, misdated) = moment(current, came.wall_ms);
        if let Some((last_ms, last)) = self.last {
            // A longer step back is a clock that was set.
            let is_behind = (0..=OLD_MS).contains(&last_ms.saturating_sub(t_ms));
            if is_behind || !any {
                t_ms = last_ms.saturating_add(passed_ms(last, came));
            }
        }
        self.last = Some((t_ms, came));
        batch.t_ms.push(t_ms);
        batch.values.extend_from_slice(&self.row);
        misdated
    }
}

/// How much later a message came than another, at least 1 ms: by the server's clock, which does not know what delayed them on their way,
/// unless it was set in between.
fn passed_ms(before: Came, after: Came) -> i64 {
    let here = (after.mono_ns.saturating_sub(before.mono_ns) / 1_000_000) as i64;
    let there = before.server_ms.zip(after.server_ms).map(|(before, after)| after.saturating_sub(before));
    there.filter(|there| (1..=here + OLD_MS).contains(there)).unwrap_or(here.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day in 2026.
    const DAY: WallMs = 1_790_000_000_000;

    fn at(ms: i64) -> Came {
        Came { server_ms: Some(DAY + ms), wall_ms: DAY + ms + 40, mono_ns: 1_000_000 * (ms as u64 + 7) }
    }

    fn change(channel: usize, value: f64, ms: i64) -> Change {
        Change { channel, value, source_ms: Some(DAY + ms) }
    }

    /// Plays messages; gives each reading as its time and values.
    fn play(messages: &[(i64, &[Change])]) -> Vec<(i64, String)> {
        let (mut hold, mut batch) = (Hold::new(2), Batch::default());
        for (ms, changes) in messages {
            hold.message(changes.to_vec(), at(*ms), &mut batch);
        }
        shown(&batch)
    }

    fn shown(batch: &Batch) -> Vec<(i64, String)> {
        batch
            .t_ms
            .iter()
            .zip(batch.values.chunks(2))
            .map(|(t_ms, row)| (t_ms - DAY, format!("{row:?}")))
            .collect()
    }

    fn check(messages: &[(i64, &[Change])], expected: &[(i64, &str)]) {
        let expected: Vec<(i64, String)> =
            expected.iter().map(|(ms, row)| (*ms, (*row).to_owned())).collect();
        assert_eq!(play(messages), expected);
    }

    #[test]
    fn what_does_not_change_holds() {
        check(
            &[
                (0, &[]),
                (1_000, &[change(0, 1.0, 990), change(1, 5.0, 995)]),
                (2_000, &[change(0, 2.0, 1_990)]),
                (3_000, &[]),
                (4_000, &[change(1, f64::NAN, 3_990)]),
                (5_000, &[]),
            ],
            &[
                (995, "[1.0, 5.0]"),
                (1_990, "[2.0, 5.0]"),
                (2_990, "[2.0, 5.0]"),
                (3_990, "[2.0, NaN]"),
                (4_990, "[2.0, NaN]"),
            ],
        );
    }

    #[test]
    fn several_values_of_a_channel_are_several_readings() {
        let late = [
            change(0, 1.0, 10),
            change(0, 2.0, 20),
            change(0, 3.0, 30),
            change(1, 7.0, 9),
            change(1, 8.0, 31),
        ];
        check(&[(1_000, &late)], &[(10, "[1.0, 7.0]"), (20, "[2.0, 7.0]"), (31, "[3.0, 8.0]")]);
    }

    #[test]
    fn an_old_value_is_one_that_holds() {
        let days = 3 * 86_400_000;
        check(
            &[
                (1_000, &[change(0, 1.0, -days), change(1, 5.0, -days)]),
                // A setting that somebody changed a while ago, told of late.
                (2_000, &[change(0, 2.0, 500)]),
                (3_000, &[change(1, 6.0, 2_995)]),
            ],
            &[(1_000, "[1.0, 5.0]"), (2_000, "[2.0, 5.0]"), (2_995, "[2.0, 6.0]")],
        );
    }

    #[test]
    fn time_goes_on_over_subscriptions_and_back_when_a_clock_is_set() {
        let (mut hold, mut batch) = (Hold::new(2), Batch::default());
        hold.message(vec![change(0, 1.0, 1_000), change(1, 1.0, 1_000)], at(1_000), &mut batch);
        hold.begin();
        assert!(!hold.message(Vec::new(), at(1_500), &mut batch), "nothing is known of the new one yet");
        hold.message(vec![change(0, 2.0, 900)], at(2_000), &mut batch);
        // The server's clock is set back by an hour.
        let back = Came { server_ms: Some(DAY - 3_600_000 + 3_000), ..at(3_000) };
        hold.message(vec![change(0, 3.0, -3_600_000 + 2_990)], back, &mut batch);
        let rows = [(1_000, "[1.0, 1.0]"), (2_000, "[2.0, NaN]"), (-3_597_010, "[3.0, NaN]")];
        assert_eq!(shown(&batch), rows.map(|(ms, row)| (ms, row.to_owned())));
    }

    #[test]
    fn a_clock_that_nobody_believes() {
        let (mut hold, mut batch) = (Hold::new(1), Batch::default());
        let came = Came { server_ms: Some(5_000), ..at(1_000) };
        let change = Change { channel: 0, value: 1.0, source_ms: Some(4_000) };
        assert!(hold.message(vec![change], came, &mut batch), "1970");
        assert_eq!(batch.t_ms, [DAY + 1_040], "the time of its arrival");
        let later = Came { server_ms: Some(6_000), ..at(2_000) };
        hold.message(Vec::new(), later, &mut batch);
        assert_eq!(batch.t_ms[1], DAY + 2_040);
    }
}
