//! `selvedge audit`: who did what, as the hub has published it; and whether that log is whole and only grew.
//!
//! Nothing here believes the hub: what is shown is what hashes to the root that the log's key has signed.

mod bundle;
mod heads;
mod log;
mod records;
mod signed;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use node::desired::{self, KeptFile};
use package::disk::system::System as Disk;
use package::tlog::TILE_WIDTH;
use package::tlog::note::{Checkpoint, NoteKey};
use package::tlog::tile::{Content, Tile};
use serde_json::{Value, json};

use self::bundle::Whom;
use self::heads::Told;
use self::log::{FILE_MAX_BYTES, Log, Place};
use crate::recording::{show_count, show_time};
use crate::table::{Side, Table};

/// Show, check and keep the log of what was done.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Show the newest entries.
    Ls(Ls),
    /// Check the log: its signature, every entry and every tile; exits with 0 only if all of it holds.
    Verify(Verify),
    /// Check the log and put it into a folder or an archive, all of it or what proves one thing, with a program that checks it
    /// without selvedge.
    Export(Export),
}

#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    place: Place,

    /// So many.
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    last: u64,

    /// Of them those about this: a rollout's id, a node's name.
    #[arg(long, value_name = "WORD")]
    about: Option<String>,

    /// Print them as JSON, one a line, as they were hashed.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    place: Place,

    /// An older checkpoint that you kept: the log must have grown from it.
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<PathBuf>,

    /// And the records of nodes that lie in the folder: each hashes to what follows it, and members stand where they say.
    #[arg(long, requires = "dir")]
    records: bool,

    /// With --records, the root of trust as you got it elsewhere: those count as signers whom it leads to.
    #[arg(long, value_name = "ROOT.json", requires = "records")]
    root: Option<PathBuf>,

    /// The data folder of a node, or its hub.json: the log must have grown from every checkpoint that the node saw.
    #[arg(long, value_name = "DATA")]
    node: Vec<PathBuf>,

    /// Keep the checkpoint that was found, for the next time.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,

    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    whom: Whom,

    /// The folder to make, or the archive: OUT.tar.
    #[arg(short, long, value_name = "DIR|OUT.tar")]
    output: PathBuf,
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(args) => ls(&args),
        Verb::Verify(args) => verify(&args),
        Verb::Export(args) => bundle::export(&args.place, &args.whom, &args.output),
    }
}

fn ls(args: &Ls) -> anyhow::Result<()> {
    let log = Log::open(&args.place)?;
    let (now, is_proven) = match log.key(&args.place) {
        Ok((key, is_said)) => (log.checkpoint(&key)?.0, is_said),
        // To look, nobody needs a key.
        Err(_) if args.place.key.is_none() => {
            let note = String::from_utf8(log.note()?)?;
            (Checkpoint::parse(&note)?, false)
        }
        Err(error) => return Err(error),
    };
    let first = now.size.saturating_sub(args.last);
    let mut entries = Vec::new();
    for bundle in Tile::new_of(first, now.size).into_iter().filter(|tile| tile.content == Content::Entries) {
        let bytes = log.file(&bundle.to_string(), FILE_MAX_BYTES)?;
        let held = bundle.entries(&bytes)?;
        let numbered = (bundle.number * TILE_WIDTH..).zip(held).filter(|(number, _)| *number >= first);
        for (number, entry) in numbered {
            let text = String::from_utf8_lossy(entry).into_owned();
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            if args.about.as_ref().is_none_or(|about| value["on"].as_str() == Some(about)) {
                entries.push((number + 1, text, value));
            }
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        for (_, text, _) in &entries {
            writeln!(out, "{text}")?;
        }
        return Ok(());
    }
    let mut table = Table::new([
        ("entry", Side::Right),
        ("when", Side::Left),
        ("who", Side::Left),
        ("did", Side::Left),
        ("about", Side::Left),
        ("why", Side::Left),
    ]);
    for (number, _, value) in &entries {
        let word = |name: &str| plain(value[name].as_str().unwrap_or_default());
        let when = value["at_ms"].as_i64().map_or_else(String::new, show_time);
        table.row([number.to_string(), when, word("who"), word("act"), word("on"), word("why")]);
    }
    write!(out, "{table}")?;
    if !is_proven {
        writeln!(out, "\nnobody has checked this: `selvedge audit verify --key FILE` does")?;
    }
    Ok(())
}

/// Words fit for a terminal.
fn plain(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn verify(args: &Verify) -> anyhow::Result<()> {
    let log = Log::open(&args.place)?;
    let (key, is_said) = log.key(&args.place)?;
    let (now, note) = log.checkpoint(&key)?;
    let from = args.from.as_deref().map(|path| -> anyhow::Result<Checkpoint> {
        let note = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Checkpoint::open(&note, &key)
            .with_context(|| format!("{} is no checkpoint of this log", path.display()))
    });
    let from = from.transpose()?;
    let mut known: Vec<Checkpoint> = from.iter().cloned().collect();
    for data in &args.node {
        known.extend(witnessed(data, &key)?);
    }
    let mut told = Vec::new();
    log.check(&now, &known, &mut |tile, bytes| {
        if args.records && tile.content == Content::Entries {
            let numbered = (tile.number * TILE_WIDTH..).zip(tile.entries(bytes)?);
            let said = |entry: &[u8]| serde_json::from_slice::<Value>(entry).unwrap_or_default();
            told.extend(numbered.filter_map(|(number, entry)| Told::of(number, &said(entry))));
        }
        Ok(())
    })?;
    let found = match log.folder().filter(|_| args.records) {
        Some(folder) => Some(records::check(folder, &told, args.root.as_deref())?),
        None => None,
    };
    if let Some(path) = &args.keep {
        package::disk::write_whole(&Disk, path, &note)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        let record = json!({
            "ok": true, "origin": now.origin, "size": now.size, "root": now.root.to_string(), "key": key.to_string(),
            "key_is_given": is_said, "grew_from": from.map(|from| from.size),
            "records": found.as_ref().map(|found| found.records), "members": found.as_ref().map(|found| found.members),
            "documents": found.as_ref().map(|found| found.documents), "held": found.as_ref().map(|found| found.held),
            "witnessed": known.iter().map(|seen| seen.size).max(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "ok     {}: {} entries, each under the root {}",
        now.origin,
        show_count(now.size),
        now.root
    )?;
    writeln!(out, "ok     signed by {key}")?;
    if let Some(from) = from {
        writeln!(out, "ok     the first {} entries are those that they were", show_count(from.size))?;
    }
    if let Some(largest) = known.iter().map(|seen| seen.size).max().filter(|_| !args.node.is_empty()) {
        let nodes = args.node.len();
        writeln!(
            out,
            "ok     {nodes} nodes saw {} checkpoints of it, the largest of {}",
            known.len(),
            show_count(largest)
        )?;
    }
    if let Some(found) = &found {
        writeln!(out, "ok     {found}")?;
    }
    if !is_said {
        writeln!(out, "note   the key is the folder's own: --key says one that you got elsewhere")?;
    }
    if args.root.is_none() && found.is_some_and(|found| found.documents > 0) {
        writeln!(
            out,
            "note   the root of trust is the folder's own: --root names one that you got elsewhere"
        )?;
    }
    Ok(())
}

/// The checkpoints that a node kept, each signed by the log's key.
fn witnessed(data: &Path, key: &NoteKey) -> anyhow::Result<Vec<Checkpoint>> {
    let file = if data.is_dir() { data.join(desired::FILE) } else { data.to_owned() };
    anyhow::ensure!(file.exists(), "{} is not there: --node names the data folder of a node", file.display());
    let (_, kept, damage) = KeptFile::open(Disk, &file)?;
    anyhow::ensure!(damage.is_none(), "{} is damaged, and says nothing", file.display());
    let open = |note: &String| {
        Checkpoint::open(note.as_bytes(), key)
            .with_context(|| format!("{} holds a checkpoint that this key did not sign", file.display()))
    };
    kept.checkpoints.iter().map(open).collect()
}
