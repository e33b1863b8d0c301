//! `selvedge trust withdraw`: approves a release no more.

use std::path::PathBuf;

use anyhow::Context as _;
use forge::repository::Authored;
use package::name::{ModelName, TargetPath};
use package::trust::metadata::RoleName;

use super::change::{before, now_ms, settle};
use crate::keys::Keys;

/// Approve a release no more: nobody takes it from now on.
///
/// A node that runs it goes on until it is assigned another.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The release, such as smollm2:7.
    #[arg(value_name = "NAME:NUMBER", value_parser = parse_release)]
    release: TargetPath,

    #[command(flatten)]
    keys: Keys,
}

/// Reads `smollm2:7`.
pub(super) fn parse_release(word: &str) -> Result<TargetPath, String> {
    let wrong = || "it reads like smollm2:7".to_owned();
    let (model, release) = word.split_once(':').ok_or_else(wrong)?;
    let model = ModelName::new(model).map_err(|error| error.to_string())?;
    Ok(TargetPath { model, release: release.parse().map_err(|_| wrong())? })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut authored = Authored::open(&args.repository)?;
    let (staged, path) = (before(&authored), args.release.to_string());
    let views = authored.roles().into_iter();
    let roles: Vec<RoleName> =
        views.filter(|view| view.targets.contains_key(&path)).map(|view| view.role).collect();
    let (model, release) = (&args.release.model, args.release.release);
    roles.first().with_context(|| format!("{model}:{release} is not approved by any role"))?;
    let keys = args.keys.unlock()?;
    for role in &roles {
        authored.repository.remove_target(role, &path, now_ms())?;
    }
    settle(&args.repository, authored, &staged, &keys)
}
