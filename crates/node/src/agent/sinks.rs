//! The threads of the sinks: each reads the journal for itself, and nothing waits for any of them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use wire::body::PartChange;

use super::shared::Shared;
use crate::config::Config;
use crate::sink::feed::{Feed, FeedSettings};
use crate::sink::{build, supervise};
use crate::source::BackOff;
use crate::source::queue::Messenger;
use crate::status::SinkStatus;

/// When the node stops, all sinks together have so long to pass on what they can; those that hang are left behind.
const LEAVE: Duration = Duration::from_secs(4);

/// The sinks of a node.
pub(super) struct Sinks {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last thread has ended.
    ended: Receiver<()>,
}

/// Starts them. `rung` changes when the journal has grown.
pub(super) fn start(
    config: &Config,
    shared: &Arc<Shared>,
    messenger: &Messenger,
    rung: &watch::Receiver<u64>,
    back_off: BackOff,
) -> std::io::Result<Sinks> {
    let (stop, stopped) = watch::channel(false);
    let (ending, ended): (Sender<()>, Receiver<()>) = channel();
    shared.status().sinks = config.flow.sinks.iter().map(|sink| SinkStatus::waiting(&sink.name)).collect();
    let mut threads = Vec::new();
    for (at, sink) in config.flow.sinks.iter().enumerate() {
        let (messenger, shared, part) =
            (messenger.clone(), Arc::clone(shared), format!("sink.{}", sink.name));
        let tell = move |state: &str, reason: String| {
            if let Some(status) = shared.status().sinks.get_mut(at) {
                (status.state, status.reason) = (state.to_owned(), reason.clone());
            }
            if state == "failed" {
                tracing::warn!(part, reason, "a sink failed");
            }
            messenger.tell(PartChange { part: part.clone(), state: state.to_owned(), reason });
        };
        let feed = Feed::new(FeedSettings {
            name: sink.name.clone(),
            node: config.name.clone(),
            data: config.data.clone(),
            choice: sink.choice.clone(),
            from: sink.from,
            rung: rung.clone(),
            stop: stopped.clone(),
            tell: Box::new(tell),
        });
        let (sink, ending, name) = (build(sink), ending.clone(), format!("sink.{}", sink.name));
        // Linux keeps 15 bytes of a thread's name.
        let name: String = name.chars().take(15).collect();
        threads.push(Builder::new().name(name).spawn(move || {
            supervise(sink, feed, back_off);
            drop(ending);
        })?);
    }
    Ok(Sinks { stop, threads, ended })
}

impl Sinks {
    /// Lets them pass on what is in the journal, and end.
    pub(super) fn stop(self) {
        self.stop.send_replace(true);
        // Nothing is ever sent: it is closed, or time is up.
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(LEAVE) {
            tracing::warn!("a sink hangs and is left behind; it goes on from its cursor at the next start");
            return;
        }
        for thread in self.threads {
            // A panic in a sink was caught and told already.
            let _ = thread.join();
        }
    }
}
