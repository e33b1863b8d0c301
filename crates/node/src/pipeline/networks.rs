//! The networks of a flow at their place in the pipeline: what they answer goes onto the board, and into records when a word is
//! another than before.

use net::after::{Answer, Field as Value};
use wire::body::{self, Said};
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{Clock, WallMs};

use super::bulkhead::contained;
use super::products::Product;
use crate::board::{Board, Kind, Slot};
use crate::flow::Flow;
use crate::flow::names::PartAt;
use crate::network::releases::Releases;
use crate::network::{Change, Watcher};
use crate::source::frame::Frame;
use crate::supervise::crumb::Crumb;
use crate::why::why;

/// The networks of a flow.
#[derive(Debug)]
pub(super) struct Networks {
    placed: Vec<Placed>,
    /// Where those that come as releases are taken from.
    releases: Releases,
    /// Why this run does without any, if it does.
    left_out: Option<String>,
}

/// A network, and where its fields stand.
#[derive(Debug)]
struct Placed {
    /// `model.` and its name.
    path: String,
    watcher: Watcher,
    /// Why this run does without it, if it does.
    left_out: Option<String>,
    /// What somebody speaks of.
    slots: Vec<(String, Kind, Slot)>,
    /// What it answered last, if that still stands.
    last: Option<Answer>,
    /// Whether that was put there by a rehearsal, and stays.
    pretended: bool,
}

/// A reading on its way through the networks of its source.
pub(super) struct At<'a> {
    pub(super) source: usize,
    /// `source.` and its name.
    pub(super) part: &'a str,
    pub(super) t_ms: WallMs,
    pub(super) values: &'a [f64],
    /// The picture that the values were measured of, from a source that gives pictures.
    pub(super) frame: Option<&'a Frame>,
    pub(super) clock: &'a dyn Clock,
    /// Where the node notes what it is busy with.
    pub(super) crumb: &'a Crumb,
}

/// What time it is, and where it is noted what the node is busy with.
pub(super) struct Now<'a> {
    /// `source.` and its name.
    pub(super) part: &'a str,
    pub(super) clock: &'a dyn Clock,
    pub(super) crumb: &'a Crumb,
}

impl Networks {
    pub(super) fn new(flow: &Flow) -> Networks {
        let placed = |(at, config): (usize, &crate::network::NetworkConfig)| {
            let fields = flow
                .fields
                .iter()
                .zip((0..).map(Slot))
                .filter(|(field, _)| field.part == PartAt::Network(at));
            Placed {
                path: format!("model.{}", config.name),
                left_out: None,
                watcher: Watcher::new(config.clone()),
                slots: fields.map(|(field, slot)| (field.name.clone(), field.kind, slot)).collect(),
                last: None,
                pretended: false,
            }
        };
        let placed = flow.networks.iter().enumerate().map(placed).collect();
        Networks { placed, releases: Releases::default(), left_out: None }
    }

    /// Those that come as releases are taken from there.
    pub(super) fn join(&mut self, releases: Releases) {
        self.placed.iter_mut().for_each(|placed| placed.watcher.join(releases.clone()));
        self.releases = releases;
    }

    /// Where they are taken from.
    pub(super) fn releases(&self) -> &Releases {
        &self.releases
    }

    /// None of them is loaded in this run, nor those of a flow that follows.
    pub(super) fn leave_out(&mut self, why: &str) {
        self.left_out = Some(why.to_owned());
    }

    /// This one is not, under this name.
    pub(super) fn leave_out_one(&mut self, at: usize, why: &str) {
        self.placed[at].left_out = Some(why.to_owned());
    }

    /// What goes on in another flow whichever networks it has.
    pub(super) fn follow(&mut self, before: &Networks) {
        self.left_out.clone_from(&before.left_out);
        for placed in &mut self.placed {
            let same = before.placed.iter().find(|other| other.path == placed.path);
            placed.left_out = same.and_then(|same| same.left_out.clone());
        }
    }

    /// A network of the flow.
    pub(super) fn get(&self, at: usize) -> &Watcher {
        &self.placed[at].watcher
    }

    /// The most readings that a network of this source looks at.
    pub(super) fn keep(&self, source: usize) -> usize {
        self.of(source).map(|placed| placed.watcher.config().window).max().unwrap_or(1)
    }

    fn of(&self, source: usize) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(move |placed| placed.watcher.config().source == source)
    }

    /// Says this from now on, whatever comes; what is not named is missing.
    pub(super) fn pretend(&mut self, at: usize, fields: &[(String, Said)]) {
        let field = |(name, said): &(String, Said)| {
            let value = match said {
                Said::Number(number) => Value::Number(*number),
                Said::Word(word) => Value::Word(word.clone()),
            };
            (name.clone(), value)
        };
        let placed = &mut self.placed[at];
        placed.last = Some(Answer { fields: fields.iter().map(field).collect(), ..Answer::default() });
        placed.pretended = true;
    }

    /// Takes over a network of the flow before, with its window and its state.
    pub(super) fn take_over(&mut self, at: usize, before: &mut Networks, was: usize) {
        let (now, old) = (&mut self.placed[at], &mut before.placed[was]);
        let config = now.watcher.config().clone();
        std::mem::swap(&mut now.watcher, &mut old.watcher);
        now.watcher.moved(config);
        now.last = old.last.take();
    }

    /// A source has other channels from now on.
    pub(super) fn close(&mut self, source: usize) {
        for placed in self.placed.iter_mut().filter(|placed| placed.watcher.config().source == source) {
            placed.watcher.close();
            placed.last = None;
        }
    }

    /// A source opens: its networks are loaded, or say why not. Those that go on from before a change of the flow do so.
    pub(super) fn open(&mut self, source: usize, channels: usize, crumb: &Crumb, out: &mut Vec<Product>) {
        for placed in self.placed.iter_mut().filter(|placed| placed.watcher.config().source == source) {
            if placed.watcher.is_open() {
                continue;
            }
            if let Some(left_out) = self.left_out.as_ref().or(placed.left_out.as_ref()) {
                out.push(Product::part(&placed.path, "left_out", left_out.clone()));
                continue;
            }
            // The first retry is then at the first reading a second after the clock's beginning.
            crumb.at(Some(&placed.path));
            let opened = contained(&mut placed.watcher, |watcher| watcher.open(channels, 0));
            crumb.at(None);
            let (state, reason) = match opened {
                Ok(Ok(())) => ("ready", placed.watcher.model().variant),
                Ok(Err(error)) => ("failed", why(&error)),
                Err(panic) => {
                    placed.watcher.fall(0);
                    ("failed", format!("it panicked while it was loaded: {panic}"))
                }
            };
            out.push(Product::part(&placed.path, state, reason));
        }
    }

    /// How much of what waits of a source is worth knowing beforehand; 0: nothing.
    pub(super) fn foresight(&self, source: usize) -> usize {
        let asked = self.of(source).filter(|placed| !placed.pretended && placed.left_out.is_none());
        let most = asked.map(|placed| placed.watcher.foresight()).max().unwrap_or(0);
        if self.left_out.is_none() { most } else { 0 }
    }

    /// Has the networks of a source look ahead at what waits, as far as several looks can share a run.
    pub(super) fn foresee(
        &mut self,
        source: usize,
        now: &Now<'_>,
        out: &mut Vec<Product>,
        mut look: impl FnMut(&mut Watcher),
    ) {
        for placed in self.placed.iter_mut().filter(|placed| placed.watcher.config().source == source) {
            if placed.watcher.foresight() == 0 || placed.pretended || placed.left_out.is_some() {
                continue;
            }
            now.crumb.at(Some(&placed.path));
            let looked = contained(&mut placed.watcher, &mut look);
            now.crumb.at(Some(now.part));
            if let Err(panic) = looked {
                placed.watcher.fall(now.clock.mono_ns());
                placed.last = None;
                out.push(Product::part(&placed.path, "failed", format!("it panicked: {panic}")));
            }
        }
    }

    /// Has the networks of a source look at a reading; gives those whose answer is worth a record.
    pub(super) fn step(&mut self, at: &At<'_>, board: &mut Board, out: &mut Vec<Product>) -> Vec<usize> {
        let mut news = Vec::new();
        if self.left_out.is_some() {
            return news;
        }
        for (place, placed) in self.placed.iter_mut().enumerate() {
            if placed.watcher.config().source != at.source || placed.left_out.is_some() {
                continue;
            }
            if placed.pretended {
                placed.write(at, board);
                continue;
            }
            let now_ns = at.clock.mono_ns();
            // Whatever computes it is not ours: if the process dies of it, the next life shall know.
            at.crumb.at(Some(&placed.path));
            let stepped = contained(&mut placed.watcher, |watcher| match at.frame {
                Some(frame) => watcher.see(frame, at.values, now_ns),
                None => watcher.step(at.t_ms, at.values, now_ns),
            });
            at.crumb.at(Some(at.part));
            let changed = stepped.unwrap_or_else(|panic| {
                placed.watcher.fall(now_ns);
                Some(Change::Failed(format!("it panicked: {panic}")))
            });
            match changed {
                None => {}
                Some(Change::Ready) => {
                    let variant = placed.watcher.model().variant;
                    out.push(Product::part(&placed.path, "ready", variant));
                }
                Some(Change::Failed(reason)) => {
                    placed.last = None;
                    out.push(Product::part(&placed.path, "failed", reason));
                }
                Some(Change::Forgot) => placed.last = None,
                Some(Change::Answered(answer)) => {
                    placed.watcher.answered(now_ns, at.clock.mono_ns());
                    let is_news = placed.last.as_ref().is_none_or(|last| words(last) != words(&answer));
                    if is_news || placed.watcher.is_worth_a_record() {
                        news.push(place);
                    }
                    placed.last = Some(answer);
                }
            }
            placed.write(at, board);
        }
        news
    }

    /// What a network answered last, as a record says it.
    pub(super) fn record(
        &self,
        at: usize,
        source: &PartName,
        at_ms: WallMs,
        input: Hash,
        latency_us: u64,
    ) -> body::Answer {
        let Placed { watcher, last, .. } = &self.placed[at];
        let fields = last.iter().flat_map(|last| &last.fields).map(|(name, value)| {
            let said = match value {
                Value::Number(number) => Said::Number(*number),
                Value::Word(word) => Said::Word(word.clone()),
            };
            (name.clone(), said)
        });
        body::Answer {
            model: watcher.model(),
            source: source.clone(),
            at_ms,
            fields: fields.collect(),
            input,
            latency_us,
        }
    }
}

/// The words of an answer: what is worth a record when it changes.
fn words(answer: &Answer) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    for (name, value) in &answer.fields {
        if let Value::Word(word) = value {
            words.push((name.as_str(), word.as_str()));
        }
    }
    words
}

impl Placed {
    /// Writes what stands onto the board: at each reading, so that it is as old as the reading that keeps it standing.
    fn write(&self, at: &At<'_>, board: &mut Board) {
        for (name, kind, slot) in &self.slots {
            let value =
                self.last.as_ref().and_then(|last| last.fields.iter().find(|(field, _)| field == name));
            match (kind, value.map(|(_, value)| value)) {
                (Kind::Text, Some(Value::Word(word))) => board.text(*slot, at.source, at.t_ms, Some(word)),
                (Kind::Text, _) => board.text(*slot, at.source, at.t_ms, None),
                (_, Some(Value::Number(number))) => board.number(*slot, at.source, at.t_ms, *number),
                (_, _) => board.number(*slot, at.source, at.t_ms, f64::NAN),
            }
        }
    }
}
