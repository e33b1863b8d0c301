//! Keeps the architecture true. Reads the crate table of ARCHITECTURE.md, every Cargo.toml and every Rust file, and fails
//! with one line per violation: `file:line: what is wrong: how to mend`.
//!
//! A rule per test, so that a failing night names it; what exactly a rule counts, and why, stands at the head of its file
//! in `tidy/rules/`. In reading order: `page`, `manifest` and `source` read one file each, `house` all of them;
//! `modules` and `mentions` find out what each path in the code means; `rules` judges; `broken` breaks each rule in a
//! small house of its own, because a test that cannot fail is a defect.

/// Its parts, in the folder of this name.
pub mod tidy {
    pub mod broken;
    pub mod house;
    pub mod manifest;
    pub mod mentions;
    pub mod modules;
    pub mod page;
    pub mod rules;
    pub mod source;
    pub mod violation;
}

use std::path::Path;

use tidy::house::House;
use tidy::rules;

/// Fails with the violations of a rule in this workspace.
fn hold(rule: &str) {
    let house = House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let found = rules::violations(rule, &house);
    assert!(found.is_empty(), "\n\n{}\n", found.join("\n"));
}

#[test]
fn everything_can_be_read_and_belongs_to_the_house() {
    hold("unreadable");
}

#[test]
fn crates_import_only_what_the_table_allows() {
    hold("arrows");
}

#[test]
fn files_form_no_loops_and_names_come_from_where_they_are_defined() {
    hold("loops");
}

#[test]
fn each_file_says_what_it_is_for() {
    hold("heads");
}

#[test]
fn unsafe_stays_in_its_rooms_and_gives_its_reasons() {
    hold("unsafety");
}

#[test]
fn time_and_chance_come_through_the_world() {
    hold("clocks");
}

#[test]
fn libraries_stay_on_their_floor() {
    hold("libraries");
}

#[test]
fn what_the_pages_point_at_exists() {
    hold("stations");
}

#[test]
fn names_say_something_and_nothing_is_left_for_later() {
    hold("words");
}

#[test]
fn dependencies_are_declared_once_and_with_a_reason() {
    hold("manifests");
}
