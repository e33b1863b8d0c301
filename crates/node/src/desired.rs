//! What came down in the answer to a check-in: documents, labels, commands. Decides what is to be done by it; pure, but for
//! the file that keeps how far the hub was followed.
//!
//! The highest revision and the hub's id are durable before anything is done by an answer, so that a hub which was restored
//! from an older backup is found out by the next check-in. Documents come again until they are accepted, so nothing is lost
//! if the power goes in between. The hub is believed in nothing that changes what runs: that is for signatures.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use package::disk::checked::{Checked, Damage};
use package::disk::{Disk, FileError, read_whole, sync_folder_of, write_whole};
use package::tlog::note::Checkpoint;
use serde::{Deserialize, Serialize};
use wire::checkin::{Ack, CheckInAnswer, Command, DOCUMENTS_MAX, Document, HubLabels};

/// The largest file that is read.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// The most labels that a hub may set, and the most bytes of a name or a value.
const LABELS_MAX: usize = 64;
const LABEL_MAX_BYTES: usize = 256;
/// The most commands of one answer, and of so many it is remembered that they were done.
const COMMANDS_MAX: usize = 64;
/// The most bytes of a hub's id.
const HUB_MAX_BYTES: usize = 128;

/// The most bytes of a checkpoint of the hub's log, and the most checkpoints that are kept.
const CHECKPOINT_MAX_BYTES: usize = 4096;
const CHECKPOINTS_MAX: usize = 8;

/// The file in the data folder that says how far the hub was followed.
pub const FILE: &str = "hub.json";

/// How far the hub was followed; what lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The hub's id.
    pub hub: Option<String>,
    /// The highest revision.
    pub revision: u64,
    /// The labels that it has set.
    pub labels: HubLabels,
    /// Checkpoints of its log, signed notes as they came, the largest last: a hub that shows another past is found out by them.
    pub checkpoints: Vec<String>,
}

impl Kept {
    /// The largest checkpoint.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoints.last().and_then(|note| Checkpoint::parse(note).ok())
    }
}

/// How far the hub was followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Following {
    /// What lasts.
    pub kept: Kept,
    /// What the hub has to hear of its commands.
    pub acks: Vec<Ack>,
    /// The commands that were carried out in this run, the oldest first.
    done: VecDeque<u64>,
}

impl Following {
    /// As an earlier life left it.
    pub fn of(kept: Kept) -> Following {
        Following { kept, ..Following::default() }
    }
}

/// What this node lets the hub do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lets {
    /// It may set labels.
    pub labels: bool,
    /// It may hand out documents: there is somebody who takes them.
    pub documents: bool,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write what lasts; nothing else may be done before that is durable.
    Persist,
    /// The labels are others now.
    Relabel,
    /// Judge these, and keep those that hold.
    Take(Vec<Document>),
    /// Bring the trust metadata and all assignments up to date.
    RefreshTrust,
    /// Say all facts at the next check-in.
    ReportFull,
    /// Check in again at once.
    CheckIn,
    /// Tell a person.
    Tell(String),
}

/// Takes an answer. If what lasts changed, the first effect is [`Effect::Persist`].
pub fn take(before: &Following, answer: &CheckInAnswer, lets: Lets) -> (Following, Vec<Effect>) {
    let mut turn = Turn { now: before.clone(), effects: Vec::new() };
    // What was told has arrived.
    turn.now.acks.clear();
    if answer.full {
        turn.effects.push(Effect::ReportFull);
    }
    // A hub that finds itself behind this node hands out nothing, and what it says of itself must not be learnt.
    if answer.paused.is_none() {
        turn.follow(answer, lets);
    }
    let Turn { now, mut effects } = turn;
    if now.kept != before.kept {
        effects.insert(0, Effect::Persist);
    }
    (now, effects)
}

struct Turn {
    now: Following,
    effects: Vec<Effect>,
}

impl Turn {
    fn follow(&mut self, answer: &CheckInAnswer, lets: Lets) {
        let hub = answer.hub.as_ref().filter(|hub| hub.len() <= HUB_MAX_BYTES);
        if let Some(hub) = hub.filter(|hub| self.now.kept.hub.as_ref() != Some(*hub)) {
            if let Some(before) = self.now.kept.hub.replace(hub.clone()) {
                let words =
                    format!("the hub is {hub} now, it was {before}: its revisions and labels begin anew");
                self.effects.push(Effect::Tell(words));
            }
            self.now.kept = Kept { hub: self.now.kept.hub.take(), ..Kept::default() };
        }
        if let Some(note) = answer.checkpoint.as_ref().filter(|note| note.len() <= CHECKPOINT_MAX_BYTES) {
            self.witness(note);
        }
        if let Some(labels) = answer.labels.as_ref().filter(|_| lets.labels) {
            self.relabel(labels);
        }
        if let Some(desired) = &answer.desired {
            if desired.revision < self.now.kept.revision {
                let (found, highest) = (desired.revision, self.now.kept.revision);
                let words =
                    format!("the hub is at revision {found}, and was at {highest}: nothing of it is taken");
                self.effects.push(Effect::Tell(words));
            } else {
                self.now.kept.revision = desired.revision;
                let documents: Vec<Document> =
                    desired.documents.iter().take(DOCUMENTS_MAX).cloned().collect();
                if !documents.is_empty() && lets.documents {
                    self.effects.push(Effect::Take(documents));
                }
            }
        }
        for command in answer.commands.iter().take(COMMANDS_MAX) {
            if answer.hub_ms <= command.until_ms {
                self.obey(command, lets);
            }
        }
    }

    /// Keeps a larger checkpoint beside those before: one of many small ones goes, so that what is left reaches far back, and
    /// a hub that rewrote its log cannot flush them out.
    fn witness(&mut self, note: &str) {
        let Ok(new) = Checkpoint::parse(note) else { return };
        let kept = &mut self.now.kept;
        if kept.checkpoint().is_some_and(|largest| largest.size >= new.size) {
            return;
        }
        kept.checkpoints.push(note.to_owned());
        if kept.checkpoints.len() > CHECKPOINTS_MAX {
            let sizes = kept.checkpoints.iter().map(|note| Checkpoint::parse(note).map_or(0, |it| it.size));
            let sizes: Vec<u64> = sizes.collect();
            // The one whose neighbours are nearest to each other; never the oldest, never the largest.
            let inner = (1..sizes.len() - 1).min_by_key(|at| sizes[at + 1].saturating_sub(sizes[at - 1]));
            inner.map(|at| kept.checkpoints.remove(at));
        }
    }

    fn relabel(&mut self, labels: &HubLabels) {
        let fits = |text: &String| text.len() <= LABEL_MAX_BYTES;
        let is_small = labels.set.len() <= LABELS_MAX
            && labels.set.iter().all(|(name, value)| fits(name) && fits(value));
        if labels.rev > self.now.kept.labels.rev && is_small {
            self.now.kept.labels = labels.clone();
            self.effects.push(Effect::Relabel);
        }
    }

    /// Carries a command out, once a run; it is acknowledged as often as it comes.
    fn obey(&mut self, command: &Command, lets: Lets) {
        let effect = match command.order.as_str() {
            "report_full" => Ok(Effect::ReportFull),
            "check_in" => Ok(Effect::CheckIn),
            "refresh_trust" if lets.documents => Ok(Effect::RefreshTrust),
            "refresh_trust" => Err("this node takes no packages, and has no trust to refresh".to_owned()),
            other => {
                let other: String = other.chars().take(64).collect();
                Err(format!("this node does not know {other:?}; a newer program may"))
            }
        };
        let (done, why) = (effect.is_ok(), effect.as_ref().err().cloned().unwrap_or_default());
        self.now.acks.push(Ack { id: command.id, done, why });
        if self.now.done.contains(&command.id) {
            return;
        }
        self.now.done.push_back(command.id);
        if self.now.done.len() > COMMANDS_MAX {
            self.now.done.pop_front();
        }
        self.effects.extend(effect.ok());
    }
}

/// The file of what lasts.
#[derive(Debug)]
pub struct KeptFile<D> {
    disk: D,
    path: PathBuf,
    sequence: u64,
}

impl<D: Disk> KeptFile<D> {
    /// Opens the file. One that is damaged is told, and counts as none: the hub says all of it again.
    pub fn open(disk: D, path: &Path) -> Result<(KeptFile<D>, Kept, Option<Damage>), FileError> {
        // A process may have died after it moved the file to its place, and before that was durable.
        sync_folder_of(&disk, path)?;
        let bytes = read_whole(&disk, path, FILE_MAX_BYTES)?;
        let read = bytes.map(|bytes| {
            let checked = Checked::parse(&bytes)?;
            let kept = serde_json::from_slice(&checked.body).map_err(|_| Damage::Damaged)?;
            Ok((checked.sequence, kept))
        });
        let ((sequence, kept), damage) = match read.transpose() {
            Ok(found) => (found.unwrap_or_default(), None),
            Err(damage) => (Default::default(), Some(damage)),
        };
        Ok((KeptFile { disk, path: path.to_owned(), sequence }, kept, damage))
    }

    /// Makes a state durable; only after `Ok` may anything be done by it.
    pub fn write(&mut self, kept: &Kept) -> Result<(), FileError> {
        let body = serde_json::to_vec(kept).map_err(|error| FileError::at(&self.path)(error.into()))?;
        let sequence = self.sequence + 1;
        write_whole(&self.disk, &self.path, &Checked { sequence, body }.to_bytes())?;
        self.sequence = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use package::disk::make_folders;
    use package::disk::simulated::{Cut, Simulated};
    use wire::checkin::Desired;

    use super::*;

    const ALL: Lets = Lets { labels: true, documents: true };

    fn document(text: &str) -> Document {
        Document::from_bytes(text.as_bytes()).unwrap()
    }

    fn answer(revision: u64, documents: &[&str]) -> CheckInAnswer {
        let documents = documents.iter().map(|text| document(text)).collect();
        let desired = Some(Desired { revision, documents });
        CheckInAnswer { hub: Some("a".into()), desired, ..CheckInAnswer::default() }
    }

    #[test]
    fn a_revision_is_kept_before_its_documents_are_taken_and_none_is_lower() {
        let begin = Following::default();
        let (at_7, effects) = take(&begin, &answer(7, &["1", "2"]), ALL);
        let documents = Effect::Take(vec![document("1"), document("2")]);
        assert_eq!(effects, [Effect::Persist, documents.clone()]);
        assert_eq!(at_7.kept, Kept { hub: Some("a".into()), revision: 7, ..Kept::default() });
        // Until they are accepted they come again, and there is nothing to write: a cut of power behind the first write, before
        // anybody took the documents, loses nothing.
        assert_eq!(
            take(&Following::of(at_7.kept.clone()), &answer(7, &["1", "2"]), ALL).1,
            std::slice::from_ref(&documents)
        );
        assert_eq!(take(&at_7, &answer(7, &["1", "2"]), ALL), (at_7.clone(), vec![documents]));
        let (same, effects) = take(&at_7, &answer(6, &["3"]), ALL);
        assert!(
            same == at_7 && matches!(&effects[..], [Effect::Tell(words)] if words.contains("revision 6"))
        );
        let (_, effects) = take(&at_7, &answer(8, &["x"; 20].map(|_| "4")), ALL);
        assert!(matches!(&effects[..], [Effect::Persist, Effect::Take(few)] if few.len() == DOCUMENTS_MAX));
        let nobody = Lets { documents: false, ..ALL };
        assert_eq!(take(&at_7, &answer(7, &["1"]), nobody).1, []);
    }

    #[test]
    fn another_hub_begins_anew_unless_it_finds_itself_behind() {
        let (at_7, _) = take(&Following::default(), &answer(7, &[]), ALL);
        let other = CheckInAnswer { hub: Some("b".into()), ..answer(2, &["1"]) };
        let behind = CheckInAnswer { paused: Some("hub-behind".into()), ..other.clone() };
        assert_eq!(
            take(&at_7, &behind, ALL),
            (at_7.clone(), vec![]),
            "its next check-in still tells of the first"
        );
        let (at_2, effects) = take(&at_7, &other, ALL);
        assert_eq!((at_2.kept.hub.as_deref(), at_2.kept.revision), (Some("b"), 2));
        assert!(matches!(&effects[..], [Effect::Persist, Effect::Tell(_), Effect::Take(_)]), "{effects:?}");
    }

    #[test]
    fn checkpoints_are_kept_far_back_and_never_a_smaller_one() {
        let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let noted = |size: u64| {
            let note = format!("log\n{size}\n{root}\n\n\u{2014} log AAAA\n");
            CheckInAnswer { checkpoint: Some(note), ..answer(1, &[]) }
        };
        let (mut now, effects) = take(&Following::default(), &noted(5), ALL);
        assert_eq!(effects.first(), Some(&Effect::Persist));
        assert_eq!(now.kept.checkpoint().unwrap().brief(), format!("5 {root}"));
        assert_eq!(take(&now, &noted(4), ALL), (now.clone(), vec![]), "a log never shrinks");
        for size in 6..500 {
            now = take(&now, &noted(size), ALL).0;
        }
        let size = |note: &String| Checkpoint::parse(note).unwrap().size;
        let sizes: Vec<u64> = now.kept.checkpoints.iter().map(size).collect();
        assert_eq!((sizes.len(), sizes[0], sizes[CHECKPOINTS_MAX - 1]), (CHECKPOINTS_MAX, 5, 499));
        assert!(sizes[CHECKPOINTS_MAX / 2] < 400, "{sizes:?}");
        let odd = CheckInAnswer { checkpoint: Some("x".repeat(100)), ..answer(1, &[]) };
        assert_eq!(take(&now, &odd, ALL).0, now);
        let behind = CheckInAnswer { paused: Some("hub-behind".into()), ..noted(9000) };
        assert_eq!(take(&now, &behind, ALL).0, now, "from a hub that is behind nothing is learnt");
    }

    #[test]
    fn labels_are_taken_whole_and_forward_only() {
        let labelled = |rev, value: &str| {
            let labels = HubLabels { rev, set: [("line".to_owned(), value.to_owned())].into() };
            CheckInAnswer { labels: Some(labels), ..answer(1, &[]) }
        };
        let (first, effects) = take(&Following::default(), &labelled(3, "2"), ALL);
        assert_eq!(effects, [Effect::Persist, Effect::Relabel]);
        assert_eq!(first.kept.labels.set["line"], "2");
        for old in [labelled(3, "9"), labelled(2, "9"), labelled(4, &"9".repeat(300))] {
            assert_eq!(take(&first, &old, ALL), (first.clone(), vec![]));
        }
        let refuses = Lets { labels: false, ..ALL };
        assert_eq!(
            take(&Following::default(), &labelled(3, "2"), refuses).0.kept.labels,
            HubLabels::default()
        );
    }

    #[test]
    fn commands_are_obeyed_once_and_acknowledged_until_the_hub_has_heard() {
        let command = |id, order: &str| Command { id, order: order.into(), until_ms: 100 };
        let told = |commands: &[Command]| CheckInAnswer {
            hub_ms: 100,
            commands: commands.to_vec(),
            ..answer(1, &[])
        };
        let all = told(&[
            command(1, "report_full"),
            command(2, "check_in"),
            command(3, "refresh_trust"),
            command(4, "install"),
            Command { until_ms: 99, ..command(5, "check_in") },
        ]);
        let (after, effects) = take(&Following::default(), &all, ALL);
        assert_eq!(effects, [Effect::Persist, Effect::ReportFull, Effect::CheckIn, Effect::RefreshTrust]);
        let acks: Vec<(u64, bool)> = after.acks.iter().map(|ack| (ack.id, ack.done)).collect();
        assert_eq!(acks, [(1, true), (2, true), (3, true), (4, false)], "what changes a node is no command");
        let (again, effects) = take(&after, &all, ALL);
        assert_eq!((effects, &again.acks), (vec![], &after.acks));
        assert_eq!(take(&again, &told(&[]), ALL).0.acks, []);
        let (full, effects) = take(&again, &CheckInAnswer { full: true, ..told(&[]) }, ALL);
        assert_eq!((full.acks, effects), (vec![], vec![Effect::ReportFull]));
    }

    #[test]
    fn what_was_kept_survives_a_cut_at_any_point() {
        let path = Path::new("/data/hub.json");
        let at = |revision| Kept { hub: Some("a".into()), revision, ..Kept::default() };
        let open = |disk: &Simulated| KeptFile::open(disk.clone(), path);
        let write = |disk: &Simulated, revision| {
            open(disk).is_ok_and(|(mut file, ..)| file.write(&at(revision)).is_ok())
        };
        for point in 0.. {
            let disk = Simulated::new();
            make_folders(&disk, Path::new("/data")).unwrap();
            assert!(write(&disk, 7));
            disk.dies_at(disk.points() + point);
            let done = write(&disk, 8);
            disk.cut(Cut::Hostile, point);
            let (_, kept, damage) = open(&disk).unwrap();
            assert!(damage.is_none() && (kept == at(8) || !done && kept == at(7)), "{point}: {kept:?}");
            if done {
                break;
            }
        }
        let disk = Simulated::new();
        make_folders(&disk, Path::new("/data")).unwrap();
        write_whole(&disk, path, b"{}").unwrap();
        let (mut file, kept, damage) = open(&disk).unwrap();
        assert_eq!((kept, damage), (Kept::default(), Some(Damage::Damaged)));
        file.write(&at(1)).unwrap();
        assert_eq!(open(&disk).unwrap().1, at(1));
    }
}
