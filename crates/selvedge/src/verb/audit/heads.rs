//! The heads of nodes' chains in a bundle of evidence: which of the hourly lists prove its chains, and whether they do.
//!
//! The log has the SHA-256 of each list; a list says of each stream how many records it had come to and the hash over them. So
//! what a bundle shows of a node is held to what the hub published in that hour, whoever made the bundle.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;
use wire::hash::Hash;

/// Among how many lists, the newest first, those are looked for that prove a chain: about two weeks of them.
pub(super) const LISTS_MAX: usize = 400;

/// A list that the log tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Which entry of the log, the first being 0.
    pub(super) entry: u64,
    /// What the hub calls its file.
    pub(super) file: String,
    /// SHA-256 of its lines.
    lines: Hash,
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Head {
    pub(super) node: String,
    pub(super) journal: String,
    pub(super) stream: String,
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Told {
    /// What an entry of the log tells, if it is one about heads.
    pub(super) fn of(entry: u64, said: &Value) -> Option<Told> {
        let after = said.get("after").filter(|_| said["act"] == "heads")?;
        let (file, lines) = (after["file"].as_str()?, Hash::parse(after["lines"].as_str()?)?);
        let is_plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        is_plain.then(|| Told { entry, file: file.to_owned(), lines })
    }

    /// Where it lies in a bundle.
    pub(super) fn place(&self) -> String {
        format!("heads/{}", self.file.trim_end_matches(".zst"))
    }

    /// Its lines, if these bytes are them.
    pub(super) fn read(&self, bytes: &[u8]) -> anyhow::Result<Vec<Head>> {
        ensure!(Hash::of(bytes) == self.lines, "{} is not the list that the log tells of", self.place());
        let text = std::str::from_utf8(bytes).with_context(|| self.place())?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| self.place())).collect()
    }
}

/// The lists that are in a bundle, each held to what the log tells of it. `file`: what lies at a place.
pub(super) fn lists(
    told: &[Told],
    names: &[String],
    file: impl Fn(&str) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<Head>> {
    let told: BTreeMap<String, &Told> = told.iter().map(|told| (told.place(), told)).collect();
    let mut heads = Vec::new();
    for name in names {
        let told = told.get(name).with_context(|| format!("no entry of the log tells of {name}"))?;
        heads.extend(told.read(&file(name)?)?);
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_what_the_log_tells_of_or_it_is_refused() {
        let line =
            json!({"hash": "00".repeat(32), "journal": "a0", "node": "p", "seq": 7, "stream": "installs"});
        let text = format!("{line}\n");
        let hash = Hash::of(text.as_bytes()).to_string();
        let after = json!({"file": "5-ab.jsonl.zst", "lines": hash, "sha256": "x"});
        let told = Told::of(4, &json!({"act": "heads", "after": after})).unwrap();
        let names = ["heads/5-ab.jsonl".to_owned()];
        let found = lists(std::slice::from_ref(&told), &names, |_| Ok(text.clone().into())).unwrap();
        assert_eq!((found[0].seq, found[0].stream.as_str(), told.entry), (7, "installs", 4));
        let changed = lists(&[told], &names, |_| Ok(text.replace('7', "8").into())).unwrap_err();
        assert!(changed.to_string().contains("is not the list that the log tells of"), "{changed}");
        let unknown = lists(&[], &names, |_| Ok(text.clone().into())).unwrap_err();
        assert!(unknown.to_string().contains("no entry of the log tells of heads/5-ab"), "{unknown}");
        for (act, file) in [("heads", "../a"), ("heads", "a/b"), ("deny", "5.jsonl.zst")] {
            assert_eq!(
                Told::of(0, &json!({"act": act, "after": {"file": file, "lines": hash}})),
                None,
                "{file}"
            );
        }
    }
}
