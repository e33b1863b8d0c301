//! What a node proves by what it says of itself. What it has not said it cannot prove: the same rule as on the node.

use std::collections::{BTreeMap, BTreeSet};

use package::choose::Device;
use package::golden::Budget;
use package::requirement::{Kind, Runtime, Version};
use wire::facts::{Fact, FactName, Facts};

/// Instructions as `kernels::cpu` calls them; others that a node names match no variant.
const ISA: [&str; 5] = ["avx2", "avxvnni", "avx512", "neon", "i8mm"];
const ARCHS: [&str; 4] = ["x86_64", "aarch64", "riscv64", "arm"];

/// What a node runs: language models unless it says that it cannot, and networks and flows if it says that it can.
fn runs(can: &[String], cannot: &[String]) -> Vec<(Kind, Runtime)> {
    let mut runs = Vec::new();
    if cannot.iter().all(|word| word != "language") {
        runs.push((Kind::Lm, Runtime::Lm));
    }
    if can.iter().any(|word| word == "network") {
        runs.push((Kind::Net, Runtime::Onnx));
    }
    if can.iter().any(|word| word == "flow") {
        runs.push((Kind::Flow, Runtime::Flow));
    }
    runs
}

/// The device of these facts. Memory is all that it has: what is free it tells nobody.
pub fn device(facts: &Facts) -> Device {
    let fact = |name: &str| FactName::new(name).ok().and_then(|name| facts.get(&name));
    let bytes = |name: &str| match fact(name) {
        Some(Fact::Number(bytes)) if *bytes >= 0.0 => Some(*bytes as u64),
        _ => None,
    };
    let text = |name: &str| if let Some(Fact::Text(text)) = fact(name) { Some(text.as_str()) } else { None };
    let list = |name: &str| match fact(name) {
        Some(Fact::List(words)) => words.as_slice(),
        _ => &[],
    };
    let has = |word: &&'static str| list("isa").iter().any(|one| one == *word);
    let arch = text("arch").and_then(|arch| ARCHS.into_iter().find(|known| *known == arch));
    Device {
        memory_bytes: bytes("ram"),
        free_bytes: bytes("ram"),
        keep_bytes: 0,
        disk_free_bytes: bytes("disk"),
        isa: ISA.into_iter().filter(|word| has(word)).collect(),
        arch: arch.unwrap_or_default(),
        accelerators: list("accelerator").to_vec(),
        runs: runs(list("can"), list("cannot")),
        selvedge: text("version").and_then(Version::parse),
        machine: None,
        power_limit_w: None,
        budget: Budget::default(),
        measured: BTreeMap::new(),
        refused: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_runs_what_it_says_and_language_models_unless_it_cannot() {
        let check = |facts: &str, expected: &[Kind]| {
            let facts: Facts = serde_json::from_str(facts).unwrap();
            let kinds: Vec<Kind> = device(&facts).runs.into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, expected, "{facts:?}");
        };
        check("{}", &[Kind::Lm]);
        check(r#"{"can":["shadow","network"]}"#, &[Kind::Lm, Kind::Net]);
        check(r#"{"can":["network","flow"],"cannot":["language"]}"#, &[Kind::Net, Kind::Flow]);
        check(r#"{"cannot":["something later"]}"#, &[Kind::Lm]);
    }
}
