//! The way from the sources to the pipeline: one queue, in which each source may have only so much waiting.
//!
//! A source that brings more than the pipeline takes waits ([`Inlet::send`]) or is told to come again
//! ([`Inlet::offer`]). Because each has an allowance of its own, a fast source cannot keep a slow one out.
//!
//! A picture is no batch: it is large, and an old one is worth little. Of each source at most one waits, and a newer one takes its
//! place ([`Inlet::show`]); what was displaced is counted in the one that displaced it. A source whose pictures must all be
//! looked at waits its turn ([`Inlet::show_in_turn`]); of such pictures a few may wait, for networks that look at several together.
//!
//! A source that has to acknowledge what it brings looks at [`Inlet::settled`]: so many of its readings are in the
//! journal, or given up there with a record that says so. One that does with it what cannot be taken back looks at
//! [`Inlet::durable`]: so many outlive a power cut, too. When the node stops, or goes on without the source, both are known to the
//! end ([`Inlet::leave`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wire::body::PartChange;
use wire::world::{Clock, MonoNs, WallMs};

use super::frame::Frame;

/// Cells that one source may have waiting: half a megabyte of numbers.
pub const ALLOWANCE_CELLS: usize = 1 << 16;
/// Pictures that wait their turn, beside the first, have at most so many bytes together.
const TURN_BYTES: usize = 64 << 20;
/// Events that are taken out of the queue before their turn, at most.
const AHEAD_EVENTS: usize = 1_024;

/// A run of readings of one source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The source's own time of each reading. Shape: `[readings]`.
    pub t_ms: Vec<WallMs>,
    /// Shape: `[readings, channels]`, row-major; NaN where there is no value.
    pub values: Vec<f64>,
}

impl Batch {
    /// What it counts against the allowance.
    fn cells(&self) -> usize {
        self.t_ms.len() + self.values.len()
    }
}

/// What comes from a source.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its channels are known; readings follow.
    Opened {
        /// The channels.
        channels: Vec<String>,
    },
    /// Readings.
    Batch(Batch),
    /// A picture waits: [`Outlet::frame`] has the newest.
    Look,
    /// Whoever sent the readings waits for them to be settled, and sends no more until they are.
    Settle,
    /// Whoever sent the readings waits for them to be durable.
    Secure,
    /// It is in another state now.
    State {
        /// Which.
        state: SourceState,
        /// Why, in words.
        reason: String,
    },
    /// Another part of the node has something to remember; its `source` means nothing.
    Part(PartChange),
    /// Nothing: the node shall look whether it should stop, or has something to write down.
    Wake,
}

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Nothing has come yet.
    Waiting,
    /// Readings come.
    Running,
    /// It failed, and is tried again.
    Failed,
    /// It came to its end.
    Ended,
}

impl SourceState {
    /// The word used in records and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceState::Waiting => "waiting",
            SourceState::Running => "running",
            SourceState::Failed => "failed",
            SourceState::Ended => "ended",
        }
    }
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// The source's place in the flow.
    pub source: usize,
    /// When it came in, by the node's monotonic clock.
    pub arrived_ns: MonoNs,
    /// Rows and cells the source has refused since it was opened.
    pub refused: u64,
    /// What came.
    pub event: Event,
}

/// The node is stopping: no more readings are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Why an offer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too much is waiting.
    #[error("too many readings are waiting")]
    Full,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    cells: usize,
    frames: VecDeque<Arc<Frame>>,
}

impl Waiting {
    /// Bytes of the pictures that wait.
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.picture.rgb().len()).sum()
    }
}

/// What one source has waiting.
#[derive(Debug, Default)]
struct Allowance {
    waiting: Mutex<Waiting>,
    freed: Condvar,
    /// The same for a source that does not block.
    stirred: Notify,
    settled: AtomicU64,
    durable: AtomicU64,
    /// Pictures that may wait their turn; 0 and 1: one.
    turn: AtomicUsize,
    stopping: AtomicBool,
    /// Nothing more becomes of what it sent.
    closed: AtomicBool,
}

impl Allowance {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic in one source leaves a number and a picture behind, never half-made ones.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        // Under the lock, so that nobody looks before and waits after.
        let _waiting = self.lock();
        self.stopping.store(true, Relaxed);
        self.freed.notify_all();
        self.stirred.notify_one();
    }

    fn close(&self) {
        let _waiting = self.lock();
        self.closed.store(true, Relaxed);
        self.freed.notify_all();
        self.stirred.notify_one();
    }

    fn fits(used: usize, cells: usize) -> bool {
        // Something larger than the whole allowance passes when nothing else waits.
        used == 0 || used + cells <= ALLOWANCE_CELLS
    }
}

/// A source's end of the queue.
pub struct Inlet {
    source: usize,
    to: Sender<Arrival>,
    allowance: Arc<Allowance>,
    clock: Box<dyn Clock>,
    refused: u64,
    sent: u64,
}

impl Inlet {
    /// Waits for room, then hands over readings.
    pub fn send(&mut self, batch: Batch) -> Result<(), Stopped> {
        let cells = batch.cells();
        let mut waiting = self.allowance.lock();
        while !Allowance::fits(waiting.cells, cells) && !self.stopping() {
            waiting = self.allowance.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.cells += cells;
        drop(waiting);
        let readings = batch.t_ms.len() as u64;
        self.tell(Event::Batch(batch))?;
        self.sent += readings;
        Ok(())
    }

    /// Whether readings of so many cells (times and values) could be handed over now without waiting.
    pub fn has_room(&self, cells: usize) -> bool {
        Allowance::fits(self.allowance.lock().cells, cells)
    }

    /// Shows a picture. One that still waits is displaced, and counted in this one.
    pub fn show(&mut self, mut frame: Frame) -> Result<(), Stopped> {
        frame.arrived_ns = self.clock.mono_ns();
        let mut waiting = self.allowance.lock();
        if self.stopping() {
            return Err(Stopped);
        }
        let displaced = waiting.frames.pop_back();
        if let Some(old) = &displaced {
            frame.dropped = frame.dropped.saturating_add(old.dropped).saturating_add(1);
        }
        waiting.frames.push_back(Arc::new(frame));
        drop(waiting);
        // Whoever takes a picture has heard of it once.
        if displaced.is_none() { self.tell_of_picture() } else { Ok(()) }
    }

    /// Shows a picture once there is room for it: none is displaced.
    pub fn show_in_turn(&mut self, mut frame: Frame) -> Result<(), Stopped> {
        let bytes = frame.picture.rgb().len();
        let fits = |waiting: &Waiting, turn: usize| {
            let is_next = waiting.frames.len() < turn && waiting.bytes().saturating_add(bytes) <= TURN_BYTES;
            waiting.frames.is_empty() || is_next
        };
        let mut waiting = self.allowance.lock();
        while !fits(&waiting, self.allowance.turn.load(Relaxed)) && !self.stopping() {
            waiting = self.allowance.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if self.stopping() {
            return Err(Stopped);
        }
        frame.arrived_ns = self.clock.mono_ns();
        waiting.frames.push_back(Arc::new(frame));
        drop(waiting);
        self.tell_of_picture()
    }

    fn tell_of_picture(&mut self) -> Result<(), Stopped> {
        // What nobody hears of must not stay.
        self.tell(Event::Look).inspect_err(|_| drop(self.allowance.lock().frames.pop_back()))?;
        self.sent += 1;
        Ok(())
    }

    /// Readings handed over so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them, the first ones, are settled: in the journal, or given up there with a record that says so.
    pub fn settled(&self) -> u64 {
        self.allowance.settled.load(Relaxed)
    }

    /// How many of them, the first ones, are settled so that a power cut does not undo it.
    pub fn durable(&self) -> u64 {
        self.allowance.durable.load(Relaxed)
    }

    /// After [`Stopped`]: waits until all that was handed over is durable, or will never be.
    pub fn leave(&self) {
        let mut waiting = self.allowance.lock();
        while self.durable() < self.sent && !self.allowance.closed.load(Relaxed) {
            waiting = self.allowance.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Until there may be room, more may be settled, or the source shall stop.
    pub async fn stirred(&self) {
        self.allowance.stirred.notified().await;
    }

    /// Hands over readings if there is room.
    pub fn offer(&mut self, batch: Batch) -> Result<(), NotTaken> {
        let cells = batch.cells();
        let mut waiting = self.allowance.lock();
        if !Allowance::fits(waiting.cells, cells) {
            return Err(NotTaken::Full);
        }
        waiting.cells += cells;
        drop(waiting);
        let readings = batch.t_ms.len() as u64;
        self.tell(Event::Batch(batch)).map_err(|Stopped| NotTaken::Stopped)?;
        self.sent += readings;
        Ok(())
    }

    /// Says something that is not readings. Rare, so it needs no allowance.
    pub fn tell(&mut self, event: Event) -> Result<(), Stopped> {
        if self.stopping() {
            return Err(Stopped);
        }
        let arrived_ns = self.clock.mono_ns();
        let arrival = Arrival { source: self.source, arrived_ns, refused: self.refused, event };
        self.to.send(arrival).map_err(|_| Stopped)
    }

    /// Sets what the source has refused so far; it travels with the next event.
    pub fn set_refused(&mut self, refused: u64) {
        self.refused = refused;
    }

    /// Sleeps, unless the node stops.
    pub fn pause(&self, pause: Duration) -> Result<(), Stopped> {
        let waiting = self.allowance.lock();
        let (_waiting, _timed_out) = self
            .allowance
            .freed
            .wait_timeout_while(waiting, pause, |_| !self.stopping())
            .unwrap_or_else(PoisonError::into_inner);
        if self.stopping() { Err(Stopped) } else { Ok(()) }
    }

    /// The clock by which readings are paced.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether the source shall stop.
    pub fn stopping(&self) -> bool {
        self.allowance.stopping.load(Relaxed)
    }
}

/// What each source has waiting, by its number; a source that has left keeps its number.
type Allowances = Arc<Mutex<Vec<Arc<Allowance>>>>;

fn locked(allowances: &Allowances) -> MutexGuard<'_, Vec<Arc<Allowance>>> {
    // A list that only grows is whole at every step.
    allowances.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pipeline's end of the queue.
pub struct Outlet {
    from: Receiver<Arrival>,
    /// Taken out of the queue to be looked at, and still to be given.
    ahead: RefCell<VecDeque<Arrival>>,
    to: Sender<Arrival>,
    allowances: Allowances,
}

impl Outlet {
    /// A queue for `sources` sources.
    pub fn new(sources: usize) -> Outlet {
        let (to, from) = channel();
        let allowances = (0..sources).map(|_| Arc::default()).collect();
        Outlet { from, ahead: RefCell::default(), to, allowances: Arc::new(Mutex::new(allowances)) }
    }

    /// The end of source number `source`.
    pub fn inlet(&self, source: usize, clock: Box<dyn Clock>) -> Inlet {
        self.intake().inlet(source, clock)
    }

    /// A handle by which sources are added later.
    pub fn intake(&self) -> Intake {
        Intake { to: self.to.clone(), allowances: Arc::clone(&self.allowances) }
    }

    /// The next event, if one comes in time. It counts as waiting until [`Outlet::done`].
    pub fn next(&self, timeout: Duration) -> Option<Arrival> {
        let first = self.ahead.borrow_mut().pop_front();
        first.or_else(|| self.from.recv_timeout(timeout).ok())
    }

    /// The next event, if one is there.
    pub fn next_now(&self) -> Option<Arrival> {
        let first = self.ahead.borrow_mut().pop_front();
        first.or_else(|| self.from.try_recv().ok())
    }

    /// Shows the events that are there and were not given yet, in their order.
    pub fn waiting<T>(&self, look: impl FnOnce(&VecDeque<Arrival>) -> T) -> T {
        let mut ahead = self.ahead.borrow_mut();
        while ahead.len() < AHEAD_EVENTS
            && let Ok(arrival) = self.from.try_recv()
        {
            ahead.push_back(arrival);
        }
        look(&ahead)
    }

    /// Gives back the room an event took.
    pub fn done(&self, arrival: &Arrival) {
        if let Event::Batch(batch) = &arrival.event {
            let allowance = self.allowance(arrival.source);
            let mut waiting = allowance.lock();
            waiting.cells = waiting.cells.saturating_sub(batch.cells());
            drop(waiting);
            allowance.freed.notify_all();
            allowance.stirred.notify_one();
        }
    }

    /// The picture that waits of a source, after it said [`Event::Look`], the oldest if several do; there is room for the next one
    /// from here on.
    pub fn frame(&self, source: usize) -> Option<Arc<Frame>> {
        let allowance = self.allowance(source);
        let frame = allowance.lock().frames.pop_front();
        allowance.freed.notify_all();
        allowance.stirred.notify_one();
        frame
    }

    /// The pictures that wait of a source, the oldest first; they go on waiting.
    pub fn frames(&self, source: usize) -> Vec<Arc<Frame>> {
        self.allowance(source).lock().frames.iter().cloned().collect()
    }

    /// So many pictures of a source may wait their turn.
    pub fn let_wait(&self, source: usize, pictures: usize) {
        let allowance = self.allowance(source);
        if allowance.turn.load(Relaxed) != pictures {
            let _waiting = allowance.lock();
            allowance.turn.store(pictures, Relaxed);
            allowance.freed.notify_all();
        }
    }

    /// Tells a source how many of its readings are settled, since it was started, and whether they are durable.
    pub fn settle(&self, source: usize, readings: u64, durable: bool) {
        let allowance = self.allowance(source);
        let mut is_new = allowance.settled.swap(readings, Relaxed) != readings;
        if durable && allowance.durable.load(Relaxed) != readings {
            is_new = true;
            let _waiting = allowance.lock();
            allowance.durable.store(readings, Relaxed);
            allowance.freed.notify_all();
        }
        if is_new {
            allowance.stirred.notify_one();
        }
    }

    /// Nothing more becomes of what a source sent.
    pub fn close(&self, source: usize) {
        self.allowance(source).close();
    }

    fn allowance(&self, source: usize) -> Arc<Allowance> {
        Arc::clone(&locked(&self.allowances)[source])
    }

    /// A handle that lets the sources stop.
    pub fn stopper(&self) -> Stopper {
        Stopper { allowances: Arc::clone(&self.allowances), to: self.to.clone() }
    }

    /// A handle by which other parts of the node have something remembered.
    pub fn messenger(&self) -> Messenger {
        Messenger { to: self.to.clone() }
    }
}

impl Drop for Outlet {
    /// Whoever waits for something to become of its readings waits no more.
    fn drop(&mut self) {
        locked(&self.allowances).iter().for_each(|allowance| allowance.close());
    }
}

/// Has something remembered that is no reading. For what is rare: it has no allowance.
#[derive(Clone)]
pub struct Messenger {
    to: Sender<Arrival>,
}

impl Messenger {
    /// Hands it over; lost if the node has stopped.
    pub fn tell(&self, change: PartChange) {
        let _ = self.to.send(Arrival { source: 0, arrived_ns: 0, refused: 0, event: Event::Part(change) });
    }

    /// Has the node look whether there is anything to do.
    pub fn wake(&self) {
        let _ = self.to.send(Arrival { source: 0, arrived_ns: 0, refused: 0, event: Event::Wake });
    }
}

/// Lets the sources stop: nothing is taken from them any more, and who waits is woken.
#[derive(Clone)]
pub struct Stopper {
    allowances: Allowances,
    to: Sender<Arrival>,
}

/// Lets sources come, and leave, while the node runs.
pub struct Intake {
    to: Sender<Arrival>,
    allowances: Allowances,
}

impl Intake {
    /// A number for one more source.
    pub fn add(&self) -> usize {
        let mut allowances = locked(&self.allowances);
        allowances.push(Arc::default());
        allowances.len() - 1
    }

    /// The end of source number `source`.
    pub fn inlet(&self, source: usize, clock: Box<dyn Clock>) -> Inlet {
        let allowance = Arc::clone(&locked(&self.allowances)[source]);
        Inlet { source, to: self.to.clone(), allowance, clock, refused: 0, sent: 0 }
    }

    /// Stops one source: nothing is taken from it any more.
    pub fn stop(&self, source: usize) {
        locked(&self.allowances)[source].stop();
    }
}

impl Stopper {
    /// Stops all sources.
    pub fn stop(&self) {
        locked(&self.allowances).iter().for_each(|allowance| allowance.stop());
        // The pipeline is gone if this fails, which is as good.
        let _ = self.to.send(Arrival { source: 0, arrived_ns: 0, refused: 0, event: Event::Wake });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::picture::Picture;
    use wire::hash::Hash;
    use wire::world::Simulated;

    fn batch(cells: usize) -> Batch {
        Batch { t_ms: vec![0], values: vec![0.0; cells - 1] }
    }

    #[test]
    fn each_source_has_its_own_allowance() {
        let outlet = Outlet::new(2);
        let world = Simulated::new(0);
        let mut fast = outlet.inlet(0, Box::new(world.clone()));
        let mut slow = outlet.inlet(1, Box::new(world));
        assert_eq!(fast.offer(batch(3 * ALLOWANCE_CELLS)), Ok(()), "alone, anything passes");
        assert_eq!(fast.offer(batch(2)), Err(NotTaken::Full));
        assert_eq!(slow.offer(batch(ALLOWANCE_CELLS)), Ok(()));
        outlet.done(&outlet.next_now().unwrap());
        assert_eq!(fast.offer(batch(2)), Ok(()));
        assert_eq!(slow.offer(batch(2)), Err(NotTaken::Full));
    }

    #[test]
    fn a_waiting_source_goes_on_when_there_is_room_and_ends_when_the_node_stops() {
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        inlet.offer(batch(ALLOWANCE_CELLS)).unwrap();
        let thread = std::thread::spawn(move || (inlet.send(batch(9)), inlet.send(batch(ALLOWANCE_CELLS))));
        let first = outlet.next(Duration::from_secs(10)).unwrap();
        outlet.done(&first);
        let second = outlet.next(Duration::from_secs(10)).unwrap();
        assert_eq!(second.event, Event::Batch(batch(9)));
        outlet.stopper().stop();
        assert_eq!(thread.join().unwrap(), (Ok(()), Err(Stopped)));
    }

    fn frame(brightness: f64) -> Frame {
        let picture = Picture::new(1, 1, vec![0; 3]).unwrap();
        Frame::new(0, [brightness, 0.0, 0.0, 0.0], picture, Hash::of(b""))
    }

    #[test]
    fn the_newest_picture_displaces_the_one_that_waits_and_counts_it() {
        let outlet = Outlet::new(2);
        let mut inlet = outlet.inlet(1, Box::new(Simulated::new(0)));
        for brightness in [1.0, 2.0, 3.0] {
            inlet.show(frame(brightness)).unwrap();
        }
        assert_eq!(outlet.next_now().unwrap().event, Event::Look);
        assert_eq!(outlet.next_now(), None, "one picture waits, and is told of once");
        let newest = outlet.frame(1).unwrap();
        assert_eq!((newest.row()[0], newest.row()[4], inlet.sent()), (3.0, 2.0, 1));
        inlet.show(frame(4.0)).unwrap();
        assert_eq!(outlet.frame(1).unwrap().row()[4], 0.0);
        assert!(outlet.frame(0).is_none());
    }

    #[test]
    fn a_picture_that_waits_its_turn_displaces_none() {
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        let thread = std::thread::spawn(move || {
            let shown: Vec<_> = (0..3).map(|at| inlet.show_in_turn(frame(f64::from(at)))).collect();
            (shown, inlet.sent())
        });
        for at in 0..3 {
            assert_eq!(outlet.next(Duration::from_secs(10)).unwrap().event, Event::Look);
            let frame = outlet.frame(0).unwrap();
            assert_eq!((frame.row()[0], frame.row()[4]), (f64::from(at), 0.0));
        }
        assert_eq!(thread.join().unwrap(), (vec![Ok(()); 3], 3));
    }

    #[test]
    fn a_few_pictures_wait_their_turn_if_somebody_looks_at_several() {
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        outlet.let_wait(0, 3);
        for at in 0..3 {
            inlet.show_in_turn(frame(f64::from(at))).unwrap();
        }
        let brightness =
            |frames: &[Arc<Frame>]| frames.iter().map(|frame| frame.row()[0]).collect::<Vec<_>>();
        assert_eq!(brightness(&outlet.frames(0)), [0.0, 1.0, 2.0]);
        assert_eq!(outlet.waiting(VecDeque::len), 3, "each is told of");
        let thread = std::thread::spawn(move || (inlet.show_in_turn(frame(3.0)), inlet.sent()));
        assert_eq!(outlet.next_now().unwrap().event, Event::Look);
        assert_eq!(outlet.frame(0).unwrap().row()[0], 0.0);
        assert_eq!(thread.join().unwrap(), (Ok(()), 4));
        assert_eq!(brightness(&outlet.frames(0)), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn what_was_looked_at_before_its_turn_comes_in_its_turn() {
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        for cells in 2..5 {
            inlet.send(batch(cells)).unwrap();
        }
        let cells = |arrival: Option<Arrival>| match arrival?.event {
            Event::Batch(batch) => Some(batch.cells()),
            _ => None,
        };
        assert_eq!(cells(outlet.next_now()), Some(2));
        assert_eq!(outlet.waiting(VecDeque::len), 2);
        inlet.send(batch(9)).unwrap();
        assert_eq!(outlet.waiting(VecDeque::len), 3);
        let order = [outlet.next(Duration::ZERO), outlet.next_now(), outlet.next_now(), outlet.next_now()];
        assert_eq!(order.map(cells), [Some(3), Some(4), Some(9), None]);
    }

    #[test]
    fn who_leaves_waits_until_all_of_it_is_durable_or_will_never_be() {
        for durable in [true, false] {
            let outlet = Outlet::new(1);
            let mut inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
            inlet.send(batch(2)).unwrap();
            outlet.stopper().stop();
            outlet.settle(0, 1, false);
            assert_eq!((inlet.settled(), inlet.durable()), (1, 0));
            let thread = std::thread::spawn(move || {
                inlet.leave();
                inlet.durable()
            });
            if durable {
                outlet.settle(0, 1, true);
            } else {
                outlet.close(0);
            }
            assert_eq!(thread.join().unwrap(), u64::from(durable));
        }
    }

    #[test]
    fn a_pause_ends_when_the_node_stops() {
        let outlet = Outlet::new(1);
        let inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        assert_eq!(inlet.pause(Duration::from_millis(1)), Ok(()));
        let stopper = outlet.stopper();
        let thread = std::thread::spawn(move || inlet.pause(Duration::from_secs(3_600)));
        stopper.stop();
        assert_eq!(thread.join().unwrap(), Err(Stopped));
    }
}
