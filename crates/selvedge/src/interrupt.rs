//! Ctrl-C, SIGTERM and a closed terminal as something to wait for.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// The exit code that shells give a process that was ended by Ctrl-C.
const ENDED: i32 = 130;

/// Somebody will ask the process to end.
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// Listens from here on.
    pub(crate) fn listen() -> std::io::Result<Interrupt> {
        Interrupt::begin(true)
    }

    /// Listens to Ctrl-C alone; what else ends a process ends this one.
    pub(crate) fn listen_to_ctrl_c() -> std::io::Result<Interrupt> {
        Interrupt::begin(false)
    }

    fn begin(all: bool) -> std::io::Result<Interrupt> {
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
                    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hang_up.recv() => {} }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Interrupt(receiver))
    }

    /// Ends the process when somebody asks it to, and before that removes `partial`, a file that is half written.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever calls this writes one file, and has nothing else to close"
    )]
    pub(crate) fn remove(self, partial: PathBuf) -> std::io::Result<()> {
        let wait = move || {
            if self.0.recv().is_ok() {
                // It may not be there yet, or be whole and have its own name.
                drop(std::fs::remove_file(partial));
                std::process::exit(ENDED);
            }
        };
        std::thread::Builder::new().name("remove".into()).spawn(wait).map(drop)
    }

    /// Waits, at most so long; whether it is time to end.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        match self.0.recv_timeout(at_most) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}
