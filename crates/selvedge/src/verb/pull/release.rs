//! Brings a release of a package from a registry: into a folder, or into one file.
//!
//! Documents come first, so that what is wanted, and how much that is, is known before any layer; then the node's own transfer
//! brings the layers into the folder's blobs. The folder becomes a package when its index names the release, at the very
//! end: until then the same command goes on with it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use forge::parcel::Entry;
use node::pull::event::{Event, Meter};
use node::transfer::Order;
use node::transfer::carry::{News, Settings, carry};
use node::transfer::origin::Origin;
use package::choose::choose;
use package::digest::Digest;
use package::disk::room::KEEP_FREE_BYTES;
use package::disk::system::System as Disk;
use package::index::{Release, Variant};
use package::layout::{Layout, MARK_FILE};
use package::manifest::Manifest;
use package::store::Store;
use wire::world::{Clock as _, System};

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::registries::{Access, Found, Place, find};
use crate::verb::export::one_file;
use crate::verb::fit::explain::device;
use crate::verb::pack::is_tar;
use crate::verb::pull::teller::Teller;

/// What to bring, and where to.
pub(super) struct Wish<'a> {
    /// As it was said.
    pub(super) words: &'a str,
    pub(super) place: Place,
    pub(super) access: Access,
    pub(super) to: Option<&'a Path>,
    /// Names; none: see [`chosen`].
    pub(super) variants: &'a [String],
    /// Whether a file that is there makes way.
    pub(super) replace: bool,
    pub(super) bytes_per_s: Option<u64>,
    pub(super) json: bool,
}

/// What came.
struct Brought {
    entry: Entry,
    variants: Vec<String>,
    /// Bytes of all that the variants need.
    total: u64,
    /// Bytes that came over the network.
    came: u64,
    /// Where the blobs are.
    folder: PathBuf,
}

pub(super) fn run(wish: &Wish<'_>) -> anyhow::Result<()> {
    let tar = wish.to.filter(|to| is_tar(to));
    if tar.is_some() && !wish.variants.is_empty() {
        let why = "a .tar holds whole releases: name a folder for single variants, or leave out --variant";
        return Err(Usage(why.to_owned()).into());
    }
    if let Some(tar) = tar.filter(|tar| tar.exists() && !wish.replace) {
        anyhow::bail!("{} is there already; --replace replaces it", tar.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut teller = Teller::new();
    let brought = runtime.block_on(async {
        tokio::select! {
            brought = Box::pin(bring(wish, tar, &mut teller)) => Some(brought),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // Waits until what came is on the disk.
    drop(runtime);
    teller.end();
    let Some(brought) = brought else {
        anyhow::bail!("interrupted; the same command goes on where it stopped");
    };
    let brought = brought?;
    let layout = Layout::create(Disk, &brought.folder)?;
    layout.set_ref(&brought.entry.name(), &brought.entry.index)?;
    if let Some(tar) = tar {
        one_file(&layout, &BTreeMap::new(), brought.total, tar)?;
        std::fs::remove_dir_all(&brought.folder)?;
    }
    tell(wish, &brought, tar.unwrap_or(&brought.folder))
}

async fn bring(wish: &Wish<'_>, tar: Option<&Path>, teller: &mut Teller) -> anyhow::Result<Brought> {
    teller.hear(Event::Listing { repository: wish.words.to_owned() });
    let Found { registry, entry, documents } = find(&wish.place, &wish.access).await?;
    let release = &entry.release;
    let chosen = chosen(wish, release)?;
    let folder = match (tar, wish.to) {
        (Some(tar), _) => beside(tar)?,
        (None, Some(to)) => to.to_owned(),
        (None, None) => PathBuf::from(format!("{}-{}", release.model, release.release)),
    };
    must_be_ours(&folder)?;
    let store = Arc::new(Store::open(Disk, &folder, u64::MAX)?);
    for bytes in documents.values().chain([&entry.bytes]) {
        store.put_small(bytes, KEEP_FREE_BYTES)?;
    }
    let orders: Vec<Order> = chosen
        .iter()
        .map(|variant| &variant.manifest)
        .chain(&release.provenance)
        .map(|manifest| Order::variant(manifest.digest, manifest.size))
        .collect();
    let sizes = sizes(&orders, &documents)?;
    let mut watch = Watch { parts: BTreeMap::new(), total: 0, came: 0, last: None, meter: None };
    for (digest, size) in &sizes {
        if !store.has(digest)? {
            watch.total += size;
        }
    }
    let settings = Settings { bytes_per_s: wish.bytes_per_s, ..Settings::default() };
    let (mut world, origins) = (System::new(), [Box::new(registry) as Box<dyn Origin>]);
    for order in &orders {
        let hear = |news| watch.hear(news, teller);
        carry(&store, &origins, order, &settings, &mut world, hear).await?;
    }
    let variants = chosen.iter().map(|variant| variant.name.to_string()).collect();
    Ok(Brought { total: sizes.values().sum(), came: watch.came, variants, entry, folder })
}

/// Those that were named; else all of them where a place was named for them, and otherwise the one that a node here would take.
fn chosen<'a>(wish: &Wish<'_>, release: &'a Release) -> anyhow::Result<Vec<&'a Variant>> {
    let names = || release.variants.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
    let named = wish.variants.iter().map(|name| {
        let found = release.variants.iter().find(|variant| variant.name.as_str() == name);
        found.ok_or_else(|| Usage(format!("there is no variant {name}; there are {}", names())))
    });
    if !wish.variants.is_empty() {
        return Ok(named.collect::<Result<Vec<_>, _>>()?);
    }
    if wish.to.is_some() {
        return Ok(release.variants.iter().collect());
    }
    let choice = choose(release, &device(None));
    let best = choice.best.and_then(|best| release.variants.get(best));
    let best = best.with_context(|| {
        format!("{choice}no variant fits this machine: --variant NAME brings one all the same, --to DIR all of them")
    })?;
    Ok(vec![best])
}

/// All that these manifests name, each once, with its bytes.
fn sizes(orders: &[Order], documents: &BTreeMap<Digest, Vec<u8>>) -> anyhow::Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for order in orders {
        let manifest = Manifest::parse(documents.get(&order.digest).map_or(&[][..], Vec::as_slice))?;
        sizes.extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| (blob.digest, blob.size)));
    }
    Ok(sizes)
}

/// Where the blobs of a file lie until it is written.
fn beside(tar: &Path) -> anyhow::Result<PathBuf> {
    let name = tar.file_name().with_context(|| format!("{} names no file", tar.display()))?;
    Ok(tar.with_file_name(format!(".{}.pulled", name.to_string_lossy())))
}

/// A folder that is not there, is empty, or is a package, begun or whole: not somebody's.
fn must_be_ours(folder: &Path) -> anyhow::Result<()> {
    let is_ours = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(
                anyhow::Error::from(error).context(format!("{} cannot be written to", folder.display()))
            );
        }
        Ok(mut entries) => entries.next().is_none() || folder.join(MARK_FILE).exists(),
    };
    anyhow::ensure!(is_ours, "{} has other files in it: name a new folder with --to", folder.display());
    Ok(())
}

/// What is known of a transfer under way, for the bar.
struct Watch {
    /// Of each blob that was begun, its bytes and how many of them are here.
    parts: BTreeMap<Digest, (u64, u64)>,
    total: u64,
    came: u64,
    /// What was said last.
    last: Option<String>,
    meter: Option<Meter>,
}

impl Watch {
    fn hear(&mut self, news: News, teller: &mut Teller) {
        match news {
            News::Opened { digest, size, missing_bytes } => {
                self.parts.insert(digest, (size, size.saturating_sub(missing_bytes)));
            }
            News::Came { digest, bytes } => {
                self.came += bytes;
                if let Some((size, here)) = self.parts.get_mut(&digest) {
                    *here = (*here + bytes).min(*size);
                }
            }
            News::Waiting { wait_ms, why } => {
                if self.last.as_ref() != Some(&why) {
                    self.last = Some(why.clone());
                    teller.hear(Event::Waiting { wait_ms, why });
                }
                return;
            }
        }
        let now = System::new().mono_ns();
        let meter = self.meter.get_or_insert_with(|| Meter::new(now, 0));
        if let Some(bytes_per_s) = meter.step(now, self.came) {
            let here: u64 = self.parts.values().map(|(_, here)| here).sum();
            let total_bytes = Some(self.total);
            teller.hear(Event::Loading { done_bytes: here.min(self.total), total_bytes, bytes_per_s });
        }
    }
}

fn tell(wish: &Wish<'_>, brought: &Brought, to: &Path) -> anyhow::Result<()> {
    let Brought { entry, variants, came, .. } = brought;
    let is_all = variants.len() == entry.release.variants.len();
    let mut out = io::stdout().lock();
    if wish.json {
        let record = serde_json::json!({
            "to": to, "model": entry.release.model.as_str(), "release": entry.release.release,
            "index": entry.index.digest.to_string(), "variants": variants, "is_all": is_all, "came_bytes": came,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    let (name, to, which) = (entry.name(), to.display(), variants.join(", "));
    match came {
        0 => writeln!(out, "{name} is in {to} already ({which})")?,
        _ => writeln!(out, "pulled {name} into {to} ({which}; {})", show_bytes(*came))?,
    }
    let only: String = match is_all {
        true => String::new(),
        false => variants.iter().map(|name| format!(" --variant {name}")).collect(),
    };
    writeln!(
        out,
        "nobody vouched for this yet: `selvedge verify {to}{only} --root ROOT.json --repository URL` asks who approved it"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_folders_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a");
        must_be_ours(&inner).unwrap();
        std::fs::create_dir(&inner).unwrap();
        must_be_ours(&inner).unwrap();
        std::fs::write(inner.join("letter"), b"dear").unwrap();
        assert!(must_be_ours(&inner).is_err());
        std::fs::write(inner.join(MARK_FILE), b"{}").unwrap();
        must_be_ours(&inner).unwrap();
        assert!(must_be_ours(&inner.join("letter")).is_err(), "a file is no folder");
    }
}
