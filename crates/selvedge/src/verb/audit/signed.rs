//! Whether the documents in a bundle were signed by those who might: the bundle's chain of roots, the targets that the plan was
//! made by, and the keys that they give the role of assignments.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use package::disk::read_whole;
use package::disk::system::System as Disk;
use package::trust::assignment::read_signed;
use package::trust::envelope::verify;
use package::trust::key::KindSet;
use package::trust::metadata::Root;
use package::trust::trusted::Trusted;
use package::trust::{Limits, Policy};

/// Who might sign a bundle's documents.
pub(super) struct Signers {
    trusted: Trusted,
    policy: Policy,
}

impl Signers {
    /// Follows the roots in `folder/trust` from the first, or from the one that somebody handed over in the file `root`, to the
    /// targets of that version.
    pub(super) fn read(folder: &Path, root: Option<&Path>, targets: u64) -> anyhow::Result<Signers> {
        // Which kinds of keys count for a node is the node's own policy; here those count that the metadata names.
        let policy = Policy { kinds: KindSet::all(), ..Policy::default() };
        let Limits { root_bytes, targets_bytes, .. } = policy.limits;
        let read = |name: &str, most: u64| -> anyhow::Result<Option<Vec<u8>>> {
            Ok(read_whole(&Disk, &folder.join("trust").join(name), most)?)
        };
        let first = match root {
            Some(path) => fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?,
            None => read("1.root.json", root_bytes)?.context("trust/1.root.json is not here")?,
        };
        let mut trusted =
            Trusted::of_root(&first, &policy.kinds).context("the first root is not believed")?;
        if root.is_some() {
            let name = format!("{}.root.json", trusted.root.body.head.version);
            let own = read(&name, root_bytes)?;
            ensure!(own.as_ref() == Some(&first), "trust/{name} is not the root that was handed over");
        }
        let name = format!("{targets}.targets.json");
        let signed = read(&name, targets_bytes)?;
        let signed =
            signed.with_context(|| format!("trust/{name} is not here: who might sign is not known"))?;
        // The targets were signed under one of the roots; keys that a later one took away had signed them before.
        let mut found = None;
        loop {
            if let Ok(targets) = trusted.verify_targets(&signed, &policy.kinds) {
                let mut under = trusted.clone();
                under.set_targets(targets);
                found = Some(under);
            }
            let version = trusted.root.body.head.version + 1;
            let name = format!("{version}.root.json");
            let Some(next) = read(&name, root_bytes)? else { break };
            let of_it = || format!("trust/{name} does not follow from the root before it");
            let before = &trusted.root.body;
            let next =
                verify::<Root>(&next, &before.keys, &before.root, &policy.kinds).with_context(of_it)?;
            next_of_itself(&next.bytes, &next.body, &policy.kinds).with_context(of_it)?;
            ensure!(next.body.head.version == version, of_it());
            trusted.set_root(next);
        }
        let trusted = found.with_context(|| format!("trust/{name} is signed under no root that is here"))?;
        Ok(Signers { trusted, policy })
    }

    /// Whether a document is signed by enough of them.
    pub(super) fn have_signed(&self, document: &[u8]) -> anyhow::Result<()> {
        read_signed(&self.trusted, &self.policy, document)?;
        Ok(())
    }
}

/// A root is signed by its own keys, too.
fn next_of_itself(bytes: &[u8], root: &Root, kinds: &KindSet) -> anyhow::Result<()> {
    verify::<Root>(bytes, &root.keys, &root.root, kinds)?;
    Ok(())
}
