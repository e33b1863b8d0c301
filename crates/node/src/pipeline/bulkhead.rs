//! Keeps the panic of one part from costing the others: it rests, longer after each time, while the rest of the flow goes on.
//!
//! A model that comes from outside can break in ways that nobody foresaw. Behind a bulkhead it costs its own words, which are
//! missing until it works again; rules go on with what else they have, or with their floors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wire::id::PartName;
use wire::world::MonoNs;

use crate::model::Model;
use crate::network::Watcher;
use crate::source::{BackOff, panic_text};

/// A part that has a name in the flow.
pub(super) trait Part {
    /// Its name.
    fn name(&self) -> &PartName;

    /// Whether it does anything when it is asked now.
    fn is_at_work(&self) -> bool {
        true
    }
}

impl Part for Model {
    fn name(&self) -> &PartName {
        &self.config().name
    }
}

impl Part for Watcher {
    fn name(&self) -> &PartName {
        &self.config().name
    }

    fn is_at_work(&self) -> bool {
        self.is_ready()
    }
}

/// How a part has fared.
#[derive(Debug, Default)]
pub(super) struct Bulkhead {
    /// Panics in a row.
    falls: u32,
    /// When its rest is over; `None`: it never fell.
    until_ns: Option<MonoNs>,
    /// Whether it has to be made anew before it works again.
    down: bool,
}

impl Bulkhead {
    /// Whether its rest is not over.
    pub(super) fn rests(&self, now_ns: MonoNs) -> bool {
        self.down && self.until_ns.is_some_and(|until_ns| now_ns < until_ns)
    }

    /// Whether it fell, and was not made anew since.
    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    /// How often in a row it fell.
    pub(super) fn falls(&self) -> u32 {
        self.falls
    }

    /// It is made anew and works again.
    pub(super) fn rise(&mut self) {
        self.down = false;
    }

    /// Lets a part work; if it panics, why, and how long it rests.
    pub(super) fn run<P: Part, T>(
        &mut self,
        part: &mut P,
        now_ns: MonoNs,
        work: impl FnOnce(&mut P) -> T,
    ) -> Result<T, String> {
        contained(part, work).map_err(|panic| {
            let back_off = BackOff::default();
            let ran_ns = self.until_ns.map_or(0, |until_ns| now_ns.saturating_sub(until_ns));
            self.falls = match self.until_ns {
                None => 1,
                Some(_) => back_off.failures(self.falls, Duration::from_nanos(ran_ns)),
            };
            let rest = back_off.after(self.falls);
            self.until_ns = Some(now_ns.saturating_add(rest.as_nanos() as MonoNs));
            self.down = true;
            format!("it panicked: {panic}; tried again in {} s", rest.as_secs())
        })
    }
}

/// Does what a part does; if it panics, what the panic said.
pub(super) fn contained<P: Part, T>(part: &mut P, work: impl FnOnce(&mut P) -> T) -> Result<T, String> {
    let work = || {
        assert!(!(part.is_at_work() && sabotage::is_set(part.name().as_str())), "a test broke it");
        work(part)
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(&*panic).to_owned())
}

/// Nobody breaks parts of a node that runs.
#[cfg(not(test))]
pub(super) mod sabotage {
    pub(in crate::pipeline) fn is_set(_: &str) -> bool {
        false
    }
}

/// What tests break.
#[cfg(test)]
pub(crate) mod sabotage {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static BROKEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// From now on this part panics on this thread, or works again.
    pub(crate) fn set(part: &str, broken: bool) {
        BROKEN.with_borrow_mut(
            |parts| {
                if broken { parts.insert(part.to_owned()) } else { parts.remove(part) }
            },
        );
    }

    pub(in crate::pipeline) fn is_set(part: &str) -> bool {
        BROKEN.with_borrow(|parts| parts.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use wire::world::Simulated;

    use super::super::{Pipeline, Product};
    use super::*;
    use crate::flow::Flow;
    use crate::source::queue::Batch;

    const S: MonoNs = 1_000_000_000;

    impl Part for PartName {
        fn name(&self) -> &PartName {
            self
        }
    }

    #[test]
    fn who_falls_rests_longer_and_longer_and_is_forgiven_after_a_good_run() {
        let (mut part, mut bulkhead) = (PartName::new("m").unwrap(), Bulkhead::default());
        let mut fall = |at_s: u64| {
            let fell = bulkhead.run(&mut part, at_s * S, |_| -> u32 { panic!("odd") }).unwrap_err();
            assert!(bulkhead.is_down() && bulkhead.rests(at_s * S));
            bulkhead.rise();
            assert!(!bulkhead.rests(at_s * S));
            fell
        };
        assert_eq!(fall(5), "it panicked: odd; tried again in 1 s");
        assert_eq!(fall(6), "it panicked: odd; tried again in 2 s");
        assert_eq!(fall(8), "it panicked: odd; tried again in 4 s");
        assert_eq!(fall(1_000), "it panicked: odd; tried again in 1 s");
        assert_eq!(bulkhead.run(&mut part, 0, |_| 7), Ok(7));
    }

    #[test]
    fn a_detector_that_panics_costs_itself_alone_and_goes_on_from_what_was_stored() {
        let text = "[source.s]\ntype = \"http\"\n[model.odd]\ntype = \"subspace\"\ninputs = [\"source.s\"]\nlag = 1\n\
                    learn = 40\n[rule.hot]\ninputs = [\"source.s\", \"model.odd\"]\nwhen = \"odd.score > 1000\"\n\
                    floor = \"s.x > 20\"\n";
        let flow = Flow::parse("flow.toml".as_ref(), text.into()).unwrap();
        let mut pipeline = Pipeline::new(&flow);
        let (mut out, world) = (Vec::new(), Simulated::new(1));
        pipeline.open(0, &["x".into(), "y".into()], &mut out).unwrap();
        let give = |pipeline: &mut Pipeline, seconds: std::ops::Range<i64>, level: f64| {
            let mut out = Vec::new();
            for second in seconds {
                world.advance_to(second as u64 * S);
                let x = level + (second * 7 % 11) as f64 / 10.0;
                let batch = Batch { t_ms: vec![second * 1_000], values: vec![x, 11.0 - x] };
                pipeline.step(0, &batch, 0, &world, &mut out);
            }
            let told = out.into_iter().filter_map(|product| match product {
                Product::Part(change) => Some(format!("{} {}", change.part, change.state)),
                Product::Decision(decision) => Some(format!("{:?} by {:?}", decision.state, decision.ran)),
                _ => None,
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(give(&mut pipeline, 0..100, 5.0), ["model.odd ready"]);
        let stored = pipeline.models_mut()[0].store().unwrap();
        sabotage::set("odd", true);
        // The rule answers from the same readings.
        let told = give(&mut pipeline, 100..102, 30.0);
        assert_eq!(told, ["model.odd failed", "Firing by Rule", "model.odd learning", "model.odd failed"]);
        assert_eq!(pipeline.fallen().count(), 0, "it fell twice in a row");
        sabotage::set("odd", false);
        pipeline.restore_model(0, stored);
        assert_eq!(give(&mut pipeline, 102..106, 5.0), ["Cleared by Rule", "model.odd ready"]);
        assert!(pipeline.models()[0].ready());
    }
}
