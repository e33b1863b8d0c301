//! Reads the whole house once: its pages, its manifests, its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tidy::manifest::{Dependency, Manifest, Workspace};
use crate::tidy::page::{Page, Row};
use crate::tidy::source::Source;
use crate::tidy::violation::Violation;

/// Everything the rules look at.
pub struct House {
    /// ARCHITECTURE.md.
    pub page: Page,
    /// The recipes, `docs/adding-*.md`.
    pub recipes: Vec<Page>,
    /// The crate table of ARCHITECTURE.md.
    pub table: Vec<Row>,
    /// The Cargo.toml at the root.
    pub workspace: Workspace,
    /// A crate per folder in `crates/`.
    pub crates: Vec<Crate>,
    /// Every file, also those that no rule reads, relative to the root.
    pub files: Vec<String>,
    /// What could not be read, and so is not seen by any rule.
    pub unreadable: Vec<Violation>,
}

/// A folder of `crates/`.
pub struct Crate {
    /// The folder's name.
    pub name: String,
    /// Its Cargo.toml.
    pub manifest: Manifest,
    /// Every Rust file in it.
    pub sources: Vec<Source>,
}

/// Files by path, relative to the root; of files that no rule reads, the text is left empty.
pub type Files = BTreeMap<String, String>;

impl House {
    /// Reads the workspace at `root`.
    pub fn read(root: &Path) -> House {
        let mut paths = vec!["ARCHITECTURE.md".to_owned(), "Cargo.toml".to_owned()];
        walk(root, "crates", &mut paths);
        walk(root, "docs", &mut paths);
        let mut files = Files::new();
        let mut unreadable = Vec::new();
        for path in paths {
            let wanted = [".rs", ".md", "Cargo.toml"].iter().any(|end| path.ends_with(end));
            let text = if wanted { fs::read_to_string(root.join(&path)) } else { Ok(String::new()) };
            match text {
                Ok(text) => drop(files.insert(path, text)),
                Err(error) => {
                    unreadable.push(Violation::at(&path, 1, "the file cannot be read", error.to_string()));
                }
            }
        }
        House::of(files, unreadable)
    }

    /// The house that these files are, with what is already known to be unreadable.
    pub fn of(files: Files, mut unreadable: Vec<Violation>) -> House {
        let text = |path: &str| files.get(path).cloned().unwrap_or_default();
        let page = |path: &str| Page { path: path.to_owned(), text: text(path) };
        let is_recipe = |path: &&String| path.starts_with("docs/adding-") && path.ends_with(".md");
        let recipes = files.keys().filter(is_recipe).map(|path| page(path)).collect();
        let page = page("ARCHITECTURE.md");
        let (table, broken) = page.crate_table();
        unreadable.extend(broken);
        let workspace = Workspace::read("Cargo.toml", &text("Cargo.toml")).unwrap_or_else(|violation| {
            unreadable.push(violation);
            Workspace { path: "Cargo.toml".into(), dependencies: Vec::new() }
        });
        let in_crates =
            files.keys().filter_map(|path| Some(path.strip_prefix("crates/")?.split_once('/')?.0));
        let names: BTreeSet<&str> = in_crates.collect();
        let mut crates = Vec::new();
        for name in names {
            match Crate::of(name, &files, &mut unreadable) {
                Ok(found) => crates.push(found),
                Err(violation) => unreadable.push(violation),
            }
        }
        let files = files.into_keys().collect();
        House { page, recipes, table, workspace, crates, files, unreadable }
    }

    /// The table's row of a crate.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.table.iter().find(|row| row.name == name)
    }

    /// What a dependency is, under whatever name it goes here.
    pub fn package<'a>(&'a self, dependency: &'a Dependency) -> &'a str {
        let shared = self.workspace.dependencies.iter().find(|shared| shared.key == dependency.key);
        let inherited = shared.filter(|_| dependency.inherits).and_then(|shared| shared.package.as_deref());
        dependency.package.as_deref().or(inherited).unwrap_or(&dependency.key)
    }

    /// The crate of the house that code calls `name`.
    pub fn ours(&self, name: &str) -> Option<&str> {
        let folders = self.crates.iter().map(|found| found.name.as_str());
        let rows = self.table.iter().map(|row| row.name.as_str());
        folders.chain(rows).find(|ours| ours.replace('-', "_") == name.replace('-', "_"))
    }
}

impl Crate {
    fn of(name: &str, files: &Files, unreadable: &mut Vec<Violation>) -> Result<Crate, Violation> {
        let folder = format!("crates/{name}/");
        let manifest = format!("{folder}Cargo.toml");
        let Some(text) = files.get(&manifest) else {
            let wrong = format!("`crates/{name}` has no Cargo.toml");
            return Err(Violation::at(&manifest, 1, wrong, "write one, or remove the folder"));
        };
        let manifest = Manifest::read(&manifest, text)?;
        let mut sources = Vec::new();
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
            if let Some(inside) = path.strip_prefix(&folder) {
                match Source::parse(path, inside, text.clone()) {
                    Ok(source) => sources.push(source),
                    Err(violation) => unreadable.push(violation),
                }
            }
        }
        Ok(Crate { name: name.to_owned(), manifest, sources })
    }
}

/// Every file below a folder, without what Cargo or an editor left there; none where there is no such folder.
fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{folder}/{name}");
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.path().is_dir() { walk(root, &path, paths) } else { paths.push(path) }
    }
}
