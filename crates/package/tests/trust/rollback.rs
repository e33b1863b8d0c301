//! Old states replayed, and the one way back: new keys.

use package::trust::update::UpdateError;

use crate::simulator::{ALL, Client, ONLINE, Repo};

fn is_rollback(error: &UpdateError, role: &str) {
    assert!(matches!(error, UpdateError::Rollback { role: found, .. } if found == role), "{role}: {error}");
}

#[test]
fn new_timestamp_version_rollback() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    repo.publish(&["timestamp"]);
    client.refresh(&mut repo).unwrap();
    *repo.field("timestamp", &["version"]) = 0u64.into();
    repo.publish(&["timestamp"]);
    is_rollback(&client.refresh(&mut repo).unwrap_err(), "timestamp");
    assert_eq!(client.version("timestamp"), 2);
    assert_eq!(repo.asked.last().unwrap(), "timestamp.json");
}

#[test]
fn snapshot_rollback() {
    for hashes in [false, true] {
        let mut repo = Repo::new();
        repo.hashes = hashes;
        let mut client = Client::of(&repo);
        repo.publish(&["snapshot", "timestamp"]);
        client.refresh(&mut repo).unwrap();
        *repo.field("snapshot", &["version"]) = 0u64.into();
        repo.publish(&["snapshot", "timestamp"]);
        is_rollback(&client.refresh(&mut repo).unwrap_err(), "snapshot");
        assert_eq!(client.versions(), [1, 2, 2, 1]);
        assert_eq!(repo.asked.last().unwrap(), "timestamp.json");
    }
}

#[test]
fn targets_rollback() {
    for hashes in [false, true] {
        let mut repo = Repo::new();
        repo.hashes = hashes;
        let mut client = Client::of(&repo);
        repo.publish(&ONLINE);
        client.refresh(&mut repo).unwrap();
        *repo.field("targets", &["version"]) = 0u64.into();
        repo.publish(&ONLINE);
        is_rollback(&client.refresh(&mut repo).unwrap_err(), "targets");
        assert_eq!(client.versions(), [1, 3, 2, 2]);
    }
}

#[test]
fn targets_role_removal() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    repo.delegate("targets", "team-a", &["models/a/*"], false);
    repo.publish(&["team-a", "targets", "snapshot", "timestamp"]);
    client.refresh(&mut repo).unwrap();
    repo.field("snapshot", &["meta"]).as_object_mut().unwrap().remove("team-a.json");
    repo.publish(&["snapshot", "timestamp"]);
    let error = client.refresh(&mut repo).unwrap_err();
    assert!(matches!(&error, UpdateError::Vanished { role } if role == "team-a"), "{error}");
    assert_eq!(client.version("snapshot"), 2);
}

#[test]
fn a_root_cannot_go_back() {
    let mut repo = Repo::new();
    repo.publish(&["root"]);
    repo.publish(&ALL);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    let old = repo.files["2.root.json"].clone();
    repo.files.insert("4.root.json".into(), old);
    assert!(client.refresh(&mut repo).is_err());
    assert_eq!(client.version("root"), 3);
}

#[test]
fn targets_fast_forward_recovery() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    repo.delegate("targets", "team-a", &["models/a/*"], false);
    *repo.field("targets", &["version"]) = 99u64.into();
    repo.publish(&["team-a", "targets", "snapshot", "timestamp"]);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("targets"), 100);
    repo.rotate("snapshot");
    *repo.field("targets", &["version"]) = 0u64.into();
    repo.field("snapshot", &["meta"]).as_object_mut().unwrap().remove("team-a.json");
    repo.publish(&ALL);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("targets"), 1);
}

#[test]
fn snapshot_fast_forward_recovery() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    *repo.field("snapshot", &["version"]) = 99u64.into();
    repo.publish(&["snapshot", "timestamp"]);
    client.refresh(&mut repo).unwrap();
    repo.rotate("snapshot");
    repo.rotate("timestamp");
    *repo.field("snapshot", &["version"]) = 0u64.into();
    repo.publish(&ALL);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("snapshot"), 1);
}

#[test]
fn timestamp_fast_forward_recovery() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    *repo.field("timestamp", &["version"]) = 99u64.into();
    repo.publish(&["timestamp"]);
    client.refresh(&mut repo).unwrap();
    *repo.field("timestamp", &["version"]) = 0u64.into();
    repo.publish(&["timestamp"]);
    assert!(client.refresh(&mut repo).is_err(), "not without new keys");
    repo.rotate("timestamp");
    repo.publish(&["root", "timestamp"]);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("timestamp"), 2);
}
