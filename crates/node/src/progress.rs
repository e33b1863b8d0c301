//! Whether the threads of the node get anywhere: each says so whenever it goes round, and what it has not said for too long is
//! stuck. The watchdog is fed by this, not by a timer: a node that only looks alive is started anew.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wire::world::MonoNs;

/// A thread whose standing still is the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Thinks, and owns the journal.
    Agent,
    /// The local API and the uplink.
    Io,
    /// The slots.
    Install,
}

impl Thread {
    /// All of them.
    pub const ALL: [Thread; 3] = [Thread::Agent, Thread::Io, Thread::Install];

    /// Its name, as the system lists it.
    pub fn as_str(self) -> &'static str {
        match self {
            Thread::Agent => "agent",
            Thread::Io => "io",
            Thread::Install => "install",
        }
    }

    /// It says that it goes round every second or so; after so long without, it is stuck. A slow disk holds the agent up in a
    /// commit, and the slots look through gigabytes.
    pub fn patience(self) -> Duration {
        match self {
            Thread::Agent | Thread::Io => Duration::from_secs(45),
            Thread::Install => Duration::from_secs(600),
        }
    }
}

/// When each thread last went round.
#[derive(Debug, Default)]
pub struct Progress {
    /// In the order of [`Thread::ALL`]; 0: it does not run.
    beats: [AtomicU64; 3],
}

/// A thread that gets nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub thread: Thread,
    /// For how long.
    pub silent: Duration,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the thread {} has not gone round for {} s", self.thread.as_str(), self.silent.as_secs())
    }
}

impl Progress {
    /// A thread went round.
    pub fn beat(&self, thread: Thread, now_ns: MonoNs) {
        self.beats[thread as usize].store(now_ns.max(1), Relaxed);
    }

    /// A thread has ended as it should; nobody waits for it any more.
    pub fn ended(&self, thread: Thread) {
        self.beats[thread as usize].store(0, Relaxed);
    }

    /// Which threads are stuck.
    pub fn stuck(&self, now_ns: MonoNs) -> Vec<Stuck> {
        let look = |thread: Thread| {
            let beat_ns = self.beats[thread as usize].load(Relaxed);
            let silent = Duration::from_nanos(now_ns.saturating_sub(beat_ns));
            (beat_ns != 0 && silent > thread.patience()).then_some(Stuck { thread, silent })
        };
        Thread::ALL.into_iter().filter_map(look).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_go_round_is_stuck_and_who_has_ended_is_not() {
        let (progress, second) = (Progress::default(), 1_000_000_000);
        assert_eq!(progress.stuck(u64::MAX), [], "none runs yet");
        progress.beat(Thread::Agent, 0);
        progress.beat(Thread::Io, 30 * second);
        assert_eq!(progress.stuck(40 * second), []);
        let stuck = progress.stuck(60 * second + 1);
        assert_eq!(stuck.len(), 1);
        assert_eq!(stuck[0].to_string(), "the thread agent has not gone round for 60 s");
        progress.ended(Thread::Agent);
        assert_eq!(progress.stuck(60 * second), []);
        assert_eq!(progress.stuck(91 * second)[0].thread, Thread::Io);
    }
}
