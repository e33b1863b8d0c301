//! What this node says it is: facts of the machine, of its models, and its labels; and which of them the hub has not heard.
//!
//! Selectors are judged on these facts, by the hub to see who is meant, and by the node to see whether it is. They are told
//! as differences from what the hub acknowledged. If an answer was lost, the hub has heard more than we know of; then the
//! number that a difference begins from is not the hub's, and it asks for all.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use package::disk::Disk;
use package::disk::system::System;
use serde_json::Map;
use wire::checkin::{Inventory, SlotState};
use wire::facts::{Fact, FactName, Facts};
use wire::hash::Hash;
use wire::id::NodeId;

use crate::config::Config;
#[cfg(feature = "packages")]
use crate::device::{isa, machine};
use crate::pressure::look;

/// The facts that stay while the process runs, of the node that is told this.
pub fn of(config: &Config) -> Facts {
    as_allowed(of_machine(&config.name, &config.flow.digest), config)
}

/// Facts without what the owner forbids.
#[cfg(feature = "packages")]
fn as_allowed(mut facts: Facts, config: &Config) -> Facts {
    if config.packages.as_ref().is_some_and(|packages| packages.rules.beside.is_none()) {
        say_cannot(&mut facts, SHADOW);
    }
    facts
}

/// Without releases there is nothing to forbid.
#[cfg(not(feature = "packages"))]
fn as_allowed(facts: Facts, _: &Config) -> Facts {
    facts
}

/// The facts that stay while the process runs, of any node that has this program and this machine.
pub fn of_machine(node: &NodeId, flow: &Hash) -> Facts {
    let mut facts = Facts::default();
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let list = |words: Vec<&str>| Fact::List(words.into_iter().map(str::to_owned).collect());
    let known = [
        ("name", Some(node.as_str().into())),
        ("version", Some(env!("CARGO_PKG_VERSION").into())),
        ("arch", Some(std::env::consts::ARCH.into())),
        ("os", Some(std::env::consts::OS.into())),
        ("kernel", kernel.map(|kernel| kernel.trim().into())),
        ("cores", Some(Fact::Number(cores as f64))),
        #[cfg(feature = "packages")]
        ("cpu", machine().map(|(cpu, _)| cpu.as_str().into())),
        #[cfg(feature = "packages")]
        ("isa", Some(list(isa()))),
        ("ram", look::memory(Path::new("/")).map(|memory| Fact::Number(memory.bytes as f64))),
        // This program computes on the processor alone.
        ("accelerator", Some(list(Vec::new()))),
        // What this program can beside what every one could; documents that ask for more mean nobody else.
        #[cfg(feature = "packages")]
        ("can", Some(list(can()))),
        // What every program once could, and this one cannot.
        #[cfg(not(feature = "language"))]
        ("cannot", Some(list(vec!["language"]))),
        ("flow", Some(flow.to_string().as_str().into())),
    ];
    for (name, fact) in known {
        say(&mut facts, name, fact);
    }
    facts
}

/// A release may answer beside the current one.
#[cfg(feature = "packages")]
const SHADOW: &str = "shadow";

/// What this build can.
#[cfg(feature = "packages")]
fn can() -> Vec<&'static str> {
    // Only language models are compared.
    let shadow = cfg!(feature = "language").then_some(SHADOW);
    let network = (!net::runtime::Kind::built().is_empty()).then_some("network");
    shadow.into_iter().chain(network).collect()
}

/// Another flow runs.
pub fn say_flow(facts: &mut Facts, flow: &Hash) {
    say(facts, "flow", Some(flow.to_string().as_str().into()));
}

/// Whether there is a door for nodes behind this one.
pub fn say_relay(facts: &mut Facts, is_relay: bool) {
    say(facts, "relay", Some(Fact::Truth(is_relay)));
}

/// All facts: those of the machine, the free bytes of the disk that holds `data`, the models, and the labels.
pub fn facts(machine: &Facts, data: &Path, slots: &[SlotState], labels: &BTreeMap<String, String>) -> Facts {
    let mut facts = machine.clone();
    say(&mut facts, "disk", System.free_bytes(data).map(|bytes| Fact::Number(coarse(bytes) as f64)));
    for slot in slots {
        if let Some(current) = &slot.current {
            say(&mut facts, &format!("model.{}", slot.model), Some(Fact::Number(current.release as f64)));
            say(&mut facts, &format!("variant.{}", slot.model), Some(current.variant.as_str().into()));
        }
        if let Some(candidate) = slot.candidate.as_ref().filter(|it| it.phase == "trial") {
            say(&mut facts, &format!("trial.{}", slot.model), Some(Fact::Number(candidate.release as f64)));
        }
    }
    for (name, value) in labels {
        say(&mut facts, &format!("label.{name}"), Some(value.as_str().into()));
    }
    facts
}

/// The node can one thing more.
pub(crate) fn say_can(facts: &mut Facts, word: &str) {
    let known = FactName::new("can").ok().and_then(|name| facts.get(&name).cloned());
    let mut words = if let Some(Fact::List(words)) = known { words } else { Vec::new() };
    words.push(word.to_owned());
    say(facts, "can", Some(Fact::List(words)));
}

/// The node could do this, and does not: its owner forbids it.
#[cfg(feature = "packages")]
fn say_cannot(facts: &mut Facts, word: &str) {
    let known = FactName::new("can").ok().and_then(|name| facts.get(&name).cloned());
    if let Some(Fact::List(mut words)) = known {
        words.retain(|known| known != word);
        say(facts, "can", Some(Fact::List(words)));
    }
}

/// What cannot be a fact, or is one too many, is not said: nobody is meant by what nobody says.
fn say(facts: &mut Facts, name: &str, fact: Option<Fact>) {
    if let (Ok(name), Some(fact)) = (FactName::new(name), fact) {
        drop(facts.set(name, fact));
    }
}

/// Rounds down to four binary digits: a disk that fills slowly is not news at every check-in.
fn coarse(bytes: u64) -> u64 {
    let digits = u64::BITS - bytes.leading_zeros();
    let cut = digits.saturating_sub(4);
    bytes >> cut << cut
}

/// What the hub was told, and what of that it is known to have.
#[derive(Debug, Default)]
pub struct Told {
    seq: u64,
    /// What the hub has.
    acked: Option<(u64, Facts)>,
    /// What stands in the check-in that is under way.
    told: Option<(u64, Facts)>,
}

impl Told {
    /// What a check-in says of these facts.
    pub fn tell(&mut self, facts: Facts) -> Inventory {
        let (base, before) = self.acked.clone().unwrap_or_default();
        let delta = before.delta(&facts);
        if base == 0 || !delta.is_empty() {
            self.seq += 1;
        }
        let seq = if base > 0 && delta.is_empty() { base } else { self.seq };
        self.told = Some((seq, facts));
        let value =
            |(name, fact): (FactName, Fact)| Some((name.to_string(), serde_json::to_value(fact).ok()?));
        Inventory {
            seq,
            base,
            set: delta.set.into_iter().filter_map(value).collect(),
            drop: delta.drop.iter().map(FactName::to_string).collect(),
            extra: Map::new(),
        }
    }

    /// The hub answered the check-in; `full`: it wants to hear all of it.
    pub fn heard(&mut self, full: bool) {
        let told = self.told.take();
        if full {
            self.acked = None;
        } else if told.is_some() {
            self.acked = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::checkin::CurrentState;

    use super::*;

    fn said(json: &str) -> Facts {
        serde_json::from_str(json).unwrap()
    }

    /// The sequence numbers, how many facts are set, and how many dropped.
    fn shape(inventory: &Inventory) -> (u64, u64, usize, usize) {
        (inventory.base, inventory.seq, inventory.set.len(), inventory.drop.len())
    }

    #[test]
    fn the_hub_hears_differences_from_what_it_acknowledged() {
        let (one, two) = (said(r#"{"a":1,"b":2}"#), said(r#"{"a":1,"c":3}"#));
        let mut told = Told::default();
        assert_eq!(shape(&told.tell(one.clone())), (0, 1, 2, 0), "the first time all");
        // The answer is lost.
        assert_eq!(shape(&told.tell(one.clone())), (0, 2, 2, 0));
        told.heard(false);
        assert_eq!(shape(&told.tell(one.clone())), (2, 2, 0, 0), "nothing is new");
        told.heard(false);
        assert_eq!(shape(&told.tell(two.clone())), (2, 3, 1, 1));
        assert_eq!(shape(&told.tell(two.clone())), (2, 4, 1, 1), "never from what was not acknowledged");
        told.heard(false);
        told.heard(false);
        assert_eq!(shape(&told.tell(two.clone())), (4, 4, 0, 0));
        told.heard(true);
        assert_eq!(shape(&told.tell(two)), (0, 5, 2, 0), "the hub asked for all");
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let node = NodeId::new("pump-1").unwrap();
        let machine = of_machine(&node, &Hash::GENESIS);
        let current =
            CurrentState { release: 7, variant: "q4_0".into(), manifest: Hash::GENESIS, extra: Map::new() };
        let slot = SlotState {
            model: "smollm2".into(),
            current: Some(current),
            previous: None,
            candidate: None,
            spare: None,
            safe: None,
            waits: None,
            extra: Map::new(),
        };
        let labels = [("site".into(), "oslo".into()), ("not a name".into(), "x".into())].into();
        let facts = facts(&machine, Path::new("/"), &[slot], &labels);
        let holds = |expr: &str| wire::select::Selector::parse(expr).unwrap().has(&facts);
        for expr in [
            r#"name == "pump-1" && model.smollm2 == 7 && variant.smollm2 == "q4_0""#,
            r#"site == "oslo" && label.site == "oslo""#,
            "cores >= 1 && arch && os && version",
        ] {
            assert!(holds(expr), "{expr}: {facts:?}");
        }
        if cfg!(target_os = "linux") {
            assert!(holds("ram >= 64MiB && kernel && disk"), "{facts:?}");
        }
        assert!(!holds(r#"accelerator has "cuda""#) && !holds("model.other"));
    }

    #[cfg(feature = "language")]
    #[test]
    fn what_the_owner_forbids_is_not_said() {
        let mut facts = of_machine(&NodeId::new("pump-1").unwrap(), &Hash::GENESIS);
        let can = |facts: &Facts, word: &str| {
            wire::select::Selector::parse(&format!("can has {word:?}")).unwrap().has(facts)
        };
        let could_networks = can(&facts, "network");
        assert!(can(&facts, SHADOW), "{facts:?}");
        say_cannot(&mut facts, SHADOW);
        assert!(!can(&facts, SHADOW) && can(&facts, "network") == could_networks, "{facts:?}");
    }

    #[test]
    fn a_disk_is_told_in_steps() {
        assert_eq!([0, 7, 15, 16, 17, 31, 1000].map(coarse), [0, 7, 15, 16, 16, 30, 960]);
        assert_eq!(coarse(u64::MAX), 15 << 60);
    }
}
