//! Takes out of the store what nobody reaches any more.
//!
//! Who refers to a blob makes that durable before the blob comes, and is durably rid of it before anything is collected: so
//! a power cut between two removals costs nothing, the next collection goes on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use crate::digest::Digest;
use crate::disk::{Disk, FileError, beside};
use crate::form;
use crate::store::{Kind, Store};

/// The largest index or manifest that is looked into.
const DOCUMENT_MAX_BYTES: u64 = 4 << 20;

/// What is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// A blob and all that it names: an index with its manifests, a manifest with its config and layers.
    Tree(Digest),
    /// A blob alone: the index of a release of which one variant is here.
    Leaf(Digest),
}

/// What was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Bytes of blobs and parts.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Parts of blobs.
    pub parts: u64,
}

/// What an index or a manifest names; of anything else, nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Names {
    #[serde(deserialize_with = "form::list")]
    manifests: Vec<Named>,
    config: Option<Named>,
    #[serde(deserialize_with = "form::list")]
    layers: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: Digest,
}

/// All that `roots` need. `read` gives an index or manifest; `None`: it is not here yet, and then nothing it names is.
pub fn reachable<E>(
    roots: impl IntoIterator<Item = Root>,
    read: impl Fn(&Digest) -> Result<Option<Vec<u8>>, E>,
) -> Result<BTreeSet<Digest>, E> {
    let (mut reached, mut trees, mut read_already) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for root in roots {
        match root {
            Root::Leaf(digest) => drop(reached.insert(digest)),
            Root::Tree(digest) => trees.push(digest),
        }
    }
    while let Some(tree) = trees.pop() {
        reached.insert(tree);
        if !read_already.insert(tree) {
            continue;
        }
        let Some(bytes) = read(&tree)? else { continue };
        // What is neither an index nor a manifest of a known form was never installed, and names nothing of ours.
        let names: Names = serde_json::from_slice(&bytes).unwrap_or_default();
        trees.extend(names.manifests.iter().map(|named| named.digest));
        reached.extend(names.config.iter().chain(&names.layers).map(|named| named.digest));
    }
    Ok(reached)
}

/// Removes every blob, part and stale lock that `roots` do not need; what is being brought in right now stays. Nobody may add
/// a root meanwhile. If an index or manifest that is needed cannot be read, nothing is removed.
pub fn collect<D: Disk>(
    store: &Store<D>,
    roots: impl IntoIterator<Item = Root>,
) -> Result<Collected, FileError> {
    let needed = reachable(roots, |digest| store.read_small(digest, DOCUMENT_MAX_BYTES))?;
    let disk = store.disk();
    let mut collected = Collected::default();
    for (kind, size_bytes) in store.files()? {
        let (path, _lock) = match kind {
            Kind::Blob(digest) if needed.contains(&digest) => continue,
            Kind::Blob(digest) => {
                collected.blobs += 1;
                (store.blob_path(&digest), None)
            }
            Kind::Part(digest) | Kind::Lock(digest) => {
                // Dropping a lock also removes the file that a power cut left of it.
                let lock_path = store.lock_path(&digest);
                let lock = disk.lock(&lock_path).map_err(FileError::at(&lock_path))?;
                let Some(lock) = lock else { continue };
                let is_awaited = needed.contains(&digest) && !store.has(&digest)?;
                if kind == Kind::Lock(digest) || is_awaited {
                    continue;
                }
                collected.parts += 1;
                (store.part_path(&digest), Some(lock))
            }
        };
        remove_if_there(disk, &path)?;
        collected.bytes += size_bytes;
    }
    for left in ["oci-layout", "index.json"] {
        remove_if_there(disk, &beside(&store.root().join(left)))?;
    }
    if collected != Collected::default() {
        disk.sync_folder(store.blobs()).map_err(FileError::at(store.blobs()))?;
    }
    Ok(collected)
}

fn remove_if_there(disk: &impl Disk, path: &Path) -> Result<(), FileError> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::{Cut, Simulated};
    use crate::disk::write_whole;
    use crate::store::ingest::{Ingest, Want};

    /// Two models that share their weights, `shared`; each has a config of its own.
    struct Two {
        manifests: [Digest; 2],
        configs: [Digest; 2],
        shared: Digest,
    }

    fn manifest(config: &Digest, layer: &Digest) -> Vec<u8> {
        format!(r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}","size":1}}]}}"#)
            .into_bytes()
    }

    fn two() -> (Two, Vec<Vec<u8>>) {
        let shared = Digest::of(b"weights");
        let configs = [Digest::of(b"a"), Digest::of(b"b")];
        let documents = configs.map(|config| manifest(&config, &shared));
        let manifests = [Digest::of(&documents[0]), Digest::of(&documents[1])];
        let [first, second] = documents;
        let blobs = vec![b"weights".to_vec(), b"a".to_vec(), b"b".to_vec(), first, second];
        (Two { manifests, configs, shared }, blobs)
    }

    fn open(disk: &Simulated) -> Store<Simulated> {
        Store::open(disk.clone(), Path::new("/p"), 1 << 20).unwrap()
    }

    fn filled(disk: &Simulated) -> Two {
        let (two, blobs) = two();
        let store = open(disk);
        for blob in blobs {
            store.put_small(&blob, 0).unwrap();
        }
        two
    }

    #[test]
    fn an_index_reaches_its_manifests_and_a_leaf_nothing() {
        let (two, blobs) = two();
        let index = format!(
            r#"{{"manifests":[{{"digest":"{}"}},{{"digest":"{}"}}],"annotations":{{"x":"y"}}}}"#,
            two.manifests[0],
            Digest::of(b"not here")
        );
        let index_digest = Digest::of(index.as_bytes());
        let all: Vec<Vec<u8>> = blobs.into_iter().chain([index.into_bytes()]).collect();
        let read =
            |digest: &Digest| Ok::<_, ()>(all.iter().find(|bytes| Digest::of(bytes) == *digest).cloned());
        let under = [two.manifests[0], two.configs[0], two.shared];
        let check = |root, expected: Vec<Digest>| {
            assert_eq!(reachable([root], read).unwrap(), expected.into_iter().collect());
        };
        check(Root::Tree(two.manifests[0]), under.to_vec());
        check(Root::Leaf(index_digest), vec![index_digest]);
        check(Root::Tree(index_digest), [&under[..], &[index_digest, Digest::of(b"not here")]].concat());
        check(Root::Tree(two.shared), vec![two.shared]);
        assert_eq!(reachable([Root::Tree(two.shared)], |_| Err(())), Err(()));
        // Go's tools write an empty list as null.
        let empty =
            format!(r#"{{"manifests":null,"config":{{"digest":"{}"}},"layers":null}}"#, two.configs[0]);
        let read = |_: &Digest| Ok::<_, ()>(Some(empty.clone().into_bytes()));
        let tree = reachable([Root::Tree(two.shared)], read).unwrap();
        assert_eq!(tree, [two.shared, two.configs[0]].into());
    }

    #[test]
    fn what_two_models_share_stays_until_both_are_gone_at_any_cut() {
        for point in 0.. {
            for seed in 0..8 {
                let disk = Simulated::new();
                let two = filled(&disk);
                disk.dies_at(disk.points() + point);
                let store = open_dead(&disk);
                let done = store.is_some_and(|store| collect(&store, [Root::Tree(two.manifests[1])]).is_ok());
                disk.cut(Cut::Hostile, seed);
                let store = open(&disk);
                for needed in [two.manifests[1], two.configs[1], two.shared] {
                    assert!(store.has(&needed).unwrap(), "{point}");
                }
                let again = collect(&store, [Root::Tree(two.manifests[1])]).unwrap();
                assert!(!done || again == Collected::default());
                assert_eq!(store.files().unwrap().len(), 3);
                assert_eq!(collect(&store, []).unwrap().blobs, 3);
                assert_eq!(store.used_bytes().unwrap(), 0);
                if done && seed == 7 {
                    return;
                }
            }
        }
    }

    fn open_dead(disk: &Simulated) -> Option<Store<Simulated>> {
        Store::open(disk.clone(), Path::new("/p"), 1 << 20).ok()
    }

    #[test]
    fn parts_stay_while_they_are_needed_or_held() {
        let disk = Simulated::new();
        let (two, _) = two();
        let store = open(&disk);
        store.put_small(&manifest(&two.configs[0], &two.shared), 0).unwrap();
        let begin = |digest| {
            let want = Want { digest, size: 7, chunks: None };
            Ingest::begin(&store, want, 0).unwrap()
        };
        let (needed, held, orphan) = (two.shared, Digest::of(b"held"), Digest::of(b"orphan"));
        drop(begin(needed));
        let ingest = begin(held);
        begin(orphan).write(0, b"12345").unwrap();
        write_whole(&disk, &store.lock_path(&Digest::of(b"stale")), b"").unwrap();
        write_whole(&disk, &beside(&store.root().join("oci-layout")), b"torn").unwrap();
        let collected = collect(&store, [Root::Tree(two.manifests[0])]).unwrap();
        assert_eq!(collected, Collected { bytes: 5, blobs: 0, parts: 1 });
        let left: BTreeSet<_> =
            store.files().unwrap().into_iter().map(|(kind, _)| format!("{kind:?}")).collect();
        let expected = [Kind::Blob(two.manifests[0]), Kind::Part(needed), Kind::Part(held)];
        assert_eq!(left, expected.map(|kind| format!("{kind:?}")).into());
        assert_eq!(disk.list(store.root()).unwrap().len(), 2, "blobs and oci-layout");
        drop(ingest);
        assert_eq!(
            collect(&store, []).unwrap(),
            Collected { bytes: manifest_bytes(&two), blobs: 1, parts: 2 }
        );
    }

    fn manifest_bytes(two: &Two) -> u64 {
        manifest(&two.configs[0], &two.shared).len() as u64
    }

    #[test]
    fn a_damaged_manifest_stops_the_collection() {
        let disk = Simulated::new();
        let two = filled(&disk);
        let store = open(&disk);
        disk.remove(&store.blob_path(&two.manifests[0])).unwrap();
        write_whole(&disk, &store.blob_path(&two.manifests[0]), b"{}").unwrap();
        assert!(collect(&store, [Root::Tree(two.manifests[0])]).is_err());
        assert_eq!(store.files().unwrap().len(), 5);
    }
}
