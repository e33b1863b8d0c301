//! Records of nodes in a bundle of evidence: every chain is hashed again, and members are held to what their records say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use hub::rollout::plan::Plan;
use hub::rollout::{documents, text};
use package::trust::envelope::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::chain::{Link, link};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, StreamName};
use wire::record::Stamp;
use wire::world::ClockQuality;

use super::heads::{self, Head, Told};
use super::signed::Signers;

/// The largest file of a bundle that is read.
const FILE_MAX_BYTES: u64 = 1 << 30;

/// A line of a stream in a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// A record, with all that its hash covers beside the hash before it.
    Record {
        stream: String,
        class: String,
        seq: u64,
        kind: String,
        boot: String,
        mono_ns: u64,
        wall_ms: i64,
        clock: String,
        hash: String,
        /// As text: its bytes count.
        body: String,
    },
    /// Records that are not here, and the hash that the chain had come to behind them.
    Missing { first: u64, last: u64, hash: String },
}

/// Where a stream lies in a bundle.
pub(super) fn place(node: &str, journal: &str, stream: &str) -> String {
    format!("records/{node}/{journal}/{stream}.jsonl")
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: u64,
    streams: u64,
    missing: u64,
    pub(super) members: u64,
    pub(super) documents: u64,
    /// Chains with a head that the log has.
    pub(super) held: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { records, streams, missing, members, documents, held } = self;
        write!(f, "{records} records in {streams} chains, each hashed again ({missing} gaps)")?;
        write!(f, "; of {held} chains the log has the head")?;
        if *members > 0 {
            write!(f, "; {members} members stand where their records say")?;
        }
        if *documents > 0 {
            write!(f, "; {documents} documents follow from the plan and are signed by those who might")?;
        }
        Ok(())
    }
}

/// Goes through a bundle's records, plan, documents, members and releases. `told`: the lists of heads that the log tells of;
/// `root`: a file with the root of trust, if somebody handed one over.
pub(super) fn check(folder: &Path, told: &[Told], root: Option<&Path>) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut chains = Chains::default();
    for name in names(folder, "records")? {
        chain(&name, &read(&folder.join(&name))?, &mut found, &mut chains)?;
    }
    let bytes = |name: &str| read(&folder.join(name)).map(String::into_bytes);
    found.held = held(&heads::lists(told, &names(folder, "heads")?, bytes)?, &chains)?;
    if folder.join("rollout/plan.json").exists() {
        rollout(folder, root, &mut found, &chains.bodies)?;
    }
    for name in names(folder, "releases")? {
        let bytes = fs::read(folder.join(&name)).with_context(|| format!("{name} cannot be read"))?;
        let is_it = name.ends_with(&format!("/{}", Hash::of(&bytes)));
        ensure!(is_it, "{name} is not what its name says");
    }
    Ok(found)
}

/// What chains were made of, by file and number.
#[derive(Debug, Default)]
struct Chains {
    bodies: BTreeMap<(String, u64), Value>,
    /// The hash over all up to there.
    hashes: BTreeMap<(String, u64), Hash>,
}

/// Holds chains to the heads that the log has of them: of how many it has one.
fn held(heads: &[Head], chains: &Chains) -> anyhow::Result<u64> {
    let mut held = BTreeSet::new();
    for head in heads {
        let key = (place(&head.node, &head.journal, &head.stream), head.seq);
        let Some(hash) = chains.hashes.get(&key) else { continue };
        ensure!(*hash == head.hash, "{} is not the chain whose head the log has at {}", key.0, key.1);
        held.insert(key.0);
    }
    Ok(held.len() as u64)
}

/// The files below a folder of a bundle, by their place in it.
fn names(folder: &Path, part: &str) -> anyhow::Result<Vec<String>> {
    let name = |path: PathBuf| path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(files(&folder.join(part))?.into_iter().map(name).collect())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("{} cannot be read", path.display());
    ensure!(
        fs::metadata(path).with_context(cannot)?.len() <= FILE_MAX_BYTES,
        "{} is too large",
        path.display()
    );
    fs::read_to_string(path).with_context(cannot)
}

/// All files below a folder; none if there is no folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop().filter(|next| next.is_dir()) {
        for entry in fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Hashes a stream again.
fn chain(name: &str, lines: &str, found: &mut Found, chains: &mut Chains) -> anyhow::Result<()> {
    let (mut head, mut next) = (Hash::GENESIS, 1);
    for (at, line) in lines.lines().enumerate() {
        let wrong = |what: &str| format!("{name}, line {}: {what}", at + 1);
        let hash_of = |text: &str| Hash::parse(text).with_context(|| wrong("no hash"));
        match serde_json::from_str(line).with_context(|| wrong("no record"))? {
            Line::Missing { first, last, hash } => {
                ensure!(first == next && last >= first, wrong("records are missing, and it does not say so"));
                (head, next) = (hash_of(&hash)?, last + 1);
                found.missing += 1;
            }
            Line::Record { stream, class, seq, kind, boot, mono_ns, wall_ms, clock, hash, body } => {
                ensure!(seq == next, wrong("records are missing, and it does not say so"));
                let stream = StreamName::new(&stream).with_context(|| wrong("no stream"))?;
                let class = Class::parse(&class).with_context(|| wrong("no class"))?;
                let boot = BootId::parse(&boot).with_context(|| wrong("no run of a process"))?;
                let clock = ClockQuality::parse(&clock).with_context(|| wrong("no quality of a clock"))?;
                let stamp = Stamp { boot, mono_ns, wall_ms, clock };
                head = link(head, Link { stream: &stream, class, seq, kind: &kind, stamp }, &body);
                ensure!(
                    head == hash_of(&hash)?,
                    wrong(&format!("record {seq} was changed, or the one before it"))
                );
                let body = serde_json::from_str(&body).unwrap_or_default();
                chains.bodies.insert((name.to_owned(), seq), body);
                next = seq + 1;
                found.records += 1;
            }
        }
        chains.hashes.insert((name.to_owned(), next - 1), head);
    }
    found.streams += 1;
    Ok(())
}

/// Holds a rollout's plan, documents and members against each other, and the documents to who might sign them.
fn rollout(
    folder: &Path,
    root: Option<&Path>,
    found: &mut Found,
    bodies: &BTreeMap<(String, u64), Value>,
) -> anyhow::Result<()> {
    let about: Value = serde_json::from_str(&read(&folder.join(super::log::ABOUT_FILE))?)?;
    let plan = read(&folder.join("rollout/plan.json"))?;
    let plan: Plan = text::read(plan.as_bytes()).context("rollout/plan.json is no plan")?;
    let id = text::id(&plan).to_string();
    ensure!(about["rollout"] == *id, "rollout/plan.json is the plan of {id}, and not of what this is about");
    let planned = documents::of(&plan);
    let signed = names(folder, "rollout/documents")?;
    if !signed.is_empty() {
        let signers = Signers::read(folder, root, plan.targets_version)?;
        for name in signed {
            let text = read(&folder.join(&name))?;
            let of_it = || format!("{name} does not follow from the plan");
            let envelope = Envelope::read(text.as_bytes()).with_context(of_it)?;
            documents::check(&planned, &envelope.signed).with_context(of_it)?;
            let unsigned = || format!("{name} is not signed by those who might");
            signers.have_signed(text.as_bytes()).with_context(unsigned)?;
            found.documents += 1;
        }
    }
    for line in read(&folder.join("rollout/members.jsonl"))?.lines() {
        let member: Value = serde_json::from_str(line).context("rollout/members.jsonl")?;
        found.members += 1;
        let (node, standing) = (&member["node"], member["standing"].as_str().unwrap_or_default());
        let at = &member["record"];
        let (Some(of), Some(journal), Some(stream)) =
            (at["node"].as_str(), at["journal"].as_str(), at["stream"].as_str())
        else {
            ensure!(standing != "succeeded", "{node} counts as good, and no record says so");
            continue;
        };
        let key = (place(of, journal, stream), at["seq"].as_u64().unwrap_or_default());
        let Some(body) = bodies.get(&key) else {
            bail!("the record of {node} is not here: {}, {}", key.0, key.1)
        };
        let outcome = body["outcome"].as_str().unwrap_or_default();
        let is_of_plan = plan.what.iter().any(|target| body["index"] == target.index.to_string());
        let fits = match standing {
            "succeeded" => outcome == "committed" && is_of_plan,
            "failed" => matches!(outcome, "refused" | "fell_back" | "safe") && is_of_plan,
            _ => true,
        };
        ensure!(fits, "{node} is {standing}, and its record says {outcome}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three records and a gap between them, as a bundle has them.
    fn lines() -> Vec<String> {
        let (mut head, mut lines) = (Hash::GENESIS, Vec::new());
        let boot = "c15c0289ec2d0a9167ec8e65a18debbe";
        for seq in [1, 2, 5] {
            if seq == 5 {
                head = Hash::of(b"what was lost");
                let missing = Line::Missing { first: 3, last: 4, hash: head.to_string() };
                lines.push(serde_json::to_string(&missing).unwrap());
            }
            let (stream, body) = (StreamName::new("installs").unwrap(), format!("{{\"n\": {seq}}}"));
            let stamp = Stamp {
                boot: BootId::parse(boot).unwrap(),
                mono_ns: seq,
                wall_ms: 7,
                clock: ClockQuality::Checked,
            };
            head =
                link(head, Link { stream: &stream, class: Class::Audit, seq, kind: "install", stamp }, &body);
            let word = |text: &str| text.to_owned();
            let (stream, class, kind, clock) =
                (word("installs"), word("audit"), word("install"), word("checked"));
            let (boot, hash) = (word(boot), head.to_string());
            let record =
                Line::Record { stream, class, seq, kind, boot, mono_ns: seq, wall_ms: 7, clock, hash, body };
            lines.push(serde_json::to_string(&record).unwrap());
        }
        lines
    }

    fn checked(lines: &[String]) -> Result<(u64, u64), String> {
        let (mut found, mut chains) = (Found::default(), Chains::default());
        chain("it", &lines.join("\n"), &mut found, &mut chains).map_err(|error| format!("{error:#}"))?;
        assert_eq!(chains.bodies.len() as u64, found.records);
        Ok((found.records, found.missing))
    }

    #[test]
    fn a_chain_is_hashed_again_and_what_was_changed_is_named() {
        assert_eq!(checked(&lines()), Ok((3, 1)));
        let said = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines();
            change(&mut lines);
            checked(&lines).unwrap_err()
        };
        let edited = said(&|lines| lines[1] = lines[1].replace("\\\"n\\\": 2", "\\\"n\\\": 3"));
        assert_eq!(edited, "it, line 2: record 2 was changed, or the one before it");
        let head = |lines: &mut Vec<String>| {
            let Line::Record { hash, .. } = serde_json::from_str(&lines[3]).unwrap() else { panic!() };
            lines[3] = lines[3].replace(&hash, &Hash::GENESIS.to_string());
        };
        assert!(said(&head).starts_with("it, line 4: record 5 was changed"));
        assert!(said(&|lines| drop(lines.remove(1))).contains("records are missing, and it does not say so"));
        assert!(said(&|lines| drop(lines.remove(2))).contains("records are missing"));
        assert!(said(&|lines| "{}".clone_into(&mut lines[0])).contains("no record"));
    }

    #[test]
    fn a_chain_is_held_to_the_head_that_the_log_has() {
        let (mut found, mut chains) = (Found::default(), Chains::default());
        let name = place("pump", "a0", "installs");
        chain(&name, &lines().join("\n"), &mut found, &mut chains).unwrap();
        let head = |seq: u64, hash: Hash| {
            let word = |text: &str| text.to_owned();
            Head { node: word("pump"), journal: word("a0"), stream: word("installs"), seq, hash }
        };
        let known = |seq: u64| chains.hashes[&(name.clone(), seq)];
        assert_eq!(known(4), Hash::of(b"what was lost"), "a gap has what the chain had come to behind it");
        for heads in [vec![head(5, known(5))], vec![head(2, known(2)), head(4, known(4)), head(9, known(5))]]
        {
            assert_eq!(held(&heads, &chains).unwrap(), 1);
        }
        assert_eq!(held(&[head(9, known(5))], &chains).unwrap(), 0, "of records that are not here");
        let other = held(&[head(2, known(1))], &chains).unwrap_err().to_string();
        assert_eq!(other, format!("{name} is not the chain whose head the log has at 2"));
    }
}
