//! Records of nodes in a bundle of evidence: every chain is hashed again, and members are held to what their records say.

use std::collections::BTreeMap;
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
    documents: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { records, streams, missing, members, documents } = self;
        write!(f, "{records} records in {streams} chains, each hashed again ({missing} gaps)")?;
        if *members > 0 {
            write!(
                f,
                "; {members} members stand where their records say, {documents} documents follow from the plan"
            )?;
        }
        Ok(())
    }
}

/// Goes through a bundle's records, plan, documents and members.
pub(super) fn check(folder: &Path) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut bodies = BTreeMap::new();
    for path in files(&folder.join("records"))? {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        chain(&name, &read(&path)?, &mut found, &mut bodies)?;
    }
    if folder.join("rollout/plan.json").exists() {
        rollout(folder, &mut found, &bodies)?;
    }
    Ok(found)
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

/// Hashes a stream again. `bodies`: of its records, by file and number.
fn chain(
    name: &str,
    lines: &str,
    found: &mut Found,
    bodies: &mut BTreeMap<(String, u64), Value>,
) -> anyhow::Result<()> {
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
                bodies.insert((name.to_owned(), seq), serde_json::from_str(&body).unwrap_or_default());
                next = seq + 1;
                found.records += 1;
            }
        }
    }
    found.streams += 1;
    Ok(())
}

/// Holds a rollout's plan, documents and members against each other.
fn rollout(folder: &Path, found: &mut Found, bodies: &BTreeMap<(String, u64), Value>) -> anyhow::Result<()> {
    let about: Value = serde_json::from_str(&read(&folder.join(super::log::ABOUT_FILE))?)?;
    let plan = read(&folder.join("rollout/plan.json"))?;
    let plan: Plan = text::read(plan.as_bytes()).context("rollout/plan.json is no plan")?;
    let id = text::id(&plan).to_string();
    ensure!(about["rollout"] == *id, "rollout/plan.json is the plan of {id}, and not of what this is about");
    let planned = documents::of(&plan);
    for path in files(&folder.join("rollout/documents"))? {
        let of_it = || format!("{} does not follow from the plan", path.display());
        let envelope = Envelope::read(read(&path)?.as_bytes()).with_context(of_it)?;
        documents::check(&planned, &envelope.signed).with_context(of_it)?;
        found.documents += 1;
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
        let (mut found, mut bodies) = (Found::default(), BTreeMap::new());
        chain("it", &lines.join("\n"), &mut found, &mut bodies).map_err(|error| format!("{error:#}"))?;
        assert_eq!(bodies.len() as u64, found.records);
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
}
