//! `selvedge trust add`: approves a release.

use std::path::PathBuf;

use forge::parcel::{Entry, Parcel};
use forge::repository::Authored;
use forge::verify::whole;
use package::name::TargetPath;
use package::trust::canonical::Value;
use package::trust::metadata::RoleName;
use wire::hash::Hash;

use super::change::{before, now_ms, settle};
use super::rotate::role;
use crate::keys::Keys;

/// Approve a release of a package: list its index, with its digest, among the targets.
///
/// The package is checked first. Whoever follows the repository then takes this release and, since everything hangs from its
/// index by digest, not one byte else.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// A package: a folder or a .tar.
    package: PathBuf,

    /// The release, such as smollm2:7; without it the only one there is.
    #[arg(long, value_name = "NAME:NUMBER")]
    release: Option<String>,

    /// The role that approves it.
    #[arg(long, value_name = "ROLE", default_value = "targets")]
    role: String,

    /// Approve it although a newer one is approved; nodes that run the newer one stay there.
    #[arg(long)]
    older: bool,

    #[command(flatten)]
    keys: Keys,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = Parcel::open(&args.package)?;
    let entry = parcel.entry(args.release.as_deref())?;
    if let Err(faults) = whole(&parcel, &entry, &mut |_| {}) {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::bail!("{} is not approved: {}", entry.name(), faults.join("; "));
    }
    let mut authored = Authored::open(&args.repository)?;
    let role = role(&args.role)?;
    is_newer(args, &authored, &entry, &role)?;
    let staged = before(&authored);
    let keys = args.keys.unlock()?;
    let (model, release) = (&entry.release.model, entry.release.release);
    let path = TargetPath { model: model.clone(), release };
    let ours =
        Value::object([("form", 1u64.into()), ("model", model.as_str().into()), ("release", release.into())]);
    let custom = Value::object([("selvedge", ours)]);
    let file = (entry.bytes.len() as u64, Hash::of(&entry.bytes));
    authored.repository.add_target(&role, &path.to_string(), file, Some(custom), now_ms())?;
    settle(&args.repository, authored, &staged, &keys)
}

/// Releases only grow, and none changes once it is approved.
fn is_newer(args: &Args, authored: &Authored, entry: &Entry, role: &RoleName) -> anyhow::Result<()> {
    let (name, repository) = (entry.name(), args.repository.display());
    for view in authored.roles() {
        for (path, target) in &view.targets {
            let Ok(path) = TargetPath::parse(path) else { continue };
            if path.model != entry.release.model {
                continue;
            }
            if path.release == entry.release.release {
                let is_it = target.check(&entry.bytes).is_ok();
                if is_it && view.role == *role {
                    anyhow::bail!("{name} is approved already by {}", view.role);
                }
                if !is_it {
                    anyhow::bail!(
                        "{name} is approved with another index, and a release never changes: pack it as a new one, or \
                         `selvedge trust withdraw {repository} {name}` first"
                    );
                }
            }
            if path.release > entry.release.release && !args.older {
                anyhow::bail!(
                    "{name} is older than release {}, which is approved: releases only grow (--older approves it all the same)",
                    path.release
                );
            }
        }
    }
    Ok(())
}
