//! One of two algorithms broken: whoever forges one half of a signature has gained nothing.

use package::trust::canonical::{Value, canonical};
use package::trust::key::{KeyId, KeyKind, KindSet, ML_DSA_FIELD};
use package::trust::trusted::Trusted;
use package::trust::update::UpdateError;

use crate::simulator::{Client, Key, Repo, at, envelope, texts};

/// A signature of `key` over the role, with one field of another signature.
fn mixed(repo: &Repo, role: &str, field: &str, other: &Value) -> Vec<u8> {
    let mut signature = repo.signers[role][0].sign(&canonical(&repo.roles[role])).unwrap();
    match other.get(field) {
        Some(half) => *at(&mut signature, &[field]) = half.clone(),
        None => drop(signature.as_object_mut().unwrap().remove(field)),
    }
    envelope(&repo.roles[role], vec![signature])
}

#[test]
fn each_half_must_be_the_keys_own_over_these_bytes() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        for field in ["sig", ML_DSA_FIELD] {
            let mut repo = Repo::new();
            let stranger: Key = repo.key();
            let own = repo.signers[role][0].clone();
            let version = repo.version(role) + 1;
            *repo.field(role, &["version"]) = version.into();
            let message = canonical(&repo.roles[role]);
            for (what, other) in [
                ("of another key", stranger.sign(&message).unwrap()),
                ("of another message", own.sign(b"another message").unwrap()),
                ("empty", Value::object([(field, "".into())])),
                ("missing", Value::object([])),
            ] {
                let bytes = mixed(&repo, role, field, &other);
                repo.serve(role, version, bytes);
                for later in ["snapshot", "timestamp"] {
                    if role != later && role != "root" && role != "timestamp" {
                        repo.publish(&[later]);
                    }
                }
                let mut client = Client::of(&repo);
                let error = client.refresh(&mut repo).unwrap_err();
                assert!(matches!(error, UpdateError::Verify { .. }), "{role} {field} {what}: {error}");
            }
        }
    }
}

#[test]
fn a_hybrid_key_cannot_be_made_a_plain_one() {
    // Whoever breaks Ed25519 cannot drop the second half from the key: its id would be another one.
    let mut repo = Repo::new();
    let key: Key = repo.signers["timestamp"][0].clone();
    let mut plain = key.key().clone();
    plain.as_object_mut().unwrap().remove(ML_DSA_FIELD);
    *repo.field("root", &["keys", &key.id().to_string()]) = plain.clone();
    repo.publish(&["root"]);
    let mut client = Client::of(&repo);
    client.policy.kinds = KindSet::all();
    assert!(client.refresh(&mut repo).is_err());
    // Under its own id it is a key of another kind, which policy decides on.
    let id = KeyId::of(&plain).to_string();
    *repo.field("root", &["keys", &id]) = plain;
    *repo.field("root", &["roles", "timestamp", "keyids"]) = texts(&[&id]);
    repo.publish(&["root"]);
    let mut signature = key.sign(&canonical(&repo.roles["timestamp"])).unwrap();
    *at(&mut signature, &["keyid"]) = id.into();
    let bytes = envelope(&repo.roles["timestamp"], vec![signature]);
    repo.serve("timestamp", 1, bytes);
    assert!(Client::of(&repo).refresh(&mut repo).is_err(), "a node takes hybrid keys only");
    client.refresh(&mut repo).unwrap();
}

#[test]
fn a_root_of_plain_keys_is_none_for_a_node() {
    let repo = Repo::of(KeyKind::Ed25519);
    let root = &repo.files["1.root.json"];
    assert!(Trusted::of_root(root, &KindSet::hybrid()).is_err());
    assert!(Trusted::of_root(root, &KindSet::all()).is_ok());
}
