//! Trust on a disk that loses power, bytes and files: the newest state stands there, or nothing new is accepted.

use std::path::Path;

use package::disk::simulated::{Cut, Simulated};
use package::disk::{make_folders, read_whole, write_whole};
use package::name::ModelName;
use package::trust::key::KindSet;
use package::trust::state::{Damage, StateError, TrustState};
use package::trust::trusted::Trusted;

use crate::simulator::{ALL, Client, ONLINE, Repo};

const PATH: &str = "/data/trust/state";

fn disk() -> Simulated {
    let disk = Simulated::new();
    make_folders(&disk, Path::new("/data/trust")).unwrap();
    disk
}

fn open(disk: &Simulated, repo: &Repo, least: u64) -> Result<TrustState<Simulated>, StateError> {
    let root = &repo.files["1.root.json"];
    TrustState::open(disk.clone(), Path::new(PATH), root, &KindSet::hybrid(), least)
}

/// What is trusted after one refresh, and then after another.
fn two_states(repo: &mut Repo) -> (Trusted, Trusted) {
    let mut client = Client::of(repo);
    repo.delegate("targets", "team-a", &["models/a/*"], false);
    repo.add_target("team-a", "models/a/1", b"one");
    repo.publish(&["team-a", "targets", "snapshot", "timestamp"]);
    client.run(repo, package::trust::update::Want::Target("models/a/1".into()));
    let first = client.trusted.clone();
    repo.publish(&ALL);
    client.trusted.releases.insert(ModelName::new("a").unwrap(), 1);
    client.refresh(repo).unwrap();
    (first, client.trusted)
}

#[test]
fn what_is_kept_is_found_again() {
    let (mut repo, disk) = (Repo::new(), disk());
    let (first, second) = two_states(&mut repo);
    assert!(!first.delegated.is_empty());
    let mut state = open(&disk, &repo, 0).unwrap();
    assert_eq!(state.sequence(), 0);
    for (sequence, trusted) in [(1, first), (2, second)] {
        state.commit(trusted.clone()).unwrap();
        let again = open(&disk, &repo, sequence).unwrap();
        assert_eq!((again.sequence(), again.trusted()), (sequence, &trusted));
    }
}

#[test]
fn a_lost_state_is_not_a_first_use() {
    let (mut repo, disk) = (Repo::new(), disk());
    let (first, second) = two_states(&mut repo);
    let why = |result: Result<TrustState<Simulated>, StateError>| match result.map(|state| state.sequence()) {
        Err(StateError::Lost { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(matches!(why(open(&disk, &repo, 1)), Damage::Missing { expected: 1 }));
    let mut state = open(&disk, &repo, 0).unwrap();
    state.commit(first).unwrap();
    let old = read_whole(&disk, Path::new(PATH), 1 << 20).unwrap().unwrap();
    state.commit(second).unwrap();
    write_whole(&disk, Path::new(PATH), &old).unwrap();
    assert!(matches!(why(open(&disk, &repo, 2)), Damage::Older { expected: 2, found: 1 }));
    let root = &repo.files["1.root.json"];
    TrustState::reset(disk.clone(), Path::new(PATH), root, &KindSet::hybrid(), 2).unwrap();
    let again = open(&disk, &repo, 3).unwrap();
    assert_eq!((again.sequence(), again.trusted().timestamp.is_none()), (3, true));
}

#[test]
fn torn_at_each_byte() {
    let (mut repo, disk) = (Repo::new(), disk());
    let (first, _) = two_states(&mut repo);
    open(&disk, &repo, 0).unwrap().commit(first).unwrap();
    let whole = read_whole(&disk, Path::new(PATH), 1 << 20).unwrap().unwrap();
    // The first line byte by byte, the documents with a stride that is coprime to everything in them.
    for at in (0..160).chain((160..whole.len()).step_by(997)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for bytes in [&whole[..at], &flipped] {
            write_whole(&disk, Path::new(PATH), bytes).unwrap();
            match open(&disk, &repo, 1) {
                Err(StateError::Lost { .. }) => {}
                // A flipped bit may raise the sequence, which proves nothing and hides nothing.
                Ok(state) if state.sequence() > 1 => {}
                other => panic!("byte {at}: {:?}", other.map(|state| state.sequence())),
            }
        }
    }
}

#[test]
fn a_forged_file_gains_nothing() {
    let (mut repo, disk) = (Repo::new(), disk());
    let (first, _) = two_states(&mut repo);
    // Another house's repository, whole and well signed by itself.
    let mut other = Repo::new();
    for role in ALL {
        other.rotate(role);
    }
    *other.field("root", &["version"]) = 0u64.into();
    other.publish(&ALL);
    let mut thief = Client::of(&other);
    thief.refresh(&mut other).unwrap();
    open(&disk, &other, 0).unwrap().commit(thief.trusted.clone()).unwrap();
    let error = open(&disk, &repo, 0).err().unwrap();
    assert!(matches!(error, StateError::Lost { why: Damage::OtherRoot, .. }), "{error}");
    // Documents of theirs under our root.
    for change in 0..2 {
        let mut mixed = first.clone();
        match change {
            0 => mixed.timestamp = thief.trusted.timestamp.clone(),
            _ => mixed.snapshot = thief.trusted.snapshot.clone(),
        }
        let fresh = self::disk();
        open(&fresh, &repo, 0).unwrap().commit(mixed).unwrap();
        let error = open(&fresh, &repo, 1).err().unwrap();
        assert!(matches!(error, StateError::Lost { why: Damage::Verify { .. }, .. }), "{error}");
    }
}

#[test]
fn targets_under_rotated_keys_are_fetched_again() {
    let (mut repo, disk) = (Repo::new(), disk());
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    repo.rotate("targets");
    repo.publish(&["root"]);
    assert!(client.refresh(&mut repo).is_err());
    open(&disk, &repo, 0).unwrap().commit(client.trusted.clone()).unwrap();
    client.trusted = open(&disk, &repo, 1).unwrap().trusted().clone();
    assert!(client.trusted.targets.is_none());
    repo.publish(&ONLINE);
    client.refresh(&mut repo).unwrap();
}

#[test]
fn a_power_cut_at_every_step_leaves_the_old_state_or_the_new() {
    let mut repo = Repo::new();
    let (first, second) = two_states(&mut repo);
    for cut in [Cut::Ordered, Cut::Hostile] {
        for point in 0.. {
            let disk = disk();
            let mut state = open(&disk, &repo, 0).unwrap();
            state.commit(first.clone()).unwrap();
            disk.dies_at(disk.points() + point);
            let done = state.commit(second.clone()).is_ok();
            assert_eq!(state.sequence(), if done { 2 } else { 1 });
            disk.cut(cut, point);
            let again = open(&disk, &repo, if done { 2 } else { 1 }).unwrap();
            let is_one = [&first, &second].contains(&again.trusted());
            assert!(is_one, "point {point}");
            if done {
                assert!(point >= 4, "create, write, sync, rename, sync of the folder: {point}");
                break;
            }
        }
    }
}

#[test]
fn a_full_or_failing_disk_changes_nothing() {
    let mut repo = Repo::new();
    let (first, second) = two_states(&mut repo);
    for point in 0..4 {
        let disk = disk();
        let mut state = open(&disk, &repo, 0).unwrap();
        state.commit(first.clone()).unwrap();
        disk.fails_at(disk.points() + point);
        assert!(state.commit(second.clone()).is_err());
        assert_eq!(state.trusted(), &first);
        assert_eq!(open(&disk, &repo, 1).unwrap().trusted(), &first);
        state.commit(second.clone()).unwrap();
        assert_eq!(open(&disk, &repo, 2).unwrap().trusted(), &second);
    }
}

#[test]
fn an_image_may_bring_a_newer_root() {
    let (mut repo, disk) = (Repo::new(), disk());
    let (first, _) = two_states(&mut repo);
    open(&disk, &repo, 0).unwrap().commit(first).unwrap();
    let newer = &repo.files["2.root.json"];
    let state = TrustState::open(disk.clone(), Path::new(PATH), newer, &KindSet::hybrid(), 1).unwrap();
    assert_eq!(state.trusted().root.body.head.version, 2);
    assert_eq!(state.sequence(), 1);
}
