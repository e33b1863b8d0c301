//! Every path that a crate's code names, with what it means: in `use`, in types and expressions, in attributes, and
//! among the tokens of macros, which the compiler would only see after expansion.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, Item, Visibility};

use crate::tidy::house::Crate;
use crate::tidy::modules::{Target, Tree, imports, plain};
use crate::tidy::source::{attributes, is_test};

/// One path in one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// Which of the crate's sources.
    pub file: usize,
    /// Its line.
    pub line: usize,
    /// As it is written.
    pub written: Vec<String>,
    /// What it means: from `crate` or from a library.
    pub path: Vec<String>,
    /// Which of the crate's sources defines it, or brings it in from a library.
    pub defined_in: Option<usize>,
    /// Whether it means a module, not something in one.
    pub is_module: bool,
    /// Whether it means something below the module that names it.
    pub is_below: bool,
    /// Whether it asks the crate's root for a name.
    pub through_root: bool,
    /// How it is named.
    pub kind: Kind,
    /// Whether the place is compiled for tests only.
    pub test: bool,
}

impl Mention {
    /// The library, or the other crate, that this place names itself. A name that a `use` elsewhere has brought in is
    /// that `use`'s.
    pub fn library(&self) -> Option<&str> {
        // One word alone is a value of that name.
        let is_path = self.path.len() > 1 || matches!(self.kind, Kind::Import | Kind::Reexport);
        (is_path && self.path[0] != "crate" && self.written[0] == self.path[0])
            .then_some(self.path[0].as_str())
    }
}

/// How a path is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `use`.
    Import,
    /// `pub use`, also `pub(crate) use`.
    Reexport,
    /// In code.
    Inline,
    /// In the text of an attribute, as in `#[serde(with = "crate::number")]`.
    Attribute,
}

/// Every path in a crate.
pub fn of(house: &Crate) -> Vec<Mention> {
    let (trees, _) = Tree::all(house);
    let mut mentions: Vec<Mention> = trees.iter().flat_map(of_tree).collect();
    // A file that is part of two targets is read twice.
    mentions.sort();
    mentions.dedup();
    mentions
}

fn of_tree(tree: &Tree<'_>) -> Vec<Mention> {
    let mut reader = Reader { tree, at: 0, tests: 0, mentions: Vec::new() };
    for (at, module) in tree.modules.iter().enumerate() {
        reader.at = at;
        reader.tests = usize::from(module.test);
        for item in module.items {
            match item {
                // Its items are those of another module in the tree.
                Item::Mod(item) => item.attrs.iter().for_each(|attribute| reader.visit_attribute(attribute)),
                item => reader.visit_item(item),
            }
        }
    }
    reader.mentions
}

struct Reader<'t, 'a> {
    tree: &'t Tree<'a>,
    /// The module being read.
    at: usize,
    /// How many of the things around are compiled for tests only.
    tests: usize,
    mentions: Vec<Mention>,
}

impl Reader<'_, '_> {
    fn mention(&mut self, written: Vec<String>, line: usize, kind: Kind) {
        let is_receiver = written.len() == 1 && (written[0] == "self" || written[0] == "Self");
        if is_receiver || written.is_empty() {
            return;
        }
        let here = &self.tree.modules[self.at];
        // `pub(crate)` and `pub(super)` are paths, too.
        let is_place = kind == Kind::Inline && written.len() == 1;
        let through_root = !is_place && self.tree.through_root(self.at, &written);
        for Target { path, module, is_module } in self.tree.resolve(self.at, &written) {
            let home = module.map(|module| &self.tree.modules[module]);
            self.mentions.push(Mention {
                file: here.file,
                line,
                written: written.clone(),
                path,
                defined_in: home.map(|home| home.file),
                is_module,
                is_below: home.is_some_and(|home| home.path.starts_with(&here.path)),
                through_root,
                kind,
                test: self.tests > 0,
            });
        }
    }

    fn mention_path(&mut self, path: &syn::Path, more: Option<&syn::Ident>) {
        let words = path.segments.iter().map(|segment| &segment.ident).chain(more);
        let written: Vec<String> = words.map(plain).collect();
        if let Some(first) = path.segments.first() {
            self.mention(written, first.ident.span().start().line, Kind::Inline);
        }
    }

    fn mention_tokens(&mut self, tokens: TokenStream) {
        let mut paths = Vec::new();
        paths_in(tokens, &[], &mut paths);
        for (path, line) in paths {
            self.mention(path, line, Kind::Inline);
        }
    }

    fn mention_texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.mention_texts(group.stream()),
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                    let path = text.and_then(|text| syn::parse_str::<syn::Path>(&text.value()));
                    if let Ok(path) = path.as_ref()
                        && path.segments.len() > 1
                    {
                        let written = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
                        self.mention(written, line, Kind::Attribute);
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'s> Visit<'s> for Reader<'_, '_> {
    fn visit_item(&mut self, item: &'s Item) {
        let test = usize::from(is_test(attributes(item)));
        self.tests += test;
        visit::visit_item(self, item);
        self.tests -= test;
    }

    fn visit_impl_item_fn(&mut self, item: &'s syn::ImplItemFn) {
        let test = usize::from(is_test(&item.attrs));
        self.tests += test;
        visit::visit_impl_item_fn(self, item);
        self.tests -= test;
    }

    fn visit_item_use(&mut self, item: &'s syn::ItemUse) {
        let kind = if matches!(item.vis, Visibility::Inherited) { Kind::Import } else { Kind::Reexport };
        for import in imports(item) {
            self.mention(import.path, import.line, kind);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'s syn::ItemExternCrate) {
        self.mention(vec![plain(&item.ident)], item.ident.span().start().line, Kind::Import);
    }

    fn visit_path(&mut self, path: &'s syn::Path) {
        self.mention_path(path, None);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'s syn::ExprMethodCall) {
        // A method of a constant reads like a path: `UNIX_EPOCH.elapsed()`.
        if let Expr::Path(receiver) = &*call.receiver
            && receiver.path.segments.last().is_some_and(|last| is_constant(&plain(&last.ident)))
        {
            self.mention_path(&receiver.path, Some(&call.method));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'s syn::Macro) {
        self.visit_path(&call.path);
        self.mention_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'s syn::Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        self.visit_path(attribute.path());
        match &attribute.meta {
            syn::Meta::Path(_) => {}
            syn::Meta::List(list) => {
                self.mention_tokens(list.tokens.clone());
                self.mention_texts(list.tokens.clone());
            }
            syn::Meta::NameValue(pair) => self.visit_expr(&pair.value),
        }
    }
}

/// The paths among tokens, each with its line. `prefix` stands before all of them, as in `use prefix::{…}`.
fn paths_in(tokens: TokenStream, prefix: &[String], paths: &mut Vec<(Vec<String>, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is = |at: usize, sign: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == sign);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => paths_in(group.stream(), &[], paths),
            TokenTree::Ident(first) => {
                let before = at.checked_sub(1);
                let field =
                    before.is_some_and(|before| is(before, '.') && !(before > 0 && is(before - 1, '.')));
                let hole = before.is_some_and(|before| is(before, '$')) && first != "crate";
                let lifetime = before.is_some_and(|before| is(before, '\''));
                let mut path: Vec<String> = prefix.iter().cloned().chain([plain(first)]).collect();
                let mut group = None;
                while is(at + 1, ':') && is(at + 2, ':') {
                    match tokens.get(at + 3) {
                        Some(TokenTree::Ident(word)) => path.push(plain(word)),
                        Some(TokenTree::Group(words)) if words.delimiter() == Delimiter::Brace => {
                            group = Some(words.stream());
                        }
                        _ => break,
                    }
                    at += 3;
                }
                let constant = path.last().is_some_and(|last| is_constant(last));
                if constant
                    && is(at + 1, '.')
                    && let Some(TokenTree::Ident(method)) = tokens.get(at + 2)
                {
                    path.push(plain(method));
                }
                match group {
                    Some(words) => paths_in(words, &path, paths),
                    None if field || hole || lifetime => {}
                    None => paths.push((path, first.span().start().line)),
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn is_constant(name: &str) -> bool {
    name.chars().all(|c| c.is_uppercase() || c.is_numeric() || c == '_')
}
