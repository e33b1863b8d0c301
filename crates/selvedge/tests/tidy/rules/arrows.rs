//! A crate imports only what its row of the crate table allows, and the table itself only points downwards.
//!
//! Counted are the dependencies in Cargo.toml and every path in the code. What only tests, benches and examples need
//! follows the same table, except in the binary's crate: its tests see the whole house.

use crate::tidy::house::{Crate, House};
use crate::tidy::mentions;
use crate::tidy::page::Row;
use crate::tidy::source::Folder;
use crate::tidy::violation::Violation;

/// The crate whose tests see the whole house.
const BINARY: &str = "selvedge";

/// Table, manifests and code, in this order.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = table(house);
    for part in &house.crates {
        match house.row(&part.name) {
            Some(row) => {
                found.extend(manifest(house, part, row));
                found.extend(code(house, part, row));
            }
            None => {
                let wrong = format!("crate `{}` is not in the crate table", part.name);
                let mend = format!("add its row, with its floor, to {}", house.page.path);
                found.push(Violation::at(&part.manifest.path, 1, wrong, mend));
            }
        }
    }
    found
}

fn table(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, row) in house.table.iter().enumerate() {
        let mut say = |wrong: String, mend: &str| {
            found.push(Violation::at(&house.page.path, row.line, wrong, mend));
        };
        let name = &row.name;
        if !house.crates.iter().any(|part| part.name == *name) {
            say(
                format!("crate `{name}` has no folder `crates/{name}`"),
                "remove the row: an empty room is not architecture",
            );
        }
        if house.table[..at].iter().any(|other| other.name == *name) {
            say(format!("crate `{name}` has two rows"), "keep one");
        }
        for import in &row.may_import {
            match house.row(import) {
                None => say(
                    format!("`{name}` may import `{import}`, which has no row"),
                    "add its row, or take it out",
                ),
                Some(other) if other.floor >= row.floor => say(
                    format!("`{name}` on floor {} may import `{import}` on floor {}", row.floor, other.floor),
                    "arrows go to lower floors: move what both need below them",
                ),
                Some(_) => {}
            }
        }
    }
    found
}

fn manifest(house: &House, part: &Crate, row: &Row) -> Vec<Violation> {
    let forbidden = part.manifest.dependencies.iter().filter_map(|dependency| {
        let other = house.ours(house.package(dependency))?;
        let free = dependency.dev && part.name == BINARY;
        (!free && !row.may_import.iter().any(|allowed| allowed == other)).then(|| {
            Violation::at(&part.manifest.path, dependency.line, wrong(&part.name, other), mend(house))
        })
    });
    forbidden.collect()
}

fn code(house: &House, part: &Crate, row: &Row) -> Vec<Violation> {
    let forbidden = mentions::of(part).into_iter().filter_map(|mention| {
        let source = &part.sources[mention.file];
        let other = house.ours(mention.library()?).filter(|other| *other != part.name)?;
        let free = part.name == BINARY && (mention.test || source.folder != Folder::Src);
        (!free && !row.may_import.iter().any(|allowed| allowed == other))
            .then(|| Violation::at(&source.path, mention.line, wrong(&part.name, other), mend(house)))
    });
    forbidden.collect()
}

fn wrong(from: &str, to: &str) -> String {
    format!("`{from}` imports `{to}`, an arrow that is not in the crate table")
}

fn mend(house: &House) -> String {
    format!("move what both need to a crate below, or decide on the arrow in {}", house.page.path)
}
