//! `selvedge trust delegate`: a new role, trusted with some paths.

use std::path::PathBuf;

use forge::repository::Authored;
use package::trust::assignment;
use package::trust::author::{Delegation, Holders};

use super::change::{before, now_ms, settle};
use super::life::parse_life;
use super::rotate::role;
use crate::complaint::Usage;
use crate::keys::{Keys, read_holders};

/// Trust somebody else with some releases: a team with its models.
///
/// A role called `assignments` says which node shall run what; it needs no --paths.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The new role's name.
    name: String,

    /// A path that it may approve, such as 'models/pump-*/*'; a star does not reach over a slash.
    #[arg(long, value_name = "PATTERN")]
    paths: Vec<String>,

    /// A public key of the role, NAME.pub.json.
    #[arg(long, value_name = "PUB.json", required = true)]
    add: Vec<PathBuf>,

    /// How many of the keys must sign.
    #[arg(long, value_name = "COUNT", default_value = "1")]
    threshold: u64,

    /// How long each version of the role holds.
    #[arg(long, value_name = "TIME", default_value = "1y", value_parser = parse_life)]
    expires: i64,

    /// Nobody else is asked about these paths after this role.
    #[arg(long)]
    terminating: bool,

    /// Who delegates.
    #[arg(long, value_name = "ROLE", default_value = "targets")]
    from: String,

    #[command(flatten)]
    keys: Keys,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let assigns = args.name == assignment::ROLE;
    let mut paths = args.paths.clone();
    if paths.is_empty() {
        if !assigns {
            return Err(Usage("which paths? --paths 'models/NAME/*'".to_owned()).into());
        }
        paths.push(format!("{}/*", assignment::ROLE));
    }
    let holders =
        Holders { keys: read_holders(&args.add)?, threshold: args.threshold, life_ms: args.expires };
    let delegation =
        Delegation { name: args.name.clone(), holders, paths, terminating: args.terminating || assigns };
    let mut authored = Authored::open(&args.repository)?;
    let staged = before(&authored);
    let keys = args.keys.unlock()?;
    authored.repository.delegate(&role(&args.from)?, &delegation, now_ms())?;
    settle(&args.repository, authored, &staged, &keys)
}
