//! The guard: a process of its own that holds the devices, so that an actuator goes back to its safe setting also when the node
//! is killed, hangs, or crashes.
//!
//! The node speaks through the guard's standard input. When that ends, every device is set to its safe setting, read back, and the
//! guard goes; when the node says nothing for a device's lease, that device goes back. What always holds, whatever the node says:
//!
//! - a device is only set to what was declared;
//! - after the guard began, or brought a device back by itself, the device takes the safe setting first: an order that was
//!   under way before must not come true after it;
//! - one guard at a time: it waits for the file that the one before it holds.
//!
//! `Post` decides, purely; [`guard`] is the loop around it, with a thread for each device, so that a slow one holds up no other.

mod post;

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use wire::body::act::Setting;
use wire::world::{Clock, MonoNs};

use self::post::{Post, Todo};
use super::device;
use super::device::face::{Device, DeviceError};
use super::word::{Held, LINE_MAX_BYTES, Order, Said, read_line, write_line};
use crate::why::why;

/// A guard that ends tries for so long to bring back a device that does not answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks whether the guard before it is gone, and asks a device that settles.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// It looks at the clock this often when nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Why a guard does not guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The first line is not what it should be.
    #[error("a guard is started by a node, which says first what it holds: this is for nobody's hands")]
    First,
    /// The lock.
    #[error("the guard's lock {} cannot be held", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread could be started")]
    Thread(#[source] io::Error),
    /// Devices that could not be brought back.
    #[error("not back in their safe setting: {}", names.join(", "))]
    Left {
        /// Which.
        names: Vec<String>,
    },
}

/// What the loop hears.
enum Heard {
    Order(Order),
    /// The node is gone, or speaks what cannot be read.
    End(String),
    /// A device did what it was told, or not.
    Did {
        at: usize,
        read: Result<Option<Setting>, String>,
        took_ms: u64,
    },
    /// What a device hangs on broke: it may have gone back by itself.
    Lost {
        at: usize,
        why: String,
    },
}

/// Guards until `orders` end; then brings every device back. `say` hears what comes of it; when nobody listens there any more, the
/// guard goes on.
pub fn guard(
    orders: impl BufRead + Send + 'static,
    mut say: impl Write,
    clock: &dyn Clock,
    patience: Duration,
) -> Result<(), GuardError> {
    let (tell, heard) = channel();
    let telling = tell.clone();
    let read = move || read_orders(orders, &telling);
    std::thread::Builder::new().name("orders".into()).spawn(read).map_err(GuardError::Thread)?;
    let Ok(Heard::Order(Order::Hold { lock, devices })) = heard.recv() else {
        return Err(GuardError::First);
    };
    let Some(_lock) = hold(lock, &heard)? else {
        // The node is gone before anything could be done to a device.
        return Ok(());
    };
    let mut posts = Vec::new();
    let mut jobs = Vec::new();
    for (at, held) in devices.into_iter().enumerate() {
        jobs.push(work(at, &held, tell.clone())?);
        posts.push(Post::new(held, clock.mono_ns()));
    }
    drop(write_line(&mut say, &Said::Holds));
    let mut ends_ns = None;
    loop {
        let now_ns = clock.mono_ns();
        for (post, job) in posts.iter_mut().zip(&jobs) {
            if let Some(to) = post.due(now_ns) {
                // A worker that is gone took the process with it.
                drop(job.send(to));
            }
        }
        if let Some(ends_ns) = ends_ns {
            let left: Vec<&Post> = posts.iter().filter(|post| !post.is_back()).collect();
            if left.is_empty() {
                return Ok(());
            }
            if now_ns >= ends_ns {
                let names = left.iter().map(|post| post.held.name.to_string()).collect();
                return Err(GuardError::Left { names });
            }
        }
        let next_ns = posts.iter().map(|post| post.wakes_ns(now_ns)).chain(ends_ns).min();
        let wait = next_ns.map_or(IDLE, |next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns)));
        let heard = match heard.recv_timeout(wait.min(IDLE)) {
            Ok(heard) => heard,
            // This end holds a sender itself.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => continue,
        };
        let now_ns = clock.mono_ns();
        match heard {
            Heard::Order(Order::Hold { .. }) => {}
            Heard::Order(Order::Alive) => posts.iter_mut().for_each(|post| post.alive(now_ns)),
            Heard::Order(Order::Set { actuator, id, to }) => {
                let Some(at) = posts.iter().position(|post| post.held.name == actuator) else { continue };
                match posts[at].order(id, to) {
                    Todo::Set(to) => drop(jobs[at].send(to)),
                    Todo::Say(said) => drop(write_line(&mut say, &said)),
                }
            }
            Heard::End(why) => {
                if ends_ns.is_none() {
                    tracing::warn!(why, "the node is gone: its actuators go back to their safe settings");
                    ends_ns = Some(now_ns + patience.as_nanos() as MonoNs);
                    posts.iter_mut().for_each(Post::bring_back);
                }
            }
            Heard::Lost { at, why } => {
                tracing::warn!(actuator = %posts[at].held.name, why, "a device may have left its setting");
                posts[at].lost(&why);
            }
            Heard::Did { at, read, took_ms } => {
                if let Err(why) = &read {
                    tracing::warn!(actuator = %posts[at].held.name, why, "a device did not take its setting");
                }
                for said in posts[at].did(read, took_ms, now_ns) {
                    drop(write_line(&mut say, &said));
                }
            }
        }
    }
}

/// Reads what the node says until it says no more.
fn read_orders(mut from: impl BufRead, tell: &Sender<Heard>) {
    let why = loop {
        match read_line::<Order>(&mut from) {
            Ok(Some(order)) => {
                if tell.send(Heard::Order(order)).is_err() {
                    return;
                }
            }
            Ok(None) => break "it says no more".to_owned(),
            Err(error) => break format!("a line of at most {LINE_MAX_BYTES} bytes cannot be read: {error}"),
        }
    };
    // Then the guard is going already.
    drop(tell.send(Heard::End(why)));
}

/// Waits until this guard is the only one; `None` if the node is gone before.
fn hold(path: PathBuf, heard: &Receiver<Heard>) -> Result<Option<File>, GuardError> {
    let failed = |source| GuardError::Lock { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Heard::End(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
            // Whoever orders now has not heard yet that the devices are held.
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Starts the thread of one device; what is sent is what it is set to, one after the other.
fn work(at: usize, held: &Held, tell: Sender<Heard>) -> Result<Sender<Setting>, GuardError> {
    let (send, jobs) = channel::<Setting>();
    let held = held.clone();
    let run = move || {
        let clock = wire::world::System::new();
        let mut open: Option<Box<dyn Device>> = None;
        loop {
            let to = match jobs.recv_timeout(IDLE) {
                Ok(to) => to,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(why) = open.as_mut().and_then(|device| device.lost()) {
                        open = None;
                        if tell.send(Heard::Lost { at, why }).is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let begun_ns = clock.mono_ns();
            let read = set(&mut open, &held, &to, &clock).map_err(|error| why(&error));
            if read.is_err() {
                // It is opened anew: what is wrong may be the connection.
                open = None;
            }
            let took_ms = (clock.mono_ns() - begun_ns) / 1_000_000;
            if tell.send(Heard::Did { at, read, took_ms }).is_err() {
                return;
            }
        }
    };
    let name: String = format!("act.{at}").chars().take(15).collect();
    std::thread::Builder::new().name(name).spawn(run).map_err(GuardError::Thread)?;
    Ok(send)
}

/// Sets a device, and asks it until it agrees or its time to settle is over.
fn set(
    open: &mut Option<Box<dyn Device>>,
    held: &Held,
    to: &Setting,
    clock: &dyn Clock,
) -> Result<Option<Setting>, DeviceError> {
    let device = match open {
        Some(device) => device,
        None => open.insert(device::open(&held.driver, &held.allowed, &held.safe)?),
    };
    device.set(to)?;
    if !held.confirm {
        return Ok(None);
    }
    let set_ns = clock.mono_ns();
    // Nobody sends: it is a clock that can be waited for.
    let (_still, alarm) = channel::<()>();
    loop {
        let read = device.read();
        let is_there = matches!(&read, Ok(Some(read)) if post::agrees(held, to, read));
        if is_there || (clock.mono_ns() - set_ns) / 1_000_000 >= held.settle_ms {
            return read;
        }
        let _ = alarm.recv_timeout(LOOK_EVERY);
    }
}
