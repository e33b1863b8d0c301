//! The workflow itself: what is asked for in which order, what is kept, and what a broken file stops.

use package::trust::canonical::Value;
use package::trust::key::KindSet;
use package::trust::metadata::Mismatch;
use package::trust::trusted::Trusted;
use package::trust::update::{Outcome, UpdateError, Want};

use crate::simulator::{ALL, Client, ONLINE, Repo, envelope, object, sign};

#[test]
fn basic_refresh_requests() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    assert_eq!(client.versions(), [1, 1, 1, 1]);
    repo.asked.clear();
    client.refresh(&mut repo).unwrap();
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json"], "what is at hand is not fetched again");
}

#[test]
fn basic_metadata_without_hashes() {
    let mut repo = Repo::new();
    repo.hashes = false;
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.versions(), [1, 2, 2, 2]);
}

#[test]
fn names_without_versions_where_the_root_says_so() {
    let mut repo = Repo::new();
    *repo.field("root", &["consistent_snapshot"]) = false.into();
    repo.publish(&["root"]);
    for role in ["snapshot", "targets"] {
        let bytes = repo.files.remove(&format!("1.{role}.json")).unwrap();
        repo.files.insert(format!("{role}.json"), bytes);
    }
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.versions(), [2, 1, 1, 1]);
}

#[test]
fn invalid_initial_root() {
    let mut repo = Repo::new();
    let kinds = KindSet::hybrid();
    repo.roles.get_mut("root").unwrap().as_object_mut().unwrap().remove("version");
    let signers = repo.signers["root"].clone();
    assert!(Trusted::of_root(&sign(&repo.roles["root"], &signers), &kinds).is_err(), "no version");
}

#[test]
fn unsigned_initial_root() {
    let repo = Repo::new();
    let kinds = KindSet::hybrid();
    let root = &repo.roles["root"];
    assert!(Trusted::of_root(&envelope(root, Vec::new()), &kinds).is_err());
    assert!(Trusted::of_root(&sign(root, &repo.signers["targets"]), &kinds).is_err(), "another key");
    assert!(Trusted::of_root(&sign(root, &repo.signers["root"]), &kinds).is_ok());
}

#[test]
fn unsigned_metadata() {
    for (role, expected) in [
        ("root", [1, 0, 0, 0]),
        ("timestamp", [2, 0, 0, 0]),
        ("snapshot", [2, 2, 0, 0]),
        ("targets", [2, 2, 2, 0]),
    ] {
        let mut repo = Repo::new();
        repo.signers.remove(role);
        repo.publish(&ALL);
        let mut client = Client::of(&repo);
        let error = client.refresh(&mut repo).unwrap_err();
        assert!(matches!(error, UpdateError::Verify { .. }), "{role}: {error}");
        assert_eq!(client.versions(), expected, "{role}");
    }
}

#[test]
fn url_and_metadata_version_mismatch() {
    for (role, expected) in [("root", [1, 0, 0, 0]), ("snapshot", [2, 2, 0, 0]), ("targets", [2, 2, 2, 0])] {
        let mut repo = Repo::new();
        for published in ALL {
            if published == role {
                *repo.field(role, &["version"]) = 3u64.into();
                let bytes = sign(&repo.roles[role], &repo.signers[role]);
                repo.serve(role, 2, bytes);
            } else {
                repo.publish(&[published]);
            }
        }
        let mut client = Client::of(&repo);
        let error = client.refresh(&mut repo).unwrap_err();
        assert!(matches!(error, UpdateError::Version { expected: 2, found: 3, .. }), "{role}: {error}");
        assert_eq!(client.versions(), expected, "{role}");
    }
}

#[test]
fn incorrect_metadata_type() {
    for (role, expected) in [
        ("root", [1, 0, 0, 0]),
        ("timestamp", [2, 0, 0, 0]),
        ("snapshot", [2, 2, 0, 0]),
        ("targets", [2, 2, 2, 0]),
    ] {
        let mut repo = Repo::new();
        *repo.field(role, &["_type"]) = if role == "targets" { "snapshot" } else { "targets" }.into();
        repo.publish(&ALL);
        let mut client = Client::of(&repo);
        assert!(client.refresh(&mut repo).is_err(), "{role}");
        assert_eq!(client.versions(), expected, "{role}");
    }
}

#[test]
fn timestamp_content_changes() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    let before = client.trusted.clone();
    *repo.field("timestamp", &["meta", "snapshot.json", "version"]) = 100u64.into();
    repo.sign_and_serve("timestamp");
    repo.asked.clear();
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.trusted, before);
    assert_eq!(repo.asked.last().unwrap(), "timestamp.json", "no snapshot 100 is asked for");
}

#[test]
fn announced_hashes_must_match() {
    for (role, described_by, expected) in
        [("snapshot", "timestamp", [1, 2, 0, 0]), ("targets", "snapshot", [1, 2, 2, 0])]
    {
        for (field, value) in
            [("length", 5u64.into()), ("hashes", object(&[("sha256", "ab".repeat(32).into())]))]
        {
            let mut repo = Repo::new();
            for published in ONLINE {
                if published == described_by {
                    *repo.field(described_by, &["meta", &format!("{role}.json"), field]) = value.clone();
                }
                repo.publish(&[published]);
            }
            let mut client = Client::of(&repo);
            let error = client.refresh(&mut repo).unwrap_err();
            let is_it = matches!(
                error,
                UpdateError::Mismatch { source: Mismatch::Hash { .. }, .. } | UpdateError::Fetch { .. }
            );
            assert!(is_it, "{role} {field}: {error}");
            assert_eq!(client.versions(), expected, "{role} {field}");
        }
    }
}

#[test]
fn mix_and_match() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    repo.add_target("targets", "models/a/1", b"one");
    repo.publish(&ONLINE);
    // An old snapshot or old targets under the name of the new ones: all signed, only not together.
    for (old, new, expected) in [
        ("1.snapshot.json", "2.snapshot.json", [1, 2, 0, 0]),
        ("1.targets.json", "2.targets.json", [1, 2, 2, 0]),
    ] {
        let right = repo.files.insert(new.into(), repo.files[old].clone()).unwrap();
        assert!(client.refresh(&mut repo).is_err(), "{old}");
        assert_eq!(client.versions(), expected, "{old}");
        repo.files.insert(new.into(), right);
    }
    client.refresh(&mut repo).unwrap();
}

#[test]
fn metadata_bytes_match() {
    let mut repo = Repo::new();
    *repo.field("targets", &["custom-field"]) = object(&[("x", Value::List(vec![Value::Null]))]);
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(*client.trusted.targets.unwrap().bytes, repo.files["2.targets.json"]);
    assert_eq!(*client.trusted.timestamp.unwrap().bytes, repo.files["timestamp.json"]);
}

#[test]
fn absent_files() {
    for (file, expected) in [
        ("timestamp.json", [1, 0, 0, 0]),
        ("1.snapshot.json", [1, 1, 0, 0]),
        ("1.targets.json", [1, 1, 1, 0]),
    ] {
        let mut repo = Repo::new();
        repo.files.remove(file);
        let mut client = Client::of(&repo);
        let error = client.refresh(&mut repo).unwrap_err();
        assert!(matches!(error, UpdateError::Absent { .. }), "{file}: {error}");
        assert_eq!(client.versions(), expected, "{file}");
    }
}

#[test]
fn endless_metadata_is_refused() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    repo.files.insert("timestamp.json".into(), vec![b' '; 65 << 10]);
    assert!(client.refresh(&mut repo).is_err());
    repo.files.insert("2.root.json".into(), vec![b' '; 513 << 10]);
    assert!(client.refresh(&mut repo).is_err());
    assert_eq!(client.versions(), [1, 0, 0, 0]);
}

#[test]
fn implicit_refresh() {
    let mut repo = Repo::new();
    repo.add_target("targets", "models/a/1", b"one");
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    let outcome = client.run(&mut repo, Want::Target("models/a/1".into()));
    let Outcome::Target(found) = outcome else { panic!("{outcome:?}") };
    assert!(found.check(b"one").is_ok());
    assert_eq!(client.version("targets"), 2);
}
