//! `selvedge trust init --from`: a lost folder made again from what a server has of it.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use forge::repository::{Authored, rebuild as follow_all};
use package::disk::system::System as Disk;
use package::disk::{make_folders, read_whole, write_whole};
use package::trust::Policy;
use package::trust::assignment::read_signed;

use super::change::now_ms;
use super::life::show_left;
use crate::metadata::Source;

/// The largest root that is read.
const ROOT_MAX: u64 = 512 << 10;

/// Makes the folder, shows what came, and says what a person has to look at.
pub(super) fn rebuild(
    folder: &Path,
    from: &Path,
    token_file: Option<&Path>,
    root: &Path,
) -> anyhow::Result<()> {
    let root_bytes = read_whole(&Disk, root, ROOT_MAX)?;
    let root_bytes = root_bytes.with_context(|| format!("there is no root {}", root.display()))?;
    let source = Source::of(from, token_file)?;
    let (trusted, files) = follow_all(&root_bytes, |file, max_bytes| source.fetch(file, max_bytes))?;
    let authored = Authored::rebuilt(folder, &files)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {} files, proven from {}", folder.display(), files.len(), root.display())?;
    for view in authored.roles() {
        let (Some(version), Some(expires_ms)) = (view.version, view.expires_ms) else { continue };
        let left_ms = expires_ms - now_ms();
        let word = if left_ms < 0 { "expired" } else { "expires" };
        writeln!(out, "  {} {version}, {word} {}", view.role, show_left(left_ms))?;
    }
    match source.assignments() {
        Ok(documents) => {
            let assignments = folder.join("assignments");
            make_folders(&Disk, &assignments)?;
            let (mut kept, mut passed) = (0, 0);
            for document in documents {
                match read_signed(&trusted, &Policy::default(), &document) {
                    Ok(one) => {
                        write_whole(&Disk, &assignments.join(format!("{}.json", one.id)), &document)?;
                        kept += 1;
                    }
                    Err(_) => passed += 1,
                }
            }
            writeln!(
                out,
                "  {kept} assignments{}",
                match passed {
                    0 => String::new(),
                    passed => format!("; {passed} are not signed by who assigns now, and were left"),
                }
            )?;
        }
        Err(why) => writeln!(out, "  no assignments: {why}")?,
    }
    writeln!(
        out,
        "nobody can tell from this whether the server keeps something newer back: compare the versions with what nodes report"
    )?;
    Ok(())
}
