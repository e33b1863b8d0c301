//! `selvedge trust assign`: says which node, or which nodes, shall run a release.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::repository::{Authored, follow, metadata_in};
use package::disk::system::System as Disk;
use package::disk::{make_folders, read_whole, write_whole};
use package::name::TargetPath;
use package::trust::Policy;
use package::trust::assignment::{
    Assignment, BYTES_MAX, Ordered, ROLE, Ring, Selector, Subject, draft, seal,
};
use package::trust::envelope::Envelope;
use package::trust::hex::to_hex;
use package::trust::metadata::{FileName, Head, RoleName};
use package::trust::sign::Signer;
use package::trust::update::Want;
use wire::hash::Hash;
use wire::world::{Entropy as _, System};

use super::change::now_ms;
use super::life::parse_life;
use super::withdraw::parse_release;
use crate::complaint::Usage;
use crate::keys::{Keys, Unlocked};

/// Say which node, or which nodes, shall run a release: an assignment, signed and kept in the repository.
///
/// Only approved releases can be assigned. The key is one of the role `assignments`, which
/// `selvedge trust delegate REPOSITORY assignments --add PUB.json` makes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository's folder.
    repository: PathBuf,

    /// The one node that is meant.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["label", "ring"])]
    node: Option<String>,

    /// A label that all nodes have which are meant.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Which part of those nodes, of 2048 parts: 0..64. The same release divides them the same way.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_ring)]
    ring: Option<(u64, u64)>,

    /// What they shall run, such as smollm2:7.
    #[arg(long = "model", value_name = "NAME:NUMBER", required = true, value_parser = parse_release)]
    models: Vec<TargetPath>,

    /// Take this variant, whatever else would fit.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,

    /// Also nodes that run a newer release.
    #[arg(long)]
    allow_rollback: bool,

    /// Try again what failed there before.
    #[arg(long)]
    forgive: bool,

    /// How long it holds.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_life)]
    expires: i64,

    #[command(flatten)]
    keys: Keys,
}

fn parse_label(word: &str) -> Result<(String, String), String> {
    let (key, value) =
        word.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("it reads like site=oslo")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_ring(word: &str) -> Result<(u64, u64), String> {
    let ring = word.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    ring.filter(|(from, to)| from < to && *to <= 2_048)
        .ok_or_else(|| "it reads like 0..64, up to 2048".to_owned())
}

/// The largest root that is read.
const ROOT_MAX: u64 = 512 << 10;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.node.is_none() && args.label.is_empty() && args.ring.is_none() {
        return Err(Usage("for whom? --node NAME, --label KEY=VALUE or --ring 0..64".to_owned()).into());
    }
    let authored = Authored::open(&args.repository)?;
    let role = RoleName::delegated(ROLE).and_then(|role| authored.holders(&role));
    let holders = role.with_context(|| {
        let folder = args.repository.display();
        format!(
            "nobody may assign yet: `selvedge trust delegate {folder} {ROLE} --add PUB.json` says who may"
        )
    })?;
    let (models, targets_version) = models(args)?;
    let subject = subject(args);
    let folder = args.repository.join("assignments");
    make_folders(&Disk, &folder)?;
    let (id, version) = match last(&folder, &subject)? {
        Some((id, version)) => (id, version + 1),
        None => {
            let mut id = [0; 16];
            System::new().fill(&mut id);
            (to_hex(&id), 1)
        }
    };
    let now_ms = now_ms();
    let expires_ms = now_ms.saturating_add(args.expires);
    let signed = draft(&Assignment {
        head: Head { version, expires_ms, signed_at_ms: None },
        id: id.clone(),
        subject,
        issued_ms: now_ms,
        not_before_ms: now_ms,
        rollout: None,
        models,
        targets_version,
        when: None,
    });
    let keys = args.keys.unlock()?;
    let signers: Vec<&dyn Signer> =
        keys.iter().map(Unlocked::signer).filter(|signer| holders.ids.contains(&signer.id())).collect();
    let (found, needed) = (signers.len(), holders.threshold);
    if (found as u64) < needed {
        let why = format!("{found} of {needed} keys of the role {ROLE} are at hand: name them with --key");
        return Err(Usage(why).into());
    }
    let bytes = seal(signed, &signers)?;
    // What no node would read is not written.
    Assignment::read(&Envelope::read(&bytes)?.signed)?;
    let path = folder.join(format!("{id}.json"));
    write_whole(&Disk, &path, &bytes)?;
    let names: Vec<String> = args.models.iter().map(|it| format!("{}:{}", it.model, it.release)).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}: version {version}, {} for {}", path.display(), names.join(", "), whom(args))?;
    Ok(())
}

/// What to run, as the repository approves it; and the version of targets that says so. It is followed as a node would.
fn models(args: &Args) -> anyhow::Result<(Vec<Ordered>, u64)> {
    let root = args.repository.join("metadata").join("1.root.json");
    let root = read_whole(&Disk, &root, ROOT_MAX)?;
    let root = root.context("nothing is published yet: `selvedge trust refresh` publishes what is signed")?;
    let (mut models, mut version) = (Vec::new(), 0);
    for path in &args.models {
        let fetch = |file: &FileName, max_bytes: u64| metadata_in(&args.repository, file, max_bytes);
        let followed = follow(&root, &Policy::default(), Want::Target(path.to_string()), now_ms(), fetch)?;
        let name = format!("{}:{}", path.model, path.release);
        let target = followed.target.with_context(|| {
            format!("{name} is not approved, or that is not published yet: `selvedge trust add` approves it")
        })?;
        let index = target.hashes.sha256.and_then(|sha256| Hash::from_slice(&sha256));
        models.push(Ordered {
            model: path.model.clone(),
            release: path.release,
            index: index.with_context(|| format!("{name} is listed without its SHA-256"))?,
            size: target.length,
            variant: args.variant.clone(),
            allow_rollback: args.allow_rollback,
            forgive: args.forgive,
            shadow: None,
        });
        version = followed.trusted.targets.as_ref().map_or(0, |targets| targets.body.head.version);
    }
    Ok((models, version))
}

fn subject(args: &Args) -> Subject {
    if let Some(node) = &args.node {
        return Subject::Node(node.clone());
    }
    let ring = args.ring.map(|(from, to)| {
        // Of what is assigned, so that a wider ring holds the nodes of a narrower one, and another release draws other lots.
        let names: Vec<String> = args.models.iter().map(ToString::to_string).collect();
        let salt = Hash::of(names.join(" ").as_bytes()).as_bytes()[..8].to_vec();
        Ring { salt, from, to }
    });
    Subject::Selector(Selector { labels: args.label.iter().cloned().collect(), ring, ..Selector::default() })
}

fn whom(args: &Args) -> String {
    if let Some(node) = &args.node {
        return format!("node {node}");
    }
    let labels = args.label.iter().map(|(key, value)| format!("{key}={value}"));
    let ring = args.ring.map(|(from, to)| format!("ring {from}..{to}"));
    labels.chain(ring).collect::<Vec<_>>().join(", ")
}

/// Id and version of the newest assignment that has this subject.
fn last(folder: &Path, subject: &Subject) -> anyhow::Result<Option<(String, u64)>> {
    let mut last: Option<(String, u64)> = None;
    for file in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = read_whole(&Disk, &path, BYTES_MAX as u64)?.unwrap_or_default();
        let foreign = || format!("{} is no assignment", path.display());
        let envelope = Envelope::read(&bytes).with_context(foreign)?;
        let one = Assignment::read(&envelope.signed).with_context(foreign)?;
        if one.subject == *subject && last.as_ref().is_none_or(|(_, version)| *version < one.head.version) {
            last = Some((one.id, one.head.version));
        }
    }
    Ok(last)
}
