//! `selvedge trust rotate`: other keys for a role.

use std::path::PathBuf;

use anyhow::Context as _;
use forge::repository::Authored;
use package::trust::key::KeyId;
use package::trust::metadata::RoleName;

use super::change::{before, now_ms, settle};
use crate::complaint::Usage;
use crate::keys::{Keys, read_holders, read_public};

/// Give a role other keys: because one was lost or stolen, or because a person comes or goes.
///
/// Keys of root, targets, snapshot and timestamp stand in the root, so the old root's keys must sign; a new root key must sign,
/// too. What the role itself says is signed anew with the new keys.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The role: root, targets, snapshot, timestamp, or one that was delegated to.
    role: String,

    /// A public key that comes, NAME.pub.json.
    #[arg(long, value_name = "PUB.json")]
    add: Vec<PathBuf>,

    /// A key that goes: its id, the beginning of it, or its NAME.pub.json.
    #[arg(long, value_name = "ID|PUB.json")]
    remove: Vec<String>,

    /// How many of the keys must sign from now on.
    #[arg(long, value_name = "COUNT")]
    threshold: Option<u64>,

    #[command(flatten)]
    keys: Keys,
}

/// The shortest beginning of an id that is taken for it.
const ID_DIGITS: usize = 6;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.add.is_empty() && args.remove.is_empty() && args.threshold.is_none() {
        return Err(Usage("nothing to change: --add, --remove or --threshold".to_owned()).into());
    }
    let role = role(&args.role)?;
    let add = read_holders(&args.add)?;
    let mut authored = Authored::open(&args.repository)?;
    let staged = before(&authored);
    let remove = args.remove.iter().map(|word| meant(&authored, &role, word));
    let remove = remove.collect::<anyhow::Result<Vec<KeyId>>>()?;
    let keys = args.keys.unlock()?;
    authored.repository.rotate(&role, &add, &remove, args.threshold, now_ms())?;
    let is_remade = [RoleName::root(), RoleName::snapshot(), RoleName::timestamp()].contains(&role);
    if !is_remade {
        authored.repository.renew(&role, now_ms())?;
    }
    settle(&args.repository, authored, &staged, &keys)
}

/// A role by its name.
pub(super) fn role(name: &str) -> anyhow::Result<RoleName> {
    Ok(match name {
        "root" => RoleName::root(),
        "targets" => RoleName::targets(),
        "snapshot" => RoleName::snapshot(),
        "timestamp" => RoleName::timestamp(),
        name => {
            RoleName::delegated(name).with_context(|| format!("{name:?} cannot be the name of a role"))?
        }
    })
}

/// The key of a role that a word means.
fn meant(authored: &Authored, role: &RoleName, word: &str) -> anyhow::Result<KeyId> {
    if word.ends_with(".json") {
        return Ok(KeyId::of(&read_public(word.as_ref())?.0));
    }
    let ids = authored.holders(role).map(|holders| holders.ids).unwrap_or_default();
    let mut alike = ids.iter().filter(|id| word.len() >= ID_DIGITS && id.to_string().starts_with(word));
    match (alike.next(), alike.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => anyhow::bail!("more than one key of {role} begins with {word}: say more of it"),
        (None, _) => {
            let ids: Vec<String> = ids.iter().map(crate::keys::short).collect();
            anyhow::bail!("{role} has no key {word}; it has {}", ids.join(", "))
        }
    }
}
