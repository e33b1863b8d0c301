//! The tables of `node.toml` that are about language models and releases, read together: releases need somebody who vouches for
//! them, and language models among them a server in which they answer; networks and flows need none. A build without language models has `no_language.rs` in the place of this file.

use std::ops::Range;
use std::path::Path;

use super::neighbours::{self, NeighboursConfig};
use super::packages::{self, PackagesConfig, TrustConfig};
use super::part::Part;
use super::problem::Problems;
use super::serve::{self, ServeConfig};

/// The tables as far as they were read.
pub(super) struct Tables {
    has_packages: bool,
    has_server: bool,
    serve: Option<ServeConfig>,
    packages: Option<(Range<usize>, packages::Settings)>,
    trust: Option<(Range<usize>, Option<TrustConfig>)>,
    neighbours: Option<NeighboursConfig>,
}

/// What they say together.
pub(super) struct Language {
    pub(super) serve: Option<ServeConfig>,
    pub(super) packages: Option<PackagesConfig>,
    pub(super) neighbours: Option<NeighboursConfig>,
}

impl Tables {
    /// None is read yet. With packages a server needs to name no models.
    pub(super) fn new(has_packages: bool) -> Tables {
        Tables { has_packages, has_server: false, serve: None, packages: None, trust: None, neighbours: None }
    }

    /// Reads one of them.
    pub(super) fn read(&mut self, folder: &Path, part: Part<'_, '_>) {
        let span = part.span.clone();
        match part.path.as_str() {
            "serve" => {
                self.has_server = true;
                self.serve = serve::read(folder, self.has_packages, part);
            }
            "packages" => self.packages = Some((span, packages::read(folder, part))),
            "trust" => self.trust = Some((span, packages::read_trust(folder, part))),
            _ => self.neighbours = neighbours::read(folder, part),
        }
    }

    /// Takes them together.
    pub(super) fn join(self, has_api: bool, has_hub: bool, problems: &mut Problems) -> Language {
        let Tables { has_server, serve, packages, trust, neighbours, .. } = self;
        if neighbours.as_ref().is_some_and(|neighbours| neighbours.serve) && !has_api {
            let message = "`[neighbours]` would serve, and there is no `[api]` to serve at";
            problems.add_with_help(0..0, message, "add `[api]` and `listen`, or take `serve = true` away");
        }
        let packages = match (packages, trust) {
            (Some(packages), trust) => releases(packages, trust, has_server, has_hub, problems),
            (None, Some((span, _))) => {
                let help = "add `[packages]`, or leave `[trust]` out";
                problems.add_with_help(span, "`[trust]` is for packages, and there are none", help);
                None
            }
            (None, None) => None,
        };
        Language { serve, packages, neighbours }
    }
}

fn releases(
    (span, packages): (Range<usize>, packages::Settings),
    trust: Option<(Range<usize>, Option<TrustConfig>)>,
    has_server: bool,
    has_hub: bool,
    problems: &mut Problems,
) -> Option<PackagesConfig> {
    if packages.wants_spares() && !has_server {
        let message = "`spare` is for language models, and there is no `[serve]` in which they answer";
        problems.add_with_help(span.clone(), message, "add `[serve]`, or leave `spare` out");
    }
    let Some((trust_span, trust)) = trust else {
        let help = "add `[trust]` and `root = \"root.json\"`: the file that `selvedge trust init` made";
        problems.add_with_help(span, "`[packages]` has nobody who vouches for releases", help);
        return None;
    };
    let trust = trust?;
    if trust.repository.is_none() && !has_hub {
        let help = "add `repository = \"/mnt/stick/metadata\"`, or a `[hub]`";
        problems.add_with_help(trust_span, "`[trust]` has no repository, and there is no hub", help);
    }
    Some(packages.with(trust))
}
