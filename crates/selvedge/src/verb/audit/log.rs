//! A published log, at a hub or in a folder that holds what a hub had published: its files, its key, and whether they fit.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteKey};
use package::tlog::tile::{Content, Tile, hashes_to_bytes};
use package::tlog::{TILE_WIDTH, Tree, leaf_hash};

use crate::hub_client::{HubArgs, HubClient};
use crate::progress;

/// The largest file of a log: 256 entries of 65 535 bytes.
pub(super) const FILE_MAX_BYTES: u64 = TILE_WIDTH * (65_535 + 2);
/// The most that an archive of evidence may hold.
const ARCHIVE_MAX_BYTES: u64 = 8 << 30;
/// The log's public key in an exported folder.
pub(super) const KEY_FILE: &str = "log.pub";
/// What a bundle is about; a folder without it holds a whole log.
pub(super) const ABOUT_FILE: &str = "about.json";

/// Where the log is.
#[derive(clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub(super) hub: HubArgs,

    /// A folder or an archive that `selvedge audit export` made, instead of a hub.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,

    /// The log's public key, a line or a file with it: audit.pub in the hub's data folder. Without it the folder's own is
    /// taken, and of a hub none.
    #[arg(long, value_name = "KEY|FILE")]
    pub(super) key: Option<String>,
}

/// A log that can be read.
pub(super) enum Log {
    Hub(Box<HubClient>),
    Folder(PathBuf),
    /// What an archive held, for as long as it is looked at.
    Unpacked(tempfile::TempDir),
}

impl Log {
    pub(super) fn open(place: &Place) -> anyhow::Result<Log> {
        if let Some(folder) = &place.dir {
            return if folder.is_file() { unpacked(folder) } else { Ok(Log::Folder(folder.clone())) };
        }
        Ok(Log::Hub(Box::new(place.hub.client()?)))
    }

    /// Where it lies, if it is no hub's.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Log::Hub(_) => None,
            Log::Folder(folder) => Some(folder),
            Log::Unpacked(folder) => Some(folder.path()),
        }
    }

    /// A file of the log, if it is there.
    pub(super) fn find(&self, name: &str, max_bytes: u64) -> anyhow::Result<Option<Vec<u8>>> {
        match (self, self.folder()) {
            (Log::Hub(hub), _) => {
                let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX - 1);
                let came = hub.bytes(&format!("/log/{name}"), max_bytes);
                came.with_context(|| format!("{name} of the log did not come from {}", self.name()))
            }
            (_, folder) => Ok(read_whole(&Disk, &folder.unwrap_or(Path::new("")).join(name), max_bytes)?),
        }
    }

    /// A file of the log: `checkpoint`, `tile/0/000`.
    pub(super) fn file(&self, name: &str, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
        let bytes =
            self.find(name, max_bytes)?.with_context(|| format!("{} has no {name} of a log", self.name()))?;
        anyhow::ensure!(bytes.len() as u64 <= max_bytes, "{name} of the log is longer than any such file is");
        Ok(bytes)
    }

    pub(super) fn name(&self) -> String {
        match self {
            Log::Hub(hub) => hub.base().to_string(),
            Log::Folder(folder) => folder.display().to_string(),
            Log::Unpacked(_) => "the archive".to_owned(),
        }
    }

    /// The key to check by; whether somebody said it.
    pub(super) fn key(&self, place: &Place) -> anyhow::Result<(NoteKey, bool)> {
        let line = match (&place.key, self) {
            (Some(words), _) if !Path::new(words).exists() => words.clone(),
            (Some(path), _) => fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?,
            (None, Log::Folder(_) | Log::Unpacked(_)) => {
                String::from_utf8(self.file(KEY_FILE, NOTE_MAX_BYTES as u64)?)?
            }
            (None, Log::Hub(_)) => {
                anyhow::bail!(
                    "whose log is it? --key FILE names its public key: audit.pub in the hub's data folder"
                )
            }
        };
        Ok((NoteKey::parse(line.trim())?, place.key.is_some()))
    }

    /// How far it has come, by its key.
    pub(super) fn checkpoint(&self, key: &NoteKey) -> anyhow::Result<(Checkpoint, Vec<u8>)> {
        let note = self.note()?;
        let checkpoint = Checkpoint::open(&note, key);
        let checkpoint = checkpoint.with_context(|| format!("the log of {} is not believed", self.name()))?;
        Ok((checkpoint, note))
    }

    /// What says how far it has come; whose word that is was not looked at.
    pub(super) fn note(&self) -> anyhow::Result<Vec<u8>> {
        let found = self.find("checkpoint", NOTE_MAX_BYTES as u64)?;
        let note = found.with_context(|| self.nothing_published())?;
        anyhow::ensure!(note.len() <= NOTE_MAX_BYTES, "the checkpoint of the log is longer than any is");
        Ok(note)
    }

    /// What it means that there is no checkpoint, and what to do.
    fn nothing_published(&self) -> String {
        let name = self.name();
        match self {
            Log::Hub(_) => format!(
                "{name} has no checkpoint of a log yet: nothing that was done there is published, and so nothing can be shown or checked. An act \
                 is published about a minute after it, so ask again then; if it stays so, the hub's own log says what keeps it from publishing"
            ),
            Log::Folder(_) | Log::Unpacked(_) => format!(
                "{name} has no checkpoint of a log: it is not what `selvedge audit export` made, or only a part of it. Export it once more \
                 (`selvedge audit export --hub URL --key audit.pub -o DIR`), or ask the hub itself with --hub"
            ),
        }
    }

    /// Goes through all of it: every entry, every tile, the root; and older roots on the way. `see` is given each file.
    pub(super) fn check(
        &self,
        now: &Checkpoint,
        from: &[Checkpoint],
        see: &mut dyn FnMut(&Tile, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (origin, size) = (&now.origin, now.size);
        if let Some(from) = from.iter().find(|from| from.size > size) {
            anyhow::bail!("log-forked: {origin} had {} entries, and has {size} now", from.size);
        }
        let bar = progress::steps(size).with_prefix("checking");
        let mut tree = Tree::default();
        let grown = |tree: &Tree| {
            let mut known = from.iter().filter(|from| from.size == tree.size());
            match known.find(|from| from.root != tree.root()) {
                Some(from) => {
                    anyhow::bail!(
                        "log-forked: the first {} entries of {origin} are not those that they were",
                        from.size
                    )
                }
                None => Ok(()),
            }
        };
        grown(&tree)?;
        let mut hashes = Vec::new();
        for bundle in Tile::new_of(0, size).into_iter().filter(|tile| tile.content == Content::Entries) {
            let Some(bytes) = self.bundle(&bundle)? else {
                // Of these only the hashes are here: nothing in them is about what was asked for.
                let leaves = Tile { content: Content::Hashes(0), ..bundle };
                let bytes = self.file(&leaves.to_string(), FILE_MAX_BYTES)?;
                for leaf in leaves.hashes(&bytes).with_context(|| format!("{leaves} of {origin}"))? {
                    hashes.extend(tree.push(leaf));
                    grown(&tree)?;
                    bar.inc(1);
                }
                continue;
            };
            for entry in bundle.entries(&bytes).with_context(|| format!("{bundle} of {origin}"))? {
                hashes.extend(tree.push(leaf_hash(entry)));
                grown(&tree)?;
                bar.inc(1);
            }
            see(&bundle, &bytes)?;
        }
        bar.finish_and_clear();
        if tree.root() != now.root {
            anyhow::bail!("the entries of {origin} are not those whose root is signed");
        }
        hashes.extend(tree.partial());
        for (level, number, hashes) in hashes {
            let tile = Tile { content: Content::Hashes(level), number, width: hashes.len() as u64 };
            let bytes = self.file(&tile.to_string(), FILE_MAX_BYTES)?;
            anyhow::ensure!(
                bytes == hashes_to_bytes(&hashes),
                "{tile} of {origin} has other hashes than its entries"
            );
            see(&tile, &bytes)?;
        }
        Ok(())
    }
}

impl Log {
    /// A bundle of entries; a folder that is about something needs not have all.
    fn bundle(&self, tile: &Tile) -> anyhow::Result<Option<Vec<u8>>> {
        let is_part = self.folder().is_some_and(|folder| folder.join(ABOUT_FILE).exists());
        let found = self.find(&tile.to_string(), FILE_MAX_BYTES)?;
        anyhow::ensure!(found.is_some() || is_part, "{} has no {tile} of a log", self.name());
        Ok(found)
    }
}

/// What an archive holds.
fn unpacked(archive: &Path) -> anyhow::Result<Log> {
    let cannot = || format!("{} is no archive of evidence", archive.display());
    let folder = tempfile::tempdir()?;
    let mut archive = tar::Archive::new(fs::File::open(archive).with_context(cannot)?);
    let mut bytes = 0;
    for entry in archive.entries().with_context(cannot)? {
        let mut entry = entry.with_context(cannot)?;
        bytes += entry.size();
        let kind = entry.header().entry_type();
        anyhow::ensure!(bytes <= ARCHIVE_MAX_BYTES, "the archive holds more than {ARCHIVE_MAX_BYTES} bytes");
        anyhow::ensure!(kind.is_file() || kind.is_dir(), "the archive holds something that is no file");
        // False, and nothing written, if its name leads out of the folder.
        anyhow::ensure!(entry.unpack_in(folder.path()).with_context(cannot)?, cannot());
    }
    Ok(Log::Unpacked(folder))
}
