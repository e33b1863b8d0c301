//! `selvedge audit export`: the log and what stands behind it, as files that prove themselves.
//!
//! The checkpoint, all hashes of the log, and the entries that are about what was asked for; of a rollout its plan, what was
//! signed, the metadata that said who may sign, its members, and the records by which each stands where it stands, with the
//! whole chain before them. Everything comes by the hub's API: whoever may look may take evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use package::tlog::TILE_WIDTH;
use package::tlog::tile::{Content, Tile};
use package::trust::time::parse_utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::heads::{Head, LISTS_MAX, Told};
use super::log::{ABOUT_FILE, FILE_MAX_BYTES, KEY_FILE, Log, Place};
use super::records::{Line, place};
use crate::hub_client::HubClient;
use crate::recording::show_count;

/// The largest answer of the API, and the largest file of a package that is taken.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// The program that checks an exported folder without us, and what says so.
const CHECKER: &str = include_str!("verify.py");
const README: &str = "\
This is a hub's audit log, as it was published and signed.

    entries.jsonl   the entries, one a line, for reading
    checkpoint      how many there are and the root over them, signed by the log's key
    log.pub         that key: compare it with the one that you were given elsewhere
    tile/           the same entries and their hashes, as https://c2sp.org/tlog-tiles names them
    verify.py       checks all of it with nothing but Python: python3 verify.py KEY

With about.json it holds what proves one thing, beside the hashes of all entries:

    rollout/        the plan, whose SHA-256 begins with the rollout's id; the documents as they were signed; members; what gates saw
    trust/          the TUF metadata that says whose signatures count
    heads/          lists of what every chain of records had come to in an hour; the log has the SHA-256 of each
    records/        what nodes wrote: each line's hash is SHA-256 over its header and body, and covers the line before
    releases/       manifests and bills of materials, each named by its SHA-256: sha256sum says the same

Entry n has the hash SHA-256(0x00, entry); two hashes have SHA-256(0x01, left, right) above them, as RFC 6962 says.
";

/// What an export is about; all of it unless told.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Whom {
    /// A rollout, by its id or the beginning of it.
    #[arg(long, value_name = "ID")]
    rollout: Option<String>,

    /// A node: what it decided and installed, and what was done about it.
    #[arg(long, value_name = "NODE", conflicts_with = "rollout")]
    node: Option<String>,

    /// What was done from then on: 2026-11-22T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<i64>,

    /// What was done before then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<i64>,
}

fn time(word: &str) -> Result<i64, String> {
    let whole = if word.contains('T') { word.to_owned() } else { format!("{word}T00:00:00Z") };
    parse_utc(&whole).ok_or_else(|| "a time reads like 2026-11-22T00:00:00Z or 2026-11-22".to_owned())
}

impl Whom {
    fn is_all(&self) -> bool {
        self.rollout.is_none() && self.node.is_none() && self.from.is_none() && self.to.is_none()
    }

    /// Whether an entry is about it.
    fn means(&self, entry: &Value) -> bool {
        let about = self.rollout.as_ref().or(self.node.as_ref());
        let at_ms = entry["at_ms"].as_i64().unwrap_or_default();
        about.is_none_or(|about| entry["on"].as_str() == Some(about))
            && self.from.is_none_or(|from| at_ms >= from)
            && self.to.is_none_or(|to| at_ms < to)
    }
}

/// A page of records.
#[derive(Deserialize)]
struct Page {
    records: Vec<Record>,
    next_before: Option<i64>,
}

#[derive(Deserialize)]
struct Record {
    journal: String,
    stream: String,
    class: String,
    seq: u64,
    kind: String,
    boot: String,
    mono_ns: u64,
    wall_ms: i64,
    clock: String,
    hash: String,
    body: Box<RawValue>,
}

/// A node, the life of its journal, and the name of the stream.
type Stream = (String, String, String);

/// Streams, and up to which record each is wanted.
type Streams = BTreeMap<Stream, u64>;

/// The folder that is made, until it has its name.
struct Working<'a> {
    folder: PathBuf,
    /// Absent where an exported folder is exported again.
    server: Option<&'a HubClient>,
    records: u64,
}

pub(super) fn export(at: &Place, whom: &Whom, output: &Path) -> anyhow::Result<()> {
    ensure!(!output.exists(), "{} is there already", output.display());
    let log = Log::open(at)?;
    let (key, _) = log.key(at)?;
    let (now, note) = log.checkpoint(&key)?;
    let server = if let Log::Hub(server) = &log { Some(&**server) } else { None };
    let mut whom = whom.clone();
    if let (Some(begin), Some(server)) = (&whom.rollout, server) {
        whom.rollout = Some(rollout_of(server, begin)?);
    }
    ensure!(whom.is_all() || server.is_some(), "what is about something is asked of a hub: --hub URL");
    let name = output.file_name().context("it needs a name: -o DIR or -o OUT.tar")?.to_string_lossy();
    let folder = output.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let mut working = Working { folder, server, records: 0 };
    let made = (|| -> anyhow::Result<u64> {
        let (mut entries, mut told) = (BTreeMap::new(), Vec::new());
        log.check(&now, &[], &mut |tile, bytes| {
            if tile.content != Content::Entries {
                return working.write(&tile.to_string(), bytes);
            }
            let mut is_meant = whom.is_all();
            for (number, entry) in (tile.number * TILE_WIDTH..).zip(tile.entries(bytes)?) {
                let value: Value = serde_json::from_slice(entry).unwrap_or_default();
                told.extend(Told::of(number, &value));
                if whom.is_all() || whom.means(&value) {
                    entries.insert(number, entry.to_vec());
                    is_meant = true;
                }
            }
            if is_meant { working.write(&tile.to_string(), bytes) } else { Ok(()) }
        })?;
        let count = entries.len() as u64;
        let mut streams = match (&whom.rollout, &whom.node) {
            (Some(id), _) => working.rollout(id)?,
            (None, Some(node)) => working.node(node)?,
            (None, None) => Streams::new(),
        };
        for list in working.heads(&told, &mut streams)? {
            let tiles = Tile::new_of(list.entry, now.size).into_iter();
            let mut tiles = tiles.filter(|tile| tile.content == Content::Entries);
            let tile = tiles.find(|tile| tile.number == list.entry / TILE_WIDTH);
            let tile = tile.context("the log has no tile with an entry of its own")?;
            let bytes = log.file(&tile.to_string(), FILE_MAX_BYTES)?;
            let entry = tile.entries(&bytes)?.get((list.entry % TILE_WIDTH) as usize).map(|it| it.to_vec());
            entries.extend(entry.map(|entry| (list.entry, entry)));
            working.write(&tile.to_string(), &bytes)?;
        }
        for ((node, journal, stream), until) in &streams {
            working.stream(node, journal, stream, *until)?;
        }
        let lines: Vec<u8> = entries.into_values().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
        working.write("entries.jsonl", &lines)?;
        working.write("checkpoint", &note)?;
        working.write(KEY_FILE, format!("{key}\n").as_bytes())?;
        working.write("README.txt", README.as_bytes())?;
        working.write("verify.py", CHECKER.as_bytes())?;
        if !whom.is_all() {
            let about =
                json!({ "rollout": whom.rollout, "node": whom.node, "from_ms": whom.from, "to_ms": whom.to });
            working.write(ABOUT_FILE, serde_json::to_string_pretty(&about)?.as_bytes())?;
        }
        working.finish(output)?;
        Ok(count)
    })();
    // It has its name by now, or the first failure is the one to tell.
    drop(fs::remove_dir_all(&working.folder));
    let entries = made?;
    let mut out = io::stdout().lock();
    let records = match working.records {
        0 => String::new(),
        records => format!(" and {} records of nodes", show_count(records)),
    };
    writeln!(
        out,
        "{}: {} entries of {}{records}, checked",
        output.display(),
        show_count(entries),
        now.origin
    )?;
    Ok(())
}

/// The one rollout whose id begins so.
fn rollout_of(server: &HubClient, begin: &str) -> anyhow::Result<String> {
    if begin.len() == 32 {
        return Ok(begin.to_owned());
    }
    let bytes =
        server.bytes("/api/v1/rollouts?limit=200", ANSWER_MAX_BYTES)?.context("the hub has no rollouts")?;
    let page: Value = serde_json::from_slice(&bytes)?;
    let ids = page["rollouts"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str());
    let found: Vec<&str> = ids.filter(|id| id.starts_with(begin)).collect();
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => anyhow::bail!("no rollout begins with {begin}: `selvedge rollout ls` lists them"),
        _ => anyhow::bail!("{} rollouts begin with {begin}: write more of it", found.len()),
    }
}

impl Working<'_> {
    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Gives the folder its name, or makes an archive of it.
    fn finish(&self, output: &Path) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be written", output.display());
        if output.extension().is_none_or(|extension| extension != "tar") {
            return fs::rename(&self.folder, output).with_context(cannot);
        }
        let working = self.folder.with_extension("tar");
        let mut archive = tar::Builder::new(fs::File::create(&working).with_context(cannot)?);
        archive.mode(tar::HeaderMode::Deterministic);
        let done = archive.append_dir_all(".", &self.folder).and_then(|()| archive.into_inner());
        let done = done.and_then(|file| file.sync_all()).and_then(|()| fs::rename(&working, output));
        if done.is_err() {
            drop(fs::remove_file(&working));
        }
        done.with_context(cannot)
    }

    fn find(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let server = self.server.context("what is about something is asked of a hub: --hub URL")?;
        server.bytes(path, ANSWER_MAX_BYTES).with_context(|| format!("{path} did not come from the hub"))
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let bytes = self.find(path)?.with_context(|| format!("the hub has no {path}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("the hub does not answer {path} as a hub"))
    }

    /// All that the hub has of a rollout, but its members' records: which of those prove it.
    fn rollout(&self, id: &str) -> anyhow::Result<Streams> {
        let base = format!("/api/v1/rollouts/{id}");
        let view: BTreeMap<String, Box<RawValue>> = self.ask(&base)?;
        let plan = view.get("plan").context("the rollout has no plan")?;
        self.write("rollout/plan.json", plan.get().as_bytes())?;
        let state = view.get("state").context("the rollout has no state")?;
        self.write("rollout/state.json", state.get().as_bytes())?;
        let evidence: Box<RawValue> = self.ask(&format!("{base}/evidence"))?;
        self.write("rollout/evidence.json", evidence.get().as_bytes())?;
        let documents: BTreeMap<String, Vec<BTreeMap<String, Box<RawValue>>>> =
            self.ask(&format!("{base}/documents"))?;
        for document in documents.values().flatten() {
            let text = |name: &str| document.get(name).map(|value| value.get().trim_matches('"').to_owned());
            if let (Some(id), Some(version), Some(signed)) =
                (text("id"), text("version"), document.get("document"))
            {
                self.write(
                    &format!("rollout/documents/{}-{}.json", plain(&id), plain(&version)),
                    signed.get().as_bytes(),
                )?;
            }
        }
        let (mut after, mut lines, mut until) = (String::new(), String::new(), BTreeMap::new());
        loop {
            let page: Value = self.ask(&format!("{base}/members?limit=1000&after={}", encoded(&after)))?;
            for member in page["members"].as_array().into_iter().flatten() {
                lines += &format!("{member}\n");
                let word = |name: &str| member["record"][name].as_str().map(str::to_owned);
                if let (Some(node), Some(journal), Some(stream)) =
                    (word("node"), word("journal"), word("stream"))
                {
                    until.insert(
                        (node, journal, stream),
                        member["record"]["seq"].as_u64().unwrap_or_default(),
                    );
                }
            }
            let Some(next) = page["next_after"].as_str() else { break };
            next.clone_into(&mut after);
        }
        self.write("rollout/members.jsonl", lines.as_bytes())?;
        let plan: Value = serde_json::from_str(plan.get())?;
        self.trust(plan["targets_version"].as_u64().unwrap_or_default())?;
        for target in plan["what"].as_array().into_iter().flatten() {
            self.release(target)?;
        }
        Ok(until)
    }

    /// All that a node keeps for auditors.
    fn node(&self, node: &str) -> anyhow::Result<Streams> {
        let mut until = Streams::new();
        let view: Value = self.ask(&format!("/api/v1/nodes/{}", encoded(node)))?;
        for stream in view["streams"].as_array().into_iter().flatten().filter(|one| one["class"] == "audit") {
            if let (Some(journal), Some(name), Some(settled)) =
                (stream["journal"].as_str(), stream["stream"].as_str(), stream["settled"].as_u64())
            {
                until.insert((node.to_owned(), journal.to_owned(), name.to_owned()), settled);
            }
        }
        Ok(until)
    }

    /// The lists of heads that the log tells of and that prove these streams, the newest first. Where a list knows more of a stream
    /// than was asked for, the stream is taken as far.
    fn heads<'a>(&self, told: &'a [Told], streams: &mut Streams) -> anyhow::Result<Vec<&'a Told>> {
        let mut open: BTreeSet<Stream> = streams.keys().cloned().collect();
        let mut chosen = Vec::new();
        for list in told.iter().rev().take(LISTS_MAX) {
            if open.is_empty() {
                break;
            }
            let Some(bytes) = self.find(&format!("/log/heads/{}", list.file))? else { continue };
            let mut is_of_use = false;
            for Head { node, journal, stream, seq, .. } in list.read(&bytes)? {
                let stream = (node, journal, stream);
                if open.remove(&stream)
                    && let Some(until) = streams.get_mut(&stream)
                {
                    *until = seq.max(*until);
                    is_of_use = true;
                }
            }
            if is_of_use {
                self.write(&list.place(), &bytes)?;
                chosen.push(list);
            }
        }
        Ok(chosen)
    }

    /// A stream up to a record: a line for each, oldest first, and one wherever something is missing.
    fn stream(&mut self, node: &str, journal: &str, stream: &str, until: u64) -> anyhow::Result<()> {
        let (mut found, mut before) = (Vec::new(), String::new());
        loop {
            let (node, stream) = (encoded(node), encoded(stream));
            let page: Page =
                self.ask(&format!("/api/v1/records?limit=200&node={node}&stream={stream}{before}"))?;
            let of_this = |record: &Record| record.journal == journal && record.seq <= until;
            found.extend(page.records.into_iter().filter(of_this));
            let Some(next) = page.next_before else { break };
            before = format!("&before={next}");
        }
        found.sort_unstable_by_key(|record| record.seq);
        let (mut lines, mut last) = (String::new(), 0);
        for record in found {
            if record.seq != last + 1 {
                let path =
                    format!("/api/v1/records/{}/{journal}/{}/{}", encoded(node), encoded(stream), record.seq);
                let proof: Value = self.ask(&path)?;
                let hash =
                    proof["before"]["hash"].as_str().context("what stands before a record is not known")?;
                let missing = Line::Missing { first: last + 1, last: record.seq - 1, hash: hash.to_owned() };
                lines += &(serde_json::to_string(&missing)? + "\n");
            }
            last = record.seq;
            let Record { stream, class, seq, kind, boot, mono_ns, wall_ms, clock, hash, body, .. } = record;
            let body = body.get().to_owned();
            let line = Line::Record { stream, class, seq, kind, boot, mono_ns, wall_ms, clock, hash, body };
            lines += &(serde_json::to_string(&line)? + "\n");
            self.records += 1;
        }
        self.write(&place(node, journal, stream), lines.as_bytes())
    }

    /// The metadata of those who may sign, as far as the hub still has it.
    fn trust(&self, targets: u64) -> anyhow::Result<()> {
        let mut names: Vec<String> = vec!["timestamp.json".to_owned(), format!("{targets}.targets.json")];
        for version in 1..=1000 {
            let name = format!("{version}.root.json");
            let Some(bytes) = self.find(&format!("/tuf/metadata/{name}"))? else { break };
            self.write(&format!("trust/{name}"), &bytes)?;
        }
        let timestamp = self.find("/tuf/metadata/timestamp.json")?.unwrap_or_default();
        let timestamp: Value = serde_json::from_slice(&timestamp).unwrap_or_default();
        if let Some(version) = timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64() {
            names.push(format!("{version}.snapshot.json"));
        }
        for name in names {
            if let Some(bytes) = self.find(&format!("/tuf/metadata/{name}"))? {
                self.write(&format!("trust/{name}"), &bytes)?;
            }
        }
        Ok(())
    }

    /// Manifests and bills of materials of a release, each by its digest.
    fn release(&self, target: &Value) -> anyhow::Result<()> {
        let (Some(model), Some(index)) = (target["model"].as_str(), target["index"].as_str()) else {
            return Ok(());
        };
        let mut wanted = vec![format!("manifests/{index}")];
        let mut seen = BTreeSet::new();
        while let Some(next) = wanted.pop().filter(|_| seen.len() < 1000) {
            let digest = next.split_once(':').map(|(_, hex)| plain(hex)).unwrap_or_default();
            if !seen.insert(digest.clone()) {
                continue;
            }
            // What was deleted since is not there; its digest stands in what names it.
            let Some(bytes) = self.find(&format!("/v2/{model}/{next}"))? else { continue };
            self.write(&format!("releases/{model}/{digest}"), &bytes)?;
            let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some(bom) = document["annotations"]["dev.selvedge.bom"].as_str() {
                wanted.push(format!("blobs/{bom}"));
            }
            for manifest in document["manifests"].as_array().into_iter().flatten() {
                wanted.extend(manifest["digest"].as_str().map(|digest| format!("manifests/{digest}")));
            }
        }
        Ok(())
    }
}

/// Fit for a file's name.
fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(80).collect()
}

/// Fit for an address.
fn encoded(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    word.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
