//! The sources of a running node: each on a thread of its own, or at the local API. They come and leave with the flow.
//!
//! A source has a number in the queue that is never given again, and a place in the flow, which another flow may change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use wire::id::{NodeId, PartName};
use wire::world::Clock;

use crate::flow::Flow;
use crate::flow::source::SourceConfig;
use crate::pipeline::replace::Replaced;
use crate::source::http::HttpSource;
use crate::source::queue::{Event, Intake, SourceState};
use crate::source::{BackOff, build, supervise};

/// The sources that are brought their readings, by name.
pub(crate) type Posted = Arc<RwLock<BTreeMap<String, Arc<Mutex<HttpSource>>>>>;

/// The threads of sources, also of those that have left.
pub(super) type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// The sources of a running node.
pub(super) struct Sources {
    node: NodeId,
    /// Where sources keep what they must remember.
    data: PathBuf,
    intake: Intake,
    clock: Box<dyn Fn() -> Box<dyn Clock> + Send>,
    back_off: BackOff,
    posted: Posted,
    threads: Threads,
    /// By place in the flow: the number in the queue.
    numbers: Vec<usize>,
    /// By place in the flow: those that were told to end, and are in the flow still.
    gone: Vec<usize>,
    /// Those that are not: the number in the queue, and how many readings they brought.
    parted: Vec<(usize, u64)>,
    /// Hangs up when the thread of a source ends, by its name.
    ended: BTreeMap<PartName, Receiver<()>>,
}

impl Sources {
    /// None yet.
    pub(super) fn new(
        node: NodeId,
        data: PathBuf,
        intake: Intake,
        clock: Box<dyn Fn() -> Box<dyn Clock> + Send>,
        back_off: BackOff,
    ) -> Sources {
        let (posted, threads) = (Posted::default(), Threads::default());
        let (numbers, gone, parted, ended) = Default::default();
        Sources { node, data, intake, clock, back_off, posted, threads, numbers, gone, parted, ended }
    }

    /// Those at the local API.
    pub(super) fn posted(&self) -> Posted {
        Arc::clone(&self.posted)
    }

    /// Their threads.
    pub(super) fn threads(&self) -> Threads {
        Arc::clone(&self.threads)
    }

    /// The place in the flow of who has this number; `None` if it has left.
    pub(super) fn place(&self, number: usize) -> Option<usize> {
        self.numbers.iter().position(|known| *known == number)
    }

    /// The number in the queue, by place in the flow.
    pub(super) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Starts one more; one that is left out only says so.
    pub(super) fn start(&mut self, config: &SourceConfig, left_out: Option<&str>) -> std::io::Result<()> {
        let number = self.intake.add();
        let mut inlet = self.intake.inlet(number, (self.clock)());
        self.numbers.push(number);
        if let Some(reason) = left_out {
            // The queue is new: it is told.
            let _ = inlet.tell(Event::State { state: SourceState::Failed, reason: reason.to_owned() });
            return Ok(());
        }
        match build(config, &self.node, &self.data) {
            Some(source) => {
                // Linux keeps 15 bytes of a thread's name.
                let name: String = format!("source.{}", config.name).chars().take(15).collect();
                let back_off = self.back_off;
                let (ends, ended) = channel();
                let before = self.ended.insert(config.name.clone(), ended);
                let body = move || {
                    // Two of one name would not know what the other one remembers.
                    if let Some(before) = before {
                        let _ = before.recv();
                    }
                    supervise(source, inlet, back_off);
                    drop(ends);
                };
                let thread = std::thread::Builder::new().name(name).spawn(body)?;
                self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            }
            None => {
                let http = HttpSource::new(inlet, config.channels.clone());
                let mut posted = self.posted.write().unwrap_or_else(PoisonError::into_inner);
                posted.insert(config.name.to_string(), Arc::new(Mutex::new(http)));
            }
        }
        Ok(())
    }

    /// Nothing is taken any more from sources that `after` does not have, or has otherwise.
    pub(super) fn stop_gone(&mut self, before: &Flow, after: &Flow) {
        for (place, source) in before.sources.iter().enumerate() {
            if !before.same(after, &format!("source.{}", source.name)) {
                self.intake.stop(self.numbers[place]);
                self.gone.push(place);
                self.posted.write().unwrap_or_else(PoisonError::into_inner).remove(source.name.as_str());
            }
        }
    }

    /// Nothing more is taken of those that were told to end; whether there are such. `brought`: how many readings were taken, by place.
    pub(super) fn part_with_gone(&mut self, brought: impl Fn(usize) -> u64) -> bool {
        let gone = std::mem::take(&mut self.gone);
        let are_gone = !gone.is_empty();
        self.parted.extend(gone.into_iter().map(|place| (self.numbers[place], brought(place))));
        are_gone
    }

    /// Those that wait for what they brought to be remembered: the number in the queue, and how many readings that is. Once.
    pub(super) fn take_parted(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.parted)
    }

    /// Brings the sources into the order of another flow, and starts those that are new.
    pub(super) fn follow(&mut self, after: &Flow, replaced: &Replaced) -> std::io::Result<()> {
        let before = std::mem::take(&mut self.numbers);
        for (source, was) in after.sources.iter().zip(&replaced.sources) {
            match was {
                Some(was) => self.numbers.push(before[*was]),
                None => self.start(source, None)?,
            }
        }
        Ok(())
    }
}
