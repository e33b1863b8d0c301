//! The module tree of a crate, as the compiler walks it: from each root through `mod` to the file of every module.
//!
//! [`Tree::resolve`] answers the question behind most rules: a path as it is written here, which file or library does
//! it mean? It follows `use`, aliases, `self`, `super`, `crate` and re-exports; what it cannot follow (a glob from a
//! library, a name made by a macro) it leaves as written.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use crate::tidy::house::Crate;
use crate::tidy::source::{Folder, attributes, is_test};

/// How far a chain of re-exports is followed before it counts as going round.
const MAX_DEPTH: usize = 12;

/// The modules of one target: a library, a binary, a test, a bench, an example.
pub struct Tree<'a> {
    /// The root first.
    pub modules: Vec<Module<'a>>,
    /// Macros that `#[macro_export]` puts into the root, and the module where they stand.
    macros: BTreeMap<String, usize>,
}

/// A module, in a file of its own or inside one.
pub struct Module<'a> {
    /// From the root; empty for the root.
    pub path: Vec<String>,
    /// Which of the crate's sources it stands in.
    pub file: usize,
    /// Whether it is compiled for tests only.
    pub test: bool,
    /// What stands in it.
    pub items: &'a [Item],
    parent: Option<usize>,
    children: BTreeMap<String, Vec<usize>>,
    types: BTreeSet<String>,
    values: BTreeSet<String>,
    imports: Vec<Import>,
}

/// One name that a `use` brings into a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name here; `None` for a glob.
    pub name: Option<String>,
    /// What it is called where it comes from.
    pub path: Vec<String>,
    /// The line of its last word.
    pub line: usize,
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// From `crate` or from a library.
    pub path: Vec<String>,
    /// The module that defines it, or that it is, or that brings it in from a library; `None` if the path itself is
    /// a library's.
    pub module: Option<usize>,
    /// Whether it is a module itself.
    pub is_module: bool,
}

impl<'a> Tree<'a> {
    /// The tree of each target of a crate, and the sources that none of them reaches.
    pub fn all(house: &'a Crate) -> (Vec<Tree<'a>>, Vec<usize>) {
        let folder = format!("crates/{}/", house.name);
        let inside = |file: usize| house.sources[file].path.strip_prefix(&folder).unwrap_or_default();
        let roots = (0..house.sources.len()).filter(|file| is_root(inside(*file), &house.manifest.targets));
        let trees: Vec<Tree<'_>> = roots.map(|root| Tree::grow(house, root)).collect();
        let reached: BTreeSet<usize> =
            trees.iter().flat_map(|tree| tree.modules.iter().map(|module| module.file)).collect();
        let orphans = (0..house.sources.len())
            .filter(|file| house.sources[*file].folder != Folder::Other && !reached.contains(file));
        (trees, orphans.collect())
    }

    fn grow(house: &'a Crate, root: usize) -> Tree<'a> {
        let mut tree = Tree { modules: Vec::new(), macros: BTreeMap::new() };
        let source = &house.sources[root];
        let (folder, _) = source.path.rsplit_once('/').unwrap_or_default();
        let place = Place { folder: folder.to_owned(), beside: folder.to_owned() };
        let test = is_test(&source.syntax.attrs);
        let module = Module::new(Vec::new(), root, test, &source.syntax.items, None);
        tree.add(house, module, &place);
        tree
    }

    fn add(&mut self, house: &'a Crate, mut module: Module<'a>, place: &Place) -> usize {
        let items = module.items;
        for item in items {
            let names = if is_type(item) { &mut module.types } else { &mut module.values };
            names.extend(name_of(item));
            if matches!(item, Item::Macro(_)) && has(attributes(item), "macro_export") {
                self.macros.extend(name_of(item).map(|name| (name, self.modules.len())));
            }
            if !matches!(item, Item::Mod(_)) {
                let mut uses = Uses(Vec::new());
                uses.visit_item(item);
                module.imports.extend(uses.0);
            }
        }
        let (path, file, test) = (module.path.clone(), module.file, module.test);
        let at = self.modules.len();
        self.modules.push(module);
        for item in items {
            let Item::Mod(child) = item else { continue };
            let name = plain(&child.ident);
            let test = test || is_test(&child.attrs);
            let path: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
            let (module, place) = if let Some((_, items)) = &child.content {
                (Module::new(path, file, test, items, Some(at)), place.inline(&name))
            } else {
                let Some((found, place)) = place.find(house, &name, path_attribute(&child.attrs)) else {
                    continue;
                };
                let syntax = &house.sources[found].syntax;
                (Module::new(path, found, test || is_test(&syntax.attrs), &syntax.items, Some(at)), place)
            };
            let child = self.add(house, module, &place);
            self.modules[at].children.entry(name).or_default().push(child);
        }
        at
    }

    /// What a path written in a module means; several things where conditions give a name several meanings.
    pub fn resolve(&self, at: usize, path: &[String]) -> Vec<Target> {
        self.resolve_here(at, path, None, 0)
    }

    /// Whether a path goes to the crate's root for a name that the root passes on or keeps, or for all of them.
    pub fn through_root(&self, at: usize, path: &[String]) -> bool {
        let Some((from, rest)) = self.anchor(at, path) else { return false };
        let root = &self.modules[0];
        let in_other_file = self.modules[at].file != root.file;
        let belongs = |name: &String| root.children.contains_key(name) || self.macros.contains_key(name);
        let is_name = !rest.first().is_some_and(belongs);
        from == 0 && in_other_file && is_name
    }

    /// Where a path that begins with `crate`, `self` or `super` begins, and what is left of it.
    fn anchor<'p>(&self, at: usize, path: &'p [String]) -> Option<(usize, &'p [String])> {
        match path.first()?.as_str() {
            "crate" => Some((0, &path[1..])),
            "self" => Some(self.anchor(at, &path[1..]).unwrap_or((at, &path[1..]))),
            "super" => {
                let parent = self.modules[at].parent?;
                let rest = &path[1..];
                let further = rest.first().is_some_and(|word| word == "super");
                if further { self.anchor(parent, rest) } else { Some((parent, rest)) }
            }
            _ => None,
        }
    }

    fn resolve_here(&self, at: usize, path: &[String], own: Option<&Import>, depth: usize) -> Vec<Target> {
        if let Some((from, rest)) = self.anchor(at, path) {
            let found = self.follow(from, rest, own, depth);
            if found.is_empty() { vec![self.defined(from, rest)] } else { found }
        } else {
            let found = self.follow(at, path, own, depth);
            if found.is_empty() {
                vec![Target { path: path.to_vec(), module: None, is_module: false }]
            } else {
                found
            }
        }
    }

    /// The meanings of a path from a module downwards. `own` is the import being resolved, which cannot mean itself.
    fn follow(&self, at: usize, path: &[String], own: Option<&Import>, depth: usize) -> Vec<Target> {
        let module = &self.modules[at];
        let Some((name, rest)) = path.split_first() else {
            return vec![Target { path: self.absolute(at, &[]), module: Some(at), is_module: true }];
        };
        if depth > MAX_DEPTH {
            return Vec::new();
        }
        let mut found = Vec::new();
        for child in module.children.get(name).into_iter().flatten() {
            let below = self.follow(*child, rest, None, depth);
            if below.is_empty() { found.push(self.defined(*child, rest)) } else { found.extend(below) }
        }
        for import in &module.imports {
            if import.name.as_ref() == Some(name) && own != Some(import) {
                let path: Vec<String> = import.path.iter().chain(rest).cloned().collect();
                let targets = self.resolve_here(at, &path, Some(import), depth + 1).into_iter();
                // A library's name belongs to the file that brings it in.
                found.extend(targets.map(|target| Target { module: target.module.or(Some(at)), ..target }));
            }
        }
        // Only a type can be followed by `::`.
        if found.is_empty()
            && (module.types.contains(name) || (rest.is_empty() && module.values.contains(name)))
        {
            found.push(self.defined(at, path));
        }
        if at == 0 && rest.is_empty() {
            found.extend(self.macros.get(name).map(|home| self.defined(*home, path)));
        }
        if found.is_empty() {
            for glob in module.imports.iter().filter(|import| import.name.is_none() && own != Some(import)) {
                for target in self.resolve_here(at, &glob.path, Some(glob), depth + 1) {
                    if let Some(from) = target.module.filter(|from| target.is_module && *from != at) {
                        found.extend(self.follow(from, path, Some(glob), depth + 1));
                    }
                }
            }
        }
        found
    }

    fn defined(&self, at: usize, rest: &[String]) -> Target {
        Target { path: self.absolute(at, rest), module: Some(at), is_module: rest.is_empty() }
    }

    fn absolute(&self, at: usize, rest: &[String]) -> Vec<String> {
        ["crate".to_owned()].iter().chain(&self.modules[at].path).chain(rest).cloned().collect()
    }
}

impl<'a> Module<'a> {
    fn new(
        path: Vec<String>,
        file: usize,
        test: bool,
        items: &'a [Item],
        parent: Option<usize>,
    ) -> Module<'a> {
        let (children, imports) = (BTreeMap::new(), Vec::new());
        let (types, values) = (BTreeSet::new(), BTreeSet::new());
        Module { path, file, test, items, parent, children, types, values, imports }
    }
}

/// Where the files of a module's children are looked for.
struct Place {
    /// The folder of `mod child;`.
    folder: String,
    /// The folder that `#[path]` counts from.
    beside: String,
}

impl Place {
    fn inline(&self, name: &str) -> Place {
        let folder = format!("{}/{name}", self.folder);
        Place { beside: folder.clone(), folder }
    }

    /// The source of `mod name;`, and the place of its own children.
    fn find(&self, house: &Crate, name: &str, path: Option<String>) -> Option<(usize, Place)> {
        let at = |path: &str| house.sources.iter().position(|source| source.path == path);
        if let Some(path) = path {
            let path = normal(&format!("{}/{path}", self.beside));
            let (folder, _) = path.rsplit_once('/')?;
            return Some((at(&path)?, Place { folder: folder.into(), beside: folder.into() }));
        }
        let folder = format!("{}/{name}", self.folder);
        if let Some(found) = at(&format!("{folder}.rs")) {
            return Some((found, Place { folder, beside: self.folder.clone() }));
        }
        let found = at(&format!("{folder}/mod.rs"))?;
        Some((found, Place { beside: folder.clone(), folder }))
    }
}

/// Every import in a module's items, also those inside functions.
struct Uses(Vec<Import>);

impl Visit<'_> for Uses {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.0.extend(imports(item));
    }

    fn visit_item_extern_crate(&mut self, item: &syn::ItemExternCrate) {
        if let Some((_, name)) = &item.rename {
            let path = vec![plain(&item.ident)];
            self.0.push(Import { name: Some(plain(name)), path, line: name.span().start().line });
        }
        visit::visit_item_extern_crate(self, item);
    }
}

/// The names that a `use` brings in.
pub fn imports(item: &syn::ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    flatten(&item.tree, &mut Vec::new(), &mut found);
    found
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Import>) {
    // `use a::{self}` means `a`.
    let full = |word: &syn::Ident, path: &[String]| {
        let own = [plain(word)];
        let word = if own[0] == "self" && !path.is_empty() { &own[..0] } else { &own[..] };
        path.iter().chain(word).cloned().collect::<Vec<String>>()
    };
    match tree {
        UseTree::Path(tree) => {
            path.push(plain(&tree.ident));
            flatten(&tree.tree, path, found);
            path.pop();
        }
        UseTree::Name(tree) => {
            let path = full(&tree.ident, path);
            found.push(Import { name: path.last().cloned(), path, line: tree.ident.span().start().line });
        }
        UseTree::Rename(tree) => {
            let (name, path) = (plain(&tree.rename), full(&tree.ident, path));
            found.push(Import { name: Some(name), path, line: tree.ident.span().start().line });
        }
        UseTree::Glob(tree) => {
            let line = tree.star_token.spans[0].start().line;
            found.push(Import { name: None, path: path.clone(), line });
        }
        UseTree::Group(tree) => {
            for tree in &tree.items {
                flatten(tree, path, found);
            }
        }
    }
}

/// An identifier without `r#`.
pub fn plain(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// The name that an item adds to its module. Modules and imports are kept apart.
fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(plain(ident))
}

/// Whether an item's name can be followed by `::`.
fn is_type(item: &Item) -> bool {
    use Item::{Enum, Struct, Trait, TraitAlias, Type, Union};
    matches!(item, Enum(_) | Struct(_) | Trait(_) | TraitAlias(_) | Type(_) | Union(_))
}

/// Whether Cargo makes a target of this file of a crate.
fn is_root(inside: &str, declared: &[String]) -> bool {
    let parts: Vec<&str> = inside.split('/').collect();
    match parts[..] {
        ["src", "lib.rs" | "main.rs"] => true,
        ["tests" | "benches" | "examples", name] | ["src", "bin", name] => name.ends_with(".rs"),
        ["tests" | "benches" | "examples", _, "main.rs"] | ["src", "bin", _, "main.rs"] => true,
        _ => declared.iter().any(|path| normal(path) == inside),
    }
}

fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Expr::Lit(value) = &attribute.meta.require_name_value().ok()?.value else { return None };
    let syn::Lit::Str(value) = &value.lit else { return None };
    Some(value.value())
}

/// A path without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
