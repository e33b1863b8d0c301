//! What the pages point at exists. A page that names a file which has moved sends every new reader astray.
//!
//! Counted is text between backticks in ARCHITECTURE.md and docs/adding-*.md that ends in `.rs` or begins with
//! `crates/`. A bare file name (`lib.rs`) must be the name of some file; `*` and `<name>` stand for any name.

use crate::tidy::house::House;
use crate::tidy::page::{Span, matches};
use crate::tidy::violation::Violation;

/// Paths on the pages without a file.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in [&house.page].into_iter().chain(&house.recipes) {
        // A room for unsafe code without files is a violation of that rule.
        let rooms = if page.path == house.page.path { page.unsafe_rooms() } else { Vec::new() };
        for Span { line, text } in page.spans() {
            let is_path = (text.ends_with(".rs") || text.starts_with("crates/")) && !text.contains(' ');
            let is_room = rooms.iter().any(|room| room.line == line && room.text.ends_with(&text));
            if is_path && !is_room && !exists(house, &text) {
                let mend = "correct the path, or create the file";
                found.push(Violation::at(&page.path, line, format!("`{text}` does not exist"), mend));
            }
        }
    }
    found
}

fn exists(house: &House, path: &str) -> bool {
    let pattern = open(path);
    let folder = format!("{}/", pattern.trim_end_matches('/'));
    let anywhere = format!("*/{pattern}");
    house.files.iter().any(|file| {
        matches(&pattern, file) || matches(&folder, file) || (!path.contains('/') && matches(&anywhere, file))
    })
}

/// `<name>` as `*`.
fn open(path: &str) -> String {
    let mut pattern = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                pattern.push('*');
            }
            c if !inside => pattern.push(c),
            _ => {}
        }
    }
    pattern
}
