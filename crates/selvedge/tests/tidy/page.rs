//! Reads the pages for people: the crate table and the rooms for unsafe code in ARCHITECTURE.md, and every path that a
//! page names between backticks.

use crate::tidy::violation::Violation;

/// A Markdown page.
pub struct Page {
    /// Relative to the workspace's root.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
}

/// One crate as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The table's line.
    pub line: usize,
    /// A crate imports only from lower floors.
    pub floor: u32,
    /// The crate's name, which is its folder's.
    pub name: String,
    /// The crates it may import.
    pub may_import: Vec<String>,
}

/// A piece of text between backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its line.
    pub line: usize,
    /// Without the backticks.
    pub text: String,
}

impl Page {
    /// The rows of the table that has the columns `floor`, `crate` and `may import`, and what cannot be read of it.
    pub fn crate_table(&self) -> (Vec<Row>, Vec<Violation>) {
        let lines: Vec<&str> = self.text.lines().collect();
        let wanted = ["floor", "crate", "may import"];
        let head = lines.iter().enumerate().find_map(|(at, line)| {
            let cells = cells(line);
            let columns = wanted.map(|name| cells.iter().position(|cell| *cell == name));
            Some((at, [columns[0]?, columns[1]?, columns[2]?]))
        });
        let Some((head, columns)) = head else {
            let wrong = "there is no crate table";
            let mend = "write one with the columns `floor`, `crate` and `may import`";
            return (Vec::new(), vec![Violation::at(&self.path, 1, wrong, mend)]);
        };
        let (mut rows, mut broken) = (Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate().skip(head + 2) {
            if !line.trim_start().starts_with('|') {
                break;
            }
            match row(at + 1, &cells(line), columns) {
                Some(row) => rows.push(row),
                None => broken.push(Violation::at(
                    &self.path,
                    at + 1,
                    "this row of the crate table cannot be read",
                    "write `| floor number | crate | one line | crates with spaces between, or – |`",
                )),
            }
        }
        (rows, broken)
    }

    /// The paths listed under `## Unsafe`, one bullet each; the only files where `unsafe` may stand.
    pub fn unsafe_rooms(&self) -> Vec<Span> {
        let mut inside = false;
        let mut rooms = Vec::new();
        for (at, line) in self.text.lines().enumerate() {
            if line.starts_with('#') {
                inside = line.trim_start_matches('#').trim() == "Unsafe";
            } else if inside && line.trim_start().starts_with(['-', '*']) {
                for text in between_backticks(line).into_iter().take(1) {
                    let text =
                        if text.starts_with("crates/") { text.into() } else { format!("crates/{text}") };
                    rooms.push(Span { line: at + 1, text });
                }
            }
        }
        rooms
    }

    /// Everything between backticks, outside fenced blocks.
    pub fn spans(&self) -> Vec<Span> {
        let mut fenced = false;
        let mut spans = Vec::new();
        for (at, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let found = between_backticks(line).into_iter();
                spans.extend(found.map(|text| Span { line: at + 1, text: text.to_owned() }));
            }
        }
        spans
    }
}

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    let line = line.trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split('|').map(str::trim).collect()
}

fn row(line: usize, cells: &[&str], [floor, name, may_import]: [usize; 3]) -> Option<Row> {
    let plain = |cell: &str| cell.replace(['`', ','], " ");
    let floor = cells.get(floor)?.parse().ok()?;
    let name = plain(cells.get(name)?).trim().to_owned();
    let imports = plain(cells.get(may_import)?);
    let may_import: Vec<String> = imports
        .split_whitespace()
        .filter(|word| !["–", "—", "-"].contains(word))
        .map(str::to_owned)
        .collect();
    let word =
        |text: &String| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    (word(&name) && may_import.iter().all(word)).then_some(Row { line, floor, name, may_import })
}

fn between_backticks(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Whether `path` is what `pattern` means: `*` stands for any run of characters, also over folders, and a pattern that
/// ends in `/` means everything below.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern = if pattern.ends_with('/') { format!("{pattern}*") } else { pattern.to_owned() };
    let parts: Vec<&str> = pattern.split('*').collect();
    let (Some((first, rest)), Some(last)) = (parts.split_first(), parts.last()) else { return false };
    if rest.is_empty() {
        return pattern == path;
    }
    let Some(mut left) = path.strip_prefix(first) else { return false };
    for part in &rest[..rest.len() - 1] {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}
