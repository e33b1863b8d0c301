//! The body of the `agent` thread: takes what sources bring, lets the pipeline think, has the journal remember.

mod telling;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use wire::body::{PartChange, SourceChange};
use wire::id::{BootId, PartName};
use wire::record::Stamp;
use wire::world::{Clock, MonoNs};

use super::reining::Reining;
use super::report::Filed;
use super::reporting::Desk;
use super::shared::Shared;
use super::sinks::Sinks;
use super::sources::Sources;
use crate::flow::Flow;
use crate::flow::source::SourceConfig;
use crate::inventory;
use crate::journal::{Durability, Journal, JournalError};
use crate::keep::Of;
use crate::latency::Latency;
use crate::pipeline::replace::Replaced;
use crate::pipeline::{Pipeline, Product};
use crate::policy::Policy;
use crate::progress::Thread;
use crate::source::panic_text;
use crate::source::queue::{Arrival, Event, Outlet, SourceState};
use crate::supervise::crumb::Crumb;
use crate::why::why;
pub(super) use telling::first_status;

/// The thread looks at the clock this often when nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// Events taken together before a commit.
const GROUP_EVENTS: usize = 64;
/// Readings taken together before a commit: four blocks of raw readings, well below what the journal holds pending.
const GROUP_READINGS: usize = 1_024;
/// What models have learnt is stored this often.
const KEEP_NS: MonoNs = 300_000_000_000;
/// What the policy keeps no longer is dropped this often.
const EXPIRE_NS: MonoNs = 600_000_000_000;
/// The status is renewed this often.
const STATUS_NS: MonoNs = 1_000_000_000;

/// Everything the thread owns.
pub(super) struct Looper {
    pub(super) pipeline: Pipeline,
    pub(super) journal: Journal,
    pub(super) outlet: Outlet,
    pub(super) boot: BootId,
    pub(super) data: PathBuf,
    /// What may be said of sources in logs, too.
    pub(super) policy: Policy,
    pub(super) clock: Box<dyn Clock>,
    pub(super) shared: Arc<Shared>,
    pub(super) states: SourceStates,
    /// What other parts of the node have to say in the journal.
    pub(super) reports: Receiver<Filed>,
    /// What actuators hear of rules; `None` without actuators.
    pub(super) reining: Option<Reining>,
    /// The flow that runs.
    pub(super) flow: Flow,
    pub(super) sources: Sources,
    pub(super) sinks: Arc<Sinks>,
    pub(super) desk: Desk,
    /// Rung when the journal has grown, for the sinks.
    pub(super) ring: watch::Sender<u64>,
    /// What it is busy with, for the next life.
    pub(super) crumb: Crumb,
}

/// How each source is, in the order of the flow.
pub(super) struct SourceStates(Vec<OneSource>);

struct OneSource {
    config: SourceConfig,
    /// `source.` and its name.
    part: String,
    state: SourceState,
    reason: String,
    refused: u64,
}

impl SourceStates {
    /// All waiting.
    pub(super) fn new(flow: &Flow) -> SourceStates {
        SourceStates(flow.sources.iter().map(OneSource::waiting).collect())
    }

    /// Those of another flow; what goes on is as it was.
    fn follow(&mut self, flow: &Flow, replaced: &Replaced) {
        let mut before: Vec<_> = std::mem::take(&mut self.0).into_iter().map(Some).collect();
        for (config, was) in flow.sources.iter().zip(&replaced.sources) {
            let old = was.and_then(|was| before[was].take());
            let goes_on = old.map(|old| OneSource { config: config.clone(), ..old });
            self.0.push(goes_on.unwrap_or_else(|| OneSource::waiting(config)));
        }
    }
}

impl OneSource {
    fn waiting(config: &SourceConfig) -> OneSource {
        let reason = "nothing has come yet".to_owned();
        let part = format!("source.{}", config.name);
        OneSource { config: config.clone(), part, state: SourceState::Waiting, reason, refused: 0 }
    }
}

/// The thread's own state.
pub(super) struct Round {
    out: Vec<Product>,
    kept_ns: MonoNs,
    /// When what is too old was last dropped; `None` before the first time.
    expired_ns: Option<MonoNs>,
    status_ns: MonoNs,
    keeping: Option<JoinHandle<()>>,
    trouble: Option<String>,
    failed: Vec<String>,
    /// Whether somebody waits until what it brought outlives a power cut.
    secure: bool,
    /// When the readings arrived whose decisions are not committed yet.
    deciding: Vec<MonoNs>,
    decided: Latency,
    /// Something changed that the status tells.
    changed: bool,
}

impl Round {
    /// Nothing was done yet.
    pub(super) fn new(now_ns: MonoNs) -> Round {
        Round {
            out: Vec::new(),
            kept_ns: now_ns,
            expired_ns: None,
            status_ns: 0,
            keeping: None,
            trouble: None,
            failed: Vec::new(),
            secure: false,
            deciding: Vec::new(),
            decided: Latency::default(),
            changed: true,
        }
    }

    /// Until what models have learnt is stored, if it is being stored.
    #[cfg(test)]
    pub(super) fn wait_for_keeping(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            keeping.join().expect("it does not panic");
        }
    }
}

impl Looper {
    /// Until the node stops and nothing waits any more.
    pub(super) fn run(mut self) -> Result<(), JournalError> {
        let mut round = Round::new(self.clock.mono_ns());
        loop {
            self.crumb.at(None);
            let first = self.outlet.next(self.pause());
            if self.turn(first, &mut round) {
                return self.finish(round);
            }
        }
    }

    /// Goes round once, beginning with what has come, if anything did; true if the node shall stop and nothing waits any more.
    pub(super) fn turn(&mut self, first: Option<Arrival>, round: &mut Round) -> bool {
        let mut arrivals = Vec::new();
        let mut readings = 0;
        let mut next = first;
        while let Some(arrival) = next {
            match &arrival.event {
                Event::Batch(batch) => readings += batch.t_ms.len(),
                Event::Look => readings += 1,
                _ => {}
            }
            self.think(&arrival, round);
            arrivals.push(arrival);
            // A decision goes to the disk before more is taken.
            let urgent = round.out.iter().any(|product| matches!(product, Product::Decision(_)));
            let full = arrivals.len() >= GROUP_EVENTS || readings >= GROUP_READINGS;
            next = if urgent || full { None } else { self.outlet.next_now() };
        }
        if let Some(flow) = self.shared.take_next_flow() {
            self.replace_flow(*flow, &mut arrivals, round);
        }
        let now_ns = self.clock.mono_ns();
        self.pipeline.tick(now_ns, &mut round.out);
        let decided = round.out.iter().any(|product| matches!(product, Product::Decision(_)));
        self.remember(round);
        if let Some(reining) = &mut self.reining {
            reining.look(&self.pipeline, now_ns, decided);
        }
        self.file(round);
        let idle = arrivals.is_empty();
        for arrival in &arrivals {
            self.outlet.done(arrival);
        }
        self.settle(round);
        self.look_after(now_ns, idle, round);
        let alive_ns = self.clock.mono_ns();
        self.shared.alive_ns.store(alive_ns, Relaxed);
        self.shared.progress.beat(Thread::Agent, alive_ns);
        let ends = idle && self.shared.stopping.load(Relaxed);
        if ends {
            self.shared.progress.ended(Thread::Agent);
        }
        ends
    }

    /// What is done now and then.
    fn look_after(&mut self, now_ns: MonoNs, idle: bool, round: &mut Round) {
        if now_ns.saturating_sub(round.kept_ns) >= KEEP_NS {
            self.keep(round);
        }
        if round.expired_ns.is_none_or(|last_ns| now_ns.saturating_sub(last_ns) >= EXPIRE_NS) {
            round.expired_ns = Some(now_ns);
            if let Err(error) = self.journal.expire(self.stamp()) {
                tracing::warn!(error = why(&error), "what the policy keeps no longer could not be dropped");
            }
        }
        if idle || round.changed || now_ns.saturating_sub(round.status_ns) >= STATUS_NS {
            round.status_ns = now_ns;
            round.changed = false;
            self.tell_status(round);
        }
        self.relieve(round);
    }

    /// How long to wait for the next event.
    fn pause(&self) -> Duration {
        if self.shared.stopping.load(Relaxed) {
            return Duration::ZERO;
        }
        match self.journal.durable_due() {
            // Never zero: a disk that does not take what is due must not make us spin.
            Some(due_ns) => Duration::from_nanos(due_ns.saturating_sub(self.clock.mono_ns()))
                .clamp(Duration::from_millis(5), IDLE),
            None => IDLE,
        }
    }

    /// Lets the pipeline look at one event.
    fn think(&mut self, arrival: &Arrival, round: &mut Round) {
        let before = round.out.len();
        let place = self.sources.place(arrival.source);
        if let Some(at) = place {
            self.foresee(at, arrival, round);
        }
        // Taken in any case: nobody comes back for the picture of a source that has left.
        let frame = match &arrival.event {
            Event::Look => self.outlet.frame(arrival.source),
            _ => None,
        };
        match (&arrival.event, place) {
            (Event::Wake, _) => {}
            (Event::Part(change), _) => round.out.push(Product::Part(change.clone())),
            // The last words of a source that has left.
            (_, None) => {}
            (Event::State { state, reason }, Some(at)) => {
                self.note_refused(at, arrival);
                if *state == SourceState::Ended {
                    self.pipeline.flush_source(at, &mut round.out);
                }
                self.change_source(at, *state, reason, round);
            }
            (Event::Settle, Some(at)) => self.pipeline.settle(at, &mut round.out),
            (Event::Secure, Some(at)) => {
                self.pipeline.settle(at, &mut round.out);
                round.secure = true;
            }
            (Event::Opened { channels }, Some(at)) => {
                match self.pipeline.open(at, channels, &mut round.out) {
                    Ok(()) => {
                        let reason =
                            format!("{} channels: {}", channels.len(), shorten(&channels.join(", ")));
                        self.change_source(at, SourceState::Running, &reason, round);
                    }
                    Err(error) => self.change_source(at, SourceState::Failed, &why(&error), round),
                }
            }
            (Event::Batch(_) | Event::Look, Some(at)) => {
                self.note_refused(at, arrival);
                self.crumb.at(Some(&self.states.0[at].part));
                let Looper { pipeline, clock, .. } = self;
                let looked = catch_unwind(AssertUnwindSafe(|| match (&arrival.event, &frame) {
                    (Event::Batch(batch), _) => {
                        pipeline.step(at, batch, arrival.arrived_ns, &**clock, &mut round.out);
                    }
                    (_, Some(frame)) => pipeline.see(at, frame, &**clock, &mut round.out),
                    (_, None) => {}
                }));
                if let Err(panic) = looked {
                    let name = &self.states.0[at].config.name;
                    let given_up = match &arrival.event {
                        Event::Batch(batch) => format!("{} readings", batch.t_ms.len()),
                        _ => "a picture".to_owned(),
                    };
                    let reason = format!(
                        "{given_up} of `{name}` given up: the pipeline panicked: {}",
                        panic_text(&*panic)
                    );
                    let told = self.policy.text(Some(name.as_str()), &reason).unwrap_or_default();
                    tracing::error!(source = %name, reason = told, "a batch was given up");
                    round.out.push(Product::part("pipeline", "failed", reason));
                }
                let says = |word: &str| {
                    let is_so = |product: &Product| {
                        matches!(product, Product::Part(PartChange { part, state, .. })
                            if state == word && part.starts_with("model."))
                    };
                    round.out[before..].iter().any(is_so)
                };
                let (failed, learnt) = (says("failed"), says("ready"));
                if failed {
                    self.recall_fallen();
                }
                if learnt {
                    self.keep(round);
                }
            }
        }
        for product in &round.out[before..] {
            match product {
                Product::Part(PartChange { part, state, reason }) => {
                    round.changed = true;
                    round.failed.retain(|failed| failed != part);
                    if state == "failed" {
                        // Who brought it from outside has logged it, as loud as it deserves.
                        if !matches!(arrival.event, Event::Part(_)) {
                            let reason = self.policy.text(None, reason).unwrap_or_default();
                            tracing::error!(part, reason, "a part of the node failed");
                        }
                        round.failed.push(part.clone());
                    }
                }
                Product::Source(_) => round.changed = true,
                Product::Decision(_) => round.deciding.push(arrival.arrived_ns),
                _ => {}
            }
        }
    }

    /// Tells networks that look at several things in one run what waits behind this event.
    fn foresee(&mut self, at: usize, arrival: &Arrival, round: &mut Round) {
        let Looper { pipeline, outlet, clock, .. } = self;
        let (most, out) = (pipeline.foresight(at), &mut round.out);
        match &arrival.event {
            Event::Look => {
                outlet.let_wait(arrival.source, most);
                if most > 0 {
                    pipeline.foresee_pictures(at, &outlet.frames(arrival.source), &**clock, out);
                }
            }
            Event::Batch(batch) if most > 0 => outlet.waiting(|waiting| {
                let own = waiting.iter().filter(|other| other.source == arrival.source);
                // What follows when it opens anew, or fails, is another stream.
                let batches = own.map_while(|other| match &other.event {
                    Event::Batch(batch) => Some(Some(batch)),
                    Event::Opened { .. } | Event::State { .. } => None,
                    _ => Some(None),
                });
                let rows = std::iter::once(batch).chain(batches.flatten()).flat_map(|batch| {
                    let channels = batch.values.len() / batch.t_ms.len().max(1);
                    batch.t_ms.iter().copied().zip(batch.values.chunks_exact(channels.max(1)))
                });
                pipeline.foresee(at, batch.t_ms.len(), rows, &**clock, out);
            }),
            _ => {}
        }
    }

    /// Models that have just broken down go on from what was kept of them.
    fn recall_fallen(&mut self) {
        let fallen: Vec<usize> = self.pipeline.fallen().collect();
        for at in fallen {
            match Of::Model.load(&self.data, &self.flow.models[at].name) {
                Ok(Some(stored)) => self.pipeline.restore_model(at, stored),
                Ok(None) => {}
                Err(error) => {
                    let model = &self.flow.models[at].name;
                    tracing::warn!(%model, error = why(&error), "what a model had learnt cannot be read");
                }
            }
        }
    }

    fn note_refused(&mut self, at: usize, arrival: &Arrival) {
        self.states.0[at].refused = arrival.refused;
    }

    /// Goes on with another flow. What sources that leave have brought is looked at first.
    fn replace_flow(&mut self, flow: Flow, arrivals: &mut Vec<Arrival>, round: &mut Round) {
        self.sources.stop_gone(&self.flow, &flow);
        while let Some(arrival) = self.outlet.next_now() {
            self.think(&arrival, round);
            arrivals.push(arrival);
        }
        // Those that leave wait for what they brought.
        round.secure |= self.sources.part_with_gone(|place| self.pipeline.brought(place));
        let data = self.data.clone();
        // What cannot be read is learnt anew.
        let stored = |model: &str| {
            Of::Model.load(&data, &PartName::new(model).ok()?).unwrap_or_else(|error| {
                tracing::warn!(model, error = why(&error), "what a model had learnt cannot be read");
                None
            })
        };
        let empty = Pipeline::new(&flow);
        let pipeline = std::mem::replace(&mut self.pipeline, empty);
        let (pipeline, replaced) = pipeline.replaced(&self.flow, &flow, stored, &mut round.out);
        self.pipeline = pipeline;
        self.states.follow(&flow, &replaced);
        let words = replaced.words();
        tracing::info!(digest = %flow.digest, words, "another flow from now on");
        round.out.push(Product::part("flow", "ready", format!("{words}; digest {}", flow.digest)));
        if let Err(error) = self.sources.follow(&flow, &replaced) {
            let reason = format!("a source has no thread: {error}; start the node again");
            tracing::error!(reason, "the flow is not whole");
            round.out.push(Product::part("flow", "failed", reason));
        }
        self.desk.follow(&flow.reports);
        if let Err(error) = self.sinks.follow(&flow.sinks) {
            let reason = format!("a sink has no thread: {error}; start the node again");
            tracing::error!(reason, "the flow is not whole");
            round.out.push(Product::part("flow", "failed", reason));
        }
        inventory::say_flow(&mut self.shared.own().machine, &flow.digest);
        {
            let mut status = self.shared.status();
            (status.flow, status.flow_problem) = (flow.digest, None);
        }
        round.failed.retain(|part| replaced.same.contains(part));
        round.changed = true;
        if let Some(reining) = &mut self.reining {
            reining.follow(&flow);
        }
        self.flow = flow;
    }

    fn change_source(&mut self, at: usize, state: SourceState, reason: &str, round: &mut Round) {
        let (readings, late) = self.pipeline.counts(at);
        let source = &mut self.states.0[at];
        if source.state == state && source.reason == reason {
            return;
        }
        source.state = state;
        source.reason = reason.to_owned();
        let told = self.policy.text(Some(source.config.name.as_str()), reason).unwrap_or_default();
        match state {
            SourceState::Failed => {
                tracing::warn!(source = %source.config.name, reason = told, "a source failed");
            }
            _ => {
                tracing::info!(source = %source.config.name, state = state.as_str(), reason = told, "a source changed");
            }
        }
        round.out.push(Product::Source(SourceChange {
            source: source.config.name.clone(),
            state: state.as_str().to_owned(),
            reason: reason.to_owned(),
            readings,
            refused: source.refused + late,
        }));
    }

    /// Has the journal remember what was thought.
    fn remember(&mut self, round: &mut Round) {
        let now_ns = self.clock.mono_ns();
        let due = self.journal.durable_due().is_some_and(|due_ns| now_ns >= due_ns);
        let full = std::mem::take(&mut round.secure) || due;
        if round.out.is_empty() && !full {
            return;
        }
        let stamp = self.stamp();
        let mut trouble = None;
        for product in round.out.drain(..) {
            if let Err(error) = self.journal.append([product.draft()], stamp) {
                trouble = Some(why(&error));
            }
        }
        let durability = if full { Durability::Full } else { Durability::Relaxed };
        let mut committed = self.journal.commit(durability);
        if let Some(set_aside) = self.journal.take_set_aside() {
            round.changed = true;
            let mut told = vec![Product::part("journal", "failed", set_aside.to_string())];
            // A restart asks the journal which rules fire; this one has not heard of them.
            let firing =
                self.pipeline.restated("it was firing when the journal before this one was set aside");
            told.extend(firing.into_iter().map(Product::Decision));
            committed = committed
                .and(self.journal.append(told.iter().map(Product::draft), stamp))
                .and_then(|()| self.journal.commit(Durability::Full));
        }
        let arrivals = round.deciding.drain(..);
        match committed {
            Ok(_) => {
                self.ring.send_modify(|rung| *rung += 1);
                let now_ns = self.clock.mono_ns();
                arrivals.for_each(|arrived_ns| round.decided.note(now_ns.saturating_sub(arrived_ns)));
            }
            // What was not committed has no latency yet; what failed is told, not averaged.
            Err(error) => trouble = Some(why(&error)),
        }
        match (&trouble, &round.trouble) {
            (Some(new), None) => tracing::error!(reason = new, "the journal does not take all records"),
            (None, Some(_)) => tracing::info!("the journal takes all records again"),
            _ => {}
        }
        round.trouble = trouble;
    }

    /// Tells the sources what is in the journal; nothing while it does not take all records.
    fn settle(&mut self, round: &Round) {
        if round.trouble.is_some() {
            return;
        }
        let durable = self.journal.durable_due().is_none();
        for (place, number) in self.sources.numbers().iter().enumerate() {
            self.outlet.settle(*number, self.pipeline.settled(place), durable);
        }
        if durable {
            for (number, brought) in self.sources.take_parted() {
                self.outlet.settle(number, brought, true);
                self.outlet.close(number);
            }
        }
    }

    /// Writes down what other parts have handed in, and tells them once it is durable.
    fn file(&mut self, round: &mut Round) {
        let filed: Vec<Filed> = self.reports.try_iter().collect();
        if filed.is_empty() {
            return;
        }
        let (drafts, kept): (Vec<_>, Vec<_>) = filed.into_iter().map(|it| (it.draft, it.kept)).unzip();
        let appended = self.journal.append(drafts, self.stamp());
        match appended.and_then(|()| self.journal.commit(Durability::Full)) {
            Ok(_) => {
                self.ring.send_modify(|rung| *rung += 1);
                kept.into_iter().for_each(|kept| kept());
            }
            // Whoever handed it in does so again in its next life.
            Err(error) => round.trouble = Some(why(&error)),
        }
    }

    /// Gives up what was asked for while memory or disk are short.
    fn relieve(&mut self, round: &mut Round) {
        if self.shared.drop_caches.swap(false, Relaxed)
            && let Err(error) = self.journal.drop_caches()
        {
            tracing::warn!(error = why(&error), "the journal's page cache stays");
        }
        if self.shared.shrink_journal.swap(false, Relaxed) {
            match self.journal.shrink() {
                Ok(0) => {}
                Ok(bytes) => tracing::warn!(bytes, "the journal gave room back to the disk"),
                Err(error) => round.trouble = Some(why(&error)),
            }
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            boot: self.boot,
            mono_ns: self.clock.mono_ns(),
            wall_ms: self.clock.wall_ms(),
            clock: self.shared.clock_quality(),
        }
    }

    /// Stores what models have learnt, on a thread of its own: nothing waits for the disk.
    fn keep(&mut self, round: &mut Round) {
        if round.keeping.as_ref().is_some_and(|keeping| !keeping.is_finished()) {
            return;
        }
        round.kept_ns = self.clock.mono_ns();
        let states = self.learnt();
        if states.is_empty() {
            return;
        }
        let data = self.data.clone();
        let write = move || {
            for (of, name, bytes) in states {
                if let Err(error) = of.save(&data, &name, &bytes) {
                    tracing::warn!(?of, %name, error = why(&error), "what was learnt could not be stored");
                }
            }
        };
        match std::thread::Builder::new().name("keep".to_owned()).spawn(write) {
            Ok(thread) => round.keeping = Some(thread),
            Err(error) => tracing::warn!(%error, "what models have learnt could not be stored"),
        }
    }

    /// What models have learnt, and what was learnt of sensors.
    fn learnt(&mut self) -> Vec<(Of, PartName, Vec<u8>)> {
        let models = self.pipeline.models_mut().iter_mut();
        let models =
            models.filter_map(|model| Some((Of::Model, model.config().name.clone(), model.store()?)));
        let mut learnt: Vec<_> = models.collect();
        learnt.extend(self.pipeline.habits().map(|(source, bytes)| (Of::Sensors, source.clone(), bytes)));
        learnt
    }

    pub(super) fn finish(mut self, mut round: Round) -> Result<(), JournalError> {
        self.pipeline.flush(&mut round.out);
        round.secure = true;
        self.remember(&mut round);
        self.settle(&round);
        self.file(&mut round);
        if let Some(keeping) = round.keeping.take() {
            // A panic there cost a file that is written again below.
            let _ = keeping.join();
        }
        for (of, name, bytes) in self.learnt() {
            if let Err(error) = of.save(&self.data, &name, &bytes) {
                tracing::warn!(?of, %name, error = why(&error), "what was learnt could not be stored");
            }
        }
        self.tell_status(&round);
        self.journal.close()
    }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let short: String = text.chars().take(MOST).collect();
    format!("{short}…")
}
