//! The files of a crate form no loop, and each name is imported from the file that defines it.
//!
//! What counts as an arrow from file to file: every path in code, in `use`, in attributes and in macros, to the file
//! that *defines* what it names, however it was reached. So `crate::world::Simulated` points at `world/simulated.rs`
//! although `world.rs` passes the name on; only a library's name points at the file that brings it in.
//!
//! What does not count:
//!
//! - `mod child;` and a parent's `pub use child::Name`: a parent *contains* its children. So a parent may define the
//!   trait that its children implement, and pass their names on. The moment its own code uses a child that uses it
//!   (`fn open() -> Box<dyn Source> { child::open() }`), that is a loop: what joins them belongs into another file;
//! - what is compiled for tests only.
//!
//! A loop has one of three seeds: a central error type, a small shared type inside a big file, an import through the
//! root. The third is a violation by itself, loop or not: the root is the crate's map, and everything imports it.
//! Macros under `#[macro_export]` live at the root whatever one does, so `crate::name!` is allowed and points at the file
//! where the macro stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tidy::house::{Crate, House};
use crate::tidy::mentions::{self, Kind, Mention};
use crate::tidy::violation::Violation;

/// The arrows of a crate: from file, to file, and the first line that makes the arrow.
type Arrows = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Imports through the root, then one violation per knot of files.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in &house.crates {
        let mut mentions = mentions::of(part);
        mentions.retain(|mention| !mention.test);
        found.extend(mentions.iter().filter(|mention| mention.through_root).map(|mention| {
            let path = &part.sources[mention.file].path;
            let wrong = format!("`{}` is imported through the crate's root", mention.written.join("::"));
            let mend = match (mention.defined_in, mention.path.len()) {
                (_, 1) => "name what you need, from the files that define it".into(),
                (_, 2) => "move it out of the root, into a file that says what it is".into(),
                (Some(home), _) if mention.path[0] == "crate" => {
                    format!("import from the file that defines the name, {}", part.sources[home].path)
                }
                _ => "import from the library it comes from".into(),
            };
            Violation::at(path, mention.line, wrong, mend)
        }));
        found.extend(knots(part, &arrows(&mentions)));
    }
    found
}

fn arrows(mentions: &[Mention]) -> Arrows {
    let mut arrows = Arrows::new();
    for mention in mentions {
        let Some(to) = mention.defined_in.filter(|to| *to != mention.file) else { continue };
        let contains = mention.kind == Kind::Reexport && mention.is_below;
        // A word alone that happens to be a module's name is a value.
        let is_value = mention.kind == Kind::Inline && mention.is_module;
        if !contains && !is_value {
            let line = arrows.entry(mention.file).or_default().entry(to).or_insert(mention.line);
            *line = mention.line.min(*line);
        }
    }
    arrows
}

/// The shortest loop through the first file of each set of files that all reach one another.
fn knots(part: &Crate, arrows: &Arrows) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    for start in arrows.keys() {
        if seen.contains(start) {
            continue;
        }
        let Some(path) = way(arrows, *start, *start) else { continue };
        seen.extend(
            arrows.keys().filter(|file| {
                way(arrows, *start, **file).is_some() && way(arrows, **file, *start).is_some()
            }),
        );
        let folder = format!("crates/{}/", part.name);
        let name = |file: usize| part.sources[file].path.strip_prefix(&folder).unwrap_or_default();
        let steps = path.windows(2).map(|step| format!("{}:{}", name(step[0]), arrows[&step[0]][&step[1]]));
        let steps = steps.collect::<Vec<String>>().join(" → ");
        let wrong = format!("a loop of files, {steps} → {}", name(*start));
        let mend = "move what they share into a file of its own that both import";
        found.push(Violation::at(&part.sources[*start].path, arrows[start][&path[1]], wrong, mend));
    }
    found
}

/// The shortest way along the arrows, with both ends; at least one arrow long.
fn way(arrows: &Arrows, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut came: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in arrows.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if !came.contains_key(next) {
                came.insert(*next, at);
                queue.push_back(*next);
            }
        }
    }
    let mut path = vec![to];
    let mut at = *came.get(&to)?;
    path.push(at);
    while at != from {
        at = came[&at];
        path.push(at);
    }
    path.reverse();
    Some(path)
}
