//! The tables of `node.toml` that are about language models, in a build that has none: each is refused.

use std::path::Path;

use super::part::Part;
use super::problem::Problems;

/// None of them.
pub(super) struct Tables;

/// What they say together: nothing.
pub(super) struct Language {}

impl Tables {
    /// None is read yet.
    pub(super) fn new(_has_packages: bool) -> Tables {
        Tables
    }

    /// Refuses one of them.
    pub(super) fn read(&mut self, _folder: &Path, mut part: Part<'_, '_>) {
        let (span, path) = (part.span.clone(), part.path.clone());
        let message = format!("`[{path}]` is about language models, and this is a build without them");
        part.problem(span, message, "leave the table out, or install the whole program");
    }

    /// There is nothing to take together.
    pub(super) fn join(self, _has_api: bool, _has_hub: bool, _problems: &mut Problems) -> Language {
        Language {}
    }
}
