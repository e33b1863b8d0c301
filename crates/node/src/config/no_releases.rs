//! The tables of `node.toml` that are about releases, in a build that takes none: each is refused.

use std::path::Path;

use super::part::Part;
use super::problem::Problems;

/// What else `node.toml` has.
#[expect(dead_code, reason = "nothing is read together with it; whoever reads the file need not know")]
pub(super) struct Beside {
    pub(super) has_api: bool,
    pub(super) has_hub: bool,
    pub(super) has_server: bool,
}

/// None of them.
pub(super) struct Tables;

/// What they say together: nothing.
pub(super) struct Releases {}

impl Tables {
    /// None is read yet.
    pub(super) fn new() -> Tables {
        Tables
    }

    /// Refuses one of them.
    pub(super) fn read(&mut self, _folder: &Path, mut part: Part<'_, '_>) {
        let (span, path) = (part.span.clone(), part.path.clone());
        let message = format!("`[{path}]` is about releases, and this is a build without them");
        part.problem(span, message, "leave the table out, or install the whole program");
    }

    /// There is nothing to take together.
    pub(super) fn join(self, _beside: Beside, _problems: &mut Problems) -> Releases {
        Releases {}
    }
}
