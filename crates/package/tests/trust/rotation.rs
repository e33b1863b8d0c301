//! Keys come and go: who must sign a new root, and whose signatures count after it.

use package::trust::trusted::Trusted;

use crate::simulator::{ALL, Client, Key, ONLINE, Repo, object, texts};

/// A version of a role: its keys, how many must sign, who does, and whether that is enough.
type Version<'a> = (&'a [usize], u64, &'a [usize], bool);

/// Gives a role these keys and signers.
fn set(repo: &mut Repo, role: &str, keys: &[Key], (ids, threshold, signers, _): Version<'_>) {
    let none = object(&[("keyids", texts(&[])), ("threshold", threshold.into())]);
    *repo.field("root", &["roles", role]) = none;
    for key in ids {
        repo.name_key(role, &keys[*key]);
    }
    repo.signers.insert(role.into(), signers.iter().map(|key| keys[*key].clone()).collect());
}

#[test]
fn root_rotation() {
    const FIVE: &[usize] = &[0, 1, 2, 3, 4];
    const NEXT: &[usize] = &[0, 1, 3, 4, 5];
    const OTHER: &[usize] = &[5, 6, 7, 8, 9];
    let cases: [&[Version<'_>]; 15] = [
        &[(&[1], 1, &[1], true), (&[2], 1, &[2, 1], true), (&[2], 1, &[2], true)],
        &[(&[1], 1, &[3, 1, 4], true), (&[2], 1, &[3, 2, 1, 4], true), (&[2], 1, &[3, 2, 4], true)],
        &[(FIVE, 3, &[0, 2, 4], true), (FIVE, 3, &[0, 4, 1], true), (FIVE, 3, &[0, 1, 3], true)],
        &[(FIVE, 3, &[0, 2, 4], true), (NEXT, 3, &[0, 4, 1], true)],
        &[(FIVE, 3, &[0, 2, 4], true), (NEXT, 3, &[0, 2, 4, 5], true), (NEXT, 3, &[0, 4, 5], true)],
        &[(FIVE, 3, &[0, 2, 4], true), (OTHER, 3, &[0, 2, 4, 5, 6, 7], true), (OTHER, 3, &[5, 6, 7], true)],
        &[(&[1, 2, 3], 1, &[1], true), (&[1, 2, 3], 2, &[1, 2], true)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1, 2], true), (&[1, 2, 3], 1, &[1], true)],
        &[(&[1], 1, &[1], true), (&[1, 2], 2, &[1, 2], true)],
        &[(&[1], 1, &[1], true), (&[2], 1, &[2, 3, 4], false)],
        &[(&[1], 1, &[1], true), (&[2], 1, &[1, 3, 4], false)],
        &[(FIVE, 3, &[0, 2, 4], true), (NEXT, 3, &[0, 2, 4], false)],
        &[(FIVE, 3, &[0, 2, 4], true), (NEXT, 3, &[0, 4, 5], false)],
        &[(&[1, 2, 3], 1, &[1], true), (&[1, 2, 3], 2, &[2], false)],
        &[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1], false)],
    ];
    for (case, versions) in cases.into_iter().enumerate() {
        let mut repo = Repo::new();
        let keys: Vec<Key> = (0..10).map(|_| repo.key()).collect();
        *repo.field("root", &["version"]) = 0u64.into();
        for version in versions {
            set(&mut repo, "root", &keys, *version);
            repo.publish(&["root"]);
        }
        let mut client = Client::of(&repo);
        let is_good = versions.iter().all(|(.., is_good)| *is_good);
        assert_eq!(client.refresh(&mut repo).is_ok(), is_good, "case {case}");
        let expected = versions.iter().filter(|(.., is_good)| *is_good).count() as u64;
        assert_eq!(client.version("root"), expected, "case {case}");
    }
}

#[test]
fn non_root_rotations() {
    const FIVE: &[usize] = &[0, 1, 2, 3, 4];
    const NEXT: &[usize] = &[0, 1, 3, 4, 5];
    let cases: [Version<'_>; 8] = [
        (&[2], 1, &[2], true),
        (&[1], 1, &[3, 1, 4], true),
        (&[2], 1, &[1, 3, 4], false),
        (NEXT, 3, &[0, 2, 4], false),
        (NEXT, 3, &[0, 4], false),
        (FIVE, 3, &[0, 2, 4], true),
        (FIVE, 3, &[0, 4, 1], true),
        (FIVE, 3, &[2, 3, 4], true),
    ];
    for role in ["timestamp", "snapshot", "targets"] {
        for (case, version) in cases.into_iter().enumerate() {
            let mut repo = Repo::new();
            let keys: Vec<Key> = (0..10).map(|_| repo.key()).collect();
            let mut client = Client::of(&repo);
            client.refresh(&mut repo).unwrap();
            set(&mut repo, role, &keys, version);
            repo.publish(&ALL);
            assert_eq!(client.refresh(&mut repo).is_ok(), version.3, "{role} case {case}");
            assert_eq!(client.version(role) == 2, version.3, "{role} case {case}");
        }
    }
}

#[test]
fn targets_at_hand_are_judged_by_their_new_keys() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    // Their keys are replaced, their file is not: what was trusted under old keys is not any more.
    repo.rotate("targets");
    repo.publish(&["root"]);
    assert!(client.refresh(&mut repo).is_err());
    repo.publish(&ONLINE);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.versions(), [2, 2, 2, 2]);
}

#[test]
fn each_root_is_kept_before_the_next_is_asked_for() {
    let mut repo = Repo::new();
    let first = repo.files["1.root.json"].clone();
    repo.publish(&["root"]);
    repo.publish(&["root"]);
    repo.files.insert("4.root.json".into(), first);
    let mut client = Client::of(&repo);
    assert!(client.refresh(&mut repo).is_err());
    assert_eq!(client.versions(), [3, 0, 0, 0]);
    let again = Trusted::of_root(&repo.files["3.root.json"], &client.policy.kinds).unwrap();
    assert_eq!(again.root, client.trusted.root);
}

#[test]
fn roots_without_end_are_refused() {
    let mut repo = Repo::new();
    for _ in 0..5 {
        repo.publish(&["root"]);
    }
    let mut client = Client::of(&repo);
    client.policy.limits.rotations = 3;
    assert!(client.refresh(&mut repo).is_err());
    assert_eq!(client.version("root"), 4);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.version("root"), 6, "the next refresh goes on from there");
}
