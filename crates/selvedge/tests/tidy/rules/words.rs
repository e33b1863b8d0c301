//! Names that say nothing, work left for later, and files into which a second thing has moved.

use syn::visit::{self, Visit};

use crate::tidy::house::{Crate, House};
use crate::tidy::modules::{Tree, plain};
use crate::tidy::source::{Folder, Source};
use crate::tidy::violation::Violation;

/// The most lines of a source file, without its tests.
const MAX_LINES: usize = 800;

/// Words that say nothing as part of a name.
const EMPTY: [&str; 7] = ["helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// Words that say nothing as the whole name; a `core_dump` is something.
const EMPTY_ALONE: [&str; 2] = ["common", "core"];

/// Marks of work left for later.
const LATER: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Names, unfinished work and length, file by file.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in &house.crates {
        if is_empty_word(&part.name) {
            found.push(Violation::at(
                &part.manifest.path,
                1,
                format!("`{}` says nothing", part.name),
                NAME_IT,
            ));
        }
        let tests = test_files(part);
        for (at, source) in part.sources.iter().enumerate() {
            found.extend(names(part, source));
            if source.folder == Folder::Src {
                found.extend(unfinished(source));
                found.extend(length(source).filter(|_| !tests.contains(&at)));
            }
        }
    }
    found
}

const NAME_IT: &str = "name it after the thing it holds";

fn is_empty_word(name: &str) -> bool {
    let name = name.to_lowercase();
    EMPTY_ALONE.contains(&name.as_str()) || name.split(['_', '-', '.']).any(|word| EMPTY.contains(&word))
}

/// Folders and files, inline modules and types.
fn names(part: &Crate, source: &Source) -> Vec<Violation> {
    let mut names = Names(Vec::new());
    names.visit_file(&source.syntax);
    let folder = format!("crates/{}/", part.name);
    let inside = source.path.strip_prefix(&folder).unwrap_or_default();
    let words = inside.strip_suffix(".rs").unwrap_or(inside).split('/').filter(|word| is_empty_word(word));
    let in_path = words.map(|word| (1, word.to_owned()));
    let say = |(line, name): (usize, String)| {
        Violation::at(&source.path, line, format!("`{name}` says nothing"), NAME_IT)
    };
    in_path.chain(names.0).map(say).collect()
}

/// Inline modules and types whose name says nothing, with their lines.
struct Names(Vec<(usize, String)>);

impl Names {
    fn note(&mut self, ident: &syn::Ident, empty: bool) {
        if empty {
            self.0.push((ident.span().start().line, plain(ident)));
        }
    }

    fn note_type(&mut self, ident: &syn::Ident) {
        let name = plain(ident);
        let empty = ["Helper", "Helpers", "Manager", "Util", "Utils"].iter().any(|word| name.ends_with(word));
        self.note(ident, empty);
    }
}

impl Visit<'_> for Names {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        // A module in a file of its own is judged by its file's name.
        self.note(&item.ident, item.content.is_some() && is_empty_word(&plain(&item.ident)));
        visit::visit_item_mod(self, item);
    }

    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        self.note_type(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &syn::ItemEnum) {
        self.note_type(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        self.note_type(&item.ident);
        visit::visit_item_trait(self, item);
    }
}

fn unfinished(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '!');
        for word in words {
            let later =
                LATER.contains(&word.trim_end_matches('!')) || word == "todo!" || word == "unimplemented!";
            if later {
                let mend = "finish it, or leave it out and say so in an issue";
                found.push(Violation::at(
                    &source.path,
                    at + 1,
                    format!("`{word}` leaves work for later"),
                    mend,
                ));
            }
        }
    }
    found
}

fn length(source: &Source) -> impl Iterator<Item = Violation> {
    let tests = source.test_lines().len();
    let lines = source.text.lines().count() - tests;
    let wrong = format!("{lines} lines without tests, the limit is {MAX_LINES}");
    let violation = Violation::at(&source.path, 1, wrong, "ask which second thing has moved in");
    (lines > MAX_LINES).then_some(violation).into_iter()
}

/// Sources that are compiled for tests only.
fn test_files(part: &Crate) -> Vec<usize> {
    let (trees, _) = Tree::all(part);
    let modules = || trees.iter().flat_map(|tree| &tree.modules);
    let is_test = |file: &usize| modules().filter(|module| module.file == *file).all(|module| module.test);
    (0..part.sources.len()).filter(is_test).collect()
}
