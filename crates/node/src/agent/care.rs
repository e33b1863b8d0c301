//! The thread that cares for the process: looks at the machine and at the other threads once a second, carries out what
//! `pressure` decides, feeds the watchdog while everything goes round, and tells `supervise::starts` when a run was quiet.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wire::world::{Clock, MonoNs};

use super::language::Relief;
use super::shared::Shared;
use crate::pressure::look::{Seen, look};
use crate::pressure::{self, Effect, Limits, Squeeze};
use crate::source::queue::Messenger;
use crate::status::Health;
use crate::supervise::notify::{Notifier, NotifySettings};
use crate::supervise::starts::{LeftOut, QUIET, Starts};
use crate::why::why;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// Who starts the node again when it dies, and who listens to how it is.
#[derive(Debug, Clone, Default)]
pub struct Supervision {
    /// Somebody starts it again. Then it finds out whether it dies again and again, and leaves out what it dies of.
    pub restarted: bool,
    /// The service manager.
    pub manager: NotifySettings,
    /// Where `/proc` and `/sys` lie, if they are another machine's: to rehearse what a node does when something runs short.
    pub machine: Option<PathBuf>,
}

/// What is known of earlier starts, and what this run does without.
pub(super) struct Life {
    pub(super) starts: Starts,
    pub(super) left_out: LeftOut,
}

/// Everything the thread owns.
pub(super) struct Care {
    /// Below it are `/proc` and `/sys`.
    pub(super) root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
    pub(super) messenger: Messenger,
    pub(super) relief: Option<Relief>,
    pub(super) clock: Box<dyn Clock>,
    pub(super) manager: NotifySettings,
    /// `None`: nobody starts the node again.
    pub(super) life: Option<Life>,
}

/// The thread.
pub(super) struct Caring {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Care {
    /// Starts it; the node runs from here on.
    pub(super) fn start(self) -> std::io::Result<Caring> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("care".to_owned()).spawn(move || self.run(&stopped))?;
        Ok(Caring { stop, thread })
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let notifier = Notifier::to(&self.manager);
        notifier.ready();
        let mut round = Round::new(self.clock.mono_ns());
        let every_ns = self.manager.every().map(|every| every.as_nanos() as MonoNs);
        loop {
            let seen = look(&self.root, &self.data);
            let now_ns = self.clock.mono_ns();
            self.look(&seen, &mut round, now_ns);
            let is_due = every_ns.is_some_and(|every_ns| now_ns.saturating_sub(round.fed_ns) >= every_ns);
            if round.goes_round && (is_due || round.fed_ns == 0) {
                round.fed_ns = now_ns.max(1);
                notifier.alive();
            }
            if let Some(line) = round.line.take() {
                notifier.status(&line);
            }
            match stopped.recv_timeout(EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                // The node was told to end, or is gone.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        notifier.stopping();
        if let Some(life) = self.life.take() {
            self.keep(&life.starts.ended());
        }
    }

    /// One look, and what comes of it.
    pub(super) fn look(&mut self, seen: &Seen, round: &mut Round, now_ns: MonoNs) {
        let has_spares = self.relief.as_ref().is_some_and(Relief::has_spares);
        let limits = Limits { has_spares, ..self.limits };
        let (state, effects) = pressure::step(&round.pressure, seen, limits, now_ns);
        round.pressure = state;
        for effect in effects {
            self.carry_out(effect);
        }
        let stuck: Vec<String> = self.shared.progress.stuck(now_ns).iter().map(ToString::to_string).collect();
        if stuck != round.stuck && !stuck.is_empty() {
            tracing::error!(
                stuck = stuck.join("; "),
                "the node does not get anywhere; the watchdog is not fed"
            );
        }
        round.goes_round = stuck.is_empty();
        if !round.goes_round {
            round.quiet_since_ns = now_ns;
        } else if now_ns.saturating_sub(round.quiet_since_ns) >= QUIET.as_nanos() as MonoNs
            && !std::mem::replace(&mut round.was_quiet, true)
            && let Some(life) = &mut self.life
        {
            life.starts = std::mem::take(&mut life.starts).quiet(&life.left_out);
            let starts = life.starts.clone();
            self.keep(&starts);
        }
        round.stuck = stuck;
        let health = self.health(round);
        let line = health.line();
        let mut status = self.shared.status();
        if status.health != health {
            status.health = health;
            round.line = Some(line);
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Squeeze(squeeze) => {
                if squeeze >= Squeeze::Caches {
                    self.shared.drop_caches.store(true, Relaxed);
                    self.messenger.wake();
                }
                if let Some(relief) = &self.relief {
                    relief.squeeze(squeeze);
                }
            }
            Effect::ShrinkJournal => {
                self.shared.shrink_journal.store(true, Relaxed);
                self.messenger.wake();
            }
            Effect::Tell(change) => {
                tracing::warn!(part = change.part, state = change.state, reason = change.reason, "pressure");
                self.messenger.tell(change);
            }
        }
    }

    fn health(&self, round: &Round) -> Health {
        let left_out = self.life.as_ref().map(|life| &life.left_out);
        let models =
            left_out.and_then(|left_out| left_out.models.as_ref().map(|why| ("models".to_owned(), why)));
        let parts = left_out.into_iter().flat_map(|left_out| &left_out.parts);
        let left_out = models.into_iter().chain(parts.map(|(part, why)| (part.clone(), why)));
        Health {
            memory: round.pressure.squeeze().as_str(),
            disk_short: round.pressure.disk_short(),
            hot: round.pressure.hot(),
            stuck: round.stuck.clone(),
            left_out: left_out.map(|(part, why)| format!("{part}: {why}")).collect(),
            watchdog: self.manager.every().is_some(),
        }
    }

    fn keep(&self, starts: &Starts) {
        if let Err(error) = starts.save(&self.data) {
            tracing::warn!(error = why(&error), "the next start will not know how this run went");
        }
    }
}

impl Caring {
    /// Stops it: the node was told to end.
    pub(super) fn stop(self) {
        // A thread that is gone has stopped.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// The thread's own state.
pub(super) struct Round {
    pressure: pressure::State,
    stuck: Vec<String>,
    goes_round: bool,
    quiet_since_ns: MonoNs,
    was_quiet: bool,
    fed_ns: MonoNs,
    /// A line for people, if it is another.
    line: Option<String>,
}

impl Round {
    pub(super) fn new(now_ns: MonoNs) -> Round {
        Round {
            pressure: pressure::State::default(),
            stuck: Vec::new(),
            goes_round: true,
            quiet_since_ns: now_ns,
            was_quiet: false,
            fed_ns: 0,
            line: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::looper::first_status;
    use super::*;
    use crate::config::Config;
    use crate::pressure::look::Memory;
    use crate::progress::Thread;
    use crate::source::queue::{Event, Outlet};
    use wire::world::Simulated;

    const SECOND: MonoNs = 1_000_000_000;

    fn care(outlet: &Outlet, life: Option<Life>) -> (Care, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.toml"), "[node]\nname = \"n\"\n").unwrap();
        fs::write(dir.path().join("flow.toml"), "[source.s]\ntype = \"http\"\n").unwrap();
        let config = Config::load(&dir.path().join("node.toml")).unwrap();
        let care = Care {
            root: dir.path().to_owned(),
            data: dir.path().to_owned(),
            limits: Limits { disk_free_bytes: 0, has_spares: false },
            shared: Arc::new(Shared::new(first_status(&config), 0)),
            messenger: outlet.messenger(),
            relief: None,
            clock: Box::new(Simulated::new(1)),
            manager: NotifySettings::default(),
            life,
        };
        (care, dir)
    }

    #[test]
    fn pressure_is_carried_out_told_and_shown() {
        let outlet = Outlet::new(1);
        let (mut care, _dir) = care(&outlet, None);
        let mut round = Round::new(0);
        let free = |mib: u64| {
            let memory = Memory {
                bytes: 1 << 30,
                limited: false,
                free_bytes: Some(mib << 20),
                some_percent: None,
                full_percent: None,
            };
            Seen { memory: Some(memory), ..Seen::default() }
        };
        care.look(&free(900), &mut round, SECOND);
        assert_eq!(care.shared.status().health.memory, "ready");
        assert!(!care.shared.drop_caches.load(Relaxed));
        care.look(&free(20), &mut round, 2 * SECOND);
        assert!(care.shared.drop_caches.load(Relaxed), "the agent is asked");
        assert_eq!(care.shared.status().health.memory, "caches_dropped");
        let told = std::iter::from_fn(|| outlet.next_now()).find_map(|arrival| match arrival.event {
            Event::Part(change) => Some((change.part, change.state)),
            _ => None,
        });
        assert_eq!(told, Some(("memory".to_owned(), "caches_dropped".to_owned())));
        assert_eq!(round.line.as_deref(), Some("memory is short: caches dropped"));
    }

    #[test]
    fn a_minute_is_quiet_only_if_everything_goes_round() {
        let outlet = Outlet::new(1);
        let (starts, left_out) = Starts { restless: 2, ..Starts::default() }.begin(Some("source.s"));
        let (mut care, dir) = care(&outlet, Some(Life { starts, left_out }));
        let mut round = Round::new(0);
        let seen = Seen::default();
        care.shared.progress.beat(Thread::Agent, 1);
        // The agent stands still from the beginning.
        for second in 0..100 {
            care.look(&seen, &mut round, second * SECOND);
        }
        assert!(!round.goes_round);
        assert_eq!(care.shared.status().health.stuck.len(), 1);
        assert!(!dir.path().join("starts.json").exists(), "nothing is forgiven");
        for second in 100..200 {
            care.shared.progress.beat(Thread::Agent, second * SECOND);
            care.look(&seen, &mut round, second * SECOND);
        }
        assert!(round.goes_round && round.was_quiet);
        assert_eq!(care.life.as_ref().unwrap().starts, Starts::default());
        assert!(dir.path().join("starts.json").exists());
    }
}
