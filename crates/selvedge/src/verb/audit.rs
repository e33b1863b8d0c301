//! `selvedge audit`: who did what, as the hub has published it; and whether that log is whole and only grew.
//!
//! Nothing here believes the hub: what is shown is what hashes to the root that the log's key has signed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use package::disk::read_whole;
use package::disk::system::System as Disk;
use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteKey};
use package::tlog::tile::{Content, Tile, hashes_to_bytes};
use package::tlog::{TILE_WIDTH, Tree, leaf_hash};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::login;
use crate::progress;
use crate::recording::{show_count, show_time};
use crate::table::{Side, Table};

/// The longest time in which a file of the log comes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest file of a log: 256 entries of 65 535 bytes.
const FILE_MAX_BYTES: u64 = TILE_WIDTH * (65_535 + 2);
/// The log's public key in an exported folder.
const KEY_FILE: &str = "log.pub";
/// The program that checks an exported folder without us, and what says so.
const CHECKER: &str = include_str!("audit/verify.py");
const README: &str = "\
This is a hub's audit log, as it was published and signed.

    entries.jsonl   the entries, one a line, for reading
    checkpoint      how many there are and the root over them, signed by the log's key
    log.pub         that key: compare it with the one that you were given elsewhere
    tile/           the same entries and their hashes, as https://c2sp.org/tlog-tiles names them
    verify.py       checks all of it with nothing but Python: python3 verify.py KEY

Entry n has the hash SHA-256(0x00, entry); two hashes have SHA-256(0x01, left, right) above them, as RFC 6962 says.
";

/// Show, check and keep the log of what was done.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Show the newest entries.
    Ls(Ls),
    /// Check the log: its signature, every entry and every tile; exits with 0 only if all of it holds.
    Verify(Verify),
    /// Check the log and put all of it into a folder, with a program that checks it without selvedge.
    Export(Export),
}

/// Where the log is.
#[derive(clap::Args)]
struct Place {
    /// The hub's address; without it that of `selvedge login`.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value_t = login::hub(), hide_default_value = true)]
    hub: Url,

    /// A file with the token for the hub; without it that of `selvedge login`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// A folder that `selvedge audit export` made, instead of a hub.
    #[arg(long, value_name = "DIR", conflicts_with = "token_file")]
    dir: Option<PathBuf>,

    /// The log's public key, a line or a file with it: audit.pub in the hub's data folder. Without it the folder's own is
    /// taken, and of a hub none.
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
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

    /// The folder to make.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(args) => ls(&args),
        Verb::Verify(args) => verify(&args),
        Verb::Export(args) => export(&args),
    }
}

/// A log that can be read.
enum Log {
    Hub(Box<Server>),
    Folder(PathBuf),
}

/// A hub, and what it takes to ask it.
struct Server {
    url: Url,
    token: Option<String>,
    client: Client,
    runtime: Runtime,
}

impl Log {
    fn open(place: &Place) -> anyhow::Result<Log> {
        if let Some(folder) = &place.dir {
            return Ok(Log::Folder(folder.clone()));
        }
        let token = login::token(&place.hub, place.token_file.as_deref())?;
        let client = Client::builder().timeout(TIMEOUT).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Log::Hub(Box::new(Server { url: place.hub.clone(), token, client, runtime })))
    }

    /// A file of the log: `checkpoint`, `tile/0/000`.
    fn file(&self, name: &str, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
        let found = match self {
            Log::Folder(folder) => read_whole(&Disk, &folder.join(name), max_bytes)?,
            Log::Hub(server) => {
                let came = server.file(name, max_bytes);
                came.with_context(|| format!("{name} of the log did not come from {}", self.name()))?
            }
        };
        let bytes = found.with_context(|| format!("{} has no {name} of a log", self.name()))?;
        anyhow::ensure!(bytes.len() as u64 <= max_bytes, "{name} of the log is longer than any such file is");
        Ok(bytes)
    }

    fn name(&self) -> String {
        match self {
            Log::Hub(server) => server.url.to_string(),
            Log::Folder(folder) => folder.display().to_string(),
        }
    }

    /// The key to check by; whether somebody said it.
    fn key(&self, place: &Place) -> anyhow::Result<(NoteKey, bool)> {
        let line = match (&place.key, self) {
            (Some(words), _) if !Path::new(words).exists() => words.clone(),
            (Some(path), _) => fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?,
            (None, Log::Folder(_)) => String::from_utf8(self.file(KEY_FILE, NOTE_MAX_BYTES as u64)?)?,
            (None, Log::Hub(_)) => {
                anyhow::bail!(
                    "whose log is it? --key FILE names its public key: audit.pub in the hub's data folder"
                )
            }
        };
        Ok((NoteKey::parse(line.trim())?, place.key.is_some()))
    }

    /// How far it has come, by its key.
    fn checkpoint(&self, key: &NoteKey) -> anyhow::Result<(Checkpoint, Vec<u8>)> {
        let note = self.file("checkpoint", NOTE_MAX_BYTES as u64)?;
        let checkpoint = Checkpoint::open(&note, key);
        let checkpoint = checkpoint.with_context(|| format!("the log of {} is not believed", self.name()))?;
        Ok((checkpoint, note))
    }

    /// Goes through all of it: every entry, every tile, the root; and an older root on the way. `see` is given each file.
    fn check(
        &self,
        now: &Checkpoint,
        from: Option<&Checkpoint>,
        see: &mut dyn FnMut(&Tile, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (origin, size) = (&now.origin, now.size);
        if let Some(from) = from.filter(|from| from.size > size) {
            anyhow::bail!("log-forked: {origin} had {} entries, and has {size} now", from.size);
        }
        let bar = progress::steps(size).with_prefix("checking");
        let mut tree = Tree::default();
        let grown = |tree: &Tree| match from.filter(|from| from.size == tree.size()) {
            Some(from) if from.root != tree.root() => {
                anyhow::bail!(
                    "log-forked: the first {} entries of {origin} are not those that they were",
                    from.size
                )
            }
            _ => Ok(()),
        };
        grown(&tree)?;
        let mut hashes = Vec::new();
        for bundle in Tile::new_of(0, size).into_iter().filter(|tile| tile.content == Content::Entries) {
            let bytes = self.file(&bundle.to_string(), FILE_MAX_BYTES)?;
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

impl Server {
    /// A file of at most `max_bytes`, or a little more; `None` if there is none.
    fn file(&self, name: &str, max_bytes: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let request = self.client.get(self.url.join(&format!("/log/{name}"))?);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let asked = async {
            let mut answer = request.send().await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            answer = answer.error_for_status()?;
            let mut bytes = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() as u64 > max_bytes {
                    break;
                }
            }
            Ok::<_, reqwest::Error>(Some(bytes))
        };
        Ok(self.runtime.block_on(asked).map_err(reqwest::Error::without_url)?)
    }
}

fn ls(args: &Ls) -> anyhow::Result<()> {
    let log = Log::open(&args.place)?;
    let (now, is_proven) = match log.key(&args.place) {
        Ok((key, is_said)) => (log.checkpoint(&key)?.0, is_said),
        // To look, nobody needs a key.
        Err(_) if args.place.key.is_none() => {
            let note = String::from_utf8(log.file("checkpoint", NOTE_MAX_BYTES as u64)?)?;
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
    log.check(&now, from.as_ref(), &mut |_, _| Ok(()))?;
    if let Some(path) = &args.keep {
        package::disk::write_whole(&Disk, path, &note)?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        let record = json!({
            "ok": true, "origin": now.origin, "size": now.size, "root": now.root.to_string(), "key": key.to_string(),
            "key_is_given": is_said, "grew_from": from.map(|from| from.size),
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
    if !is_said {
        writeln!(out, "note   the key is the folder's own: --key says one that you got elsewhere")?;
    }
    Ok(())
}

fn export(args: &Export) -> anyhow::Result<()> {
    let output = &args.output;
    anyhow::ensure!(!output.exists(), "{} is there already", output.display());
    let log = Log::open(&args.place)?;
    let (key, _) = log.key(&args.place)?;
    let (now, note) = log.checkpoint(&key)?;
    let name = output.file_name().context("the folder needs a name: -o DIR")?.to_string_lossy();
    let working = output.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let made = (|| -> anyhow::Result<()> {
        let write = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
            let path = working.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&working))?;
            fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
        };
        let mut lines = Vec::new();
        log.check(&now, None, &mut |tile, bytes| {
            if tile.content == Content::Entries {
                for entry in tile.entries(bytes)? {
                    lines.extend_from_slice(entry);
                    lines.push(b'\n');
                }
            }
            write(&tile.to_string(), bytes)
        })?;
        write("entries.jsonl", &lines)?;
        write("checkpoint", &note)?;
        write(KEY_FILE, format!("{key}\n").as_bytes())?;
        write("README.txt", README.as_bytes())?;
        write("verify.py", CHECKER.as_bytes())?;
        fs::rename(&working, output).with_context(|| format!("{} cannot be written", output.display()))
    })();
    if made.is_err() {
        // The first failure is the one to tell.
        drop(fs::remove_dir_all(&working));
    }
    made?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {} entries of {}, checked", output.display(), show_count(now.size), now.origin)?;
    Ok(())
}
