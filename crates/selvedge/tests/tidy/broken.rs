//! The tests of the tests: a small house that keeps every rule, and for each rule changes that break it and no other.

use std::fs;

use tempfile::TempDir;

use crate::tidy::house::House;
use crate::tidy::rules;

pub mod clean;
mod crates;
mod files;

/// A change to the clean house: a path, a piece of that file and what replaces it. An empty piece is the whole file,
/// which need not exist.
type Change<'a> = (&'a str, &'a str, &'a str);

/// The clean house with changes.
fn house(changes: &[Change<'_>]) -> House {
    let mut files = clean::files();
    for (path, old, new) in changes {
        if old.is_empty() {
            files.insert((*path).to_owned(), (*new).to_owned());
        } else {
            let text = files.get_mut(*path).expect("only a file of the clean house has pieces");
            assert_eq!(text.matches(old).count(), 1, "{path} has {old:?} once");
            *text = text.replace(old, new);
        }
    }
    House::of(files, Vec::new())
}

/// The changes break this rule in these lines, and no other rule.
#[track_caller]
fn breaks(rule: &str, changes: &[Change<'_>], expected: &[&str]) {
    let house = house(changes);
    assert_eq!(rules::violations(rule, &house), expected, "{rule} after {changes:?}");
    for (other, _) in rules::ALL.iter().filter(|(other, _)| *other != rule) {
        assert_eq!(rules::violations(other, &house), [""; 0], "{other} after {changes:?}");
    }
}

#[test]
fn the_clean_house_keeps_every_rule() {
    for (rule, _) in rules::ALL {
        breaks(rule, &[], &[]);
    }
}

#[test]
fn the_house_on_disk_is_the_house() {
    let root = TempDir::new().expect("there is a place for temporary files");
    let mut files = clean::files();
    files.insert("crates/hub/target/debug/build.rs".into(), "left by Cargo".into());
    files.insert("crates/hub/src/.lib.rs".into(), "left by an editor".into());
    for (path, text) in &files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    let house = House::read(root.path());
    assert_eq!(house.files, Vec::from_iter(clean::files().into_keys()));
    for (rule, _) in rules::ALL {
        assert_eq!(rules::violations(rule, &house), [""; 0], "{rule}");
    }
    fs::remove_file(root.path().join("ARCHITECTURE.md")).expect("a file can be removed");
    let found = rules::violations("unreadable", &House::read(root.path()));
    assert!(found[0].starts_with("ARCHITECTURE.md:1: the file cannot be read: "), "{found:?}");
}

#[test]
fn every_rule_is_held_against_the_real_house() {
    let contents = include_str!("../tidy.rs");
    for (rule, _) in rules::ALL {
        assert!(contents.contains(&format!("hold(\"{rule}\")")), "{rule} has no test in tidy.rs");
    }
}
