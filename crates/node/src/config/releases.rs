//! The tables of `node.toml` that are about releases, read together: releases need somebody who vouches for them, and language
//! models among them a server in which they answer; networks and flows need none. A build without releases has `no_releases.rs`
//! in the place of this file.

use std::ops::Range;
use std::path::Path;

use super::neighbours::{self, NeighboursConfig};
use super::packages::{self, PackagesConfig, TrustConfig};
use super::part::Part;
use super::problem::Problems;
use super::serve;

/// What else `node.toml` has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    pub(super) has_api: bool,
    pub(super) has_hub: bool,
    pub(super) has_server: bool,
}

/// The tables as far as they were read.
pub(super) struct Tables {
    packages: Option<(Range<usize>, packages::Settings)>,
    trust: Option<(Range<usize>, Option<TrustConfig>)>,
    neighbours: Option<NeighboursConfig>,
}

/// What they say together.
pub(super) struct Releases {
    pub(super) packages: Option<PackagesConfig>,
    pub(super) neighbours: Option<NeighboursConfig>,
}

impl Tables {
    /// None is read yet.
    pub(super) fn new() -> Tables {
        Tables { packages: None, trust: None, neighbours: None }
    }

    /// Reads one of them.
    pub(super) fn read(&mut self, folder: &Path, part: Part<'_, '_>) {
        let span = part.span.clone();
        match part.path.as_str() {
            "packages" => self.packages = Some((span, packages::read(folder, part))),
            "trust" => self.trust = Some((span, packages::read_trust(folder, part))),
            _ => self.neighbours = neighbours::read(folder, part),
        }
    }

    /// Takes them together with what else the file has.
    pub(super) fn join(self, beside: Beside, problems: &mut Problems) -> Releases {
        let Tables { packages, trust, neighbours } = self;
        if neighbours.as_ref().is_some_and(|neighbours| neighbours.serve) && !beside.has_api {
            let message = "`[neighbours]` would serve, and there is no `[api]` to serve at";
            problems.add_with_help(0..0, message, "add `[api]` and `listen`, or take `serve = true` away");
        }
        let packages = match (packages, trust) {
            (Some(packages), trust) => releases(packages, trust, beside, problems),
            (None, Some((span, _))) => {
                let help = "add `[packages]`, or leave `[trust]` out";
                problems.add_with_help(span, "`[trust]` is for packages, and there are none", help);
                None
            }
            (None, None) => None,
        };
        Releases { packages, neighbours }
    }
}

fn releases(
    (span, packages): (Range<usize>, packages::Settings),
    trust: Option<(Range<usize>, Option<TrustConfig>)>,
    beside: Beside,
    problems: &mut Problems,
) -> Option<PackagesConfig> {
    if packages.wants_spares() && !beside.has_server {
        let message = "`spare` is for language models, and there is no `[serve]` in which they answer";
        let help = match serve::IS_BUILT {
            true => "add `[serve]`, or leave `spare` out",
            false => "leave `spare` out: this is a build without language models",
        };
        problems.add_with_help(span.clone(), message, help);
    }
    let Some((trust_span, trust)) = trust else {
        let help = "add `[trust]` and `root = \"root.json\"`: the file that `selvedge trust init` made";
        problems.add_with_help(span, "`[packages]` has nobody who vouches for releases", help);
        return None;
    };
    let trust = trust?;
    if trust.repository.is_none() && !beside.has_hub {
        let help = "add `repository = \"/mnt/stick/metadata\"`, or a `[hub]`";
        problems.add_with_help(trust_span, "`[trust]` has no repository, and there is no hub", help);
    }
    Some(packages.with(trust))
}
