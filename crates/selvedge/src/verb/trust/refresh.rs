//! `selvedge trust refresh`: publishes what is signed, and says that nothing newer is hidden.

use std::path::PathBuf;

use forge::repository::{Authored, RepositoryError};
use package::trust::author::AuthorError;

use super::change::{before, now_ms, sign_changed, signers, tell_published, tell_staged};
use super::rotate::role;
use crate::complaint::Usage;
use crate::keys::Keys;

/// Publish what has its signatures, with a new timestamp.
///
/// Run it from a timer with the keys of snapshot and timestamp, more often than timestamps expire: a node that sees no fresh one
/// takes nothing new. --renew gives a role a new expiry, which its own keys must sign.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// A role whose word shall hold longer: root, targets or one that was delegated to.
    #[arg(long, value_name = "ROLE")]
    renew: Vec<String>,

    #[command(flatten)]
    keys: Keys,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.keys.files.is_empty() {
        return Err(
            Usage("nothing to sign with: --key TIMESTAMP.age, and --key SNAPSHOT.age".to_owned()).into()
        );
    }
    let mut authored = Authored::open(&args.repository)?;
    let staged = before(&authored);
    let keys = args.keys.unlock()?;
    for name in &args.renew {
        authored.repository.renew(&role(name)?, now_ms())?;
    }
    sign_changed(&mut authored, &staged, &keys)?;
    authored.save()?;
    let published = authored.publish(&signers(&keys), now_ms()).map_err(|error| match error {
        RepositoryError::Author(AuthorError::Verify { file, .. }) => {
            let role = file.as_str().trim_end_matches(".json");
            anyhow::anyhow!(
                "nothing was published: {role} is due, and none of the keys is its own; name it with --key"
            )
        }
        error => error.into(),
    })?;
    tell_published(&published)?;
    tell_staged(&args.repository, &authored)
}
