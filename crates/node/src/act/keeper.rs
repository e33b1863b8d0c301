//! The node's end of the guard: starts it, speaks to it, hears it.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use wire::world::{Clock as _, System};

use super::word::{Held, Order, Said, read_line, write_line};

/// How often a guard that shall go is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A guard that runs. Dropping it lets it bring its devices back and go.
pub struct Keeper {
    child: Child,
    /// Taken when it shall go.
    orders: Option<ChildStdin>,
}

/// How a guard went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Every device was read back in its safe setting.
    Safe,
    /// Some device was not.
    Left,
    /// It still tries.
    Tries,
}

impl Keeper {
    /// Starts a guard for these devices. `hear` is given what it says, from a thread of its own, and `None` when it is gone.
    pub fn start(
        command: &[OsString],
        lock: &Path,
        devices: Vec<Held>,
        hear: impl Fn(Option<Said>) + Send + 'static,
    ) -> io::Result<Keeper> {
        let (program, words) =
            command.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let mut command = Command::new(program);
        // What a terminal tells the node is not for the guard, which outlives it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut orders = child.stdin.take();
        if let Some(said) = child.stdout.take() {
            let read = move || {
                let mut said = BufReader::new(said);
                while let Ok(Some(said)) = read_line(&mut said) {
                    hear(Some(said));
                }
                hear(None);
            };
            std::thread::Builder::new().name("act.hears".into()).spawn(read)?;
        }
        if let Some(orders) = &mut orders {
            write_line(orders, &Order::Hold { lock: lock.to_owned(), devices })?;
        }
        Ok(Keeper { child, orders })
    }

    /// Tells it something; an error means that it is gone.
    pub fn tell(&mut self, order: &Order) -> io::Result<()> {
        match &mut self.orders {
            Some(orders) => write_line(orders, order),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends it at once: it does not answer.
    pub fn kill(mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Lets it bring its devices back and go; waits for that at most so long.
    pub fn end(mut self, patience: Duration) -> Gone {
        self.orders = None;
        let clock = System::new();
        let begun_ns = clock.mono_ns();
        // Nobody sends: it is a clock that can be waited for.
        let (_still, alarm) = mpsc::channel::<()>();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Gone::Safe,
                Ok(Some(_)) | Err(_) => return Gone::Left,
                Ok(None) if Duration::from_nanos(clock.mono_ns() - begun_ns) >= patience => {
                    return Gone::Tries;
                }
                Ok(None) => {
                    let _ = alarm.recv_timeout(LOOK_EVERY);
                }
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        // One that is gone is buried; one that still tries is the system's.
        drop(self.child.try_wait());
    }
}
