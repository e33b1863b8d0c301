//! What the simulated disk promises: what was synced is there after any cut, of the rest any part may be.

use proptest::prelude::*;

use super::inode::{PAGE_BYTES, SECTOR_BYTES};
use super::*;
use crate::disk::{make_folders, read_whole};

fn at(path: &str) -> PathBuf {
    Path::new("/data").join(path)
}

fn disk() -> Simulated {
    let disk = Simulated::new();
    make_folders(&disk, Path::new("/data")).unwrap();
    disk
}

fn put(disk: &Simulated, path: &str, bytes: &[u8]) -> OpenFile {
    let file = disk.create(&at(path), Create::Keep).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

fn there(disk: &Simulated, path: &str) -> Option<Vec<u8>> {
    read_whole(disk, &at(path), 1 << 20).unwrap()
}

/// What is left of `work` on a fresh disk, after each of many cuts.
fn cuts<T: Ord>(how: Cut, work: impl Fn(&Simulated), look: impl Fn(&Simulated) -> T) -> BTreeSet<T> {
    (0..200)
        .map(|seed| {
            let disk = disk();
            work(&disk);
            disk.cut(how, seed);
            look(&disk)
        })
        .collect()
}

#[test]
fn what_was_synced_is_there_and_a_name_needs_its_folder() {
    for how in [Cut::Ordered, Cut::Hostile] {
        let both = |disk: &Simulated| {
            put(disk, "a", b"one").sync().unwrap();
            disk.sync_folder(Path::new("/data")).unwrap();
        };
        assert_eq!(cuts(how, both, |disk| there(disk, "a")), [Some(b"one".to_vec())].into());
        let bytes_only = |disk: &Simulated| put(disk, "a", b"one").sync().unwrap();
        assert_eq!(cuts(how, bytes_only, |disk| there(disk, "a")), [None, Some(b"one".to_vec())].into());
    }
}

#[test]
fn what_was_not_synced_may_be_anything_between() {
    let (old, new) = ([b'o'; 3 * PAGE_BYTES], [b'n'; 3 * PAGE_BYTES]);
    let work = |disk: &Simulated| {
        let file = put(disk, "a", &old);
        file.sync().unwrap();
        disk.sync_folder(Path::new("/data")).unwrap();
        file.write_at(0, &new).unwrap();
    };
    let left = cuts(Cut::Hostile, work, |disk| there(disk, "a").unwrap());
    assert!(left.len() > 50, "{}", left.len());
    for bytes in left {
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]) && b"on\0".contains(&sector[0]));
        }
    }
    let grows = |disk: &Simulated| {
        let file = put(disk, "a", b"");
        disk.sync_folder(Path::new("/data")).unwrap();
        file.write_at(0, &new).unwrap();
    };
    let sizes = cuts(Cut::Ordered, grows, |disk| there(disk, "a").unwrap().len());
    assert!(sizes.contains(&0) && sizes.contains(&new.len()) && sizes.len() > 10, "{sizes:?}");
}

#[test]
fn a_move_may_be_undone_but_is_never_half() {
    let work = |disk: &Simulated| {
        for (path, bytes) in [("a", b"old"), ("b", b"new")] {
            put(disk, path, bytes).sync().unwrap();
        }
        disk.sync_folder(Path::new("/data")).unwrap();
        disk.rename(&at("b"), &at("a")).unwrap();
    };
    let look = |disk: &Simulated| (there(disk, "a"), there(disk, "b"));
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    for how in [Cut::Ordered, Cut::Hostile] {
        assert_eq!(cuts(how, work, look), [(old.clone(), new.clone()), (new.clone(), None)].into());
    }
}

#[test]
fn folders_keep_one_order_or_each_their_own() {
    let work = |disk: &Simulated| {
        for folder in ["x", "y"] {
            make_folders(disk, &at(folder)).unwrap();
        }
        put(disk, "x/1", b"");
        put(disk, "y/2", b"");
    };
    let look = |disk: &Simulated| (there(disk, "x/1").is_some(), there(disk, "y/2").is_some());
    let ordered = [(false, false), (true, false), (true, true)];
    assert_eq!(cuts(Cut::Ordered, work, look), ordered.into());
    assert_eq!(cuts(Cut::Hostile, work, look), ordered.into_iter().chain([(false, true)]).collect());
    let lost_folder = |disk: &Simulated| {
        disk.make_folder(&at("x")).unwrap();
        put(disk, "x/1", b"").sync().unwrap();
        disk.sync_folder(&at("x")).unwrap();
    };
    assert!(cuts(Cut::Hostile, lost_folder, |disk| there(disk, "x/1").is_some()).contains(&false));
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let work = |disk: &Simulated| {
        let file = put(disk, "a", &[b'n'; 10]);
        disk.sync_folder(Path::new("/data")).unwrap();
        disk.fails_at(disk.points());
        file.sync().unwrap_err();
        file.sync().unwrap();
    };
    let left = cuts(Cut::Ordered, work, |disk| there(disk, "a").unwrap());
    assert!(left.contains(&vec![b'n'; 10]) && left.contains(&vec![0; 10]), "{left:?}");
}

#[test]
fn a_dead_process_changes_nothing_and_leaves_no_lock() {
    let disk = disk();
    let file = put(&disk, "a", b"one");
    let lock = disk.lock(&at(".lock")).unwrap().unwrap();
    assert!(disk.lock(&at(".lock")).unwrap().is_none());
    disk.dies_at(disk.points());
    assert!(file.write_at(0, b"two").is_err() && disk.is_dead());
    assert!(disk.open(&at("a")).is_err() && file.sync().is_err());
    disk.end_process();
    let next = disk.lock(&at(".lock")).unwrap().unwrap();
    drop(lock);
    assert!(disk.lock(&at(".lock")).unwrap().is_none(), "the old one's end frees nothing");
    drop(next);
    assert!(file.write_at(0, b"two").is_err());
    assert_eq!(there(&disk, "a").as_deref(), Some(&b"one"[..]));
}

#[test]
fn frozen_files_are_read_only() {
    let disk = disk();
    put(&disk, "a", b"one").freeze().unwrap();
    assert!(disk.create(&at("a"), Create::Keep).is_err());
    assert!(disk.open(&at("a")).unwrap().write_at(0, b"two").is_err());
}

proptest! {
    #[test]
    fn a_sync_settles_all_bytes_before_it(
        before in proptest::collection::vec((0usize..20_000, proptest::collection::vec(any::<u8>(), 0..6000)), 0..6),
        after in proptest::collection::vec((20_480usize..30_000, 1usize..6000), 0..4),
        seed in any::<u64>(),
    ) {
        let disk = disk();
        let file = put(&disk, "a", &[]);
        disk.sync_folder(Path::new("/data")).unwrap();
        file.set_size(26_000).unwrap();
        for (at, bytes) in &before {
            file.write_at(*at as u64, bytes).unwrap();
        }
        file.sync().unwrap();
        let settled = there(&disk, "a").unwrap();
        for (at, bytes) in &after {
            file.write_at(*at as u64, &vec![b'?'; *bytes]).unwrap();
        }
        disk.cut(Cut::Hostile, seed);
        let left = there(&disk, "a").unwrap();
        prop_assert_eq!(&left[..20_480], &settled[..20_480]);
        let same = there(&disk, "a");
        disk.cut(Cut::Hostile, seed ^ 1);
        prop_assert_eq!(there(&disk, "a"), same, "what survived one cut is certain");
    }
}

#[test]
fn a_fork_has_a_fate_of_its_own() {
    let disk = disk();
    put(&disk, "a", b"certain").sync().unwrap();
    disk.sync_folder(Path::new("/data")).unwrap();
    put(&disk, "b", b"uncertain");
    let ends: BTreeSet<_> = (0..50)
        .map(|seed| {
            let fork = disk.fork();
            assert_eq!((fork.points(), there(&fork, "b")), (0, Some(b"uncertain".to_vec())));
            put(&fork, "c", b"only here");
            fork.cut(Cut::Hostile, seed);
            assert_eq!(there(&fork, "a"), Some(b"certain".to_vec()));
            there(&fork, "b").is_some()
        })
        .collect();
    assert_eq!(ends, [false, true].into());
    assert_eq!((there(&disk, "b"), there(&disk, "c")), (Some(b"uncertain".to_vec()), None));
}
