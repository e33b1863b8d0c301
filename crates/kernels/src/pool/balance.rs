//! How many threads are worth having: where another process has taken a core, fewer are faster.
//!
//! A thread that loses its core in the middle of a chunk keeps everyone waiting until it gets the core back, some
//! milliseconds later. Where that costs more than the thread brings, work goes on with one thread fewer, which leaves the
//! other process a core to itself; now and then the thread is tried again.

use std::time::Duration;

/// Work after which the threads are judged: several slices of a scheduler.
const WINDOW: Duration = Duration::from_millis(16);

/// What a scheduler gives another process at least, once it has the core.
const SLICE: Duration = Duration::from_micros(300);

/// How long a thread is left out, the first time and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(3200)];

/// Where the time of a job went, seen from the thread that called.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// On its own chunks.
    pub(super) working: Duration,
    /// How many they were.
    pub(super) chunks: usize,
    /// How many would be its part.
    pub(super) fair: usize,
    /// Of working, on the longest of them.
    pub(super) longest: Duration,
    /// On waiting for the others.
    pub(super) waiting: Duration,
}

impl Account {
    /// Waiting that chunks do not explain: the last chunk of another may have begun when the caller's did, and be the largest.
    fn waited(&self) -> Duration {
        self.waiting.saturating_sub(2 * self.working / count(self.chunks))
    }

    /// How long the caller itself had lost its core: all the time, if others did most of its part, which they take only when
    /// theirs is done; or its longest chunk beyond what the others took.
    fn absent(&self) -> Duration {
        if self.fair > 1 && 2 * self.chunks < self.fair {
            return self.working;
        }
        let others = (self.working - self.longest) / count(self.chunks.saturating_sub(1));
        let beyond = self.longest.saturating_sub(4 * others);
        if self.chunks < 2 || beyond < SLICE { Duration::ZERO } else { beyond }
    }
}

fn count(chunks: usize) -> u32 {
    u32::try_from(chunks.max(1)).unwrap_or(u32::MAX)
}

/// How many workers take part, besides the calling thread.
#[derive(Debug)]
pub(super) struct Balance {
    workers: usize,
    active: usize,
    worked: Duration,
    /// Of that, waiting or working for longer than chunks explain.
    lost: Duration,
    /// In how many jobs.
    losses: u32,
    /// The window is the first after a pause.
    trying: bool,
    pause: Duration,
    /// What is left of a pause.
    paused: Duration,
}

impl Balance {
    /// All of so many workers take part.
    pub(super) fn new(workers: usize) -> Balance {
        let nothing = Duration::ZERO;
        Balance {
            workers,
            active: workers,
            worked: nothing,
            lost: nothing,
            losses: 0,
            trying: false,
            pause: PAUSES[0],
            paused: nothing,
        }
    }

    /// How many workers take part now.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Takes note of a job; `since`: how long ago the one before it began.
    pub(super) fn note(&mut self, account: Account, since: Duration) {
        self.paused = self.paused.saturating_sub(since);
        if self.active < self.workers && self.paused.is_zero() {
            self.active += 1;
            self.paused = self.pause;
            self.begin_window();
            self.trying = true;
            return;
        }
        let (waited, absent) = (account.waited(), account.absent());
        self.worked += account.working + account.waiting;
        self.lost += waited + absent;
        self.losses += u32::from(waited > SLICE || !absent.is_zero());
        if self.worked < WINDOW {
            return;
        }
        // Reading memory, a thread more is worth far less than its share: half of that decides. Once may be chance, but not when
        // it has just been so.
        let too_often = self.losses > 1 || self.losses == 1 && self.trying;
        let too_much = too_often && 2 * self.lost * (self.active as u32 + 1) > self.worked;
        if self.active > 0 && too_much {
            self.active -= 1;
            self.paused = self.pause;
            self.pause = (2 * self.pause).min(PAUSES[1]);
        } else if self.active == self.workers {
            self.pause = (self.pause / 2).max(PAUSES[0]);
        }
        self.begin_window();
    }

    fn begin_window(&mut self) {
        (self.worked, self.lost, self.losses, self.trying) = (Duration::ZERO, Duration::ZERO, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Balance};
    use std::time::Duration;

    const SMOOTH: Account = Account {
        working: MOMENT,
        chunks: 10,
        fair: 12,
        longest: Duration::from_micros(60),
        waiting: Duration::from_micros(30),
    };
    const MOMENT: Duration = Duration::from_micros(400);
    /// Another thread has lost its core.
    const STALLED: Account = Account { waiting: Duration::from_millis(3), ..SMOOTH };
    /// Another has done the caller's part.
    const ABSENT: Account = Account { chunks: 0, longest: Duration::ZERO, ..SMOOTH };
    /// The caller has lost its core.
    const STALLING: Account =
        Account { working: Duration::from_millis(3), longest: Duration::from_micros(2600), ..SMOOTH };

    fn run(balance: &mut Balance, account: Account, jobs: usize) {
        for _ in 0..jobs {
            balance.note(account, account.working + account.waiting);
        }
    }

    #[test]
    fn a_thread_that_keeps_others_waiting_is_left_out_for_a_while() {
        let mut balance = Balance::new(3);
        run(&mut balance, SMOOTH, 1000);
        assert_eq!(balance.active(), 3);
        let jobs = (0..100).take_while(|_| {
            run(&mut balance, STALLED, 1);
            balance.active() == 3
        });
        assert!((1..10).contains(&jobs.count()), "it takes more than one");
        // Smooth again: it comes back, and stays.
        run(&mut balance, SMOOTH, 600);
        assert_eq!(balance.active(), 3);
        run(&mut balance, SMOOTH, 3000);
        assert_eq!(balance.active(), 3);
    }

    #[test]
    fn where_a_core_stays_taken_the_pauses_grow() {
        let mut balance = Balance::new(1);
        let mut with = 0;
        for job in 0..40_000 {
            let stalled = [STALLED, STALLING, ABSENT][job % 3];
            let account = if balance.active() == 1 { stalled } else { SMOOTH };
            with += balance.active();
            run(&mut balance, account, 1);
        }
        // Some seventeen seconds: the thread is tried for a window each time, ever more seldom.
        assert!((20..200).contains(&with), "{with}");
        run(&mut balance, SMOOTH, 10_000);
        assert_eq!(balance.active(), 1);
    }
}
