//! `selvedge verify`: whether a package is whole, who made it, and who approved it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use forge::parcel::{Entry, Parcel, Sealed};
use forge::repository::{Followed, follow};
use forge::sign;
use forge::verify::{total_bytes, whole};
use package::disk::read_whole;
use package::disk::system::System as Disk;
use package::name::TargetPath;
use package::trust::Policy;
use package::trust::key::PublicKey;
use package::trust::metadata::FileName;
use package::trust::update::Want;
use serde_json::json;
use wire::world::{Clock as _, System};

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::keys::read_public;
use crate::metadata::Source;
use crate::progress;

/// Check a package: exits with 0 only if all holds that is asked for.
///
/// Always: every file is there, each byte of it as it is named, and the index says what the manifests say. With --provenance:
/// each variant was signed by this maker. With --root: the release is approved by the repository that this root speaks for,
/// followed as a node follows it; the repository is --repository, or travels in the .tar.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A package: a folder or a .tar.
    package: PathBuf,

    /// The release to check, such as smollm2:7; without it all.
    #[arg(long, value_name = "NAME:NUMBER")]
    release: Option<String>,

    /// Only this variant of it, where no other was pulled; may be said more than once.
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,

    /// The maker's public key: PEM, or what `selvedge trust key new` wrote beside the secret.
    #[arg(long, value_name = "PUB.pem")]
    provenance: Option<PathBuf>,

    /// The root that is trusted, handed over by somebody you trust: ROOT.json.
    #[arg(long, value_name = "ROOT.json")]
    root: Option<PathBuf>,

    /// The repository: its folder, or where a server has its metadata, such as http://hub:8420/tuf/metadata; without it the
    /// metadata in the .tar.
    #[arg(long, value_name = "DIR|URL", requires = "root")]
    repository: Option<PathBuf>,

    /// A file with the token for that server.
    #[arg(long, value_name = "FILE", requires = "repository")]
    token_file: Option<PathBuf>,

    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

/// The largest root that is read.
const ROOT_MAX: u64 = 512 << 10;

/// What was found: what holds, and what does not.
#[derive(Default)]
struct Found {
    holds: Vec<String>,
    wrong: Vec<String>,
}

impl Found {
    fn of<T, E: Into<anyhow::Error>>(&mut self, found: Result<T, E>, say: impl FnOnce(T) -> String) {
        match found {
            Ok(found) => self.holds.push(say(found)),
            Err(error) => {
                let error: anyhow::Error = error.into();
                self.wrong.push(format!("{error:#}"));
            }
        }
    }
}

/// Whom to ask whether a release is approved.
struct Trust<'a> {
    root: &'a [u8],
    source: Option<&'a Source>,
}

/// Leaves nothing of a release but these variants.
fn only(entry: &mut Entry, names: &[String]) -> anyhow::Result<()> {
    let variants = &mut entry.release.variants;
    if let Some(missing) = names.iter().find(|name| variants.iter().all(|it| it.name.as_str() != **name)) {
        let there: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        return Err(Usage(format!("there is no variant {missing}; there are {}", there.join(", "))).into());
    }
    variants.retain(|variant| names.iter().any(|name| name == variant.name.as_str()));
    Ok(())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = Parcel::open(&args.package)?;
    let mut entries = match &args.release {
        Some(wanted) => vec![parcel.entry(Some(wanted))?],
        None => parcel.entries()?,
    };
    if entries.is_empty() {
        parcel.entry(None)?; // says what is missing
    }
    for entry in entries.iter_mut().filter(|_| !args.variant.is_empty()) {
        only(entry, &args.variant)?;
    }
    let maker = args.provenance.as_deref().map(read_public).transpose()?.map(|(_, key)| key);
    let root = args.root.as_deref().map(|path| {
        let bytes = read_whole(&Disk, path, ROOT_MAX)?;
        bytes.with_context(|| format!("there is no root {}", path.display()))
    });
    let root = root.transpose()?;
    let source = match &args.repository {
        Some(repository) => Some(Source::of(repository, args.token_file.as_deref())?),
        None => Some(parcel.metadata()?).filter(|carried| !carried.is_empty()).map(Source::Carried),
    };
    let trust = root.as_deref().map(|root| Trust { root, source: source.as_ref() });
    let mut found = Found::default();
    for entry in &entries {
        check(&parcel, entry, maker.as_ref(), trust.as_ref(), &mut found);
    }
    let mut out = io::stdout().lock();
    if args.json {
        let names: Vec<String> = entries.iter().map(Entry::name).collect();
        let record = json!({
            "package": args.package, "releases": names, "ok": found.wrong.is_empty(),
            "holds": found.holds, "wrong": found.wrong,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
    } else {
        found.holds.iter().try_for_each(|line| writeln!(out, "ok     {line}"))?;
        found.wrong.iter().try_for_each(|line| writeln!(out, "wrong  {line}"))?;
        if root.is_none() && found.wrong.is_empty() {
            writeln!(out, "note   nobody was asked who approved it: --root ROOT.json --repository DIR|URL")?;
        }
    }
    match found.wrong.len() {
        0 => Ok(()),
        1 => anyhow::bail!("{} is not to be trusted: {}", args.package.display(), found.wrong[0]),
        several => {
            anyhow::bail!("{} is not to be trusted: {several} things are wrong", args.package.display())
        }
    }
}

fn check(
    parcel: &Parcel,
    entry: &Entry,
    maker: Option<&PublicKey>,
    trust: Option<&Trust<'_>>,
    found: &mut Found,
) {
    let name = entry.name();
    let bar = progress::bytes(Some(total_bytes(parcel, entry))).with_message("verifying");
    let looked = whole(parcel, entry, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    match looked {
        Ok(all) => {
            let bytes = show_bytes(all.bytes);
            found
                .holds
                .push(format!("{name} is whole: {} files, {bytes}, every byte as it is named", all.files));
        }
        Err(faults) => found.wrong.extend(faults.iter().map(ToString::to_string)),
    }
    for Sealed { variant, grants, .. } in parcel.sealed(entry).into_iter().flatten() {
        let nodes = grants.len();
        found.holds.push(format!("{name} {variant}: sealed, with grants for {nodes} node keys"));
    }
    if let Some(key) = maker {
        for variant in &entry.release.variants {
            let proven = sign::check(parcel, entry, variant, key);
            found.of(proven, |_| {
                format!("{name} {}: signed by this maker, over exactly these files", variant.name)
            });
        }
    }
    if let Some(trust) = trust {
        found.of(approved(trust, entry), |followed| {
            let version = |version: Option<u64>| version.map_or_else(|| "–".to_owned(), |it| it.to_string());
            let targets = followed.trusted.targets.as_ref().map(|it| it.body.head.version);
            let timestamp = followed.trusted.timestamp.as_ref().map(|it| it.body.head.version);
            format!(
                "{name} is approved: root {}, targets {}, timestamp {}",
                followed.trusted.root.body.head.version,
                version(targets),
                version(timestamp)
            )
        });
    }
}

/// Follows the repository to the release, and checks that it means this index.
fn approved(trust: &Trust<'_>, entry: &Entry) -> anyhow::Result<Followed> {
    let release = &entry.release;
    let path = TargetPath { model: release.model.clone(), release: release.release };
    let Some(source) = trust.source else {
        anyhow::bail!("no metadata travels with it: name the repository with --repository DIR or URL");
    };
    let want = Want::Target(path.to_string());
    let fetch = |file: &FileName, max_bytes: u64| source.fetch(file, max_bytes);
    let followed = follow(trust.root, &Policy::default(), want, System::new().wall_ms(), fetch)?;
    let Some(target) = &followed.target else {
        anyhow::bail!(
            "{} is not approved: no role of the repository lists {path}, or not any more",
            entry.name()
        );
    };
    let other =
        || format!("{} is not approved: the repository lists {path} with another index", entry.name());
    target.check(&entry.bytes).with_context(other)?;
    Ok(followed)
}
