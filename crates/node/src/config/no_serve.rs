//! `[serve]` of `node.toml` in a build without language models: it is refused.

use std::path::Path;

use super::part::Part;

/// Whether this build can serve language models.
#[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "there are no releases that ask"))]
pub(super) const IS_BUILT: bool = false;

/// No language models are served.
#[derive(Debug, Clone)]
pub enum ServeConfig {}

/// Refuses the table, which is noted.
pub(super) fn read(_folder: &Path, _has_packages: bool, mut part: Part<'_, '_>) -> Option<ServeConfig> {
    let message = "`[serve]` is about language models, and this is a build without them";
    part.problem(part.span.clone(), message, "leave the table out, or install the whole program");
    None
}
