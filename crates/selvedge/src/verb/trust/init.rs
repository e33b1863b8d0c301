//! `selvedge trust init`: a new repository.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forge::repository::Authored;
use package::trust::author::{Holders, Plan};
use package::trust::canonical::Value;

use super::change::{now_ms, settle};
use super::life::parse_life;
use super::rebuild::rebuild;
use crate::complaint::Usage;
use crate::keys::{self, Purpose, Unlocked, WORK};
use crate::passphrase;

/// Begin a repository: who may approve releases, and for how long their word holds.
///
/// It has a root, which says which keys the others have and takes several signatures to change, and three roles: targets
/// approves releases, snapshot and timestamp say what is newest. Keys are taken from the folder --keys: root-1, root-2, …,
/// targets, snapshot, timestamp, each as NAME.pub.json; those that are not there are made, as NAME.age with one passphrase.
/// Root keys that others hold come as their .pub.json alone. Keep root keys apart, and off this machine.
///
/// With --from, a folder that was lost is made again from what a hub serves, proven from the root that nodes were handed; keys
/// stay where they are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to make.
    repository: PathBuf,

    /// The folder of the keys.
    #[arg(long, value_name = "DIR", required_unless_present = "from")]
    keys: Option<PathBuf>,

    /// Where the metadata of the lost folder is served, such as http://hub:8420/tuf/metadata; or a folder with it.
    #[arg(long, value_name = "URL", requires = "root", conflicts_with_all = ["keys", "root_keys", "root_threshold", "expires"])]
    from: Option<PathBuf>,

    /// Of --from: the first root, 1.root.json, as nodes were handed it.
    #[arg(long, value_name = "ROOT.json", requires = "from")]
    root: Option<PathBuf>,

    /// Of --from: a file with the token for that server.
    #[arg(long, value_name = "FILE", requires = "from")]
    token_file: Option<PathBuf>,

    /// How many root keys there are.
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=16))]
    root_keys: u64,

    /// How many of them must sign a new root.
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=16))]
    root_threshold: u64,

    /// How long each version of a role holds; without it root and targets 1y, snapshot 30d, timestamp 7d.
    #[arg(long, value_name = "ROLE=TIME", value_delimiter = ',', value_parser = parse_expiry)]
    expires: Vec<(String, i64)>,

    /// What each guess of a new passphrase costs: 2^WORK KiB of memory.
    #[arg(long, value_name = "WORK", default_value_t = WORK, hide = true, value_parser = clap::value_parser!(u8).range(1..=20))]
    work: u8,
}

/// The roles of every repository, and how long their versions hold where nobody says otherwise.
const ROLES: [(&str, &str); 4] =
    [("root", "1y"), ("targets", "1y"), ("snapshot", "30d"), ("timestamp", "7d")];

fn parse_expiry(word: &str) -> Result<(String, i64), String> {
    let (role, life) = word.split_once('=').ok_or("it reads like root=1y,timestamp=7d")?;
    if !ROLES.iter().any(|(known, _)| *known == role) {
        return Err("the roles are root, targets, snapshot and timestamp".to_owned());
    }
    Ok((role.to_owned(), parse_life(life)?))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let (Some(from), Some(root)) = (&args.from, &args.root) {
        return rebuild(&args.repository, from, args.token_file.as_deref(), root);
    }
    let keys = args.keys.as_deref().ok_or_else(|| Usage("where are the keys? --keys DIR".to_owned()))?;
    if args.root_threshold > args.root_keys {
        let why = format!("{} of {} root keys can never sign", args.root_threshold, args.root_keys);
        return Err(Usage(why).into());
    }
    if args.repository.join("metadata").exists() {
        anyhow::bail!("{} is a repository already", args.repository.display());
    }
    let mut lives = BTreeMap::new();
    for (role, life) in ROLES {
        lives.insert(role.to_owned(), parse_life(life).map_err(Usage)?);
    }
    lives.extend(args.expires.iter().cloned());
    std::fs::create_dir_all(keys).with_context(|| format!("{} cannot be made", keys.display()))?;
    let names = (1..=args.root_keys).map(|at| format!("root-{at}"));
    let (mut public, mut secret) = (BTreeMap::<&str, Vec<Value>>::new(), Vec::new());
    let names = names
        .map(|name| ("root", name))
        .chain(ROLES[1..].iter().map(|(role, _)| (*role, (*role).to_owned())));
    let names: Vec<(&str, String)> = names.collect();
    let mut maker = Maker { keys, work: args.work, passphrase: None, made: Vec::new() };
    for (role, name) in &names {
        let path = keys.join(format!("{name}.age"));
        let (value, unlocked) = maker.key(&path)?;
        public.entry(*role).or_default().push(value);
        secret.extend(unlocked);
    }
    let mut holders = |role: &str, threshold| Holders {
        keys: public.remove(role).unwrap_or_default(),
        threshold,
        life_ms: lives.get(role).copied().unwrap_or_default(),
    };
    let plan = Plan {
        root: holders("root", args.root_threshold),
        targets: holders("targets", 1),
        snapshot: holders("snapshot", 1),
        timestamp: holders("timestamp", 1),
    };
    let authored = Authored::init(&args.repository, &plan, now_ms())?;
    let mut out = io::stdout().lock();
    if !maker.made.is_empty() {
        writeln!(out, "made {} in {}", maker.made.join(", "), keys.display())?;
    }
    drop(out);
    settle(&args.repository, authored, &BTreeMap::new(), &secret)?;
    let root = args.repository.join("metadata").join("1.root.json");
    if root.exists() {
        let mut out = io::stdout().lock();
        writeln!(out, "{} is what nodes are handed to trust this repository", root.display())?;
    }
    Ok(())
}

/// Finds keys, and makes those that are not there.
struct Maker<'a> {
    keys: &'a Path,
    work: u8,
    passphrase: Option<zeroize::Zeroizing<String>>,
    made: Vec<String>,
}

impl Maker<'_> {
    /// The public key that goes with a secret, and the secret if it is here.
    fn key(&mut self, path: &Path) -> anyhow::Result<(Value, Option<Unlocked>)> {
        let public = keys::public_path(path);
        if public.exists() {
            let value = keys::read_holders(&[public])?.pop().context("a key was read")?;
            let secret = path.exists().then(|| keys::open(path)).transpose()?;
            return Ok((value, secret));
        }
        let passphrase = match &self.passphrase {
            Some(passphrase) => passphrase.clone(),
            None => passphrase::ask_new(self.keys)?,
        };
        let secret = keys::create(path, Purpose::Trust, &passphrase, self.work)?;
        self.passphrase = Some(passphrase);
        self.made.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        Ok((secret.signer().key().clone(), Some(secret)))
    }
}
