//! What becomes of a change: signed by the keys at hand, published if it may be, else told what it waits for.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use forge::repository::Authored;
use package::trust::author::{AuthorError, Published};
use package::trust::metadata::RoleName;
use package::trust::sign::Signer;
use wire::world::{Clock as _, System, WallMs};

use crate::keys::Unlocked;

/// What was staged before a change.
pub(super) type Before = BTreeMap<RoleName, Vec<u8>>;

/// Now, by this machine's clock.
pub(super) fn now_ms() -> WallMs {
    System::new().wall_ms()
}

/// What is staged.
pub(super) fn before(authored: &Authored) -> Before {
    authored.repository.staged_roles().map(|(role, bytes)| (role.clone(), bytes.to_vec())).collect()
}

/// Signs what a change has staged with those of the keys that may, keeps it, publishes it if the keys that publish are among
/// them, and tells.
pub(super) fn settle(
    folder: &Path,
    mut authored: Authored,
    before: &Before,
    keys: &[Unlocked],
) -> anyhow::Result<()> {
    sign_changed(&mut authored, before, keys)?;
    authored.save()?;
    if publishes(&authored, keys) {
        let published = authored.publish(&signers(keys), now_ms())?;
        tell_published(&published)?;
    }
    tell_staged(folder, &authored)
}

/// Signs what was staged since, with those of the keys that may.
pub(super) fn sign_changed(
    authored: &mut Authored,
    before: &Before,
    keys: &[Unlocked],
) -> Result<(), AuthorError> {
    let staged = authored.repository.staged_roles();
    let changed = staged.filter(|(role, bytes)| before.get(role).map(Vec::as_slice) != Some(*bytes));
    let changed: Vec<RoleName> = changed.map(|(role, _)| role.clone()).collect();
    for (role, key) in changed.iter().flat_map(|role| keys.iter().map(move |key| (role, key))) {
        match authored.repository.sign(role, key.signer()) {
            Ok(()) | Err(AuthorError::NotItsKey { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the keys of snapshot and timestamp are at hand.
fn publishes(authored: &Authored, keys: &[Unlocked]) -> bool {
    [RoleName::snapshot(), RoleName::timestamp()].iter().all(|role| {
        let holders = authored.holders(role);
        holders.is_some_and(|holders| keys.iter().any(|key| holders.ids.contains(&key.signer().id())))
    })
}

/// The keys as what signs.
pub(super) fn signers(keys: &[Unlocked]) -> Vec<&dyn Signer> {
    keys.iter().map(Unlocked::signer).collect()
}

/// Tells which files are new.
pub(super) fn tell_published(published: &Published) -> io::Result<()> {
    let names: Vec<&str> = published.files.iter().map(|(file, _)| file.as_str()).collect();
    let mut out = io::stdout().lock();
    match names.is_empty() {
        true => Ok(()),
        false => writeln!(out, "published {}", names.join(", ")),
    }
}

/// Tells what still waits, and for what.
pub(super) fn tell_staged(folder: &Path, authored: &Authored) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut is_ready = false;
    for view in authored.roles() {
        let Some(stage) = view.staged else { continue };
        let (role, version, signed, threshold) = (&view.role, stage.version, stage.signed, view.threshold);
        if signed as u64 >= threshold {
            is_ready = true;
            writeln!(out, "staged {role} {version}: {signed} of {threshold} signatures")?;
        } else {
            let file = package::trust::metadata::FileName::of(role, None);
            let path = folder.join("staged").join(file.as_str());
            writeln!(
                out,
                "staged {role} {version}: {signed} of {threshold} signatures; `selvedge trust sign {} --key KEY.age` adds one",
                path.display()
            )?;
        }
    }
    if is_ready {
        let folder = folder.display();
        writeln!(
            out,
            "`selvedge trust refresh {folder} --key SNAPSHOT.age --key TIMESTAMP.age` publishes what has its signatures"
        )?;
    }
    Ok(())
}
