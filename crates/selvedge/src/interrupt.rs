//! Ctrl-C, SIGTERM and a closed terminal as something to wait for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Somebody will ask the process to end.
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// Begins to listen.
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
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
                if !all {
                    while interrupt.recv().await.is_some() && sender.send(()).is_ok() {}
                    return;
                }
                let (Ok(mut terminate), Ok(mut hang_up)) =
                    (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
                else {
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

    /// Waits, at most so long; whether it is time to end.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        match self.0.recv_timeout(at_most) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}
