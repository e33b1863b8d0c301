//! Whether the node dies again and again, and what it does without then: first its language models and networks, and any part
//! of the flow that it died of several times.
//!
//! A start counts until the node has run for a minute in which every thread got somewhere ([`QUIET`]), or was told to end. What
//! is left out stays out for that run. A person who ends the node and starts it again gives all of it one more chance.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use package::disk::FileError;
use serde::{Deserialize, Serialize};

use crate::durable;

/// The file in the data folder.
pub const FILE: &str = "starts.json";

/// A run that lasted so long was a good one. Longer than the patience with a thread, or one that hangs from the start were good.
pub const QUIET: Duration = Duration::from_secs(60);

/// So many starts in a row that were not: models are left out.
pub const STARTS_MAX: u32 = 4;

/// It died so often of one part: that part is left out.
pub const BLAMED_MAX: u32 = 3;

/// The largest file that is read.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// The most parts that are remembered.
const PARTS_MAX: usize = 256;

/// What is kept of earlier starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Starts {
    /// Starts in a row without a quiet minute.
    pub restless: u32,
    /// How often the node died while it was busy with a part, without a quiet minute in between.
    pub blamed: BTreeMap<String, u32>,
}

/// What this run does without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Why models are; `None`: they are not.
    pub models: Option<String>,
    /// Which parts of the flow, and why.
    pub parts: BTreeMap<String, String>,
}

impl Starts {
    /// A start; `died_at`: the part that the life before was busy with when it died.
    #[must_use]
    pub fn begin(mut self, died_at: Option<&str>) -> (Starts, LeftOut) {
        self.restless = self.restless.saturating_add(1);
        if let Some(part) = died_at
            && (self.blamed.contains_key(part) || self.blamed.len() < PARTS_MAX)
        {
            let times = self.blamed.entry(part.to_owned()).or_default();
            *times = times.saturating_add(1);
        }
        let models = (self.restless >= STARTS_MAX).then(|| {
            let died = self.restless - 1;
            format!("the node ended {died} times in a row within a minute of its start: it runs without language models, releases and networks until it is started again")
        });
        let parts = self.blamed.iter().filter(|(_, times)| **times >= BLAMED_MAX).map(|(part, times)| {
            let why = format!("the node died {times} times while it was busy with it: it is left out until the node is started again");
            (part.clone(), why)
        });
        let left_out = LeftOut { models, parts: parts.collect() };
        (self, left_out)
    }

    /// The run was quiet for a minute: what took part in it is not to blame.
    #[must_use]
    pub fn quiet(mut self, left_out: &LeftOut) -> Starts {
        self.restless = 0;
        self.blamed.retain(|part, _| left_out.parts.contains_key(part));
        self
    }

    /// The node was told to end: what was left out has one more chance.
    #[must_use]
    pub fn ended(mut self) -> Starts {
        self.restless = 0;
        self.blamed.values_mut().for_each(|times| *times = (*times).min(BLAMED_MAX - 1));
        self
    }

    /// What was kept. A file that cannot be read counts as none: it must not keep the node from starting.
    pub fn load(data: &Path) -> Starts {
        let read = durable::read(&data.join(FILE), FILE_MAX_BYTES);
        let bytes = read.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps it.
    pub fn save(&self, data: &Path) -> Result<(), FileError> {
        durable::write(&data.join(FILE), &serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_dies_again_and_again_runs_without_its_models() {
        let mut starts = Starts::default();
        for start in 1..=6 {
            let (next, left_out) = starts.begin(None);
            assert_eq!(left_out.models.is_some(), start >= STARTS_MAX, "{start}");
            assert!(left_out.parts.is_empty());
            starts = next;
        }
        // A quiet minute, or a person who ends it.
        assert_eq!(starts.clone().quiet(&LeftOut::default()).begin(None).1, LeftOut::default());
        assert_eq!(starts.ended().begin(None).1, LeftOut::default());
    }

    #[test]
    fn a_part_that_it_dies_of_is_left_out_and_tried_again_when_a_person_starts_it() {
        let mut starts = Starts::default();
        let mut left = Vec::new();
        for died_at in [None, Some("source.a"), Some("source.b"), Some("source.a"), Some("source.a")] {
            let (next, left_out) = starts.begin(died_at);
            left.push(left_out.parts.into_keys().collect::<Vec<_>>());
            starts = next;
        }
        assert_eq!(left, [vec![], vec![], vec![], vec![], vec!["source.a".to_owned()]]);
        // Without it the node has its quiet minute, and goes on without; `b` took part in that.
        let (_, left_out) = starts.clone().begin(None);
        let kept = starts.clone().quiet(&left_out);
        assert_eq!(kept.blamed.keys().collect::<Vec<_>>(), ["source.a"]);
        assert_eq!(kept.clone().begin(None).1.parts.len(), 1, "the machine was switched off and on");
        // A person starts it again: once more, and out at the first death.
        let (again, left_out) = kept.ended().begin(None);
        assert_eq!(left_out, LeftOut::default());
        assert_eq!(again.begin(Some("source.a")).1.parts.len(), 1);
    }

    #[test]
    fn what_is_kept_never_keeps_the_node_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Starts::load(folder.path()), Starts::default());
        let starts = Starts { restless: 2, blamed: BTreeMap::from([("source.a".to_owned(), 1)]) };
        starts.save(folder.path()).unwrap();
        assert_eq!(Starts::load(folder.path()), starts);
        for bytes in [&b"{"[..], b"[]", b"{\"restless\":-1}", &[b' '; 100_000]] {
            std::fs::write(folder.path().join(FILE), bytes).unwrap();
            assert_eq!(Starts::load(folder.path()), Starts::default());
        }
    }
}
