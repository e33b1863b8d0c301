//! Every attack in docs/attacks.md is played by a test that is there: a row whose test was renamed or removed fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;

/// So many attacks there are at least: a page that was cut short is no page.
const LEAST: usize = 55;

/// The rows of the page's tables, without their heads.
fn rows(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    rows.filter(|(_, line)| !line.starts_with("| attack |")).map(|(at, line)| (at + 1, line))
}

/// What is wrong with the page; `read` gives the text of a file, if there is one.
fn wrong(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, row) in rows(page) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, _, played] = cells[..] else {
            wrong.push(format!("line {at}: a row has three cells"));
            continue;
        };
        let (mut text, mut played_by) = (None, 0);
        for word in played.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                text = read(word);
                if text.is_none() {
                    wrong.push(format!("line {at}: there is no file {word}"));
                }
            } else if let Some(text) = &text {
                played_by += 1;
                if !is_test(text, word) {
                    wrong.push(format!("line {at}: there is no test {word} in the file before it"));
                }
            }
        }
        if played_by == 0 {
            wrong.push(format!("line {at}: no test plays it"));
        }
    }
    wrong
}

/// Whether a file has a test of this name.
fn is_test(text: &str, name: &str) -> bool {
    let mut is_marked = false;
    for line in text.lines().map(str::trim_start) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        match line.strip_prefix("fn ") {
            Some(rest) if is_marked && rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')) => {
                return true;
            }
            Some(_) => is_marked = false,
            None if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => is_marked = true,
            None => {}
        }
    }
    false
}

#[test]
fn each_attack_is_played_by_a_test_that_is_there() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(house.join("docs/attacks.md")).unwrap();
    let wrong = wrong(&page, |file| std::fs::read_to_string(house.join(file)).ok());
    assert!(wrong.is_empty(), "docs/attacks.md\n{}\n", wrong.join("\n"));
    assert!(rows(&page).count() >= LEAST, "{} attacks", rows(&page).count());
}

#[test]
fn what_is_not_there_is_found() {
    let file =
        "#[test]\nfn there() {\n}\n\nfn no_test() {}\n    #[tokio::test(a)]\n    async fn later(x: u8) {}\n";
    let read = |name: &str| (name == "a.rs").then(|| file.to_owned());
    let check = |played: &str, expected: &[&str]| {
        let page = format!("| attack | what | by |\n|---|---|---|\n| a | b | {played} |\n");
        let found = wrong(&page, read);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:?}");
    };
    check("`a.rs` `there` `later`", &[]);
    check("`a.rs` `no_test`", &["line 3: there is no test no_test"]);
    check("`a.rs` `the`", &["there is no test the "]);
    check("`b.rs` `there`", &["no file b.rs", "no test plays it"]);
    check("`a.rs`", &["no test plays it"]);
    check("nobody", &["no test plays it"]);
}
