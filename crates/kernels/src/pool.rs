//! Threads that share a piece of work in small chunks and do not collapse when a core is taken.
//!
//! The caller works too. Each thread has a run of neighbouring chunks, which it claims one by one, so that it reads memory in
//! order; when its own are done it claims from the runs of others. So a thread that loses its core keeps back at most the
//! chunk it is in, and a thread that never woke up keeps back nothing: the caller does not wait for it. Threads take no part
//! while other processes need their core (`balance`). Idle threads look for work for some microseconds, then sleep. A panic
//! in a chunk comes out of the caller. Work inside work runs where it stands.

#![allow(unsafe_code, reason = "a borrowed piece of work is handed to threads that outlive it")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::pool::balance::{Account, Balance};

mod balance;
pub mod cores;
pub mod tiles;

/// How often a thread looks for work (or for the end of it) before it sleeps: about 20 µs on a processor of 2023, the
/// distance between two matrices of a small model.
const LOOKS: usize = 1500;

thread_local! {
    /// Whether this thread is inside a chunk of some pool.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads that stay, and share what [`Pool::run`] is given.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held while a job runs: callers wait for their turn.
    turn: Mutex<Turn>,
}

/// What is known from the jobs before.
#[derive(Debug)]
struct Turn {
    balance: Balance,
    began: Instant,
}

#[derive(Debug)]
struct Worker {
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

/// What workers and caller see of the job at hand.
///
/// `door` holds whether the job is open (the lowest bit) and twice the number of workers inside. The job is written only
/// while the door is shut and nobody is inside, and read only from inside.
#[derive(Debug)]
struct Shared {
    door: AtomicUsize,
    job: UnsafeCell<Job>,
    /// For each thread, the caller's first: the next chunk of its run.
    next: Vec<Next>,
    /// Counts the jobs, so that a worker that found one exhausted does not enter it again.
    job_number: AtomicUsize,
    /// How many workers take part.
    active: AtomicUsize,
    asleep: Vec<AtomicBool>,
    stopping: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Alone on its lines of the cache: each thread counts for itself most of the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Next(AtomicUsize);

struct Job {
    work: Work<'static>,
    chunks: usize,
    caller: Option<Thread>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Job").field("chunks", &self.chunks).finish_non_exhaustive()
    }
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written by the holder of `Pool::turn` while the door
// is shut with nobody inside, and read by the workers that entered through the door afterwards (acquire on what the writer
// released), who are out again before it is written next. The work in it is `Sync`, the caller's handle too.
unsafe impl Sync for Shared {}

const OPEN: usize = 1;
const ONE_INSIDE: usize = 2;

impl Pool {
    /// This many threads, the calling one included. Fewer if the system gives no more.
    pub fn new(threads: NonZeroUsize) -> Pool {
        let wanted = threads.get() - 1;
        let shared = Arc::new(Shared {
            door: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { work: &|_| {}, chunks: 0, caller: None }),
            next: (0..=wanted).map(|_| Next::default()).collect(),
            job_number: AtomicUsize::new(0),
            active: AtomicUsize::new(wanted),
            asleep: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
            stopping: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut workers = Vec::with_capacity(wanted);
        for index in 0..wanted {
            let shared = Arc::clone(&shared);
            let name = format!("kernels-{}", index + 1);
            let Ok(join) = thread::Builder::new().name(name).spawn(move || shared.serve(index)) else {
                break;
            };
            workers.push(Worker { thread: join.thread().clone(), join: Some(join) });
        }
        let turn = Turn { balance: Balance::new(workers.len()), began: now() };
        Pool { shared, workers, turn: Mutex::new(turn) }
    }

    /// How many threads work, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once with each number below `chunks`, on all threads, and returns when all calls have returned.
    ///
    /// Inside a chunk (of any pool) the numbers are called one after the other.
    ///
    /// # Panics
    /// If a chunk panics; what was not begun by then is left out.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || chunks <= 1 || INSIDE.get() {
            (0..chunks).for_each(work);
            return;
        }
        let mut turn = locked(&self.turn);
        let active = turn.balance.active();
        let began = now();
        // SAFETY: only the lifetime changes. Nobody but workers inside the door calls the work, and this function returns
        // only when the door is shut and nobody is inside, so nobody has it after that.
        let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        let job = Job { work, chunks, caller: Some(thread::current()) };
        // SAFETY: the turn is ours and the last job ended with the door shut and nobody inside, so nobody reads the job.
        unsafe { *self.shared.job.get() = job };
        for (run, next) in self.shared.next.iter().enumerate() {
            next.0.store(self.shared.run_of(run, chunks).start, Ordering::Relaxed);
        }
        self.shared.active.store(active, Ordering::Relaxed);
        self.shared.job_number.fetch_add(1, Ordering::Relaxed);
        self.shared.door.store(OPEN, Ordering::Release);
        // Orders the opened door before the looks at who sleeps; a worker that falls asleep does the reverse.
        fence(Ordering::SeqCst);
        let wanted = active.min(chunks - 1);
        for (worker, asleep) in self.workers.iter().zip(&self.shared.asleep).take(wanted) {
            if asleep.swap(false, Ordering::Relaxed) {
                worker.thread.unpark();
            }
        }
        let (own, longest) = self.shared.chunks(0, chunks, work);
        let done = now();
        self.shared.door.fetch_and(!OPEN, Ordering::AcqRel);
        wait(|| self.shared.door.load(Ordering::Acquire) == 0);
        let account = Account {
            working: done - began,
            chunks: own,
            fair: chunks / (active + 1),
            longest,
            waiting: done.elapsed(),
        };
        let since = began - turn.began;
        turn.balance.note(account, since);
        turn.began = began;
        let panic = locked(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(join) = worker.join.take() {
                // A worker catches what chunks throw, so it cannot end with a panic.
                let _ = join.join();
            }
        }
    }
}

impl Shared {
    /// The life of a worker: look for a job, enter, work, leave.
    fn serve(&self, index: usize) {
        let mut done = 0;
        loop {
            let mut looks = 0;
            while !self.has_news(index, done) {
                looks += 1;
                if looks < LOOKS {
                    std::hint::spin_loop();
                    continue;
                }
                self.asleep[index].store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                if !self.has_news(index, done) {
                    thread::park();
                }
                self.asleep[index].store(false, Ordering::Relaxed);
                looks = 0;
            }
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Some(number) = self.enter() {
                done = number;
                // SAFETY: inside the door the job is not written.
                let job = unsafe { &*self.job.get() };
                self.chunks(index + 1, job.chunks, job.work);
                let caller = job.caller.clone();
                // The last one out of a shut door wakes the caller, who may sleep.
                if self.door.fetch_sub(ONE_INSIDE, Ordering::AcqRel) == ONE_INSIDE
                    && let Some(caller) = caller
                {
                    caller.unpark();
                }
            }
        }
    }

    fn has_news(&self, index: usize, done: usize) -> bool {
        let open = self.door.load(Ordering::Acquire) & OPEN != 0;
        let ours = || index < self.active.load(Ordering::Relaxed);
        (open && self.job_number.load(Ordering::Relaxed) != done && ours())
            || self.stopping.load(Ordering::SeqCst)
    }

    /// Goes in if the door is open; gives the job's number.
    fn enter(&self) -> Option<usize> {
        let inside = |door: usize| (door & OPEN != 0).then_some(door + ONE_INSIDE);
        self.door.fetch_update(Ordering::Acquire, Ordering::Relaxed, inside).ok()?;
        Some(self.job_number.load(Ordering::Relaxed))
    }

    /// The chunks that a thread begins with.
    fn run_of(&self, thread: usize, chunks: usize) -> Range<usize> {
        let threads = self.next.len();
        let each = chunks / threads;
        let more = chunks % threads;
        let start = thread * each + thread.min(more);
        start..start + each + usize::from(thread < more)
    }

    /// Claims and does chunks until none is left, its own first; gives how many, and how long the longest took. What a chunk
    /// throws is kept for the caller, and nothing more is begun.
    fn chunks(&self, thread: usize, chunks: usize, work: Work<'_>) -> (usize, Duration) {
        INSIDE.set(true);
        let mut count = 0;
        let mut longest = Duration::ZERO;
        let mut last = now();
        let all = AssertUnwindSafe(|| {
            let threads = self.next.len();
            for run in (thread..threads).chain(0..thread) {
                let end = self.run_of(run, chunks).end;
                loop {
                    let chunk = self.next[run].0.fetch_add(1, Ordering::Relaxed);
                    if chunk >= end {
                        break;
                    }
                    work(chunk);
                    count += 1;
                    let done = now();
                    longest = longest.max(done - last);
                    last = done;
                }
            }
        });
        if let Err(panic) = catch_unwind(all) {
            for next in &self.next {
                next.0.store(chunks, Ordering::Relaxed);
            }
            locked(&self.panic).get_or_insert(panic);
        }
        INSIDE.set(false);
        (count, longest)
    }
}

/// The time, to judge by what waiting costs; no result depends on it.
#[expect(clippy::disallowed_methods, reason = "how many threads take part changes no bit of any result")]
fn now() -> Instant {
    Instant::now()
}

/// Looks for a while, then sleeps until it is so.
fn wait(is_so: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        std::hint::spin_loop();
    }
    while !is_so() {
        thread::park();
    }
}

/// The lock, also after a panic: what it guards is whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
