//! `selvedge export`: a package onto a stick as one file, or back to plain files that other tools read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::parcel::{Entry, Parcel};
use forge::sign::bundles;
use forge::verify::total_bytes;
use indicatif::ProgressBar;
use package::archive::{self, FileName, Name};
use package::chunks::{CHUNK_BYTES, Chunks};
use package::descriptor::Descriptor;
use package::disk::system::System as Disk;
use package::layout::Layout;
use package::media::Role;

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::interrupt::Interrupt;
use crate::progress;

/// Put a package into one file, for a stick; or unpack it into plain files.
///
/// With --with-trust the metadata and the assignments of a repository travel along, so that a node without a network can be
/// fed whole. Every byte is checked on the way.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A package: a folder, or for --files a .tar too.
    package: PathBuf,

    /// Write it as one file.
    #[arg(long, value_name = "OUT.tar", required_unless_present = "files", conflicts_with = "files")]
    usb: Option<PathBuf>,

    /// Put the metadata of this repository beside it.
    #[arg(long, value_name = "REPOSITORY", requires = "usb")]
    with_trust: Option<PathBuf>,

    /// Unpack its files: DIR/VARIANT/FILE, and beside them who signed each variant, as VARIANT.sigstore.json.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,

    /// Of --files: the release, such as smollm2:7; without it the only one there is.
    #[arg(long, value_name = "NAME:NUMBER", requires = "files")]
    release: Option<String>,

    /// Replace the file.
    #[arg(long, requires = "usb")]
    force: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = Parcel::open(&args.package)?;
    match (&args.usb, &args.files) {
        (Some(out), _) => usb(args, &parcel, out),
        (None, Some(folder)) => files(&parcel, &parcel.entry(args.release.as_deref())?, folder),
        (None, None) => Err(Usage("say where to: --usb OUT.tar or --files DIR".to_owned()).into()),
    }
}

fn usb(args: &Args, parcel: &Parcel, out: &Path) -> anyhow::Result<()> {
    let Some(layout) = parcel.layout() else {
        let why = format!("{} is one file already: copy it", parcel.path().display());
        return Err(Usage(why).into());
    };
    if out.exists() && !args.force {
        anyhow::bail!("{} is there already; --force replaces it", out.display());
    }
    let trust = args.with_trust.as_deref().map(trust).transpose()?.unwrap_or_default();
    let names: Vec<String> = parcel.entries()?.iter().map(Entry::name).collect();
    let total = parcel.entries()?.iter().map(|entry| total_bytes(parcel, entry)).sum();
    let bytes = one_file(layout, &trust, total, out)?;
    let mut stdout = io::stdout().lock();
    let with = match trust.len() {
        0 => "without trust metadata".to_owned(),
        files => format!("with {files} files of trust"),
    };
    writeln!(stdout, "{}: {}, {}, {with}", out.display(), names.join(", "), show_bytes(bytes))?;
    Ok(())
}

/// Writes a package as one file, which is there whole or not at all; gives its bytes. `total`: about how many there will be.
pub(super) fn one_file(
    layout: &Layout<Disk>,
    trust: &BTreeMap<Name, Vec<u8>>,
    total: u64,
    out: &Path,
) -> anyhow::Result<u64> {
    let beside = beside(out)?;
    let ending = Interrupt::listen()?.remove(beside.clone())?;
    let bar = progress::bytes(Some(total)).with_message("writing");
    let written = ending.outlast((|| -> anyhow::Result<u64> {
        let file =
            File::create(&beside).with_context(|| format!("{} cannot be written", beside.display()))?;
        archive::write(layout, trust, io::BufWriter::new(Told { writer: &file, bar: &bar }))?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        std::fs::rename(&beside, out).with_context(|| format!("{} cannot be written", out.display()))?;
        Ok(bytes)
    })());
    bar.finish_and_clear();
    if written.is_err() {
        // The first failure is the one to tell.
        drop(std::fs::remove_file(&beside));
    }
    written
}

/// What a repository has for whoever follows it.
fn trust(repository: &Path) -> anyhow::Result<BTreeMap<Name, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for part in ["metadata", "assignments"] {
        let folder = repository.join(part);
        let Ok(files) = std::fs::read_dir(&folder) else { continue };
        for file in files {
            let path = file?.path();
            let name = path.file_name().and_then(|name| FileName::new(name.to_str()?));
            let Some(name) = name.filter(|_| path.is_file()) else { continue };
            let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            let name = if part == "metadata" { Name::Metadata(name) } else { Name::Assignment(name) };
            found.insert(name, bytes);
        }
    }
    let has_timestamp = found.keys().any(|name| name.to_string() == "trust/metadata/timestamp.json");
    anyhow::ensure!(
        has_timestamp,
        "{} is no repository that was published: `selvedge trust refresh` publishes it",
        repository.display()
    );
    Ok(found)
}

fn files(parcel: &Parcel, entry: &Entry, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        anyhow::bail!("{} is there already: name a new folder", folder.display());
    }
    let beside = beside(folder)?;
    let ending = Interrupt::listen()?.remove(beside.clone())?;
    let bar = progress::bytes(Some(total_bytes(parcel, entry))).with_message("unpacking");
    let unpacked = ending.outlast(unpack(parcel, entry, &beside, &bar));
    bar.finish_and_clear();
    if unpacked.is_err() {
        drop(std::fs::remove_dir_all(&beside));
    }
    let count = unpacked?;
    std::fs::rename(&beside, folder).with_context(|| format!("{} cannot be written", folder.display()))?;
    let variants: Vec<&str> = entry.release.variants.iter().map(|variant| variant.name.as_str()).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {count} files of {} ({})", folder.display(), entry.name(), variants.join(", "))?;
    Ok(())
}

fn unpack(parcel: &Parcel, entry: &Entry, folder: &Path, bar: &ProgressBar) -> anyhow::Result<usize> {
    let mut count = 0;
    for variant in &entry.release.variants {
        let manifest = parcel.manifest(&variant.manifest.digest)?;
        for layer in manifest.layers.iter().filter(|layer| layer.role() != Some(Role::Chunks)) {
            let Some(path) = layer.filepath() else { continue }; // a manifest's paths are checked when it is read
            copy(parcel, layer, &folder.join(variant.name.as_str()).join(path), bar)?;
            count += 1;
        }
        if let Some(bundle) = bundles(parcel, entry, variant)?.last() {
            let path = folder.join(format!("{}.sigstore.json", variant.name));
            std::fs::write(&path, parcel.document(bundle)?)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Copies a blob, and checks it on the way.
fn copy(parcel: &Parcel, layer: &Descriptor, path: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let written = || format!("{} cannot be written", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).with_context(written)?;
    let out = File::create(path).with_context(written)?;
    let (reader, _) = parcel.blob(&layer.digest)?;
    let tee = Tee { reader, out: Told { writer: &out, bar } };
    let (digest, _) = Chunks::of(tee, CHUNK_BYTES).with_context(written)?;
    let name = layer.filepath().unwrap_or_default();
    anyhow::ensure!(digest == layer.digest, "{name} is damaged: get the package again");
    out.sync_all().with_context(written)
}

/// Where something is made until it is whole.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok(path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id())))
}

/// Copies what is read.
struct Tee<R, W> {
    reader: R,
    out: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.reader.read(into)?;
        self.out.write_all(&into[..came])?;
        Ok(came)
    }
}

/// Shows how much is written.
struct Told<'a, W> {
    writer: W,
    bar: &'a ProgressBar,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.bar.inc(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
