//! The threads of the sinks: each reads the journal for itself, and nothing waits for any of them. They come and leave with the flow.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use wire::body::PartChange;
use wire::id::NodeId;
use wire::world::Clock;

use super::shared::Shared;
use crate::config::Config;
use crate::policy::Policy;
use crate::sink::feed::{Feed, FeedSettings};
use crate::sink::{SinkConfig, build, supervise};
use crate::source::BackOff;
use crate::source::queue::Messenger;
use crate::status::SinkStatus;

/// When the node stops, all sinks together have so long to pass on what they can; those that hang are left behind.
const LEAVE: Duration = Duration::from_secs(4);

/// Gives each sink a clock of its own.
pub(super) type MakeClock = Box<dyn Fn() -> Box<dyn Clock> + Send + Sync>;

/// The sinks of a node.
pub(super) struct Sinks {
    node: NodeId,
    data: PathBuf,
    shared: Arc<Shared>,
    messenger: Messenger,
    policy: Policy,
    /// Changes when the journal has grown.
    rung: watch::Receiver<u64>,
    clock: MakeClock,
    back_off: BackOff,
    running: Mutex<Vec<One>>,
}

/// One that runs.
struct One {
    config: SinkConfig,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

impl Sinks {
    /// None yet.
    pub(super) fn new(
        config: &Config,
        shared: &Arc<Shared>,
        messenger: Messenger,
        rung: watch::Receiver<u64>,
        clock: MakeClock,
        back_off: BackOff,
    ) -> Sinks {
        let (node, data, shared) = (config.name.clone(), config.data.clone(), Arc::clone(shared));
        let policy = config.policy.clone();
        Sinks { node, data, shared, messenger, policy, rung, clock, back_off, running: Mutex::default() }
    }

    /// Runs those of a flow: what is as it was goes on, what is gone or otherwise stops, what is new begins.
    pub(super) fn follow(&self, wanted: &[SinkConfig]) -> std::io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before: Vec<Option<One>> = std::mem::take(&mut *running).into_iter().map(Some).collect();
        for one in before.iter().flatten().filter(|one| !wanted.contains(&one.config)) {
            one.stop.send_replace(true);
        }
        let was = std::mem::take(&mut self.shared.status().sinks);
        let known = |config: &SinkConfig| {
            let same = was.iter().find(|status| status.sink == config.name).cloned();
            same.unwrap_or_else(|| SinkStatus::waiting(&config.name))
        };
        self.shared.status().sinks = wanted.iter().map(known).collect();
        for config in wanted {
            let named = before
                .iter_mut()
                .find(|one| one.as_ref().is_some_and(|one| one.config.name == config.name))
                .and_then(Option::take);
            match named {
                Some(one) if one.config == *config => running.push(one),
                // Its cursor is still the other's: that one ends first.
                other => running.push(self.start(config, other.map(|one| one.thread))?),
            }
        }
        Ok(())
    }

    fn start(&self, config: &SinkConfig, after: Option<JoinHandle<()>>) -> std::io::Result<One> {
        let (stop, stopped) = watch::channel(false);
        let (ending, ended): (Sender<()>, Receiver<()>) = channel();
        let (messenger, shared, sink) =
            (self.messenger.clone(), Arc::clone(&self.shared), config.name.clone());
        // A sink that stays here is given all words, and may quote them.
        let (policy, sends) = (self.policy.clone(), config.kind.sends());
        let tell = move |state: &str, reason: String| {
            if let Some(status) = shared.status().sinks.iter_mut().find(|status| status.sink == sink) {
                (status.state, status.reason) = (state.to_owned(), reason.clone());
            }
            if state == "failed" {
                let told = if sends { Some(reason.as_str()) } else { policy.text(None, &reason) };
                tracing::warn!(%sink, reason = told.unwrap_or_default(), "a sink failed");
            }
            messenger.tell(PartChange { part: format!("sink.{sink}"), state: state.to_owned(), reason });
        };
        let feed = Feed::new(FeedSettings {
            name: config.name.clone(),
            node: self.node.clone(),
            data: self.data.clone(),
            choice: config.choice.clone(),
            sends: config.kind.sends(),
            from: config.from,
            rung: self.rung.clone(),
            stop: stopped,
            clock: (self.clock)(),
            tell: Box::new(tell),
        });
        let (sink, back_off) = (build(config), self.back_off);
        // Linux keeps 15 bytes of a thread's name.
        let name: String = format!("sink.{}", config.name).chars().take(15).collect();
        let thread = Builder::new().name(name).spawn(move || {
            if let Some(after) = after {
                // A panic there was caught and told already.
                let _ = after.join();
            }
            supervise(sink, feed, back_off);
            drop(ending);
        })?;
        Ok(One { config: config.clone(), stop, thread, ended })
    }

    /// Lets them pass on what is in the journal, and end.
    pub(super) fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for one in &running {
            one.stop.send_replace(true);
        }
        for One { config, thread, ended, .. } in running {
            // Nothing is ever sent: it is closed, or time is up.
            if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LEAVE) {
                let sink = &config.name;
                tracing::warn!(%sink, "a sink hangs and is left behind; it goes on from its cursor at the next start");
                continue;
            }
            // A panic there was caught and told already.
            let _ = thread.join();
        }
    }
}
