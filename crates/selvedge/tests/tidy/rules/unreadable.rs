//! Everything can be read, and every file is part of the house: what cannot be parsed, or what no `mod` reaches, no
//! other rule would see.

use crate::tidy::house::House;
use crate::tidy::modules::Tree;
use crate::tidy::violation::Violation;

/// Files, table rows and manifests that cannot be read; Rust files that are compiled into nothing.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = house.unreadable.clone();
    for part in &house.crates {
        let (_, orphans) = Tree::all(part);
        found.extend(orphans.into_iter().map(|file| {
            let mend = "declare it in its parent module, or remove it";
            Violation::at(&part.sources[file].path, 1, "no `mod` reaches this file", mend)
        }));
    }
    found
}
