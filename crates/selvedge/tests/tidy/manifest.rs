//! Reads Cargo.toml with the line of each entry.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::tidy::violation::Violation;

/// The Cargo.toml of a crate.
pub struct Manifest {
    /// Relative to the workspace's root.
    pub path: String,
    /// `package.name`.
    pub name: String,
    /// Of all sections, also those for one target.
    pub dependencies: Vec<Dependency>,
    /// Whether the lints are the workspace's.
    pub inherits_lints: bool,
    /// Roots of targets that stand elsewhere than Cargo looks by itself, relative to the crate.
    pub targets: Vec<String>,
}

/// A line of a crate's dependencies.
pub struct Dependency {
    /// What the code calls it.
    pub key: String,
    /// What it is, if `key` is another name for it.
    pub package: Option<String>,
    /// Its line.
    pub line: usize,
    /// Whether it stands under `dev-dependencies`.
    pub dev: bool,
    /// Whether it says `workspace = true`.
    pub inherits: bool,
}

/// The Cargo.toml of the workspace.
pub struct Workspace {
    /// Relative to the workspace's root.
    pub path: String,
    /// The dependencies that crates can inherit.
    pub dependencies: Vec<Shared>,
}

/// A dependency declared once for all crates.
pub struct Shared {
    /// What crates call it.
    pub key: String,
    /// What it is, if `key` is another name for it.
    pub package: Option<String>,
    /// Its line.
    pub line: usize,
    /// Whether it is one of our own crates.
    pub ours: bool,
    /// Whether the line says why it is in the house.
    pub reason: bool,
}

impl Manifest {
    /// Reads the Cargo.toml of a crate.
    pub fn read(path: &str, text: &str) -> Result<Manifest, Violation> {
        let document = parse(path, text)?;
        let root = document.get_ref();
        let name = table(root, "package")
            .and_then(|package| get(package, "name"))
            .and_then(|name| name.get_ref().as_str())
            .ok_or_else(|| {
                Violation::at(path, 1, "the package has no name", "write `name` under `[package]`")
            })?;
        let mut dependencies = sections(root, text);
        for (_, target) in table(root, "target").into_iter().flatten() {
            dependencies
                .extend(target.get_ref().as_table().into_iter().flat_map(|target| sections(target, text)));
        }
        dependencies.sort_by_key(|dependency| dependency.line);
        let inherits_lints = table(root, "lints").is_some_and(|lints| truth(lints, "workspace"));
        Ok(Manifest {
            path: path.into(),
            name: name.into(),
            dependencies,
            inherits_lints,
            targets: targets(root),
        })
    }
}

impl Workspace {
    /// Reads the Cargo.toml at the root.
    pub fn read(path: &str, text: &str) -> Result<Workspace, Violation> {
        let document = parse(path, text)?;
        let shared = table(document.get_ref(), "workspace").and_then(|all| table(all, "dependencies"));
        let mut dependencies: Vec<Shared> = shared
            .into_iter()
            .flatten()
            .map(|(key, value)| {
                let details = value.get_ref().as_table();
                let (first, last) = (line(text, key.span().start), line(text, value.span().end));
                Shared {
                    key: key.get_ref().clone().into_owned(),
                    package: details.and_then(|details| string(details, "package")),
                    line: first,
                    ours: details.and_then(|details| string(details, "path")).is_some(),
                    reason: [first, last].into_iter().any(|line| has_comment(text, line)),
                }
            })
            .collect();
        dependencies.sort_by_key(|dependency| dependency.line);
        Ok(Workspace { path: path.into(), dependencies })
    }
}

fn parse<'a>(path: &str, text: &'a str) -> Result<Spanned<DeTable<'a>>, Violation> {
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(1, |span| line(text, span.start));
        Violation::at(path, at, "this is not TOML", error.message())
    })
}

/// The dependencies under the three headings of `table`.
fn sections(of: &DeTable<'_>, text: &str) -> Vec<Dependency> {
    ["dependencies", "build-dependencies", "dev-dependencies"]
        .into_iter()
        .flat_map(|heading| table(of, heading).into_iter().flatten().map(move |entry| (heading, entry)))
        .map(|(heading, (key, value))| {
            let details = value.get_ref().as_table();
            Dependency {
                key: key.get_ref().clone().into_owned(),
                package: details.and_then(|details| string(details, "package")),
                line: line(text, key.span().start),
                dev: heading == "dev-dependencies",
                inherits: details.is_some_and(|details| truth(details, "workspace")),
            }
        })
        .collect()
}

/// The `path` of each target that has one.
fn targets(root: &DeTable<'_>) -> Vec<String> {
    let library = table(root, "lib").and_then(|library| string(library, "path"));
    let others = ["bin", "test", "bench", "example"]
        .into_iter()
        .filter_map(|kind| get(root, kind)?.get_ref().as_array())
        .flat_map(|list| list.iter().filter_map(|target| string(target.get_ref().as_table()?, "path")));
    library.into_iter().chain(others).collect()
}

fn get<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
}

fn table<'a, 'i>(of: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    get(of, key)?.get_ref().as_table()
}

fn string(of: &DeTable<'_>, key: &str) -> Option<String> {
    get(of, key)?.get_ref().as_str().map(str::to_owned)
}

fn truth(of: &DeTable<'_>, key: &str) -> bool {
    get(of, key).and_then(|value| value.get_ref().as_bool()) == Some(true)
}

/// The line of a byte, counted from 1.
fn line(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// Whether a line ends in a comment with words in it.
fn has_comment(text: &str, line: usize) -> bool {
    let mut quote = None;
    let line = text.lines().nth(line - 1).unwrap_or_default();
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' => return line[at + 1..].chars().any(char::is_alphabetic),
            None => {}
        }
    }
    false
}
