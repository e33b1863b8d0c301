//! A target's bytes are what the metadata says, or nothing.

use package::trust::canonical::Value;
use package::trust::metadata::{Mismatch, TargetFile};
use package::trust::update::{Outcome, Want};

use crate::simulator::{Client, ONLINE, Repo, object};

fn described(hashes: Value) -> TargetFile {
    let mut repo = Repo::new();
    repo.add_target("targets", "models/a/1", b"abc");
    *repo.field("targets", &["targets", "models/a/1", "hashes"]) = hashes;
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    match client.run(&mut repo, Want::Target("models/a/1".into())) {
        Outcome::Target(file) => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn download_with_hash_algorithms() {
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const SHA512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                          2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    for hashes in [
        vec![("sha256", SHA256.into())],
        vec![("sha512", SHA512.into())],
        vec![("sha256", SHA256.into()), ("sha512", SHA512.into()), ("blake9", "00".into())],
    ] {
        let file = described(object(&hashes));
        assert_eq!(file.check(b"abc"), Ok(()));
        assert!(matches!(file.check(b"abd"), Err(Mismatch::Hash { .. })));
        assert_eq!(file.check(b"abcd"), Err(Mismatch::Length { expected: 3, found: 4 }));
    }
    // One right and one wrong hash: every known one must match.
    let file = described(object(&[("sha256", SHA256.into()), ("sha512", "00".repeat(64).into())]));
    assert_eq!(file.check(b"abc"), Err(Mismatch::Hash { kind: "SHA-512" }));
    let file = described(object(&[("blake9", SHA256.into())]));
    assert_eq!(file.check(b"abc"), Err(Mismatch::NoKnownHash));
}

#[test]
fn what_custom_says_is_kept() {
    let mut repo = Repo::new();
    repo.add_target("targets", "models/a/1", b"abc");
    *repo.field("targets", &["targets", "models/a/1", "custom"]) = object(&[("selvedge", 1u64.into())]);
    repo.publish(&ONLINE);
    let mut client = Client::of(&repo);
    let Outcome::Target(file) = client.run(&mut repo, Want::Target("models/a/1".into())) else { panic!() };
    assert_eq!(file.custom, Some(object(&[("selvedge", 1u64.into())])));
    assert_eq!(client.run(&mut repo, Want::Target("models/a/2".into())), Outcome::NoTarget);
}
