//! One Rust file: its text, its tokens and its syntax.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tidy::violation::Violation;

/// A Rust file of a crate.
pub struct Source {
    /// Relative to the workspace's root, with `/`.
    pub path: String,
    /// What the file is compiled into.
    pub folder: Folder,
    /// As it stands on disk.
    pub text: String,
    /// Every token, also those inside macros. Comments are not among them.
    pub tokens: TokenStream,
    /// The same, parsed; what stands inside macros stays tokens.
    pub syntax: syn::File,
}

/// What a file is compiled into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// The crate itself.
    Src,
    /// Tests that see the crate from outside.
    Tests,
    /// Measurements.
    Benches,
    /// Programs for readers.
    Examples,
    /// Build scripts and whatever else.
    Other,
}

impl Source {
    /// Parses a file. `path` is relative to the workspace's root, `inside` to its crate.
    pub fn parse(path: &str, inside: &str, text: String) -> Result<Source, Violation> {
        let folder = match inside.split('/').next() {
            Some("src") => Folder::Src,
            Some("tests") => Folder::Tests,
            Some("benches") => Folder::Benches,
            Some("examples") => Folder::Examples,
            _ => Folder::Other,
        };
        let syntax = syn::parse_file(&text);
        // A first line for the shell is no Rust; its end stays, for the count of lines.
        let shell = text.starts_with("#!") && !text.starts_with("#![");
        let rust = if shell { text.find('\n').unwrap_or(text.len()) } else { 0 };
        let tokens = text[rust..].parse::<TokenStream>();
        let read = syntax.and_then(|syntax| Ok((syntax, tokens?)));
        let (syntax, tokens) = read.map_err(|error| {
            Violation::at(path, error.span().start().line, "this is not Rust", error.to_string())
        })?;
        Ok(Source { path: path.to_owned(), folder, text, tokens, syntax })
    }

    /// The lines that are compiled for tests only.
    pub fn test_lines(&self) -> BTreeSet<usize> {
        let mut lines = TestLines(BTreeSet::new());
        lines.visit_file(&self.syntax);
        lines.0
    }
}

struct TestLines(BTreeSet<usize>);

impl<'a> Visit<'a> for TestLines {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if is_test(attributes(item)) {
            let span = item.span();
            self.0.extend(span.start().line..=span.end().line);
        } else {
            visit::visit_item(self, item);
        }
    }
}

/// Whether what carries these attributes is compiled for tests only.
pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let named = |name: &str| attribute.path().segments.last().is_some_and(|last| last.ident == name);
        let condition = attribute.meta.require_list().map(|list| list.tokens.to_string().replace(' ', ""));
        named("test")
            || (named("cfg")
                && condition.is_ok_and(|condition| condition == "test" || condition.starts_with("all(test,")))
    })
}

/// The attributes of an item, whatever it is.
pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
