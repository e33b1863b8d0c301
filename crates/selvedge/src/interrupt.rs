//! Ctrl-C, SIGTERM and a closed terminal as something to wait for.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// The exit code that shells give a process that was ended by Ctrl-C.
const ENDED: i32 = 130;

/// How often what is half written is removed, while somebody still writes it.
const TRIES: usize = 100;

/// Somebody will ask the process to end.
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// Listens from here on.
    pub(crate) fn listen() -> std::io::Result<Interrupt> {
        Interrupt::begin(true, None)
    }

    /// The same, but a hang-up asks to read settings again, as it does of services. Not where somebody sits at a terminal:
    /// there it says that the terminal was closed.
    pub(crate) fn listen_and_reread() -> std::io::Result<(Interrupt, Reread)> {
        let reread = Reread::default();
        let wanted = (!std::io::stdin().is_terminal()).then(|| Arc::clone(&reread.0));
        Ok((Interrupt::begin(true, wanted)?, reread))
    }

    /// Listens to Ctrl-C alone; what else ends a process ends this one.
    pub(crate) fn listen_to_ctrl_c() -> std::io::Result<Interrupt> {
        Interrupt::begin(false, None)
    }

    fn begin(all: bool, reread: Option<Arc<AtomicBool>>) -> std::io::Result<Interrupt> {
        let (sender, receiver) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let others = match all {
            true => Some((signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)),
            false => None,
        };
        drop(inside);
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                let Some((mut terminate, mut hang_up)) = others else {
                    while interrupt.recv().await.is_some() && sender.send(()).is_ok() {}
                    return;
                };
                loop {
                    let hung_up = tokio::select! {
                        _ = interrupt.recv() => false,
                        _ = terminate.recv() => false,
                        _ = hang_up.recv() => true,
                    };
                    if let (true, Some(reread)) = (hung_up, &reread) {
                        reread.store(true, Ordering::Release);
                        continue;
                    }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Interrupt(receiver))
    }

    /// Ends the process when somebody asks it to, and before that removes `partial`, a file or folder that is half written.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever calls this writes one file or folder, and has nothing else to close"
    )]
    pub(crate) fn remove(self, partial: PathBuf) -> std::io::Result<Ending> {
        let ending = Ending::default();
        let begun = Arc::clone(&ending.0);
        let wait = move || {
            if self.0.recv().is_ok() {
                begun.store(true, Ordering::Release);
                // It may not be there yet, or be whole and have its own name. Into a folder the other thread may still write.
                let gone = || match partial.is_dir() {
                    true => std::fs::remove_dir_all(&partial).is_ok(),
                    false => std::fs::remove_file(&partial).is_ok() || !partial.exists(),
                };
                let _ = (0..TRIES).any(|_| gone());
                std::process::exit(ENDED);
            }
        };
        std::thread::Builder::new().name("remove".into()).spawn(wait)?;
        Ok(ending)
    }

    /// Waits, at most so long; whether it is time to end.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        match self.0.recv_timeout(at_most) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}

/// Whether somebody asks to read settings again.
#[derive(Default)]
pub(crate) struct Reread(Arc<AtomicBool>);

impl Reread {
    /// Once for each time that somebody asks.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Whether the process is being ended.
#[derive(Default)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// What came of the work. What fails while the process is being ended fails for want of what was removed: then this waits for
    /// the end, which is near.
    pub(crate) fn outlast<T, E>(&self, came: Result<T, E>) -> Result<T, E> {
        while came.is_err() && self.0.load(Ordering::Acquire) {
            std::thread::park();
        }
        came
    }
}
