//! Which variant of a release each node would take, and why some take none. Pure.
//!
//! A node that takes none is counted under the variant that it lacks least of: that is where help is nearest.

use std::collections::BTreeMap;

use package::choose::{Lack, choose};
use package::index::Release;
use package::requirement::{IsaNeed, Kind};
use wire::facts::Facts;

use crate::fleet::device::device;

/// The sum over nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// How many nodes were asked.
    pub nodes: u64,
    /// How many take each variant, in the order of the release.
    pub variants: Vec<(String, u64)>,
    /// Why the others take none, the most frequent first.
    pub lacks: Vec<Missing>,
}

/// Nodes that take no variant for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The variant that they lack least of.
    pub variant: String,
    /// What they lack.
    pub reason: String,
    /// An expression that means nodes which lack it, where there is one.
    pub find: Option<String>,
    /// How many nodes.
    pub nodes: u64,
}

impl Coverage {
    /// How many nodes take no variant.
    pub fn none(&self) -> u64 {
        self.lacks.iter().map(|missing| missing.nodes).sum()
    }
}

/// Asks every node, by its facts.
pub fn cover<'a>(release: &Release, nodes: impl IntoIterator<Item = &'a Facts>) -> Coverage {
    let mut variants: Vec<(String, u64)> =
        release.variants.iter().map(|variant| (variant.name.to_string(), 0)).collect();
    let mut missing: BTreeMap<(usize, String, Option<String>), u64> = BTreeMap::new();
    let mut asked = 0;
    for facts in nodes {
        asked += 1;
        let choice = choose(release, &device(facts));
        if let Some(best) = choice.best {
            variants[best].1 += 1;
            continue;
        }
        let nearest = choice.reasons.iter().enumerate().min_by_key(|(_, judged)| judged.lacks.len());
        let Some((at, judged)) = nearest else { continue };
        let reasons: Vec<String> = judged.lacks.iter().map(reason).collect();
        let isa = &release.variants[at].requires.isa;
        let find: Option<Vec<String>> = judged.lacks.iter().map(|lack| expression(lack, isa)).collect();
        let key = (at, reasons.join(", "), find.map(|find| find.join(" && ")));
        *missing.entry(key).or_default() += 1;
    }
    let mut lacks: Vec<Missing> = missing
        .into_iter()
        .map(|((at, reason, find), nodes)| Missing { variant: variants[at].0.clone(), reason, find, nodes })
        .collect();
    lacks.sort_by_key(|missing| std::cmp::Reverse(missing.nodes));
    Coverage { nodes: asked, variants, lacks }
}

/// What is lacking, without what differs from node to node.
fn reason(lack: &Lack) -> String {
    let mib = |bytes: &u64| format!("{:.0} MiB", (*bytes as f64 / 1_048_576.0).ceil());
    match lack {
        Lack::Memory { needed_bytes, free_bytes: Some(_), .. } => {
            format!("less than {} memory", mib(needed_bytes))
        }
        Lack::Memory { .. } => "memory not told".to_owned(),
        Lack::Disk { needed_bytes, free_bytes: Some(_) } => format!("less than {} disk", mib(needed_bytes)),
        Lack::Disk { .. } => "disk not told".to_owned(),
        Lack::Version { needed, here: Some(_) } => format!("older than selvedge {needed}"),
        Lack::Version { .. } => "version not told".to_owned(),
        Lack::Isa { needed } => format!("processor without {needed}"),
        Lack::Accelerator { needed } => format!("no accelerator {needed}"),
        other => other.to_string(),
    }
}

/// The nodes that lack it, as an expression.
fn expression(lack: &Lack, isa: &[IsaNeed]) -> Option<String> {
    Some(match lack {
        Lack::Memory { needed_bytes, .. } => format!("!(ram >= {needed_bytes})"),
        Lack::Disk { needed_bytes, .. } => format!("!(disk >= {needed_bytes})"),
        Lack::Version { needed, .. } => format!("!(version >= \"{needed}\")"),
        Lack::Accelerator { needed } if is_plain(needed) => format!("!(accelerator has \"{needed}\")"),
        Lack::Isa { .. } => {
            let one = |need: &IsaNeed| {
                let words = need.isa.iter().map(|word| format!(" && isa has \"{word}\""));
                format!("arch == \"{}\"{}", need.arch, words.collect::<String>())
            };
            format!("!({})", isa.iter().map(one).collect::<Vec<_>>().join(" || "))
        }
        Lack::NotRun { kind: Kind::Lm, .. } => "cannot has \"language\"".to_owned(),
        _ => return None,
    })
}

/// Whether it can stand in quotes as it is.
fn is_plain(word: &str) -> bool {
    !word.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'))
}
