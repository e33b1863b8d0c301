//! Whose signatures count, and how often.

use package::trust::canonical::{Value, canonical};
use package::trust::key::{KeyId, KeyKind, KindSet};
use package::trust::update::UpdateError;

use crate::simulator::{Client, Key, ONLINE, Repo, at, envelope, object, texts};

fn is_refused(client: &mut Client, repo: &mut Repo, why: &str) {
    let error = client.refresh(repo).unwrap_err();
    let UpdateError::Verify { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains(why), "{source}");
}

#[test]
fn snapshot_does_not_meet_threshold() {
    let mut repo = Repo::new();
    for _ in 0..2 {
        let key = repo.key();
        repo.add_key("snapshot", &key);
    }
    *repo.field("root", &["roles", "snapshot", "threshold"]) = 3u64.into();
    repo.publish(&["root", "targets", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    repo.signers.get_mut("snapshot").unwrap().pop();
    repo.publish(&ONLINE);
    is_refused(&mut client, &mut repo, "2 of 3 signatures");
    assert_eq!(client.version("snapshot"), 2);
}

#[test]
fn snapshot_has_too_few_keys() {
    let mut repo = Repo::new();
    *repo.field("root", &["roles", "snapshot", "threshold"]) = 6u64.into();
    repo.publish(&["root", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "1 of 6 signatures");
    assert_eq!(client.versions(), [2, 2, 0, 0]);
}

#[test]
fn a_threshold_below_one_is_refused() {
    for threshold in [Value::Integer(0), Value::Integer(-1), "1".into(), Value::Null] {
        let mut repo = Repo::new();
        *repo.field("root", &["roles", "snapshot", "threshold"]) = threshold.clone();
        repo.publish(&["root"]);
        let mut client = Client::of(&repo);
        is_refused(&mut client, &mut repo, "wrong form");
        assert_eq!(client.version("root"), 1, "{threshold:?}");
    }
}

#[test]
fn duplicate_keys_and_signatures() {
    let mut repo = Repo::new();
    let key: Key = repo.signers["snapshot"][0].clone();
    let id = key.id().to_string();
    *repo.field("root", &["roles", "snapshot", "keyids"]) = texts(&[id.as_str(); 9]);
    *repo.field("root", &["roles", "snapshot", "threshold"]) = 6u64.into();
    repo.publish(&["root"]);
    let signature = key.sign(&canonical(&repo.roles["snapshot"])).unwrap();
    let bytes = envelope(&repo.roles["snapshot"], vec![signature; 9]);
    repo.serve("snapshot", 1, bytes);
    repo.publish(&["timestamp"]);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "signs twice");
}

#[test]
fn duplicate_signatures_even_if_the_threshold_is_met() {
    let mut repo = Repo::new();
    let signature = repo.signers["snapshot"][0].sign(&canonical(&repo.roles["snapshot"])).unwrap();
    let bytes = envelope(&repo.roles["snapshot"], vec![signature.clone(), signature]);
    repo.serve("snapshot", 1, bytes);
    repo.publish(&["timestamp"]);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "signs twice");
}

#[test]
fn one_key_under_two_ids_counts_once() {
    let mut repo = Repo::new();
    let key: Key = repo.signers["snapshot"][0].clone();
    // The same key with one more field is another object, with another id that is rightly its own.
    let mut other = key.key().clone();
    *at(&mut other, &["note"]) = "the same".into();
    let other_id = KeyId::of(&other).to_string();
    *repo.field("root", &["keys", &other_id]) = other;
    *repo.field("root", &["roles", "snapshot", "keyids"]) = texts(&[&key.id().to_string(), &other_id]);
    *repo.field("root", &["roles", "snapshot", "threshold"]) = 2u64.into();
    repo.publish(&["root"]);
    let first = key.sign(&canonical(&repo.roles["snapshot"])).unwrap();
    let mut second = first.clone();
    *at(&mut second, &["keyid"]) = other_id.into();
    let bytes = envelope(&repo.roles["snapshot"], vec![first, second]);
    repo.serve("snapshot", 1, bytes);
    repo.publish(&["timestamp"]);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "1 of 2 signatures");
}

#[test]
fn a_key_under_an_id_that_is_not_its_own_is_ignored() {
    let mut repo = Repo::new();
    let key = repo.key();
    let wrong = "ab".repeat(32);
    *repo.field("root", &["keys", &wrong]) = key.key().clone();
    *repo.field("root", &["roles", "timestamp", "keyids"]) = texts(&[&wrong]);
    repo.publish(&["root"]);
    let mut signature = key.sign(&canonical(&repo.roles["timestamp"])).unwrap();
    *at(&mut signature, &["keyid"]) = wrong.into();
    let bytes = envelope(&repo.roles["timestamp"], vec![signature]);
    repo.serve("timestamp", 1, bytes);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "0 of 1 signatures");
    assert_eq!(client.version("root"), 2, "the root itself stays readable");
}

#[test]
fn unknown_kinds_of_keys_are_ignored() {
    let mut repo = Repo::new();
    let public = object(&[("public", "00".into())]);
    let unknown =
        object(&[("keytype", "tomorrow".into()), ("scheme", "tomorrow".into()), ("keyval", public)]);
    let id = KeyId::of(&unknown).to_string();
    *repo.field("root", &["keys", &id]) = unknown;
    repo.publish(&["root"]);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("root"), 2);
}

#[test]
fn keytype_and_scheme() {
    for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
        let mut repo = Repo::of(kind);
        let mut client = Client::of(&repo);
        client.refresh(&mut repo).unwrap();
        client.policy.kinds = KindSet::hybrid();
        repo.publish(&["timestamp"]);
        is_refused(&mut client, &mut repo, "0 of 1 signatures");
    }
}

#[test]
fn invalid_sig_in_valid_metadata() {
    for wrong in ["", "00", "not hexadecimal", &"ab".repeat(64)] {
        let mut repo = Repo::new();
        let second = repo.key();
        repo.name_key("timestamp", &second);
        repo.publish(&["root"]);
        let message = canonical(&repo.roles["timestamp"]);
        let first = repo.signers["timestamp"][0].sign(&message).unwrap();
        let mut broken = second.sign(&message).unwrap();
        *at(&mut broken, &["sig"]) = wrong.into();
        let bytes = envelope(&repo.roles["timestamp"], vec![broken, first]);
        repo.serve("timestamp", 1, bytes);
        let mut client = Client::of(&repo);
        client.refresh(&mut repo).unwrap();
    }
}

#[test]
fn keys_of_another_role_do_not_count() {
    let mut repo = Repo::new();
    let others = repo.signers["snapshot"].clone();
    repo.signers.insert("targets".into(), others);
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    is_refused(&mut client, &mut repo, "0 of 1 signatures");
}
