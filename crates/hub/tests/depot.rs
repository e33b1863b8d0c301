//! The depot in memory, in a folder and in a bucket: the same cases for each.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[cfg(feature = "s3")]
mod bucket;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use hub::config::DepotConfig;
use hub::depot::{Depot, DepotError, Key, Names, Pieces};
use package::digest::Digest;
use package::registry::{RepoName, Tag};
use wire::world::{Clock as _, System};

/// What is larger goes in parts of this size.
const PART_BYTES: usize = 8 << 20;

async fn all(pieces: Option<Pieces>) -> Vec<u8> {
    let pieces: Vec<Bytes> = pieces.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

async fn every_case(depot: Depot) {
    depot.look().await.unwrap();
    what_is_put_is_there(&depot).await;
    who_replaces_has_seen_what_is_there(&depot).await;
    large_files_go_in_parts(&depot).await;
    a_put_that_breaks_leaves_what_was(&depot).await;
    names_come_in_order_and_in_pages(&depot).await;
}

async fn what_is_put_is_there(depot: &Depot) {
    let key = Key::tuf("1.a%2F..%2Fb.json");
    assert_eq!(depot.size(&key).await.unwrap(), None);
    assert_eq!(depot.read(&key, 10).await.unwrap(), None);
    assert!(depot.stream(&key, 0..1).await.unwrap().is_none());
    assert!(depot.put_if_absent(&key, Bytes::from_static(b"one")).await.unwrap());
    assert!(!depot.put_if_absent(&key, Bytes::from_static(b"two")).await.unwrap());
    assert_eq!(depot.read(&key, 3).await.unwrap().unwrap(), b"one"[..]);
    depot.put(&key, Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(depot.size(&key).await.unwrap(), Some(5));
    assert!(matches!(depot.read(&key, 4).await, Err(DepotError::TooLong { bytes: 5, .. })));
    assert_eq!(all(depot.stream(&key, 1..4).await.unwrap()).await, b"hre");
}

async fn who_replaces_has_seen_what_is_there(depot: &Depot) {
    let key = Key::tuf("timestamp.json");
    let [one, two, three] = [&b"one"[..], b"two", b"three"].map(Bytes::from_static);
    assert!(!depot.replace(&key, Some(&one), two.clone()).await.unwrap(), "nothing is there");
    assert!(depot.replace(&key, None, one.clone()).await.unwrap());
    assert!(!depot.replace(&key, None, two.clone()).await.unwrap());
    assert!(!depot.replace(&key, Some(&three), two.clone()).await.unwrap());
    assert!(depot.replace(&key, Some(&one), two.clone()).await.unwrap());
    assert_eq!(depot.read(&key, 3).await.unwrap().unwrap(), two);
    // Of many who have seen the same, one wins.
    let racers = (0..8u8).map(|n| {
        let (depot, key, two) = (depot.clone(), key.clone(), two.clone());
        tokio::spawn(async move { depot.replace(&key, Some(&two), vec![n].into()).await.unwrap() })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += u32::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
}

async fn large_files_go_in_parts(depot: &Depot) {
    for size in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 7] {
        let bytes = pattern(size);
        let key = Key::blob(&Digest::of(&bytes));
        let file = file(&[&bytes[..], b"what is behind does not belong to it"].concat());
        depot.put_file(&key, file, size as u64).await.unwrap();
        assert_eq!(depot.size(&key).await.unwrap(), Some(size as u64));
        if size > 0 {
            let end = size as u64;
            assert!(all(depot.stream(&key, 0..end).await.unwrap()).await == bytes, "{size}");
            let tail = all(depot.stream(&key, end / 2..end).await.unwrap()).await;
            assert!(tail == bytes[size / 2..], "{size}");
        }
    }
}

async fn a_put_that_breaks_leaves_what_was(depot: &Depot) {
    let short = pattern(PART_BYTES + 1000);
    for said in [2 * PART_BYTES as u64, 3 * PART_BYTES as u64] {
        let key = Key::blob(&Digest::of(&said.to_le_bytes()));
        let broken = depot.put_file(&key, file(&short), said).await;
        assert!(matches!(broken, Err(DepotError::Incoming { .. })), "{broken:?}");
        assert_eq!(depot.size(&key).await.unwrap(), None);
        depot.put_file(&key, file(&short), short.len() as u64).await.unwrap();
        assert!(depot.put_file(&key, file(&short), said).await.is_err());
        let there = depot.stream(&key, 0..short.len() as u64).await.unwrap();
        assert!(all(there).await == short);
    }
}

async fn names_come_in_order_and_in_pages(depot: &Depot) {
    let name = RepoName::new("team/smollm2").unwrap();
    let nested = RepoName::new("team/smollm2/tags").unwrap();
    let tags = Key::tags(&name);
    let page = async |after: Option<&str>, most| {
        let Names { names, more } = depot.names(&tags, after, most).await.unwrap();
        (names.join(" "), more)
    };
    assert_eq!(page(None, 5).await, (String::new(), false));
    for tag in ["v2", "7", "latest", "_x", "V1.0"] {
        depot.put(&Key::tag(&name, &Tag::new(tag).unwrap()), Bytes::new()).await.unwrap();
        depot.put(&Key::tag(&nested, &Tag::new(tag).unwrap()), Bytes::new()).await.unwrap();
    }
    assert_eq!(page(None, 9).await, ("7 V1.0 _x latest v2".to_owned(), false));
    assert_eq!(page(None, 2).await, ("7 V1.0".to_owned(), true));
    assert_eq!(page(Some("V1.0"), 3).await, ("_x latest v2".to_owned(), false));
    assert_eq!(page(Some("a"), 1).await, ("latest".to_owned(), true));
    assert_eq!(page(None, 0).await, (String::new(), true));
}

#[tokio::test]
async fn in_memory() {
    every_case(Depot::memory()).await;
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.file_name().into_string().unwrap()),
        }
    }
    found
}

#[tokio::test]
async fn in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    every_case(Depot::folder(&folder.path().join("a/b")).unwrap()).await;
    let left: Vec<String> = files(folder.path()).into_iter().filter(|name| name.contains('#')).collect();
    assert_eq!(left, [""; 0], "what broke is gone");
}

/// What a kill leaves goes at a start, unless somebody may still write to it.
#[tokio::test]
async fn a_folder_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let config = DepotConfig::default();
    let now_ms = System::new().wall_ms();
    let depot = Depot::open(&config, folder.path(), now_ms).unwrap();
    let key = Key::blob(&Digest::of(b"abc"));
    depot.put(&key, Bytes::from_static(b"abc")).await.unwrap();
    let blobs = folder.path().join("packages/blobs/sha256");
    std::fs::write(blobs.join(format!("{}#1", Digest::of(b"abcd").hex())), b"ab").unwrap();
    let minute_ms = Duration::from_secs(60).as_millis() as i64;
    for (later, names) in [(0, 2), (9, 2), (11, 1), (-100, 1)] {
        Depot::open(&config, folder.path(), now_ms + later * minute_ms).unwrap();
        assert_eq!(files(&blobs).len(), names, "{later} minutes later");
    }
    assert_eq!(depot.size(&key).await.unwrap(), Some(3));
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bucket() {
    use reqwest::Method;
    let Some(bucket) = bucket::Bucket::start() else { return };
    let open = |config: &DepotConfig| Depot::open(config, Path::new("nowhere"), 0).unwrap();
    for prefix in ["", "selvedge/packages"] {
        every_case(open(&bucket.depot(prefix))).await;
    }
    // The store itself says that large ones came in parts, and that nothing half is left.
    let large = Digest::of(&pattern(2 * PART_BYTES + 7)).hex();
    let facts = bucket.ask(Method::HEAD, &format!("/selvedge/packages/blobs/sha256/{large}")).await;
    let etag = facts.headers()["etag"].to_str().unwrap().to_owned();
    assert!(etag.trim_matches('"').ends_with("-3"), "{etag}");
    let uploads = bucket.ask(Method::GET, "?uploads").await.text().await.unwrap();
    assert!(uploads.contains("ListMultipartUploadsResult") && !uploads.contains("<UploadId>"), "{uploads}");

    let mut gone = bucket.depot("");
    gone.s3.as_mut().unwrap().bucket = "another".into();
    assert!(matches!(open(&gone).look().await, Err(DepotError::Store { .. })));
    let mut nobody = bucket.depot("");
    nobody.s3.as_mut().unwrap().credentials_file = Some("/dev/null".into());
    let refused = Depot::open(&nobody, Path::new("nowhere"), 0).unwrap_err().to_string();
    assert!(refused.contains("/dev/null has no aws_access_key_id"), "{refused}");
}
