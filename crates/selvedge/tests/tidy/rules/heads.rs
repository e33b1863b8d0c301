//! A file says what it is for, before anything else.

use crate::tidy::house::House;
use crate::tidy::violation::Violation;

/// Rust files whose first line is not `//!` with words behind it.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in house.crates.iter().flat_map(|part| &part.sources) {
        let for_the_shell = |line: &&str| line.starts_with("#!") && !line.starts_with("#![");
        let mut lines = source.text.lines().enumerate().skip_while(|(_, line)| for_the_shell(line));
        let (at, first) = lines.next().unwrap_or_default();
        if !first.strip_prefix("//!").is_some_and(|words| words.chars().any(char::is_alphabetic)) {
            let mend = "open it with `//!` and one sentence: its purpose";
            found.push(Violation::at(&source.path, at + 1, "the file does not say what it is for", mend));
        }
    }
    found
}
