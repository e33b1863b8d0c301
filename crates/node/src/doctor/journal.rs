//! What the journal shows: whether it is whole, how large it is, what waits to be sent, and what was last said of each part.

use std::collections::BTreeMap;
use std::path::Path;

use wire::body::{Body as _, PartChange, SourceChange};
use wire::id::StreamName;

use super::case::Case;
use super::finding::Finding;
use crate::journal::position::Position;
use crate::journal::reader::Reader;
use crate::journal::verify::verify_tail;
use crate::why::why;

/// The newest records of each stream whose chain is walked.
const TAIL: u64 = 2_000;

/// The newest events that are looked through for what was said last.
const EVENTS: usize = 1_000;

/// The journal itself.
pub(super) fn examine(case: &Case<'_>, found: &mut Vec<Finding>) {
    let data = &case.config.data;
    if !data.join("journal.sqlite").exists() {
        return;
    }
    for name in set_aside(data) {
        let help =
            "look at it with `sqlite3`; remove it when you need it no more. The node has begun a new one";
        found.push(Finding::note("journal", format!("a damaged one was set aside: {name}"), help));
    }
    let looked = Reader::open(data).and_then(|reader| Ok((verify_tail(&reader, TAIL)?, reader.positions()?)));
    let (checks, positions) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let help = "is this the node's user, and is the disk well? A damaged journal is set aside at the next start";
            found.push(Finding::wrong("journal", format!("it cannot be read: {}", why(&error)), help));
            return;
        }
    };
    let broken = checks.iter().find_map(|check| Some((check, check.broken.as_ref()?)));
    if let Some((check, broken)) = broken {
        let says = format!("stream {}, record {}: {}", check.stream, broken.seq, broken.why);
        let help = "somebody or a disk has altered it: keep a copy of the folder before anything else";
        found.push(Finding::wrong("journal", says, help));
        return;
    }
    let kept: u64 = positions.iter().map(|position| position.last + 1 - position.first).sum();
    let unsent: u64 = positions.iter().filter(|position| position.leaves).map(Position::unsent).sum();
    let bytes: u64 = positions.iter().map(|position| position.bytes).sum();
    let waits = match &case.config.hub {
        Some(_) => format!(", {unsent} wait for the hub"),
        None => String::new(),
    };
    let most = case.config.journal.max_bytes >> 20;
    found.push(Finding::good(
        "journal",
        format!("whole, {kept} records, {} of {most} MiB{waits}", bytes >> 20),
    ));
}

/// Journals that were damaged.
fn set_aside(data: &Path) -> Vec<String> {
    let Ok(read) = std::fs::read_dir(data) else { return Vec::new() };
    let names = read.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("journal.damaged-") && !name.contains("-wal")).collect();
    names.sort();
    names
}

/// What a node that cannot be asked said last of its parts, where it was nothing good.
pub(super) fn last_words(data: &Path, found: &mut Vec<Finding>) {
    let Ok(reader) = Reader::open(data) else { return };
    let stream = StreamName::new("events").expect("a good name");
    let mut last: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (record, _) in reader.latest(&stream, EVENTS).unwrap_or_default() {
        let body = record.body.get();
        // What a newer node wrote and this one cannot read says nothing here.
        match record.kind.as_str() {
            SourceChange::KIND => {
                if let Ok(change) = serde_json::from_str::<SourceChange>(body) {
                    last.insert(format!("source.{}", change.source), (change.state, change.reason));
                }
            }
            PartChange::KIND => {
                if let Ok(change) = serde_json::from_str::<PartChange>(body) {
                    last.insert(change.part, (change.state, change.reason));
                }
            }
            _ => {}
        }
    }
    for (part, (state, reason)) in last {
        if state == "failed" {
            let help =
                "so it was when the journal last heard of it; start the node to see whether it still is";
            found.push(Finding::note(&part, format!("failed: {reason}"), help));
        }
    }
}
