//! How many threads are worth having: where another process has taken a core, fewer are faster.
//!
//! A thread that loses its core in the middle of a chunk keeps everyone waiting until it gets the core back, some
//! milliseconds later. Where that costs more than the thread brings, work goes on with one thread fewer, which leaves the
//! other process a core to itself; now and then the thread is tried again.

use std::time::Duration;

/// Work after which the threads are judged: several slices of a scheduler.
const WINDOW: Duration = Duration::from_millis(16);

/// How long a thread is left out, the first time and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(3200)];

/// Where the time of a job went, seen from the thread that called.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// On its own chunks.
    pub(super) working: Duration,
    /// How many they were.
    pub(super) chunks: usize,
    /// On waiting for the others.
    pub(super) waiting: Duration,
}

/// How many workers take part, besides the calling thread.
#[derive(Debug)]
pub(super) struct Balance {
    workers: usize,
    active: usize,
    worked: Duration,
    /// Of that, waiting for longer than a chunk explains.
    lost: Duration,
    /// In how many jobs.
    losses: u32,
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
        let Account { working, chunks, waiting } = account;
        self.paused = self.paused.saturating_sub(since);
        if self.active < self.workers && self.paused.is_zero() {
            self.active += 1;
            self.paused = self.pause;
            return self.begin_window();
        }
        // The last chunk of another may have begun when the caller's did, and be the largest.
        let explained = working * 2 / u32::try_from(chunks.max(1)).unwrap_or(u32::MAX);
        self.worked += working + waiting;
        let lost = waiting.saturating_sub(explained);
        self.lost += lost;
        self.losses += u32::from(lost > explained);
        if self.worked < WINDOW {
            return;
        }
        // With `a` workers, what one of them does is worth `1 / (a + 1)` of the time. The calling thread loses its core about
        // as often, unseen, so that half of it decides; and once may be chance.
        let too_much = self.losses > 1 && 2 * self.lost * (self.active as u32 + 1) > self.worked;
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
        (self.worked, self.lost, self.losses) = (Duration::ZERO, Duration::ZERO, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Balance};
    use std::time::Duration;

    const SMOOTH: Account =
        Account { working: Duration::from_micros(400), chunks: 10, waiting: Duration::from_micros(30) };
    const STALLED: Account = Account { waiting: Duration::from_millis(3), ..SMOOTH };

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
        for _ in 0..40_000 {
            let account = if balance.active() == 1 { STALLED } else { SMOOTH };
            with += balance.active();
            run(&mut balance, account, 1);
        }
        // Some seventeen seconds: the thread is tried for a window each time, ever more seldom.
        assert!((20..200).contains(&with), "{with}");
        run(&mut balance, SMOOTH, 10_000);
        assert_eq!(balance.active(), 1);
    }
}
