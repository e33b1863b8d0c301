//! `selvedge trust reset`: a node whose trust state is lost begins again from a root that a person vouches for.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use node::install::reset::reset;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use package::trust::key::KindSet;
use package::trust::trusted::Trusted;

use crate::sure::is_sure;

/// Let a node begin again from a root that you vouch for, after its trust state was lost.
///
/// Forgotten is all that the node had verified: metadata, assignments, and how late it is at least. Until it has followed the
/// repository anew, somebody who holds old metadata could show it an old state that has not expired. What runs goes on, and
/// a release that was committed stays the least. The node must not run meanwhile.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// The root to trust, handed over by somebody you trust: ROOT.json.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// The largest root that is read.
const ROOT_MAX: u64 = 512 << 10;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = read_whole(&Disk, &args.root, ROOT_MAX)?;
    let root = root.with_context(|| format!("there is no root {}", args.root.display()))?;
    let kinds = KindSet::hybrid();
    let version = Trusted::of_root(&root, &kinds)
        .with_context(|| format!("{} is no root that a node accepts", args.root.display()))?
        .root
        .body
        .head
        .version;
    if !args.yes
        && !is_sure(&format!(
            "forget all that the node in {} has verified, and trust root {version}?",
            args.data.display()
        ))?
    {
        anyhow::bail!("nothing was changed");
    }
    let done = reset(Disk, &args.data, &root, &kinds)?;
    let mut out = io::stdout().lock();
    writeln!(out, "the node trusts root {} now, as state {}", done.root, done.sequence)?;
    done.unread.iter().try_for_each(|why| writeln!(out, "note: {why}"))?;
    writeln!(out, "the root in its settings must be this one, or an earlier one that led to it")?;
    Ok(())
}
