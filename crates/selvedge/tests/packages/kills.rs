//! Kills a node, the real process, two hundred times at random instants while releases come, are proven, tried and collected.
//! Afterwards it has a model whose every byte is right, its trust has not gone back, and the disk holds nothing that nobody needs.
//!
//! Stops by itself: after so many lives, and the end of each is a kill. The files are read directly, so that the node's own
//! view cannot hide a fault.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lm::specimen::Specimen;
use node::install::keys::Keys;
use node::install::state::{Kept, SlotsFile};
use node::install::verify::verify;
use node::journal::reader::Reader;
use package::digest::Digest;
use package::disk::Disk as _;
use package::disk::system::System as Disk;
use package::name::ModelName;
use package::store::Store;
use package::store::collect::{collect, reachable};
use wire::body::Install;
use wire::id::StreamName;
use wire::world::{Clock as _, Entropy as _, Simulated, System};

use crate::stage::Stage;

/// Lives of the node.
const LIVES: u32 = 200;

/// The longest that a life may take to do what the test waits for.
const PATIENCE_NS: u64 = 120_000_000_000;

/// So many packages, assigned in turn: more than a node keeps, so that each is brought again and again.
const PACKAGES: u64 = 4;

struct Yard {
    stage: Stage,
    dice: Simulated,
    /// What is assigned.
    wanted: u64,
}

impl Yard {
    /// Packages in a folder, a repository that lists and assigns them, a node that follows it.
    fn new() -> Yard {
        let stage = Stage::new();
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.run(&["trust", "key", "new", "keys/assigner.age", "--work", "4"]).ok();
        let keys = ["targets", "assigner", "snapshot", "timestamp"];
        stage.trust(&["delegate", "repo", "assignments", "--add", "keys/assigner.pub.json"], &keys).ok();
        std::fs::create_dir(stage.path("packages")).unwrap();
        for seed in 1..=PACKAGES {
            let model = Specimen { width: 256, feed_forward: 512, seed, ..Specimen::SMALL };
            model.write(&mut std::fs::File::create(stage.path("next.gguf")).unwrap()).unwrap();
            let (release, output) = (seed.to_string(), format!("packages/tiny-{seed}"));
            let words = ["pack", "next.gguf", "--model", "tiny", "--release", &release, "-o", &output];
            stage.run(&[&words[..], &["--golden-from", "prompts.txt"]].concat()).ok();
            stage.trust(&["add", "repo", &output], &["targets", "snapshot", "timestamp"]).ok();
        }
        stage.write(
            "node.toml",
            "[node]\nname = \"phoenix\"\ndata = \"data\"\n[serve]\nlisten = \"127.0.0.1:0\"\n\
             [packages]\nfrom = [{ folder = \"packages\" }]\nevery = \"1s\"\ntrial = \"0\"\ntrial_answers = 0\n\
             keep_free = \"1MiB\"\n[trust]\nroot = \"repo/metadata/1.root.json\"\nrepository = \"repo\"\n",
        );
        stage.write("flow.toml", "[source.door]\ntype = \"http\"\n");
        let mut yard = Yard { stage, dice: Simulated::new(5), wanted: 0 };
        yard.assign_next();
        yard
    }

    /// The next package is assigned: also if it is older than what ran, or was refused since it was killed too often.
    fn assign_next(&mut self) {
        self.wanted = self.wanted % PACKAGES + 1;
        let model = format!("tiny:{}", self.wanted);
        let words =
            ["assign", "repo", "--node", "phoenix", "--model", &model, "--allow-rollback", "--forgive"];
        self.stage.trust(&words, &["assigner"]).ok();
    }

    fn start(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        command.current_dir(self.stage.path("")).args(["node", "--config", "node.toml"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// One life: it begins, works, and is killed. On Unix `kill` is SIGKILL, which nothing can catch.
    fn live(&mut self, life_ms: f64) {
        let mut child = self.start();
        std::thread::sleep(Duration::from_micros((self.dice.unit() * life_ms * 1e3) as u64));
        assert_eq!(child.try_wait().unwrap(), None, "the node ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets it work until `done`, and kills it. How long that took.
    fn live_until(&self, done: impl Fn(&Kept) -> bool) -> Duration {
        let (clock, mut child) = (System::new(), self.start());
        loop {
            if self.kept().is_some_and(|kept| done(&kept)) {
                break;
            }
            assert!(clock.mono_ns() < PATIENCE_NS, "it never comes: {:?}", self.kept());
            assert_eq!(child.try_wait().unwrap(), None, "the node ended by itself");
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        Duration::from_nanos(clock.mono_ns())
    }

    fn tiny(&self) -> ModelName {
        ModelName::new("tiny").unwrap()
    }

    fn kept(&self) -> Option<Kept> {
        let folder = self.stage.path("data/slots");
        folder.join("tiny.json").exists().then(|| SlotsFile::open(Disk, &folder, &self.tiny()).unwrap().kept)
    }

    fn store(&self) -> Store<Disk> {
        Store::open(Disk, &self.stage.path("data/packages"), u64::MAX).unwrap()
    }
}

/// How often the trust state was replaced.
fn sequence(data: &Path) -> u64 {
    let Ok(bytes) = std::fs::read(data.join("trust/state")) else { return 0 };
    let head: serde_json::Value =
        serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    head["sequence"].as_u64().unwrap()
}

#[test]
fn two_hundred_kills_leave_a_model_that_is_right() {
    let mut yard = Yard::new();
    let data = yard.stage.path("data");
    let is =
        |release: u64| move |kept: &Kept| kept.current.as_ref().is_some_and(|slot| slot.release == release);
    let begun = yard.live_until(is(1));
    let life_ms = (begun.as_secs_f64() * 1e3 * 1.5).clamp(200.0, 3_000.0);
    yard.assign_next();
    let (mut trust, mut commits) = (sequence(&data), BTreeSet::new());
    for life in 0..LIVES {
        yard.live(life_ms);
        let kept = yard.kept().expect("slots once there are never gone");
        let current = kept.current.clone().expect("a model once there is never gone");
        verify(&yard.store(), &Keys::none(), &current)
            .unwrap_or_else(|fault| panic!("life {life}: {current:?}: {fault:?}"));
        let its = sequence(&data);
        assert!(
            its >= trust && its >= kept.trust_sequence,
            "life {life}: trust went back from {trust} to {its}"
        );
        trust = its;
        commits.extend(current.committed_ms);
        // A model that was killed three times before its first answer is given up: the next assignment brings another.
        let is_refused = kept.candidate.is_none() && kept.wanted.is_none() && !is(yard.wanted)(&kept);
        if is(yard.wanted)(&kept) || is_refused || kept.safe.is_some() {
            yard.assign_next();
        }
    }
    assert!(commits.len() > 5, "only {} releases were committed: it hardly worked", commits.len());
    // Left alone it gets there, and cleans up: with an order of its own, for what was killed last may be refused by now.
    yard.assign_next();
    let last = yard.wanted;
    yard.live_until(is(last));
    yard.live_until(|kept| is(last)(kept) && kept.reports.is_empty());
    let (kept, store) = (yard.kept().unwrap(), yard.store());
    let opened = SlotsFile::open(Disk, &yard.stage.path("data/slots"), &yard.tiny()).unwrap();
    let roots = [kept.roots(), opened.old_roots].concat();
    let needed = reachable(roots.clone(), |digest| store.read_small(digest, 4 << 20)).unwrap();
    collect(&store, roots).unwrap();
    let blobs: BTreeSet<String> =
        Disk.list(&data.join("packages/blobs/sha256")).unwrap().into_iter().map(|entry| entry.name).collect();
    let expected: BTreeSet<String> = needed.iter().map(Digest::hex).collect();
    assert_eq!(blobs, expected);
    // Each commit that was seen stands in the journal, and no result twice under one name.
    let reader = Reader::open(&data).unwrap();
    let mut told = Vec::new();
    for (record, _) in reader.records(&StreamName::new("installs").unwrap(), 0, usize::MAX).unwrap() {
        let install: Install = serde_json::from_str(record.body.get()).unwrap();
        told.push((install.id, install.outcome));
    }
    let committed: BTreeSet<&String> =
        told.iter().filter(|(_, outcome)| outcome == "committed").map(|(id, _)| id).collect();
    assert!(committed.len() >= commits.len(), "{} of {} commits are told", committed.len(), commits.len());
}
