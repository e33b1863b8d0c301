//! The slots of a model, and their file: what serves, what served before, what is on trial, what is refused for good.
//!
//! `<data>/slots/<model>.json`, and beside it `<model>.json.old`, the state before, for the day when the disk has damaged
//! the first. One write changes everything at once: there is no pointer that could point at nothing.

use std::path::{Path, PathBuf};

use package::digest::Digest;
use package::disk::checked::{Checked, Damage};
use package::disk::{Disk, FileError, make_folders, read_whole, sync_folder_of, write_whole};
use package::name::{ModelName, VariantName};
use package::store::collect::Root;
use package::trust::shadow::Limits;
use serde::{Deserialize, Serialize};
use wire::id::BootId;
use wire::world::{MonoNs, WallMs};

use crate::install::trial::Trial;

/// The largest file that is read.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// A variant of a release, as it stands in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The release's number.
    pub release: u64,
    /// The release: the index that was signed.
    pub index: Digest,
    /// The variant's manifest.
    pub manifest: Digest,
    /// The variant's name.
    pub variant: VariantName,
    /// Its weights.
    pub weights: Digest,
    /// Its golden set, if it has one.
    #[serde(default)]
    pub golden: Option<Digest>,
    /// When it passed its trial.
    #[serde(default)]
    pub committed_ms: Option<WallMs>,
    /// The rollout that ordered it, if one did.
    #[serde(default)]
    pub rollout: Option<String>,
}

/// How far a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its blobs are coming.
    Staging,
    /// They are all here.
    Staged,
    /// It answers its golden set, in a process of its own.
    Proving,
    /// It answers beside the current one, and is compared.
    Shadow,
    /// It answers instead of the current one.
    Trial,
}

impl Phase {
    /// Whether the model runs in it: then a node that stops without having been asked to may have stopped because of it.
    pub fn runs(self) -> bool {
        matches!(self, Phase::Proving | Phase::Shadow | Phase::Trial)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Staging => "staging",
            Phase::Staged => "staged",
            Phase::Proving => "proving",
            Phase::Shadow => "shadow",
            Phase::Trial => "trial",
        }
    }
}

/// A model on its way into the slot `current`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it is.
    pub slot: Slot,
    /// How far it is.
    pub phase: Phase,
    /// In which run of the node it got there.
    pub boot: BootId,
    /// In which run of the machine's kernel it last began to run, if that is known.
    #[serde(default)]
    pub kernel: Option<BootId>,
    /// How often it was proven, this time included.
    pub attempt: u32,
    /// How often it, or the node under it, stopped without a result. Two refuse it.
    pub misses: u32,
    /// What proving measured.
    #[serde(default)]
    pub proof: Option<Measured>,
    /// It was ordered to answer beside the current one, and never becomes that.
    #[serde(default)]
    pub beside: Option<Beside>,
}

/// The order to answer beside the current one, and how far it was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The assignment's id and version: what was followed to its end is not begun again.
    pub word: String,
    /// How far, and what it may cost.
    pub limits: Limits,
    /// How many of its answers were compared.
    #[serde(default)]
    pub compared: u64,
    /// Whether the hub was told that it runs.
    #[serde(default)]
    pub is_told: bool,
}

/// What was measured of a model here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// From its file to its first answer.
    #[serde(default)]
    pub load_ms: Option<u32>,
    /// 95 of 100 answers took at most this.
    #[serde(default)]
    pub p95_ms: Option<u32>,
    /// The most memory that it took.
    #[serde(default)]
    pub rss_bytes: Option<u64>,
    /// How much of that is its own: what the process that proved it had more at its most than before it looked at it.
    #[serde(default)]
    pub own_bytes: Option<u64>,
}

/// How far a spare is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SparePhase {
    /// Its blobs are coming.
    Staging,
    /// They are all here.
    Staged,
    /// It answers its golden set, in a process of its own.
    Proving,
    /// It has proven itself, and stands by.
    Ready,
}

impl SparePhase {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            SparePhase::Staging => "staging",
            SparePhase::Staged => "staged",
            SparePhase::Proving => "proving",
            SparePhase::Ready => "ready",
        }
    }
}

/// A smaller variant of the current release, for the time when memory is short. It never becomes current, and no rollout counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// What it is; `committed_ms` says since when it stands by.
    pub slot: Slot,
    /// How far it is.
    pub phase: SparePhase,
    /// How often it, or the node under it, stopped without a result. Two are enough.
    #[serde(default)]
    pub misses: u32,
}

/// A manifest that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub manifest: Digest,
    /// Of which release.
    pub index: Digest,
    /// Why.
    pub why: String,
    /// When.
    pub at_ms: WallMs,
}

/// What someone who may has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The release's number.
    pub release: u64,
    /// The release: the index that was signed.
    pub index: Digest,
    /// A variant by name, instead of the best one.
    #[serde(default)]
    pub variant: Option<VariantName>,
    /// Whether an older release than the current one may come.
    #[serde(default)]
    pub allow_rollback: bool,
    /// What was refused of this release is forgiven, once for each such word: the assignment's id and version.
    #[serde(default)]
    pub forgive: Option<String>,
    /// The rollout that it is part of.
    #[serde(default)]
    pub rollout: Option<String>,
    /// It shall answer beside the current one, and not instead of it.
    #[serde(default)]
    pub beside: Option<Beside>,
    /// The trust state that accepted the order.
    pub trust_sequence: u64,
}

/// How a candidate ended, or what else became of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is the current one now.
    Committed,
    /// It is not tried again.
    Refused,
    /// It stopped without a result, and is tried once more.
    Missed,
    /// It answers beside the current one, as it was ordered to.
    Beside,
    /// It answered beside the current one, and is gone.
    Compared,
    /// Another order came.
    Superseded,
    /// No variant fits this machine.
    Unfit,
    /// The current one did not start, the previous one is back.
    FellBack,
    /// A person took the previous one back.
    RolledBack,
    /// Nothing starts: no model is loaded.
    Safe,
}

impl Outcome {
    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Committed => "committed",
            Outcome::Refused => "refused",
            Outcome::Missed => "missed",
            Outcome::Beside => "beside",
            Outcome::Compared => "compared",
            Outcome::Superseded => "superseded",
            Outcome::Unfit => "unfit",
            Outcome::FellBack => "fell_back",
            Outcome::RolledBack => "rolled_back",
            Outcome::Safe => "safe",
        }
    }
}

/// The result of an installation, on its way into the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `<boot>-<n>`; whoever gets it twice takes it once.
    pub id: String,
    /// The release's number.
    pub release: u64,
    /// The release.
    pub index: Digest,
    /// The variant's manifest, if one was chosen.
    pub manifest: Option<Digest>,
    /// The variant, if one was chosen.
    pub variant: Option<VariantName>,
    /// What happened.
    pub outcome: Outcome,
    /// How far the candidate was.
    pub phase: Option<Phase>,
    /// Why, for people.
    pub why: String,
    /// How often it was proven.
    pub attempt: u32,
    /// What was measured of it here.
    pub measured: Measured,
    /// The rollout that ordered it, if one did.
    #[serde(default)]
    pub rollout: Option<String>,
    /// Whether the kernel is the one in which the candidate last began to run, if that is known.
    #[serde(default)]
    pub kernel_same: Option<bool>,
}

/// What lasts: the file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The newest trust state that any of this came from.
    pub trust_sequence: u64,
    /// What serves.
    pub current: Option<Slot>,
    /// What served before.
    pub previous: Option<Slot>,
    /// What may serve.
    pub candidate: Option<Candidate>,
    /// What serves instead of `current` when memory is short.
    pub spare: Option<Spare>,
    /// The release that has no spare here for good, and why.
    pub spareless: Option<(Digest, String)>,
    /// What was ordered and of which no variant is chosen yet.
    pub wanted: Option<Order>,
    /// What is not tried again.
    pub refused: Vec<Refusal>,
    /// What manifests cost here, the newest last.
    pub measured: Vec<(Digest, Measured)>,
    /// The last word that forgave.
    pub forgiven: Option<String>,
    /// The last order to answer beside the current one that was followed to its end.
    pub compared: Option<String>,
    /// The release of which nothing fitted, and why: told once.
    pub unfit: Option<(Digest, String)>,
    /// How often `current` was loaded since it last answered.
    pub unproven_starts: u32,
    /// Why no model is loaded.
    pub safe: Option<String>,
    /// The node was asked to stop, and what runs is not to blame.
    pub paused: bool,
    /// What the journal does not have yet.
    pub reports: Vec<Report>,
    /// How many reports there ever were.
    pub reported: u64,
}

/// What a run of the node knows beside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// What is loaded, or being loaded.
    pub serving: Option<Serving>,
    /// When the candidate goes on.
    pub retry_ns: Option<MonoNs>,
    /// The candidate's counts.
    pub trial: Option<Trial>,
    /// Since when the candidate answers beside the current one, if it was ordered to.
    pub beside_ns: Option<MonoNs>,
    /// What is going on with the spare.
    pub spare: SpareRun,
    /// Nothing here lets this model answer, as on a node whose `[serve]` was taken out. Said anew before each event, by whoever carries
    /// out.
    pub unserved: bool,
}

/// What a run of the node knows of a spare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpareRun {
    /// Whether something is being done for it.
    pub is_at_work: bool,
    /// When it goes on.
    pub retry_ns: Option<MonoNs>,
    /// Why it waits, for people.
    pub waits: Option<String>,
    /// Since when it answers instead of the current one.
    pub over_ns: Option<MonoNs>,
}

/// A model that is loaded, or being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Which.
    pub manifest: Digest,
    /// Since when it is loaded.
    pub since_ns: Option<MonoNs>,
}

/// All that is known of one model's slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// What lasts.
    pub kept: Kept,
    /// What this run knows beside.
    pub run: Run,
}

impl Kept {
    /// Whether a manifest is not tried again, and why.
    pub fn refusal(&self, manifest: &Digest) -> Option<&Refusal> {
        self.refused.iter().find(|refusal| refusal.manifest == *manifest)
    }

    /// The candidate, if it was ordered to answer beside the current one.
    pub fn beside(&self) -> Option<(&Candidate, &Beside)> {
        let candidate = self.candidate.as_ref()?;
        Some((candidate, candidate.beside.as_ref()?))
    }

    /// Whether something is on its way into the slot `current`, or may come to be.
    pub fn is_changing(&self) -> bool {
        let candidate = self.candidate.as_ref().is_some_and(|candidate| candidate.beside.is_none());
        candidate || self.wanted.as_ref().is_some_and(|order| order.beside.is_none())
    }

    /// The spare that could serve now, with what it would serve instead of.
    pub fn spare_at_hand(&self) -> Option<(&Slot, &Spare)> {
        let spare = self.spare.as_ref().filter(|spare| spare.phase == SparePhase::Ready)?;
        Some((self.current.as_ref()?, spare))
    }

    /// What a manifest cost here, if that is remembered.
    pub fn measured_of(&self, manifest: &Digest) -> Option<Measured> {
        self.measured.iter().rev().find(|(known, _)| known == manifest).map(|(_, measured)| *measured)
    }

    /// What of the store these slots need.
    pub fn roots(&self) -> Vec<Root> {
        let spare = self.spare.iter().flat_map(|spare| roots_of(&spare.slot));
        self.firm_roots().into_iter().chain(spare).collect()
    }

    /// The same without what is but a spare: a state that was written over holds nothing for one, so that it makes room at once.
    pub fn firm_roots(&self) -> Vec<Root> {
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.slot);
        let slots = [self.current.as_ref(), self.previous.as_ref(), candidate].into_iter().flatten();
        let needed = slots.flat_map(roots_of);
        needed.chain(self.wanted.iter().map(|order| Root::Leaf(order.index))).collect()
    }
}

/// What of the store a slot needs.
fn roots_of(slot: &Slot) -> [Root; 2] {
    [Root::Leaf(slot.index), Root::Tree(slot.manifest)]
}

/// Slots that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// Neither the file nor the one before it can be used.
    #[error(
        "the slots of {model} cannot be read from {}, nor from the .old beside it; remove both to begin anew",
        path.display()
    )]
    Lost {
        /// Whose.
        model: ModelName,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file of one model's slots.
#[derive(Debug)]
pub struct SlotsFile<D> {
    disk: D,
    path: PathBuf,
    sequence: u64,
    /// What stands in the file, as bytes; empty: nothing yet.
    written: Vec<u8>,
}

/// What a file says, or what is wrong with it.
type Found = Result<(Checked, Kept), Damage>;

/// What opening found.
#[derive(Debug)]
pub struct Opened<D> {
    /// The file.
    pub file: SlotsFile<D>,
    /// What stands in it.
    pub kept: Kept,
    /// The file was damaged, and this is the state before; to be told.
    pub is_old: bool,
    /// What the state before needs of the store; the collection keeps that, too.
    pub old_roots: Vec<Root>,
}

impl<D: Disk> SlotsFile<D> {
    /// Opens a model's file in `folder`; nothing there is the beginning.
    pub fn open(disk: D, folder: &Path, model: &ModelName) -> Result<Opened<D>, SlotsError> {
        make_folders(&disk, folder)?;
        let path = folder.join(format!("{model}.json"));
        // A process may have died after it moved the file to its place, and before that was durable: now others rely on it.
        sync_folder_of(&disk, &path)?;
        let read = |path: &Path| -> Result<Option<Found>, FileError> {
            let Some(bytes) = read_whole(&disk, path, FILE_MAX_BYTES)? else { return Ok(None) };
            let read = Checked::parse(&bytes).and_then(|checked| {
                let kept = serde_json::from_slice(&checked.body).map_err(|_| Damage::Damaged)?;
                Ok((checked, kept))
            });
            Ok(Some(read))
        };
        let old = read(&old_of(&path))?;
        let old_roots = match &old {
            Some(Ok((_, kept))) => kept.firm_roots(),
            _ => Vec::new(),
        };
        let (checked, kept, is_old) = match (read(&path)?, old) {
            (Some(Ok((checked, kept))), _) => (Some(checked), kept, false),
            (None, None) => (None, Kept::default(), false),
            (Some(Err(source @ Damage::Form { .. })), _) => {
                return Err(SlotsError::Lost { model: model.clone(), path, source });
            }
            (_, Some(Ok((checked, kept)))) => (Some(checked), kept, true),
            (Some(Err(source)), _) | (None, Some(Err(source))) => {
                return Err(SlotsError::Lost { model: model.clone(), path, source });
            }
        };
        let sequence = checked.as_ref().map_or(0, |checked| checked.sequence);
        let written = checked.map_or_else(Vec::new, |checked| checked.to_bytes());
        Ok(Opened { file: SlotsFile { disk, path, sequence, written }, kept, is_old, old_roots })
    }

    /// Makes a state durable; only after `Ok` may anything be done by it. After an error the one before holds, whichever
    /// of the two stands on the disk.
    pub fn write(&mut self, kept: &Kept) -> Result<(), FileError> {
        let body = serde_json::to_vec(kept).map_err(|error| FileError::at(&self.path)(error.into()))?;
        let bytes = Checked { sequence: self.sequence + 1, body }.to_bytes();
        if !self.written.is_empty() {
            write_whole(&self.disk, &old_of(&self.path), &self.written)?;
        }
        write_whole(&self.disk, &self.path, &bytes)?;
        (self.sequence, self.written) = (self.sequence + 1, bytes);
        Ok(())
    }
}

fn old_of(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    PathBuf::from(old)
}

#[cfg(test)]
mod tests {
    use package::disk::simulated::{Cut, Simulated};

    use super::*;

    fn kept(release: u64) -> Kept {
        let digest = Digest::of(&release.to_le_bytes());
        let (variant, committed_ms) = (VariantName::new("q4_k_m").unwrap(), Some(7));
        let (index, manifest, weights, golden, rollout) = (digest, digest, digest, None, None);
        let slot = Slot { release, index, manifest, variant, weights, golden, committed_ms, rollout };
        Kept { current: Some(slot), unproven_starts: 1, ..Kept::default() }
    }

    fn open(disk: &Simulated) -> Result<Opened<Simulated>, SlotsError> {
        SlotsFile::open(disk.clone(), Path::new("/data/slots"), &ModelName::new("tiny").unwrap())
    }

    fn write(disk: &Simulated, releases: &[u64]) -> bool {
        open(disk)
            .is_ok_and(|mut opened| releases.iter().all(|release| opened.file.write(&kept(*release)).is_ok()))
    }

    #[test]
    fn a_cut_at_any_point_leaves_a_state_that_was_written() {
        for point in 0.. {
            for seed in 0..20 {
                let disk = Simulated::new();
                assert!(write(&disk, &[1, 2]));
                disk.dies_at(disk.points() + point);
                let done = write(&disk, &[3, 4]);
                disk.cut(Cut::Hostile, seed);
                let opened = open(&disk).unwrap();
                let release = opened.kept.current.as_ref().unwrap().release;
                assert!(!opened.is_old && (2..=4).contains(&release) && (!done || release == 4));
                assert_eq!(opened.kept, kept(release));
                let older = Root::Leaf(kept(release - 1).current.unwrap().index);
                assert!(opened.old_roots.contains(&older) || opened.kept.roots()[0] == opened.old_roots[0]);
                if done && seed == 19 {
                    return;
                }
            }
        }
    }

    #[test]
    fn the_very_first_state_is_there_or_not() {
        for point in 0.. {
            let disk = Simulated::new();
            disk.dies_at(point);
            let done = write(&disk, &[1]);
            disk.cut(Cut::Ordered, point);
            let found = open(&disk).unwrap().kept;
            assert!(found == kept(1) || !done && found == Kept::default());
            if done {
                break;
            }
        }
    }

    #[test]
    fn a_damaged_file_is_found_out_and_the_one_before_used() {
        let disk = Simulated::new();
        assert!(write(&disk, &[1, 2]));
        let path = Path::new("/data/slots/tiny.json");
        let newer = r#"{"form":2,"sequence":1,"length":0,"sha256":"X"}"#.replace('X', &"0".repeat(64)) + "\n";
        write_whole(&disk, path, newer.as_bytes()).unwrap();
        assert!(matches!(open(&disk), Err(SlotsError::Lost { source: Damage::Form { found: 2 }, .. })));
        write_whole(&disk, path, b"{}").unwrap();
        let mut opened = open(&disk).unwrap();
        assert!(opened.is_old);
        assert_eq!(opened.kept, kept(1));
        opened.file.write(&kept(3)).unwrap();
        assert_eq!(open(&disk).unwrap().kept, kept(3));
        for file in [path, &old_of(path)] {
            write_whole(&disk, file, b"{}").unwrap();
        }
        assert!(matches!(open(&disk), Err(SlotsError::Lost { source: Damage::Damaged, .. })));
    }

    #[test]
    fn the_slots_say_what_they_need() {
        let mut slots = kept(1);
        slots.previous = kept(2).current;
        let digest = |release: u64| Digest::of(&release.to_le_bytes());
        let expected =
            [1, 2].map(|release| [Root::Leaf(digest(release)), Root::Tree(digest(release))]).concat();
        assert_eq!(slots.roots(), expected);
        let slot = kept(3).current.unwrap();
        slots.spare = Some(Spare { slot, phase: SparePhase::Ready, misses: 0 });
        assert_eq!(slots.firm_roots(), expected, "a spare holds nothing once it is gone");
        assert_eq!(slots.roots()[4..], [Root::Leaf(digest(3)), Root::Tree(digest(3))]);
        assert_eq!(
            slots.spare_at_hand().map(|(current, spare)| (current.release, spare.slot.release)),
            Some((1, 3))
        );
    }
}
